"""Who may answer: the tiers' analysts and groups, less those whom the directory recuses."""

from __future__ import annotations

from incident.decision import Electorate, contradicts, read_answer
from incident.electorate import electorate_of, request_for, tiers_of_case
from incident.evidence import Fact, Person
from incident.triage import CONTAIN, ActionName
from incident.voters import Voters
from tests.unit.builders import AT, learn, person, policy, record, tier

GROUPED = policy(
    tiers=(
        tier("analyst", "ann@example.com", analysts_group="SOC"),
        tier("night", "nix@example.com", analysts=(), analysts_group="Night"),
        tier("lead", "lea@example.com"),
    )
)
WORD = Voters(
    members={"analyst": ("mem@example.com", "ann@example.com")},
    recused={"lea@example.com": "too near"},
    accounts={"ann@example.com": "g1", "mem@example.com": "g1", "lea@example.com": "g2"},
    at=AT,
)


def test_without_a_word_of_the_directory_the_settings_hold() -> None:
    case = learn(record(), "web01")
    given = electorate_of(case, policy())
    assert given.analysts == ("ann@example.com", "lea@example.com")
    assert (given.recused, given.undetermined) == ({}, ())
    assert given.excludes("boss@example.com")


def test_members_are_analysts_and_an_unread_group_keeps_its_tier() -> None:
    case = learn(record(), "web01")
    case.voters = WORD
    given = electorate_of(case, GROUPED)
    assert given.analysts == ("ann@example.com", "mem@example.com", "lea@example.com")
    assert given.undetermined == ("night",)
    left = given.remaining(tiers_of_case(case, GROUPED))
    assert [(found.name, found.analysts) for found in left] == [
        ("analyst", ("ann@example.com", "mem@example.com")),
        ("night", ()),
    ]
    assert given.objection("LEA@example.com") == "LEA@example.com may not answer: too near"
    assert given.objection("mem@example.com") is None
    assert not given.is_named("nix@example.com")


def test_an_empty_group_leaves_its_tier_out() -> None:
    case = record()
    case.voters = Voters(members={"analyst": (), "night": ()})
    left = electorate_of(case, GROUPED).remaining(tiers_of_case(case, GROUPED))
    assert [found.name for found in left] == ["analyst", "lead"]


def test_one_person_is_told_by_the_account() -> None:
    case = record()
    case.voters = WORD
    given = electorate_of(case, GROUPED)
    assert given.same_person("ANN@example.com", "mem@example.com")
    assert given.same_person("x@example.com", " X@example.com")
    assert not given.same_person("ann@example.com", "lea@example.com")
    assert not Electorate(analysts=()).same_person("a@example.com", "b@example.com")


def test_what_the_directory_is_asked() -> None:
    case = record()
    assert request_for(case, GROUPED).suspect is None
    case.user = Fact[Person].of(person(guid="g"), "AD", AT)
    asked = request_for(case, GROUPED)
    assert asked.suspect is not None
    assert (asked.suspect.account, asked.suspect.guid) == ("jdoe", "g")
    assert asked.groups == {"analyst": "SOC", "night": "Night"}
    assert asked.addresses == ("ann@example.com", "nix@example.com", "lea@example.com")
    one = request_for(case, GROUPED, " Ann@example.com ")
    assert (one.addresses, one.members_too) == (("ann@example.com",), False)


def test_a_word_on_one_address_leaves_the_others() -> None:
    fresh = Voters(members={"analyst": ("new@example.com",)}, unresolved=("ann@example.com",))
    both = WORD.updated(fresh, ("ann@example.com",))
    assert both.recused == WORD.recused
    assert both.members == {"analyst": ("new@example.com",)}
    assert both.unresolved == ("ann@example.com",)
    assert WORD.updated(Voters(), ("LEA@example.com",)).recused == {}


def test_what_contradicts_a_decision() -> None:
    def says(decision: str, *actions: str) -> bool:
        raw = {"decision": decision, "analyst": "a@example.com", "reason": "x"}
        answer = read_answer({**raw, "actions": list(actions)} if actions else raw)
        return contradicts(answer, done)

    done: tuple[ActionName, ...] = CONTAIN
    assert says("false_positive")
    assert not says("contain")
    assert says("contain", "disable_account")
    done = (ActionName.DISABLE_ACCOUNT,)
    assert not says("contain")
    assert not says("contain", "disable_account")
    done = ()
    assert says("contain")
    assert not says("false_positive")
