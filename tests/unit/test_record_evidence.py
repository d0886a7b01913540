"""A record held against what Temporal kept: whoever seals another story, with the key, is found in each part of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident.chain import origin
from incident.record import ActionRecord, CaseRecord, DecidedBy, Decision, Outcome, Stage, TicketRecord
from incident.requests import ActionState
from incident.sealing import exported
from incident.triage import CONTAIN, ActionName
from record_evidence import Held, History, Message, Step, Witness, compare
from tests.unit.builders import AT, alert, learn, record

ANALYST = "ana@acme.example"
ANSWER = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
DISABLED = {"changed": True, "before": {"userAccountControl": "512"}, "detail": ""}
TICKET = {"id": "sys1", "number": "INC0001", "url": None}


def at(seconds: int) -> Any:
    return AT + timedelta(seconds=seconds)


def case() -> CaseRecord:
    """A case that was answered, and whose account was disabled."""
    made = learn(record(), "web01")
    made.join(alert(id="B"), at(1))
    made.dissented({"analyst": "mallory@acme.example", "decision": "contain"}, "not named", at(2))
    made.note(at(3), f"{ANALYST} answered contain: seen it", actor=ANALYST, source="hold point")
    made.decision = Decision(
        decision="contain",
        by=DecidedBy.ANALYST,
        analyst=ANALYST,
        reason="seen it",
        actions=CONTAIN[1:],
        question="Q1",
        at=at(3),
    )
    made.note(at(4), "disable_account jdoe: requested")
    made.note(at(8), "disable_account jdoe: verified")
    made.actions.append(
        ActionRecord(
            action=ActionName.DISABLE_ACCOUNT,
            target="jdoe",
            state=ActionState.VERIFIED,
            before={"userAccountControl": "512"},
            changed=True,
            by=ANALYST,
            at=at(8),
        )
    )
    made.ticket = TicketRecord(state="open", **TICKET)
    made.outcome, made.stage = Outcome.ACCOUNT_DISABLED, Stage.CLOSED
    made.note(at(9), "case closed: account_disabled")
    return made


RECORD: dict[str, Any] = json.loads(json.dumps(exported(case())))
STATUS: dict[str, Any] = json.loads(json.dumps(case().status()))
MESSAGES = (
    Message(name="alert", argument=alert().model_dump(mode="json"), at=at(0)),
    Message(name="alert", argument=alert(id="B").model_dump(mode="json"), at=at(1)),
    Message(name="analyst_decision", argument={"analyst": "mallory@acme.example", "decision": "contain"}, at=at(2)),
    Message(name="decide", argument=ANSWER, at=at(3)),
)
STEPS = (
    Step(name="siem.locate_host", began=at(0), ended=at(0)),
    Step(name="directory.disable_account", began=at(4), ended=at(5), result=DISABLED),
    Step(name="directory.confirm_disabled", began=at(6), ended=at(7), result={"in_force": True}),
    Step(name="ticketing.open_ticket", began=at(8), ended=at(8), result=TICKET),
)
RESULT = Witness(where="the case's result", said=STATUS, final=True)
TOLD = Witness(where="the case itself", said=RECORD)
HISTORY = History(
    given={"alert": alert().model_dump(mode="json"), "policy": None},
    messages=MESSAGES,
    steps=STEPS,
    witnesses=(RESULT, TOLD),
)
BLIND = HISTORY.model_copy(update={"witnesses": (), "unheard": "no worker answers"})
"""A history in which the case never said what it was: the messages and the steps alone."""


def held(changes: dict[str, Any], history: History = HISTORY) -> Held:
    return compare({**copy.deepcopy(RECORD), **changes}, history)


def wheres(found: Held) -> list[str]:
    return [finding.where for finding in found.findings]


def test_what_was_not_changed_agrees() -> None:
    found = compare(RECORD, HISTORY)
    assert (found.findings, found.unchecked) == ((), ())
    assert found.vouched == ("the case's result", "the case itself")


def test_without_a_witness_the_head_is_not_checked_and_the_rest_is() -> None:
    found = compare(RECORD, BLIND)
    assert found.findings == ()
    assert "no worker answers" in found.unchecked[0]


@pytest.mark.parametrize("name", sorted(set(STATUS) - {"case_id"}))
def test_each_field_is_held_against_what_the_case_closed_with(name: str) -> None:
    history = HISTORY.model_copy(update={"witnesses": (RESULT,)})
    other = {"entries": STATUS["record"]["entries"], "head": "0" * 64} if name == "record" else "another"
    assert name in wheres(held({name: other}, history))


def test_a_head_that_temporal_has_not_is_found() -> None:
    for witness in HISTORY.witnesses:
        history = HISTORY.model_copy(update={"witnesses": (witness,)})
        record = {**RECORD["record"], "head": "0" * 64}
        assert "record" in wheres(held({"record": record, "head": "0" * 64}, history))


def test_an_entry_that_the_case_words_otherwise_is_told_by_its_number() -> None:
    events = copy.deepcopy(RECORD["events"])
    events[2]["text"] = "x"
    found = held({"events": events})
    assert "entry 2" in wheres(found)
    assert "the case itself has another text" in next(f.what for f in found.findings if f.where == "entry 2")


def test_an_entry_that_is_missing_is_told_by_its_number() -> None:
    assert "entry 2" in wheres(held({"events": [e for e in RECORD["events"] if e["seq"] != 2]}))


def test_an_older_record_is_vouched_for_by_a_longer_one() -> None:
    older = exported(case())
    older["events"] = older["events"][:4]
    older["head"] = older["events"][-1]["digest"]
    older["record"] = {"entries": 4, "head": older["head"]}
    older.update(decision=None, actions=[], ticket=None, alerts=["SNX-200417", "B"])
    found = compare(older, HISTORY)
    assert found.vouched == ("the case itself, which begins with it",)
    assert found.findings == ()


def test_an_older_record_with_a_gap_is_not_vouched_for_by_what_comes_after_the_gap() -> None:
    """Its last entry leads on to the longer one, and says nothing of what stands before the gap."""
    older = {
        **RECORD,
        "gap": {"first": 1, "count": 2, "before": "", "after": ""},
        "record": {"entries": 4, "head": "x"},
    }
    older["events"] = [RECORD["events"][0], RECORD["events"][3]]
    assert compare(older, HISTORY).vouched == ()


def test_a_record_longer_than_the_case_is_found() -> None:
    record = {"entries": RECORD["record"]["entries"] + 1, "head": "0" * 64}
    assert "record" in wheres(held({"record": record}))


def changed(name: str, **fields: Any) -> dict[str, Any]:
    """The record with some of a field's own fields changed; of a list, of its first."""
    value = copy.deepcopy(RECORD[name])
    (value[0] if isinstance(value, list) else value).update(fields)
    return {name: value}


FORGERIES: list[tuple[dict[str, Any], str]] = [
    ({"alert": {**RECORD["alert"], "rule": "Lunch"}}, "alert"),
    ({"alerts": ["SNX-200417"]}, "alerts"),
    ({"alerts": ["SNX-200417", "B", "C"]}, "alerts"),
    (changed("decision", analyst="bob@acme.example"), "decision"),
    (changed("decision", decision="false_positive"), "decision"),
    (changed("decision", reason="the chief wanted it"), "decision"),
    (changed("decision", approvals=["bob@acme.example"]), "decision"),
    ({"actions": []}, "actions"),
    (changed("actions", before={"userAccountControl": "514"}), "actions"),
    (changed("actions", changed=False), "actions"),
    ({"actions": [*RECORD["actions"], {**RECORD["actions"][0], "action": "quarantine_host"}]}, "actions"),
    ({"ticket": None}, "ticket"),
    (changed("ticket", number="INC0002"), "ticket"),
    ({"events": [e for e in RECORD["events"] if "disable_account" not in e["text"]]}, "events"),
    ({"events": [e for e in RECORD["events"] if e["source"] != "answer"]}, "events"),
    ({"events": [e for e in RECORD["events"] if e["source"] != "hold point"]}, "events"),
    ({"events": [*RECORD["events"], {**RECORD["events"][3], "actor": "bob@acme.example"}]}, "events"),
]


@pytest.mark.parametrize(("changes", "where"), FORGERIES, ids=lambda value: value if isinstance(value, str) else "")
def test_messages_and_steps_alone_find_a_forgery(changes: dict[str, Any], where: str) -> None:
    assert where in wheres(held(changes, BLIND))


LOST: list[tuple[Callable[[Step], bool], str]] = [
    (lambda step: step.name == "directory.disable_account", "actions"),
    (lambda step: step.name == "directory.confirm_disabled", "actions"),
    (lambda step: step.name == "ticketing.open_ticket", "ticket"),
]


@pytest.mark.parametrize(("lost", "where"), LOST)
def test_what_was_never_done_is_found(lost: Callable[[Step], bool], where: str) -> None:
    history = BLIND.model_copy(update={"steps": tuple(step for step in STEPS if not lost(step))})
    assert wheres(compare(RECORD, history)) == [where]


def test_what_came_after_the_record_is_not_missed_in_it() -> None:
    late = (
        *MESSAGES,
        Message(name="alert", argument=alert(id="LATE").model_dump(mode="json"), at=at(20)),
        Message(name="analyst_decision", argument=ANSWER, at=at(20)),
    )
    steps = (*STEPS, Step(name="endpoint.quarantine_host", began=at(20)))
    assert compare(RECORD, BLIND.model_copy(update={"messages": late, "steps": steps})).findings == ()


def test_an_alert_about_another_host_and_one_that_is_none_joined_nothing() -> None:
    others = (
        Message(name="alert", argument=alert(id="D", destination_ip="10.9.9.9").model_dump(mode="json"), at=at(1)),
        Message(name="alert", argument={"id": 1}, at=at(1)),
    )
    assert compare(RECORD, BLIND.model_copy(update={"messages": (*MESSAGES, *others)})).findings == ()


def test_a_bare_alert_starts_a_case_as_well() -> None:
    assert compare(RECORD, HISTORY.model_copy(update={"given": alert().model_dump(mode="json")})).findings == ()


def test_what_a_flood_drove_out_is_not_missed() -> None:
    gap = {"first": 1, "count": 9, "before": "", "after": ""}
    events = [e for e in RECORD["events"] if e["source"] != "answer" and "disable_account" not in e["text"]]
    assert held({"events": events, "gap": gap}, BLIND).findings == ()


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(RECORD)), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RECORD)), JUNK))
def test_junk_is_judged_and_never_fails(junk: dict[str, Any]) -> None:
    compare({**RECORD, **junk}, HISTORY)
    compare(junk, HISTORY)
    compare(RECORD, History(given=junk, messages=(Message(name="decide", argument=junk, at=AT),)))


def test_the_origin_is_the_case_s_own() -> None:
    assert origin(RECORD["case_id"], RECORD["case_key"]) != origin("other", RECORD["case_key"])
