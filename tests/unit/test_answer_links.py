"""The addresses in a mail: what a link says, to whom it is given, and where it cannot be seen."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.answer_links import LinkMaker
from incident.links import LinkExpired, LinkRefused, read
from incident.requests import AnswerLinks
from tests.unit.builders import AT, HOSTILE

KEY, DAY = "k" * 40, timedelta(hours=24)
ASKED = AnswerLinks(
    case_id="sua-acme-10.20.30.40", run_id="run", question="HP-1-Q1", digest="d1", analysts=("Ann@corp.example",)
)


def maker(url: str = "https://desk.corp.example") -> LinkMaker:
    return LinkMaker(url, KEY, DAY, clock=lambda: AT)


def test_a_link_says_who_may_answer_what_and_until_when() -> None:
    link = maker().answer(ASKED, "ann@corp.example")
    assert link is not None
    start, token = link[:33], link[33:]
    assert start == "https://desk.corp.example/answer/"
    claim = read([KEY], token, AT + DAY - timedelta(seconds=1))
    assert (claim.case_id, claim.run_id, claim.question, claim.digest) == (
        ASKED.case_id,
        ASKED.run_id,
        ASKED.question,
        ASKED.digest,
    )
    assert claim.analyst == "ann@corp.example"
    with pytest.raises(LinkExpired):
        read([KEY], token, AT + DAY)
    with pytest.raises(LinkRefused):
        read(["x" * 40], token, AT)


def test_nobody_else_gets_one() -> None:
    assert maker().answer(ASKED, "soc@corp.example") is None
    assert maker().answer(None, "ann@corp.example") is None


def test_a_link_that_nobody_could_read_is_not_made() -> None:
    assert maker().answer(ASKED.model_copy(update={"case_id": "x" * 4000}), "ann@corp.example") is None


def test_an_address_that_ends_with_a_slash_is_the_same() -> None:
    assert maker("https://desk.corp.example/").case_page("a b/c?") == "https://desk.corp.example/cases/a%20b%2Fc%3F"


@given(HOSTILE | st.text(st.characters(), max_size=40))
def test_a_case_of_any_name_stays_one_part_of_the_address(name: str) -> None:
    page = maker().case_page(name)
    part = page.removeprefix("https://desk.corp.example/cases/")
    assert page.isascii()
    assert not set(part) & set("/?# \n\"'<>&\\")


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(maker())
    assert KEY not in repr(vars(maker()).keys())
