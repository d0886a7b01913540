"""The mails in a real browser: on a phone and on a desk, by day and by night."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from tests.mail_pictures.letters import ASKING, DESK, LETTERS
from tests.mail_pictures.reading import Scheme, chromium, measured, opened
from tests.pictures import packed

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

WIDTHS = (320, 360, 700)
WELL = {"faint": [], "wide": [], "scrolls": 0}
PICTURES = "HOLDPOINT_PICTURES"
"""The environment variable that names the folder for the docs' pictures; without it none is kept."""

by_day_and_night = pytest.mark.parametrize("scheme", get_args(Scheme))
each_letter = pytest.mark.parametrize("name", sorted(LETTERS))
each_question = pytest.mark.parametrize("name", ASKING)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@each_letter
@by_day_and_night
async def test_it_fits_the_screen_and_can_be_read(browser: Browser, name: str, scheme: Scheme) -> None:
    async with opened(browser, LETTERS[name]().html, WIDTHS[0], scheme) as page:
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 700})
            assert await measured(page) == WELL, width


@each_letter
async def test_a_client_that_drops_the_style_sheet_shows_it_well(browser: Browser, name: str) -> None:
    html = re.sub(r"<style>.*?</style>", "", LETTERS[name]().html, flags=re.DOTALL)
    html = html.replace('<meta name="color-scheme" content="light dark">', "")
    async with opened(browser, html, 360) as page:
        assert await measured(page) == WELL


@pytest.mark.parametrize("name", ["ask", "remind", "escalate", "two-approvers"])
@by_day_and_night
async def test_the_first_screen_of_a_phone_holds_what_is_needed(browser: Browser, name: str, scheme: Scheme) -> None:
    async with opened(browser, LETTERS[name]().html, 360, scheme) as page:
        wanted = [
            *(page.get_by_text(words).last for words in ("went from web01", "decision is", "If nobody answers:")),
            page.get_by_text("ANSWER BY 2026-03-14").last,
            *(page.get_by_role("link", name=words) for words in ("Contain", "False positive:")),
        ]
        for place in wanted:
            box = await place.bounding_box()
            assert box is not None, place
            assert box["y"] + box["height"] <= 700, place


async def _buttons(page: Page) -> list[dict[str, float]]:
    boxes = [await one.bounding_box() for one in await page.locator(f"a[href^='{DESK}/answer/']").all()]
    assert None not in boxes
    return [{**box} for box in boxes if box]  # type: ignore[dict-item]


@each_question
async def test_a_thumb_hits_one_button_and_not_the_other(browser: Browser, name: str) -> None:
    async with opened(browser, LETTERS[name]().html, WIDTHS[0]) as page:
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 700})
            contain, nothing = await _buttons(page)
            for box in (contain, nothing):
                assert box["height"] >= 44
                assert box["width"] >= 200
            assert nothing["y"] - (contain["y"] + contain["height"]) >= 20


@each_question
async def test_a_button_is_a_link_to_its_answer(browser: Browser, name: str) -> None:
    async with opened(browser, LETTERS[name]().html, 360) as page:
        links = [await one.get_attribute("href") for one in await page.locator("a").all()]
        answers = [link for link in links if link and "/answer/" in link]
        assert [link.partition("?")[2] for link in answers] == ["answer=contain", "answer=false_positive"]
        assert await page.locator("form, input, button, script, img").count() == 0
        assert await page.get_by_text("Opening a link decides nothing.").count() == 1


async def test_what_a_locked_phone_shows_of_it_tips_nobody_off(browser: Browser) -> None:
    async with opened(browser, LETTERS["ask"]().html, 360) as page:
        text: str = await page.evaluate("document.body.textContent")
        seen = text.strip()[:160].replace("\u034f", "").split()
        assert " ".join(seen) == "A case waits for you. Open it where nobody reads along."


async def test_a_screen_reader_hears_it_in_order(browser: Browser) -> None:
    async with opened(browser, LETTERS["ask"]().html, 360) as page:
        heard = await page.locator("body").aria_snapshot()
        assert await page.locator("html").get_attribute("lang") == "en"
        layout = page.locator("table:has(a), table:has(h1)")
        assert {await one.get_attribute("role") for one in await layout.all()} == {"presentation"}
        order = [heard.index(words) for words in ("heading", "ANSWER BY", 'link "Contain', 'link "False', "rowheader")]
        assert order == sorted(order)


@pytest.mark.skipif(PICTURES not in os.environ, reason=f"pictures are kept where {PICTURES} names a folder")
@pytest.mark.parametrize("name", ["ask", "escalate", "two-approvers"])
@pytest.mark.parametrize(("screen", "width"), [("phone", 360), ("desktop", 700)])
@by_day_and_night
async def test_pictures_for_the_docs(browser: Browser, name: str, screen: str, width: int, scheme: Scheme) -> None:
    folder = Path(os.environ[PICTURES])
    folder.mkdir(parents=True, exist_ok=True)
    async with opened(browser, LETTERS[name]().html, width, scheme) as page:
        picture = packed(await page.screenshot(type="png"))
        assert len(picture) < 60_000
        (folder / f"mail-{name}-{screen}-{scheme}.png").write_bytes(picture)
