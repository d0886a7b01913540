"""The case record: everything joins once, nothing is lowered, nothing grows without bound, and all of it is JSON."""

from __future__ import annotations

import json
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.evidence import Corroboration, Fact, Host, Person
from incident.record import (
    ActionRecord,
    Asked,
    CaseRecord,
    DecidedBy,
    Decision,
    Outcome,
    Question,
    Stage,
    TicketRecord,
)
from incident.requests import ActionState
from incident.triage import CONTAIN, ActionName, Corroborated, Priority, RiskLevel
from tests.unit.builders import AT, HOSTILE, NAMES, SEVERITIES, alert, learn, person, record

CONTRACT_NAMES = {
    *("case_id", "alerts", "stage", "priority", "priority_history", "host", "user", "risk", "corroboration"),
    *("question", "decision", "dissent", "actions", "ticket", "outcome"),
}
OURS = {
    "reference",
    "device",
    "record",
    "superseded",
    "voters",
    "alerts_total",
    "joined_alerts",
    "others",
    "others_total",
}
FACTS = ("host", "user", "risk", "corroboration", "device")


def clean(text: str) -> bool:
    """One line that steers no terminal."""
    return not [c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in "\u202e\u2066\u200b"]


def whole(name: str) -> CaseRecord:
    """A case in which everything has happened, and whatever has a name has this one."""
    case = learn(record(alert(rule=name, source_host=name)), name)
    case.question = Question(id="HP-1-Q1", actions=CONTAIN, tier="analyst", due_at=AT, why=name)
    case.question.asked.append(
        Asked(tier="analyst", kind="ask", at=AT, recipients=("a@x.org",), refused={"a@x.org": name})
    )
    case.decision = Decision(
        decision="contain", by=DecidedBy.ANALYST, analyst=name, reason=name, actions=CONTAIN, question="HP-1-Q1", at=AT
    )
    case.actions.append(
        ActionRecord(
            action=ActionName.DISABLE_ACCOUNT,
            target=name,
            state=ActionState.VERIFIED,
            before={"userAccountControl": name},
            changed=True,
            by=name,
            at=AT,
            detail=name,
        )
    )
    case.ticket = TicketRecord(state="open", id="1", number=name, url=name)
    case.outcome = Outcome.ACCOUNT_DISABLED
    case.dissented({"decision": name, "analyst": name, "reason": name}, name, AT)
    return case


def test_a_new_case() -> None:
    case = record(alert(severity="high"))
    state = case.status()
    assert state["stage"] == "enriching"
    assert state["alerts"] == ["SNX-200417"]
    assert [(c["priority"], c["reason"]) for c in state["priority_history"]] == [
        ("high", "severity of alert SNX-200417")
    ]
    for name in FACTS:
        assert state[name] == {"known": False, "reason": "not looked up yet", "candidates": []}
    for name in ("question", "decision", "ticket", "outcome"):
        assert state[name] is None
    assert case.corroborated is Corroborated.UNKNOWN


def test_cases_do_not_share_what_they_collect() -> None:
    first, second = record(), record()
    first.dissented({}, "x", AT)
    first.actions.append(whole("x").actions[0])
    first.note(AT, "only here")
    assert (second.dissent, second.actions, len(second.events)) == ([], [], 1)


def test_key_and_reference_tell_runs_apart_and_name_nobody() -> None:
    one = CaseRecord.opened(alert(), "sua-acme-10.20.30.40", "run-1", AT)
    again = CaseRecord.opened(alert(id="B"), "sua-acme-10.20.30.40", "run-1", AT)
    other = CaseRecord.opened(alert(), "sua-acme-10.20.30.40", "run-2", AT)
    assert one.key == again.key != other.key
    assert one.reference == again.reference != other.reference
    assert "10.20" not in one.key + one.reference
    assert "acme" not in one.key + one.reference


@pytest.mark.parametrize("case", [record(), whole("web01")], ids=["new", "whole"])
def test_status_has_the_names_of_the_contract(case: CaseRecord) -> None:
    assert set(case.status()) == CONTRACT_NAMES | OURS


def test_status_nests_as_the_contract_says() -> None:
    state = whole("web01").status()
    assert {"id", "due_at", "tier", "asked"} <= set(state["question"])
    assert {"action", "target", "state", "before", "by", "at"} <= set(state["actions"][0])
    assert set(state["priority_history"][0]) == {"priority", "reason", "at"}
    assert {name: state[name]["value"] for name in FACTS} == {
        "host": "web01",
        "user": "web01",
        "risk": "unknown",
        "corroboration": True,
        "device": "web01",
    }
    for name in FACTS:
        assert {"known", "value", "source", "at"} <= set(state[name])
        assert "reason" not in state[name]


def test_the_risk_is_told_as_its_level() -> None:
    case = learn(record(), "web01")
    case.risk_level = RiskLevel.MEDIUM
    assert case.status()["risk"]["value"] == "medium"
    assert case.status()["risk"]["detail"] == {"score": 50.0, "documents": 1}


@given(NAMES)
def test_an_unknown_fact_has_a_reason_and_no_value(why: str) -> None:
    case = record()
    case.host = Fact[Host].unknown(why, source="Securonix", at=AT, candidates=(why, why))
    case.user = Fact[Person].unknown(why)
    case.corroboration = Fact[Corroboration].unknown(why)
    state = case.status()
    for name in ("host", "user", "corroboration"):
        assert state[name]["known"] is False
        assert state[name]["reason"] == why
        assert not {"value", "detail"} & set(state[name])
    assert state["host"]["candidates"] == [why, why]
    assert case.corroborated is Corroborated.UNKNOWN


@pytest.mark.parametrize(("total", "corroborated"), [(0, Corroborated.NO), (3, Corroborated.YES)])
def test_corroboration_is_yes_or_no_once_it_is_known(total: int, corroborated: Corroborated) -> None:
    case = record()
    case.corroboration = Fact[Corroboration].of(Corroboration(total=total), "Securonix", AT)
    assert case.corroborated is corroborated
    assert case.status()["corroboration"]["value"] is (total > 0)


@given(NAMES)
def test_status_is_json_and_the_record_survives_a_history(name: str) -> None:
    case = whole(name)
    assert json.loads(json.dumps(case.status(), allow_nan=False)) == case.status()
    assert CaseRecord.model_validate_json(case.model_dump_json()).status() == case.status()


def test_an_alert_joins_once() -> None:
    case = record()
    assert not case.join(alert(severity="critical"), AT)
    assert case.join(alert(id="B"), AT)
    before = case.model_dump()
    assert not case.join(alert(id="B", severity="critical"), AT)
    assert case.model_dump() == before
    assert case.alerts == ["SNX-200417", "B"]


def test_a_joining_alert_raises_to_its_severity() -> None:
    case = record(alert(severity="low"))
    case.join(alert(id="B", severity="high"), AT)
    case.join(alert(id="C", severity="medium"), AT)
    assert [change.priority.value for change in case.priority_history] == ["low", "high"]
    assert case.priority_history[-1].reason == "severity of alert B, which joined"


STEPS = st.lists(st.tuples(st.sampled_from(["raise", "join"]), SEVERITIES, st.integers(0, 5)), max_size=20)


@given(SEVERITIES, STEPS)
def test_the_priority_only_ever_rises(first: str, steps: list[tuple[str, str, int]]) -> None:
    case = record(alert(severity=first))
    for number, (kind, severity, which) in enumerate(steps):
        at, before = AT + timedelta(seconds=number), case.priority
        if kind == "raise":
            changed = case.raise_priority(Priority(severity), "why", at)
            assert changed is (case.priority is not before)
        else:
            case.join(alert(id=f"A{which}", severity=severity), at)
        assert case.priority.rank >= before.rank
    ranks = [change.priority.rank for change in case.priority_history]
    assert ranks == sorted(set(ranks))
    assert case.priority_history[-1].priority is case.priority
    assert case.priority_history[0].priority.value == first
    times = [change.at for change in case.priority_history]
    assert times == sorted(times)
    assert len(case.alerts) == len(set(case.alerts))


def test_the_timeline_is_bounded_and_keeps_beginning_and_end() -> None:
    case = record()
    for number in range(1000):
        case.note(AT, f"line {number} " + "x" * 2000)
    assert len(case.events) == 400
    assert case.events_dropped == 601
    assert case.events[0].text.startswith("case opened by alert")
    assert case.events[1].text.startswith("line 0 ")
    assert case.events[-1].text.startswith("line 999 ")
    assert max(len(event.text) for event in case.events) == 500


def test_dissent_is_bounded() -> None:
    case = record()
    for number in range(300):
        case.dissented({"analyst": f"{number}" * 5000, "decision": "x" * 5000, "reason": "y" * 5000}, "z" * 5000, AT)
    assert len(case.dissent) == 100
    assert len(json.dumps(case.status())) < 200_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=6,
)


@given(JSON | st.dictionaries(st.sampled_from(["decision", "analyst", "reason"]), JSON))
def test_an_answer_of_any_shape_is_recorded_and_changes_nothing(raw: Any) -> None:
    case = record()
    before = case.status()
    case.dissented(raw, "late", AT)
    after = case.status()
    assert {**after, "dissent": [], "record": before["record"]} == before
    (kept,) = after["dissent"]
    assert kept["why"] == "late"
    assert all(clean(str(value)) for value in kept.values())
    json.dumps(after).encode()


@given(NAMES)
def test_nothing_in_the_timeline_steers_a_terminal(name: str) -> None:
    case = whole(name)
    case.join(alert(id="B" + name.replace("\ud800", ""), rule=name, severity="critical"), AT)
    case.raise_priority(Priority.CRITICAL, name, AT)
    case.note(AT, name)
    assert all(clean(event.text) for event in case.events)
    assert all(clean(change.reason) for change in case.priority_history)
    assert all(clean(part or "") for d in case.dissent for part in (d.decision, d.analyst, d.reason, d.why))


def test_actions_are_found_by_name() -> None:
    case = whole("web01")
    assert case.action(ActionName.DISABLE_ACCOUNT) is case.actions[0]
    assert case.action(ActionName.QUARANTINE_HOST) is None


def test_the_words_of_the_contract() -> None:
    assert [stage.value for stage in Stage] == [
        *("enriching", "triaging", "awaiting_decision", "containing", "verifying", "closed"),
    ]
    assert [outcome.value for outcome in Outcome] == [
        *("contained", "account_disabled", "partially_contained", "containment_failed", "false_positive"),
        *("unanswered", "duplicate", "observed"),
    ]


def test_what_is_known_of_a_person_is_shown() -> None:
    case = record()
    case.user = Fact[Person].of(person(), "Active Directory", AT)
    view = case.status()["user"]
    assert (view["value"], view["source"]) == ("jdoe", "Active Directory")
    assert view["detail"]["mails"] == ["jane.doe@example.com"]
    assert view["at"] == "2026-03-14T12:34:56Z"
