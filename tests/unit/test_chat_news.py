"""What a channel is told of a case, and what never."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given

from incident.chat import ChatKind, ChatNotice, Told, news, told_by_now
from incident.record import CaseRecord, DecidedBy, Decision, Outcome, Question, Stage
from incident.triage import CONTAIN
from tests.unit.builders import AT, NAMES, alert, learn, record


def asked(case: CaseRecord, number: int = 1, tier: str = "analyst") -> None:
    identifier = f"{case.reference}-Q{number}"
    due_at = AT + timedelta(minutes=15)
    case.question = Question(id=identifier, actions=CONTAIN, tier=tier, due_at=due_at, why="x")


def decided(case: CaseRecord, by: DecidedBy, decision: str = "contain") -> None:
    who = "ann@example.com" if by is DecidedBy.ANALYST else None
    at = AT + timedelta(minutes=len(case.events))
    case.decision = Decision(decision=decision, by=by, analyst=who, reason="because", actions=CONTAIN, at=at)


class Watched:
    """A case and all that its channel was told."""

    def __init__(self) -> None:
        self.case = record()
        self.notices: list[ChatNotice] = []
        self._told = Told()

    def look(self) -> list[ChatKind]:
        self._told, new = news(self._told, self.case)
        self.notices += new
        return [notice.kind for notice in new]


def test_asked_escalated_answered_closed() -> None:
    seen = Watched()
    assert seen.look() == []
    asked(seen.case)
    assert seen.look() == [ChatKind.ASKED]
    assert seen.look() == []
    asked(seen.case, tier="on-call")
    assert seen.look() == [ChatKind.ESCALATED]
    seen.case.question = None
    assert seen.look() == []
    decided(seen.case, DecidedBy.ANALYST)
    seen.case.stage = Stage.CONTAINING
    assert seen.look() == [ChatKind.DECIDED]
    seen.case.outcome = Outcome.CONTAINED
    assert seen.look() == [ChatKind.CLOSED]
    assert seen.look() == []
    reference = seen.case.reference
    assert [notice.text for notice in seen.notices] == [
        f"Case {reference}, priority medium: analyst is asked until 2026-03-14 12:49:56 UTC.",
        f"Case {reference}, priority medium: nobody answered in time; on-call is asked until 2026-03-14 12:49:56 UTC.",
        f"Case {reference}, priority medium: decided by an analyst: contain; stage containing.",
        f"Case {reference}, priority medium: closed: contained.",
    ]


def test_the_table_withdraws_a_question_and_decides() -> None:
    seen = Watched()
    asked(seen.case)
    seen.look()
    seen.case.question = None
    assert seen.look() == []
    decided(seen.case, DecidedBy.TABLE)
    assert seen.look() == [ChatKind.WITHDRAWN, ChatKind.DECIDED]


def test_without_a_question_nothing_is_withdrawn() -> None:
    seen = Watched()
    decided(seen.case, DecidedBy.TABLE)
    assert seen.look() == [ChatKind.DECIDED]


def test_another_question_takes_the_place_of_one() -> None:
    seen = Watched()
    asked(seen.case)
    seen.look()
    asked(seen.case, number=2)
    assert seen.look() == [ChatKind.WITHDRAWN, ChatKind.ASKED]


def test_a_question_after_a_decision_is_asked_and_withdraws_none() -> None:
    seen = Watched()
    asked(seen.case)
    seen.look()
    seen.case.question = None
    decided(seen.case, DecidedBy.DEFAULT)
    seen.look()
    asked(seen.case, number=2)
    assert seen.look() == [ChatKind.ASKED]


def test_a_repeated_delivery_is_no_news() -> None:
    seen = Watched()
    seen.case.outcome = Outcome.DUPLICATE
    assert seen.look() == []


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_told_is_not_told_again_in_a_fresh_history(closed: bool) -> None:
    case = record()
    asked(case)
    decided(case, DecidedBy.ANALYST)
    case.outcome = Outcome.CONTAINED if closed else None
    assert news(told_by_now(case), case)[1] == []


@given(NAMES)
def test_nobody_and_no_host_is_named(name: str) -> None:
    marked = f"zq{name}qz"
    seen = Watched()
    seen.case = record(alert(rule=marked, source_host=marked, destination_ip="10.99.88.77", user_account=marked))
    learn(seen.case, marked, host=marked)
    asked(seen.case)
    seen.look()
    seen.case.question = None
    decided(seen.case, DecidedBy.ANALYST)
    seen.look()
    seen.case.outcome = Outcome.CONTAINED
    seen.look()
    told = " ".join(notice.text for notice in seen.notices)
    for secret in ("zq", "qz", "ann@example.com", "10.99.88.77", "acme", "because", "doe"):
        assert secret not in told.lower()
