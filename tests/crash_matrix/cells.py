"""The matrix: each step of a case and each stage, the moment of the blow, and whom it strikes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from incident.record import Stage


class Victim(StrEnum):
    """Who is killed."""

    WORKER = "worker"
    SERVER = "server"


class Moment(StrEnum):
    """Where the step is when the blow falls.

    ``BEFORE``: a worker has it and has sent nothing. ``DURING``: the system has the request, and nothing came of it.
    ``AFTER``: the system has done it, and its answer never leaves.
    """

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class Course(StrEnum):
    """What happens in a case that nothing strikes."""

    CONTAINED = "contained at once"
    PROTECTED = "the account is disabled at once, and a person is asked about the protected host"
    DISMISSED = "a person is asked and calls it a false positive"
    UNANSWERED = "two tiers are asked in turn, and nobody answers"
    ELECTED = "a person is asked by the directory's word who may answer, and calls it a false positive"
    CONFIGURED = "contained at once by the worker's own settings, which switch on all that a case may take along"
    RELEASED = "contained at once, and released afterwards"
    POLLED = "its incident is read by the poller, and it is contained at once by the worker's own settings"
    FOLLOWED = "as dismissed, and an alert about somebody else gets the next case"


class Wait(StrEnum):
    """What a case that is paused when the blow falls waits for."""

    ANSWER_AFTER = "answered afterwards"
    ANSWER_MEANWHILE = "answered meanwhile"
    DUE_MEANWHILE = "its timer due meanwhile"
    DUE_AFTER = "its timer due afterwards"


@dataclass(frozen=True)
class Cell:
    """One case. ``number`` makes its host, its user and its mail addresses its own.

    ``held`` are the steps at which the blow finds it, ``wait`` is what it waits for where it is paused instead; a case
    with neither has come to its end before. ``stage`` is where it has to be then; ``point`` is where its steps are
    brought to before they are let go to their systems, if they are.
    """

    number: int
    row: str
    course: Course
    held: tuple[str, ...] = ()
    stage: Stage | None = None
    wait: Wait | None = None
    point: Moment = Moment.BEFORE

    @property
    def ip(self) -> str:
        """The destination address of its alert."""
        return f"10.61.0.{100 + self.number}"

    @property
    def host(self) -> str:
        """The host there."""
        return f"CM-LT-{self.number:04}"

    @property
    def account(self) -> str:
        """The account active there."""
        return f"cuser{self.number:04}"

    @property
    def employee_id(self) -> str:
        """The number of the person in the human resources' system."""
        return f"E{80000 + self.number}"

    @property
    def incident_id(self) -> str:
        """The SIEM's own incident."""
        return str(80000 + self.number)

    @property
    def case_id(self) -> str:
        """The workflow's id."""
        return f"sua-acme-{self.ip}"

    @property
    def tiers(self) -> tuple[str, str]:
        """The mail addresses of its two tiers."""
        return f"soc-{self.number:04}@acme.example", f"lead-{self.number:04}@acme.example"

    @property
    def needs_answer(self) -> bool:
        """Whether somebody answers in the course of it."""
        return self.course in (Course.PROTECTED, Course.DISMISSED, Course.ELECTED, Course.FOLLOWED)

    @property
    def configured(self) -> bool:
        """Whether its settings are those of the worker."""
        return self.course in (Course.CONFIGURED, Course.POLLED)

    @property
    def rule(self) -> str:
        """The policy of its alert. What the poller takes has one of its own: it is told of every case's incident."""
        return POLLED_RULE if self.course is Course.POLLED else RULE

    @property
    def other_alert(self) -> str:
        """The id of the alert about somebody else at its address."""
        return f"CM-{self.number:04}-OTHER"


RULE: Final = "Large data transfer from web server"
POLLED_RULE: Final = "Large data transfer from file server"

STEPS: Final[dict[str, Course]] = {
    "siem.locate_host": Course.CONTAINED,
    "directory.find_person": Course.CONTAINED,
    "endpoint.find_device": Course.CONTAINED,
    "siem.score_risk": Course.CONTAINED,
    "siem.find_corroboration": Course.CONTAINED,
    "endpoint.quarantine_host": Course.CONTAINED,
    "directory.disable_account": Course.CONTAINED,
    "endpoint.confirm_quarantined": Course.CONTAINED,
    "directory.confirm_disabled": Course.CONTAINED,
    "ticketing.open_ticket": Course.CONTAINED,
    "ticketing.add_note": Course.PROTECTED,
    "siem.comment_incident": Course.DISMISSED,
    "notification.notify": Course.DISMISSED,
    "case.snapshot_policy": Course.CONFIGURED,
    "case.find_earlier": Course.CONTAINED,
    "directory.find_electorate": Course.ELECTED,
    "directory.confirm_elsewhere": Course.CONTAINED,
    "ledger.reserve": Course.CONFIGURED,
    "identity.revoke_sign_ins": Course.CONFIGURED,
    "record.attach": Course.CONFIGURED,
    "chat.post": Course.CONFIGURED,
    "case.containment_of": Course.RELEASED,
    "directory.enable_account": Course.RELEASED,
    "directory.confirm_enabled": Course.RELEASED,
    "endpoint.lift_quarantine": Course.RELEASED,
    "endpoint.confirm_lifted": Course.RELEASED,
    "siem.take_incidents": Course.POLLED,
    "case.open_next": Course.FOLLOWED,
}
"""Every step, and a course on which it is taken."""

ASKS_FIRST: Final = ("notification.notify", "directory.find_electorate")
"""The steps before a question stands: a case that is held there cannot be answered yet."""

SPENT: Final[dict[tuple[str, Victim, Moment], str]] = {
    **{
        ("chat.post", Victim.SERVER, moment): "same, its line once or twice, or said to be doubtful"
        for moment in Moment
    },
    ("directory.find_electorate", Victim.SERVER, Moment.AFTER): "same, or put to those configured, and it says so",
}
"""Where a step's own short budget may be spent before the server is back, and what that leaves open."""

_WRITES = ("endpoint.quarantine_host", "directory.disable_account")
_CONFIRMS = ("endpoint.confirm_quarantined", "directory.confirm_disabled")
_MAIL = ("notification.notify",)
_HOLDS = Stage.AWAITING_DECISION
_STAGES: Final[tuple[tuple[Any, ...], ...]] = (
    ("`enriching`", Course.CONTAINED, ("directory.find_person",), Stage.ENRICHING),
    ("`triaging`", Course.CONTAINED, ("siem.score_risk", "siem.find_corroboration"), Stage.TRIAGING),
    ("`awaiting_decision`, the mail out and told", Course.DISMISSED, _MAIL, _HOLDS, None, Moment.AFTER),
    *((f"`awaiting_decision`, {wait}", Course.DISMISSED, (), _HOLDS, wait) for wait in list(Wait)[:2]),
    *((f"`awaiting_decision`, {wait}", Course.UNANSWERED, (), _HOLDS, wait) for wait in list(Wait)[2:]),
    ("`containing`, both actions under way", Course.CONTAINED, _WRITES, Stage.CONTAINING),
    ("`verifying`, both actions done", Course.CONTAINED, _CONFIRMS, Stage.VERIFYING),
    ("`verifying`, the ticket on its way", Course.CONTAINED, ("ticketing.open_ticket",), Stage.VERIFYING),
    ("`closed`; its alert comes once more", Course.CONTAINED, (), Stage.CLOSED),
)
STAGES: Final = tuple(stage[0] for stage in _STAGES)


def control(course: Course) -> Cell:
    """The case of that course that nothing strikes: what the others are held against."""
    return Cell(list(Course).index(course), "undisturbed", course)


def cells(victim: Victim, moment: Moment) -> list[Cell]:
    """The cases that one blow meets. The stages stand beside the steps that have sent nothing."""
    first = len(Course)
    made = [Cell(first + n, step, course, (step,)) for n, (step, course) in enumerate(STEPS.items())]
    if moment is Moment.BEFORE:
        first += len(made)
        made += [Cell(first + n, *stage) for n, stage in enumerate(_STAGES)]
    # Without a server nobody can answer.
    return [cell for cell in made if not (victim is Victim.SERVER and cell.wait is Wait.ANSWER_MEANWHILE)]
