"""The matrix: every step that talks to a system, every fault that its protocol knows, once and for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

POLL: Final = "siem.take_incidents"
ELECTORATE: Final = "directory.find_electorate"
ELSEWHERE: Final = "directory.confirm_elsewhere"
REVOKE: Final = "identity.revoke_sign_ins"
ATTACH: Final = "record.attach"
POST: Final = "chat.post"
RELEASES: Final = {
    "directory.enable_account": "disable_account",
    "directory.confirm_enabled": "disable_account",
    "endpoint.lift_quarantine": "quarantine_host",
    "endpoint.confirm_lifted": "quarantine_host",
}
"""The steps of a release, and the action that each of them undoes."""

SIEM = ("siem.locate_host", "siem.score_risk", "siem.find_corroboration", "siem.comment_incident", POLL)
ENDPOINT = (
    *("endpoint.find_device", "endpoint.quarantine_host", "endpoint.confirm_quarantined"),
    *("endpoint.lift_quarantine", "endpoint.confirm_lifted"),
)
TICKETING = ("ticketing.open_ticket", "ticketing.add_note", ATTACH)
DIRECTORY = (
    *("directory.find_person", ELECTORATE, "directory.disable_account", "directory.confirm_disabled", ELSEWHERE),
    *("directory.enable_account", "directory.confirm_enabled"),
)
MAIL = ("notification.notify",)
IDENTITY = (REVOKE,)
CHAT = (POST,)

NOT_STRUCK: Final = dict.fromkeys(
    (
        *("case.snapshot_policy", "case.find_earlier", "case.containment_of", "case.open_next"),
        "ledger.reserve",
    ),
    "asks a worker or Temporal alone, and Temporal's protocol knows none of these faults: docs/crashes.md has it",
)
"""The steps that meet no fault here, and why."""

REFUSED = "refused"
CONNECT_TIMEOUT = "connect timeout"
ANSWER_LOST = "answer lost after the effect"
TOKEN_EXPIRED = "token expired in the middle"
UNDELIVERABLE = "554 to the message"

FOR_GOOD: Final = 10**9
ENDLESS: Final = 600.0
"""Seconds that no client waits."""

HTTP: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "read timeout": ("slow", {"seconds": ENDLESS}),
    "reset": ("reset", {}),
    ANSWER_LOST: ("reset", {"after_effect": True}),
    "429 with Retry-After": ("429", {"seconds": 1}),
    "500": ("500", {}),
    "503 with HTML": ("html503", {}),
    "200 with an error body": ("error200", {}),
    "200 with a login page": ("html200", {}),
    "truncated JSON": ("truncated", {}),
    "empty body": ("empty", {}),
    TOKEN_EXPIRED: ("401", {}),
    "slow drip": ("drip", {"seconds": 0.2}),
}
"""By the name of a fault, how the HTTP stand-ins are told to fail."""

LDAP: Final = {
    "read timeout": "silent",
    "reset": "reset",
    "busy (51)": "busy",
    "unavailable (52)": "unavailable",
    ANSWER_LOST: "answer_lost",
}
SMTP: Final = {
    "no greeting": ("connect", "silent"),
    "reset": ("connect", "drop"),
    "421 at the greeting": ("connect", "421 4.3.2 closing down"),
    "451 to the message": ("data", "451 4.3.0 try later"),
    "connection lost after DATA": ("data", "drop"),
    UNDELIVERABLE: ("data", "554 5.6.0 not taken"),
}

WRITES: Final[dict[str, str]] = {
    "siem.comment_incident": "POST /Snypr/ws/incident/actions",
    "endpoint.quarantine_host": "POST /devices/entities/devices-actions",
    "ticketing.open_ticket": "POST /api/now/table",
    "ticketing.add_note": "PATCH /api/now/table",
    "endpoint.lift_quarantine": "POST /devices/entities/devices-actions",
    ATTACH: "POST /api/now/attachment/file",
    REVOKE: "POST /v1.0/users",
    POST: "POST /services/",
}
"""The request of a writing step that meets the fault; of a reading step, it is the data and not the login."""

READS: Final = {"siem": "/spotter/", "endpoint": "/devices/", "ticketing": "/api/now/table", POLL: "type=list"}
_MODIFIES: Final = ("directory.disable_account", "directory.enable_account")
BLIND: Final = (REVOKE, POST)
"""Writing steps whose system cannot be asked whether it has done it: tried again they do it again."""

_HAS_EFFECT = (ANSWER_LOST, "truncated JSON", "slow drip")
"""Faults that spoil the answer alone."""


@dataclass(frozen=True)
class Cell:
    """One case of the matrix. ``number`` makes its host, its user and its mail addresses its own."""

    number: int
    step: str
    fault: str
    lasting: bool

    @property
    def integration(self) -> str:
        """The part of the step's name before the dot."""
        return "ticketing" if self.step == ATTACH else self.step.partition(".")[0]

    @property
    def name(self) -> str:
        """The cell's name in tests and messages."""
        return f"{self.step}, {self.fault}, {'for good' if self.lasting else 'once'}"

    @property
    def dead(self) -> bool:
        """Whether no connection comes about."""
        return self.fault in (REFUSED, CONNECT_TIMEOUT)

    @property
    def writes(self) -> bool:
        """Whether the step changes something, mail aside."""
        return self.step in WRITES or self.step in _MODIFIES

    @property
    def has_effect(self) -> bool:
        """Whether a writing step does what it has to each time, and its answer alone is spoiled."""
        return self.writes and self.fault in _HAS_EFFECT

    @property
    def recovers(self) -> bool:
        """Whether the case has to end as if nothing had been: the fault passed, or the effect shows at the retry."""
        return not self.lasting or (self.has_effect and self.step not in BLIND)

    @property
    def ip(self) -> str:
        """The destination address of its alert."""
        return f"10.60.{self.number // 200}.{self.number % 200 + 1}"

    @property
    def host(self) -> str:
        """The host there."""
        return f"FM-LT-{self.number:04}"

    @property
    def account(self) -> str:
        """The account active there."""
        return f"fuser{self.number:04}"

    @property
    def employee_id(self) -> str:
        """The number of the person in the human resources' system."""
        return f"E{90000 + self.number}"

    @property
    def incident_id(self) -> str:
        """The SIEM's own incident."""
        return str(90000 + self.number)

    @property
    def case_id(self) -> str:
        """The workflow's id."""
        return f"sua-acme-{self.ip}"

    @property
    def answered(self) -> bool:
        """Whether a person is asked in the course of it who answers."""
        return self.step in ("siem.comment_incident", "ticketing.add_note", ELECTORATE)

    @property
    def tiers(self) -> tuple[str, str]:
        """The mail addresses of its two tiers."""
        return f"soc-{self.number}@acme.example", f"lead-{self.number}@acme.example"


@dataclass(frozen=True)
class Expected:
    """What the design names for a cell. ``unknown`` is the fact that is not known, ``told`` is in the timeline.

    ``stage`` is ``closed`` or ``awaiting_decision``, and ``None`` where no case comes about; the counts are what the
    stand-ins hold of it. ``released`` is the outcome of its release, ``left`` the action that this leaves for hands.
    """

    outcome: str | None = "contained"
    stage: str | None = "closed"
    disabled: bool = True
    quarantined: bool = True
    ticket: str | None = "open"
    notes: int = 0
    comments: int = 0
    unknown: str | None = None
    failed: str | None = None
    tier_told: bool = False
    told: str | None = None
    released: str | None = None
    left: str | None = None


_HELD = Expected(outcome=None, stage="awaiting_decision", disabled=False, quarantined=False, ticket=None)
_FALSE = Expected(outcome="false_positive", disabled=False, quarantined=False, ticket=None, comments=1)
_PARTLY = Expected(outcome="partially_contained", tier_told=True)


def expected(cell: Cell) -> Expected:
    """What the design names for a cell."""
    whole, lasting = _ROWS[cell.step]
    return whole if cell.recovers else lasting


def _unknown(fact: str) -> Expected:
    return Expected(**{**vars(_HELD), "unknown": fact})


def _partly(failed: str, **more: Any) -> Expected:
    return Expected(**{**vars(_PARTLY), "failed": failed, **more})


def _released(left: str | None = None, **more: Any) -> Expected:
    known = {"disabled": False, "quarantined": False, "notes": 1, "tier_told": left is not None, "left": left}
    return Expected(released="partially_released" if left else "released", **{**known, **more})


_CONTAINED = Expected()
_ROWS: Final[dict[str, tuple[Expected, Expected]]] = {
    "siem.locate_host": (_CONTAINED, _unknown("host")),
    "siem.score_risk": (_CONTAINED, _unknown("risk")),
    "siem.find_corroboration": (_CONTAINED, _unknown("corroboration")),
    "siem.comment_incident": (_FALSE, Expected(**{**vars(_FALSE), "comments": 0, "told": "could not be commented"})),
    "directory.find_person": (_CONTAINED, _unknown("user")),
    "directory.disable_account": (_CONTAINED, _partly("disable_account", disabled=False)),
    "directory.confirm_disabled": (_CONTAINED, _partly("disable_account")),
    "endpoint.find_device": (_CONTAINED, _partly("quarantine_host", quarantined=False, told="no endpoint agent")),
    "endpoint.quarantine_host": (_CONTAINED, _partly("quarantine_host", quarantined=False)),
    "endpoint.confirm_quarantined": (_CONTAINED, _partly("quarantine_host")),
    "ticketing.open_ticket": (_CONTAINED, Expected(ticket="failed", tier_told=True, told="ticket FAILED")),
    "ticketing.add_note": (Expected(notes=1), Expected(told="could not be told")),
    "notification.notify": (
        _FALSE,
        Expected(**{**vars(_FALSE), "outcome": "unanswered", "comments": 0, "told": "FAILED"}),
    ),
    POLL: (_CONTAINED, Expected(**{**vars(_HELD), "stage": None})),
    ELECTORATE: (_FALSE, Expected(**{**vars(_FALSE), "told": "who may answer stays as configured"})),
    ELSEWHERE: (_CONTAINED, Expected(failed="disable_account", told="in_force")),
    REVOKE: (_CONTAINED, Expected(told="not revoked")),
    ATTACH: (_CONTAINED, Expected(told="record could not be attached")),
    POST: (_CONTAINED, Expected(told="channel could not be told")),
    "directory.enable_account": (_released(), _released("disable_account", disabled=True)),
    "directory.confirm_enabled": (_released(), _released("disable_account")),
    "endpoint.lift_quarantine": (_released(), _released("quarantine_host", quarantined=True)),
    "endpoint.confirm_lifted": (_released(), _released("quarantine_host")),
}


def faults_of(step: str) -> list[str]:
    """The faults that the step's protocol knows."""
    if step in MAIL:
        return [REFUSED, CONNECT_TIMEOUT, *SMTP]
    if step in DIRECTORY:
        answered = [fault for fault in LDAP if fault != ANSWER_LOST or step in _MODIFIES]
        return [REFUSED, CONNECT_TIMEOUT, *answered]
    # A reading step has no effect that could come before the loss; basic authentication and a webhook have no token,
    # and a webhook's answer is too short to drip.
    no_token = [TOKEN_EXPIRED] if step in (*TICKETING, *CHAT) else []
    left_out = {*([] if step in WRITES else [ANSWER_LOST]), *no_token, *(["slow drip"] if step in CHAT else [])}
    return [REFUSED, CONNECT_TIMEOUT, *(fault for fault in HTTP if fault not in left_out)]


STEPS: Final = (*SIEM, *DIRECTORY, *IDENTITY, *ENDPOINT, *TICKETING, *MAIL, *CHAT)
CELLS: Final = tuple(
    Cell(number, *cell)
    for number, cell in enumerate(
        (step, fault, lasting) for step in STEPS for fault in faults_of(step) for lasting in (False, True)
    )
)
