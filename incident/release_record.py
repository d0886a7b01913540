"""The record of one release: what was asked for, what was done, and the lease if there is one.

The workflow owns one and changes it; ``status`` is what the query of that name answers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel

from incident.evidence import Frozen
from incident.record import ActionRecord, Asked
from incident.release import Containment, ReleaseRequest, Undo, left_alone, write_key
from incident.requests import ActionState
from incident.text import plain

_MAX_ASKED = 20
_MAX_EVENTS = 200
_A_DAY = timedelta(days=1)


class ReleaseStage(StrEnum):
    """Where a release is."""

    LOOKING = "looking"
    LEASED = "leased"
    AWAITING_DECISION = "awaiting_decision"
    RELEASING = "releasing"
    CLOSED = "closed"


class ReleaseOutcome(StrEnum):
    """How a release ended. ``REFUSED`` is a request that did not count; ``RELEASE_FAILED`` undid nothing that it tried.

    ``RELEASED`` says that nothing of the case's stands any more, of all that was asked for.
    """

    RELEASED = "released"
    PARTIALLY_RELEASED = "partially_released"
    NOTHING_TO_RELEASE = "nothing_to_release"
    RELEASE_FAILED = "release_failed"
    REFUSED = "refused"


class Line(Frozen):
    """A line of a release's timeline."""

    at: AwareDatetime
    text: str


class LeaseQuestion(BaseModel):
    """'Release or renew?', and whose turn it is. Of the mails the last few are kept: it may be asked for years."""

    id: str
    posed_at: AwareDatetime
    tier: str
    due_at: AwareDatetime
    why: str
    asked: list[Asked] = []

    def sent(self, mail: Asked) -> None:
        """Keep what became of a mail."""
        self.asked = [*self.asked, mail][-_MAX_ASKED:]


class ReleaseRecord(BaseModel):
    """The state of one release: what it is about, what was asked for and done, and the lease if there is one.

    ``by`` and ``reason`` are those of the first request that counted.
    """

    case_id: str
    run_id: str | None = None
    containment: Containment | None = None
    stage: ReleaseStage = ReleaseStage.LOOKING
    by: str | None = None
    reason: str | None = None
    actions: list[Undo] = []
    receipt: dict[str, Any] | None = None
    refusal: str | None = None
    lease: timedelta | None = None
    lease_until: AwareDatetime | None = None
    renewals: int = 0
    renewed_by: str | None = None
    question: LeaseQuestion | None = None
    questions_asked: int = 0
    mails_sent: int = 0
    notes_written: int = 0
    outcome: ReleaseOutcome | None = None
    events: list[Line] = []
    events_dropped: int = 0

    def note(self, at: datetime, text: str) -> None:
        """Add a line to the timeline, which is bounded."""
        if len(self.events) >= _MAX_EVENTS:
            del self.events[_MAX_EVENTS // 2]
            self.events_dropped += 1
        self.events.append(Line(at=at, text=plain(text)))

    def undo(self, key: str) -> Undo | None:
        """The undoing of one write, if it was begun."""
        return next((undo for undo in self.actions if undo.key == key), None)

    @property
    def to_do(self) -> list[Undo]:
        """What was asked for and is not done yet."""
        return [undo for undo in self.actions if undo.state is ActionState.REQUESTED]

    def adopt(self, containment: Containment) -> None:
        """Take what the case did, and what an earlier release of it has undone already."""
        self.containment, earlier = containment, containment.earlier
        if earlier:
            self.by, self.reason, self.receipt = earlier.by, earlier.reason, earlier.receipt
            self.actions = [undo.model_copy() for undo in earlier.actions if undo.covered]

    def join(self, newer: Containment, lease: timedelta | None, now: datetime) -> None:
        """Take what a later run of the case did beside what still stands, and the lease that begins with it."""
        known = self.containment
        if known:
            still = known.model_copy(update={"actions": tuple(self.standing(now))})
            again = {write_key(action) for action in newer.actions if action.changed}
            self.actions = [undo for undo in self.actions if undo in self.to_do or undo.key not in again]
            newer = still.joined(newer)
        self.containment, self.receipt, self.refusal = newer, None, None
        self.by = self.reason = None
        self.grant(lease or self.lease, now)
        self.note(now, f"run {newer.run_id} of the case contained, too")

    def grant(self, lease: timedelta | None, now: datetime) -> None:
        """Let the containment stand for so long; with nothing, until somebody releases it."""
        self.lease, self.lease_until = lease, now + lease if lease else None

    def renew(self, by: str, now: datetime) -> None:
        """Another lease, from the end of this one; one that is over already is followed by one from now."""
        if self.lease:
            self.lease_until = max(now, self.lease_until or now) + self.lease
            self.renewals += 1
            self.renewed_by = by

    @property
    def ask_at(self) -> datetime | None:
        """When somebody is asked about the lease: a tenth of it before its end, and at most a day."""
        if self.lease is None or self.lease_until is None:
            return None
        return self.lease_until - min(self.lease / 10, _A_DAY)

    def standing(self, now: datetime) -> list[ActionRecord]:
        """What of ours stands and is not on its way to be undone."""
        known = self.containment
        if known is None:
            return []
        ours = [action for action in known.actions if left_alone(action, known, now) is None]
        undone = {undo.key for undo in self.actions if undo.state is not ActionState.FAILED}
        return [action for action in ours if write_key(action) not in undone]

    def accept(self, request: ReleaseRequest, now: datetime, release_run_id: str) -> dict[str, Any]:
        """Take a request that counts; returns its receipt. One that adds nothing gives the first one's receipt."""
        assert self.containment is not None, "only a containment that was looked up is released"  # noqa: S101
        chosen = [action for action in self.containment.actions if action.action in request.chosen]
        fresh = [a for a in chosen if not ((undo := self.undo(write_key(a))) and undo.covered)]
        if self.receipt and not fresh:
            return self.receipt
        begun = [self._begun(action, self.containment, request, now) for action in fresh]
        keys = {undo.key for undo in begun}
        self.actions = [*(undo for undo in self.actions if undo.key not in keys), *begun]
        self.by, self.reason = self.by or request.analyst, self.reason or request.reason
        self.note(now, f"{request.analyst} releases {', '.join(request.chosen)}: {request.reason}")
        self.receipt = {
            "case_id": self.case_id,
            "run_id": self.containment.run_id,
            "release_run_id": release_run_id,
            "analyst": request.analyst,
            "reason": request.reason,
            "actions": [{"action": a.action.value, "target": a.target} for a in chosen],
            "accepted_at": now.isoformat(),
        }
        return self.receipt

    def _begun(self, action: ActionRecord, containment: Containment, request: ReleaseRequest, now: datetime) -> Undo:
        left = left_alone(action, containment, now)
        return Undo(
            key=write_key(action),
            action=action.action,
            target=action.target,
            state=ActionState.LEFT_ALONE if left else ActionState.REQUESTED,
            why=left[0] if left else None,
            detail=plain(left[1]) if left else "",
            by=request.analyst,
            at=now,
        )

    def result(self) -> ReleaseOutcome:
        """The outcome that the undoings' states give."""
        if self.refusal and not self.receipt:
            return ReleaseOutcome.REFUSED
        tried = [undo for undo in self.actions if undo.state is not ActionState.LEFT_ALONE]
        done = [undo for undo in tried if undo.state in (ActionState.VERIFIED, ActionState.UNREACHABLE)]
        if not tried:
            return ReleaseOutcome.NOTHING_TO_RELEASE
        if not done:
            return ReleaseOutcome.RELEASE_FAILED
        stands = any(undo.stands for undo in self.actions)
        return ReleaseOutcome.PARTIALLY_RELEASED if stands else ReleaseOutcome.RELEASED

    def status(self) -> dict[str, Any]:
        """The release as JSON."""
        known = self.containment
        return {
            **self.model_dump(mode="json", include=_AS_THEY_ARE),
            "run_id": known.run_id if known else self.run_id,
            "reference": known.reference if known else None,
            "lease": self.lease.total_seconds() if self.lease else None,
        }


_AS_THEY_ARE = {
    *("case_id", "stage", "by", "reason", "actions", "receipt", "refusal", "lease_until", "renewals", "renewed_by"),
    *("question", "outcome"),
}


class ReleaseInput(Frozen):
    """What starts a release.

    ``containment`` and ``lease`` are handed over by a case that ends, ``after`` names the release that ended last, and
    ``resumed`` is the record of a release that waits so long that its history was begun anew.
    """

    case_id: str
    run_id: str | None = None
    after: str | None = None
    containment: Containment | None = None
    lease: timedelta | None = None
    resumed: ReleaseRecord | None = None
