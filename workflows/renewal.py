"""A question whose facts have changed is void: another one takes its place, in the same tier's turn, and is mailed."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.guardrails import Context, evaluate
    from incident.matter import Matter, differences
    from incident.question_digest import matter_of, target_of
    from incident.record import Question, Superseded
    from incident.requests import MailKind
    from incident.telling import why_asked
    from workflows.asking import Asking
    from workflows.case import Case

MOST_SUPERSEDED = 10
"""How many void questions a case remembers, the latest ones."""


class Renewal:
    """The questions of one case that took the place of others."""

    def __init__(self, case: Case, asking: Asking) -> None:
        self._case = case
        self._asking = asking

    def renewed(self, question: Question) -> Question | None:
        """The question that stands now if what this one is about has changed, else ``None``.

        Its turn and its deadline are those of the old one; approvals were given of what is no more.
        """
        record = self._case.record
        about = matter_of(record, question.actions, self._case.policy.guardrails)
        if question.about is None:
            question.about = about
        changes = differences(question.about, about)
        if not changes:
            return None
        void = Superseded(question=question.id, digest=question.digest, at=self._case.now, changes=changes)
        record.superseded = [*record.superseded, void][-MOST_SUPERSEDED:]
        fresh = self._asking.pose(
            question.actions,
            f"{_lead(void)} {self._why(question, about)}",
            protected=question.protected,
            quorum=question.quorum,
        )
        fresh.tier, fresh.due_at, fresh.replaces = question.tier, question.due_at, question.id
        # The very list: a mail about the old question that is still under way is told there.
        fresh.asked = question.asked
        self._case.publish()
        return fresh

    async def ask_anew(self, question: Question) -> None:
        """Put the new question to everybody who was asked the old one, as far as they may still answer."""
        await self._asking.electing.read()
        names = {question.tier, *(asked.tier for asked in question.asked)}
        for tier in self._asking.tiers():
            if tier.name in names and self._case.record.question is question:
                await self._asking.tell(tier, MailKind.ASK)

    def say_why(self, question: Question) -> None:
        """Bring the question's reason to what is known now."""
        lead = _lead(self._case.record.superseded[-1]) if question.replaces and self._case.record.superseded else ""
        question.why = f"{lead} {why_asked(self._case.record)}".strip()
        self._case.publish()

    def _why(self, old: Question, about: Matter) -> str:
        if not old.protected:
            return why_asked(self._case.record)
        return f"It is still about what is held back: {'; '.join(self._reasons(about))}."

    def _reasons(self, about: Matter) -> list[str]:
        context = Context(policy=self._case.policy.guardrails)
        told = []
        for action in about.actions:
            target = target_of(self._case.record, action)
            ruling = evaluate(action, target, context) if target else None
            told.append(ruling.reason if ruling and not ruling.allows else f"{action} was held back before")
        return list(dict.fromkeys(told))


def _lead(void: Superseded) -> str:
    return f"{void.question} is void, because this changed: {'; '.join(void.changes)}."
