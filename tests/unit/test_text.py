import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from incident.text import LIMIT, markdown, plain

MARKUP = r"\ ` ``` * _ [a](http://b) <b> </td> &lt; | ~~ - + 1. 2) # > === --- ![x](y) <http://evil.example> $x$ ://"
ADDRESSES = "http://evil.example www.evil.example WWW.evil.example a@evil.example"
CONTROLS = ["\n", "\r\n", "\u2028", "\x85", "\x0b", "\t", "    ", "\x1b[31m", "\x9b2J", "\x1b]0;title\x07", "\x00"]
INVISIBLE = ["\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\U000e0041"]
SPECIAL = st.sampled_from([*MARKUP.split(), *ADDRESSES.split(), *CONTROLS, *INVISIBLE, " ", "w\u00fcrst", "\U0001f600"])
HOSTILE = st.lists(SPECIAL | st.text(max_size=5), max_size=12).map("".join)


@given(HOSTILE)
def test_plain_is_one_line_of_visible_text(value: str) -> None:
    shown = plain(value)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not [c for c in shown if unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF"}]
    assert not [c for c in shown if unicodedata.bidirectional(c) in {"LRI", "RLI", "FSI", "PDI"}]
    assert len(shown.splitlines()) <= 1
    assert shown == shown.strip()
    assert shown.encode("utf-8").decode("utf-8") == shown


@given(HOSTILE)
def test_plain_changes_nothing_twice(value: str) -> None:
    assert plain(plain(value)) == plain(value)


@given(st.text(), st.integers(1, 40))
def test_plain_is_bounded(value: str, limit: int) -> None:
    shown = plain(value, limit)
    assert len(shown) <= limit
    assert shown == plain(value, 10_000) or shown.endswith("\u2026")


@given(st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="\u115f"), max_size=LIMIT))
def test_plain_keeps_what_people_can_read(value: str) -> None:
    assert plain(value) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("web01\r\nBcc: x@evil.example", "web01 Bcc: x@evil.example"),
        ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07", "]0;owned"),
        ("a\u202eexe.txt", "aexe.txt"),
        ("a\x00b", "ab"),
        ("a\ud800b", "a\ufffdb"),
        ("  a \t b  ", "a b"),
    ],
)
def test_plain_examples(value: str, shown: str) -> None:
    assert plain(value) == shown


def _rendered(source: str) -> str:
    """What a Markdown reader shows, if it is nothing but one paragraph of text; fails on any markup."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    if not tokens:
        return ""
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text"}
    return "".join(child.content for child in children)


@given(HOSTILE)
def test_markdown_stays_text_at_the_start_of_a_line(value: str) -> None:
    assert _rendered(markdown(value)) == plain(value)


@given(HOSTILE, HOSTILE)
def test_markdown_stays_text_inside_a_line(one: str, two: str) -> None:
    shown = _rendered(f"Host {markdown(one)} and {markdown(two)} end")
    assert shown == f"Host {plain(one)} and {plain(two)} end"


@given(HOSTILE)
def test_markdown_stays_in_its_table_cell(value: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| a | b |\n|---|---|\n| {markdown(value)} | end |\n")
    cells = [token.content for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    assert cells[3] == "end"


@given(HOSTILE)
def test_markdown_leaves_no_address_for_autolinks(value: str) -> None:
    shown = markdown(value)
    assert not re.search(r"(?<!\\)://|www\.", shown, re.IGNORECASE)
    assert all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c == "@")
