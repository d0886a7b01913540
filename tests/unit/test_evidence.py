"""Facts are known or unknown, never half of each; people are recognised by every name they have."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from incident.evidence import Corroboration, Fact, Identity, Risk
from tests.unit.builders import AT, NAMES

HALVES: list[dict[str, Any]] = [
    dict(zip(("value", "source", "at", "reason"), parts, strict=True))
    for parts in itertools.product(("web01", None), ("siem", None), (AT, None), ("down", None))
]


@pytest.mark.parametrize("parts", HALVES)
def test_a_fact_is_whole_or_has_a_reason(parts: dict[str, Any]) -> None:
    given_value = all(parts[key] is not None for key in ("value", "source", "at")) and parts["reason"] is None
    if given_value:
        assert Fact[str](known=True, **parts).value == "web01"
    else:
        with pytest.raises(ValidationError):
            Fact[str](known=True, **parts)
    if parts["value"] is None and parts["reason"]:
        assert Fact[str](known=False, **parts).reason == "down"
    else:
        with pytest.raises(ValidationError):
            Fact[str](known=False, **parts)


def test_a_reason_is_not_empty() -> None:
    with pytest.raises(ValidationError):
        Fact[str].unknown("")


def test_a_time_carries_its_zone() -> None:
    with pytest.raises(ValidationError):
        Fact[str].of("web01", "siem", AT.replace(tzinfo=None))


def test_a_fact_does_not_change() -> None:
    fact = Fact[str].of("web01", "siem", AT)
    with pytest.raises(ValidationError):
        fact.value = "web02"  # type: ignore[misc]


@given(NAMES)
def test_a_fact_survives_the_journey_as_json(text: str) -> None:
    known = Fact[str].of(text, text, AT)
    unknown = Fact[str].unknown(text, source=text, candidates=(text, text))
    for fact in (known, unknown):
        assert Fact[str].model_validate_json(fact.model_dump_json()) == fact


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("jdoe", True),
        (" JDOE ", True),
        ("Jane.Doe@corp.example.com", True),
        ("JANE@EXAMPLE.COM", True),
        ("jd@example.com", True),
        ("Jane Doe", False),
        ("jane", False),
        ("doe", False),
        ("", False),
        ("  ", False),
    ],
)
def test_people_are_recognised_by_account_upn_and_mail(name: str, meant: bool) -> None:
    jane = Identity(
        account="JDoe",
        upn="jane.doe@corp.example.com",
        mails=("jane@example.com", "jd@example.com"),
        display_name="Jane Doe",
    )
    assert jane.answers_to(name) is meant


@given(st.text(max_size=5))
def test_nobody_without_names_answers(name: str) -> None:
    assert not Identity(account="", upn=None, mails=("",)).answers_to(name)


@pytest.mark.parametrize(("total", "found"), [(0, False), (1, True), (500, True)])
def test_corroboration_counts_all_and_not_only_the_listed(total: int, found: bool) -> None:
    assert Corroboration(total=total).found is found


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_a_score_is_a_number(score: str) -> None:
    """NaN compares as lower than every threshold: taken as a score it would make somebody low."""
    with pytest.raises(ValidationError):
        Risk(score=float(score), documents=1)
