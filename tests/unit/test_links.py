"""Links: only what we signed is read, each altered character is noticed, and time ends them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.links import LONGEST, LinkClaim, LinkExpired, LinkRefused, read, sign

KEY, OLD, OTHER = "today's key, long enough", "yesterday's key, as long", "somebody else's key, long"
NOW = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
CLAIM = LinkClaim(
    case_id="sua-acme-10.20.30.40",
    run_id="5d1c8e9e-0000-4000-8000-000000000000",
    question="HP-0A1B2C3D-Q1",
    digest="d" * 64,
    analyst="ann@example.com",
    expires_at=NOW + timedelta(hours=24),
)
TOKEN = sign(KEY, CLAIM)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def test_what_was_signed_is_read() -> None:
    assert read([KEY], TOKEN, NOW) == CLAIM
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", TOKEN)


@given(
    claim=st.builds(
        LinkClaim,
        case_id=st.text(max_size=60),
        run_id=st.text(max_size=40),
        question=st.text(max_size=40),
        digest=st.text(max_size=64),
        analyst=st.text(max_size=60),
        expires_at=st.integers(1, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    )
)
def test_any_claim_comes_back_as_it_was(claim: LinkClaim) -> None:
    token = sign(KEY, claim)
    assert token.isascii()
    if len(token) <= LONGEST:
        assert read([KEY], token, NOW) == claim


@given(place=st.integers(0, len(TOKEN) - 1), letter=st.sampled_from(ALPHABET))
def test_every_altered_character_is_noticed(place: int, letter: str) -> None:
    altered = TOKEN[:place] + letter + TOKEN[place + 1 :]
    if altered == TOKEN:
        return
    with pytest.raises(LinkRefused):
        read([KEY], altered, NOW)


def test_every_place_is_noticed() -> None:
    for place, letter in enumerate(TOKEN):
        # The neighbour in the alphabet: where base64 leaves bits over, it means the same octets.
        for other in {ALPHABET[ALPHABET.index(letter) - 1], ALPHABET[(ALPHABET.index(letter) + 1) % len(ALPHABET)]}:
            with pytest.raises(LinkRefused):
                read([KEY], TOKEN[:place] + other + TOKEN[place + 1 :], NOW)


@given(st.one_of(st.text(max_size=200), st.text(ALPHABET, max_size=200)))
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(LinkRefused):
        read([KEY], text, NOW)


@given(cut=st.integers(0, len(TOKEN) - 1), more=st.text(ALPHABET, min_size=1, max_size=5))
def test_cut_short_or_lengthened(cut: int, more: str) -> None:
    for wrong in (TOKEN[:cut], TOKEN + more, more + TOKEN, f"{TOKEN}.{TOKEN}", TOKEN + "=", f" {TOKEN}"):
        with pytest.raises(LinkRefused):
            read([KEY], wrong, NOW)


def test_one_links_seal_is_no_other_links() -> None:
    other = sign(KEY, CLAIM.model_copy(update={"analyst": "eve@example.com"}))
    mixed = f"{other.partition('.')[0]}.{TOKEN.partition('.')[2]}"
    with pytest.raises(LinkRefused):
        read([KEY], mixed, NOW)


def test_keys() -> None:
    for keys in ([], [OTHER], [""], [KEY + " "]):
        with pytest.raises(LinkRefused):
            read(keys, TOKEN, NOW)
    assert read([OTHER, KEY], TOKEN, NOW) == CLAIM
    assert read([KEY, OLD], sign(OLD, CLAIM), NOW) == CLAIM
    with pytest.raises(LinkRefused):
        read([KEY], sign(OLD, CLAIM), NOW)


def test_time_ends_it() -> None:
    assert read([KEY], TOKEN, CLAIM.expires_at - timedelta(seconds=1)) == CLAIM
    for late in (timedelta(0), timedelta(days=400)):
        with pytest.raises(LinkExpired) as expired:
            read([KEY], TOKEN, CLAIM.expires_at + late)
        assert expired.value.claim == CLAIM
    with pytest.raises(LinkRefused) as refused:
        read([OTHER], TOKEN, CLAIM.expires_at)
    assert not isinstance(refused.value, LinkExpired), "who has no key is not told that it has expired"


def test_a_refusal_holds_nothing_of_the_link() -> None:
    with pytest.raises(LinkRefused) as refused:
        read([OTHER], TOKEN, NOW)
    assert TOKEN[:20] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_link_that_is_too_long_is_not_read() -> None:
    token = sign(KEY, CLAIM.model_copy(update={"case_id": "x" * LONGEST}))
    with pytest.raises(LinkRefused):
        read([KEY], token, NOW)
