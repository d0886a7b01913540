"""Two people of two tiers, for each action: no order, doubling or narrowing of approvals gets round it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from incident.policy import Tier
from incident.quorum import approved, obtainable, tiers_of
from incident.record import Approved
from incident.triage import CONTAIN, ActionName

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
TIERS = tuple(
    Tier(name=name, recipients=("x@acme.example",), analysts=analysts, wait=timedelta(minutes=1))
    for name, analysts in (("one", ("a", "b", "c")), ("two", ("c", "d")), ("three", ("e",)))
)


def approval(analyst: str, actions: tuple[ActionName, ...] = CONTAIN) -> Approved:
    return Approved(analyst=analyst, tiers=tiers_of(analyst, TIERS), actions=actions, reason="x", at=AT)


def test_the_same_tier_twice_is_one_tier() -> None:
    assert approved([approval("a"), approval("b")]) == ()
    assert approved([approval("a"), approval("A")]) == ()
    assert approved([approval("a"), approval("c")]) == CONTAIN
    assert approved([approval("c"), approval("C")]) == ()


def test_each_action_needs_its_own_two() -> None:
    host, account = (ActionName.QUARANTINE_HOST,), (ActionName.DISABLE_ACCOUNT,)
    given_so_far = [approval("a"), approval("b", account), approval("d", host)]
    assert approved(given_so_far) == host
    assert approved([approval("a", host), approval("d", account)]) == ()


@given(st.lists(st.tuples(st.sampled_from("abcdeABCDEx"), st.sets(st.sampled_from(CONTAIN)))))
def test_whatever_is_approved_has_two_different_people_of_two_different_tiers(
    answers: list[tuple[str, set[ActionName]]],
) -> None:
    approvals = [approval(who, tuple(actions)) for who, actions in answers]
    for action in approved(approvals):
        people = {a.analyst.casefold(): set(a.tiers) for a in approvals if action in a.actions}
        assert len(people) > 1
        assert len(set().union(*people.values())) > 1


def test_a_quorum_that_cannot_be_had() -> None:
    assert obtainable(TIERS)
    assert not obtainable(TIERS[:1])
    twin = TIERS[2].model_copy(update={"name": "four"})
    assert not obtainable((TIERS[2], twin))
    assert not obtainable((TIERS[0], TIERS[1].model_copy(update={"analysts": ()})))
