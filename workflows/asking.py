"""Writing to the tiers on a case's behalf: the hold point's questions, and what the tiers have to be told."""

from __future__ import annotations

import asyncio
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.decision import Answer, DecisionName, Electorate
    from incident.policy import Tier
    from incident.question_digest import digest_of, matter_of
    from incident.quorum import approved, obtainable, tiers_of
    from incident.record import Approved, Asked, Decision, Question
    from incident.requests import AnswerLinks, MailKind, Notice
    from incident.telling import clock, mail_context
    from incident.triage import ActionName
    from workflows import policies, steps
    from workflows.case import Case
    from workflows.electing import Electing
    from workflows.late_mail import LateMail
    from workflows.ticket import CaseTicket

_NOBODY = "nobody left"


class Asking:
    """The questions of one case (the hold point's ``Asker``), and the mail to its tiers."""

    def __init__(self, case: Case, ticket: CaseTicket) -> None:
        self._case = case
        self._ticket = ticket
        self._late: list[asyncio.Task[None]] = []
        self.electing = Electing(case)

    @property
    def idle(self) -> bool:
        """Whether no mail is still to be sent again."""
        return all(task.done() for task in self._late)

    def electorate(self) -> Electorate:
        """Who may answer, by what is known just now."""
        return self.electing.electorate()

    def tiers(self) -> tuple[Tier, ...]:
        """The tiers to ask. Where nobody is left of any, one stands for the wait before the declared default."""
        configured = self.electing.tiers()
        left = self.electorate().remaining(configured)
        return left or (Tier(name=_NOBODY, recipients=(), analysts=(), wait=configured[-1].wait),)

    def pose(self, actions: tuple[ActionName, ...], why: str, *, protected: bool, quorum: int = 1) -> Question:
        """Put a new question; the hold point's first turn completes it."""
        record = self._case.record
        record.questions_asked += 1
        identifier = f"{record.reference}-Q{record.questions_asked}"
        now = self._case.now
        about = matter_of(record, actions, self._case.policy.guardrails)
        record.question = Question(
            id=identifier,
            posed_at=now,
            actions=actions,
            tier=_NOBODY,
            due_at=now,
            why=why,
            protected=protected,
            quorum=quorum,
            digest=digest_of(record.key, identifier, about),
            about=about,
        )
        self._case.note(f"question {identifier}: {why}", source="question")
        return record.question

    def objection(self, answer: Answer, question: Question) -> str | None:
        """Why an approval does not count beside those that were given, or ``None``."""
        if question.quorum < 2 or answer.decision is not DecisionName.CONTAIN:
            return None
        if self.possible(question.quorum) is not None:
            return self.possible(question.quorum)
        electorate = self.electorate()
        if any(electorate.same_person(answer.analyst, approval.analyst) for approval in question.approvals):
            return f"{answer.analyst} has approved {question.id} already; somebody of another tier has to as well"
        return None

    def possible(self, quorum: int) -> str | None:
        """Why so many approvers of as many tiers cannot be had, or ``None``."""
        if quorum < 2 or obtainable(self.electorate().remaining(self.electing.tiers())):
            return None
        return "the policy wants approvers of two different tiers, and there are none: this is left for hands"

    def enough(self, answer: Answer, question: Question) -> bool:
        """Count an answer in; tells whether it decides. Anybody may decide against, alone."""
        if question.quorum < 2 or answer.decision is not DecisionName.CONTAIN:
            return True
        given = Approved(
            analyst=answer.analyst,
            tiers=tiers_of(answer.analyst, self.electing.tiers()),
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

    async def answered(self, question: Question, decision: Decision) -> None:
        """Tell the tiers that were asked who answered. Whoever is of one tier alone has told that one by answering."""
        own = tiers_of(decision.analyst or "", self.electing.tiers())
        asked = {question.tier, *(asked.tier for asked in question.asked)} - ({*own} if len(own) == 1 else set())
        said = f"{decision.who} answered {decision.decision} at {clock(decision.at)}: {decision.reason}"
        for tier in self.tiers():
            if tier.name in asked and tier.recipients:
                await self._mail(_briefly(tier), MailKind.ANSWERED, f"{question.id}-{tier.name}", question, said)

    async def dissent(self, answer: Answer, decision: Decision) -> None:
        """Tell the last tier that is left who disagrees with what was decided."""
        tier = self.tiers()[-1]
        others = tuple(mail for mail in tier.recipients if mail.casefold() != answer.analyst.casefold())
        said = (
            f"{decision.decision} was decided by {decision.who} at {clock(decision.at)}: {decision.reason}. "
            f"{answer.analyst} disagrees and says {answer.decision}: {answer.reason}. "
            "The decision stands; whether it should is yours to settle."
        )
        if others:
            told = _briefly(tier.model_copy(update={"recipients": others}))
            await self._mail(told, MailKind.NOTICE, "dissent", None, said)

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
        info, asks = workflow.info(), question if changed is None else None
        context = mail_context(
            case.record,
            case.policy,
            tier=tier.name,
            now=case.now,
            what_changed=changed,
            namespace=info.namespace,
        )
        notice = Notice(
            kind=kind,
            key=case.record.key if first else f"{case.record.key}-{what}-{case.record.mails_sent}",
            thread=None if first else case.record.key,
            case_ref=case.record.reference,
            recipients=tier.recipients,
            context=context.model_dump(mode="json"),
            link=self._link(asks, tier.recipients) if asks else None,
        )
        refused: dict[str, str] = {}
        deferred: dict[str, str] = {}
        failed = None
        try:
            delivery = await steps.notify(notice, tier.wait)
            refused, deferred = delivery.refused, delivery.deferred
        except ActivityError as error:
            failed = steps.reason_of(error)
        if question is not None:
            asked = Asked(
                tier=tier.name,
                kind=kind,
                at=case.now,
                recipients=tier.recipients,
                refused={**refused, **deferred},
                failed=failed,
            )
            question.asked.append(asked)
        trouble = failed or "; ".join(f"{who} refused: {why}" for who, why in refused.items())
        later = f"; put off, and tried again: {', '.join(deferred)}" if deferred else ""
        case.note(f"mail ({kind}) to {tier.name}: {f'FAILED: {trouble}' if trouble else 'sent'}{later}", source="mail")
        case.publish()
        if deferred:
            late = LateMail(
                case,
                notice,
                lambda: asks is None or case.record.question is asks,
                question.asked if question else [],
            )
            # Half of the wait: then the reminder is due. Beside the rest: the next tier's mail does not wait for it.
            sending = asyncio.create_task(late.deliver(deferred, tier.wait / 2))
            self._late.append(sending)
            if question is None:
                await sending

    def _link(self, question: Question, recipients: tuple[str, ...]) -> AnswerLinks | None:
        """What the recipients' own links to the question are made of, if it is one that a link can answer."""
        if not question.digest:
            return None
        electorate = self.electorate()
        return AnswerLinks(
            case_id=self._case.record.case_id,
            run_id=workflow.info().run_id,
            question=question.id,
            digest=question.digest,
            analysts=tuple(mail for mail in recipients if electorate.objection(mail) is None),
        )


def _briefly(tier: Tier) -> Tier:
    """The tier, for a mail that the case does not stay open for as long as for an answer."""
    return tier.model_copy(update={"wait": min(tier.wait, policies.TOLD_BUDGET)})
