"""What the runbook hands to each of its steps, and what it gets back. Small: ids and digests, never raw events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from incident.evidence import Frozen
from incident.queues import Integration
from incident.triage import ActionName, Priority


class LocateHost(Frozen):
    """Whose address is this? ``at`` is when the alert's transfer happened, for addresses that move."""

    ip: str
    at: AwareDatetime


class StartingAlert(Frozen):
    """What identifies the alert that started the case, so that it does not corroborate itself."""

    event_ids: tuple[str, ...] = ()
    rule: str | None = None
    destination_ip: str
    occurred_at: AwareDatetime


class FindCorroboration(Frozen):
    """Search for further alerts and events about the host or the user. An absent name is not searched for."""

    starting_alert: StartingAlert
    ip: str
    host: str | None = None
    account: str | None = None
    employee_id: str | None = None
    mails: tuple[str, ...] = ()
    since: AwareDatetime
    event_condition: str | None = None


class ScoreRisk(Frozen):
    """Whose risk score? At least one of the three is given."""

    account: str | None = None
    employee_id: str | None = None
    mails: tuple[str, ...] = ()


class CommentIncident(Frozen):
    """A comment on the SIEM's own incident. ``marker`` is part of the text and tells whether it is there already.

    ``own_queues`` are the case's.
    """

    incident_id: str
    text: str
    marker: str
    own_queues: tuple[Integration, ...] = ()


class FindPerson(Frozen):
    """A sAMAccountName, UPN or mail address, as the SIEM spelled it; a domain may stand before or after it."""

    name: str


class AccountRef(Frozen):
    """The directory entry to change: where it is, and the object that must be found there."""

    dn: str
    guid: str | None
    account: str


class EnableAccount(Frozen):
    """Undo ``DisableAccount``: ``before`` is the state that it found."""

    account: AccountRef
    before: dict[str, str]


class ConfirmElsewhere(Frozen):
    """Is the account disabled at the other directory servers too? ``server`` has answered already."""

    account: AccountRef
    server: str | None = None


class RevokeSignIns(Frozen):
    """Whose sessions elsewhere end: the names by which a cloud directory may know the account."""

    account: str
    upn: str | None = None
    mails: tuple[str, ...] = ()


class FindDevice(Frozen):
    """The host whose endpoint agent is wanted. ``ip`` is its address in the alert, for controls that know no names."""

    hostname: str
    ip: str | None = None


class DeviceRef(Frozen):
    """One agent, and the host name that it must still have when it is written to.

    ``seen`` is its containment as the case's own read told it (``Device.containment``).
    """

    id: str
    hostname: str
    comment: str = ""
    seen: str = ""


class DisableAccount(Frozen):
    """Disable one account. ``seen`` is the state when the case looked it up; it tells whose change a retry finds."""

    account: AccountRef
    seen: dict[str, str]


class QuarantineHost(Frozen):
    """Quarantine one host. ``seen`` is the state when the case looked it up; it tells whose change a retry finds."""

    device: DeviceRef
    seen: dict[str, str]


class LiftQuarantine(Frozen):
    """Undo ``QuarantineHost``: ``before`` is the state that it found."""

    device: DeviceRef
    before: dict[str, str]


class ActionState(StrEnum):
    """How far a containment action has come. Only a read-back makes it verified.

    In order: ``REQUESTED`` (decided), ``ACCEPTED`` (the vendor took the write), ``IN_FORCE`` (a read-back says so, and
    another directory server that should say so too was not to be asked), ``VERIFIED``. ``PARTIAL`` is in force at one
    server and not at another; ``UNREACHABLE`` was accepted and is not in force so far; ``LEFT_ALONE`` was not done, by
    a guardrail; ``OBSERVED`` would have been done.
    """

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    IN_FORCE = "in_force"
    VERIFIED = "verified"
    PARTIAL = "partial"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    LEFT_ALONE = "left_alone"
    OBSERVED = "observed"


class Written(Frozen):
    """What a containment write did. ``before`` is the state that it found; ``changed`` is false if nothing was to do.

    ``detail`` is for people (who had done it already, which rule the vendor named).
    """

    changed: bool
    before: dict[str, str]
    detail: str = ""


class ReadBack(Frozen):
    """What the vendor says afterwards. ``in_force`` is the only proof; ``pending`` means accepted and not yet there.

    ``server`` is the directory server that answered, and ``others`` how many more are configured. ``status`` is the
    vendor's own word, where it has one.
    """

    in_force: bool
    pending: bool = False
    detail: str = ""
    server: str | None = None
    others: int = 0
    status: str = ""


class Reserve(Frozen):
    """A place in the ledger of containments for a case's writes, all of them or none.

    ``key`` makes a second call find the first one's place. ``automatic`` writes are held to the limits; approved ones
    count and are not held.
    """

    key: str
    case_id: str
    actions: tuple[ActionName, ...]
    department: str | None = None
    automatic: bool
    max_per_hour: int
    max_per_department: int | None = None


class Reservation(Frozen):
    """What the ledger says: granted, or not and why. ``frozen`` is the switch, which holds approved writes too."""

    granted: bool
    frozen: bool = False
    reason: str = ""


class TicketDraft(Frozen):
    """A ticket to be. ``key`` is unique to the case: a second call with it finds the first call's ticket."""

    key: str
    title: str
    description: str
    priority: Priority


class Ticket(Frozen):
    """A ticket in the ticket system: its internal id, the number people use, and a link if the vendor has one."""

    id: str
    number: str
    url: str | None = None


class AttachRecord(Frozen):
    """The case's record for its ticket: ``name`` of the files, and the record as the case exports it, unsealed."""

    ticket: Ticket
    name: str
    record: dict[str, Any]


class TicketNote(Frozen):
    """A private note. ``marker`` is part of the text and tells whether it is there already."""

    ticket: Ticket
    text: str
    marker: str


class MailKind(StrEnum):
    """Why somebody is written to. Each has a template."""

    ASK = "ask"
    REMIND = "remind"
    ESCALATE = "escalate"
    WITHDRAWN = "withdrawn"
    ANSWERED = "answered"
    NOTICE = "notice"


class AnswerLinks(Frozen):
    """What the links of a question's mail are made of: ``analysts`` are those of the recipients who may answer it.

    The links themselves are made where the mail is: no payload ever holds one.
    """

    case_id: str
    run_id: str
    question: str
    digest: str
    analysts: tuple[str, ...]


class Notice(Frozen):
    """A mail to a tier. ``context`` is rendered by the template of ``kind``; nothing of it enters a header unquoted.

    ``key`` makes the Message-ID, ``thread`` the first mail's, so that a case is one thread. ``link`` is there where
    the mail asks something that the desk can take the answer to.
    """

    kind: MailKind
    key: str
    thread: str | None
    case_ref: str
    recipients: tuple[str, ...]
    context: dict[str, Any]
    link: AnswerLinks | None = None


class Delivery(Frozen):
    """What the mail server took. ``refused`` maps a recipient to the server's words.

    ``deferred`` does so for those whom it put off while others were settled: they are to be written to again.
    """

    message_id: str
    accepted: tuple[str, ...]
    refused: dict[str, str]
    deferred: dict[str, str] = Field(default={})


class SnapshotPolicy(Frozen):
    """The settings for a case that was started without any."""

    case_id: str


class EarlierCase(Frozen):
    """Was this alert answered already, by a case of the same id that has ended? And which of those that joined?"""

    case_id: str
    alert_id: str
    joined: tuple[str, ...] = ()


class EarlierOutcome(Frozen):
    """The earlier run, if there is one, and which alerts any earlier run had; ``None`` in old cases: not looked for."""

    run_id: str | None
    answered: tuple[str, ...] | None = None
