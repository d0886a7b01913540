"""What a case keeps of many alerts: none is lost, none counts twice, and the record stays small."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from incident import joined
from incident.joined import MOST_NAMED, MOST_OTHERS, Joined, known_in, mark_of, packed, unpacked
from incident.record import CaseRecord
from tests.unit.builders import AT, alert, record

IDS = st.lists(st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip())), max_size=40)


@given(IDS)
@example(["\x9b"])
@settings(deadline=None)
def test_none_is_lost_and_none_counts_twice(ids: list[str]) -> None:
    case, expected = record(), {"SNX-200417"}
    for number, one in enumerate(ids):
        joining = alert(id=one)
        assert case.join(joining, AT) is (joining.id not in expected)
        expected.add(joining.id)
        if number % 7 == 3:
            case.tell_joined(AT)
            case = CaseRecord.model_validate_json(case.model_dump_json())
    case.tell_joined(AT)
    state = case.status()
    assert set(state["alerts"]) == expected
    assert state["alerts_total"] == len(expected)
    assert state["joined_alerts"]["count"] == len(expected) - 1
    lines = [event.text for event in case.events if " joined" in event.text]
    told = sum(1 if " joined (" in line else int(line.split()[0].replace(",", "")) for line in lines)
    assert told == len(expected) - 1


@given(st.lists(st.integers(0, 2**64 - 1), unique=True))
def test_marks_are_text_and_back_in_their_order(marks: list[int]) -> None:
    assert list(unpacked(packed(marks))) == marks


@pytest.mark.parametrize("text", ["a", "AAAA", "%%%%"])
def test_what_are_no_marks(text: str) -> None:
    with pytest.raises(ValueError, match="no marks"):
        unpacked(text)


def test_twenty_thousand_are_known_again_and_are_small() -> None:
    case = record()
    ids = [f"SNX-{number}" for number in range(20_000)]
    for one in ids:
        assert case.join(alert(id=one), AT)
    case = CaseRecord.model_validate_json(case.model_dump_json())
    assert not any(case.join(alert(id=one), AT) for one in ids)
    result = case.result()
    assert (len(result["alerts"]), result["alerts_total"]) == (MOST_NAMED, 20_001)
    assert "alert_marks" not in case.status()
    assert known_in(json.loads(json.dumps(result)), [*ids, "another"]) == set(ids)
    assert len(case.model_dump_json()) < 400_000
    assert len(json.dumps(case.status())) < 60_000
    assert len(case.events) < 30


def test_a_small_case_leaves_what_it_always_left() -> None:
    case = record()
    assert case.join(alert(id="B"), AT)
    assert case.result() == case.status()
    assert known_in(case.result(), ["B", "C"]) == {"B"}


def test_beyond_a_bound_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "MOST_KNOWN", 100)
    kept = Joined()
    for number in range(1000):
        kept.mark(mark_of("key", str(number)))
    assert kept.total == 1000
    assert len(kept.marks) <= 100
    assert kept.knows(mark_of("key", "999"))
    assert not kept.knows(mark_of("key", "0"))


def test_a_record_of_before_knows_its_alerts() -> None:
    case = record()
    case.join(alert(id="B"), AT)
    old = case.model_dump(mode="json")
    del old["joined"]
    again = CaseRecord.model_validate(old)
    assert again.has("B")
    assert again.status()["alerts_total"] == 2
    assert not again.join(alert(id="SNX-200417"), AT)


def test_rules_are_counted_up_to_a_bound() -> None:
    case = record()
    for number in range(100):
        case.join(alert(id=str(number), rule=f"rule {number}", severity="high" if number == 50 else "low"), AT)
    told = case.status()["joined_alerts"]
    assert len(told["rules"]) == joined.MOST_RULES + 1
    assert sum(told["rules"].values()) == 100
    assert told["severities"] == {"low": 99, "high": 1}


def test_alerts_of_somebody_else_wait_in_little_room() -> None:
    kept = Joined()
    large = alert(id="x" * 256, rule="r" * 5000, user_account="u" * 3000, evidence={"much": "y" * 50_000})
    took = [kept.keep(large) for _ in range(MOST_OTHERS + 3)]
    assert took == [True] * MOST_OTHERS + [False] * 3
    assert kept.view()["others_total"] == MOST_OTHERS + 3
    assert len(kept.model_dump_json()) < 800_000
    assert kept.others[0].id == large.id
    assert kept.others[0].case_id == large.case_id
