"""How often a case that waits looks again."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from incident.cadence import MOST, SELDOM, Cadence
from tests.unit.builders import AT

EVERY = timedelta(minutes=10)
LENGTHS = st.timedeltas(timedelta(0), timedelta(days=2))


def after(*late: timedelta, seldom: bool = False) -> timedelta:
    """The next wait, once the case was called that late each time."""
    cadence, now = Cadence(EVERY), AT
    for length in late:
        now += cadence.wait(now) + length
        cadence.called(now)
    return cadence.wait(now, seldom=seldom)


def test_in_time_it_is_as_the_settings_say() -> None:
    assert after() == after(timedelta(0)) == after(timedelta(seconds=6)) == EVERY


def test_late_it_is_more_seldom_and_in_time_again_it_is_as_before() -> None:
    assert after(timedelta(seconds=12)) == EVERY * 2
    assert after(timedelta(seconds=12), timedelta(0)) == EVERY


def test_before_its_time_it_is_not_late() -> None:
    cadence = Cadence(EVERY)
    cadence.wait(AT)
    cadence.called(AT + EVERY / 2)
    assert cadence.wait(AT + EVERY / 2) == EVERY


def test_after_an_outage_it_is_not_forgotten() -> None:
    assert after(timedelta(days=2)) == EVERY * MOST


@given(st.lists(LENGTHS, max_size=5), st.booleans())
def test_it_is_bounded(late: list[timedelta], seldom: bool) -> None:
    length = after(*late, seldom=seldom)
    assert (EVERY * SELDOM if seldom else EVERY) <= length <= EVERY * max(MOST, SELDOM)
