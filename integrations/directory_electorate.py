"""Who may answer a case, by the directory: the members of the tiers' groups, and whom the suspect's line recuses.

The line is read upwards only: from the suspect to those above, and from each analyst to see whether the suspect is
above them. Nobody's reports are listed, so that a chief executive costs no more than a clerk. References: MS-ADSC
(``manager``, ``primaryGroupID``), MS-ADTS 3.1.1.3.4.4.3 (nested membership).
"""

from __future__ import annotations

from collections.abc import Iterator

from incident.evidence import Identity
from incident.voters import FindElectorate, Voters
from integrations.directory_person import LONGEST_LINE, identity_of
from integrations.errors import Busy, IntegrationError, Misconfigured, NotFound, Refused, Rejected, Unreachable
from integrations.ldap_connection import LdapSession, Row
from integrations.ldap_names import (
    address_filter,
    group_filter,
    guid_text,
    members_filter,
    primary_members_filter,
    rdns,
    sid_bytes,
    sid_filter,
    sid_text,
)

MOST_MEMBERS = 500
"""How many members a tier's group may have. A larger one is not a group of analysts."""

_FEW = 10
_DISABLED = 0x2
_ATTRIBUTES = (
    *("sAMAccountName", "userPrincipalName", "mail", "proxyAddresses", "manager", "objectGUID", "objectClass"),
    "userAccountControl",
)
_GROUP_ATTRIBUTES = ("member", "objectSid", "objectClass")
_UNREADABLE = (NotFound, Refused, Rejected, Misconfigured)
"""What a single entry (of another domain, or hidden) may answer while the directory as a whole is well."""

_Key = tuple[tuple[str, str], ...]


class ElectorateReader:
    """Reads one answer over one connection. ``suspect`` is their entry, ``None`` where there is none."""

    def __init__(self, session: LdapSession, base_dn: str, suspect: Row | None) -> None:
        self._session = session
        self._base_dn = base_dn
        self._suspect = suspect
        self._entries: dict[_Key, Row | None] = {}
        self._line = [_key(entry.dn) for entry in self._above(suspect)] if suspect else []
        self._faults: list[str] = []
        self._accounts: dict[str, str] = {}
        self._recused: dict[str, str] = {}
        self._unresolved: list[str] = []

    def read(self, request: FindElectorate) -> Voters:
        """The answer. A group or an entry that cannot be read is a fault in it, and the rest is told all the same.

        Raises:
            Unreachable, Busy, BadAnswer, Misconfigured: the directory as a whole did not tell.
        """
        if request.suspect and self._suspect is None:
            self._faults.append(f"account {request.suspect.account} is not in the directory, so its line is not known")
        members: dict[str, tuple[str, ...]] = {}
        for tier, group in request.groups.items():
            found = self._group(group)
            if found is not None:
                members[tier] = self._members(group, found, judged=request.members_too)
        for address in request.addresses:
            self._address(address)
        return Voters(
            members=members,
            recused=self._recused,
            accounts=self._accounts,
            unresolved=tuple(sorted(set(self._unresolved))),
            faults=tuple(self._faults),
        )

    def _address(self, address: str) -> None:
        """Judge an address by every account that has it: of two candidates one in the line is one too many.

        An address that nobody has stays as it is configured: at night it may be all that is left to answer, and
        keeping it out for want of an entry would leave a case to nobody.
        """
        found = self._session.search(self._base_dn, address_filter(address), _ATTRIBUTES, size_limit=_FEW, partial=True)
        rows = [row for row in found if _has_address(identity_of(row), address)]
        if not rows:
            self._unresolved.append(address.casefold())
        elif len(rows) == 1:
            self._known(address, rows[0])
        else:
            self._faults.append(f"several accounts have {address}: it stays as configured, unless one is in the line")
        for row in rows:
            self._judge(address, row)

    def _known(self, address: str, row: Row) -> None:
        guid = guid_text(row.raw("objectGUID"))
        if guid:
            self._accounts[address.casefold()] = guid

    def _judge(self, address: str, row: Row) -> None:
        why = self._conflict(row)
        if why:
            self._recused[address.casefold()] = why

    def _conflict(self, row: Row) -> str | None:
        if self._suspect is None:
            return None
        own, suspect = _key(row.dn), _key(self._suspect.dn)
        if own == suspect or _same_object(row, self._suspect):
            return "the person under suspicion does not decide"
        if own in self._line:
            return "those above the person under suspicion do not decide"
        if any(_key(entry.dn) == suspect or _same_object(entry, self._suspect) for entry in self._above(row)):
            return "those whom the person under suspicion manages do not decide"
        return None

    def _above(self, row: Row) -> Iterator[Row]:
        """The reporting line, the nearest first. An unreadable entry ends it, by its name; so does a circle."""
        seen = {_key(row.dn)}
        above = row.text("manager")
        while above and _key(above) not in seen and len(seen) <= LONGEST_LINE:
            seen.add(_key(above))
            entry = self._entry(above)
            yield entry or Row(above, {})
            above = entry.text("manager") if entry else None

    def _entry(self, dn: str) -> Row | None:
        key = _key(dn)
        if key not in self._entries:
            try:
                self._entries[key] = self._session.read(dn, _ATTRIBUTES)
            except _UNREADABLE:
                self._entries[key] = None
        return self._entries[key]

    def _group(self, name: str) -> Row | None:
        """The one group of that name or SID; without one, a fault."""
        query = (
            sid_filter(sid_bytes(name)) if name.upper().startswith("S-1-") else group_filter(name.rpartition("\\")[2])
        )
        rows = self._session.search(self._base_dn, query, _GROUP_ATTRIBUTES, size_limit=_FEW, partial=True)
        if len(rows) == 1:
            return rows[0]
        self._faults.append(f"there {'is no group' if not rows else 'are several groups'} called {name!r}")
        return None

    def _members(self, name: str, group: Row, *, judged: bool) -> tuple[str, ...]:
        """The mail addresses of the group's members at any depth, of accounts that are in use."""
        rows = {_key(row.dn): row for row in (*self._nested(group), *self._by_primary_group(group))}
        if len(rows) > MOST_MEMBERS:
            self._faults.append(f"group {name!r} has more than {MOST_MEMBERS} members: nobody may answer by it")
            return ()
        mails: list[str] = []
        for row in rows.values():
            address = (row.text("mail") or next(iter(identity_of(row).mails), "")).casefold()
            if (row.number("userAccountControl") or 0) & _DISABLED:
                continue
            if not address:
                self._faults.append(f"{row.text('sAMAccountName') or row.dn} of group {name!r} has no mail address")
                continue
            mails.append(address)
            self._known(address, row)
            if judged:
                self._judge(address, row)
        return tuple(sorted(set(mails)))

    def _nested(self, group: Row) -> list[Row]:
        """By the server's own rule, else step by step."""
        try:
            rows = self._users(members_filter(group.dn))
        except (Unreachable, Busy):
            raise
        except IntegrationError:
            rows = []
        return rows or self._walked(group)

    def _by_primary_group(self, group: Row) -> list[Row]:
        """Those who have the group as their primary one are not among its members."""
        rid = (sid_text(group.raw("objectSid")) or "").rpartition("-")[2]
        return self._users(primary_members_filter(int(rid))) if rid.isdecimal() else []

    def _users(self, query: str) -> list[Row]:
        return self._session.search(self._base_dn, query, _ATTRIBUTES, size_limit=MOST_MEMBERS + 1, partial=True)

    def _walked(self, group: Row) -> list[Row]:
        found: dict[_Key, Row] = {}
        seen, waiting = {_key(group.dn)}, list(group.texts("member"))
        while waiting and len(found) <= MOST_MEMBERS:
            dn = waiting.pop(0)
            if _key(dn) in seen:
                continue
            seen.add(_key(dn))
            try:
                row = self._session.read(dn, (*_ATTRIBUTES, "member"))
            except _UNREADABLE:
                continue
            if "group" in (name.lower() for name in row.texts("objectClass")):
                waiting += row.texts("member")
            else:
                found[_key(dn)] = row
        return list(found.values())


def _has_address(person: Identity, address: str) -> bool:
    wanted = address.casefold()
    return wanted in {name.casefold() for name in (person.upn, *person.mails) if name}


def _same_object(one: Row, other: Row) -> bool:
    mine, theirs = guid_text(one.raw("objectGUID")), guid_text(other.raw("objectGUID"))
    return mine is not None and mine == theirs


def _key(dn: str) -> _Key:
    """A distinguished name for comparing: without case, without escapes."""
    return tuple((attribute, value.casefold()) for attribute, value in rdns(dn))
