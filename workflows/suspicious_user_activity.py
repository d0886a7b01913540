"""The runbook for a large transfer to an internal host. It reads like the decision table, from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from incident.cadence import Cadence
    from incident.decision import AnswerRefused, DecisionName
    from incident.desk import desk_view
    from incident.policy import Approval, OnUnanswered
    from incident.queues import Integration
    from incident.record import Decision, Outcome, Stage
    from incident.requests import SnapshotPolicy
    from incident.sealing import exported
    from incident.telling import clock, timeline, why_asked
    from incident.triage import CONTAIN, ActionName, Verdict
    from workflows import policies, steps
    from workflows.answering import Answering
    from workflows.asking import Asking
    from workflows.assessment import Assessment
    from workflows.case import NO_ALERT, Case, CaseInput
    from workflows.closing import Closing
    from workflows.containment import Containment, next_group
    from workflows.decisions import Decisions
    from workflows.earlier import first_unanswered
    from workflows.enrichment import Enrichment
    from workflows.hold_point import Ending, HoldPoint, first_of
    from workflows.joining import Joining
    from workflows.next_case import begin_next
    from workflows.renewal import Renewal
    from workflows.ticket import CaseTicket

_ABSENT: Any = None
"""The input of a case that was started without any: were it missing, its task would fail for ever."""


@workflow.defn(name="SuspiciousUserActivity")
class SuspiciousUserActivity:
    """One case: enrich, triage, contain or hold, verify, ticket, close."""

    @workflow.init
    def __init__(self, given: CaseInput = _ABSENT) -> None:
        self._case = Case(given or NO_ALERT)
        self._record = self._case.record
        self._enrichment = Enrichment(self._case)
        self._ticket = CaseTicket(self._case)
        self._asking = Asking(self._case, self._ticket)
        self._containment = Containment(self._case)
        self._decisions = Decisions(self._case)
        self._assessment = Assessment(self._case, self._enrichment)
        self._answering = Answering(self._case, self._asking, self._beside)
        self._renewal = Renewal(self._case, self._asking)
        self._closing = Closing(self._case, self._ticket, self._asking)
        self._holding: HoldPoint | None = None
        resumed = given is not None and given.resumed is not None
        self._joining = Joining(
            self._case, self._hurry, self._tell_tier, resumed=resumed, unseen=given.unseen if resumed else 0
        )
        self._errands: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, given: CaseInput = _ABSENT) -> dict[str, Any]:
        """Run the case to its outcome; returns what the query ``status`` answers."""
        if given is _ABSENT:
            raise ApplicationError("started without an alert", type="AlertRefused", non_retryable=True)
        try:
            return await self._to_the_end(given)
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            await self._closing.say_what_stays()
            await workflow.wait_condition(workflow.all_handlers_finished)
            await self._open_next()
            raise

    async def _to_the_end(self, given: CaseInput) -> dict[str, Any]:
        outcome = await self._respond(given)
        await asyncio.gather(*self._errands)
        self._record.outcome = outcome
        await self._closing.hand_over()
        self._case.measures.closed(outcome)
        self._case.note(f"case closed: {outcome}")
        self._case.enter(Stage.CLOSED)
        await self._case.channel.finished()
        await workflow.wait_condition(self._quiet)
        while await self._open_next():
            await workflow.wait_condition(self._quiet)
        self._record.tell_joined(self._case.now)
        return self._record.result()

    async def _open_next(self) -> bool:
        """Hand on the alerts about somebody else, if there are any. Handed on twice they open one case."""
        others = self._joining.left_over()
        await begin_next(self._case, others)
        self._joining.handed(len(others))
        return bool(others)

    def _quiet(self) -> bool:
        """Whether nobody waits for a receipt, all that came is read, and nothing is under way beside the case."""
        done = all(errand.done() for errand in self._errands)
        return workflow.all_handlers_finished() and self._joining.idle and done

    def _beside(self, errand: Coroutine[Any, Any, None]) -> None:
        self._errands.append(asyncio.create_task(errand))

    async def _respond(self, given: CaseInput) -> Outcome:
        if not self._case.has_policy:
            request = SnapshotPolicy(case_id=self._record.case_id)
            self._case.adopt(await steps.snapshot_policy(request, policies.OWN_BUDGET))
        if given.resumed:
            decision = await self._hold(CONTAIN, why_asked(self._record))
        elif await self._enrich():
            decision = await self._decide(await self._triage())
        else:
            return Outcome.DUPLICATE
        while not decision.actions:
            outcome = await self._untouched(decision)
            await workflow.wait_condition(lambda: self._joining.idle)
            if not self._joining.unseen:
                return outcome
            news = self._joining.news or not self._case.policy.looks_apart
            told = "after the decision" if news else "since the last look"
            self._case.note(f"an alert joined {told}, so the case looks again before it closes")
            verdict = await self._look()
            if verdict.holds and not news:
                return outcome
            decision = await self._decide(verdict)
        await self._containment.contain(decision, decision.actions)
        # Beside the rest: a ticket system that is down must not keep a person from being asked.
        telling = asyncio.create_task(self._tell_ticket())
        while held := next_group(self._containment.held):
            decision = await self._decide_about_held(decision, *held)
        await telling
        if await self._containment.settled():
            await self._ticket.tell(f"What was still out: {self._closing.what_was_done()}")
        if not self._containment.begun and not self._containment.observed:
            if not self._containment.held:
                return await self._untouched(decision)
            await self._ticket.tell(self._closing.what_was_done())
        if joined := self._joining.since:
            await self._ticket.tell(f"Joined since: {joined}.")
        await self._closing.tell_what_is_left()
        return self._containment.outcome()

    async def _tell_ticket(self) -> None:
        if self._containment.begun or self._containment.observed:
            await self._ticket.tell(self._closing.what_was_done())

    async def _untouched(self, decision: Decision) -> Outcome:
        """Nothing was done: a person said that it was right so, or nobody said anything."""
        self._case.enter(Stage.VERIFYING)
        if decision.decision != DecisionName.FALSE_POSITIVE:
            return Outcome.UNANSWERED
        await self._closing.stand_down(decision)
        return Outcome.FALSE_POSITIVE

    async def _enrich(self) -> bool:
        """Learn host and user; false if there is nothing but an alert that an earlier case answered already."""
        self._case.enter(Stage.ENRICHING)
        looking = asyncio.create_task(self._enrichment.look_up())
        first = await first_unanswered(self._case, self._joining)
        if first is None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            return False
        if first is not self._record.alert:
            self._record.alert = first
            self._case.note(f"the case is about alert {first.id}, which joined meanwhile")
        self._joining.checked()
        await looking
        await self._joining.judge()
        return True

    async def _triage(self) -> Verdict:
        """Take the row of the table. Risk raises the priority before corroboration is asked for its answer."""
        self._case.enter(Stage.TRIAGING)
        return await self._assessment.assess()

    async def _look(self, *, by_the_clock: bool = False) -> Verdict:
        """Look again: what was unknown, the risk, and further alerts."""
        await self._joining.judge()
        self._joining.looked()
        await self._enrichment.look_up()
        return await self._assessment.assess(by_the_clock=by_the_clock)

    async def _decide(self, verdict: Verdict) -> Decision:
        """Let the table decide, or stop at the hold point."""
        if verdict.holds:
            await self._enrichment.device_known()
            return await self._hold(CONTAIN, why_asked(self._record))
        if ActionName.QUARANTINE_HOST in verdict.actions:
            await self._enrichment.device_known()
        return self._decisions.by_table(verdict)

    async def _hold(
        self, actions: tuple[ActionName, ...], why: str, *, protected: bool = False, quorum: int = 1
    ) -> Decision:
        """Ask, and wait until somebody answers, the world changes, or nobody is left to ask."""
        policy = self._case.policy
        standing = self._record.question
        if standing is None:
            await self._asking.electing.read()
        question = standing or self._asking.pose(actions, why, protected=protected, quorum=quorum)
        hold = HoldPoint(
            self._asking.tiers(),
            self._asking,
            keep_asking=policy.on_unanswered is OnUnanswered.HOLD,
            turn=(standing.tier, standing.due_at) if standing else None,
            weighing=lambda: self._answering.weighing,
        )
        self._answering.open(hold)
        self._holding = hold
        self._case.enter(Stage.AWAITING_DECISION)
        waiting = asyncio.create_task(hold.wait())
        looks = policy.renew_questions or not protected
        watching = asyncio.create_task(self._keep_looking(hold, actions, protected)) if looks else None
        ending, verdict = await first_of(waiting, watching)
        if ending is Ending.SUSPENDED:
            await workflow.wait_condition(lambda: self._joining.idle)
            workflow.continue_as_new(self._case.begun_anew(self._joining.unseen))
        question = self._record.question or question
        self._case.measures.waited(question, ending)
        self._record.question = None
        self._joining.known()
        self._case.publish()
        answer = self._answering.answer
        if ending is Ending.WITHDRAWN and verdict:
            decision = self._decisions.by_table(verdict)
            self._beside(self._asking.withdraw(question, f"The question is withdrawn: {decision.reason}."))
        elif ending is Ending.ANSWERED and answer:
            decision = self._decisions.by_analyst(answer, question)
            if policy.tell_answered:
                self._beside(self._asking.answered(question, decision))
        else:
            decision = self._decisions.by_default(question)
        if decision.actions and ActionName.QUARANTINE_HOST in decision.actions:
            await self._enrichment.refresh_device()
        return decision

    async def _keep_looking(self, hold: HoldPoint, actions: tuple[ActionName, ...], protected: bool) -> Verdict | None:
        """While it waits, look again; a row that no longer holds withdraws the question, other facts renew it.

        What is held back was decided about before: no row of the table withdraws the question about it. Being cancelled
        is not enough to end it: what it waits for may be over at that moment, and then it goes on as if it were not.
        """
        looked_at: datetime | None = None
        cadence = Cadence(self._case.policy.recheck_every)
        while hold.stands:
            long = protected and workflow.info().is_continue_as_new_suggested()
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._joining.wants_a_look,
                    timeout=cadence.wait(self._case.now, seldom=long),
                    timeout_summary="Look again",
                )
            cadence.called(self._case.now)
            if not hold.stands:
                return None
            await self._joining.judge()
            await self._look_apart(hold, looked_at)
            if not hold.stands:
                return None
            looked_at = self._case.now
            # What joins after the decision is told to the ticket in the end.
            self._joining.decided = protected
            verdict = await self._look_at_question(hold, actions)
            if verdict is None:
                return None
            if not verdict.holds and hold.stands and not protected:
                hold.settle(Ending.WITHDRAWN)
                return verdict
            self._renew(hold)
            # Not while an errand or an answer is under way: it would be lost.
            quiet = hold.idle and self._asking.idle and self._quiet() and not self._joining.undecided
            if workflow.info().is_continue_as_new_suggested() and quiet and hold.stands and not protected:
                hold.settle(Ending.SUSPENDED)
                return verdict
        return None

    async def _look_apart(self, hold: HoldPoint, looked_at: datetime | None) -> None:
        """A flood does not make the case look all the time; what raises the priority does not wait."""
        due = looked_at + self._case.policy.looks_apart if looked_at else self._case.now
        while due > self._case.now and hold.stands and not self._joining.urgent:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._joining.urgent or self._joining.undecided,
                    timeout=due - self._case.now,
                    timeout_summary="Joined alerts wait for the next look",
                )
            await self._joining.judge()

    def _hurry(self) -> None:
        """An alert that joined has raised the priority: whoever is asked has at most half of the wait from now on."""
        question = self._record.question
        if question is None or self._holding is None or not self._case.policy.hurry:
            return
        if due_at := self._holding.hurry():
            question.due_at = due_at
            self._case.note(f"{question.tier} has until {clock(due_at)}, because of it", source="deadline")

    def _tell_tier(self, what: str) -> None:
        self._beside(self._asking.tell_tier(what))

    async def _look_at_question(self, hold: HoldPoint, actions: tuple[ActionName, ...]) -> Verdict | None:
        by_the_clock = not self._joining.wants_a_look
        if not self._case.policy.renew_questions:
            verdict = await self._look(by_the_clock=by_the_clock)
            await workflow.wait_condition(lambda: not self._answering.weighing)
            return verdict
        await self._joining.judge()
        self._joining.looked()
        return await self._assessment.again(
            actions,
            settled=lambda: not hold.stands,
            busy=lambda: self._answering.weighing,
            by_the_clock=by_the_clock,
        )

    def _renew(self, hold: HoldPoint) -> None:
        """Put another question in the place of one whose facts have changed."""
        question = self._record.question
        if question is None or not hold.stands:
            return
        fresh = self._renewal.renewed(question) if self._case.policy.renew_questions else None
        if fresh:
            hold.send(self._renewal.ask_anew(fresh))
        elif not question.protected:
            self._renewal.say_why(question)

    async def _decide_about_held(self, made: Decision, actions: tuple[ActionName, ...], protected: bool) -> Decision:
        """The other half is done; what a guardrail holds back is asked about alone."""
        held = self._containment.held
        reasons = {action: held[action].reason for action in actions}
        kind = "Protected, so people decide about this alone" if protected else "Held back, so a person decides"
        why = f"{kind}: {'; '.join(dict.fromkeys(reasons.values()))}."
        quorum = 2 if protected and self._case.policy.guardrails.protected_approval is Approval.TWO_TIERS else 1
        impossible = self._asking.possible(quorum)
        if impossible:
            for action in actions:
                self._containment.deny(action, f"{reasons[action]}; {impossible}")
            return made
        decision = await self._hold(actions, why, protected=True, quorum=quorum)
        for action in (a for a in actions if a not in decision.actions):
            self._containment.leave_alone(action, f"{reasons[action]}; {decision.decision} by {decision.who}")
        chosen = tuple(action for action in actions if action in decision.actions)
        if chosen:
            await self._containment.contain(decision, chosen, approved=protected)
        if self._containment.begun:
            await self._ticket.tell(f"About what was held back: {decision.decision}. {self._closing.what_was_done()}")
        return decision

    @workflow.signal(description="A further alert about the same host joins this case")
    def alert(self, *arguments: Any) -> None:
        """Take a further alert. One that is here already, or is none, changes nothing."""
        self._joining.take([self._only("alert", arguments)])

    @workflow.signal(description="Further alerts about the same host join this case: a list of them")
    def alerts(self, *arguments: Any) -> None:
        """Take further alerts that came together."""
        given = self._only("alerts", arguments)
        self._joining.take(given if isinstance(given, list) else [given])

    @workflow.signal(description='An analyst answers: {"decision","analyst","reason","actions"?,"question"?,"digest"?}')
    async def analyst_decision(self, *arguments: Any) -> None:
        """Take an answer. One that does not count is recorded and changes nothing."""
        await self._answering.hear(self._only("analyst_decision", arguments))

    @workflow.signal(description='An analyst has opened the question, and answered nothing: {"question","analyst"}')
    def seen(self, *arguments: Any) -> None:
        """Note that an analyst has seen the question."""
        self._answering.saw(arguments[0] if arguments else None)

    @workflow.signal(dynamic=True)
    def unknown_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Say in the case that a signal of a name that nobody listens to came: it may have been an answer."""
        del arguments
        told = f"a signal {name!r} came, which is none of alert, alerts, analyst_decision, seen: nothing was done"
        self._case.note(told, source="signal")
        self._case.publish()

    @workflow.update(
        description='Answer the question: {"decision","analyst","reason","actions"?,"question"?,"digest"?}'
    )
    async def decide(self, answer: Any = None) -> dict[str, Any]:
        """Take an answer that the validator found good; returns a receipt."""
        try:
            return await self._answering.take(answer)
        except AnswerRefused as refusal:
            at = self._case.now.isoformat()
            raise ApplicationError(str(refusal), at, type="AnswerRefused", non_retryable=True) from None

    @decide.validator
    def _refuse(self, answer: Any = None) -> None:
        try:
            self._answering.check(answer)
        except AnswerRefused as refusal:
            raise ApplicationError(str(refusal), type="AnswerRefused", non_retryable=True) from None

    @property
    def own_queues(self) -> tuple[Integration, ...]:
        """The integrations whose steps go over a task queue of their own."""
        return self._case.policy.own_queues if self._case.has_policy else ()

    @workflow.query(description="The case as JSON")
    def status(self) -> dict[str, Any]:
        """The case as JSON, by the names of the contract."""
        return self._record.status()

    @workflow.query(description="The case's record for export: its status and its chain of events")
    def record(self) -> dict[str, Any]:
        """The case's record for export, unsealed."""
        return exported(self._record)

    @workflow.query(description="The case for the desk, and who may see it there")
    def desk(self) -> dict[str, Any]:
        """The case for the desk, see ``incident.desk``."""
        policy = self._case.policy if self._case.has_policy else None
        electorate = self._asking.electorate() if policy else None
        return desk_view(self._record, policy, electorate, workflow.info().run_id)

    @workflow.query(description="The case as text for a terminal")
    def timeline(self) -> str:
        """The case as text for a terminal."""
        return timeline(self._record)

    def _only(self, signal: str, arguments: Sequence[Any]) -> Any:
        """The first argument. A handler that does not take whatever is sent fails the task, again and again."""
        if len(arguments) != 1:
            told = f"signal {signal} came with {len(arguments)} arguments: the first one counts, if any"
            self._case.note(told, source="signal")
        return arguments[0] if arguments else None
