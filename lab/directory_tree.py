"""The stand-in directory's entries: search, filters, compare-and-swap and who may change what. No wire, no clock.

Behaves as Active Directory is documented to (MS-ADTS 3.1.1): matching without case, ``memberOf`` computed from
``member``, bit and in-chain rules, modifications all or nothing.
"""

from __future__ import annotations

import threading
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from ldaptor.protocols import pureldap

from integrations.ldap_names import rdns, sid_bytes

BIT_AND, BIT_OR, IN_CHAIN = "1.2.840.113556.1.4.803", "1.2.840.113556.1.4.804", "1.2.840.113556.1.4.1941"
CONSTRUCTED = frozenset({"memberof", "msds-principalname", "allowedattributeseffective"})
_DN_VALUED = frozenset({"member", "memberof", "manager", "distinguishedname"})
_SINGLE = frozenset({"useraccountcontrol", "mail", "title", "department", "manager"})
_DOMAIN_SID = "S-1-5-21-1004336348-1177238915-682003330"

DnKey = tuple[tuple[str, str], ...]


class LdapFault(Exception):
    """A result other than success, with the server's words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Entry:
    """One object. ``attributes`` maps a name in lower case to its spelling and values."""

    dn: str
    attributes: dict[str, tuple[str, list[bytes]]] = field(default_factory=dict)

    def values(self, name: str) -> list[bytes]:
        """The values, none if it is absent."""
        return self.attributes.get(name.lower(), ("", []))[1]

    def put(self, name: str, values: Iterable[str | bytes | int]) -> None:
        """Set the values; none removes the attribute."""
        octets = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        if octets:
            self.attributes[name.lower()] = (name, octets)
        else:
            self.attributes.pop(name.lower(), None)


@lru_cache(maxsize=4096)
def dn_key(dn: str) -> DnKey:
    """A distinguished name for comparing: without case, without escapes."""
    return tuple((attribute, value.casefold()) for attribute, value in rdns(dn))


def escape_rdn(value: str) -> str:
    """A value inside a distinguished name (RFC 4514)."""
    text = "".join(f"\\{character}" if character in ',+"\\<>;=' else character for character in value)
    return f"\\{text}" if text.startswith((" ", "#")) else text


class DirectoryTree:
    """The entries of one domain, which several servers may share (domain controllers without replication lag)."""

    def __init__(self, base_dn: str, netbios: str) -> None:
        self.base_dn = base_dn
        self.netbios = netbios
        self.lock = threading.RLock()
        self.in_chain: Literal["on", "silent", "refused"] = "on"
        self.delegates: set[DnKey] = set()
        self.protected_ous: list[str] = ["OU=Tier0"]
        self.equal_is_success = False
        self.before_modify: Callable[[], None] | None = None
        self._entries: dict[DnKey, Entry] = {}
        self._chains: dict[DnKey, set[DnKey]] = {}
        self._next_rid = 1104
        self.add(base_dn, {"objectClass": ["top", "domain", "domainDNS"]})

    def add(self, dn: str, attributes: Mapping[str, Iterable[str | bytes | int]], *, rid: int | None = None) -> Entry:
        """A new entry with an objectGUID, and a SID if it has an account name."""
        entry = Entry(dn)
        for name, values in attributes.items():
            entry.put(name, values)
        entry.put("distinguishedName", [dn])
        entry.put("objectGUID", [uuid.uuid4().bytes_le])
        with self.lock:
            if entry.values("sAMAccountName"):
                entry.put("objectSid", [sid_bytes(f"{_DOMAIN_SID}-{rid or self._next_rid}")])
                self._next_rid += 1
            self._entries[dn_key(dn)] = entry
        return entry

    def remove(self, dn: str) -> Entry:
        """Take an entry out."""
        with self.lock:
            return self._entries.pop(dn_key(dn))

    def move(self, dn: str, new_dn: str) -> Entry:
        """Rename or move an entry: another name, the same object."""
        with self.lock:
            entry = self._entries.pop(dn_key(dn))
            entry.dn = new_dn
            entry.put("distinguishedName", [new_dn])
            self._entries[dn_key(new_dn)] = entry
        return entry

    def entry(self, dn: str) -> Entry:
        """The entry of that name. Raises LdapFault 32."""
        try:
            return self._entries[dn_key(dn)]
        except KeyError:
            raise LdapFault(32, "0000208D: NameErr: DSID-03100245, problem 2001 (NO_OBJECT), data 0") from None

    def at(self, key: DnKey) -> Entry | None:
        """The entry of that name, if there is one."""
        return self._entries.get(key)

    def named(self, account: str) -> Entry:
        """The entry with that sAMAccountName. Raises KeyError."""
        wanted = account.casefold().encode()
        for entry in self._entries.values():
            if any(value.lower() == wanted for value in entry.values("sAMAccountName")):
                return entry
        raise KeyError(account)

    def search(self, base: str, scope: int, query: Any) -> list[Entry]:
        """The matching entries in a scope (0 base, 1 level, 2 subtree)."""
        with self.lock:
            top = dn_key(self.entry(base).dn)
            self._chains.clear()
            return [
                entry
                for key, entry in self._entries.items()
                if _in_scope(key, top, scope) and self._matches(entry, query)
            ]

    def told(self, entry: Entry, wanted: Sequence[str], asker: DnKey | None) -> list[tuple[str, list[bytes]]]:
        """The attributes of an entry, constructed ones only where asked for by name."""
        names = {name.lower(): name for name in wanted}
        everything = not names or "*" in names
        told = [(name, values) for key, (name, values) in entry.attributes.items() if everything or key in names]
        constructed = ((names[key], self._constructed(entry, key, asker)) for key in sorted(CONSTRUCTED & names.keys()))
        return told + [(name, values) for name, values in constructed if values]

    def modify(self, dn: str, changes: Sequence[tuple[int, str, list[bytes]]], asker: DnKey | None) -> None:
        """Apply changes (0 add, 1 delete, 2 replace), all of them or none."""
        hook, self.before_modify = self.before_modify, None
        if hook:
            hook()
        with self.lock:
            entry = self.entry(dn)
            for _, name, _ in changes:
                if name.lower() not in self._writable(entry, asker):
                    raise LdapFault(50, "00002098: SecErr: DSID-031514A0, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0")
            result = {name.lower(): list(entry.values(name)) for _, name, _ in changes}
            if not (self.equal_is_success and _ends_where_it_is(result, changes)):
                for operation, name, values in changes:
                    _apply(result, operation, name, values)
                _check_values(result)
            for name, values in result.items():
                entry.put(entry.attributes.get(name, (name, []))[0], values)

    def groups_of(self, key: DnKey) -> list[Entry]:
        """The groups that list that member."""
        return [entry for entry in self._entries.values() if key in _dn_keys(entry.values("member"))]

    def _chain(self, key: DnKey) -> set[DnKey]:
        """All groups above; remembered for as long as one search lasts."""
        found = self._chains.get(key)
        if found is None:
            found, waiting = set(), [key]
            while waiting:
                fresh = {dn_key(group.dn) for group in self.groups_of(waiting.pop())} - found
                found |= fresh
                waiting += fresh
            self._chains[key] = found
        return found

    def _constructed(self, entry: Entry, key: str, asker: DnKey | None) -> list[bytes]:
        if key == "memberof":
            return [group.dn.encode() for group in self.groups_of(dn_key(entry.dn))]
        if key == "msds-principalname":
            return [f"{self.netbios}\\".encode() + name for name in entry.values("sAMAccountName")]
        return [name.encode() for name in self._writable(entry, asker).values()]

    def _writable(self, entry: Entry, asker: DnKey | None) -> dict[str, str]:
        protected = [dn_key(f"{ou},{self.base_dn}") for ou in self.protected_ous]
        key = dn_key(entry.dn)
        if asker not in self.delegates or any(_in_scope(key, top, 2) for top in protected):
            return {}
        return {"useraccountcontrol": "userAccountControl"} if entry.values("userAccountControl") else {}

    def _matches(self, entry: Entry, query: Any) -> bool:
        match query:
            case pureldap.LDAPFilter_and():
                return all(self._matches(entry, part) for part in query)
            case pureldap.LDAPFilter_or():
                return any(self._matches(entry, part) for part in query)
            case pureldap.LDAPFilter_not():
                return not self._matches(entry, query.value)
            case pureldap.LDAPFilter_present():
                name = query.value.decode().lower()
                return name == "objectclass" or bool(self._values(entry, name))
            case pureldap.LDAPFilter_equalityMatch():
                name = query.attributeDesc.value.decode().lower()
                return any(_equal(name, value, query.assertionValue.value) for value in self._values(entry, name))
            case pureldap.LDAPFilter_substrings():
                return any(_substrings(value, query) for value in self._values(entry, query.type.decode().lower()))
            case pureldap.LDAPFilter_extensibleMatch():
                return self._extensible(entry, query)
        raise LdapFault(18, "00002089: SvcErr: the filter is not supported here")

    def _values(self, entry: Entry, name: str) -> list[bytes]:
        return self._constructed(entry, name, None) if name == "memberof" else entry.values(name)

    def _extensible(self, entry: Entry, query: Any) -> bool:
        rule, name = query.matchingRule.value.decode(), query.type.value.decode().lower()
        value: bytes = query.matchValue.value
        if rule in (BIT_AND, BIT_OR):
            bits = int(value)
            found = [int(number) & bits for number in entry.values(name)]
            return any(number == bits if rule == BIT_AND else number for number in found)
        if rule != IN_CHAIN or self.in_chain == "refused" or name not in ("member", "memberof"):
            raise LdapFault(18, "0000208F: the matching rule is not supported here")
        if self.in_chain == "silent":
            return False
        mine, other = dn_key(entry.dn), dn_key(value.decode())
        return mine in self._chain(other) if name == "member" else other in self._chain(mine)


def _in_scope(key: DnKey, top: DnKey, scope: int) -> bool:
    below = len(key) - len(top)
    if below < 0 or key[below:] != top:
        return False
    return below == scope if scope in (0, 1) else True


def _dn_keys(values: Iterable[bytes]) -> Iterator[DnKey]:
    return (dn_key(value.decode()) for value in values)


def _equal(name: str, value: bytes, wanted: bytes) -> bool:
    if name == "objectsid":
        return value == (sid_bytes(wanted.decode()) if wanted[:2] == b"S-" else wanted)
    if name == "objectguid":
        return value == wanted
    if name == "objectcategory" and b"=" not in wanted:
        return rdns(value.decode())[0][1].casefold() == wanted.decode().casefold()
    if name in _DN_VALUED:
        return dn_key(value.decode()) == dn_key(wanted.decode("utf-8", "replace"))
    return _folded(value) == _folded(wanted)


def _folded(value: bytes) -> str:
    """Text for comparing: without case and without accents, as Active Directory does."""
    letters = unicodedata.normalize("NFKD", value.decode("utf-8", "replace")).casefold()
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _substrings(value: bytes, query: Any) -> bool:
    text, at = value.lower(), 0
    for part in query.substrings:
        wanted = part.value.lower()
        found = text.find(wanted, at)
        if found < 0 or (isinstance(part, pureldap.LDAPFilter_substrings_initial) and found != 0):
            return False
        if isinstance(part, pureldap.LDAPFilter_substrings_final) and not text.endswith(wanted):
            return False
        at = found + len(wanted)
    return True


def _apply(result: dict[str, list[bytes]], operation: int, name: str, values: list[bytes]) -> None:
    mine = result[name.lower()]
    if operation == 2:
        mine[:] = values
    elif operation == 1:
        if not mine or any(value not in mine for value in values):
            raise LdapFault(16, "00002085: AtrErr: DSID-03152BC5, problem 1001 (NO_ATTRIBUTE_OR_VAL), data 0")
        mine[:] = [value for value in mine if values and value not in values]
    else:
        if any(value in mine for value in values):
            raise LdapFault(20, "00002083: AtrErr: DSID-031519A1, problem 1006 (ATT_OR_VALUE_EXISTS), data 0")
        mine += values


def _check_values(result: Mapping[str, list[bytes]]) -> None:
    for name, values in result.items():
        if name in _SINGLE and len(values) > 1:
            raise LdapFault(19, "00002081: AtrErr: DSID-030F155B, problem 1005 (CONSTRAINT_ATT_TYPE), data 0")
        if name == "useraccountcontrol" and not all(value.lstrip(b"-").isdigit() for value in values):
            raise LdapFault(21, "00000057: LdapErr: DSID-0C091027, comment: Error in attribute conversion operation")


def _ends_where_it_is(current: Mapping[str, list[bytes]], changes: Sequence[tuple[int, str, list[bytes]]]) -> bool:
    """Some servers call it success when the value to be added is the value already."""
    return all(values == current[name.lower()] for operation, name, values in changes if operation == 0)
