"""What was decided and on whose word: the table's, an analyst's, or the declared default's."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.decision import Answer, DecisionName
    from incident.policy import OnUnanswered
    from incident.quorum import approved
    from incident.record import DecidedBy, Decision, Question
    from incident.triage import CONTAIN, ActionName, Verdict
    from workflows.case import Case

_DEFAULTS: dict[OnUnanswered, tuple[ActionName, ...]] = {
    OnUnanswered.CONTAIN: CONTAIN,
    OnUnanswered.DISABLE_ACCOUNT: (ActionName.DISABLE_ACCOUNT,),
}


class Decisions:
    """The decisions of one case; the latest stands in its record."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def by_table(self, verdict: Verdict) -> Decision:
        """The row of the table contains without a person."""
        reason = f"risk is {self._case.record.risk_level}, and further alerts or events corroborate it"
        return self._made(
            Decision(
                decision=DecisionName.CONTAIN,
                by=DecidedBy.TABLE,
                reason=reason,
                actions=verdict.actions,
                at=self._case.now,
            )
        )

    def by_analyst(self, answer: Answer, question: Question) -> Decision:
        """The first valid answer; it asks for nothing that its question did not, nor that another approver did not."""
        wanted = answer.chosen if question.quorum < 2 else tuple(set(answer.chosen) & set(approved(question.approvals)))
        chosen = [action for action in CONTAIN if action in wanted and action in question.actions]
        return self._made(
            Decision(
                decision=answer.decision,
                by=DecidedBy.ANALYST,
                analyst=answer.analyst,
                reason=answer.reason,
                actions=tuple(chosen),
                question=question.id,
                approvals=tuple(approval.analyst for approval in question.approvals),
                at=self._case.now,
            )
        )

    def by_default(self, question: Question) -> Decision:
        """Nobody answered. What is protected is left alone whatever the default says."""
        declared = self._case.policy.on_unanswered
        actions = () if question.protected else _DEFAULTS.get(declared, ())
        return self._made(
            Decision(
                decision=declared if actions else OnUnanswered.CLOSE,
                by=DecidedBy.DEFAULT,
                reason="nobody answered in time",
                actions=actions,
                question=question.id,
                at=self._case.now,
            )
        )

    def _made(self, decision: Decision) -> Decision:
        self._case.record.decision = decision
        self._case.measures.decided(decision.decision, decision.by)
        actor = decision.analyst or f"the {decision.by}"
        told = f"decided: {decision.decision} by {decision.who}: {decision.reason}"
        self._case.note(told, actor=actor, source="decision")
        return decision
