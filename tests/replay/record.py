"""Record the histories that ``test_replay`` replays: real runs of the workflow, on a dev server with the wall clock.

After a change of the workflow's code that is meant to alter its commands, while no such case is open anywhere, record
them again, from the repository's root:

    python -m tests.replay.record

Otherwise a history that no longer replays is the warning that the change breaks open cases: patch it or version it.
Names given as arguments record only these.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from incident.alert import Alert
from incident.evidence import Group
from incident.policy import Approval, CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from integrations.errors import Unreachable
from starter import Started
from tests.conftest import FAST, temporal_cli
from tests.workflows.world import ANALYST, LEAD, TIERS, Scene, World, alert, policy, working
from workflows import search_attributes

HISTORIES: Final = Path(__file__).resolve().parent.parent / "histories"
_SHORT = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=150"]
CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
FALSE = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}

BOUND: Final = {"ask_directory": True, "renew_questions": True, "tell_answered": True}
"""What binds an answer to what was asked, and to whom."""

Play = Callable[[Scene, Alert], Awaitable[Started]]


def short(*, on_unanswered: OnUnanswered = OnUnanswered.CLOSE, **changes: Any) -> CasePolicy:
    """Tiers that wait for two seconds each."""
    tiers = tuple(Tier(**{**dict(tier), "wait": timedelta(seconds=2)}) for tier in TIERS)
    return policy(tiers=tiers, on_unanswered=on_unanswered, **changes)


def bound(**changes: Any) -> CasePolicy:
    """The rules of ``BOUND``, and a look every second."""
    return policy(recheck_every=timedelta(seconds=1), **BOUND, **changes)


async def contained(scene: Scene, given: Alert) -> Started:
    """Medium risk and corroborated: host and account, at once."""
    started = await scene.start(given)
    await scene.end(started)
    return started


async def account_disabled(scene: Scene, given: Alert) -> Started:
    """Low risk and corroborated, by a bare alert that takes the worker's settings: the account alone."""
    scene.world.score = 0.01
    handle = await scene.client.start_workflow(
        "SuspiciousUserActivity", given.model_dump(mode="json"), id=given.case_id, task_queue=scene.queue
    )
    await handle.result()
    return Started(case_id=handle.id, run_id=handle.result_run_id or "", joined=False)


async def answered(scene: Scene, given: Alert) -> Started:
    """Held, with answers that do not count, and then one that does, narrowed, by the update."""
    started = await _held(scene, given)
    await scene.handle(started).signal("analyst_decision", {**CONTAIN, "analyst": "mallory@acme.example"})
    await scene.handle(started).signal("analyst-decision", CONTAIN)
    await scene.until(started, lambda state: state["dissent"])
    await scene.handle(started).execute_update("decide", {**CONTAIN, "actions": ["disable_account"]})
    await scene.end(started)
    return started


async def false_positive(scene: Scene, given: Alert) -> Started:
    """Held because the risk is unknown, and answered by the signal."""
    scene.world.score = None
    started = await _held(scene, given, sightings=1)
    await scene.handle(started).signal("analyst_decision", FALSE)
    await scene.end(started)
    return started


async def escalated(scene: Scene, given: Alert) -> Started:
    """Nobody answers: three tiers, and then the declared default."""
    started = await _held(scene, given, short(on_unanswered=OnUnanswered.DISABLE_ACCOUNT))
    await scene.end(started)
    return started


async def withdrawn(scene: Scene, given: Alert) -> Started:
    """Held with the SIEM's search down; it comes back while the case waits, and the question is withdrawn."""
    scene.world.always["corroboration"] = Unreachable("the SIEM cannot be reached")
    steering = policy(recheck_every=timedelta(seconds=1), enrich_within=timedelta(milliseconds=400))
    started = await _held(scene, given, steering)
    del scene.world.always["corroboration"]
    scene.world.sightings = 1
    await scene.end(started)
    return started


async def joined(scene: Scene, given: Alert) -> Started:
    """Held; the same alert again changes nothing, and a further one makes the case look again."""
    started = await _held(scene, given)
    await scene.start(given)
    scene.world.sightings = 2
    await scene.start(given.model_copy(update={"id": "SNX-200418"}))
    await scene.end(started)
    return started


async def protected(scene: Scene, given: Alert) -> Started:
    """A domain administrator: the host at once, and a question about the account alone."""
    admins = (Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),)
    scene.world.person = scene.world.person.model_copy(update={"groups": admins})
    started = await scene.start(given)
    await scene.mailed(1)
    await scene.until(started, _asked)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)
    return started


async def paused(scene: Scene, given: Alert) -> Started:
    """Held, reminded, escalated once, and still waiting."""
    steering = short(on_unanswered=OnUnanswered.HOLD)
    tiers = (steering.tiers[0], *TIERS[1:])
    started = await _held(scene, given, steering.model_copy(update={"tiers": tiers}))
    await scene.until(started, lambda state: state["question"]["tier"] == "on-call" and len(_asked(state)) == 3)
    return started


async def resumed(scene: Scene, given: Alert) -> Started:
    """Held for so long that its history begins anew, and then answered: two histories."""
    started = await _held(scene, given, policy(recheck_every=timedelta(milliseconds=100)))
    latest = scene.client.get_workflow_handle(given.case_id)
    while (await latest.describe()).run_id == started.run_id:
        await asyncio.sleep(0.1)
    await latest.execute_update("decide", CONTAIN)
    await latest.result()
    return started


async def renewed(scene: Scene, given: Alert) -> Started:
    """Held; it turns out to be somebody else, who is asked about anew. The directory is asked, and dissent is told."""
    scene.world.groups = {"SOC-Analysts": (ANALYST,)}
    first = TIERS[0].model_copy(update={"analysts": (), "analysts_group": "SOC-Analysts"})
    started = await _held(scene, given, bound(tiers=(first, *TIERS[1:])))
    await scene.handle(started).signal("seen", {"question": "?", "analyst": ANALYST})
    scene.world.account = "asmith"
    other = {"account": "asmith", "guid": None, "dn": "CN=Ann Smith,OU=Staff,DC=corp,DC=example"}
    scene.world.person = scene.world.person.model_copy(update=other)
    await scene.until(started, lambda state: state["question"]["id"].endswith("-Q2"))
    await scene.mailed(2)
    await scene.handle(started).execute_update("decide", {**CONTAIN, "analyst": LEAD})
    await scene.handle(started).signal("analyst_decision", FALSE)
    await scene.end(started)
    return started


async def protected_renewed(scene: Scene, given: Alert) -> Started:
    """A protected account: one approval, then the world changes, and two people approve anew."""
    guardrails = GuardrailPolicy(protected_accounts=("jdoe",), protected_approval=Approval.TWO_TIERS)
    started = await scene.start(given, bound(guardrails=guardrails))
    await scene.until(started, _asked)
    await scene.handle(started).execute_update("decide", CONTAIN)
    scene.world.score = 90.0
    await scene.until(started, lambda state: state["question"]["id"].endswith("-Q2") and state["question"]["asked"])
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.handle(started).execute_update("decide", {**CONTAIN, "analyst": LEAD})
    await scene.end(started)
    return started


PLAYS: Final[dict[str, Play]] = {
    play.__name__: play
    for play in (
        contained,
        account_disabled,
        answered,
        false_positive,
        escalated,
        withdrawn,
        joined,
        protected,
        paused,
        resumed,
        renewed,
        protected_renewed,
    )
}


async def _held(scene: Scene, given: Alert, steering: CasePolicy | None = None, *, sightings: int = 0) -> Started:
    scene.world.sightings = sightings
    started = await scene.start(given, steering)
    await scene.until(started, _asked)
    return started


def _asked(state: dict[str, Any]) -> list[Any]:
    asked: list[Any] = state["question"]["asked"] if state["question"] else []
    return asked


async def record(names: list[str]) -> None:
    """Record the named plays into ``HISTORIES``."""
    HISTORIES.mkdir(exist_ok=True)
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        dev_server_extra_args=[*FAST, *_SHORT],
        dev_server_log_level="error",
    ) as server:
        # The default identity names this machine, and would stand in each history.
        address = server.client.service_client.config.target_host
        client = await Client.connect(address, identity="recorder", data_converter=pydantic_data_converter)
        for number, name in enumerate(names):
            world, queue = World(), f"record-{name}"
            async with working(client, world, queue):
                given = alert(id="SNX-200417", destination_ip=f"10.20.30.{40 + number}")
                scene = Scene(client, world, queue)
                started = await PLAYS[name](scene, given)
                await _save(scene.handle(started), name)
                latest = client.get_workflow_handle(given.case_id)
                if (await latest.describe()).run_id != started.run_id:
                    await _save(latest, f"{name}_anew")


async def _save(handle: WorkflowHandle[Any, Any], name: str) -> None:
    """Write a history, one event a line, without the stack traces: they hold paths of this machine."""
    events = json.loads((await handle.fetch_history()).to_json(), object_hook=_without_traces)["events"]
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    path = HISTORIES / f"{name}.json"
    path.write_text(f'{{"events":[\n{lines}\n]}}\n', encoding="utf-8")
    sys.stdout.write(f"{path.name}: {len(events)} events, {path.stat().st_size // 1024} KiB\n")


def _without_traces(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decoded.items() if key != "stackTrace"}


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:] or list(PLAYS)))
