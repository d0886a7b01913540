"""Names as Active Directory spells them, and filters that keep untrusted text text. Pure: nothing here connects.

References: RFC 4514 (distinguished names), RFC 4515 (search filters), MS-DTYP 2.4.2 (SIDs), MS-ADTS 3.1.1.3.4.4
(matching rules).
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_IN_CHAIN: membership through any number of groups in between."""

LONGEST_NAME = 1024
"""The longest attribute that a person is searched by (userPrincipalName) has 1024 characters."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_@+,=:;/'")
_GENERALIZED_TIME = re.compile(r"(\d{14})(?:[.,]\d+)?(Z|[+-]\d{4})")


@dataclass(frozen=True)
class SpelledName:
    r"""A person's name as the SIEM spelled it: ``DOMAIN\name``, ``name@domain`` or ``name``.

    ``name`` is what is searched for, ``domain`` what stood before a backslash.
    """

    name: str
    domain: str | None = None

    @property
    def before_at(self) -> str | None:
        """The part before the last ``@``, if there is one."""
        local, at, _ = self.name.rpartition("@")
        return local if at and local else None

    @property
    def after_at(self) -> str | None:
        """The part after the last ``@``, if there is one."""
        _, at, domain = self.name.rpartition("@")
        return domain if at and domain else None


def spelled_name(text: str) -> SpelledName | None:
    """Read a name; ``None`` if no account can be called that (empty, too long, control characters)."""
    if len(text) > LONGEST_NAME or any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        return None
    domain, _, name = text.strip().rpartition("\\")
    name, domain = name.strip(), domain.strip("\\ ")
    return SpelledName(name, domain or None) if name else None


def same_name(one: str, other: str) -> bool:
    """Whether two names are one. Without case, but with accents: the directory itself takes ``jose`` for ``josé``."""
    return _folded(one) == _folded(other)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def escaped(value: str | bytes) -> str:
    r"""A value inside a filter (RFC 4515, section 3). Whatever is not plainly harmless is written as ``\xx``."""
    octets = value.encode("utf-8") if isinstance(value, str) else value
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in octets)


def person_filter(name: str) -> str:
    """Users whose account name, UPN or mail address is ``name``."""
    value = escaped(name)
    return f"(&(objectClass=user)(|(sAMAccountName={value})(userPrincipalName={value})(mail={value})))"


def address_filter(address: str) -> str:
    """Users who have that mail address: as their first one, as an alias (``proxyAddresses``), or as their UPN."""
    value = escaped(address)
    return f"(&(objectClass=user)(|(mail={value})(proxyAddresses=smtp:{value})(userPrincipalName={value})))"


def account_filter(account: str) -> str:
    """Users whose account name is ``account``."""
    return f"(&(objectClass=user)(sAMAccountName={escaped(account)}))"


def group_filter(name: str) -> str:
    """The group of that account name or common name."""
    quoted = escaped(name)
    return f"(&(objectClass=group)(|(sAMAccountName={quoted})(cn={quoted})))"


def groups_of_filter(dn: str) -> str:
    """Groups that ``dn`` is a member of, directly or through other groups."""
    return f"(member:{IN_CHAIN}:={escaped(dn)})"


def member_filter(dn: str) -> str:
    """Groups that name ``dn`` as a member themselves."""
    return f"(member={escaped(dn)})"


def members_filter(dn: str) -> str:
    """Users who are members of the group ``dn``, directly or through other groups."""
    return f"(&(objectClass=user)(memberOf:{IN_CHAIN}:={escaped(dn)}))"


def primary_members_filter(rid: int) -> str:
    """Users whose primary group has that relative id: they are not among its ``member``."""
    return f"(&(objectClass=user)(primaryGroupID={rid}))"


def sid_filter(sid: bytes) -> str:
    """The object with that SID, given in the form (binary or text) in which the server itself gives SIDs."""
    return f"(objectSid={escaped(sid)})"


def group_of_sid_filter(sid: bytes) -> str:
    """The group with that SID, given as bytes."""
    return f"(&(objectClass=group){sid_filter(sid)})"


def guid_filter(guid: str) -> str | None:
    """Users with that objectGUID; ``None`` if it is no GUID."""
    try:
        return f"(&(objectClass=user)(objectGUID={escaped(uuid.UUID(guid).bytes_le)}))"
    except ValueError:
        return None


def domain_partition_filter(domain: str) -> str:
    """The forest's entry of the domain of that DNS name, the one with a NetBIOS name."""
    return f"(&(objectClass=crossRef)(nETBIOSName=*)(dnsRoot={escaped(domain)}))"


def sid_text(raw: bytes | None) -> str | None:
    """A SID as ``S-1-5-…``, from its binary form (MS-DTYP 2.4.2.2) or from text; ``None`` for anything else."""
    if raw is None:
        return None
    if raw[:2].upper() == b"S-":
        return raw.decode("ascii", "replace").upper()
    if len(raw) < 8 or len(raw) != 8 + 4 * raw[1]:
        return None
    authority = int.from_bytes(raw[2:8], "big")
    parts = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, len(raw), 4)]
    return "-".join(["S", str(raw[0]), str(authority), *map(str, parts)])


def sid_bytes(text: str) -> bytes:
    """A SID's binary form.

    Raises:
        ValueError: ``text`` is no SID.
    """
    letter, revision, authority, *parts = text.split("-")
    if letter.upper() != "S" or len(parts) > 15:
        raise ValueError(f"{text!r} is not a SID")
    try:
        number = int(authority, 16 if authority[:2].lower() == "0x" else 10)
        head = bytes([int(revision), len(parts)]) + number.to_bytes(6, "big")
        return head + b"".join(int(part).to_bytes(4, "little") for part in parts)
    except OverflowError:
        raise ValueError(f"{text!r} is not a SID") from None


def sid_in_domain(raw: bytes, rid: int) -> bytes | None:
    """The SID with that relative id in the domain of ``raw``, in the form of ``raw``; ``None`` if ``raw`` is no SID."""
    text = sid_text(raw)
    domain, dash, _ = (text or "").rpartition("-")
    if not dash:
        return None
    sibling = f"{domain}-{rid}"
    return sibling.encode() if raw[:2].upper() == b"S-" else sid_bytes(sibling)


def guid_text(raw: bytes | None) -> str | None:
    """An objectGUID as canonical text, from its sixteen bytes (MS-DTYP 2.3.4.2) or from text."""
    if raw is None:
        return None
    if len(raw) == 16:
        return str(uuid.UUID(bytes_le=raw))
    try:
        return str(uuid.UUID(raw.decode("ascii")))
    except ValueError:
        return None


def same_guid(one: str, other: str) -> bool:
    """Whether two GUIDs are one, however they are written (braces, case)."""
    try:
        return uuid.UUID(one) == uuid.UUID(other)
    except ValueError:
        return one.casefold() == other.casefold()


def rdns(dn: str) -> list[tuple[str, str]]:
    """A distinguished name's parts (attribute in lower case, value unescaped), the leaf first (RFC 4514)."""
    parts: list[tuple[str, str]] = []
    for part in re.findall(r"(?:\\.|[^\\,])+", dn, re.DOTALL):
        attribute, _, value = part.partition("=")
        parts.append((attribute.strip().lower(), _unescaped(value.strip())))
    return parts


def _unescaped(value: str) -> str:
    octets = re.sub(
        rb"\\([0-9A-Fa-f]{2}|.)",
        lambda found: bytes.fromhex(found[1].decode()) if len(found[1]) == 2 else found[1],
        value.encode("utf-8", "replace"),
        flags=re.DOTALL,
    )
    return octets.decode("utf-8", "replace")


def leaf_name(dn: str) -> str:
    """What an entry is called by its distinguished name; the whole of it where that cannot be read."""
    parts = rdns(dn)
    return parts[0][1] if parts and parts[0][1] else dn


def dns_domain(base_dn: str) -> str | None:
    """The DNS name of the domain that a distinguished name is in; ``None`` if it is in none."""
    return ".".join(value for attribute, value in rdns(base_dn) if attribute == "dc") or None


def generalized_time(text: str) -> datetime | None:
    """A point in time as ``20260314123456.0Z`` (RFC 4517, 3.3.13); ``None`` if it cannot be read."""
    found = _GENERALIZED_TIME.fullmatch(text.strip())
    if not found:
        return None
    try:
        local = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    if found[2] == "Z":
        return local
    offset = timedelta(hours=int(found[2][1:3]), minutes=int(found[2][3:5]))
    return local + offset if found[2][0] == "-" else local - offset
