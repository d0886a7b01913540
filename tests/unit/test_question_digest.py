"""What an answer is bound to: every change that matters changes the digest and has words, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.evidence import Corroboration, Device, Fact, Group, Host, Person, Risk, Sighting
from incident.matter import AccountTarget, HostTarget, Matter, differences
from incident.policy import GuardrailPolicy, Mode
from incident.question_digest import digest_of, matter_of, target_of
from incident.record import CaseRecord, Question, Superseded
from incident.triage import CONTAIN, ActionName, Corroborated, Priority, RiskLevel
from tests.unit.builders import AT, NAMES, device, learn, person, record

GUARDRAILS = GuardrailPolicy()
WORDS = st.one_of(NAMES, st.sampled_from(["jdoe", "JDOE", "asmith"]))
HOSTS = st.builds(HostTarget, name=WORDS, ip=st.sampled_from(["10.0.0.1", "10.0.0.2"]), agent=st.none() | WORDS)
ACCOUNTS = st.builds(AccountTarget, name=WORDS, dn=WORDS, guid=st.none() | WORDS)
MATTERS = st.builds(
    Matter,
    actions=st.sampled_from([CONTAIN, CONTAIN[:1], CONTAIN[1:]]),
    host=st.none() | HOSTS,
    account=st.none() | ACCOUNTS,
    risk=st.sampled_from(RiskLevel),
    corroborated=st.sampled_from(Corroborated),
    verdicts=st.dictionaries(st.sampled_from(ActionName), st.sampled_from(["allow", "ask (protected)", "deny (mode)"])),
    unknown=st.lists(st.sampled_from(["host", "user", "risk"]), unique=True).map(tuple),
)


def known() -> CaseRecord:
    case = learn(record(), "ws-042")
    case.risk_level = RiskLevel.MEDIUM
    case.user = Fact[Person].of(person(guid="11111111-2222-4333-8444-555555555555"), "AD", AT)
    return case


def digest(case: CaseRecord, question: str = "HP-1-Q1", guardrails: GuardrailPolicy = GUARDRAILS) -> str:
    return digest_of(case.key, question, matter_of(case, CONTAIN, guardrails))


@given(MATTERS, MATTERS)
def test_the_digest_differs_exactly_where_words_do(one: Matter, other: Matter) -> None:
    same = digest_of("hp-1", "Q1", one) == digest_of("hp-1", "Q1", other)
    assert same is (one.canonical() == other.canonical())
    assert same is (differences(one, other) == ())
    assert all(line.strip() and "\n" not in line for line in differences(one, other))


@given(MATTERS)
def test_it_survives_json_and_is_bound_to_case_and_question(matter: Matter) -> None:
    assert Matter.model_validate_json(matter.model_dump_json()) == matter
    digests = {digest_of(case, question, matter) for case in ("hp-1", "hp-2") for question in ("Q1", "Q2")}
    assert len(digests) == 4
    assert all(len(found) == 64 for found in digests)


def test_a_lone_surrogate_is_hashed_and_told_apart() -> None:
    one, other = (known() for _ in range(2))
    other.host = Fact[Host].of(Host(name="\udc00", ip="10.20.30.40"), "SIEM", AT)
    assert digest(one) != digest(other)


MATERIAL: dict[str, dict[str, Any]] = {
    "host name": {"host": Fact[Host].of(Host(name="ws-043", ip="10.20.30.40"), "SIEM", AT)},
    "host address": {"host": Fact[Host].of(Host(name="ws-042", ip="10.20.30.41"), "SIEM", AT)},
    "host unknown": {"host": Fact[Host].unknown("two hosts")},
    "agent": {"device": Fact[Device].of(device(id="a2", hostname="ws-042"), "EDR", AT)},
    "agent unknown": {"device": Fact[Device].unknown("two agents")},
    "account": {"user": Fact[Person].of(person(account="asmith", guid="11111111-2222-4333-8444-555555555555"), "", AT)},
    "object": {"user": Fact[Person].of(person(guid="21111111-2222-4333-8444-555555555555"), "AD", AT)},
    "entry": {"user": Fact[Person].of(person(dn="CN=Jane,DC=x", guid="11111111-2222-4333-8444-555555555555"), "", AT)},
    "user unknown": {"user": Fact[Person].unknown("nobody")},
    "risk level": {"risk_level": RiskLevel.HIGH},
    "risk unknown": {"risk": Fact[Risk].unknown("down"), "risk_level": RiskLevel.UNKNOWN},
    "nothing else found": {"corroboration": Fact[Corroboration].of(Corroboration(total=0), "SIEM", AT)},
    "search failed": {"corroboration": Fact[Corroboration].unknown("down")},
    "protected": {
        "user": Fact[Person].of(
            person(
                guid="11111111-2222-4333-8444-555555555555",
                groups=(Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),),
            ),
            "AD",
            AT,
        )
    },
}


@pytest.mark.parametrize("what", MATERIAL)
def test_what_matters(what: str) -> None:
    old, new = known(), known()
    for name, value in MATERIAL[what].items():
        setattr(new, name, value)
    assert digest(old) != digest(new)
    before, after = (matter_of(case, CONTAIN, GUARDRAILS) for case in (old, new))
    assert all(" -> " in line for line in differences(before, after))


def test_what_the_policy_forbids_matters() -> None:
    assert digest(known()) != digest(known(), guardrails=GuardrailPolicy(mode=Mode.OBSERVE))
    # An answer satisfies these.
    assert digest(known()) == digest(known(), guardrails=GuardrailPolicy(mode=Mode.ASK))


@given(
    score=st.floats(min_value=31, max_value=69),
    total=st.integers(min_value=1, max_value=1000),
    later=st.integers(min_value=0, max_value=10**6),
)
def test_what_only_ticks_does_not(score: float, total: int, later: int) -> None:
    old, new = known(), known()
    at = AT + timedelta(seconds=later)
    new.risk = Fact[Risk].of(Risk(score=score, documents=total), "SIEM", at)
    sighting = Sighting(kind="event", id="9", name="x", about="host", at=at)
    new.corroboration = Fact[Corroboration].of(Corroboration(total=total, sightings=(sighting,)), "SIEM", at)
    new.host = Fact[Host].of(Host(name="WS-042", ip="10.20.30.40"), "another source", at)
    new.device = Fact[Device].of(device(id="a1", containment="pending", last_seen=at), "EDR", at)
    new.user = Fact[Person].of(
        person(guid="11111111-2222-4333-8444-555555555555", title=f"T{total}", managers=()), "AD", at
    )
    new.join(old.alert.model_copy(update={"id": f"SNX-{total}", "severity": Priority.CRITICAL}), at)
    assert digest(old) == digest(new)


def test_the_words_name_what_changed() -> None:
    old = matter_of(known(), CONTAIN, GUARDRAILS)
    changed = known()
    changed.user = Fact[Person].of(person(account="asmith"), "AD", AT)
    changed.risk_level = RiskLevel.LOW
    assert differences(old, matter_of(changed, CONTAIN, GUARDRAILS)) == ("user: jdoe -> asmith", "risk: medium -> low")


def test_targets_are_only_what_is_known() -> None:
    case = record()
    assert [target_of(case, action) for action in CONTAIN] == [None, None]
    assert matter_of(case, CONTAIN, GUARDRAILS).verdicts == dict.fromkeys(CONTAIN, "cannot be done")
    assert target_of(known(), ActionName.DISABLE_ACCOUNT) is not None


def test_a_record_with_questions_survives_json() -> None:
    case = known()
    about = matter_of(case, CONTAIN, GUARDRAILS)
    case.question = Question(id="Q2", actions=CONTAIN, tier="a", due_at=AT, why="x", about=about, replaces="Q1")
    case.superseded = [Superseded(question="Q1", digest="d", at=AT, changes=("risk: low -> high",))]
    assert CaseRecord.model_validate_json(case.model_dump_json()) == case
