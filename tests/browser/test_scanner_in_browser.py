"""A scanner with a real browser: it runs the scripts, clicks on everything and sends every form. Nothing is decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from urllib.parse import urldefrag, urlsplit

import pytest
from playwright.async_api import Browser, Locator, Page

from tests.bridge.night import Night, links_in
from tests.bridge.page_reader import in_turn
from tests.browser.chromium import DESK, PHONE, a_page
from tests.workflows.world import ANALYST

MOST_PAGES, MOST_FORMS = 8, 6
_FORMS = "form:not(.out)"
_SUBMIT = """form => form.submit()"""
_CLICKABLE = "summary, button:not([type=submit]), [onclick], [role=button], label"


@dataclass
class BrowserRobot:
    """It sees what a person sees, and fills in what is visible.

    Attributes:
        night: whose mails it reads.
        fresh: whether it forgets its cookies with each page.
        by_script: whether it sends forms by a script of its own instead of pressing their button.
        sent: how many forms it sent.
        opened: the addresses that it opened.
    """

    night: Night
    fresh: bool = False
    by_script: bool = False
    sent: int = 0
    opened: list[str] = field(default_factory=list)

    async def run(self, browser: Browser, options: dict[str, object]) -> None:
        mail = self.night.mails_to(ANALYST)[-1]
        left = [link for link in links_in(mail) if link.startswith(self.night.url)]
        while left and len(self.opened) < MOST_PAGES:
            address = urldefrag(left.pop(0))[0]
            if address in self.opened or urlsplit(address).netloc != urlsplit(self.night.url).netloc:
                continue
            self.opened.append(address)
            async with a_page(browser, **options) as page:
                left += await self._look(page, address, in_turn(mail.text))

    async def _look(self, page: Page, address: str, more: list[str]) -> list[str]:
        await page.goto(address)
        if not page.url.startswith(self.night.url):  # where people sign in, and a scanner has no password
            return []
        for one in await page.locator(_CLICKABLE).all():
            await one.click(force=True, no_wait_after=True)
        links: list[str] = await page.evaluate("() => [...document.querySelectorAll('a[href]')].map(a => a.href)")
        words = list(dict.fromkeys((*in_turn(await page.locator("main").inner_text()), *more)))
        for number in range(await page.locator(_FORMS).count()):
            for decision, word in islice(_choices(words), MOST_FORMS):
                if self.fresh:
                    await page.context.clear_cookies()
                await page.goto(address)
                form = page.locator(_FORMS).nth(number)
                if await form.count():
                    await self._fill(form, decision, word)
                    await self._send(page, form)
        return links

    async def _fill(self, form: Locator, decision: int, word: str) -> None:
        radios = form.locator("input[type=radio]")
        if await radios.count() > decision:
            await radios.nth(decision).check()
        for area in await form.locator("textarea").all():
            await area.fill("Automated security scan")
        for text in await form.locator("input[type=text], input[type=email], input[type=search]").all():
            if await text.is_visible():
                await text.fill(word)

    async def _send(self, page: Page, form: Locator) -> None:
        self.sent += 1
        if self.fresh:
            await page.context.clear_cookies()
        async with page.expect_navigation():
            if self.by_script:
                await form.evaluate(_SUBMIT)
            else:
                await form.locator("button[type=submit]").first.click(no_wait_after=True)


def _choices(words: list[str]) -> Iterator[tuple[int, str]]:
    for word, decision in product(words, (0, 1)):
        yield decision, word


@pytest.mark.parametrize("manner", ["presses buttons", "sends by script", "forgets its cookies"])
async def test_no_browser_that_is_driven_answers(night: Night, browser: Browser, manner: str) -> None:
    started = await night.ask()
    robot = BrowserRobot(night, by_script=manner == "sends by script", fresh=manner == "forgets its cookies")
    await robot.run(browser, PHONE if robot.by_script else DESK)
    assert robot.sent >= MOST_FORMS
    await night.undecided(started)
    state = await night.scene.until(started, lambda state: state["question"]["seen"])
    assert [one["analyst"] for one in state["question"]["seen"]] == [ANALYST]
    async with night.person() as person:
        assert await night.answers(person, "contain")
    assert (await night.scene.end(started))["decision"]["analyst"] == ANALYST
