"""Debian's Chromium under Playwright, as a phone, a desk or a robot."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.pictures import packed

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PICTURES = "HOLDPOINT_PICTURES"
"""The variable that names the folder for pictures; without it none are taken."""

WITHIN = 15_000.0
"""Milliseconds until what a page should show is missed."""


def chromium() -> str | None:
    """Where Chromium is, if it is anywhere."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Chromium, without a screen."""
    expect.set_options(timeout=WITHIN)
    async with async_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot be set up.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def a_page(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A page in a profile of its own, without cookies; what goes wrong in its scripts is a failure of the test."""
    context = await browser.new_context(**options)
    context.set_default_timeout(WITHIN)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page
    finally:
        await context.close()
    assert not wrong, wrong


async def picture(page: Page, name: str, *, whole: bool = False) -> None:
    """A picture for the documents, where pictures are wanted."""
    folder = os.environ.get(PICTURES)
    if folder:
        taken = await page.screenshot(full_page=whole, animations="disabled")
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(packed(taken))
