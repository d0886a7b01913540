"""Names and filters: whatever the alert says, it stays a value."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import parse_filter
from ldap3.utils.conv import to_raw

from integrations.ldap_names import (
    SpelledName,
    dns_domain,
    escaped,
    generalized_time,
    groups_of_filter,
    guid_text,
    leaf_name,
    person_filter,
    rdns,
    same_guid,
    same_name,
    sid_bytes,
    sid_in_domain,
    sid_text,
    spelled_name,
)
from lab.directory_tree import dn_key, escape_rdn

ADMINISTRATOR = bytes.fromhex("010500000000000515000000a065cf7e784b9b5fe77c8770f4010000")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def assertions(query: str) -> list[tuple[str, bytes]]:
    """What ldap3 makes of a filter: attribute and value of each comparison."""
    found = []
    waiting = [
        parse_filter(  # type: ignore[no-untyped-call]  # stub's gap
            query, schema=None, auto_escape=False, auto_encode=True, validator=None, check_names=False
        )
    ]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node.assertion, dict):
            found.append((node.assertion["attr"], _octets(node.assertion["value"])))
        waiting += node.elements
    return found


def _octets(value: object) -> bytes:
    raw = to_raw(value)
    out, at = bytearray(), 0
    while at < len(raw):
        if raw[at : at + 1] == b"\\":
            out += bytes.fromhex(raw[at + 1 : at + 3].decode())
            at += 3
        else:
            out.append(raw[at])
            at += 1
    return bytes(out)


@given(TEXT)
def test_any_name_stays_one_value_of_the_filter(name: str) -> None:
    told = assertions(person_filter(name))
    wanted = name.encode()
    assert told == [
        ("objectClass", b"user"),
        ("sAMAccountName", wanted),
        ("userPrincipalName", wanted),
        ("mail", wanted),
    ]


@given(TEXT)
def test_any_dn_stays_one_value_of_the_in_chain_filter(dn: str) -> None:
    assert assertions(groups_of_filter(dn)) == [("member", dn.encode())]


@pytest.mark.parametrize("character", ["*", "(", ")", "\\", "\x00", '"', " ", "é", "\n"])
def test_characters_with_a_meaning_are_written_as_octets(character: str) -> None:
    assert escaped(character) == "".join(f"\\{octet:02x}" for octet in character.encode())


def test_octets_are_escaped_as_they_are() -> None:
    assert escaped(b"\x00\xffA") == "\\00\\ffA"


@pytest.mark.parametrize(
    ("spelled", "name", "domain"),
    [
        ("jdoe", "jdoe", None),
        (" jdoe ", "jdoe", None),
        ("CORP\\jdoe", "jdoe", "CORP"),
        ("CORP\\\\jdoe", "jdoe", "CORP"),
        ("jdoe@corp.example", "jdoe@corp.example", None),
    ],
)
def test_spelling(spelled: str, name: str, domain: str | None) -> None:
    assert spelled_name(spelled) == SpelledName(name, domain)


@pytest.mark.parametrize("name", ["", "  ", "CORP\\", "jd\x00oe", "jdoe\n", "jd\x7foe", "x" * 1025, "\ud800"])
def test_what_no_account_can_be_called(name: str) -> None:
    assert spelled_name(name) is None


def test_parts_around_the_at() -> None:
    name = SpelledName("jdoe@corp.example")
    assert (name.before_at, name.after_at) == ("jdoe", "corp.example")
    assert (SpelledName("jdoe").before_at, SpelledName("jdoe").after_at) == (None, None)
    assert SpelledName("@x").before_at is None


def test_names_are_compared_without_case_and_with_accents() -> None:
    assert same_name("JDoe", "jdoe")
    assert same_name("e\u0301va", "\u00c9VA")
    assert not same_name("jose", "josé")


def test_sid() -> None:
    text = "S-1-5-21-2127521184-1604012920-1887927527-500"
    assert sid_text(ADMINISTRATOR) == text
    assert sid_text(text.encode()) == text
    assert sid_bytes(text) == ADMINISTRATOR
    assert sid_text(sid_in_domain(ADMINISTRATOR, 512)) == text[:-3] + "512"
    assert sid_in_domain(text.encode(), 512) == (text[:-3] + "512").encode()


@pytest.mark.parametrize("raw", [None, b"", b"\x01\x05", b"short", ADMINISTRATOR + b"\x00"])
def test_no_sid(raw: bytes | None) -> None:
    assert sid_text(raw) is None


@pytest.mark.parametrize("text", ["", "S-1", "X-1-5-21", "S-1-5-x", "S-1-5-99999999999", "S-300-5-1"])
def test_sid_that_cannot_be_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"SID|unpack|literal|range|bytes"):
        sid_bytes(text)


@given(st.uuids())
def test_guid_is_told_in_its_canonical_form(guid: uuid.UUID) -> None:
    assert guid_text(guid.bytes_le) == str(guid)
    assert guid_text(f"{{{str(guid).upper()}}}".encode()) == str(guid)
    assert same_guid(str(guid), f"{{{str(guid).upper()}}}")


def test_no_guid() -> None:
    assert guid_text(None) is None
    assert guid_text(b"\xff\xfe") is None
    assert not same_guid("x", "y")


@given(TEXT.filter(lambda text: text == text.strip()))
def test_a_leaf_is_called_what_it_was_called_before_it_was_escaped(name: str) -> None:
    dn = f"CN={escape_rdn(name)},OU=Staff,DC=corp,DC=example"
    assert leaf_name(dn) == name
    assert rdns(dn)[1:] == [("ou", "Staff"), ("dc", "corp"), ("dc", "example")]
    assert dn_key(dn) == dn_key(dn.replace("OU=Staff", "ou=STAFF"))


def test_names_from_a_dn() -> None:
    assert leaf_name("CN=Doe\\2C John,DC=corp") == "Doe, John"
    assert leaf_name("CN=Z\\C3\\B6,DC=corp") == "Zö"
    assert leaf_name("nonsense") == "nonsense"
    assert dns_domain("OU=Staff,DC=corp,dc=example") == "corp.example"
    assert dns_domain("o=acme") is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("20260314123456.0Z", datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)),
        ("20260314123456Z", datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)),
        ("20260314133456+0100", datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)),
        ("20260314073456.000-0500", datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)),
        ("20261399000000Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_generalized_time(text: str, wanted: datetime | None) -> None:
    assert generalized_time(text) == wanted
