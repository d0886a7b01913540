"""A person's directory record: names, groups (direct, nested and primary) and the reporting line.

Names are matched again here, whatever the server matched by. References: MS-ADSC (classes and attributes),
MS-ADTS 3.1.1.3.4.4.3 (nested membership).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from incident.evidence import Group, Identity, Person
from integrations.errors import (
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.ldap_connection import LdapSession, Row
from integrations.ldap_names import (
    groups_of_filter,
    guid_text,
    leaf_name,
    member_filter,
    same_name,
    sid_filter,
    sid_in_domain,
    sid_text,
)

IDENTITY_ATTRIBUTES = ("sAMAccountName", "userPrincipalName", "mail", "proxyAddresses", "displayName", "manager")
PERSON_ATTRIBUTES = (
    *IDENTITY_ATTRIBUTES,
    "objectClass",
    "objectGUID",
    "objectSid",
    "userAccountControl",
    "employeeID",
    "employeeNumber",
    "department",
    "title",
    "memberOf",
    "primaryGroupID",
    "servicePrincipalName",
    "msDS-PrincipalName",
)

MOST_GROUPS = 200
"""How many groups are read one by one. Beyond that nobody can tell whether a protected one is among them."""

LONGEST_LINE = 10
"""How far up the reporting line is followed."""

_DISABLED = 0x2
_GROUP_ATTRIBUTES = ("sAMAccountName", "cn", "objectSid")
_UNREADABLE = (NotFound, Refused, Rejected, Misconfigured)
"""What a single entry (of another domain, or hidden) may answer while the directory as a whole is well."""


def candidates(rows: Iterable[Row], name: str) -> list[Row]:
    """The people (and managed accounts) among ``rows`` that are really called ``name``, each once.

    Raises:
        NotFound: there are only computers of that name.
    """
    called = list({row.dn.casefold(): row for row in rows if _is_called(row, name)}.values())
    people = [row for row in called if not _is_computer(row)]
    if called and not people:
        raise NotFound(f"{name!r} is a computer, not a person")
    return people


def person_of(session: LdapSession, row: Row, base_dn: str) -> Person:
    """Everything about one person, read over one connection.

    Raises:
        BadAnswer: the account name or ``userAccountControl`` is missing.
        Rejected: there are more groups than can be read.
        Unreachable, Busy: the connection failed on the way.
    """
    account, control = row.text("sAMAccountName"), row.number("userAccountControl")
    if account is None or control is None:
        raise BadAnswer(f"{session.url} does not tell sAMAccountName and userAccountControl of {row.dn!r}")
    return Person(
        **dict(identity_of(row)) | {"account": account},
        dn=row.dn,
        guid=guid_text(row.raw("objectGUID")),
        sid=sid_text(row.raw("objectSid")),
        employee_id=row.text("employeeID") or row.text("employeeNumber"),
        department=row.text("department"),
        title=row.text("title"),
        enabled=not control & _DISABLED,
        user_account_control=control,
        service_account=_service_account(row),
        groups=_groups(session, row, base_dn),
        managers=_managers(session, row),
    )


def identity_of(row: Row) -> Identity:
    """The names of the person in ``row``; mail addresses include the aliases of ``proxyAddresses``."""
    aliases = [alias[5:] for alias in row.texts("proxyAddresses") if alias[:5].lower() == "smtp:"]
    mails = {mail.casefold(): mail for mail in reversed([*row.texts("mail"), *aliases])}
    return Identity(
        account=row.text("sAMAccountName"),
        upn=row.text("userPrincipalName"),
        mails=tuple(reversed(mails.values())),
        display_name=row.text("displayName"),
    )


def _is_called(row: Row, name: str) -> bool:
    names = (*row.texts("sAMAccountName"), *row.texts("userPrincipalName"), *row.texts("mail"))
    return any(same_name(own, name) for own in names)


def _classes(row: Row) -> list[str]:
    return [name.lower() for name in row.texts("objectClass")]


def _is_computer(row: Row) -> bool:
    """Managed service accounts are a subclass of computer, and are told as accounts nevertheless."""
    return "computer" in _classes(row) and _managed_kind(row) is None


def _managed_kind(row: Row) -> str | None:
    return next((name for name in _classes(row) if name.endswith("managedserviceaccount")), None)


def _service_account(row: Row) -> str | None:
    if kind := _managed_kind(row):
        return f"is a managed service account ({kind})"
    if names := row.texts("servicePrincipalName"):
        return f"has the service principal name {names[0]!r}"
    return None


def _groups(session: LdapSession, row: Row, base_dn: str) -> tuple[Group, ...]:
    rid, raw = row.number("primaryGroupID"), row.raw("objectSid")
    primary_sid = sid_in_domain(raw, rid) if raw and rid is not None else None
    primary = _primary_group(session, primary_sid, base_dn) if primary_sid else None
    found = {primary.dn.casefold(): primary} if primary else {}
    for member in (row, primary) if primary else (row,):
        for group in _nested(session, member, base_dn):
            found[group.dn.casefold()] = group
    for dn in row.texts("memberOf"):
        found.setdefault(dn.casefold(), Row(dn, {}))
    groups = [named for group in found.values() for named in _named(group)]
    if primary is None and rid is not None:
        groups.append(Group(name=f"primary group {rid}", sid=sid_text(primary_sid)))
    return tuple(dict.fromkeys(groups))


def _named(row: Row) -> list[Group]:
    """A group under each of its names, so that a guardrail finds it by either."""
    names = {name.casefold(): name for name in (row.text("cn"), row.text("sAMAccountName")) if name}
    sid = sid_text(row.raw("objectSid"))
    return [Group(name=name, sid=sid) for name in (names.values() or [leaf_name(row.dn)])]


def _primary_group(session: LdapSession, sid: bytes, base_dn: str) -> Row | None:
    """The group of ``primaryGroupID``: it is in no ``memberOf``."""
    try:
        rows = session.search(base_dn, sid_filter(sid), (*_GROUP_ATTRIBUTES, "memberOf"), size_limit=2)
    except (Unreachable, Busy):
        raise
    except IntegrationError:
        return None
    return next((group for group in rows if sid_text(group.raw("objectSid")) == sid_text(sid)), None)


def _nested(session: LdapSession, member: Row, base_dn: str) -> Sequence[Row]:
    """The groups of ``member`` at any depth: by the server's own rule, else step by step."""
    try:
        groups = session.search(base_dn, groups_of_filter(member.dn), _GROUP_ATTRIBUTES)
    except Unreachable:
        raise
    except IntegrationError:
        return _walk(session, member, base_dn)
    return groups if groups or not member.texts("memberOf") else _walk(session, member, base_dn)


def _walk(session: LdapSession, member: Row, base_dn: str) -> list[Row]:
    found: dict[str, Row] = {}
    waiting = _direct_groups(session, member, base_dn)
    while waiting:
        group = waiting.pop(0)
        if group.dn.casefold() in found:
            continue
        if len(found) >= MOST_GROUPS:
            raise Rejected(f"{session.url}: more than {MOST_GROUPS} groups: not all of them can be looked at")
        found[group.dn.casefold()] = group
        waiting += _direct_groups(session, group, base_dn)
    return list(found.values())


def _direct_groups(session: LdapSession, member: Row, base_dn: str) -> list[Row]:
    """By both ends of the link: a server that does not know the rule may not keep the back link either."""
    attributes = (*_GROUP_ATTRIBUTES, "memberOf")
    groups = {group.dn.casefold(): group for group in session.search(base_dn, member_filter(member.dn), attributes)}
    for dn in member.texts("memberOf"):
        if dn.casefold() not in groups:
            try:
                groups[dn.casefold()] = session.read(dn, attributes)
            except _UNREADABLE:
                groups[dn.casefold()] = Row(dn, {})
    return list(groups.values())


def _managers(session: LdapSession, row: Row) -> tuple[Identity, ...]:
    """The reporting line, the nearest first. An entry that cannot be read ends it, and so does a circle."""
    line: list[Identity] = []
    seen = {row.dn.casefold()}
    above = row.text("manager")
    while above and above.casefold() not in seen and len(line) < LONGEST_LINE:
        seen.add(above.casefold())
        try:
            entry = session.read(above, IDENTITY_ATTRIBUTES)
        except _UNREADABLE:
            break
        line.append(identity_of(entry))
        above = entry.text("manager")
    return tuple(line)
