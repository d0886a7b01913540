"""The steps that the runbook takes, typed: each names its activity once and says how it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, cast

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as StepTimedOut

with workflow.unsafe.imports_passed_through():
    from incident.chat import ChatNotice
    from incident.evidence import Corroboration, Device, Fact, Located, Person, Risk
    from incident.next_case import OpenNext
    from incident.policy import CasePolicy
    from incident.polling import PageRequest, PageTaken
    from incident.queues import Integration, integration_of, priority_key, queue_of
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
    from incident.triage import Priority as CasePriority
    from incident.voters import FindElectorate, Voters
    from workflows import policies, search_attributes

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
            **{
                **self._options,
                "schedule_to_close_timeout": within,
                "summary": plain(self._told(request), limit=100),
                "task_queue": queue_for(self.name),
                "priority": urgency(),
            }
        )
        try:
            result = await workflow.execute_activity(self.name, request, result_type=self._result, **options)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            raise
        return cast(Result, result)


def own_queues() -> tuple[Integration, ...]:
    """The integrations whose steps go over a queue of their own: the workflow's attribute of that name says it."""
    own: tuple[Integration, ...] = getattr(workflow.instance(), "own_queues", ())
    return own


def queue_for(step: str) -> str | None:
    """The task queue of a step, by the name of its activity; ``None`` for the workflow's own."""
    integration = integration_of(step)
    if integration is None or integration not in own_queues():
        return None
    return queue_of(integration, workflow.info().task_queue)


_by_the_clock: ContextVar[bool] = ContextVar("by_the_clock", default=False)


@contextmanager
def urgent(*, by_the_clock: bool) -> Iterator[None]:
    """Steps within, and in what is begun within, go one level behind if nothing but the time has come for them."""
    before = _by_the_clock.get()
    _by_the_clock.set(by_the_clock)
    try:
        yield
    finally:
        # Not by a token: a run that leaves the worker's cache may be closed in another context.
        _by_the_clock.set(before)


def urgency() -> Priority:
    """How urgent the next step is: as urgent as the case is by now, and what the case was started with for the rest."""
    published = workflow.info().typed_search_attributes.get(search_attributes.PRIORITY)
    if not published:
        return Priority.default
    return Priority(priority_key=priority_key(CasePriority(published)) + _by_the_clock.get())


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
open_next = Step[OpenNext, str]("case.open_next", str, policies.NEXT, lambda _: "Open the case of alerts that waited")
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
take_incidents = Step[PageRequest, PageTaken](
    "siem.take_incidents", PageTaken, policies.POLL, lambda request: f"Incidents from {request.offset} on"
)
find_person = Step[FindPerson, Fact[Person]](
    "directory.find_person", Fact[Person], policies.READ, lambda request: f"Look up {request.name}"
)
find_electorate = Step[FindElectorate, Voters](
    "directory.find_electorate", Voters, policies.READ, lambda _: "Who may answer?"
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
post_chat = Step[ChatNotice, None](
    "chat.post", type(None), policies.CHAT, lambda notice: f"Tell the channel: {notice.kind}"
)

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
    if isinstance(cause, StepTimedOut) and cause.type is TimeoutType.SCHEDULE_TO_START:
        # Temporal says so of what was not even begun, also where the limit was that of the whole step.
        queue = queue_for(error.activity_type) or workflow.info().task_queue
        return f"no worker of the task queue {queue} took it in the time allowed"
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
