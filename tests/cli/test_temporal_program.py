"""The ``temporal`` program is a first-class client: everything that a case needs can be typed with it."""

from __future__ import annotations

import asyncio
import json
import shlex
import uuid
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from connection import TASK_QUEUE
from lab.servers import Ran
from tests.cli.desk import Desk
from tests.workflows.world import ANALYST, alert
from workflows.suspicious_user_activity import SuspiciousUserActivity

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": 'it\'s real: "seen" by $(me)'}


async def delivered(desk: Desk, given: dict[str, Any], case: str) -> Ran:
    """A bare alert, started or joined by signal-with-start."""
    bare = json.dumps(given)
    return await desk.temporal(
        *("workflow", "signal-with-start", "--type", "SuspiciousUserActivity", "--task-queue", TASK_QUEUE),
        *("--workflow-id", case, "--signal-name", "alert", "--signal-input", bare, "--input", bare),
    )


async def test_a_bare_alert_by_signal_with_start_and_again(desk: Desk) -> None:
    desk.world.sightings = 0
    first, second = alert(), alert(severity="critical")
    for given in (first, first, second):
        ran = await delivered(desk, given.model_dump(mode="json"), first.case_id)
        assert ran.code == 0, ran.err
        await desk.mailed(1)
    other = second.model_copy(update={"destination_ip": first.destination_ip})
    assert (await delivered(desk, other.model_dump(mode="json"), first.case_id)).code == 0
    state = await desk.client.get_workflow_handle(first.case_id).query("status")
    assert state["alerts"] == [first.id, other.id]
    assert state["priority"] == "critical"
    assert len(desk.world.mails) == 1
    told = await desk.client.get_workflow_handle(first.case_id).query("timeline")
    assert "it needs a case of its own" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"id": "x", "destination_ip": "nope", "occurred_at": "z"}, "destination_ip: 'nope' is not an IP address; occ"),
        ({"alert": {"id": "x", "destination_ip": "10.0.0.1"}}, "occurred_at: is missing"),
        ({"alert": None}, "the alert is not a JSON object"),
        (7, "the alert is not a JSON object"),
    ],
)
async def test_a_faulty_alert_ends_its_case_and_keeps_no_id(desk: Desk, given: Any, told: str) -> None:
    """On a worker as it is in production, where a failing task is tried for ever and its case would take all alerts."""
    queue = f"plain-{uuid.uuid4()}"
    async with Worker(desk.client, task_queue=queue, workflows=[SuspiciousUserActivity]):
        ran = await desk.temporal(
            *("workflow", "start", "--type", "SuspiciousUserActivity", "--task-queue", queue, "--workflow-id", queue),
            *("--input", json.dumps(given)),
        )
        assert ran.code == 0
        with pytest.raises(WorkflowFailureError) as failed:
            async with asyncio.timeout(20):
                await desk.client.get_workflow_handle(queue).result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.type, failed.value.cause.message[: len(told)]) == ("AlertRefused", told)


async def test_a_signal_answers(desk: Desk) -> None:
    started = await desk.held()
    command = ("workflow", "signal", "--workflow-id", started.case_id, "--name", "analyst_decision", "--input")
    malformed = await desk.temporal(*command, json.dumps("contain"))
    assert malformed.code == 0
    state = await desk.until(started, lambda s: s["dissent"])
    assert (state["stage"], desk.world.writes) == ("awaiting_decision", [])
    assert (await desk.temporal(*command, json.dumps(CONTAIN))).code == 0
    final = await desk.end(started)
    assert (final["outcome"], final["decision"]["reason"]) == ("contained", CONTAIN["reason"])
    late = await desk.temporal(*command, json.dumps(CONTAIN))
    assert late.code == 1


async def test_an_update_is_refused_with_the_reason_or_gives_a_receipt(desk: Desk) -> None:
    started = await desk.held()
    command = ("workflow", "update", "execute", "--workflow-id", started.case_id, "--name", "decide", "--input")
    refused, malformed = await asyncio.gather(
        desk.temporal(*command, json.dumps({**CONTAIN, "analyst": "mallory@acme.example"})),
        desk.temporal(*command, json.dumps({"decision": "maybe"})),
    )
    assert (refused.code, malformed.code) == (1, 1)
    assert "mallory@acme.example is not named as an analyst" in refused.err + refused.out
    assert "decision: must be one of contain, false_positive" in malformed.err + malformed.out
    assert (await desk.handle(started).query("status"))["dissent"] == []

    taken = await desk.temporal(*command, json.dumps(CONTAIN), "--output", "json")
    assert taken.code == 0, taken.err
    result = json.loads(taken.out)["result"]
    assert (result["case_id"], result["decision"], result["analyst"]) == (started.case_id, "contain", ANALYST)
    assert (await desk.end(started))["outcome"] == "contained"


async def test_what_a_paused_case_shows(desk: Desk) -> None:
    started = await desk.held(rule="Large <b>data</b> transfer")
    case = ("--workflow-id", started.case_id)
    status, timeline, listed, described, metadata = await asyncio.gather(
        desk.temporal("workflow", "query", *case, "--type", "status", "--output", "json"),
        desk.temporal("workflow", "query", *case, "--type", "timeline"),
        desk.temporal("workflow", "list", "--query", "IncidentStage='awaiting_decision'", "--output", "json"),
        desk.temporal("workflow", "describe", *case),
        desk.temporal("workflow", "metadata", *case, "--output", "json"),
    )
    assert [ran.code for ran in (status, timeline, listed, described, metadata)] == [0] * 5
    state = json.loads(status.out)["queryResult"][0]
    assert state["case_id"] == started.case_id
    assert "stage awaiting_decision" in timeline.out
    assert started.case_id in [run["execution"]["workflowId"] for run in json.loads(listed.out)]

    for shown in ("Large <b>data</b> transfer", "AffectedHost", "FIN-LT-042", "AffectedUser", "jdoe", "RiskLevel"):
        assert shown in described.out

    about = json.loads(metadata.out)["queryResult"][0]
    details = about["currentDetails"]
    assert "awaiting decision" in details
    for verb, name in (("update execute", "decide"), ("signal", "analyst_decision")):
        command = f"temporal workflow {verb} --workflow-id {started.case_id} --name {name} --input "
        for decision in ("contain", "false_positive"):
            assert f'{command}\'{{"decision": "{decision}"' in details
    signals = {s["name"]: s.get("description", "") for s in about["definition"]["signalDefinitions"] if s.get("name")}
    assert "joins this case" in signals["alert"]
    assert '"decision","analyst","reason"' in signals["analyst_decision"]
    updates = {u["name"]: u["description"] for u in about["definition"]["updateDefinitions"]}
    assert '"decision","analyst","reason"' in updates["decide"]

    await answer_as_shown(desk, details)
    assert (await desk.end(started))["outcome"] == "contained"


async def answer_as_shown(desk: Desk, details: str) -> None:
    """Paste the first command of the current details into a shell, with the placeholders filled in."""
    line = next(line for line in details.splitlines() if line.startswith("temporal workflow update"))
    program, *arguments = shlex.split(line.replace("YOUR-MAIL-ADDRESS", ANALYST).replace("WHY", "as shown"))
    assert program == "temporal"
    ran = await desk.temporal(*arguments)
    assert ran.code == 0, ran.err
