"""The runbook for a large transfer to an internal host. It reads like the decision table, from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from incident.alert import Alert, AlertRefused, parse_alert
    from incident.decision import Answer, AnswerRefused, DecisionName, read_answer
    from incident.evidence import Fact
    from incident.policy import Approval, OnUnanswered
    from incident.record import Decision, Outcome, Stage
    from incident.requests import ActionState, CommentIncident, EarlierCase, SnapshotPolicy
    from incident.sealing import exported
    from incident.telling import action_line, timeline, why_asked
    from incident.triage import CONTAIN, ActionName, RiskLevel, Verdict, decide, raise_for_risk
    from workflows import policies, steps
    from workflows.asking import Asking
    from workflows.case import NO_ALERT, Case, CaseInput
    from workflows.containment import Containment, next_group
    from workflows.decisions import Decisions
    from workflows.enrichment import Enrichment
    from workflows.hold_point import Ending, HoldPoint
    from workflows.lease import begin_lease, leased
    from workflows.ticket import CaseTicket

_NOT_FOR_HANDS = (ActionState.VERIFIED, ActionState.IN_FORCE, ActionState.OBSERVED)
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
        self._hold_point: HoldPoint | None = None
        self._answer: Answer | None = None
        self._unseen: list[Alert] = []
        self._errands: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, given: CaseInput = _ABSENT) -> dict[str, Any]:
        """Run the case to its outcome; returns what the query ``status`` answers."""
        if given is _ABSENT:
            raise ApplicationError("started without an alert", type="AlertRefused", non_retryable=True)
        try:
            outcome = await self._respond(given)
        except asyncio.CancelledError:
            await self._say_what_stays()
            raise
        await asyncio.gather(*self._errands)
        self._record.outcome = outcome
        await self._hand_over()
        self._case.measures.closed(outcome)
        self._case.note(f"case closed: {outcome}")
        self._case.enter(Stage.CLOSED)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._record.status()

    async def _hand_over(self) -> None:
        """What outlives the case: its record on the ticket, and the lease of what stands."""
        policy = self._case.policy
        if policy.attach_record:
            await self._ticket.attach(exported(self._record))
        changed = any(action.changed for action in self._record.actions)
        if policy.lease and changed:
            taken = await begin_lease(leased(self._record, policy, workflow.info().run_id))
            self._case.note("the lease of what was done begins" if taken else "the lease could NOT be handed over")

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
            if not self._unseen:
                return outcome
            self._case.note("an alert joined after the decision, so the case looks again before it closes")
            decision = await self._decide(await self._look())
        await self._containment.contain(decision, decision.actions)
        # Beside the rest: a ticket system that is down must not keep a person from being asked.
        telling = asyncio.create_task(self._tell_ticket())
        while held := next_group(self._containment.held):
            decision = await self._decide_about_held(decision, *held)
        await telling
        if await self._containment.settled():
            await self._ticket.tell(f"What was still out: {self._what_was_done()}")
        if not self._containment.begun and not self._containment.observed:
            if not self._containment.held:
                return await self._untouched(decision)
            await self._ticket.tell(self._what_was_done())
        if self._unseen:
            await self._ticket.tell(f"Joined since: {', '.join(alert.id for alert in self._unseen)}.")
        await self._tell_what_is_left()
        return self._containment.outcome()

    async def _tell_ticket(self) -> None:
        if self._containment.begun or self._containment.observed:
            await self._ticket.tell(self._what_was_done())

    async def _untouched(self, decision: Decision) -> Outcome:
        """Nothing was done: a person said that it was right so, or nobody said anything."""
        self._case.enter(Stage.VERIFYING)
        if decision.decision != DecisionName.FALSE_POSITIVE:
            return Outcome.UNANSWERED
        await self._stand_down(decision)
        return Outcome.FALSE_POSITIVE

    async def _enrich(self) -> bool:
        """Learn host and user; false if there is nothing but an alert that an earlier case answered already."""
        self._case.enter(Stage.ENRICHING)
        looking = asyncio.create_task(self._enrichment.look_up())
        if await self._answered_before():
            if not self._unseen:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                return False
            self._record.alert = self._unseen[0]
            self._case.note(f"the case is about alert {self._record.alert.id}, which joined meanwhile")
        await looking
        return True

    async def _answered_before(self) -> bool:
        request = EarlierCase(case_id=self._record.case_id, alert_id=self._record.alert.id)
        try:
            earlier = await steps.find_earlier(request, policies.OWN_BUDGET)
        except ActivityError as error:
            self._case.note(f"could not look for an earlier case: {steps.reason_of(error)}")
            return False
        if earlier.run_id:
            self._case.note(f"alert {self._record.alert.id} was answered by run {earlier.run_id}")
        return earlier.run_id is not None

    async def _triage(self) -> Verdict:
        """Take the row of the table. Risk raises the priority before corroboration is asked for its answer."""
        self._case.enter(Stage.TRIAGING)
        return await self._assess()

    async def _look(self) -> Verdict:
        """Look again: what was unknown, the risk, and further alerts."""
        self._unseen.clear()
        await self._enrichment.look_up()
        verdict = await self._assess()
        question = self._record.question
        if question and not question.protected:
            question.why = why_asked(self._record)
            self._case.publish()
        return verdict

    async def _assess(self) -> Verdict:
        record, policy = self._record, self._case.policy
        corroborating = asyncio.create_task(self._enrichment.corroboration())
        record.risk = _newer(record.risk, await self._enrichment.risk())
        self._apply_risk(policy.level(record.risk))
        record.corroboration = _newer(record.corroboration, await corroborating)
        verdict = decide(record.priority, record.risk_level or RiskLevel.UNKNOWN, record.corroborated)
        if not verdict.holds:
            record.raise_priority(verdict.priority, "corroborated by further alerts or events", self._case.now)
        self._case.publish()
        return verdict

    def _apply_risk(self, level: RiskLevel) -> None:
        record = self._record
        raises = raise_for_risk(record.priority, level)
        if level is not record.risk_level:
            self._case.note(f"risk is {level}" + ("" if record.risk.known else f": {record.risk.reason}"))
        record.risk_level = level
        if raises is not record.priority and not record.raised_for_risk:
            record.raise_priority(raises, f"risk is {level}", self._case.now)
        record.raised_for_risk = record.raised_for_risk or level in (RiskLevel.MEDIUM, RiskLevel.HIGH)
        self._case.publish()

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
        question = standing or self._asking.pose(actions, why, protected=protected, quorum=quorum)
        self._answer = None
        self._hold_point = hold = HoldPoint(
            self._asking.tiers(),
            self._asking,
            keep_asking=policy.on_unanswered is OnUnanswered.HOLD,
            turn=(standing.tier, standing.due_at) if standing else None,
        )
        self._case.enter(Stage.AWAITING_DECISION)
        waiting = asyncio.create_task(hold.wait())
        watching = asyncio.create_task(self._keep_looking(hold)) if not protected else None
        ending, verdict = await self._first_of(waiting, watching)
        if ending is Ending.SUSPENDED:
            workflow.continue_as_new(self._case.begun_anew())
        self._case.measures.waited(question, ending)
        self._record.question = None
        self._case.publish()
        if ending is Ending.WITHDRAWN and verdict:
            decision = self._decisions.by_table(verdict)
            told = self._asking.withdraw(question, f"The question is withdrawn: {decision.reason}.")
            self._errands.append(asyncio.create_task(told))
        elif ending is Ending.ANSWERED and self._answer:
            decision = self._decisions.by_analyst(self._answer, question)
        else:
            decision = self._decisions.by_default(question)
        if decision.actions and ActionName.QUARANTINE_HOST in decision.actions:
            await self._enrichment.refresh_device()
        return decision

    async def _first_of(
        self, waiting: asyncio.Task[Ending], watching: asyncio.Task[Verdict] | None
    ) -> tuple[Ending, Verdict | None]:
        tasks: list[asyncio.Task[Any]] = [waiting, *([watching] if watching else [])]
        try:
            await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            verdict = watching.result() if watching and watching.done() else None
            ending = await waiting
        finally:
            for task in tasks:
                task.cancel()
        # Not in the finally: a run that leaves the worker's cache is closed there, and may not wait for anything.
        await asyncio.gather(*tasks, return_exceptions=True)
        return ending, verdict

    async def _keep_looking(self, hold: HoldPoint) -> Verdict:
        """While it waits, look again; a row that no longer holds withdraws the question."""
        while True:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: bool(self._unseen),
                    timeout=self._case.policy.recheck_every,
                    timeout_summary="Look again",
                )
            verdict = await self._look()
            if not verdict.holds and hold.stands:
                hold.settle(Ending.WITHDRAWN)
                return verdict
            if workflow.info().is_continue_as_new_suggested() and hold.idle and hold.stands:
                hold.settle(Ending.SUSPENDED)
                return verdict

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
            await self._ticket.tell(f"About what was held back: {decision.decision}. {self._what_was_done()}")
        return decision

    async def _stand_down(self, decision: Decision) -> None:
        """A false positive: nothing is touched, and the SIEM's own incident hears of it."""
        record = self._record
        if record.ticket:
            await self._ticket.tell(f"False positive, by {decision.analyst}: {decision.reason}")
        if not record.alert.siem_incident_id:
            return
        marker = f"[{record.key}]"
        text = f"Holdpoint: false positive, by {decision.analyst}: {decision.reason} {marker}"
        request = CommentIncident(incident_id=record.alert.siem_incident_id, text=text, marker=marker)
        try:
            await steps.comment_incident(request, self._case.policy.enrich_within)
            self._case.note(f"incident {record.alert.siem_incident_id} commented", source="siem")
        except ActivityError as error:
            self._case.note(f"incident could not be commented: {steps.reason_of(error)}", source="siem")

    async def _tell_what_is_left(self) -> None:
        """What is left for hands goes to the tier by mail: nobody reads a ticket at three in the morning."""
        left = [action_line(a) for a in self._record.actions if a.state not in _NOT_FOR_HANDS]
        if self._record.ticket and self._record.ticket.state != "open":
            left.append(f"the ticket could not be opened: {self._record.ticket.reason}")
        if left:
            await self._asking.tell_tier("Left for hands: " + "; ".join(left) + ".")

    async def _say_what_stays(self) -> None:
        """A cancelled case undoes nothing: it says what was done, so that somebody can decide about it."""
        self._record.question = None
        self._case.note(
            "case cancelled by an operator; what was done stays done", actor="an operator", source="temporal"
        )
        self._case.publish()
        if any(action.state is not ActionState.LEFT_ALONE for action in self._record.actions):
            await self._ticket.tell("The case was cancelled by an operator. What was done stays done.")

    def _what_was_done(self) -> str:
        return "; ".join(action_line(action) for action in self._record.actions) + "."

    @workflow.signal(description="A further alert about the same host joins this case")
    def alert(self, *arguments: Any) -> None:
        """Take a further alert. One that is here already, or is none, changes nothing."""
        try:
            joining = parse_alert(self._only("alert", arguments), self._record.alert.tenant)
        except AlertRefused as error:
            self._case.note(f"a signal 'alert' was no alert: {error}", source="signal")
            return
        if joining.destination_ip != self._record.alert.destination_ip:
            told = f"alert {joining.id} is about {joining.destination_ip}: it needs a case of its own"
            self._case.note(told, source="signal")
        elif self._record.join(joining, self._case.now):
            self._unseen.append(joining)
            self._case.publish()

    @workflow.signal(description='An analyst answers: {"decision","analyst","reason","actions"?,"question"?}')
    def analyst_decision(self, *arguments: Any) -> None:
        """Take an answer. One that does not count is recorded and changes nothing."""
        raw = self._only("analyst_decision", arguments)
        try:
            self._accept(self._weighed(raw))
        except AnswerRefused as refusal:
            self._record.dissented(raw, str(refusal), self._case.now)
            self._case.publish()

    @workflow.signal(dynamic=True)
    def unknown_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Say in the case that a signal of a name that nobody listens to came: it may have been an answer."""
        del arguments
        told = f"a signal {name!r} came, which is none of alert, analyst_decision: nothing was done"
        self._case.note(told, source="signal")
        self._case.publish()

    @workflow.update(description='Answer the question: {"decision","analyst","reason","actions"?,"question"?}')
    def decide(self, answer: Any = None) -> dict[str, Any]:
        """Take an answer that the validator found good; returns a receipt."""
        accepted = self._weighed(answer)
        question = self._record.question
        self._accept(accepted)
        lacking = question is not None and self._answer is None
        return {
            **({"waits_for": "a second approver, of another tier"} if lacking else {}),
            "case_id": self._record.case_id,
            "question": question.id if question else None,
            "decision": accepted.decision.value,
            "actions": [action.value for action in accepted.chosen],
            "analyst": accepted.analyst,
            "accepted_at": self._case.now.isoformat(),
        }

    @decide.validator
    def _refuse(self, answer: Any = None) -> None:
        try:
            self._weighed(answer)
        except AnswerRefused as refusal:
            raise ApplicationError(str(refusal), type="AnswerRefused", non_retryable=True) from None

    @workflow.query(description="The case as JSON")
    def status(self) -> dict[str, Any]:
        """The case as JSON, by the names of the contract."""
        return self._record.status()

    @workflow.query(description="The case's record for export: its status and its chain of events")
    def record(self) -> dict[str, Any]:
        """The case's record for export, unsealed."""
        return exported(self._record)

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

    def _weighed(self, raw: Any) -> Answer:
        """An answer that counts. Raises AnswerRefused with the reason for every other."""
        answer = read_answer(raw)
        if not self._case.has_policy:
            raise AnswerRefused("no question stands: the case has only just begun")
        objection = self._asking.electorate().objection(answer.analyst)
        if objection:
            raise AnswerRefused(objection)
        question, hold = self._record.question, self._hold_point
        if hold is None or question is None or not hold.stands:
            made = self._record.decision
            told = f"{made.decision} by {made.who}" if made else f"the case is {self._record.stage}"
            raise AnswerRefused(f"no question stands: {told}")
        if answer.question and answer.question.casefold() != question.id.casefold():
            raise AnswerRefused(f"question {answer.question} was withdrawn or answered; {question.id} stands")
        if answer.actions is not None and not set(answer.actions) <= set(question.actions):
            raise AnswerRefused(f"actions: {question.id} asks about {', '.join(question.actions)} only")
        objection = self._asking.objection(answer, question)
        if objection:
            raise AnswerRefused(objection)
        return answer

    def _accept(self, answer: Answer) -> None:
        """Take an answer that counts. One approval of two leaves the question standing and asks the other tiers."""
        said = f"{answer.analyst} answered {answer.decision}: {answer.reason}"
        self._case.note(said, actor=answer.analyst, source="hold point")
        question, hold = self._record.question, self._hold_point
        if question is not None and not self._asking.enough(answer, question):
            self._errands.append(asyncio.create_task(self._asking.second(question)))
            return
        self._answer = answer
        if hold:
            hold.settle(Ending.ANSWERED)


def _newer(old: Fact[Any], new: Fact[Any]) -> Fact[Any]:
    """A read that failed does not unlearn what was known."""
    return new if new.known or not old.known else old
