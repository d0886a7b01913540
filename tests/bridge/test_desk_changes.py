"""What a link says when the world has moved on, when no worker runs, and when Temporal is not there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from bridge.desk import reading
from starter import Started
from tests.bridge.house import Desk, form_of, has_form, page_of
from tests.workflows.world import ANALYST, LEAD, Scene, World, alert, policy, working

ANSWER = {"decision": "contain", "reason": "seen it at the proxy", "target": "FIN-LT-042"}


async def ask(scene: Scene, **steering: Any) -> Started:
    """A case that has asked, and whose mail is out."""
    started = await scene.start(alert(), policy(**steering))
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    return started


async def move_on(scene: Scene, started: Started) -> dict[str, Any]:
    """The host turns out to be another one, and an alert that joins has the case look again."""
    first = (await scene.handle(started).query("status"))["question"]["id"]
    scene.world.host = "FIN-LT-099"
    await scene.start(alert(destination_ip=started.case_id.rpartition("-")[2]))
    return await scene.until(started, lambda s: s["question"] and s["question"]["id"] != first)


async def test_a_changed_world_voids_the_link(scene: Scene, desk: Desk) -> None:
    started = await ask(scene, renew_questions=True)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        old = form_of(await browser.read(path))
        state = await move_on(scene, started)
        late = await browser.fill(old, **ANSWER)
        assert late.status_code == 409
        assert "Nothing was done" in late.text
        assert ANSWER["reason"] in late.text
        page = await browser.read(path)
        assert not has_form(page)
        assert "The world has changed" in page.text
        for change in state["superseded"][0]["changes"]:
            assert change in page.text
        assert state["question"]["id"] in page.text
        assert "FIN-LT-099" in page.text
        fresh = await desk.link(started, ANALYST)
        assert (await browser.answer(fresh, **ANSWER)).status_code == 422
        assert (await browser.answer(fresh, **ANSWER | {"target": "FIN-LT-099"})).status_code == 303
    assert (await scene.end(started))["decision"]["analyst"] == ANALYST


async def test_another_digest_is_another_question(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST, digest="0" * 64)
    async with desk.browser() as browser:
        assert not has_form(await browser.read(path))
        form = form_of(await browser.read(await desk.link(started, ANALYST)))
        assert (await browser.post(path, data={"csrf": "x"} | ANSWER)).status_code == 403
        form.action = path
        assert (await browser.fill(form, **ANSWER)).status_code in (403, 409)
        state = await scene.handle(started).query("status")
        assert state["decision"] is None


async def test_a_question_that_the_table_took_back_is_told(scene: Scene, desk: Desk) -> None:
    scene.world.gates["quarantine"] = asyncio.Event()
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        old = form_of(await browser.read(path))
        scene.world.sightings = 1
        await scene.start(alert(destination_ip=started.case_id.rpartition("-")[2]))
        await scene.until(started, lambda s: s["decision"])
        page = await browser.until(path, "by the table")
        assert "changes nothing" in page.text
        kept = await browser.fill(old, **ANSWER | {"decision": "false_positive"})
        assert kept.status_code == 303
        await scene.until(started, lambda s: s["dissent"])
    scene.world.gates["quarantine"].set()
    assert (await scene.end(started))["decision"]["by"] == "table"


@asynccontextmanager
async def _worker(client: Client, world: World, queue: str) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(working(client, world, queue))
        yield stack


async def test_an_answer_waits_for_a_worker(
    dev_server: WorkflowEnvironment, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWERS_WITHIN", 1.0)
    world, queue = World(), f"q-{uuid.uuid4()}"
    world.sightings = 0
    scene = Scene(dev_server.client, world, queue)
    async with _worker(dev_server.client, world, queue) as stack:
        started = await ask(scene)
        path = await desk.link(started, ANALYST)
        await stack.aclose()
    async with desk.browser() as browser, desk.signed_in(LEAD) as lead:
        page = await browser.read(path)
        assert "No worker answers just now" in page.text
        assert "FIN-LT-042" in page.text
        assert "min left" in page.text
        refused = await browser.answer(path, **ANSWER | {"target": "someone"})
        assert refused.status_code == 422
        answer = await browser.answer(path, **ANSWER)
        assert answer.status_code == 303, page_of(answer).text
        shown = await browser.read(path)
        assert "accepted and kept" in shown.text
        assert not has_form(shown)
        # Who may see it only a worker can say, and a session is nobody's word for that.
        waits = await lead.read("/")
        assert started.case_id not in waits.text
        assert "not shown until a worker can say" in waits.text
        by_name = await lead.get(f"/cases/{started.case_id}")
        assert by_name.status_code == 503
        assert by_name.headers["retry-after"]
        assert "FIN-LT-042" not in by_name.text
    async with working(dev_server.client, world, queue):
        result = await scene.end(started)
    assert (result["decision"]["analyst"], result["outcome"]) == (ANALYST, "contained")


async def test_a_case_that_was_seen_is_shown_without_a_worker(
    dev_server: WorkflowEnvironment, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWERS_WITHIN", 1.0)
    world, queue = World(), f"q-{uuid.uuid4()}"
    world.sightings = 0
    scene = Scene(dev_server.client, world, queue)
    async with desk.signed_in(LEAD) as lead:
        async with working(dev_server.client, world, queue):
            started = await ask(scene)
            await lead.read(f"/cases/{started.case_id}")
        page = await lead.until(f"/cases/{started.case_id}", "No worker answers just now")
        assert "FIN-LT-042" in page.text
        assert not has_form(page)
        assert "link in your mail" in page.text
    await scene.handle(started).terminate()


async def test_temporal_that_is_not_there_is_told(scene: Scene, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)

    async def fail(*_: Any, **__: Any) -> Any:
        raise RPCError("secret address 10.0.0.1", RPCStatusCode.UNAVAILABLE, b"")

    async with desk.browser() as browser, desk.signed_in(LEAD) as lead:
        form = form_of(await browser.read(path))
        monkeypatch.setattr("temporalio.client.WorkflowHandle.describe", fail)
        monkeypatch.setattr(reading, "list_cases", fail)
        answers = [
            await browser.fill(form, **ANSWER),
            await lead.get(f"/cases/{started.case_id}"),
            await lead.get("/"),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert "secret address" not in answer.text


async def test_many_pages_are_one_look(scene: Scene, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    looks = 0
    look = reading.Reader._look

    async def counted(self: reading.Reader, case_id: str, run_id: str | None) -> reading.Sighting:
        nonlocal looks
        looks += 1
        return await look(self, case_id, run_id)

    monkeypatch.setattr(reading.Reader, "_look", counted)
    async with desk.browser() as browser:
        await asyncio.gather(*(browser.get(f"/state{path}") for _ in range(50)))
    assert looks <= 2


async def test_the_state_changes_with_the_case(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        before = (await browser.get(f"/state{path}")).json()
        page = (await browser.get(path)).text
        assert f'data-version="{before["version"]}"' in page
        await scene.until(started, lambda s: s["question"]["seen"])
        await asyncio.sleep(2)
        assert (await browser.get(f"/state{path}")).json() == before
        await browser.answer(path, **ANSWER)
        await scene.end(started)
        async with asyncio.timeout(10):
            while (after := (await browser.get(f"/state{path}")).json())["version"] == before["version"]:
                await asyncio.sleep(0.1)
            while not after["ended"]:
                await asyncio.sleep(0.1)
                after = (await browser.get(f"/state{path}")).json()
