"""A mail as a person sees it: Debian's Chromium, its screen and its scheme of colours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

try:
    from playwright.async_api import Browser, Page, async_playwright
except ImportError:
    pytest.skip("there is no playwright: install requirements-dev.lock", allow_module_level=True)

CHROMIUM = Path("/usr/bin/chromium")
Scheme = Literal["light", "dark"]

MEASURE = """() => {
  const parse = (told) => {
    const [r, g, b, a = 1] = told.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => {
    const [r, g, b, a] = top;
    return [0, 1, 2].map((i) => [r, g, b][i] * a + below[i] * (1 - a)).concat(1);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    const found = [];
    for (let e = element; e; e = e.parentElement) found.unshift(parse(getComputedStyle(e).backgroundColor));
    const schemes = getComputedStyle(document.documentElement).colorScheme;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches && schemes.includes("dark");
    return found.reduce((below, top) => over(top, below), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const told = { faint: [], wide: [], texts: 0 };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    told.texts += 1;
    for (const box of range.getClientRects())
      if (box.right > innerWidth + 0.5 || box.left < -0.5) told.wide.push(node.textContent.trim());
    const ground = behind(element), ink = over(parse(getComputedStyle(element).color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) told.faint.push(`${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 60)}`);
  }
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > innerWidth + 0.5) told.wide.push(element.tagName);
  }
  told.scrolls = document.documentElement.scrollWidth - innerWidth;
  return told;
}"""
"""What is too faint (WCAG 2.2, 1.4.3: a contrast of 4.5), and what reaches beyond the screen (1.4.10)."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; a test without one is skipped by name."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}: apt install chromium")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    grey = ["--disable-lcd-text"]  # coloured edges would triple a picture's size
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*root, *grey])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser, html: str, width: int, scheme: Scheme = "light", height: int = 700
) -> AsyncIterator[Page]:
    """The mail on such a screen. Whatever it asks the network for fails the test."""
    asked: list[str] = []
    page = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        page.on("request", lambda request: asked.append(request.url))
        await page.set_content(html, wait_until="load")
        yield page
        assert asked == []
    finally:
        await page.close()


async def measured(page: Page) -> dict[str, Any]:
    """What ``MEASURE`` finds on it."""
    found: dict[str, Any] = await page.evaluate(MEASURE)
    assert found.pop("texts") > 10
    return found
