"""What begins a case, undoes it or follows it: the poller's run, the release, and what opens the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.client import WithStartWorkflowOperation, WorkflowHandle, WorkflowUpdateStage
from temporalio.common import WorkflowIDConflictPolicy

from connection import TASK_QUEUE
from incident.budget import LEDGER_ID
from incident.polling import PollInput, PollState
from lab.environment import ANALYST
from tests.crash_matrix.cells import Cell, Course
from tests.crashes.house import Case, House

_PAGE_WITHIN: Final = timedelta(minutes=5)
_POLL: Final = 0.05


class Errands:
    """The errands of one house's cases."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._handles: dict[Cell, WorkflowHandle[Any, Any]] = {}

    async def polled(self, cell: Cell) -> Case:
        """Let the poller read the case's incident, which is opened now; the case may not be there yet."""
        now = datetime.now(UTC)
        about: dict[str, Any] = {"entity": "Activityip", "violatorText": cell.ip, "reason": [f"Policy: {cell.rule}"]}
        self._house.lab.siem.add_incident(cell.incident_id, opened=now, **about)
        # Without an overlap: the incident of the case that nothing strikes is none of this run's.
        given = PollInput(since=now - timedelta(milliseconds=1), overlap=timedelta(0), within=_PAGE_WITHIN)
        self._handles[cell] = await self._house.client.start_workflow(
            "IncidentPoller", given, id=f"poll-{cell.case_id}", task_queue=TASK_QUEUE, result_type=PollState
        )
        return self._house.client.get_workflow_handle(cell.case_id, result_type=dict[str, Any])

    async def opened(self, cell: Cell) -> Case:
        """The case that the poller has opened, once its run has ended: the first one, if the page was taken again."""
        await self._handles[cell].result()
        first = (await self._runs(cell, 1))[0]
        return self._house.client.get_workflow_handle(cell.case_id, run_id=first, result_type=dict[str, Any])

    async def release(self, cell: Cell) -> None:
        """Ask for the release of a contained case; returns when the release has the request."""
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "ReleaseContainment",
            {"case_id": cell.case_id},
            id=f"release-{cell.case_id}",
            task_queue=TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        await self._house.client.start_update_with_start_workflow(
            "release",
            {"analyst": ANALYST, "reason": "it was the nightly backup"},
            start_workflow_operation=start,
            wait_for_stage=WorkflowUpdateStage.ACCEPTED,
        )
        self._handles[cell] = self._house.client.get_workflow_handle(
            f"release-{cell.case_id}", result_type=dict[str, Any]
        )

    async def ended(self, cell: Cell, case: Case) -> Any:
        """What the errand has told, once it has ended, or the ledger of the case; ``None`` for a case without one."""
        match cell.course:
            case Course.RELEASED:
                return await self._handles[cell].result()
            case Course.POLLED:
                state = await self._handles[cell].result()
                return {"trouble": state.trouble, "taken": sorted(state.seen), "again": await self._again(cell)}
            case Course.FOLLOWED:
                return await self._followed(cell, case)
            case Course.CONFIGURED:
                ledger = await self._house.client.get_workflow_handle(LEDGER_ID).query("status")
                return {"places": sum(entry["case_id"] == cell.case_id for entry in ledger["latest"])}
        return None

    async def histories(self, cell: Cell, case: Case) -> AsyncIterator[Any]:
        """The events of the case and of its errand."""
        for handle in (case, *([self._handles[cell]] if cell in self._handles else [])):
            async for event in handle.fetch_history_events():
                yield event

    async def _again(self, cell: Cell) -> list[str]:
        """How further runs of the case ended that a page taken again has begun; as duplicates nothing is to be said."""
        ends = []
        for run in (await self._runs(cell, 1))[1:]:
            handle = self._house.client.get_workflow_handle(cell.case_id, run_id=run, result_type=dict[str, Any])
            ends.append(str((await handle.result())["outcome"]))
        return [end for end in ends if end != "duplicate"]

    async def _followed(self, cell: Cell, case: Case) -> dict[str, Any]:
        """The one case that the next one's workflow has opened, by its alerts."""
        children = []
        async for event in case.fetch_history_events():
            child = event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
            children += [child] if child.startswith("next-") else []
        if len(children) != 1:
            return {"children": children}
        self._handles[cell] = self._house.client.get_workflow_handle(children[0], result_type=str)
        opened = await self._handles[cell].result()
        runs = await self._runs(cell, 2)
        state = await self._house.client.get_workflow_handle(cell.case_id, run_id=opened).query("status")
        return {"runs": len(runs), "the latest is it": runs[-1] == opened, "alerts": state["alerts"]}

    async def _runs(self, cell: Cell, least: int) -> list[str]:
        """The runs of the case id in their order, once Temporal's list knows so many of them."""
        while True:
            found = [run async for run in self._house.client.list_workflows(f"WorkflowId = '{cell.case_id}'")]
            if len(found) >= least:
                return [run.run_id for run in sorted(found, key=lambda run: run.start_time)]
            await asyncio.sleep(_POLL)
