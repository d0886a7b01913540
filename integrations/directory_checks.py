"""What the doctor asks a directory: reachable, certificate, bind, base_dn, clock, rights. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from integrations.errors import IntegrationError
from integrations.interfaces import Check
from integrations.ldap_connection import DirectoryServers, LdapSession
from integrations.ldap_names import generalized_time

MOST_SKEW = timedelta(minutes=5)
"""Kerberos' own limit: a domain that is further off has troubles of its own."""

_SAMPLE = 100
_PEOPLE = "(&(objectCategory=person)(objectClass=user)(!(adminCount=1)))"
_WRITABLE, _ALLOWED = "allowedAttributesEffective", "allowedAttributes"
"""What the caller may write of an entry, and what its class allows at all (MS-ADTS 3.1.1.4.5). Both are computed."""


def check_servers(servers: DirectoryServers, base_dn: str) -> list[Check]:
    """A line or more for each server, and one about the right to disable, told by the first server that is well."""
    checks: list[Check] = []
    rights: Check | None = None
    for url in servers.urls:
        try:
            with servers.session(url) as session:
                checks.append(Check(name=url, ok=True, detail=f"certificate trusted, bound as {servers.bind_user}"))
                checks.extend(_of_one(session, base_dn))
                rights = rights or _rights(session, base_dn)
        except IntegrationError as error:
            checks.append(Check(name=url, ok=False, detail=str(error)))
    if not servers.urls:
        checks.append(Check(name="servers", ok=False, detail="no directory server is configured"))
    return [*checks, rights] if rights else checks


def _of_one(session: LdapSession, base_dn: str) -> Iterator[Check]:
    try:
        session.read(base_dn, ("objectClass",))
        yield Check(name=f"{session.url} base_dn", ok=True, detail=f"{base_dn} can be read")
    except IntegrationError as error:
        yield Check(name=f"{session.url} base_dn", ok=False, detail=str(error))
    yield _clock(session)


def _clock(session: LdapSession) -> Check:
    name = f"{session.url} clock"
    try:
        told = session.read("", ("currentTime",)).text("currentTime")
    except IntegrationError as error:
        return Check(name=name, ok=True, detail=f"unknown: {error}")
    theirs = generalized_time(told or "")
    if theirs is None:
        return Check(name=name, ok=True, detail="unknown: the server does not tell its time")
    skew = theirs - datetime.now(UTC)
    side = "ahead of" if skew > timedelta(0) else "behind"
    return Check(name=name, ok=abs(skew) <= MOST_SKEW, detail=f"{round(abs(skew).total_seconds())} s {side} ours")


def _rights(session: LdapSession, base_dn: str) -> Check:
    """Whether people can be disabled, by what the server says is writable on a few of them."""
    name = "right to disable"
    try:
        rows = session.search(base_dn, _PEOPLE, (_WRITABLE,), size_limit=_SAMPLE, partial=True)[:_SAMPLE]
    except IntegrationError as error:
        return Check(name=name, ok=True, detail=f"unknown: {error}")
    told = [[attribute.lower() for attribute in row.texts(_WRITABLE)] for row in rows]
    if not any(told) and not (rows and _tells_attributes(session, rows[0].dn)):
        return Check(name=name, ok=True, detail="unknown: the server does not tell what may be written")
    able = sum("useraccountcontrol" in attributes for attributes in told)
    words = f"userAccountControl may be written on {able} of {len(rows)} people looked at"
    return Check(name=name, ok=able > 0, detail=words)


def _tells_attributes(session: LdapSession, dn: str) -> bool:
    """Whether the server computes such lists. If so, an absent ``allowedAttributesEffective`` is an empty one."""
    try:
        return bool(session.read(dn, (_ALLOWED,)).texts(_ALLOWED))
    except IntegrationError:
        return False
