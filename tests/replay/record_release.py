"""Record the histories of releases that ``test_replay_release`` replays.

``tests.replay.record`` says when that is right:

    python -m tests.replay.record_release

Names given as arguments record only these.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from incident.alert import Alert
from integrations.errors import Unreachable
from starter import CaseRefused, release_case, released, renew_lease
from tests.conftest import FAST, temporal_cli
from tests.replay import record
from tests.workflows.world import ANALYST, LEAD, Scene, World, alert, policy, working
from workflows import search_attributes

FOLDER: Final = "release"
HISTORIES: Final = record.HISTORIES / FOLDER
WHY: Final = {"analyst": ANALYST, "reason": "the new backup"}

Play = Callable[[Scene, Alert], Awaitable[None]]


async def at_once(scene: Scene, given: Alert) -> None:
    """Host and account; an attempt at each fails, both are undone and told."""
    await scene.run(given)
    scene.world.failures["enable"] = [Unreachable("no answer")]
    scene.world.failures["read_back_host"] = [Unreachable("no answer")]
    await _released(scene, given)


async def again(scene: Scene, given: Alert) -> None:
    """A second release gives the first one's receipt and writes nothing."""
    await scene.run(given)
    await _released(scene, given)
    await _released(scene, given)


async def refused(scene: Scene, given: Alert) -> None:
    """Somebody who may not decide."""
    await scene.run(given)
    with contextlib.suppress(CaseRefused):
        await release_case(
            scene.client, given.case_id, analyst="mallory@acme.example", reason="please", task_queue=scene.queue
        )


async def _released(scene: Scene, given: Alert) -> None:
    await released(scene.client, await release_case(scene.client, given.case_id, **WHY, task_queue=scene.queue))


async def lease(scene: Scene, given: Alert) -> None:
    """Asked, escalated, renewed, asked again, and released by the signal."""
    handle = await _leased(scene, given, timedelta(seconds=1))
    await _until(handle, lambda state: state["question"] and state["question"]["tier"] == "on-call")
    await handle.signal("analyst_decision", {"decision": "burn", **WHY})
    await renew_lease(scene.client, given.case_id, **WHY)
    await _until(handle, lambda state: state["question"] and state["question"]["asked"] and state["renewals"])
    await handle.signal("analyst_decision", {"decision": "release", "analyst": LEAD, "reason": "it was long enough"})
    await handle.result()


async def halved(scene: Scene, given: Alert) -> None:
    """One half released during the lease; the other stays leased, and a later run of the case joins."""
    steering = policy(lease=timedelta(days=30))
    await scene.end(await scene.start(given, steering))
    half = await release_case(scene.client, given.case_id, **WHY, actions=["disable_account"], task_queue=scene.queue)
    await released(scene.client, half)
    second = await scene.start(given.model_copy(update={"id": "SNX-200418"}), steering)
    await scene.end(second)
    handle = scene.client.get_workflow_handle(f"release-{given.case_id}")
    await _until(handle, lambda state: state["run_id"] == second.run_id and state["stage"] == "leased")


PLAYS: Final[dict[str, Play]] = {play.__name__: play for play in (at_once, again, refused, lease, halved)}
OPEN: Final = {"halved"}


async def _leased(scene: Scene, given: Alert, length: timedelta) -> WorkflowHandle[Any, Any]:
    await scene.end(await scene.start(given, record.short(lease=length)))
    return scene.client.get_workflow_handle(f"release-{given.case_id}")


async def _until(handle: WorkflowHandle[Any, Any], condition: Callable[[dict[str, Any]], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition(await handle.query("status")):
            await asyncio.sleep(0.05)


async def main(names: list[str]) -> None:
    """Record the named plays into ``HISTORIES``."""
    HISTORIES.mkdir(parents=True, exist_ok=True)
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        dev_server_extra_args=FAST,
        dev_server_log_level="error",
    ) as server:
        address = server.client.service_client.config.target_host
        client = await Client.connect(address, identity="recorder", data_converter=pydantic_data_converter)
        for number, name in enumerate(names):
            world, queue = World(), f"record-{name}"
            async with working(client, world, queue):
                given = alert(id="SNX-200417", destination_ip=f"10.20.40.{40 + number}")
                await PLAYS[name](Scene(client, world, queue), given)
                await record._save(client.get_workflow_handle(f"release-{given.case_id}"), f"{FOLDER}/{name}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or list(PLAYS)))
