"""The case's one ticket: opened once, told what changes, marked failed when the ticket system stays down."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.record import TicketRecord
    from incident.requests import AttachRecord, Ticket, TicketDraft, TicketNote
    from incident.telling import summary, ticket_title
    from workflows import steps
    from workflows.case import Case


class CaseTicket:
    """The ticket of one case. Every call converges: a second one makes no second ticket and no second note."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._opening = False

    async def tell(self, what: str) -> None:
        """Open the ticket with the case as it stands, or add a note to the one that is open."""
        if self._opening:
            await workflow.wait_condition(lambda: not self._opening)
        ticket = self._case.record.ticket
        if ticket is None or ticket.state != "open":
            await self.open(what)
        else:
            await self._note(ticket, what)

    async def open(self, what: str) -> None:
        """Open the ticket unless it is open."""
        case = self._case
        if self._opening or (case.record.ticket and case.record.ticket.state == "open"):
            return
        self._opening = True
        draft = TicketDraft(
            key=case.record.key,
            title=ticket_title(case.record),
            description="\n".join([what, "", *summary(case.record)]),
            priority=case.record.priority,
        )
        try:
            ticket = await steps.open_ticket(draft, case.policy.ticket_within)
            case.record.ticket = TicketRecord(state="open", **ticket.model_dump())
            case.note(f"ticket {ticket.number} opened", source="ticketing")
        except ActivityError as error:
            case.record.ticket = TicketRecord(state="failed", reason=steps.reason_of(error))
            case.note(f"ticket FAILED: {case.record.ticket.reason}", source="ticketing")
        finally:
            self._opening = False
        case.publish()

    async def attach(self, record: dict[str, Any]) -> None:
        """Put the case's record on the ticket; without one that is open there is nowhere to put it."""
        case, ticket = self._case, self._case.record.ticket
        if ticket is None or ticket.state != "open":
            return
        where = Ticket(id=ticket.id or "", number=ticket.number or "", url=ticket.url)
        request = AttachRecord(ticket=where, name=f"{case.record.reference}-record", record=record)
        try:
            await steps.attach_record(request, case.policy.enrich_within)
            case.note(f"record attached to ticket {where.number}", source="ticketing")
        except ActivityError as error:
            case.note(f"record could not be attached: {steps.reason_of(error)}", source="ticketing")

    async def _note(self, open_ticket: TicketRecord, what: str) -> None:
        case = self._case
        case.record.notes_written += 1
        marker = f"[{case.record.key}/{case.record.notes_written}]"
        ticket = Ticket(id=open_ticket.id or "", number=open_ticket.number or "", url=open_ticket.url)
        text = "\n".join([what, "", *summary(case.record), "", marker])
        try:
            await steps.add_note(TicketNote(ticket=ticket, text=text, marker=marker), case.policy.ticket_within)
            case.note(f"ticket {ticket.number} told: {what}", source="ticketing")
        except ActivityError as error:
            case.note(f"ticket {ticket.number} could not be told: {steps.reason_of(error)}", source="ticketing")
