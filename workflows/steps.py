"""The steps that the runbook takes, typed: each names its activity once and says how it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, cast

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as StepTimedOut

with workflow.unsafe.imports_passed_through():
    from incident.evidence import Corroboration, Device, Fact, Located, Person, Risk
    from incident.policy import CasePolicy
    from incident.release import Containment, ContainmentOf
    from incident.requests import (
        AccountRef,
        AttachRecord,
        CommentIncident,
        ConfirmElsewhere,
        Delivery,
        DeviceRef,
        DisableAccount,
        EarlierCase,
        EarlierOutcome,
        EnableAccount,
        FindCorroboration,
        FindDevice,
        FindPerson,
        LiftQuarantine,
        LocateHost,
        Notice,
        QuarantineHost,
        ReadBack,
        Reservation,
        Reserve,
        RevokeSignIns,
        ScoreRisk,
        SnapshotPolicy,
        Ticket,
        TicketDraft,
        TicketNote,
        Written,
    )
    from incident.text import plain
    from workflows import policies

T = TypeVar("T")
Request = TypeVar("Request")
Result = TypeVar("Result")


class Step(Generic[Request, Result]):
    """One activity: its name, what it gives back, how it is tried again, and the words the Web UI shows for it."""

    def __init__(
        self, name: str, result: type[Result], options: workflow.ActivityConfig, told: Callable[[Request], str]
    ) -> None:
        self.name = name
        self._result = result
        self._options = options
        self._told = told

    async def __call__(self, request: Request, within: timedelta) -> Result:
        """Take the step, tried again as its policy says for ``within`` in all.

        Raises:
            ActivityError: it failed for good; ``reason_of`` tells why.
            asyncio.CancelledError: whoever waited for it was cancelled.
        """
        options = workflow.ActivityConfig(
            **{**self._options, "schedule_to_close_timeout": within, "summary": plain(self._told(request), limit=100)}
        )
        try:
            result = await workflow.execute_activity(self.name, request, result_type=self._result, **options)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            raise
        return cast(Result, result)


PENDING: Final = "NotYet"
"""The type of the failure that says: accepted, and not in force so far."""

NOT_IN_FORCE: Final = "NotInForce"
"""The type of the failure that says: neither in force nor on its way."""

snapshot_policy = Step[SnapshotPolicy, CasePolicy](
    "case.snapshot_policy", CasePolicy, policies.OWN, lambda _: "Snapshot the settings"
)
find_earlier = Step[EarlierCase, EarlierOutcome](
    "case.find_earlier", EarlierOutcome, policies.OWN, lambda _: "Answered before?"
)
locate_host = Step[LocateHost, Located](
    "siem.locate_host", Located, policies.READ, lambda request: f"Whose address is {request.ip}?"
)
score_risk = Step[ScoreRisk, Fact[Risk]](
    "siem.score_risk", Fact[Risk], policies.READ, lambda request: f"Risk score of {request.account}"
)
find_corroboration = Step[FindCorroboration, Fact[Corroboration]](
    "siem.find_corroboration", Fact[Corroboration], policies.READ, lambda _: "Further alerts or events?"
)
comment_incident = Step[CommentIncident, bool](
    "siem.comment_incident", bool, policies.TICKET, lambda request: f"Comment incident {request.incident_id}"
)
find_person = Step[FindPerson, Fact[Person]](
    "directory.find_person", Fact[Person], policies.READ, lambda request: f"Look up {request.name}"
)
disable_account = Step[DisableAccount, Written](
    "directory.disable_account", Written, policies.WRITE, lambda request: f"Disable {request.account.account}"
)
confirm_disabled = Step[AccountRef, ReadBack](
    "directory.confirm_disabled", ReadBack, policies.READ_BACK, lambda account: f"Is {account.account} disabled?"
)
confirm_elsewhere = Step[ConfirmElsewhere, ReadBack](
    "directory.confirm_elsewhere",
    ReadBack,
    policies.READ_BACK,
    lambda request: f"Is {request.account.account} disabled at the other servers?",
)
revoke_sign_ins = Step[RevokeSignIns, Written](
    "identity.revoke_sign_ins", Written, policies.WRITE, lambda request: f"End the sessions of {request.account}"
)
reserve = Step[Reserve, Reservation]("ledger.reserve", Reservation, policies.OWN, lambda _: "A place in the ledger")
find_device = Step[FindDevice, Fact[Device]](
    "endpoint.find_device", Fact[Device], policies.READ, lambda request: f"Find the agent of {request.hostname}"
)
quarantine_host = Step[QuarantineHost, Written](
    "endpoint.quarantine_host", Written, policies.WRITE, lambda request: f"Quarantine {request.device.hostname}"
)
confirm_quarantined = Step[DeviceRef, ReadBack](
    "endpoint.confirm_quarantined", ReadBack, policies.READ_BACK, lambda device: f"Is {device.hostname} cut off?"
)
open_ticket = Step[TicketDraft, Ticket]("ticketing.open_ticket", Ticket, policies.TICKET, lambda _: "Open the ticket")
add_note = Step[TicketNote, bool](
    "ticketing.add_note", bool, policies.TICKET, lambda note: f"Note on {note.ticket.number}"
)
attach_record = Step[AttachRecord, list[str]](
    "record.attach", list[str], policies.TICKET, lambda request: f"Record to {request.ticket.number}"
)
notify = Step[Notice, Delivery]("notification.notify", Delivery, policies.MAIL, lambda notice: f"Mail: {notice.kind}")

containment_of = Step[ContainmentOf, Containment](
    "case.containment_of", Containment, policies.OWN, lambda request: f"What did {request.case_id} do?"
)
enable_account = Step[EnableAccount, Written](
    "directory.enable_account", Written, policies.WRITE, lambda request: f"Enable {request.account.account}"
)
confirm_enabled = Step[AccountRef, ReadBack](
    "directory.confirm_enabled", ReadBack, policies.READ_BACK, lambda account: f"Is {account.account} enabled?"
)
lift_quarantine = Step[LiftQuarantine, Written](
    "endpoint.lift_quarantine", Written, policies.WRITE, lambda request: f"Release {request.device.hostname}"
)
confirm_lifted = Step[DeviceRef, ReadBack](
    "endpoint.confirm_lifted", ReadBack, policies.READ_BACK, lambda device: f"Is {device.hostname} free?"
)

NAMES: Final = frozenset(step.name for step in list(globals().values()) if isinstance(step, Step))
"""Every activity that the workflows call; a test holds that each is registered."""


def reason_of(error: ActivityError) -> str:
    """Why a step failed, in words for the analyst."""
    cause: BaseException | None = error.cause
    if isinstance(cause, StepTimedOut) and isinstance(cause.cause, ApplicationError):
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        return plain(cause.message, limit=300)
    if isinstance(cause, StepTimedOut):
        return "no answer in the time allowed"
    return plain(str(cause or error), limit=300)


def type_of(error: ActivityError) -> str | None:
    """The failure's type: the name of the integration's exception."""
    cause: BaseException | None = error.cause
    while cause is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    return cause.type if isinstance(cause, ApplicationError) else None


async def fact_or_reason(step: Awaitable[Fact[T]]) -> Fact[T]:
    """A step's fact; a step that failed for good gives an unknown one, and never a failed case."""
    try:
        return await step
    except ActivityError as error:
        return Fact[Any].unknown(reason_of(error), at=workflow.now())
