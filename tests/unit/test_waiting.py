"""How long a question has waited, in words that a tired person reads once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from incident.record import Approved, Asked, Question
from incident.triage import CONTAIN
from incident.waiting import approved_so_far, approvers, asked_before, moment_of, span
from tests.unit.builders import AT

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (899, "14 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86400, "1 d"),
        (3 * 86400 + 7200, "3 d 2 h"),
    ],
)
def test_spans(seconds: float, told: str) -> None:
    assert span(timedelta(seconds=seconds)) == told


def test_a_time_of_another_day_has_its_day() -> None:
    assert moment_of(AT, AT + 60 * MINUTE) == "12:34 UTC"
    assert moment_of(AT, AT + timedelta(days=1)) == "2026-03-14 12:34 UTC"


def _asked(tier: str, kind: str, after: int, failed: str | None = None) -> Asked:
    return Asked(tier=tier, kind=kind, at=AT + after * MINUTE, recipients=("a@x.org",), failed=failed)


def test_each_tier_counts_from_the_first_mail_that_reached_it() -> None:
    mails = [
        _asked("analyst", "ask", 0, failed="no answer"),
        _asked("analyst", "remind", 7),
        _asked("analyst", "ask", 8),
        _asked("on-call", "escalate", 15),
        _asked("on-call", "ask", 20),
        _asked("lead", "escalate", 45, failed="refused"),
        _asked("lead", "withdrawn", 46),
    ]
    assert asked_before(mails, AT + 50 * MINUTE) == (
        "analyst, asked 12:42 UTC, 42 min without an answer",
        "on-call, asked 12:49 UTC, 35 min without an answer",
        "lead, not reached: the mail failed at 13:19 UTC",
    )
    assert asked_before([], AT) == ()


def test_approvals_are_told_short_and_in_full() -> None:
    given = Approved(analyst="ann@x.org", tiers=("analyst", "night"), actions=CONTAIN, reason="seen\x1b[2J", at=AT)
    question = Question(id="Q1", actions=CONTAIN, tier="analyst", due_at=AT, why="x", quorum=2, approvals=[given])
    assert approvers(question) == ("ann@x.org (analyst, night)",)
    assert approved_so_far(question, AT) == ("ann@x.org (analyst, night) at 12:34 UTC: seen",)
