"""The chain of events: RFC 8785's own vectors, and every way of changing a chain."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident.chain import ENTRY, MOST, Gap, Uncanonical, canonical, digest, head, link, moment, origin, walk
from incident.record import CaseRecord, Event
from tests.unit.builders import AT, record

# Appendix B of RFC 8785: the bits of a double, and its form.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "form"), NUMBERS)
def test_numbers_have_the_forms_of_the_standard(bits: str, form: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == form.encode()


@given(st.integers(0, MOST), st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=5, max_size=5))
def test_an_entry_is_linked_over_its_canonical_form(seq: int, texts: list[str]) -> None:
    *fields, previous = texts
    entry = {**dict(zip([name for name in ENTRY if name != "seq"], fields, strict=True)), "seq": seq}
    assert link(entry, previous) == digest({**entry, "previous": previous})


def test_the_sample_of_the_standard() -> None:
    given = r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    told = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(json.loads(given)) == told.encode()


def test_keys_are_sorted_as_the_standard_says() -> None:
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical(names)).values()) == [2, 4, 6, 7, 1, 5, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800", {"\udfff": 1}, {1: 2}, AT])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(Uncanonical):
        canonical(value)


def test_a_value_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Uncanonical):
        canonical(deep)


def test_a_time_has_one_form() -> None:
    elsewhere = timezone(timedelta(hours=2))
    assert moment(AT) == "2026-03-14T12:34:56.000000Z"
    assert moment(AT.astimezone(elsewhere)) == moment(AT)
    assert moment(datetime(2026, 3, 14, 1, 2, 3, 45, tzinfo=UTC)).endswith("01:02:03.000045Z")


def chained(count: int) -> CaseRecord:
    """A case with so many events, the opening one among them."""
    case = record()
    for number in range(1, count):
        at = AT + timedelta(seconds=number)
        case.note(at, f"line {number}", actor=f"a{number % 3}@acme.example", source="answer")
    return case


def start(case: CaseRecord) -> str:
    return origin(case.case_id, case.key)


def entries(case: CaseRecord) -> list[dict[str, Any]]:
    return [event.entry() for event in case.events]


@pytest.mark.parametrize("count", [1, 2, 399, 400, 401, 402, 1000])
def test_a_chain_holds_also_where_events_were_left_out(count: int) -> None:
    case = chained(count)
    walked = walk(entries(case), case.gap, start(case))
    assert walked.findings == ()
    assert walked.entries == count == case.status()["record"]["entries"]
    assert head(walked.last, case.gap) == case.head
    assert [event.seq for event in case.events] == sorted({event.seq for event in case.events})
    lost = count - len(case.events)
    assert (case.gap.count if case.gap else 0) == lost == case.events_dropped


def test_what_was_left_out_was_chained_like_the_rest() -> None:
    whole = chained(400)
    flooded = chained(450)
    kept = [entry for entry in entries(flooded) if entry["seq"] < 400]
    assert [entry for entry in entries(whole) if entry["seq"] < 200 or entry["seq"] >= 250] == kept
    assert flooded.gap == Gap(first=200, count=50, before=whole.events[199].digest, after=whole.events[249].digest)


def test_no_part_of_a_chain_fits_into_another_case() -> None:
    case, other = chained(3), chained(3)
    other.case_id = "sua-acme-10.9.9.9"
    assert walk(entries(case), None, start(other)).findings[0].where == "entry 0"


def test_who_and_where_are_in_the_chain() -> None:
    case = chained(2)
    entry = case.events[1].entry()
    assert (entry["actor"], entry["source"]) == ("a1@acme.example", "answer")
    for name in ("actor", "source", "text", "at"):
        assert link({**entry, name: "x"}, case.events[0].digest) != entry["digest"]


def test_a_record_from_before_the_chain_is_chained_when_it_is_read() -> None:
    for count in (3, 450):
        case = chained(count)
        plain = case.model_dump(mode="json", exclude={"gap"})
        plain["events"] = [{"at": event.at, "text": event.text} for event in case.events]
        read = CaseRecord.model_validate(plain)
        assert [event.text for event in read.events] == [event.text for event in case.events]
        assert walk(entries(read), read.gap, start(read)).findings == ()
        read.note(AT, "goes on")
        assert read.status()["record"]["entries"] == count + 1
        assert walk(entries(read), read.gap, start(read)).findings == ()


@pytest.mark.parametrize("count", [5, 450])
def test_a_record_that_is_read_again_goes_on_with_its_chain(count: int) -> None:
    case = chained(count)
    read = CaseRecord.model_validate_json(case.model_dump_json())
    assert read.head == case.head
    for one in (case, read):
        one.note(AT, "goes on")
    assert read.head == case.head


FLOODED = chained(430)
CHAINS = st.sampled_from([chained(2), chained(6), FLOODED])


@settings(deadline=None)
@given(CHAINS, st.data())
def test_a_changed_field_is_found_where_it_is(case: CaseRecord, data: st.DataObject) -> None:
    given = entries(case)
    place = data.draw(st.integers(0, len(given) - 1))
    name = data.draw(st.sampled_from(["seq", "at", "actor", "source", "text", "digest"]))
    value: Any = data.draw(st.integers(0, 10**6) if name == "seq" else st.text(max_size=80))
    before = given[place][name]
    given[place] = {**given[place], name: value}
    walked = walk(given, case.gap, start(case))
    if value == before:
        assert walked.findings == ()
        return
    due = case.events[place].seq
    if name == "digest" and place == len(given) - 1:
        assert walked.findings or head(walked.last, case.gap) != case.head
    assert walked.findings[0].where == f"entry {due}"


@settings(deadline=None)
@given(CHAINS, st.data())
def test_what_was_taken_out_put_in_or_moved_is_found_where_it_was(case: CaseRecord, data: st.DataObject) -> None:
    given = entries(case)
    place = data.draw(st.integers(0, len(given) - 1))
    how = data.draw(st.sampled_from(["out", "in", "twice", "moved", "end"]))
    changed = list(given)
    if how == "out":
        del changed[place]
    elif how == "in":
        changed.insert(place, Event(at=AT, text="forged").after("0" * 64, given[place]["seq"]).entry())
    elif how == "twice":
        changed.insert(place, given[place])
    elif how == "moved":
        changed.append(changed.pop(place))
    else:
        del changed[place:]
    if changed == given:
        return
    walked = walk(changed, case.gap, start(case))
    at_the_end = how == "end" or place == len(given) - 1
    assert walked.findings or (at_the_end and head(walked.last, case.gap) != case.head)
    if walked.findings and not at_the_end:
        due = given[place]["seq"] + (how == "twice")
        beyond = due + (case.gap.count if case.gap else 0)  # where the gap is due instead
        assert walked.findings[0].where in (f"entry {due}", f"entry {beyond}", "gap")


@settings(deadline=None)
@given(st.sampled_from(["first", "count", "before", "after"]), st.integers(0, 500), st.text(max_size=5))
def test_a_changed_gap_is_found(name: str, number: int, text: str) -> None:
    case = FLOODED
    assert case.gap is not None
    value: Any = number if name in ("first", "count") else text
    gap = case.gap.model_copy(update={name: value})
    walked = walk(entries(case), gap, start(case))
    if gap == case.gap:
        assert walked.findings == ()
    else:
        assert walked.findings
        assert head(walked.last, gap) != case.head


def test_a_gap_that_is_put_in_or_taken_out_is_found() -> None:
    case, flooded = chained(10), chained(430)
    gap = Gap(first=10, count=1, before=case.events[-1].digest, after="0" * 64)
    assert walk(entries(case), gap, start(case)).findings
    assert walk(entries(flooded), None, start(flooded)).findings


def test_a_rewritten_beginning_does_not_lead_to_the_same_head_across_a_gap() -> None:
    """Everything before the gap rewritten with digests that fit: what is after the gap never saw it."""
    case = chained(430)
    last, forged = start(case), []
    for event in case.events[:200]:
        forged.append(event.model_copy(update={"text": "forged"}).after(last, event.seq))
        last = forged[-1].digest
    case.events[:200] = forged
    assert [f.where for f in walk(entries(case), case.gap, start(case)).findings] == ["gap"]
    assert case.gap is not None
    bent = case.gap.model_copy(update={"before": last})
    assert walk(entries(case), bent, start(case)).findings == ()
    assert head(case.events[-1].digest, bent) != case.head


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, {"seq": 0}, {"seq": True, "digest": ""}])
def test_what_is_no_entry_is_said_to_be_none(junk: Any) -> None:
    case = chained(3)
    found = walk([junk, *entries(case)[1:]], None, start(case)).findings
    assert found[0].where == "entry 0"


def test_a_digest_is_sha_256_over_canonical_json() -> None:
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
