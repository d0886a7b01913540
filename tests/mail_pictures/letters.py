"""Mails as the runbook writes them, for every case in which one reads differently."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from activities.answer_links import LinkMaker
from activities.mail_text import Addressed, compose
from incident.evidence import Corroboration, Fact, Host, Person, Risk
from incident.record import Approved, Asked, CaseRecord, Question
from incident.requests import AnswerLinks, MailKind, Notice
from incident.telling import mail_context
from incident.triage import CONTAIN, RiskLevel
from integrations.interfaces import Mail
from tests.unit.builders import AT, device, person, policy, record, tier

DESK = "https://holdpoint.corp.example.com"
ANN, OKE, MAILBOX = "ann.andersson@corp.example.com", "c.okafor@corp.example.com", "soc@corp.example.com"
LONG = "finance-workstation-of-the-northern-branch-0042"
LONGEST = "w" * 63


def maker(clock: datetime = AT) -> LinkMaker:
    """The desk, at a time that stands still."""
    return LinkMaker(DESK, "k" * 40, timedelta(hours=24), clock=lambda: clock)


def case(*, host: str = "ws-042", account: str = "jdoe") -> CaseRecord:
    """A medium risk and no corroboration: the question of every night."""
    found = record()
    found.host = Fact[Host].of(Host(name=host, ip="10.20.30.40"), "Securonix", AT)
    who = person(account=account, display_name="Jane Doe", title="Accountant", department="Finance")
    found.user = Fact[Person].of(who, "Active Directory", AT)
    found.device = Fact.of(device(hostname=host), "CrowdStrike Falcon", AT)
    found.risk, found.risk_level = Fact.of(Risk(score=41.5, documents=1), "Securonix", AT), RiskLevel.MEDIUM
    found.corroboration = Fact[Corroboration].unknown("Securonix did not answer within 2 minutes", "Securonix", AT)
    found.question = Question(
        id=f"{found.reference}-Q1",
        actions=CONTAIN,
        tier="analyst",
        due_at=AT + timedelta(minutes=15),
        why="Risk is medium, and further alerts are not known: Securonix did not answer within 2 minutes.",
        digest="5f0c" * 16,
    )
    return found


def letter(
    kind: MailKind = MailKind.ASK,
    given: CaseRecord | None = None,
    *,
    to: str = ANN,
    after: timedelta = timedelta(0),
    desk: bool = True,
    changed: str | None = None,
) -> Mail:
    """The mail of that kind to one person; ``after`` is how long the case has asked already."""
    known = given or case()
    tiers = (tier("analyst", ANN), tier("on-call", OKE), tier("SOC lead", "d.moreau@corp.example.com"))
    about = mail_context(
        known,
        policy(tiers=tiers),
        tier=known.question.tier if known.question else "analyst",
        now=AT + after,
        what_changed=changed,
        namespace="soc",
    )
    notice = Notice(
        kind=kind,
        key="hp-1",
        thread=None,
        case_ref=known.reference,
        recipients=(to, MAILBOX),
        context=about.model_dump(mode="json"),
        link=_link(known) if changed is None else None,
    )
    links = maker(AT + after)
    addressed = Addressed(to, links.case_page(known.case_id), links.answer(notice.link, to)) if desk else None
    return compose(notice, sender_domain="corp.example.com", to=addressed)


def _link(known: CaseRecord) -> AnswerLinks | None:
    question = known.question
    if question is None:
        return None
    run = "0194d1f2-7c1b-7a3e-9a40-1c5d5e6f7a8b"
    about: dict[str, Any] = {"case_id": known.case_id, "run_id": run, "question": question.id}
    return AnswerLinks(**about, digest=question.digest, analysts=(ANN, OKE))


def reminder() -> Mail:
    """Half of the wait is over."""
    known = case()
    assert known.question
    known.question.asked.append(Asked(tier="analyst", kind="ask", at=AT, recipients=(ANN,)))
    return letter(MailKind.REMIND, known, after=timedelta(minutes=7, seconds=30))


def escalation() -> Mail:
    """The first tier did not answer."""
    known = case()
    assert known.question
    known.question.asked.append(Asked(tier="analyst", kind="ask", at=AT, recipients=(ANN,)))
    known.question.tier, known.question.due_at = "on-call", AT + timedelta(minutes=45)
    return letter(MailKind.ESCALATE, known, to=OKE, after=timedelta(minutes=15))


def approval() -> Mail:
    """Somebody protected: one has approved, and one of another tier has to."""
    known = case()
    assert known.question
    asked = known.question
    asked.protected, asked.quorum, asked.actions = True, 2, CONTAIN[1:]
    asked.why = (
        "Protected, so people decide about this alone: jdoe is on the list of protected accounts."
        f" {ANN} approved; somebody of another tier has to as well."
    )
    asked.asked.append(Asked(tier="analyst", kind="ask", at=AT, recipients=(ANN,)))
    asked.approvals.append(
        Approved(
            analyst=ANN,
            tiers=("analyst",),
            actions=CONTAIN[1:],
            reason="Seen on the phone",
            at=AT + timedelta(minutes=4),
        )
    )
    asked.tier, asked.due_at = "on-call", AT + timedelta(minutes=34)
    return letter(MailKind.ASK, known, to=OKE, after=timedelta(minutes=4))


LETTERS: dict[str, Callable[[], Mail]] = {
    "ask": letter,
    "remind": reminder,
    "escalate": escalation,
    "two-approvers": approval,
    "mailbox": lambda: letter(to=MAILBOX),
    "no-desk": lambda: letter(desk=False),
    "withdrawn": lambda: letter(MailKind.WITHDRAWN, changed="The question is withdrawn: risk is high, corroborated."),
    "long-names": lambda: letter(given=case(host=LONG, account="a.very.long.account.name-external")),
    "longest-names": lambda: letter(given=case(host=LONGEST, account=LONGEST)),
}
"""Every mail, by the name of its picture."""

ASKING = ("ask", "remind", "escalate", "two-approvers", "long-names", "longest-names")
"""Those with buttons."""
