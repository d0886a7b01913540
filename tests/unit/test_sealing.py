"""A sealed record: whatever is changed in it is found, and where; another's key is told from a change."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from incident.chain import Uncanonical, digest, link, origin
from incident.record import CaseRecord
from incident.sealing import NoRecord, Verdict, examine, exported, key_id, seal
from incident.triage import Priority
from tests.unit.builders import AT, NAMES, alert
from tests.unit.test_record import whole

KEY, OTHER = "a key of thirty-two characters, or more", "another key of as many characters"


def case(notes: int = 4) -> CaseRecord:
    made = whole("web01")
    made.raise_priority(Priority.CRITICAL, "corroborated", AT)
    for number in range(notes):
        made.note(AT + timedelta(seconds=number), f"line {number}", actor="ana@acme.example", source="answer")
    return made


def sealed(key: str | None = KEY, notes: int = 4) -> dict[str, Any]:
    """As it is read from a file."""
    made: dict[str, Any] = json.loads(json.dumps(seal(exported(case(notes)), key)))
    return made


KEYED, BARE, FLOODED = sealed(), sealed(None), sealed(notes=450)


def wheres(verdict: Verdict) -> list[str]:
    return [finding.where for finding in verdict.findings]


@pytest.mark.parametrize("notes", [0, 4, 450])
def test_a_record_as_it_was_made_is_valid(notes: int) -> None:
    verdict = examine(sealed(notes=notes), KEY)
    assert (verdict.findings, verdict.unchecked) == ((), ())
    assert (verdict.valid, verdict.keyed, verdict.checked, verdict.key_id) == (True, True, True, key_id(KEY))
    assert verdict.entries == case(notes).status()["record"]["entries"]


def test_without_a_key_it_is_chained_and_says_that_it_is_not_keyed() -> None:
    assert (BARE["key_id"], BARE["mac"]) == (None, None)
    verdict = examine(BARE, None)
    assert (verdict.valid, verdict.keyed, verdict.checked) == (True, False, False)


def test_it_holds_the_case_and_not_the_key() -> None:
    state = case().status()
    assert {name: KEYED[name] for name in state} == state
    assert KEYED["format"] == "holdpoint-record/1"
    assert KEYED["alert"]["id"] == "SNX-200417"
    assert KEY not in json.dumps(KEYED)


def test_layout_does_not_matter() -> None:
    turned = {name: KEYED[name] for name in reversed(KEYED)}
    assert examine(json.loads(json.dumps(turned, indent=7)), KEY).valid


def test_a_number_that_is_not_read_alike_everywhere_becomes_text() -> None:
    big = 2**53 + 1
    made = CaseRecord.opened(alert(bytes_transferred=big, evidence={"x": [-big]}), "sua-acme-10.20.30.40", "r", AT)
    record = seal(exported(made), KEY)
    assert (record["alert"]["bytes_transferred"], record["alert"]["evidence"]) == (str(big), {"x": [str(-big)]})


@settings(deadline=None)
@given(NAMES)
def test_whatever_names_a_case_holds_it_can_be_sealed(name: str) -> None:
    made = whole(name)
    assume(_speakable(made))
    assert examine(json.loads(json.dumps(seal(exported(made), KEY))), KEY).valid


def _speakable(made: CaseRecord) -> bool:
    """What is no text does not get through Temporal either."""
    try:
        made.model_dump_json().encode()
        digest(exported(made))
    except (UnicodeEncodeError, ValueError):
        return False
    return True


def test_half_a_character_cannot_be_sealed() -> None:
    with pytest.raises(Uncanonical):
        seal({**exported(case()), "headline": "\ud800"}, KEY)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a record, the containers too."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from leaves(value[name], (*path, name))
    elif isinstance(value, list):
        for place in range(len(value)):
            yield from leaves(value[place], (*path, place))


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(record)
    at: Any = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def removed(record: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    made = copy.deepcopy(record)
    at: Any = made
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return made


def place_of(record: dict[str, Any], path: tuple[Any, ...]) -> set[str]:
    """Where a change at that path may be told."""
    if path[0] == "seals":
        return {str(path[1])} if len(path) > 1 else set(record)
    if path[0] == "events" and len(path) > 1:
        seq = record["events"][path[1]]["seq"]
        return {f"entry {seq}", f"entry {seq + 1}", "head", "record"}
    if path[0] in ("case_id", "case_key"):
        return {path[0], "entry 0"}
    return {"entry 0", "events", "head", "record"} if path[0] == "events" else {path[0]}


PATHS = sorted(leaves(KEYED), key=str)
JSON: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=9), st.just([]), st.just({})
)


@pytest.mark.parametrize("record", [KEYED, BARE], ids=["keyed", "bare"])
@settings(deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON)
def test_a_change_anywhere_is_found_and_told_where(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    assume(path in set(leaves(record)))
    made = changed(record, path, value)
    assume(json.dumps(made, sort_keys=True) != json.dumps(record, sort_keys=True))
    # 0 and 0.0 are one number.
    assume(_differs(made, record))
    key = KEY if record is KEYED else None
    if path == ("format",):
        with pytest.raises(NoRecord):
            examine(made, key)
        return
    verdict = examine(made, key)
    assert not verdict.valid
    if path in {("key_id",), ("mac",), ("digest",)}:
        assert set(wheres(verdict)) & {"key_id", "mac", "digest"} or verdict.unchecked
    else:
        assert set(wheres(verdict)) & place_of(record, path), (path, verdict)


def _differs(one: Any, other: Any) -> bool:
    try:
        return digest(one) != digest(other)
    except ValueError:
        return True


@pytest.mark.parametrize("path", [path for path in PATHS if path != ("format",)], ids=str)
def test_a_removal_anywhere_is_found(path: tuple[Any, ...]) -> None:
    made = removed(KEYED, path)
    verdict = examine(made, KEY)
    assert not verdict.valid
    assert wheres(verdict) or verdict.unchecked
    if len(path) == 1:
        assert path[0] in wheres(verdict)
        assert path == ("seals",) or any("missing" in found.what for found in verdict.findings)


@pytest.mark.parametrize("path", [path for path in PATHS if len(path) == 1], ids=str)
def test_a_field_that_is_put_in_is_found(path: tuple[Any, ...]) -> None:
    for record, key in ((KEYED, KEY), (BARE, None)):
        verdict = examine({**record, f"{path[0]}_": record[path[0]]}, key)
        assert f"{path[0]}_" in wheres(verdict)


@pytest.mark.parametrize("record", [KEYED, FLOODED], ids=["whole", "with a gap"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_entries_taken_out_moved_or_put_in_are_found(record: dict[str, Any], data: st.DataObject) -> None:
    entries = record["events"]
    place = data.draw(st.integers(0, len(entries) - 1))
    how = data.draw(st.sampled_from(["out", "end", "moved", "twice", "other"]))
    made = copy.deepcopy(entries)
    if how == "out":
        del made[place]
    elif how == "end":
        del made[place:]
    elif how == "moved":
        made.insert(data.draw(st.integers(0, len(entries) - 1)), made.pop(place))
    elif how == "twice":
        made.insert(place, made[place])
    else:
        made[place] = {**made[place], "mac": entries[place - 1]["mac"]}
    assume(made != entries)
    verdict = examine({**record, "events": made}, KEY)
    assert not verdict.valid
    assert any(where.startswith("entry") or where in ("head", "gap", "record") for where in wheres(verdict))


def forged() -> dict[str, Any]:
    """The whole rewritten by somebody without the key, with digests that fit."""
    made = exported(case())
    last = origin(made["case_id"], made["case_key"])
    for entry in made["events"]:
        entry["text"] = entry["text"].replace("line", "another")
        entry["digest"] = last = link(entry, last)
    made["head"], made["record"] = last, {"entries": len(made["events"]), "head": last}
    return made


def test_a_chain_that_was_made_anew_without_the_key_is_found_at_its_first_new_entry() -> None:
    made = forged()
    first = next(e["seq"] for e in made["events"] if e["text"].startswith("another"))
    spliced = {**seal(made, None), "key_id": KEYED["key_id"], "mac": KEYED["mac"], "seals": KEYED["seals"]}
    for entry, old in zip(spliced["events"], KEYED["events"], strict=True):
        entry["mac"] = old["mac"]
    verdict = examine(spliced, KEY)
    assert next(where for where in wheres(verdict) if where.startswith("entry")) == f"entry {first}"


def test_a_record_whose_seals_were_taken_away_does_not_pass_where_there_is_a_key() -> None:
    bare = seal(forged(), None)
    assert examine(bare, None).valid
    verdict = examine(bare, KEY)
    assert not verdict.valid
    assert "none with a key" in verdict.unchecked[0]


def test_a_bare_record_that_was_cut_short_and_counted_anew_does_not_lead_to_its_head() -> None:
    made = exported(case())
    made["events"].pop()
    made["record"] = {**made["record"], "entries": len(made["events"])}
    assert wheres(examine(seal(made, None), None)) == ["head"]


def test_a_wrong_key_is_told_from_a_change() -> None:
    verdict = examine(KEYED, OTHER)
    assert verdict.findings == ()
    assert "a wrong key" in verdict.unchecked[0]
    assert key_id(KEY) in verdict.unchecked[0]
    assert key_id(OTHER) in verdict.unchecked[0]
    assert not verdict.valid


def test_under_a_wrong_key_the_chain_is_looked_at_all_the_same() -> None:
    verdict = examine(changed(KEYED, ("events", 2, "text"), "x"), OTHER)
    assert wheres(verdict) == ["entry 2"]
    assert verdict.unchecked


def test_a_keyed_record_is_not_valid_where_there_is_no_key() -> None:
    verdict = examine(KEYED, None)
    assert (verdict.valid, verdict.keyed, verdict.checked, verdict.findings) == (False, True, False, ())
    assert "no key was given" in verdict.unchecked[0]


def test_a_changed_name_of_the_key_is_no_wrong_key() -> None:
    verdict = examine({**KEYED, "key_id": key_id(OTHER)}, KEY)
    assert wheres(verdict) == ["key_id"]
    assert verdict.unchecked == ()


@pytest.mark.parametrize("junk", [None, [], "x", {}, {"format": "holdpoint-record/2"}, {"format": 1}])
def test_what_is_no_record_is_said_to_be_none(junk: Any) -> None:
    with pytest.raises(NoRecord):
        examine(junk, KEY)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KEYED)), JSON))
def test_junk_under_the_right_format_is_judged_and_never_fails(junk: dict[str, Any]) -> None:
    assert not examine({**junk, "format": "holdpoint-record/1"}, KEY).valid
    assert not examine({**junk, "format": "holdpoint-record/1"}, None).valid
