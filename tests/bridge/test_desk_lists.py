"""The desk for people who are signed in: what waits, what has ended, a case by its name, and who sees none of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from bridge.desk import reading
from incident.evidence import Identity
from starter import Started
from tests.bridge.house import Desk, form_of, has_form, page_of, serving
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, alert, policy


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests leave cases behind that no worker answers for."""
    monkeypatch.setattr(reading, "ANSWERS_WITHIN", 1.0)
    monkeypatch.setattr(reading, "_LIST_WITHIN", 1.5)


ANSWER = {"decision": "contain", "reason": "seen it at the proxy"}


async def ask(scene: Scene, **changes: Any) -> Started:
    started = await scene.start(alert(**changes))
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    return started


async def test_what_waits_most_urgent_first(scene: Scene, desk: Desk) -> None:
    given = [await ask(scene, severity=severity) for severity in ("low", "critical", "medium")]
    references = [(await scene.handle(one).query("status"))["reference"] for one in given]
    async with desk.signed_in(ANALYST) as browser:
        page = await browser.read("/")
        places = [page.text.index(reference) for reference in references]
        assert places[1] < places[2] < places[0]
        for words in ("min left", "awaiting decision", "FIN-LT-042", "jdoe", "Turn of analyst"):
            assert words in page.text
        for one in given:
            assert any(one.case_id in found for found in page.links)
            await scene.handle(one).terminate()


async def test_a_signed_in_person_answers_without_typing_the_name(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = f"/cases/{started.case_id}"
    async with desk.signed_in(ON_CALL) as browser:
        form = form_of(await browser.read(path))
        assert not any(one.name == "target" for one in form.fields)
        hidden = {one.name: one.value for one in form.fields if one.kind == "hidden"}
        for wrong in ({"csrf": "x"}, {"csrf": ""}):
            assert (await browser.post(path, data={**hidden, **ANSWER, **wrong})).status_code == 403
        for wrong in ({"digest": "0" * 64}, {"question": "HP-00000000-Q1"}, {"question": ""}):
            assert (await browser.post(path, data={**hidden, **ANSWER, **wrong})).status_code == 409
        assert (await browser.fill(form, **ANSWER | {"reason": ""})).status_code == 422
        assert (await scene.handle(started).query("status"))["decision"] is None
        assert (await browser.fill(form, **ANSWER)).status_code == 303
        shown = await browser.read(path)
        assert "Your answer was taken" in shown.text
    result = await scene.end(started)
    assert result["decision"]["analyst"] == ON_CALL
    assert result["dissent"] == []


async def test_closed_cases_with_their_outcome(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.signed_in(ANALYST) as browser:
        await browser.answer(f"/cases/{started.case_id}", **ANSWER)
        result = await scene.end(started)
        page = await browser.until("/closed", result["reference"])
        assert "contained" in page.text
        again = await scene.start(alert(destination_ip=started.case_id.rpartition("-")[2]))
        await scene.until(again, lambda s: s["question"])
        address = next(found for found in page.links if started.run_id in found)
        old = await browser.read(address)
        assert result["reference"] in old.text
        assert "The case is closed" in old.text
        assert not has_form(old)
        assert has_form(await browser.read(f"/cases/{started.case_id}"))
        await scene.handle(again).terminate()


@pytest.mark.parametrize("relation", ["suspect", "manager"])
async def test_the_suspect_and_their_line_see_nothing(scene: Scene, desk: Desk, relation: str) -> None:
    if relation == "suspect":
        scene.world.person = scene.world.person.model_copy(update={"mails": (LEAD,)})
    else:
        boss = Identity(account="boss", mails=(LEAD,))
        scene.world.person = scene.world.person.model_copy(update={"managers": (boss,)})
    started = await ask(scene)
    async with desk.signed_in(LEAD) as browser, desk.signed_in(ANALYST) as other:
        none = await browser.get("/cases/sua-acme-192.0.2.77")
        for path in (f"/cases/{started.case_id}", f"/cases/{started.case_id}?run={started.run_id}"):
            hidden = await browser.get(path)
            # Just what is said of a case that is not there.
            assert hidden.status_code == none.status_code == 404
            assert page_of(hidden).text[:200] == page_of(none).text[:200]
        assert (await browser.get(f"/state/cases/{started.case_id}")).status_code == 404
        csrf = next(one.value for one in page_of(none).forms[0].fields if one.name == "csrf")
        assert (await browser.post(f"/cases/{started.case_id}", data={**ANSWER, "csrf": csrf})).status_code == 404
        assert started.case_id not in (await browser.get("/")).text
        assert started.case_id in (await other.get("/")).text
        await other.answer(f"/cases/{started.case_id}", **ANSWER)
        reference = (await scene.end(started))["reference"]
        await other.until("/closed", reference)
        assert reference not in (await browser.get("/closed")).text


async def test_who_is_no_analyst_sees_no_page_at_all(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.signed_in("stranger@acme.example") as browser:
        answers = [await browser.get(p) for p in ("/", "/closed", f"/cases/{started.case_id}", "/cases/none")]
        assert {answer.status_code for answer in answers} == {403}
        # Whether a case exists is told by nothing: the pages are alike.
        assert len({page_of(answer).text[:300] for answer in answers}) == 1
        assert (await browser.post(f"/cases/{started.case_id}", data=ANSWER)).status_code == 403
        assert (await browser.get("/state/waiting")).status_code == 403
    await scene.handle(started).terminate()


async def test_without_a_session_one_is_sent_to_sign_in(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        for path in ("/", "/closed", f"/cases/{started.case_id}", "/cases/none"):
            answer = await browser.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in?next=%2F")
        assert (await browser.post(f"/cases/{started.case_id}", data=ANSWER)).status_code == 401
        assert (await browser.get(f"/state/cases/{started.case_id}")).status_code == 401
    await scene.handle(started).terminate()


async def test_without_a_sign_in_there_are_the_links_alone(dev_server: WorkflowEnvironment) -> None:
    async with serving(dev_server.client) as desk, desk.browser() as browser:
        page = await browser.read("/")
        assert "link in your mail" in page.text
        assert (await browser.get("/cases/sua-acme-10.0.0.1")).status_code == 404
        assert (await browser.get("/closed")).status_code == 404
        assert (await browser.get("/sign-in")).status_code == 404


async def test_the_link_of_somebody_else_is_not_taken_from_a_session(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.signed_in(LEAD) as lead, desk.signed_in(ANALYST) as own:
        answer = await lead.get(path)
        assert answer.status_code == 403
        assert "FIN-LT" not in answer.text
        form = form_of(await own.read(path))
        assert not any(one.name == "target" for one in form.fields)
        assert (await own.fill(form, **ANSWER)).status_code == 303
    await scene.end(started)


@pytest.mark.parametrize("name", ["containment-ledger", "no such case", "%00", "a" * 2000, "..%2f..%2fetc", "%F0%9F"])
async def test_what_is_no_case(desk: Desk, name: str) -> None:
    async with desk.signed_in(ANALYST) as browser:
        answer = await browser.get(f"/cases/{name}")
        assert answer.status_code == 404
        assert "<h1>" in answer.text


async def test_a_case_that_has_only_just_begun_is_there(scene: Scene, desk: Desk) -> None:
    scene.world.gates["locate"] = asyncio.Event()
    started = await scene.start(alert(), policy())
    await scene.until(started, lambda s: s["stage"] == "enriching")
    async with desk.signed_in(ANALYST) as browser:
        page = await browser.read(f"/cases/{started.case_id}")
        assert "Unknown" in page.text
        assert "not looked up yet" in page.text
        assert not has_form(page)
        assert started.case_id in (await browser.get("/")).text
    scene.world.gates["locate"].set()
    await scene.until(started, lambda s: s["question"])
    await scene.handle(started).terminate()


async def test_pages_have_what_a_screen_reader_needs(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.signed_in(ANALYST) as browser:
        for path in ("/", "/closed", f"/cases/{started.case_id}", "/cases/none", "/nothing"):
            text = (await browser.get(path)).text
            assert '<html lang="en">' in text
            assert text.count("<h1>") == 1
            assert "<main" in text
            assert 'href="#main"' in text
            assert "tabindex" not in text
            assert 'aria-live="polite"' in text
            assert text.count("<table") == text.count("<caption>")
        case = (await browser.get(f"/cases/{started.case_id}")).text
        assert "<svg viewBox" in case
        assert 'role="img" aria-labelledby="picture-title"' in case
    await scene.handle(started).terminate()
