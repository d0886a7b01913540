"""The matrix: every step that talks to a system, every fault that its protocol knows, once and for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

SIEM = ("siem.locate_host", "siem.score_risk", "siem.find_corroboration", "siem.comment_incident")
ENDPOINT = ("endpoint.find_device", "endpoint.quarantine_host", "endpoint.confirm_quarantined")
TICKETING = ("ticketing.open_ticket", "ticketing.add_note")
DIRECTORY = ("directory.find_person", "directory.disable_account", "directory.confirm_disabled")
MAIL = ("notification.notify",)

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
}
"""The request of a writing step that meets the fault; of a reading step, it is the data and not the login."""

READS: Final = {"siem": "/spotter/", "endpoint": "/devices/", "ticketing": "/api/now/table"}

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
        return self.step.partition(".")[0]

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
        return self.step in WRITES or self.step == "directory.disable_account"

    @property
    def recovers(self) -> bool:
        """Whether the case has to end as if nothing had been: the fault passed, or the effect shows at the retry."""
        return not self.lasting or (self.writes and self.fault in _HAS_EFFECT)

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
    def tiers(self) -> tuple[str, str]:
        """The mail addresses of its two tiers."""
        return f"soc-{self.number}@acme.example", f"lead-{self.number}@acme.example"


@dataclass(frozen=True)
class Expected:
    """What the design names for a cell. ``unknown`` is the fact that is not known, ``told`` is in the timeline.

    ``stage`` is ``closed`` or ``awaiting_decision``; the counts are what the stand-ins hold of the case.
    """

    outcome: str | None = "contained"
    stage: str = "closed"
    disabled: bool = True
    quarantined: bool = True
    ticket: str | None = "open"
    notes: int = 0
    comments: int = 0
    unknown: str | None = None
    failed: str | None = None
    tier_told: bool = False
    told: str | None = None


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
}


def faults_of(step: str) -> list[str]:
    """The faults that the step's protocol knows."""
    if step in MAIL:
        return [REFUSED, CONNECT_TIMEOUT, *SMTP]
    if step in DIRECTORY:
        answered = [fault for fault in LDAP if fault != ANSWER_LOST or step == "directory.disable_account"]
        return [REFUSED, CONNECT_TIMEOUT, *answered]
    # A reading step has no effect that could come before the loss; basic authentication has no token.
    left_out = {*([] if step in WRITES else [ANSWER_LOST]), *([TOKEN_EXPIRED] if step in TICKETING else [])}
    return [REFUSED, CONNECT_TIMEOUT, *(fault for fault in HTTP if fault not in left_out)]


STEPS: Final = (*SIEM, *DIRECTORY, *ENDPOINT, *TICKETING, *MAIL)
CELLS: Final = tuple(
    Cell(number, *cell)
    for number, cell in enumerate(
        (step, fault, lasting) for step in STEPS for fault in faults_of(step) for lasting in (False, True)
    )
)
