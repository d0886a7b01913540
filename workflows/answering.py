"""Taking answers: which count, which come too late, and which the directory has to be asked about first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.decision import Answer, AnswerRefused, contradicts, read_answer
    from incident.record import Question, Seen
    from incident.telling import clock
    from incident.triage import ActionName
    from workflows import policies
    from workflows.asking import Asking
    from workflows.case import Case
    from workflows.hold_point import Ending, HoldPoint

_MOST_SEEN = 50
"""How many analysts are noted as having opened a question."""


class _TooLate(AnswerRefused):
    """The answer is well-formed, and something was decided already."""

    def __init__(self, why: str, answer: Answer) -> None:
        super().__init__(why)
        self.answer = answer


class _Unnamed(AnswerRefused):
    """The answer would count if its analyst were in a tier's group, as far as that is known."""


class Answering:
    """The answers of one case. The first that counts wins.

    Where the directory is asked, an answer is weighed by what is known, and again once the directory has said whether
    its analyst may answer; meanwhile nothing else ends the question.
    """

    def __init__(self, case: Case, asking: Asking, beside: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """``beside`` runs an errand beside the case, which stays open until it is done."""
        self._case = case
        self._asking = asking
        self._beside = beside
        self._hold_point: HoldPoint | None = None
        self._claimed_by: str | None = None
        self.answer: Answer | None = None

    def open(self, hold: HoldPoint) -> None:
        """A question stands: its answer settles this hold point."""
        self.answer = None
        self._hold_point = hold

    @property
    def weighing(self) -> bool:
        """Whether an answer is being weighed."""
        return self._claimed_by is not None

    def check(self, raw: Any) -> None:
        """Refuse at once what cannot count, and record nothing: AnswerRefused. Dissent passes, to be recorded."""
        try:
            self._weighed(raw)
        except _TooLate as late:
            if not self._contradicts(late.answer):
                raise
        except _Unnamed:
            return
        else:
            if self._claimed_by:
                told = f"the answer of {self._claimed_by} is being weighed: the first one that counts wins"
                raise AnswerRefused(f"{told}. Look again in a few seconds")

    async def take(self, raw: Any) -> dict[str, Any]:
        """Take an answer; returns a receipt. Raises AnswerRefused once it is recorded that it changes nothing."""
        try:
            accepted = await self._counted(raw)
        except AnswerRefused as refusal:
            raise AnswerRefused(self._dissented(raw, refusal)) from None
        question = self._case.record.question
        lacking = question is not None and self.answer is None
        return {
            **({"waits_for": "a second approver, of another tier"} if lacking else {}),
            "case_id": self._case.record.case_id,
            "question": question.id if question else None,
            "decision": accepted.decision.value,
            "actions": [action.value for action in accepted.chosen],
            "analyst": accepted.analyst,
            "accepted_at": self._case.now.isoformat(),
        }

    async def hear(self, raw: Any) -> None:
        """Take an answer of somebody who waits for no receipt. One that does not count is recorded."""
        try:
            await self._counted(raw)
        except AnswerRefused as refusal:
            self._dissented(raw, refusal)

    def saw(self, raw: Any) -> None:
        """Note that an analyst has opened the standing question, each one once. It answers nothing."""
        question = self._case.record.question
        if not isinstance(raw, dict) or question is None or not self._case.has_policy:
            return
        analyst = str(raw.get("analyst")).strip().casefold()
        new = analyst not in {seen.analyst for seen in question.seen} and len(question.seen) < _MOST_SEEN
        named = str(raw.get("question")).strip().casefold() == question.id.casefold()
        if new and named and self._asking.electorate().objection(analyst) is None:
            question.seen.append(Seen(analyst=analyst, at=self._case.now))
            self._case.note(f"{analyst} has opened {question.id}", actor=analyst, source="desk")
            self._case.publish()

    async def _counted(self, raw: Any) -> Answer:
        """Weigh an answer, ask the directory where it has a say, and count the answer in. Raises AnswerRefused."""
        if self._case.has_policy and self._asking.electing.asks:
            standing = self._case.record.question
            await self._directory_asked(raw)
            now = self._case.record.question
            if standing and now and standing.id != now.id and not read_answer(raw).question:
                raise AnswerRefused(self._void(standing.id, now))
        answer = self._weighed(raw)
        self._accept(answer)
        return answer

    async def _directory_asked(self, raw: Any) -> None:
        """Ask whether this analyst may answer. Raises AnswerRefused where the directory's word would change nothing.

        Whoever is known as an analyst has the question to themselves meanwhile. Others have not: a stranger must not be
        able to hold it up.
        """
        claims = self._claimable(raw)
        while self._claimed_by:
            await workflow.wait_condition(lambda: self._claimed_by is None)
            claims = self._claimable(raw)
        analyst = read_answer(raw).analyst
        if not claims:
            await self._asking.electing.read(analyst, policies.WEIGHING_BUDGET)
            while self._claimed_by:
                await workflow.wait_condition(lambda: self._claimed_by is None)
            return
        self._claimed_by = analyst
        try:
            await self._asking.electing.read(analyst, policies.WEIGHING_BUDGET)
        finally:
            self._claimed_by = None

    def _claimable(self, raw: Any) -> bool:
        try:
            self._weighed(raw)
        except _Unnamed:
            return False
        return True

    def _weighed(self, raw: Any) -> Answer:
        """An answer that counts. Raises AnswerRefused with the reason for every other."""
        answer = read_answer(raw)
        if not self._case.has_policy:
            raise AnswerRefused("no question stands: the case has only just begun")
        electorate = self._asking.electorate()
        objection = electorate.objection(answer.analyst)
        unnamed = not electorate.is_named(answer.analyst) and self._asking.electing.grouped
        if objection and not unnamed:
            raise AnswerRefused(objection)
        self._answers_what_stands(answer)
        if unnamed:
            unread = ", ".join(electorate.undetermined)
            raise _Unnamed(f"{objection}" + (f", and the group of {unread} could not be read" if unread else ""))
        return answer

    def _answers_what_stands(self, answer: Answer) -> None:
        question, hold = self._case.record.question, self._hold_point
        if hold is None or question is None or not hold.stands:
            raise self._late(answer)
        if answer.question and answer.question.casefold() != question.id.casefold():
            decision = self._case.record.decision
            if decision and decision.question and decision.question.casefold() == answer.question.casefold():
                raise _TooLate(f"question {answer.question} is answered: {self._decided()}", answer)
            raise AnswerRefused(self._void(answer.question, question))
        if answer.digest and question.digest and answer.digest.casefold() != question.digest:
            raise AnswerRefused(self._void(answer.digest, question))
        if answer.actions is not None and not set(answer.actions) <= set(question.actions):
            raise AnswerRefused(f"actions: {question.id} asks about {', '.join(question.actions)} only")
        objection = self._asking.objection(answer, question)
        if objection:
            raise AnswerRefused(objection)

    def _late(self, answer: Answer) -> AnswerRefused:
        made = self._decided()
        if made is None:
            return AnswerRefused(f"no question stands: the case is {self._case.record.stage}")
        return _TooLate(f"no question stands: {made}", answer)

    def _decided(self) -> str | None:
        """What was decided, by whom and when; an answer counts as soon as it is taken."""
        decision = self._case.record.decision
        if self._deciding and self.answer:
            return f"{self.answer.decision} by {self.answer.analyst} at {clock(self._case.now)}"
        return f"{decision.decision} by {decision.who} at {clock(decision.at)}" if decision else None

    @property
    def _deciding(self) -> bool:
        """Whether the question is settled and the decision is not in the record yet."""
        return self._hold_point is not None and not self._hold_point.stands and self._case.record.question is not None

    def _void(self, old: str, standing: Question) -> str:
        """Why an answer to a question that does not stand is refused: what changed since, and what stands."""
        void = self._case.record.superseded
        at = next((n for n, s in enumerate(void) if old.casefold() in (s.question.casefold(), s.digest)), None)
        if at is not None:
            changes = "; ".join(dict.fromkeys(change for since in void[at:] for change in since.changes))
            return f"question {void[at].question} is void, because this changed: {changes}. {standing.id} stands"
        if old.casefold() != standing.id.casefold() and old.casefold().startswith("hp-"):
            return f"question {old} was withdrawn or answered; {standing.id} stands"
        return f"the answer is bound to another state of the case than {standing.id}, which stands: look at it again"

    def _contradicts(self, answer: Answer) -> bool:
        """Whether a late answer is dissent that the last tier hears of."""
        policy, record = self._case.policy, self._case.record
        if not policy.tell_answered or self._asking.electorate().objection(answer.analyst):
            return False
        taken, question = self.answer, record.question
        if self._deciding and taken and question:
            return contradicts(answer, tuple(action for action in taken.chosen if action in question.actions))
        decided: tuple[ActionName, ...] | None = record.decision.actions if record.decision else None
        return decided is not None and contradicts(answer, decided)

    def _dissented(self, raw: Any, refusal: AnswerRefused) -> str:
        """Record an answer that changes nothing, and tell the last tier of dissent; returns why, in words."""
        record, why, told = self._case.record, str(refusal), False
        if isinstance(refusal, _TooLate) and self._contradicts(refusal.answer):
            electorate = self._asking.electorate()
            before = [d.analyst for d in record.dissent if d.told and d.analyst]
            told = not any(electorate.same_person(refusal.answer.analyst, analyst) for analyst in before)
            why = f"{why}. The answer is kept as dissent{', and the last tier is told' if told else ''}"
        kept = record.dissented(raw, why, self._case.now, told=told)
        self._case.publish()
        if told and kept and isinstance(refusal, _TooLate):
            self._beside(self._tell_dissent(refusal.answer))
        return why

    async def _tell_dissent(self, answer: Answer) -> None:
        await workflow.wait_condition(lambda: not self._deciding)
        if self._case.record.decision:
            await self._asking.dissent(answer, self._case.record.decision)

    def _accept(self, answer: Answer) -> None:
        """Take an answer that counts. One approval of two leaves the question standing and asks the other tiers."""
        said = f"{answer.analyst} answered {answer.decision}: {answer.reason}"
        self._case.note(said, actor=answer.analyst, source="hold point")
        question, hold = self._case.record.question, self._hold_point
        if question is not None and not self._asking.enough(answer, question):
            self._beside(self._asking.second(question))
            return
        self.answer = answer
        if hold:
            hold.settle(Ending.ANSWERED)
