"""Temporal's own Web UI is a client of ours: its list and a case's page show what a case says of itself."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from cases import register_search_attributes
from lab.servers import TemporalServer
from starter import Started
from tests import processes
from tests.browser.chromium import DESK, WITHIN, a_page, picture
from tests.workflows.world import Scene, World, alert, working


@pytest.fixture
async def server(browser: Browser, tmp_path: Path) -> AsyncIterator[TemporalServer]:
    """Temporal with its Web UI, which the tests' own server does without."""
    (tmp_path / "logs").mkdir()
    made = TemporalServer(tmp_path, processes.variables(tmp_path), port=0, ui_port=0)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_a_case_can_be_found_and_understood_in_the_web_ui(server: TemporalServer, browser: Browser) -> None:
    client = await Client.connect(server.address, data_converter=pydantic_data_converter)
    await register_search_attributes(client)
    world, queue = World(), f"q-{uuid.uuid4()}"
    world.sightings = 0
    async with working(client, world, queue):
        scene = Scene(client, world, queue)
        started = await scene.start(alert(rule="Large data transfer from web server"))
        state = await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
        async with a_page(browser, **DESK) as page:
            await _the_list(page, server.web_ui, started)
            await page.goto(f"{server.web_ui}/namespaces/default/workflows/{started.case_id}/{started.run_id}/history")
            await _the_case(page, started, state)


async def _the_list(page: Page, ui: str, started: Started) -> None:
    waiting = "IncidentStage='awaiting_decision' AND IncidentPriority='high' AND AffectedHost='FIN-LT-042'"
    await page.goto(f"{ui}/namespaces/default/workflows?query={quote(waiting)}")
    row = page.get_by_role("row").filter(has_text=started.case_id)
    await expect(row).to_contain_text("SuspiciousUserActivity")
    await expect(row).to_contain_text(re.compile("running", re.IGNORECASE))
    await picture(page, "temporal-list")


async def _the_case(page: Page, started: Started, state: dict[str, Any]) -> None:
    main, question = page.locator("main"), state["question"]
    for named in ("Whose address is", "Answered before?"):  # what each step is about, and what is waited for
        await expect(main).to_contain_text(named)
    await page.get_by_role("tab", name="User Metadata").click()
    address = started.case_id.rpartition("-")[2]
    decide = f"temporal workflow update execute --workflow-id {started.case_id} --name decide"
    summary = f"Large data transfer from web server: {address}"
    await _rendered(page, summary, question["id"], "FIN-LT-042", "John Doe", "medium", decide)
    await picture(page, "temporal-case")
    await page.get_by_role("tab", name="Search Attributes").click()
    attributes = {
        "IncidentStage": "awaiting_decision",
        "IncidentPriority": "high",
        "RiskLevel": "medium",
        "AffectedUser": "jdoe",
        "AffectedHost": "FIN-LT-042",
        "AlertIds": state["alerts"][0],
        "DecisionDueAt": "",
    }
    for name, value in attributes.items():
        await expect(main).to_contain_text(name)
        await expect(main).to_contain_text(value)
    await picture(page, "temporal-search-attributes")


async def _rendered(page: Page, *texts: str) -> None:
    """Wait for texts that the UI renders from Markdown, each in a frame of its own."""
    missing: list[str] = list(texts)
    for _ in range(int(WITHIN / 200)):
        shown = " ".join([await frame.locator("body").inner_text() for frame in page.frames])
        missing = [text for text in texts if text not in " ".join(shown.split())]
        if not missing:
            return
        await asyncio.sleep(0.2)
    assert not missing, shown
