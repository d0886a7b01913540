"""The desk in a real browser, as the people who are woken up use it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.bridge.night import Night
from tests.browser import probes
from tests.browser.chromium import DESK, PHONE, a_page, picture
from tests.workflows.world import ANALYST, LEAD, ON_CALL

HOST, ACCOUNT = "FIN-LT-042", "jdoe"
CONTAIN, FALSE_POSITIVE = "Contain", "False positive"
REASON = "The nightly backup, seen on the host."


async def fill_in(page: Page, answer: str, reason: str = REASON, typed: str | None = None) -> None:
    """The form as a person fills it in, by what its labels say."""
    form = page.locator("form[data-answer]")
    await form.get_by_label(answer, exact=True).check()
    await form.get_by_label("Why", exact=True).fill(reason)
    target = form.locator("[name=target]")
    if await target.count():
        await target.fill(typed if typed is not None else f"{answer} {HOST}")


async def send(page: Page) -> None:
    await page.locator("form[data-answer] button[type=submit]").click()


async def sign_in(page: Page, night: Night, who: str, path: str = "/") -> None:
    await page.goto(night.url + path)
    await page.get_by_role("button", name=re.compile(re.escape(who))).click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_a_case_is_answered_on_a_phone(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **PHONE) as page:
        await page.goto(f"{night.link_of()}?answer=contain")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("your answer is needed")
        await expect(page.locator("main")).to_contain_text(HOST)
        assert not await page.evaluate(probes.TOO_WIDE)
        assert await page.locator("form[data-answer] input:checked").count() == 0, "nothing is filled in for anybody"
        await picture(page, "desk-phone-question")
        await fill_in(page, CONTAIN)
        await page.locator("form[data-answer] button[type=submit]").scroll_into_view_if_needed()
        await picture(page, "desk-phone-answer")
        await send(page)
        await expect(page.locator("main")).to_contain_text("Your answer was taken")
        await picture(page, "desk-phone-taken")
    state = await night.scene.end(started)
    assert (state["decision"]["decision"], state["decision"]["analyst"]) == ("contain", ANALYST)
    assert state["decision"]["reason"] == REASON
    assert sorted(night.world.writes) == ["disable", "quarantine"]


async def test_refusing_leaves_everything_alone(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **PHONE) as page:
        await page.goto(night.link_of())
        await fill_in(page, FALSE_POSITIVE)
        await send(page)
        await expect(page.locator("main")).to_contain_text("Your answer was taken")
    state = await night.scene.end(started)
    assert state["outcome"] == "false_positive"
    assert not night.world.writes


async def test_what_is_missing_is_said_where_it_is_missing(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **PHONE) as page:
        await page.goto(night.link_of())
        await send(page)
        await expect(page.get_by_role("alert")).to_be_visible()
        for name in ("decision", "reason", "target"):
            await expect(page.locator(f"#{name}-fault")).to_be_visible()
        await fill_in(page, CONTAIN, typed="contain somebody-else")
        await send(page)
        await expect(page.locator("#target-fault")).to_be_visible()
        await expect(page.get_by_label("Why", exact=True)).to_have_value(REASON)
        await expect(page.get_by_label(CONTAIN, exact=True)).to_be_checked()
        await night.undecided(started)
        await fill_in(page, CONTAIN)
        await send(page)
        await expect(page.locator("main")).to_contain_text("Your answer was taken")


async def test_the_second_person_sees_who_decided_and_may_dissent(night: Night, browser: Browser) -> None:
    tiers = night.both_at_once()
    gate = night.hold("quarantine")
    started = await night.ask(tiers=tiers)
    links = [night.link_of(who) for who in (ANALYST, ON_CALL)]
    async with a_page(browser, **PHONE) as first, a_page(browser, **DESK) as second:
        await second.goto(links[1])
        await expect(second.get_by_role("heading", level=1)).to_contain_text("your answer is needed")
        await first.goto(links[0])
        await fill_in(first, CONTAIN)
        await send(first)
        await expect(first.locator("main")).to_contain_text("Your answer was taken")
        await second.goto(links[1])
        await expect(second.locator("main")).to_contain_text(ANALYST)
        await expect(second.locator("main")).to_contain_text(REASON)
        await expect(second.get_by_role("heading", level=1)).to_contain_text("it is decided")
        await picture(second, "desk-decided")
        await fill_in(second, FALSE_POSITIVE, "It was the backup.")
        await send(second)
        await expect(second.locator("main")).to_contain_text("kept with the case")
    state = await night.scene.until(started, lambda state: state["dissent"])
    assert state["dissent"][0]["analyst"] == ON_CALL
    assert state["decision"]["decision"] == "contain"
    gate.set()
    await night.scene.end(started)


async def test_by_keyboard_alone(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **DESK) as page:
        await page.goto(night.link_of())
        await page.keyboard.press("Tab")
        await expect(page.locator("a.skip")).to_be_focused()
        await tab_to(page, "input[name=decision]")
        shown = await page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert shown != "none", "where one is must be seen"
        await page.keyboard.press("Space")
        await tab_to(page, "[name=reason]")
        await page.keyboard.type(REASON)
        await tab_to(page, "[name=target]")
        chosen = await page.locator("form[data-answer] input[name=decision]:checked").get_attribute("value")
        await page.keyboard.type(f"{(chosen or '').replace('_', ' ')} {ACCOUNT}")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_contain_text("Your answer was taken")
    state = await night.scene.until(started, lambda state: state["decision"])
    assert state["decision"]["decision"] == chosen


async def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until something of the kind has the focus."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return
    pytest.fail(f"Tab never came to {wanted}")


async def test_without_scripts(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **PHONE, java_script_enabled=False) as page:
        await page.goto(night.link_of())
        await fill_in(page, FALSE_POSITIVE)
        await send(page)
        await expect(page.locator("main")).to_contain_text("Your answer was taken")
    assert (await night.scene.end(started))["outcome"] == "false_positive"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_in_the_dark_and_by_day(night: Night, browser: Browser, scheme: Any) -> None:
    """Contrast of 4.5 to 1 everywhere (WCAG 2.2, 1.4.3)."""
    await night.ask()
    async with a_page(browser, **PHONE, color_scheme=scheme) as page:
        await page.goto(night.link_of())
        async with page.expect_navigation(wait_until="load"):  # with its stylesheet: the probe asks for colours
            await send(page)
        assert not await page.evaluate(probes.DIM)
        white = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (white in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")) <= (scheme == "light")
        await page.evaluate("() => scrollTo(0, document.querySelector('.faults').offsetTop)")
        await picture(page, f"desk-phone-{scheme}")


async def test_a_screen_reader_finds_its_way(night: Night, browser: Browser) -> None:
    await night.ask()
    async with a_page(browser, **PHONE) as page:
        await page.goto(night.link_of())
        assert not await page.evaluate(probes.NAMELESS)
        levels = await page.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels)), levels
        assert await page.get_by_role("main").count() == 1
        assert await page.evaluate("() => document.documentElement.lang") == "en"
        assert not await page.evaluate(probes.SMALL)


async def test_the_list_and_a_case_for_whoever_signs_in(night: Night, browser: Browser) -> None:
    started = await night.ask()
    async with a_page(browser, **DESK) as page:
        await sign_in(page, night, LEAD)
        await expect(page.get_by_role("heading", level=1)).to_have_text("What waits")
        row = page.get_by_role("listitem").filter(has_text=HOST).filter(has_text="left").first
        await expect(row).to_be_visible()
        await picture(page, "desk-list")
        await page.goto(f"{night.url}/cases/{started.case_id}")
        await expect(page.locator("main")).to_contain_text("John Doe")
        assert await page.locator("[name=target]").count() == 0, "who is signed in types no name"
        await picture(page, "desk-case", whole=True)
        await fill_in(page, FALSE_POSITIVE)
        await send(page)
        await expect(page.locator("main")).to_contain_text("Your answer was taken")
        await night.scene.end(started)
        await page.goto(f"{night.url}/closed")
        await expect(page.locator("main")).to_contain_text("false positive")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Signed out")
        await page.goto(night.url)
        await expect(page).to_have_title("Who are you?")


async def test_the_page_says_by_itself_that_the_world_has_changed(night: Night, browser: Browser) -> None:
    await night.ask()
    async with a_page(browser, **DESK) as page:
        await page.goto(night.link_of())
        async with night.person() as other:
            assert await night.answers(other, "false_positive")
        await expect(page.locator("#news")).not_to_be_empty(timeout=30_000)
