"""What a poll remembers: all that can come again, and never without bound."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from incident.polling import CLOCKS_APART, MOST_SEEN, MOST_TOLD, Became, Dealt, PageTaken, PollState, fresh, missed
from tests.unit.builders import AT

OVERLAP = timedelta(minutes=10)


def page(*dealt: Dealt) -> PageTaken:
    return PageTaken(count=len(dealt), total=None, ids=tuple(d.incident for d in dealt), dealt=dealt)


@given(st.lists(st.sampled_from(Became), max_size=60), st.integers(1, 400))
def test_what_is_dealt_with_is_remembered_while_it_can_come_again(became: list[Became], step: int) -> None:
    state = PollState(until=AT)
    kept_for = OVERLAP + CLOCKS_APART
    for number, word in enumerate(became):
        until = state.until + timedelta(seconds=step)
        state = state.taken(page(Dealt(incident=str(number), became=word)), until).read(until, OVERLAP)
        expected = {
            str(earlier)
            for earlier in range(number + 1)
            if became[earlier] is not Became.LATER and timedelta(seconds=step * (number - earlier)) <= kept_for
        }
        assert set(state.seen) == expected
    assert sum(state.counts.values()) == len(became)
    assert len(state.missed) == min(MOST_TOLD, became.count(Became.MISSED))


def test_a_flood_is_forgotten_from_its_beginning() -> None:
    state = PollState(until=AT)
    for number in range(3):
        until = AT + timedelta(seconds=number)
        flood = page(*(Dealt(incident=f"{number}-{i}", became=Became.STARTED) for i in range(MOST_SEEN // 2)))
        state = state.taken(flood, until).read(until, OVERLAP)
    assert len(state.seen) == MOST_SEEN
    assert "0-0" not in state.seen
    assert "2-0" in state.seen


def test_the_summary_leaves_out_what_is_only_remembered() -> None:
    state = PollState(until=AT).taken(page(missed("7\x1b[2J" + "x" * 200, "no\naddress")), AT)
    told = state.summary()
    assert "seen" not in told
    assert told["counts"] == {"started": 0, "joined": 0, "passed": 0, "later": 0, "missed": 1}
    assert told["missed"][0]["why"] == "no address"
    assert len(told["missed"][0]["incident"]) == 100


def test_fresh_ids_are_each_told_once() -> None:
    assert fresh(["a", "b", "a", "c"], {"b"}) == ["a", "c"]
