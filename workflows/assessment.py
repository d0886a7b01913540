"""Triage: the risk, what corroborates it, and the row of the table that holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.evidence import Corroboration, Fact, Risk
    from incident.triage import ActionName, RiskLevel, Verdict, decide, raise_for_risk
    from workflows import steps
    from workflows.case import Case
    from workflows.enrichment import Enrichment, same_host, same_person


class Assessment:
    """The row of the table for one case, and the priority that goes with it."""

    def __init__(self, case: Case, enrichment: Enrichment) -> None:
        self._case = case
        self._enrichment = enrichment

    async def assess(self, *, by_the_clock: bool = False) -> Verdict:
        """Take the row of the table. Risk raises the priority before corroboration is asked for its answer.

        What is only looked at ``by_the_clock`` lets other cases go first.
        """
        with steps.urgent(by_the_clock=by_the_clock):
            corroborating = asyncio.create_task(self._enrichment.corroboration())
            self._learn_risk(await self._enrichment.risk())
            return self._verdict(await corroborating)

    async def again(
        self,
        actions: tuple[ActionName, ...],
        settled: Callable[[], bool],
        busy: Callable[[], bool],
        *,
        by_the_clock: bool,
    ) -> Verdict | None:
        """Look at targets and evidence again, and take in what was found all at once; ``None`` if that is too late.

        Whoever answers meanwhile answers about what was asked: an answer that is being weighed (``busy``) comes first,
        and once the question is ``settled`` nothing is changed any more. ``by_the_clock`` as in ``assess``.
        """
        record = self._case.record
        with steps.urgent(by_the_clock=by_the_clock):
            fresh = await self._enrichment.targets(actions)
            risk, corroboration = await asyncio.gather(
                self._enrichment.risk(fresh.user), self._enrichment.corroboration(fresh.host, fresh.user)
            )
        await workflow.wait_condition(lambda: not busy())
        if settled():
            return None
        # What was known of another person or host says nothing of this one.
        if not same_person(record.user, fresh.user):
            record.risk = risk
        if not same_person(record.user, fresh.user) or not same_host(record.host, fresh.host):
            record.corroboration = corroboration
        self._enrichment.take(fresh)
        self._learn_risk(risk)
        return self._verdict(corroboration)

    def _verdict(self, corroboration: Fact[Corroboration]) -> Verdict:
        record = self._case.record
        record.corroboration = _newer(record.corroboration, corroboration)
        verdict = decide(record.priority, record.risk_level or RiskLevel.UNKNOWN, record.corroborated)
        if not verdict.holds:
            record.raise_priority(verdict.priority, "corroborated by further alerts or events", self._case.now)
        self._case.publish()
        return verdict

    def _learn_risk(self, risk: Fact[Risk]) -> None:
        record = self._case.record
        record.risk = _newer(record.risk, risk)
        level = self._case.policy.level(record.risk)
        raises = raise_for_risk(record.priority, level)
        if level is not record.risk_level:
            self._case.note(f"risk is {level}" + ("" if record.risk.known else f": {record.risk.reason}"))
        record.risk_level = level
        if raises is not record.priority and not record.raised_for_risk:
            record.raise_priority(raises, f"risk is {level}", self._case.now)
        record.raised_for_risk = record.raised_for_risk or level in (RiskLevel.MEDIUM, RiskLevel.HIGH)
        self._case.publish()


def _newer(old: Fact[Any], new: Fact[Any]) -> Fact[Any]:
    """A read that failed does not unlearn what was known."""
    return new if new.known or not old.known else old
