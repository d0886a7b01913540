"""The case as the desk shows it: what is asked, what it would do, and the name that a person types."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.decision import Electorate
from incident.desk import desk_view, name_after, names_target, targets
from incident.evidence import Device, Fact, Host, Person
from incident.policy import Approval, GuardrailPolicy, Mode
from incident.record import Asked, CaseRecord, DecidedBy, Decision, Question, Superseded
from incident.triage import CONTAIN, ActionName, RiskLevel
from tests.unit.builders import AT, NAMES, device, learn, person, policy, record

QUARANTINE, DISABLE = CONTAIN
RUN = "5d1c8e9e-run"


def known(**changed: Any) -> CaseRecord:
    case = record()
    case.host = Fact[Host].of(Host(name="ws-042.corp.example", ip="10.20.30.40"), "Securonix", AT)
    case.user = Fact[Person].of(person(**changed), "Active Directory", AT)
    case.device = Fact.of(device(), "CrowdStrike Falcon", AT)
    case.risk_level = RiskLevel.MEDIUM
    case.question = Question(id="HP-1-Q1", digest="d" * 64, actions=CONTAIN, tier="analyst", due_at=AT, why="Why.")
    return case


def view(case: CaseRecord, **guardrails: Any) -> dict[str, Any]:
    steering = policy(guardrails=GuardrailPolicy(**guardrails))
    electorate = Electorate.of(steering.tiers, case.user.value, ())
    told = desk_view(case, steering, electorate, RUN)
    json.dumps(told)
    return told


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {effect["action"]: effect["verdict"] for effect in told["question"]["effects"]}


def test_what_each_answer_will_do() -> None:
    told = view(known())
    assert verdicts(told) == {QUARANTINE: "done at once", DISABLE: "done at once"}
    assert [effect["text"] for effect in told["question"]["effects"]] == [
        "quarantine host ws-042.corp.example",
        "disable account jdoe",
    ]
    assert told["question"]["ticket"] == "a ticket is opened"
    assert "Nothing is touched" in told["question"]["nothing"]


@pytest.mark.parametrize(
    ("guardrails", "protected", "expected"),
    [
        ({"mode": Mode.OBSERVE}, False, ("written down, not done", "written down, not done")),
        ({"mode": Mode.ASK}, False, ("done at once", "done at once")),
        ({"protected_accounts": ("jdoe",)}, False, ("done at once", "asked about once more")),
        ({"protected_accounts": ("jdoe",)}, True, ("done at once", "done at once")),
        (
            {"protected_accounts": ("jdoe",), "protected_approval": Approval.NEVER},
            False,
            ("done at once", "left for hands"),
        ),
        (
            {"protected_accounts": ("jdoe",), "protected_approval": Approval.NEVER},
            True,
            ("done at once", "left for hands"),
        ),
    ],
)
def test_the_guardrails_verdict(guardrails: dict[str, Any], protected: bool, expected: tuple[str, str]) -> None:
    case = known()
    assert case.question
    case.question.protected = protected
    assert tuple(verdicts(view(case, **guardrails)).values()) == expected


def test_what_is_not_known_is_said() -> None:
    case = known()
    case.user = Fact[Person].unknown("two people were active", candidates=("jdoe", "asmith"))
    case.device = Fact[Device].unknown("no agent answers")
    told = view(case)
    assert set(verdicts(told).values()) == {"cannot be done"}
    assert {effect["reason"] for effect in told["question"]["effects"]} == {
        "two people were active",
        "no agent answers",
    }
    user = next(fact for fact in told["facts"] if fact["label"] == "User")
    assert (user["value"], user["candidates"]) == (None, ["jdoe", "asmith"])


def test_a_case_that_has_only_just_begun() -> None:
    told = desk_view(record(), None, None, RUN)
    assert (told["question"], told["decided"], told["electorate"]) == (None, None, None)
    assert told["targets"] == {"hosts": [], "accounts": [], "addresses": ["10.20.30.40"]}
    assert told["reference"].startswith("HP-")


def test_who_was_asked_stands_in_one_line_a_tier() -> None:
    case = known()
    assert case.question
    case.question.asked = [
        Asked(tier="analyst", kind="ask", at=AT, recipients=("a@example.com",)),
        Asked(
            tier="analyst", kind="remind", at=AT + timedelta(minutes=7), recipients=("a@example.com", "b@example.com")
        ),
        Asked(tier="lead", kind="escalate", at=AT, recipients=("l@example.com",), failed="no mail server answers"),
    ]
    first, second = view(case)["question"]["asked"]
    assert (first["tier"], first["mails"], first["since"]) == ("analyst", 2, AT.isoformat())
    assert first["recipients"] == ["a@example.com", "b@example.com"]
    assert second["trouble"] == ["no mail server answers"]


def test_what_was_decided_and_what_changed_is_there() -> None:
    case = known()
    case.superseded = [Superseded(question="HP-1-Q1", digest="e", at=AT, changes=("the host is another one",))]
    case.decision = Decision(
        decision="contain", by=DecidedBy.ANALYST, analyst="ann@example.com", reason="seen", actions=CONTAIN, at=AT
    )
    told = view(case)
    assert told["superseded"][0]["changes"] == ["the host is another one"]
    assert told["decided"] == "contain (quarantine_host, disable_account) by ann@example.com: seen"
    assert Electorate.model_validate(told["electorate"]).objection("ann@example.com") is None
    assert Electorate.model_validate(told["electorate"]).objection("jane.doe@example.com")


def test_a_flood_of_events_stays_small() -> None:
    case = known()
    for _ in range(1000):
        case.note(AT, "x" * 5000)
    assert len(json.dumps(view(case))) < 300_000


@given(NAMES)
def test_hostile_names_come_through_as_one_line(name: str) -> None:
    case = learn(record(), name)
    case.question = Question(id="HP-1-Q1", actions=CONTAIN, tier="analyst", due_at=AT, why="Why.")
    told = view(case)
    for text in (told["headline"], *(effect["text"] for effect in told["question"]["effects"])):
        assert "\n" not in text
        assert "\x1b" not in text


WANTED = {"hosts": ["WS-042.corp.example"], "accounts": ["jdoe", "jane.doe@corp.example.com"], "addresses": []}


@pytest.mark.parametrize(
    "typed",
    ["ws-042", "WS-042", " ws-042.corp.example ", "ws-042.corp.example.", "jdoe", "JDoe", "jane.doe@corp.example.com"],
)
def test_a_name_that_means_the_target(typed: str) -> None:
    assert names_target(typed, WANTED)


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", ".", "..", "ws", "ws-04", "ws-0422", "ws-042.other.example", "corp", "corp.example", "*", "ws-*"),
        *("j", "doe", "jane", "jdoe.corp", "jane.doe", "ws-042 jdoe", "10.20.30.40", "true", "on", "yes"),
    ],
)
def test_a_name_that_means_another(typed: str) -> None:
    assert not names_target(typed, WANTED)


@pytest.mark.parametrize("typed", ["ws-042", "ws-042.corp.example", "ws-042.other.example"])
def test_a_bare_host_is_meant_with_any_domain(typed: str) -> None:
    assert names_target(typed, {"hosts": ["WS-042"], "accounts": [], "addresses": []})


def test_an_account_with_dots_has_no_label() -> None:
    assert not names_target("j", {"hosts": [], "accounts": ["j.doe"], "addresses": []})
    assert not names_target("10", {"hosts": [], "accounts": [], "addresses": ["10.20.30.40"]})


@given(st.text(max_size=30))
def test_nothing_is_meant_where_nothing_is_asked(typed: str) -> None:
    assert not names_target(typed, {"hosts": [], "accounts": [], "addresses": []})


@given(NAMES)
def test_a_name_as_it_is_shown_is_taken(name: str) -> None:
    case = learn(record(), name)
    shown = case.user.value.account if case.user.value else ""
    wanted = targets(case, CONTAIN)
    if any(letter.isprintable() and not letter.isspace() and letter != "." for letter in shown):
        from incident.text import plain  # noqa: PLC0415

        if plain(shown):
            assert names_target(plain(shown), wanted)


@pytest.mark.parametrize(
    ("actions", "hosts", "accounts"),
    [
        ((QUARANTINE,), ["ws-042.corp.example"], []),
        ((DISABLE,), [], ["jdoe", "jane.doe@corp.example.com"]),
        (CONTAIN, ["ws-042.corp.example"], ["jdoe", "jane.doe@corp.example.com"]),
    ],
)
def test_only_what_is_asked_about_is_a_target(
    actions: tuple[ActionName, ...], hosts: list[str], accounts: list[str]
) -> None:
    assert targets(known(), actions) == {"hosts": hosts, "accounts": accounts, "addresses": []}


@pytest.mark.parametrize(
    ("typed", "decision", "name"),
    [
        ("contain ws-042", "contain", "ws-042"),
        ("  CONTAIN:  WS-042 ", "contain", "WS-042"),
        ("false positive jdoe", "false_positive", "jdoe"),
        ("False-Positive, jdoe", "false_positive", "jdoe"),
        ("false_positive jdoe", "false_positive", "jdoe"),
        ("falsepositive jdoe", "false_positive", "jdoe"),
        ("contain a host with blanks", "contain", "a host with blanks"),
        ("contain", "contain", None),
        ("contain ", "contain", None),
        ("containws-042", "contain", None),
        ("ws-042", "contain", None),
        ("ws-042 contain", "contain", None),
        ("contain ws-042", "false_positive", None),
        ("false positive ws-042", "contain", None),
        ("ws-042", "", None),
        ("", "", None),
        (".* x", ".*", "x"),
        ("contain x", ".*", None),
    ],
)
def test_the_answer_is_said_before_the_name(typed: str, decision: str, name: str | None) -> None:
    assert name_after(typed, decision) == name
