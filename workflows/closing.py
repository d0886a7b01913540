"""What a case still has to say before it closes: to the ticket, to the SIEM, to the tier, and to its lease."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.record import Decision
    from incident.requests import ActionState, CommentIncident
    from incident.sealing import exported
    from incident.telling import action_line
    from workflows import steps
    from workflows.asking import Asking
    from workflows.case import Case
    from workflows.lease import begin_lease, leased
    from workflows.ticket import CaseTicket

_NOT_FOR_HANDS = (ActionState.VERIFIED, ActionState.IN_FORCE, ActionState.OBSERVED)


class Closing:
    """The last words of one case."""

    def __init__(self, case: Case, ticket: CaseTicket, asking: Asking) -> None:
        self._case = case
        self._ticket = ticket
        self._asking = asking

    async def hand_over(self) -> None:
        """What outlives the case: its record on the ticket, and the lease of what stands."""
        record, policy = self._case.record, self._case.policy
        if record.voters is None and record.actions and self._asking.electing.grouped:
            # Nobody was asked so far, and whoever releases it later is of these groups too.
            await self._asking.electing.read()
        self._case.tell_channel()
        if policy.attach_record:
            await self._ticket.attach(exported(record))
        changed = any(action.changed for action in record.actions)
        if policy.lease and changed:
            taken = await begin_lease(leased(record, policy, workflow.info().run_id))
            self._case.note("the lease of what was done begins" if taken else "the lease could NOT be handed over")
        if policy.comment_incident:
            await self._case.write_back.close()

    async def stand_down(self, decision: Decision) -> None:
        """A false positive: nothing is touched, and the SIEM's own incident hears of it."""
        record = self._case.record
        if record.ticket:
            await self._ticket.tell(f"False positive, by {decision.analyst}: {decision.reason}")
        if not record.alert.siem_incident_id:
            return
        marker = f"[{record.key}]"
        text = f"Holdpoint: false positive, by {decision.analyst}: {decision.reason} {marker}"
        request = CommentIncident(incident_id=record.alert.siem_incident_id, text=text, marker=marker)
        try:
            await steps.comment_incident(request, self._case.policy.enrich_within)
            self._case.note(f"incident {record.alert.siem_incident_id} commented", source="siem")
        except ActivityError as error:
            self._case.note(f"incident could not be commented: {steps.reason_of(error)}", source="siem")

    async def tell_what_is_left(self) -> None:
        """What is left for hands goes to the tier by mail: nobody reads a ticket at three in the morning."""
        record = self._case.record
        left = [action_line(a) for a in record.actions if a.state not in _NOT_FOR_HANDS]
        if record.ticket and record.ticket.state != "open":
            left.append(f"the ticket could not be opened: {record.ticket.reason}")
        if left:
            await self._asking.tell_tier("Left for hands: " + "; ".join(left) + ".")

    async def say_what_stays(self) -> None:
        """A cancelled case undoes nothing: it says what was done, so that somebody can decide about it."""
        record = self._case.record
        record.question = None
        self._case.note(
            "case cancelled by an operator; what was done stays done", actor="an operator", source="temporal"
        )
        self._case.publish()
        self._case.publish_now()
        if any(action.state is not ActionState.LEFT_ALONE for action in record.actions):
            await self._ticket.tell("The case was cancelled by an operator. What was done stays done.")

    def what_was_done(self) -> str:
        """Every action and how far it came, in one line."""
        return "; ".join(action_line(action) for action in self._case.record.actions) + "."
