"""An answer counts or is refused with the reason; nothing that anybody can send breaks the reading of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.decision import Answer, AnswerRefused, Electorate, read_answer
from incident.evidence import Identity
from incident.triage import CONTAIN
from tests.unit.builders import HOSTILE, person, tier

GOOD = {"decision": "contain", "analyst": "ann@example.com", "reason": "seen it"}


def refusal(raw: Any) -> str:
    with pytest.raises(AnswerRefused) as refused:
        read_answer(raw)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ({}, ["quarantine_host", "disable_account"]),
        ({"actions": None}, ["quarantine_host", "disable_account"]),
        ({"actions": ["disable_account"]}, ["disable_account"]),
        ({"actions": ["Disable_Account ", "quarantine_host"]}, ["quarantine_host", "disable_account"]),
        ({"actions": ["quarantine_host", "quarantine_host"]}, ["quarantine_host"]),
        ({"decision": " CONTAIN "}, ["quarantine_host", "disable_account"]),
        ({"decision": "False_Positive"}, []),
        ({"decision": "false_positive", "actions": None}, []),
    ],
)
def test_what_an_answer_asks_for(changed: dict[str, Any], chosen: list[str]) -> None:
    assert [action.value for action in read_answer({**GOOD, **changed}).chosen] == chosen


def test_unknown_keys_do_not_spoil_an_answer() -> None:
    assert read_answer({**GOOD, "ticket": "x", "comment": {}}) == read_answer(GOOD)


def test_every_fault_is_told_at_once() -> None:
    told = refusal({"decision": "maybe", "reason": "", "actions": ["reboot"], "question": 5})
    for part in (
        "decision: must be one of contain, false_positive",
        "analyst: is missing",
        "reason: is missing",
        "actions: must be among quarantine_host, disable_account",
        "question: ",
    ):
        assert part in told


@pytest.mark.parametrize("raw", [None, [], "contain", 5, True, [GOOD], b"x"])
def test_what_is_no_object_is_malformed(raw: object) -> None:
    assert refusal(raw) == "malformed: want an object with decision, analyst and reason"


@pytest.mark.parametrize("key", ["decision", "analyst", "reason"])
@pytest.mark.parametrize("value", [None, 5, ["x"], {}, ""])
def test_what_is_required_is_asked_for_by_name(key: str, value: object) -> None:
    assert f"{key}: " in refusal({**GOOD, key: value})


@pytest.mark.parametrize("key", ["analyst", "reason"])
@pytest.mark.parametrize("value", ["  ", "\n", "\u200b", "\x00\x1b[2J"])
def test_what_cannot_be_seen_is_missing(key: str, value: str) -> None:
    assert refusal({**GOOD, key: value}) == f"malformed: {key}: is missing"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"decision": "false_positive", "actions": ["disable_account"]}, "actions: goes with contain only"),
        ({"actions": []}, "actions: names none; leave it out for all of them"),
        ({"actions": "disable_account"}, "actions: "),
        ({"actions": {"disable_account": True}}, "actions: "),
    ],
)
def test_actions_narrow_contain_and_nothing_else(changed: dict[str, Any], told: str) -> None:
    assert told in refusal({**GOOD, **changed})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["contain", "false_positive", "ann@example.com", "quarantine_host", "disable_account"])


def _read_or_refusal(raw: object) -> Answer | str:
    try:
        return read_answer(raw)
    except AnswerRefused as refused:
        return str(refused)


@given(JSON)
def test_arbitrary_values_are_refused(raw: object) -> None:
    assert refusal(raw)


@given(st.dictionaries(st.sampled_from(sorted(Answer.model_fields)), JSON | WORDS | st.lists(WORDS, max_size=3)))
def test_arbitrary_fields_are_refused_or_read(changed: dict[str, Any]) -> None:
    answer = _read_or_refusal({**GOOD, **changed})
    if isinstance(answer, str):
        assert answer.startswith("malformed: ")
    else:
        assert set(answer.chosen) <= set(CONTAIN)
        assert answer.reason.isprintable()
        assert answer.analyst.isprintable()
        assert Answer.model_validate_json(answer.model_dump_json()) == answer


SUSPECT = person()
ANALYST, LEAD = "Ann@Example.com", "lea@example.com"
TIERS = (tier("analyst", ANALYST, "jane.doe@example.com", "boss@example.com"), tier("lead", LEAD))


def electorate(*, suspect: Identity | None = SUSPECT, managers: tuple[Identity, ...] = SUSPECT.managers) -> Electorate:
    return Electorate.of(TIERS, suspect, managers)


@pytest.mark.parametrize("name", ["Ann@Example.com", "ann@example.com", "ANN@EXAMPLE.COM", " ann@example.com ", LEAD])
def test_analysts_of_every_tier_may_answer_named_without_case(name: str) -> None:
    assert electorate().objection(name) is None


@pytest.mark.parametrize(
    "name", ["ann", "ann@example.com.evil.example", "mallory@example.com", "", "*", "ann@example.co"]
)
def test_nobody_else_may(name: str) -> None:
    assert electorate().objection(name) == f"{name} is not named as an analyst in any tier"


@pytest.mark.parametrize("name", ["jane.doe@example.com", "JANE.DOE@EXAMPLE.COM", "boss@example.com"])
def test_the_suspect_and_their_reporting_line_may_not(name: str) -> None:
    assert "the suspect and their reporting line" in str(electorate().objection(name))
    assert "the suspect and their reporting line" in str(electorate().objection(f" {name} "))


@pytest.mark.parametrize(
    "known",
    [
        Identity(mails=("other@example.com", "S.Spect@Example.com")),
        Identity(upn="S.SPECT@EXAMPLE.COM"),
        Identity(account="S.Spect"),
        Identity(account="s.spect@example.com"),
        Identity(account="x", mails=("S.SPECT",)),
    ],
)
@pytest.mark.parametrize("as_manager", [False, True])
def test_they_are_recognised_by_mail_upn_and_account(known: Identity, as_manager: bool) -> None:
    """An account name is recognised as the local part of the mail address that answers."""
    tiers = (tier("analyst", "s.spect@example.com", LEAD),)
    suspect, managers = (person(), (known,)) if as_manager else (known, ())
    voters = Electorate.of(tiers, suspect, managers)
    assert voters.objection("s.spect@example.com")
    assert voters.objection(LEAD) is None
    (left,) = voters.remaining(tiers)
    assert left.recipients == left.analysts == (LEAD,)


def test_a_suspect_who_is_not_known_excludes_nobody() -> None:
    voters = electorate(suspect=None, managers=())
    assert all(voters.objection(mail) is None for t in TIERS for mail in t.analysts)
    assert voters.remaining(TIERS) == TIERS


def test_a_suspect_without_names_excludes_nobody() -> None:
    assert electorate(suspect=Identity(), managers=(Identity(account=""),)).remaining(TIERS) == TIERS


def test_a_tier_with_nobody_left_is_left_out() -> None:
    only_them = tier("team", "jane.doe@example.com", "BOSS@example.com")
    nobody_to_answer = tier("list", "boss@example.com", recipients=("soc@example.com",))
    nobody_to_mail = tier("mute", LEAD, recipients=("jane.doe@example.com",))
    tiers = (only_them, nobody_to_answer, nobody_to_mail, tier("lead", LEAD))
    assert [t.name for t in electorate().remaining(tiers)] == ["lead"]
    assert electorate().remaining((only_them,)) == ()


def test_the_rest_of_a_tier_is_kept_as_it_is() -> None:
    first, second = electorate().remaining(TIERS)
    assert first.recipients == first.analysts == (ANALYST,)
    assert (first.name, first.wait) == (TIERS[0].name, TIERS[0].wait)
    assert second == TIERS[1]


MAILS = st.sampled_from(["ann@example.com", "lea@example.com", "jane.doe@example.com", "boss@example.com", "bo@x.org"])


@given(st.lists(st.lists(MAILS, min_size=1, max_size=4, unique=True), min_size=1, max_size=4))
def test_whoever_is_asked_may_answer_and_is_not_excluded(teams: list[list[str]]) -> None:
    tiers = tuple(tier(str(number), *mails) for number, mails in enumerate(teams))
    voters = Electorate.of(tiers, SUSPECT, SUSPECT.managers)
    for left in voters.remaining(tiers):
        assert left.recipients
        assert not {"jane.doe@example.com", "boss@example.com"} & {*left.recipients, *left.analysts}
        assert all(voters.objection(mail) is None for mail in left.analysts)
