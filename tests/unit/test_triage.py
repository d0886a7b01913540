"""The decision table, over every combination, against the table of the contract typed once more as data."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident import table
from incident.evidence import Fact, Risk
from incident.table import table_markdown
from incident.triage import CONTAIN, ActionName, Corroborated, Priority, RiskLevel, Verdict, decide, raise_for_risk
from tests.unit.builders import AT, policy

QUARANTINE, DISABLE = "quarantine_host", "disable_account"

# risk, corroborated, what low, medium, high and critical become, and the actions (none: hold point).
CONTRACT: list[tuple[str, str, str, list[str]]] = [
    ("medium", "yes", "critical critical critical critical", [QUARANTINE, DISABLE]),
    ("high", "yes", "critical critical critical critical", [QUARANTINE, DISABLE]),
    ("medium", "no", "medium high high critical", []),
    ("medium", "unknown", "medium high high critical", []),
    ("high", "no", "medium high high critical", []),
    ("high", "unknown", "medium high high critical", []),
    ("low", "yes", "high high high critical", [DISABLE]),
    ("low", "no", "low medium high critical", []),
    ("low", "unknown", "low medium high critical", []),
    ("unknown", "yes", "low medium high critical", []),
    ("unknown", "no", "low medium high critical", []),
    ("unknown", "unknown", "low medium high critical", []),
]

EVERYTHING = list(itertools.product(Priority, RiskLevel, Corroborated))
every_combination = pytest.mark.parametrize(("before", "risk", "corroborated"), EVERYTHING)


def test_the_contract_names_every_combination() -> None:
    assert sorted((risk, corroborated) for risk, corroborated, _, _ in CONTRACT) == sorted(
        itertools.product(("low", "medium", "high", "unknown"), ("yes", "no", "unknown"))
    )


@pytest.mark.parametrize(("risk", "corroborated", "becomes", "actions"), CONTRACT)
def test_each_row_is_the_contract(risk: str, corroborated: str, becomes: str, actions: list[str]) -> None:
    for before, after in zip(("low", "medium", "high", "critical"), becomes.split(), strict=True):
        verdict = decide(Priority(before), RiskLevel(risk), Corroborated(corroborated))
        assert verdict.priority.value == after
        assert [action.value for action in verdict.actions] == actions
        assert verdict.holds == (not actions)


@every_combination
def test_a_priority_is_never_lowered(before: Priority, risk: RiskLevel, corroborated: Corroborated) -> None:
    after = decide(before, risk, corroborated).priority
    assert after.rank >= before.rank
    if before is Priority.CRITICAL:
        assert after is Priority.CRITICAL


@every_combination
def test_nothing_unknown_ever_contains(before: Priority, risk: RiskLevel, corroborated: Corroborated) -> None:
    if risk is RiskLevel.UNKNOWN or corroborated is not Corroborated.YES:
        assert decide(before, risk, corroborated).actions == ()


@every_combination
def test_the_account_is_disabled_wherever_anything_is_done(
    before: Priority, risk: RiskLevel, corroborated: Corroborated
) -> None:
    actions = decide(before, risk, corroborated).actions
    assert actions in ((), (ActionName.DISABLE_ACCOUNT,), CONTAIN)


@every_combination
def test_the_raise_for_risk_comes_before_corroboration(
    before: Priority, risk: RiskLevel, corroborated: Corroborated
) -> None:
    """What the risk alone does is a step on the way: the whole table never ends below it."""
    halfway = raise_for_risk(before, risk)
    whole = decide(before, risk, corroborated).priority
    assert before.rank <= halfway.rank <= whole.rank
    assert halfway.rank - before.rank <= 1
    if corroborated is not Corroborated.YES:
        assert whole is halfway
    if risk in (RiskLevel.LOW, RiskLevel.UNKNOWN):
        assert halfway is before
    elif before in (Priority.LOW, Priority.MEDIUM):
        assert halfway.rank == before.rank + 1


@every_combination
def test_deciding_again_with_the_raised_priority_contains_the_same(
    before: Priority, risk: RiskLevel, corroborated: Corroborated
) -> None:
    """The workflow raises for the risk first and then asks the table: what is done does not hang on the priority."""
    direct = decide(before, risk, corroborated)
    assert decide(raise_for_risk(before, risk), risk, corroborated).actions == direct.actions


@pytest.mark.parametrize("ceiling", [None, *Priority])
@pytest.mark.parametrize("before", Priority)
def test_raising_goes_one_level_and_not_over_the_ceiling(before: Priority, ceiling: Priority | None) -> None:
    after = before.raised(ceiling=ceiling)
    assert before.rank <= after.rank <= before.rank + 1
    if ceiling and before.rank <= ceiling.rank:
        assert after.rank <= ceiling.rank
    if ceiling and before.rank > ceiling.rank:
        assert after is before


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_score_has_the_level_of_its_thresholds(score: float) -> None:
    level = policy(medium_at=30, high_at=70).level(Fact[Risk].of(Risk(score=score, documents=1), "siem", AT))
    expected = RiskLevel.HIGH if score >= 70 else RiskLevel.MEDIUM if score >= 30 else RiskLevel.LOW
    assert level is expected


@pytest.mark.parametrize(
    ("score", "level"),
    [(0.01, "low"), (29.99, "low"), (30, "medium"), (69.99, "medium"), (70, "high"), (100, "high"), (4711, "high")],
)
def test_thresholds_belong_to_the_upper_level(score: float, level: str) -> None:
    assert policy().level(Fact[Risk].of(Risk(score=score, documents=1), "siem", AT)).value == level


def test_an_unknown_score_is_a_level_of_its_own() -> None:
    assert policy().level(Fact[Risk].unknown("the SIEM is down")) is RiskLevel.UNKNOWN


def test_the_printed_table_is_the_contract() -> None:
    assert table_markdown().splitlines() == [
        "| risk | corroborated | priority becomes | what happens |",
        "|---|---|---|---|",
        "| medium, high | yes | critical | quarantine the host and disable the account, then open a ticket |",
        "| medium, high | no, or unknown | raised one level, at most to high | hold point |",
        "| low | yes | high | disable the account, then open a ticket |",
        "| low | no, or unknown | unchanged | hold point |",
        "| unknown | any | unchanged | hold point |",
    ]


def test_the_printed_table_follows_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another function, another table: nothing of it is written down a second time."""

    def lenient(before: Priority, risk: RiskLevel, corroborated: Corroborated) -> Verdict:
        if risk is RiskLevel.HIGH:
            return Verdict(priority=before.raised(), actions=(ActionName.QUARANTINE_HOST,))
        return decide(before, risk, corroborated)

    monkeypatch.setattr(table, "decide", lenient)
    rows = table_markdown().splitlines()[2:]
    assert "| high | any | raised one level | quarantine the host, then open a ticket |" in rows
    assert "| medium | yes | critical | quarantine the host and disable the account, then open a ticket |" in rows
