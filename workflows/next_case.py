"""Alerts about somebody else at a case's address get a case of their own as soon as that one has closed.

There is one open case for an address, so they wait in it. This small workflow outlives it and opens the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from incident.alert import Alert
    from incident.next_case import OpenNext
    from incident.text import plain
    from workflows import policies, steps
    from workflows.case import Case

WORKFLOW: Final = "NextCase"
MOST: Final = 200
"""So many alerts one of them opens a case with: its input and its step's hold them all."""


@workflow.defn(name=WORKFLOW)
class NextCase:
    """Opens one case, tried for as long as ``policies.NEXT_BUDGET``."""

    @workflow.run
    async def run(self, request: OpenNext) -> str:
        """Open it, or let the alerts join the one that is open by then; returns its run."""
        return await steps.open_next(request, policies.NEXT_BUDGET)


async def begin_next(case: Case, alerts: Sequence[Alert]) -> None:
    """Hand alerts over that wait for this case to close."""
    record, run_id = case.record, workflow.info().run_id
    for at in range(0, len(alerts), MOST):
        some = tuple(alerts[at : at + MOST])
        request = OpenNext(case_id=record.case_id, run_id=run_id, alerts=some)
        try:
            await workflow.start_child_workflow(
                WORKFLOW,
                request,
                id=f"next-{record.key}-{workflow.uuid4()}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=plain(f"The case after {record.case_id}", limit=190),
            )
        except WorkflowAlreadyStartedError:
            continue
        told = f"{len(some)} alerts of somebody else get a case of their own" if len(some) > 1 else ""
        case.note(told or f"alert {some[0].id} gets a case of its own", source="alert")
