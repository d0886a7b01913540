"""The budget is never exceeded in any hour, approved writes are held by the freeze alone, a key has one place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident import budget
from incident.budget import (
    MAX_ENTRIES,
    WINDOW,
    Entry,
    Ledger,
    Switch,
    SwitchRefused,
    details,
    freeze,
    prune,
    read_switch,
    reserve,
    thaw,
    used_words,
    view,
)
from incident.requests import Reservation, Reserve
from incident.triage import CONTAIN, ActionName

AT = datetime(2026, 3, 14, 3, 0, tzinfo=UTC)
HOST, ACCOUNT = (ActionName.QUARANTINE_HOST,), (ActionName.DISABLE_ACCOUNT,)
ANA = Switch(by="ana@acme.example", reason="the SIEM floods us")


def ask(key: str = "k1", **changes: Any) -> Reserve:
    given: dict[str, Any] = {"actions": CONTAIN, "automatic": True, "max_per_hour": 4, "case_id": "sua-1", "key": key}
    return Reserve(**{**given, **changes})


def asked(*requests: Reserve, at: datetime = AT, ledger: Ledger | None = None) -> tuple[Ledger, list[Reservation]]:
    ledger, told = ledger or Ledger(), []
    for request in requests:
        ledger, answer = reserve(ledger, request, at)
        told.append(answer)
    return ledger, told


# Properties

DEPARTMENTS = st.sampled_from([None, "", " Finance", "finance", "IT"])
REQUESTS = st.builds(
    ask,
    key=st.integers(0, 60).map(lambda number: f"k{number}"),
    actions=st.sampled_from([HOST, ACCOUNT, CONTAIN]),
    automatic=st.booleans(),
    department=DEPARTMENTS,
)
STEPS = st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(minutes=25)), REQUESTS), max_size=60)


def _granted(
    steps: list[tuple[timedelta, Reserve]], limit: int, per_department: int | None
) -> list[tuple[datetime, Reserve, int]]:
    """What newly counts: when, for whom, how many actions. Read off the answers and the keys alone."""
    ledger, at, places = Ledger(), AT, []
    had: dict[str, dict[ActionName, datetime]] = {}
    for wait, request in steps:
        at += wait
        limited = request.model_copy(update={"max_per_hour": limit, "max_per_department": per_department})
        ledger, told = reserve(ledger, limited, at)
        mine = had.setdefault(request.key, {})
        fresh = [a for a in request.actions if a not in mine or at - mine[a] >= WINDOW]
        if told.granted and fresh:
            mine.update(dict.fromkeys(fresh, at))
            places.append((at, limited, len(fresh)))
    return places


@given(STEPS, st.integers(0, 8))
def test_no_hour_holds_an_automatic_write_beyond_the_budget(steps: list[tuple[timedelta, Reserve]], limit: int) -> None:
    places = _granted(steps, limit, None)
    for number, (end, request, _) in enumerate(places):
        within = sum(n for at, _, n in places[: number + 1] if end - at < WINDOW)
        assert not request.automatic or within <= limit
    for start, _, _ in places:
        automatic = sum(n for at, request, n in places if request.automatic and timedelta(0) <= at - start < WINDOW)
        assert automatic <= limit


@given(STEPS, st.integers(0, 5))
def test_nor_does_a_department(steps: list[tuple[timedelta, Reserve]], limit: int) -> None:
    places = _granted(steps, 1000, limit)
    for name in ("finance", "it"):
        mine = [(at, r, n) for at, r, n in places if (r.department or "").strip().casefold() == name]
        for start, _, _ in mine:
            automatic = sum(n for at, r, n in mine if r.automatic and timedelta(0) <= at - start < WINDOW)
            assert automatic <= limit


@given(STEPS, st.lists(st.integers(0, 60), max_size=5))
def test_what_is_approved_is_held_by_the_freeze_alone(
    steps: list[tuple[timedelta, Reserve]], switched: list[int]
) -> None:
    ledger, at = Ledger(), AT
    for number, (wait, request) in enumerate(steps):
        at += wait
        if number in switched:
            ledger, _ = thaw(ledger, ANA, at) if ledger.freeze else freeze(ledger, ANA, at)
        ledger, told = reserve(ledger, request.model_copy(update={"automatic": False, "max_per_hour": 0}), at)
        assert told.granted is not told.frozen
        assert told.frozen is (ledger.freeze is not None)


@given(REQUESTS, STEPS)
def test_a_key_has_one_place(request: Reserve, steps: list[tuple[timedelta, Reserve]]) -> None:
    ledger, (first,) = asked(request.model_copy(update={"key": "mine"}))
    for _, other in steps:
        ledger, _ = reserve(ledger, other, AT)
    again, second = reserve(ledger, request.model_copy(update={"key": "mine"}), AT)
    if first.granted:
        assert second == first
        assert again.entries == ledger.entries


@given(STEPS)
def test_all_or_nothing(steps: list[tuple[timedelta, Reserve]]) -> None:
    ledger, at = Ledger(), AT
    for wait, request in steps:
        at += wait
        before = {(e.key, a) for e in prune(ledger, at).entries for a in e.actions}
        ledger, told = reserve(ledger, request, at)
        after = {(e.key, a) for e in ledger.entries for a in e.actions}
        assert after - before in (set(), {(request.key, a) for a in request.actions} - before)
        assert told.granted is all((request.key, a) in after for a in request.actions)
        assert bool(told.reason) is not told.granted


# In words, and at the edges


@pytest.mark.parametrize(
    ("before", "wanted", "limit", "why"),
    [
        (100, HOST, 100, "100 of 100 automatic containments within the hour are used up; a person decides"),
        (
            3,
            CONTAIN,
            4,
            "3 of 4 automatic containments within the hour are used, and 2 are asked for at once; a person",
        ),
        (0, HOST, 0, "no automatic containment is allowed (max_per_hour is 0); a person decides"),
        (3, HOST, 4, None),
    ],
)
def test_why_nothing_is_left(before: int, wanted: tuple[ActionName, ...], limit: int, why: str | None) -> None:
    first = [ask(f"k{n}", actions=HOST, max_per_hour=1000) for n in range(before)]
    ledger, _ = asked(*first)
    _, told = reserve(ledger, ask("last", actions=wanted, max_per_hour=limit), AT)
    assert told.granted is (why is None)
    assert told.reason.startswith(why or "")
    assert not told.frozen


def test_what_people_approved_counts_and_is_named() -> None:
    ledger, _ = asked(ask(automatic=False), ask("k2", automatic=False))
    told = reserve(ledger, ask("k3", actions=HOST), AT)[1]
    assert told.reason.startswith(
        "4 of 4 automatic containments within the hour are used up (4 of them approved by peo"
    )


def test_a_department_is_told_by_its_name_and_an_unknown_one_counts_in_all_only() -> None:
    limits = {"actions": HOST, "max_per_hour": 100, "max_per_department": 1}
    _, told = asked(
        ask("k1", department="Finance", **limits),
        ask("k2", department="FINANCE ", **limits),
        ask("k3", department="IT", **limits),
        ask("k4", **limits),
        ask("k5", **limits),
    )
    assert [answer.granted for answer in told] == [True, False, True, True, True]
    assert told[1].reason == (
        "1 of 1 automatic containments within the hour in department FINANCE are used up; a person decides"
    )


def test_a_place_counts_for_an_hour_to_the_second() -> None:
    ledger, _ = asked(ask(max_per_hour=2))
    for late, granted in ((timedelta(seconds=3599), False), (WINDOW, True)):
        assert reserve(ledger, ask("k2", max_per_hour=2), AT + late)[1].granted is granted


def test_the_freeze_holds_everything_and_names_who_when_and_why() -> None:
    ledger, _ = asked(ask())
    ledger, changed = freeze(ledger, ANA, AT)
    assert changed
    _, told = asked(ask(), ask("k2"), ask("k3", automatic=False), ledger=ledger)
    why = "containment is frozen by ana@acme.example since 2026-03-14 03:00:00 UTC: the SIEM floods us"
    assert told == [Reservation(granted=False, frozen=True, reason=why)] * 3
    ledger, changed = freeze(ledger, Switch(by="bob", reason="me too"), AT + WINDOW)
    assert (changed, ledger.freeze and ledger.freeze.by) == (False, "ana@acme.example")
    ledger, changed = thaw(ledger, ANA, AT + WINDOW)
    assert (changed, thaw(ledger, ANA, AT)[1]) == (True, False)
    assert reserve(ledger, ask("k4"), AT + WINDOW)[1].granted
    assert [(turned.what, turned.by) for turned in ledger.history] == [
        ("freeze", "ana@acme.example"),
        ("freeze", "bob"),
        ("thaw", "ana@acme.example"),
    ]


def test_a_full_ledger_gives_nothing_automatic_and_counts_what_is_approved() -> None:
    entry = Entry(key="x", case_id="x", actions=HOST, department=None, automatic=False, at=AT)
    entries = tuple(entry.model_copy(update={"key": f"x{n}"}) for n in range(MAX_ENTRIES))
    ledger, told = asked(
        ask(max_per_hour=10**6), ask("k2", automatic=False), ask("k3", automatic=False), ledger=Ledger(entries=entries)
    )
    assert [answer.granted for answer in told] == [False, True, True]
    assert len(ledger.entries) == MAX_ENTRIES
    assert ledger.spilled
    assert ledger.spilled.count == 4
    later = prune(ledger.model_copy(update={"entries": entries[:1]}), AT + timedelta(minutes=59))
    assert not reserve(later, ask(department="IT", max_per_department=4, max_per_hour=99), later.spilled.at)[1].granted  # type: ignore[union-attr]
    assert prune(ledger, AT + WINDOW) == Ledger(limits=ledger.limits, refused=1)


def test_the_history_of_the_switch_is_bounded() -> None:
    ledger = Ledger()
    for _ in range(200):
        ledger, _ = freeze(ledger, ANA, AT)
    assert len(ledger.history) == 50


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, 'want {"by": ..., "reason": ...}'),
        (["x"], "want {"),
        ({}, "by: is missing"),
        ({"by": "ana"}, "reason: is missing"),
        ({"by": " \x1b[2J\u202e", "reason": "x"}, "by: is missing"),
        ({"by": "ana", "reason": 7}, "reason: is no text"),
        ({"by": "ana", "reason": "x", "until": "noon"}, "until: there is no such key"),
    ],
)
def test_a_switch_says_who_and_why(raw: Any, why: str) -> None:
    with pytest.raises(SwitchRefused) as refused:
        read_switch(raw)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    "changed",
    [{"key": " "}, {"key": "x" * 201}, {"actions": ()}, {"max_per_hour": -1}, {"max_per_department": -1}],
)
def test_a_faulty_request_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=": "):
        reserve(Ledger(), ask(**changed), AT)


def test_the_view_and_the_details() -> None:
    evil = "# *x*\n<b>"
    ledger, _ = asked(ask(department=evil), ask("k2", department="IT", automatic=False), ask("k3", max_per_hour=4))
    shown = view(ledger, AT)
    assert (shown["used"], shown["approved"], shown["refused"], shown["frozen"]) == (4, 2, 1, False)
    assert shown["departments"] == {"# *x* <b>": 2, "IT": 2}
    assert used_words(shown) == "4 of 4 containments within the hour, 2 of them approved by people"
    assert view(ledger, AT + WINDOW)["used"] == 0
    assert details(ledger, AT).startswith("# Not frozen\n")
    frozen, _ = freeze(ledger, Switch(by=evil, reason=evil), AT)
    text = details(frozen, AT)
    assert text.startswith("# FROZEN\n\n**By ")
    assert "<b>" not in text
    assert "since 2026-03-14 03:00:00 UTC" in text
    assert "**4 of 4 containments within the hour, 2 of them approved by people**" in text
    assert Ledger.model_validate_json(frozen.model_dump_json()) == frozen
    assert budget.frozen_words(frozen.freeze) in str(reserve(frozen, ask("k9"), AT)[1].reason)  # type: ignore[arg-type]
