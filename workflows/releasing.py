"""A release as the workflow holds it: the record, what Temporal shows of it, and the undoing itself."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.record import ActionRecord
    from incident.release import Containment, Left, Undo, in_force, write_key
    from incident.release_record import ReleaseInput, ReleaseRecord, ReleaseStage
    from incident.release_telling import details, note_text, undo_line
    from incident.requests import AccountRef, ActionState, DeviceRef, EnableAccount, LiftQuarantine, Ticket, TicketNote
    from workflows import search_attributes, steps

_GONE = ("NotFound", "Ambiguous")
"""The types of the failures that say: the account or agent is gone, or is another one now."""


class Release:
    """The record and how it is published. Every change of it ends with ``publish``."""

    def __init__(self, given: ReleaseInput) -> None:
        self.record = given.resumed or ReleaseRecord(case_id=given.case_id, run_id=given.run_id)
        self.mark = workflow.info().first_execution_run_id[:8]
        self._told: dict[str, Any] = {}
        if given.containment and not given.resumed:
            self.record.adopt(given.containment)
            self.record.grant(given.lease, workflow.now())
            self.note(f"handed over by the case, leased until {self.record.lease_until}")

    @property
    def containment(self) -> Containment:
        """What the case did. Raises RuntimeError before it is looked up."""
        if self.record.containment is None:
            raise RuntimeError("the containment is not looked up yet")
        return self.record.containment

    @property
    def now(self) -> datetime:
        """The workflow's time."""
        return workflow.now()

    def enter(self, stage: ReleaseStage) -> None:
        """Move to a stage and publish it."""
        if self.record.stage is not stage:
            self.record.stage = stage
            self.note(f"stage {stage}")
        self.publish()

    def note(self, text: str) -> None:
        """Add a line to the timeline and to the worker's log."""
        self.record.note(self.now, text)
        workflow.logger.info("%s", self.record.events[-1].text)

    def publish(self) -> None:
        """Bring search attributes and current details to the record's state."""
        changed = []
        for key, value in search_attributes.of_release(self.record):
            if self._told.get(key.name) != value:
                self._told[key.name] = value
                changed.append(key.value_unset() if value is None else key.value_set(value))
        if changed:
            workflow.upsert_search_attributes(changed)
        workflow.set_current_details(details(self.record, self.now))

    async def told_ticket(self, what: str) -> bool:
        """Add a note to the case's ticket; false if there is none that takes it."""
        known = self.containment
        if known.ticket is None or known.ticket.state != "open":
            return False
        self.record.notes_written += 1
        marker = f"[{known.key}/release-{self.mark}-{self.record.notes_written}]"
        ticket = Ticket(id=known.ticket.id or "", number=known.ticket.number or "", url=known.ticket.url)
        note = TicketNote(ticket=ticket, text=note_text(self.record, what, marker), marker=marker)
        try:
            await steps.add_note(note, known.policy.ticket_within)
        except ActivityError as error:
            self.note(f"ticket {ticket.number} could not be told: {steps.reason_of(error)}")
            return False
        self.note(f"ticket {ticket.number} told: {what}")
        return True


class Undoing:
    """Undoes what the record says is to be undone: write, then read back, each action side by side."""

    def __init__(self, release: Release) -> None:
        self._release = release

    async def undo(self) -> None:
        """Undo all that was asked for so far."""
        actions = {write_key(action): action for action in self._release.containment.actions}
        await asyncio.gather(*(self._undo(undo, actions[undo.key]) for undo in self._release.record.to_do))

    async def _undo(self, undo: Undo, action: ActionRecord) -> None:
        if await self._write(undo, action):
            await self._read_back(undo, action)

    async def _write(self, undo: Undo, action: ActionRecord) -> bool:
        """Write; tells whether there is anything to read back."""
        policy, state = self._release.containment.policy, action.before or {}
        try:
            if action.account is not None:
                enable = EnableAccount(account=action.account, before=state)
                written = await steps.enable_account(enable, policy.contain_within)
            else:
                lift = LiftQuarantine(device=_device(action), before=state)
                written = await steps.lift_quarantine(lift, policy.contain_within)
        except ActivityError as error:
            undo.state, undo.detail = ActionState.FAILED, steps.reason_of(error)
            if steps.type_of(error) in _GONE:
                undo.state, undo.why = ActionState.LEFT_ALONE, Left.GONE
        else:
            undo.state, undo.detail = ActionState.ACCEPTED, written.detail
            if not written.changed and in_force(action.action, written.before) is False:
                undo.state, undo.why = ActionState.LEFT_ALONE, Left.UNDONE
                undo.detail = f"somebody else has undone it already: {written.detail}"
        self._moved(undo)
        return undo.state is not ActionState.LEFT_ALONE

    async def _read_back(self, undo: Undo, action: ActionRecord) -> None:
        """Read back, also after a write that failed: its answer may have been lost on the way."""
        policy, failed = self._release.containment.policy, undo.state is ActionState.FAILED
        within = min(policy.verify_within, policy.enrich_within) if failed else policy.verify_within
        try:
            if action.account is not None:
                await steps.confirm_enabled(_account(action), within)
            else:
                await steps.confirm_lifted(_device(action), within)
        except ActivityError as error:
            if failed:
                return
            pending = steps.type_of(error) == steps.PENDING
            undo.state = ActionState.UNREACHABLE if pending else ActionState.FAILED
            undo.detail = steps.reason_of(error)
        else:
            undo.state = ActionState.VERIFIED
        self._moved(undo)

    def _moved(self, undo: Undo) -> None:
        undo.at = self._release.now
        self._release.note(undo_line(undo))
        self._release.publish()


def _account(action: ActionRecord) -> AccountRef:
    assert action.account is not None, "what names no account is left alone"  # noqa: S101 - left_alone holds it
    return action.account


def _device(action: ActionRecord) -> DeviceRef:
    assert action.device is not None, "what names no agent is left alone"  # noqa: S101 - left_alone holds it
    return action.device
