"""Telling the SIEM's own incidents of their case: its id at the start, its outcome at the end.

Each comment is a small workflow of its own that outlives the case, so that a SIEM that is down for hours hears of it
afterwards, and keeps no case open.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from incident.queues import Integration
    from incident.record import CaseRecord, Outcome, Stage
    from incident.requests import CommentIncident
    from incident.telling import action_line, decision_line
    from incident.text import plain
    from workflows import policies, steps

WORKFLOW: Final = "IncidentComment"


@workflow.defn(name=WORKFLOW)
class IncidentComment:
    """One comment on one incident, tried for as long as ``policies.COMMENT_BUDGET``."""

    def __init__(self) -> None:
        self.own_queues: tuple[Integration, ...] = ()

    @workflow.run
    async def run(self, request: CommentIncident) -> bool:
        """Write it unless it is there; tells whether it was written."""
        self.own_queues = request.own_queues
        return await steps.comment_incident(request, policies.COMMENT_BUDGET)


class WriteBack:
    """The comments of one case. It reads the record when that is published."""

    def __init__(self, record: CaseRecord, *, resumed: bool) -> None:
        self._record = record
        self._told = list(record.incidents) if resumed else []
        self._errands: list[asyncio.Task[None]] = []

    def look(self) -> None:
        """Tell each incident that is not told yet. Not before it is sure that the case is no repeated delivery."""
        record = self._record
        if record.stage is Stage.ENRICHING:
            return
        for incident in record.incidents:
            if incident not in self._told:
                self._told.append(incident)
                self._comment(incident, "case", f"Holdpoint case {record.case_id} ({record.reference})")

    async def close(self) -> None:
        """Tell each incident how the case ended. A false positive's own incident was told with the decision."""
        record = self._record
        lines = [f"Holdpoint case {record.case_id} ({record.reference}) closed: {record.outcome}."]
        lines += [f"Decision: {decision_line(record)}.", *(action_line(action) for action in record.actions)]
        already = record.alert.siem_incident_id if record.outcome is Outcome.FALSE_POSITIVE else None
        for incident in record.incidents if record.outcome is not Outcome.DUPLICATE else ():
            if incident != already:
                self._comment(incident, "outcome", " ".join(lines))
        await asyncio.gather(*self._errands)

    def _comment(self, incident: str, what: str, text: str) -> None:
        marker = f"[{self._record.key}/{what}]"
        request = CommentIncident(
            incident_id=incident, text=f"{text} {marker}", marker=marker, own_queues=steps.own_queues()
        )
        self._errands.append(asyncio.create_task(self._start(request, what)))

    async def _start(self, request: CommentIncident, what: str) -> None:
        digest = hashlib.sha256(request.incident_id.encode()).hexdigest()[:12]
        told = f"incident {request.incident_id} is told of the {what}"
        try:
            await workflow.start_child_workflow(
                WORKFLOW,
                request,
                id=f"comment-{self._record.key}-{digest}-{what}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=plain(f"Tell incident {request.incident_id} of the {what}", limit=190),
            )
        except WorkflowAlreadyStartedError:
            told += " already"
        self._record.note(workflow.now(), told, source="siem")
