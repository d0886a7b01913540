"""CEF and LEEF lines: what the guides have, what senders do besides, and what nobody may do to the parser."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.formats.lines import MAX_LINE, Record, parse_line
from bridge.formats.refusal import FormatRefused

CEF = "CEF:0|Acme|Guard|4.1|1001|Large transfer|8|src=198.51.100.2 dst=10.20.30.40 rt=1773491696000"
LEEF1 = "LEEF:1.0|Acme|Guard|4.1|1001|src=198.51.100.2\tdst=10.20.30.40\tusrName=Jane Roe"


def parsed(line: str) -> Record:
    return parse_line(line.encode())


def fields(line: str) -> dict[str, Any]:
    return {key: value for key, value in parsed(line).fields.items() if key not in ("header", "labels", "derived")}


def cef(extension: str) -> dict[str, Any]:
    return fields(f"CEF:0|Acme|Guard|4.1|1001|Large transfer|8|{extension}")


def test_a_cef_line_is_its_header_and_its_extension() -> None:
    record = parsed(CEF)
    assert record.format == "cef"
    assert record.fields["header"] == {
        "version": "0",
        "vendor": "Acme",
        "product": "Guard",
        "product_version": "4.1",
        "signature_id": "1001",
        "name": "Large transfer",
        "severity": "8",
    }
    assert fields(CEF) == {"src": "198.51.100.2", "dst": "10.20.30.40", "rt": "1773491696000"}


@pytest.mark.parametrize(
    ("extension", "told"),
    [
        ("", {}),
        ("   ", {}),
        ("a=1", {"a": "1"}),
        ("  a=1  b=2  ", {"a": "1", "b": "2"}),
        ("msg=two words b=2", {"msg": "two words", "b": "2"}),
        ("a= b=2", {"a": "", "b": "2"}),
        (r"a=x\=y b=2", {"a": "x=y", "b": "2"}),
        (r"a=x\\ b=2", {"a": "x\\", "b": "2"}),
        (r"a=x\\\=y", {"a": "x\\=y"}),
        (r"a=one\ntwo\rthree", {"a": "one\ntwo\rthree"}),
        (r"a=x\|y|z", {"a": "x|y|z"}),
        (r"path=C:\Users\jane\new b=2", {"path": "C:\\Users\\jane\new", "b": "2"}),
        (r"path=C:\temp\dir", {"path": "C:\\temp\\dir"}),
        ("a=x\\", {"a": "x\\"}),
        ("url=https://a.example/?q=1&r=2 b=2", {"url": "https://a.example/?q=1&r=2", "b": "2"}),
        ("a==x", {"a": "=x"}),
        (r"a=x k\=dst=1", {"a": "x k=dst=1"}),
        (r"a=x d\st=1", {"a": "x d\\st=1"}),
        ("ad.key[0]=1 my-key_2=3", {"ad.key[0]": "1", "my-key_2": "3"}),
        ("a=1 a=1", {"a": "1"}),
        ("a=Ünïcödé ☃", {"a": "Ünïcödé ☃"}),
    ],
)
def test_cef_extensions(extension: str, told: dict[str, str]) -> None:
    assert cef(extension) == told


def test_a_cef_header_has_escapes_of_its_own() -> None:
    header = parsed(r"CEF:0|A\|cme|C:\\Guard|4.1\=|1|a\nb|Very-High|x=1").fields["header"]
    assert (header["vendor"], header["product"], header["product_version"]) == ("A|cme", "C:\\Guard", "4.1\\=")
    assert (header["name"], header["severity"]) == ("a\\nb", "Very-High")


def test_custom_fields_have_their_labels_too() -> None:
    labels = parsed(CEF + " cs1=42 cs1Label=Case Number cs2=7 cn1Label=Lonely cs3=8 cs3Label=Case Number").fields[
        "labels"
    ]
    assert labels == {"Case Number": ["42", "8"]}


@pytest.mark.parametrize("line", [CEF.rpartition("|")[0], CEF.rpartition("|")[0] + "|"])
def test_cef_does_without_an_extension(line: str) -> None:
    assert fields(line) == {}


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1\tb=two words=x\t\t", {"a": "1", "b": "two words=x"}),
        ("a=1\tno key\tb=2", {"a": "1\tno key", "b": "2"}),
        ("a=C:\\temp\\new", {"a": "C:\\temp\\new"}),
    ],
)
def test_leef_1_parts_attributes_by_tabs(attributes: str, told: dict[str, str]) -> None:
    assert fields(f"LEEF:1.0|Acme|Guard|4.1|1001|{attributes}") == told


@pytest.mark.parametrize(
    ("named", "delimiter"),
    [
        ("^", "^"),
        ("x5e", "^"),
        ("0x5E", "^"),
        ("\\x5e", "^"),
        ("x09", "\t"),
        ("0x9", "\t"),
        ("", "\t"),
        ("¦", "¦"),
        (";", ";"),
    ],
)
def test_leef_2_names_its_delimiter(named: str, delimiter: str) -> None:
    line = f"LEEF:2.0|Acme|Guard|4.1|1001|{named}|src=10.0.0.1{delimiter}usrName=Jane Roe"
    assert fields(line) == {"src": "10.0.0.1", "usrName": "Jane Roe"}
    assert parsed(line).fields["header"]["event_id"] == "1001"


@pytest.mark.parametrize("attributes", ["src=10.0.0.1\tmsg=a|b", "src=10.0.0.1\tmsg=a|b=c"])
def test_leef_2_may_leave_its_delimiter_out(attributes: str) -> None:
    assert fields(f"LEEF:2.0|Acme|Guard|4.1|1001|{attributes}")["src"] == "10.0.0.1"


@pytest.mark.parametrize("line", [CEF, LEEF1])
@pytest.mark.parametrize(
    "header",
    [
        "<13>Jan 18 11:07:53 192.168.1.1 ",
        "Jan 18 11:07:53 myhostname ",
        '<134>1 2026-03-14T12:34:56.789+01:00 siem.example guard 812 ID47 [x@1 a="CEFs"] \ufeff',
        "<13>",
        "\ufeff",
        "  ",
    ],
)
def test_a_syslog_header_in_front_is_passed_over(line: str, header: str) -> None:
    bare, behind = parsed(line), parsed(header + line)
    assert behind == bare
    assert len(bare.fields["derived"]["digest"]) == 24
    assert parsed(line + "x").fields["derived"] != bare.fields["derived"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "neither CEF nor LEEF"),
        (b"hello", "neither CEF nor LEEF"),
        (b"xCEF:0|a|b|c|d|e|5|", "neither CEF nor LEEF"),
        (b" " * 2 + b"x" * 2000 + b" CEF:0|a|b|c|d|e|5|", "neither CEF nor LEEF"),
        (b"CEF:0|a|b|c|d|e", "has 6 fields of 7"),
        (b"CEF:", "has 1 fields of 7"),
        (b"CEF:zero|a|b|c|d|e|5|", "no version"),
        (b"CEF:0|a|b|c|d|e|5|words only", "does not begin with a key"),
        (b"CEF:0|a|b|c|d|e|5|x src=1", "does not begin with a key"),
        (b"CEF:0|a|b|c|d|e|5|dst=10.0.0.1 msg=x dst=10.0.0.2", "the key dst stands there twice"),
        (b"LEEF:1.0|a|b|c", "has 4 fields of 5"),
        (b"LEEF:3.0|a|b|c|d|e", "is not known"),
        (b"LEEF:1.0|a|b|c|d|words", "do not begin with a key"),
        (b"LEEF:1.0|a|b|c|d|dst=1\tdst=2", "the key dst stands there twice"),
        (b"LEEF:2.0|a|b|c|d|abc|dst=1", "cannot part attributes"),
        (b"LEEF:2.0|a|b|c|d|d|dst=1", "cannot part attributes"),
        (b"LEEF:2.0|a|b|c|d|x123456|dst=1", "cannot part attributes"),
        (b"CEF:0|a|b|c|d|e|5|a=\xff", "not UTF-8"),
        (CEF.encode() + b" " * MAX_LINE, "longer than 64 KiB"),
    ],
)
def test_what_is_malformed_is_refused_in_words(line: bytes, fault: str) -> None:
    with pytest.raises(FormatRefused, match=fault):
        parse_line(line)


KEYS = st.text("abcXYZ019_.-", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(lambda text: text.strip(" \t"))


def as_cef(pairs: Mapping[str, str]) -> str:
    escapes = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r"})
    return " ".join(f"{key}={value.translate(escapes)}" for key, value in pairs.items())


@given(pairs=st.dictionaries(KEYS, VALUES))
@example(pairs={"a": "x\ufeff"})
@example(pairs={"a": "dst=10.0.0.1 b", "b": "\\", "c": "\\n"})
def test_what_is_written_as_cef_is_read_back(pairs: dict[str, str]) -> None:
    assert cef(as_cef(pairs)) == pairs


@given(
    pairs=st.dictionaries(KEYS, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="^"), max_size=60)),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
)
def test_what_is_written_as_leef_is_read_back(pairs: dict[str, str], name: str) -> None:
    stripped = {key: value.strip() for key, value in pairs.items()}
    attributes = "^".join(f"{key}={value}" for key, value in stripped.items())
    record = fields(f"LEEF:2.0|Acme|Guard|{name.replace('|', '')}|1|^|{attributes}")
    assert record == stripped


PIECES = st.sampled_from(
    ["CEF:0|", "LEEF:1.0|", "LEEF:2.0|", "|", "\\", "=", " ", "\t", "^", "x09", "dst", "cs1Label", "é", "\n"]
)


@given(st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=60).map("".join).map(str.encode)))
def test_whatever_comes_is_read_or_refused(line: bytes) -> None:
    try:
        record = parse_line(line)
    except FormatRefused:
        return
    assert record.format in ("cef", "leef")


@given(st.integers(0, 2**32))
def test_a_mangled_line_is_read_or_refused(seed: int) -> None:
    dice = random.Random(seed)
    line = bytearray(dice.choice([CEF, LEEF1]).encode())
    for _ in range(dice.randint(1, 6)):
        line[dice.randrange(len(line))] = dice.choice(b"|\\=\t ^\x00\xff:0a")
    try:
        parse_line(bytes(line))
    except FormatRefused:
        return


def steps(run: Callable[[], object]) -> int:
    """How many lines of Python the run takes."""
    counted = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal counted
        counted += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except FormatRefused:
        pass
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize(
    "unit",
    ["a", "=", "\\", " ", "|", "\t", "a=", "=a", " a=b", " a", "\\=", "\\\\", "CEF:", "aLEEF:", "a=1\t", "b\t", "x "],
)
@pytest.mark.parametrize(
    "front",
    ["", "CEF:0|a|b|c|d|e|5|", "CEF:0|a|b|c|d|e|5|a=", "LEEF:1.0|a|b|c|d|a=", "LEEF:2.0|a|b|c|d|^|a=", "LEEF:2.0|"],
)
def test_twice_the_text_takes_twice_the_steps_at_most(front: str, unit: str) -> None:
    def line(length: int) -> bytes:
        return (front + unit * (length // len(unit))).encode()

    short, long = (steps(partial(parse_line, line(length))) for length in (2000, 4000))
    assert long <= 2 * short + 50
