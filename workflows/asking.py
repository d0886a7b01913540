"""Writing to the tiers on a case's behalf: the hold point's questions, and what the tiers have to be told."""

from __future__ import annotations

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.decision import Answer, DecisionName, Electorate
    from incident.policy import Tier
    from incident.quorum import approved, obtainable, tiers_of
    from incident.record import Approved, Asked, Question
    from incident.requests import MailKind, Notice
    from incident.telling import mail_context
    from incident.triage import ActionName
    from workflows import steps
    from workflows.case import Case
    from workflows.ticket import CaseTicket

_NOBODY = "nobody left"


class Asking:
    """The questions of one case (the hold point's ``Asker``), and the mail to its tiers."""

    def __init__(self, case: Case, ticket: CaseTicket) -> None:
        self._case = case
        self._ticket = ticket

    def electorate(self) -> Electorate:
        """Who may answer, by what the directory knows just now."""
        user = self._case.record.user.value
        return Electorate.of(self._case.policy.tiers, user, user.managers if user else ())

    def tiers(self) -> tuple[Tier, ...]:
        """The tiers to ask. Where nobody is left of any, one stands for the wait before the declared default."""
        configured = self._case.policy.tiers
        left = self.electorate().remaining(configured)
        return left or (Tier(name=_NOBODY, recipients=(), analysts=(), wait=configured[-1].wait),)

    def pose(self, actions: tuple[ActionName, ...], why: str, *, protected: bool, quorum: int = 1) -> Question:
        """Put a new question; the hold point's first turn completes it."""
        record = self._case.record
        record.questions_asked += 1
        identifier = f"{record.reference}-Q{record.questions_asked}"
        now = self._case.now
        record.question = Question(
            id=identifier,
            posed_at=now,
            actions=actions,
            tier=_NOBODY,
            due_at=now,
            why=why,
            protected=protected,
            quorum=quorum,
        )
        self._case.note(f"question {identifier}: {why}", source="question")
        return record.question

    def objection(self, answer: Answer, question: Question) -> str | None:
        """Why an approval does not count beside those that were given, or ``None``."""
        if question.quorum < 2 or answer.decision is not DecisionName.CONTAIN:
            return None
        if self.possible(question.quorum) is not None:
            return self.possible(question.quorum)
        given = {approval.analyst.casefold() for approval in question.approvals}
        if answer.analyst.casefold() in given:
            return f"{answer.analyst} has approved {question.id} already; somebody of another tier has to as well"
        return None

    def possible(self, quorum: int) -> str | None:
        """Why so many approvers of as many tiers cannot be had, or ``None``."""
        if quorum < 2 or obtainable(self.electorate().remaining(self._case.policy.tiers)):
            return None
        return "the policy wants approvers of two different tiers, and there are none: this is left for hands"

    def enough(self, answer: Answer, question: Question) -> bool:
        """Count an answer in; tells whether it decides. Anybody may decide against, alone."""
        if question.quorum < 2 or answer.decision is not DecisionName.CONTAIN:
            return True
        given = Approved(
            analyst=answer.analyst,
            tiers=tiers_of(answer.analyst, self._case.policy.tiers),
            actions=tuple(action for action in answer.chosen if action in question.actions),
            reason=answer.reason,
            at=self._case.now,
        )
        question.approvals.append(given)
        self._case.publish()
        return bool(approved(question.approvals))

    async def second(self, question: Question) -> None:
        """Ask those who have not approved yet: a second approver, of another tier."""
        given = question.approvals[-1]
        question.why = f"{question.why} {given.analyst} approved; somebody of another tier has to as well."
        self._case.publish()
        for tier in self.tiers():
            if tier.name not in given.tiers:
                await self.tell(tier, MailKind.ASK)

    def turn(self, tier: Tier, due_at: datetime, *, escalated: int) -> None:
        """It is this tier's turn. The first escalation raises the priority one level."""
        case, question = self._case, self._case.record.question
        if question is None:
            return
        if escalated and question.tier != tier.name:
            case.note(f"{question.tier} did not answer; {tier.name} is asked", source="deadline")
        if escalated == 1 and question.tier != tier.name:
            case.record.raise_priority(case.record.priority.raised(), "nobody answered in time", case.now)
        question.tier, question.due_at = tier.name, due_at
        case.publish()

    async def tell(self, tier: Tier, kind: MailKind) -> None:
        """Mail the standing question to the tier, and record what became of the mail."""
        question = self._case.record.question
        recipients = tuple(mail for mail in tier.recipients if not self.electorate().excludes(mail))
        if question is not None and recipients:
            asked = tier.model_copy(update={"recipients": recipients})
            await self._mail(asked, kind, f"{question.id}-{tier.name}", question)

    async def exhausted(self) -> None:
        """Everybody was asked and the question stays: the ticket says so."""
        self._case.note("nobody answered; the question stays and the last tier is asked again", source="deadline")
        await self._ticket.open("Nobody has answered so far; the case keeps asking.")

    async def withdraw(self, question: Question, why: str) -> None:
        """Tell everybody who was asked that the question is withdrawn."""
        names = {asked.tier for asked in question.asked}
        for tier in self.tiers():
            if tier.name in names:
                await self._mail(tier, MailKind.WITHDRAWN, f"{question.id}-{tier.name}", question, why)

    async def tell_tier(self, what: str) -> None:
        """Tell the first tier that is left something that it has to do by hand."""
        tier = self.tiers()[0]
        if tier.recipients:
            await self._mail(tier, MailKind.NOTICE, "notice", None, what)

    async def _mail(
        self, tier: Tier, kind: MailKind, what: str, question: Question | None, changed: str | None = None
    ) -> None:
        case = self._case
        case.record.mails_sent += 1
        first = case.record.mails_sent == 1
        context = mail_context(case.record, case.policy, tier=tier.name, what_changed=changed)
        notice = Notice(
            kind=kind,
            key=case.record.key if first else f"{case.record.key}-{what}-{case.record.mails_sent}",
            thread=None if first else case.record.key,
            case_ref=case.record.reference,
            recipients=tier.recipients,
            context=context.model_dump(mode="json"),
        )
        refused: dict[str, str] = {}
        failed = None
        try:
            refused = (await steps.notify(notice, tier.wait)).refused
        except ActivityError as error:
            failed = steps.reason_of(error)
        if question is not None:
            asked = Asked(
                tier=tier.name,
                kind=kind,
                at=case.now,
                recipients=tier.recipients,
                refused=refused,
                failed=failed,
            )
            question.asked.append(asked)
        trouble = failed or "; ".join(f"{who} refused: {why}" for who, why in refused.items())
        case.note(f"mail ({kind}) to {tier.name}: {f'FAILED: {trouble}' if trouble else 'sent'}", source="mail")
        case.publish()
