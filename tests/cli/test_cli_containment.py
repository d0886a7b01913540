"""Freezing, thawing, the ledger and the report from a shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Worker

import doctor
import starter
from activities.ledger import LedgerActivities
from connection import TASK_QUEUE
from incident.budget import LEDGER_ID
from incident.policy import GuardrailPolicy, Mode
from incident.requests import Reservation, Reserve
from incident.triage import CONTAIN
from integrations.interfaces import Check
from ledger import freeze_containment, frozen_words
from settings import load_settings
from tests.cli.desk import Desk, settings_file
from tests.cli.test_cli_hostile_names import EVIL, LITERAL, STEERING
from tests.workflows.world import ANALYST, World, alert, policy
from workflows.containment_ledger import ContainmentLedger

ANA = ("--by", "ana@acme.example", "--reason", "the SIEM floods us")


@pytest.fixture
async def office(dev_server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk without a worker; the ledger that a test leaves is ended with it."""
    yield Desk(dev_server.client, World(), tmp_path)
    with contextlib.suppress(RPCError):  # a test may not have begun one
        await dev_server.client.get_workflow_handle(LEDGER_ID).terminate("the test has ended")


def working(desk: Desk) -> Worker:
    return Worker(desk.client, task_queue=TASK_QUEUE, workflows=[ContainmentLedger])


async def reserve(desk: Desk, key: str, **changes: Any) -> Reservation:
    given: dict[str, Any] = {"actions": CONTAIN, "automatic": True, "max_per_hour": 100, "case_id": f"sua-{key}"}
    steps = LedgerActivities(desk.client, TASK_QUEUE)
    told: Reservation = await ActivityEnvironment().run(steps.reserve, Reserve(**{**given, "key": key, **changes}))
    return told


async def test_freeze_ledger_thaw(office: Desk) -> None:
    async with working(office):
        empty = await office.json("ledger")
        assert (empty["frozen"], empty["used"], empty["limits"]) == (False, 0, None)
        await reserve(office, "one", department="Finance")

        frozen = await office.starter("freeze", *ANA)
        assert (frozen.code, frozen.err) == (0, "")
        assert frozen.out.startswith("FROZEN by ana@acme.example since ")
        assert frozen.out.endswith(": the SIEM floods us\n")
        told = await reserve(office, "two", automatic=False)
        assert (told.granted, told.frozen) == (False, True)

        again, shown, text = await asyncio.gather(
            office.starter("freeze", "--by", "bob@acme.example", "--reason", "me too"),
            office.json("ledger"),
            office.starter("ledger"),
        )
        assert again.out.startswith("was frozen already: FROZEN by ana@acme.example")
        assert (shown["frozen"], shown["freeze"]["by"], shown["used"]) == (True, "ana@acme.example", 2)
        assert (text.code, text.err) == (0, "")
        for line in ("FROZEN by ana@acme.example", "used: 2 of 100 containments", "  Finance: 2", "sua-one"):
            assert line in text.out

        thawed = await office.json("thaw", "--reason", "over")
        assert (thawed["frozen"], thawed["changed"]) == (False, True)
        assert (await office.starter("thaw", "--reason", "over")).out == "nothing was frozen\n"
        assert (await reserve(office, "three")).granted
        history = (await office.json("ledger"))["history"]
        assert [turned["what"] for turned in history] == ["freeze", "freeze", "thaw"]
        assert "@" in history[-1]["by"], "who thawed is named also where nobody said so"


async def test_thaw_where_there_is_no_ledger(office: Desk) -> None:
    assert await office.json("thaw", "--reason", "x") == {"frozen": False, "changed": False, "freeze": None}


async def test_a_freeze_without_a_worker_is_kept_and_holds_before_all_else(office: Desk) -> None:
    receipt = await freeze_containment(office.client, by="ana", reason="now")
    assert (receipt["frozen"], receipt["pending"]) == (True, True)
    async with working(office):
        told = await reserve(office, "one", automatic=False)
        assert told.frozen
        assert "frozen by ana" in told.reason
        assert await frozen_words(office.client) == told.reason
    shown, thawed = await asyncio.gather(office.starter("ledger", "--json"), office.starter("thaw", *ANA))
    assert (shown.code, thawed.code) == (1, 1)
    assert "no worker answers" in shown.err
    assert "frozen by ana" in shown.err, "the last known state is told without a worker"
    assert json.loads(shown.out)["faults"] == shown.err.splitlines()
    assert "no worker answered, so nothing is thawed" in thawed.err


@pytest.mark.parametrize("command", ["freeze", "thaw"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "reason"),
        (("--reason", " \x1b[2J"), "reason: is missing"),
        (("--reason", "x", "--by", ""), "by: is missing"),
        (("--reason", "x", "--by", "\u202e"), "by: is missing"),
    ],
)
def test_bad_input_ends_before_anything_connects(
    command: str,
    arguments: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    assert starter.main([command, *arguments]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("since", ["", "7", "1w", "-1d", "soon\x1b[2J"])
def test_a_report_goes_back_by_a_duration(
    since: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    assert starter.main(["report", "--since", since]) == 2
    said = capsys.readouterr().err
    assert "is not a duration" in said
    assert not STEERING.search(said)


async def test_hostile_text_stays_text(office: Desk) -> None:
    async with working(office):
        await reserve(office, "one", department=EVIL, case_id=EVIL)
        said = [await office.starter("freeze", "--by", EVIL, "--reason", EVIL)]
        said += [await office.starter("ledger"), await office.starter("ledger", "--json")]
        said += [await office.starter("thaw", "--by", EVIL, "--reason", EVIL)]
    for ran in said:
        assert ran.code == 0
        assert not STEERING.search(ran.out + ran.err), (ran.out, ran.err)
    for literal in LITERAL:
        assert literal in said[0].out
        assert literal in said[1].out


async def test_the_doctor_tells_a_freeze(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_CONFIG_FILE", "HOLDPOINT_CONFIG"):
        monkeypatch.setenv(name, office.env[name])
    settings = load_settings(secrets_needed=False)

    async def line() -> Check:
        return next(check for check in await doctor._temporal(settings) if check.name == "Guardrails: freeze")

    assert await line() == Check(name="Guardrails: freeze", ok=True, detail="not frozen")
    async with working(office):
        await freeze_containment(office.client, by="ana", reason="now")
    told = await line()
    assert told.ok
    assert told.detail.startswith("FROZEN, nothing is contained: containment is frozen by ana since ")


@pytest.mark.parametrize(
    ("guardrails", "told"),
    [
        ({}, 'quarantine_host, disable_account: act, without a person. For the first week: mode = "observe"'),
        ({"mode": "observe", "disable_account": "act"}, "disable_account: act, without a person. For the first week"),
        ({"mode": "ask"}, "quarantine_host: ask, disable_account: ask"),
    ],
)
def test_the_doctor_advises_a_first_week_in_observe(
    guardrails: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDPOINT_CONFIG", str(settings_file(tmp_path)))
    monkeypatch.setenv("HOLDPOINT_GUARDRAILS", json.dumps(guardrails))
    checks = doctor._advice(load_settings(secrets_needed=False))
    (check,) = [check for check in checks if check.name == "Guardrails: mode"]
    assert check.ok
    assert check.detail.startswith(told)


# The report


async def _watched(desk: Desk, case_id: str) -> dict[str, Any]:
    told = await desk.json("report", "--since", "1d")
    return {**next(case for case in told["cases"] if case["case_id"] == case_id), "summary": told["summary"]}


async def test_the_report_tells_what_observe_would_have_done(desk: Desk) -> None:
    started = await desk.start(alert(), policy(guardrails=GuardrailPolicy(mode=Mode.OBSERVE)))
    assert (await desk.end(started))["outcome"] == "observed"
    assert desk.world.writes == []
    case = await _watched(desk, started.case_id)
    assert [(a["action"], a["target"]) for a in case["observed"]] == [
        ("quarantine_host", "FIN-LT-042"),
        ("disable_account", "jdoe"),
    ]
    assert (case["contained"], case["asked"], case["compared"], case["released"]) == ([], False, None, None)
    assert case["summary"]["observed"]["disable_account"] >= 1
    text = await desk.starter("report")
    assert text.code == 0
    assert started.case_id not in text.err
    assert "quarantine_host FIN-LT-042, disable_account jdoe" in text.out


@pytest.mark.parametrize(
    ("decision", "more", "compared"),
    [
        ("contain", {}, "agreed"),
        ("false_positive", {}, "differed"),
        ("contain", {"actions": ["disable_account"]}, "differed"),
    ],
)
async def test_the_report_tells_where_an_analyst_differed_from_the_table(
    desk: Desk, decision: str, more: dict[str, Any], compared: str
) -> None:
    started = await desk.start(alert(), policy(guardrails=GuardrailPolicy(mode=Mode.RECOMMEND)))
    await desk.mailed(1)
    await desk.until(started, lambda state: state["question"] and state["question"]["asked"])
    assert (await _watched(desk, started.case_id))["compared"] == "waiting"
    answer = {"decision": decision, "analyst": ANALYST, "reason": "seen it", **more}
    await desk.handle(started).execute_update("decide", answer)
    await desk.end(started)
    case = await _watched(desk, started.case_id)
    assert (case["compared"], case["asked"]) == (compared, True)
    assert (case["answer"]["decision"], case["answer"]["analyst"]) == (decision, ANALYST)
    assert case["recommended"] == ["quarantine_host", "disable_account"]


async def test_where_the_table_itself_asks_nobody_differs(desk: Desk) -> None:
    started = await desk.held()
    await desk.until(started, lambda state: state["question"] and state["question"]["asked"])
    answer = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}
    await desk.handle(started).execute_update("decide", answer)
    await desk.end(started)
    case = await _watched(desk, started.case_id)
    assert (case["recommended"], case["compared"]) == ([], "open")


async def test_the_report_tells_what_was_contained_and_released(desk: Desk) -> None:
    given = alert()
    await desk.run(given)
    case = await _watched(desk, given.case_id)
    assert [a["state"] for a in case["contained"]] == ["verified", "verified"]
    assert case["released"] is None
    words = ("--analyst", ANALYST, "--reason", "the new backup")
    assert (await desk.json("release", given.case_id, *words))["outcome"] == "released"
    case = await _watched(desk, given.case_id)
    assert case["released"] == "released"
    assert case["summary"]["released"] >= 1


async def test_the_report_of_hostile_names_is_text(desk: Desk) -> None:
    desk.world.host = desk.world.account = EVIL
    desk.world.person = desk.world.person.model_copy(update={"account": EVIL})
    started = await desk.start(alert(), policy(guardrails=GuardrailPolicy(mode=Mode.OBSERVE)))
    await desk.end(started)
    await _watched(desk, started.case_id)
    ran = await desk.starter("report")
    assert ran.code == 0
    assert not STEERING.search(ran.out + ran.err)
    for literal in LITERAL:
        assert literal in ran.out
