"""Starting, following, listing and answering cases from a shell."""

from __future__ import annotations

import asyncio
import json
import shlex

import pytest

from starter import Started
from tests.cli.desk import Desk
from tests.workflows.world import ANALYST, alert

CONTRACT = {
    "case_id",
    "alerts",
    "stage",
    "priority",
    "priority_history",
    "host",
    "user",
    "risk",
    "corroboration",
    "question",
    "decision",
    "dissent",
    "actions",
    "ticket",
    "outcome",
}
ANSWER = ("--analyst", ANALYST, "--reason", "seen it")


async def test_start_from_a_file_and_a_second_delivery_joins(desk: Desk) -> None:
    desk.world.sightings = 0
    given = alert()
    first = await desk.json("start", desk.file(given))
    assert first.keys() == {"case_id", "run_id", "joined"}
    assert (first["case_id"], first["joined"]) == (f"sua-acme-{given.destination_ip}", False)
    await desk.mailed(1)
    again = await desk.json("start", "-", given=given.model_dump_json().encode())
    assert again == {**first, "joined": True}
    told = await desk.starter("start", desk.file(given))
    assert (told.code, told.out) == (0, f"joined {first['case_id']} (run {first['run_id']})\n")

    state = await desk.client.get_workflow_handle(given.case_id).query("status")
    assert state["alerts"] == [given.id]
    assert len(state["question"]["asked"]) == len(desk.world.mails) == 1
    assert desk.world.tickets == {}
    assert desk.world.writes == []


async def test_the_tenant_of_the_settings_is_the_default(desk: Desk) -> None:
    desk.world.sightings = 0
    bare = {"id": 4711, "destination_ip": " 10.9.8.7 ", "occurred_at": "2026-03-14T13:34:56+01:00", "new_key": [1]}
    desk.env["HOLDPOINT_SECURONIX__TENANT"] = "north"
    assert (await desk.json("start", desk.file(bare)))["case_id"] == "sua-north-10.9.8.7"
    await desk.mailed(1)


@pytest.mark.parametrize("as_json", [False, True])
async def test_wait_ends_with_the_outcome(desk: Desk, as_json: bool) -> None:
    given = alert()
    ran = await desk.starter("start", "--wait", desk.file(given), *(["--json"] if as_json else []))
    assert (ran.code, ran.err) == (0, "")
    assert desk.world.disabled
    assert desk.world.contained
    if as_json:
        told = json.loads(ran.out)
        assert {"run_id", "joined", *CONTRACT} <= told.keys()
        assert (told["outcome"], told["joined"]) == ("contained", False)
    else:
        assert ran.out.splitlines()[0].startswith(f"started sua-acme-{given.destination_ip} (run ")
        assert ran.out.split()[-2:] == ["outcome", "contained"]


async def test_wait_for_a_case_that_somebody_ends_fails(desk: Desk) -> None:
    desk.world.sightings = 0
    given = alert()
    waiting = asyncio.create_task(desk.starter("start", "--wait", desk.file(given)))
    await desk.mailed(1)
    case = Started(case_id=given.case_id, run_id="", joined=False)
    await desk.until(case, lambda state: state["question"] and state["question"]["asked"])
    await desk.handle(case).terminate("by an operator")
    assert (await waiting).code == 1


async def test_status_and_lists_tell_a_paused_case(desk: Desk) -> None:
    started = await desk.held()
    case = started.case_id
    state, listed, text, table = await asyncio.gather(
        desk.json("status", case), desk.json("list"), desk.starter("status", case), desk.starter("list")
    )
    assert state.keys() >= CONTRACT
    assert state["host"]["value"] == "FIN-LT-042"
    assert state["corroboration"]["known"] is True
    assert state["question"].keys() >= {"id", "due_at", "tier", "asked"}

    row = next(row for row in listed if row["case_id"] == case)
    expected = {"stage": "awaiting_decision", "priority": "high", "risk": "medium", "user": "jdoe", "outcome": None}
    assert row | expected == row
    assert row["decision_due_at"].startswith(state["question"]["due_at"][:19])

    assert (text.code, text.err, table.code, table.err) == (0, "", 0, "")
    for word in ("FIN-LT-042", "jdoe", "question", state["question"]["id"]):
        assert word in text.out
    assert case in table.out


async def test_a_closed_case_is_in_the_long_list_only(desk: Desk) -> None:
    given = alert()
    assert (await desk.run(given))["outcome"] == "contained"
    open_cases, all_cases = await asyncio.gather(desk.json("list"), desk.json("list", "--all"))
    assert given.case_id not in [row["case_id"] for row in open_cases]
    assert [row["outcome"] for row in all_cases if row["case_id"] == given.case_id] == ["contained"]


async def test_an_answer_is_taken_and_the_same_one_again_gives_the_same_receipt(desk: Desk) -> None:
    case = (await desk.held()).case_id
    desk.world.gates["quarantine"] = gate = asyncio.Event()
    narrowed = ("decide", case, "contain", *ANSWER, "--action", "quarantine_host")
    receipt = await desk.json(*narrowed)
    assert (receipt["case_id"], receipt["decision"], receipt["analyst"]) == (case, "contain", ANALYST)
    assert receipt["actions"] == ["quarantine_host"]
    again, later = await asyncio.gather(desk.json(*narrowed), desk.starter("decide", case, "false_positive", *ANSWER))
    assert again == receipt
    assert (later.code, later.out) == (1, "")
    assert f"contain by {ANALYST}" in later.err
    gate.set()
    final = await desk.client.get_workflow_handle(case).result()
    assert desk.world.writes == ["quarantine"]
    assert [a["action"] for a in final["actions"]] == ["quarantine_host"]

    closed = await desk.starter("decide", case, "contain", "--analyst", ANALYST, "--reason", "too late")
    assert (closed.code, closed.out) == (1, "")
    assert "is closed" in closed.err


async def test_an_answer_in_words_names_the_question(desk: Desk) -> None:
    started = await desk.held()
    question = (await desk.handle(started).query("status"))["question"]["id"]
    ran = await desk.starter("decide", started.case_id, "FALSE_POSITIVE", *ANSWER, "--question", question)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"false_positive taken for {started.case_id} (question {question})\n"
    assert (await desk.end(started))["outcome"] == "false_positive"


async def test_what_does_not_count_is_refused_with_the_reason(desk: Desk) -> None:
    started = await desk.held()
    case = started.case_id
    mallory = ("--analyst", "mallory@acme.example", "--reason", "x")
    ran = await asyncio.gather(
        desk.starter("decide", case, "contain", *mallory),
        desk.starter("decide", case, "contain", *ANSWER, "--question", "HP-00000000-Q9"),
        desk.starter("decide", "sua-acme-192.0.2.1", "contain", *ANSWER, "--json"),
        desk.starter("status", "sua-acme-192.0.2.1"),
    )
    told = ["not named as an analyst", "was withdrawn or answered", "there is no case", "there is no case"]
    for one, why in zip(ran, told, strict=True):
        assert one.code == 1
        assert why in one.err
        assert len(one.err.splitlines()) == 1
    assert json.loads(ran[2].out)["faults"] == ran[2].err.splitlines()
    state = await desk.handle(started).query("status")
    assert (state["stage"], state["decision"], desk.world.writes) == ("awaiting_decision", None, [])


async def test_the_command_that_the_case_shows_is_the_command_that_answers_it(desk: Desk) -> None:
    """What the mail and the Web UI print can be pasted into a shell, with the two placeholders filled in."""
    started = await desk.held()
    mail = desk.world.mails[-1].text
    command = next(line.strip() for line in mail.splitlines() if "starter.py decide" in line and "false_pos" in line)
    filled = command.replace("YOUR-MAIL-ADDRESS", ANALYST).replace("WHY", shlex.quote("it's the backup"))
    program, script, *arguments = shlex.split(filled)
    assert (program, script) == ("python", "starter.py")
    assert (await desk.starter(*arguments)).code == 0
    final = await desk.end(started)
    assert (final["outcome"], final["decision"]["reason"]) == ("false_positive", "it's the backup")
