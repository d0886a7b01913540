"""Undoing what a case contained: at once when somebody asks for it, or when a lease ends and somebody says so.

There is one for each case id. It undoes what the case itself changed, and tells what it leaves alone and why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from incident.queues import Integration
    from incident.release import (
        ContainmentOf,
        LeaseAnswer,
        LeaseDecision,
        ReleaseRefused,
        ReleaseRequest,
        read_lease_answer,
        read_request,
    )
    from incident.release_record import ReleaseInput, ReleaseStage
    from incident.release_telling import done_lines, timeline
    from incident.telling import clock
    from incident.text import plain
    from workflows import policies, steps
    from workflows.hold_point import Ending, HoldPoint
    from workflows.lease import LeaseAsking
    from workflows.releasing import Release, Undoing

_NOBODY_ASKS: Final = timedelta(minutes=10)
"""How long a release that was started without a lease waits for the request that it is about."""

_PREFIX: Final = "release-"


@workflow.defn(name="ReleaseContainment")
class ReleaseContainment:
    """One release: look up what the case did, undo it when asked, and mind the lease if there is one."""

    @workflow.init
    def __init__(self, given: Any = None) -> None:
        self._given, self._fault = _read_input(given)
        self._release = Release(self._given)
        self._record = self._release.record
        self._asking = LeaseAsking(self._release)
        self._undoing = Undoing(self._release)
        self._hold_point: HoldPoint | None = None
        self._answer: LeaseAnswer | None = None
        self._looked = self._record.containment is not None
        self._heard = False
        self._untold = False
        self._joined = False

    @workflow.run
    async def run(self, given: Any = None) -> dict[str, Any]:
        """Run the release to its end; returns what the query ``status`` answers."""
        del given
        if self._fault:
            raise ApplicationError(self._fault, type="ReleaseRefused", non_retryable=True)
        try:
            await self._look()
            while await self._goes_on():
                pass
        except asyncio.CancelledError:
            self._release.note("cancelled by an operator; what was undone stays undone, and the rest as it is")
            self._release.publish()
            raise
        self._record.outcome = self._record.result()
        self._release.note(f"release closed: {self._record.outcome}")
        self._release.enter(ReleaseStage.CLOSED)
        return self._record.status()

    async def _look(self) -> None:
        """Learn what the case did, unless the case itself has told it."""
        if self._looked:
            return
        self._release.publish()
        request = ContainmentOf(case_id=self._given.case_id, run_id=self._given.run_id, after=self._given.after)
        try:
            self._record.adopt(await steps.containment_of(request, policies.OWN_BUDGET))
        except ActivityError as error:
            self._record.refusal = steps.reason_of(error)
            self._release.note(f"nothing can be released: {self._record.refusal}")
        self._looked = True

    async def _goes_on(self) -> bool:
        """Do what is next; false when nothing is."""
        if self._record.to_do:
            self._release.enter(ReleaseStage.RELEASING)
            await self._undoing.undo()
        elif self._untold:
            await self._tell()
        elif self._leased:
            await self._mind_lease()
        elif not self._heard and self._record.containment and not self._record.lease:
            self._release.publish()
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._heard, timeout=_NOBODY_ASKS, timeout_summary="Somebody asks for it"
                )
            self._heard = True
        else:
            await workflow.wait_condition(workflow.all_handlers_finished)
            return bool(self._record.to_do or self._untold or self._leased)
        return True

    @property
    def _leased(self) -> bool:
        return self._record.lease is not None and bool(self._record.standing(self._release.now))

    @property
    def _disturbed(self) -> bool:
        """Whether there is something to do before the lease goes on."""
        return bool(self._record.to_do) or self._untold or self._joined

    async def _tell(self) -> None:
        """What came of a request goes into the ticket; what needs hands, or has no ticket, to the tier by mail."""
        self._untold = False
        what = f"Release by {self._record.by}: {self._record.reason}"
        told = await self._release.told_ticket(what)
        if not told or any(undo.stands for undo in self._record.actions):
            await self._asking.tell_tier(f"{what}. {'; '.join(done_lines(self._record))}.")

    async def _mind_lease(self) -> None:
        """Sleep until the lease nears its end, then ask until somebody decides."""
        self._joined = False
        if self._record.question is None:
            self._suspend_if_long()
            self._release.enter(ReleaseStage.LEASED)
            ask_at = self._record.ask_at or self._release.now
            left = max(ask_at - self._release.now, timedelta(0))
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._disturbed, timeout=left, timeout_summary="The lease nears its end"
                )
            if self._disturbed:
                return
        await self._ask()

    async def _ask(self) -> None:
        standing = self._record.question
        question = standing or self._asking.pose()
        self._answer = None
        turn = (standing.tier, standing.due_at) if standing else None
        self._hold_point = hold = HoldPoint(self._asking.tiers(), self._asking, keep_asking=True, turn=turn)
        self._release.enter(ReleaseStage.AWAITING_DECISION)
        ending = await self._ended(hold)
        if ending is Ending.SUSPENDED:
            self._suspend_if_long()
            return
        self._record.question = None
        self._release.publish()
        if ending is Ending.ANSWERED and self._answer:
            await self._decided(self._answer)
        elif self._joined:
            await self._asking.withdraw(question, "The case contained again: the question comes later.")

    async def _ended(self, hold: HoldPoint) -> Ending:
        """Wait for the answer, for what makes the question pointless, or for a history that is too long."""
        waiting = asyncio.create_task(hold.wait())
        try:
            await workflow.wait_condition(lambda: waiting.done() or self._disturbed or (_long() and hold.idle))
            if not waiting.done():
                hold.settle(Ending.WITHDRAWN if self._disturbed else Ending.SUSPENDED)
            ending = await waiting
        finally:
            waiting.cancel()
        # Not in the finally: a run that leaves the worker's cache is closed there, and may not wait for anything.
        await asyncio.gather(waiting, return_exceptions=True)
        return ending

    async def _decided(self, answer: LeaseAnswer) -> None:
        if answer.decision is LeaseDecision.RELEASE:
            self._take(ReleaseRequest(analyst=answer.analyst, reason=answer.reason))
            return
        self._record.renew(answer.analyst, self._release.now)
        until = clock(self._record.lease_until) if self._record.lease_until else "its release"
        what = f"Renewed until {until} by {answer.analyst}: {answer.reason}"
        self._release.note(what)
        self._release.publish()
        if not await self._release.told_ticket(what):
            await self._asking.tell_tier(f"{what}.")

    def _suspend_if_long(self) -> None:
        """Begin the history anew where it is long and nothing is under way."""
        if _long() and workflow.all_handlers_finished() and not self._disturbed:
            workflow.continue_as_new(ReleaseInput(case_id=self._record.case_id, resumed=self._record))

    def _take(self, request: ReleaseRequest) -> dict[str, Any]:
        before = self._record.receipt
        receipt = self._record.accept(request, self._release.now, workflow.info().first_execution_run_id)
        self._untold = self._untold or receipt is not before
        self._heard = True
        self._release.publish()
        return receipt

    @workflow.update(description='Undo what the case contained: {"analyst","reason","actions"?}')
    async def release(self, request: Any = None) -> dict[str, Any]:
        """Take a request; returns its receipt. Who may ask for it is known once the case was looked up."""
        asked = read_request(request)
        await workflow.wait_condition(lambda: self._looked)
        objection = self._objection(asked.analyst)
        self._heard = True
        if objection:
            self._record.refusal = plain(objection)
            self._release.note(f"{asked.analyst} wants a release and is refused: {objection}")
            self._release.publish()
            raise _refused(objection)
        return self._take(asked)

    @release.validator
    def _refuse_release(self, request: Any = None) -> None:
        try:
            asked = read_request(request)
        except ReleaseRefused as refusal:
            raise _refused(str(refusal)) from None
        if objection := self._fault or (self._looked and self._objection(asked.analyst)):
            raise _refused(objection)

    def _objection(self, analyst: str) -> str | None:
        known = self._record.containment
        return known.electorate.objection(analyst) if known else self._record.refusal

    @workflow.update(description='Answer the question: {"decision": "release"|"renew","analyst","reason","question"?}')
    def decide(self, answer: Any = None) -> dict[str, Any]:
        """Take an answer that the validator found good; returns a receipt."""
        accepted, question = self._weighed(answer), self._record.question
        self._accept(accepted)
        return {
            "case_id": self._record.case_id,
            "question": question.id if question else None,
            "decision": accepted.decision.value,
            "analyst": accepted.analyst,
            "accepted_at": self._release.now.isoformat(),
        }

    @decide.validator
    def _refuse_answer(self, answer: Any = None) -> None:
        try:
            self._weighed(answer)
        except ReleaseRefused as refusal:
            raise _refused(str(refusal)) from None

    @workflow.signal(description='An analyst answers: {"decision": "release"|"renew","analyst","reason","question"?}')
    def analyst_decision(self, *arguments: Any) -> None:
        """Take an answer. One that does not count is recorded and changes nothing."""
        try:
            self._accept(self._weighed(arguments[0] if arguments else None))
        except ReleaseRefused as refusal:
            self._release.note(f"an answer changes nothing: {refusal}")
            self._release.publish()

    def _weighed(self, raw: Any) -> LeaseAnswer:
        """An answer that counts. Raises ReleaseRefused with the reason for every other."""
        answer = read_lease_answer(raw)
        if self._looked and (objection := self._objection(answer.analyst)):
            raise ReleaseRefused(objection)
        question, hold = self._record.question, self._hold_point
        if question is None or hold is None or not hold.stands:
            raise ReleaseRefused(f"no question stands: the release is {self._record.stage.replace('_', ' ')}")
        if answer.question and answer.question.casefold() != question.id.casefold():
            raise ReleaseRefused(f"question {answer.question} was withdrawn or answered; {question.id} stands")
        return answer

    def _accept(self, answer: LeaseAnswer) -> None:
        self._release.note(f"{answer.analyst} answered {answer.decision}: {answer.reason}")
        self._answer = answer
        if self._hold_point:
            self._hold_point.settle(Ending.ANSWERED)

    @workflow.signal(description="A later run of the case contained, too; its lease begins")
    def contained(self, *arguments: Any) -> None:
        """Take over what a later run of the case did."""
        given, fault = _read_input(arguments[0] if arguments else None)
        if fault or given.containment is None:
            self._release.note(f"a signal 'contained' told no containment: {fault or 'it names none'}")
            return
        self._record.join(given.containment, given.lease, self._release.now)
        self._joined = True
        self._release.publish()

    @workflow.signal(dynamic=True)
    def unknown_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Say that a signal of a name that nobody listens to came: it may have been an answer."""
        del arguments
        self._release.note(f"a signal {name!r} came, which is none of analyst_decision, contained: nothing was done")
        self._release.publish()

    @property
    def own_queues(self) -> tuple[Integration, ...]:
        """The integrations whose steps go over a task queue of their own, as for the case."""
        known = self._record.containment
        return known.policy.own_queues if known else ()

    @workflow.query(description="The release as JSON")
    def status(self) -> dict[str, Any]:
        """The release as JSON."""
        return self._record.status()

    @workflow.query(description="The release as text for a terminal")
    def timeline(self) -> str:
        """The release as text for a terminal."""
        return timeline(self._record)


def _long() -> bool:
    return workflow.info().is_continue_as_new_suggested()


def _refused(why: str) -> ApplicationError:
    return ApplicationError(plain(why), type="ReleaseRefused", non_retryable=True)


def _read_input(given: Any) -> tuple[ReleaseInput, str | None]:
    """The input, and why it is none. One that fails to be read fails the release once, and not its task for ever."""
    workflow_id = workflow.info().workflow_id
    case_id = workflow_id.removeprefix(_PREFIX)
    named = ReleaseInput(case_id=case_id)
    if not workflow_id.startswith(_PREFIX) or not case_id:
        return named, f"the release of a case has the workflow id {_PREFIX}<case id>; this is {plain(workflow_id)}"
    if given is None:
        return named, None
    try:
        read = ReleaseInput.model_validate(given)
    except ValidationError as error:
        return named, f"the input is wrong at {plain(str(error.errors()[0]['loc']))}"
    if read.case_id != case_id:
        return named, f"the input is about case {plain(read.case_id)}, the workflow id about {plain(case_id)}"
    return read, None
