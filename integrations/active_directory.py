"""Active Directory: who a name is, disabling the account, and undoing exactly that.

An account is disabled by bit 0x2 of ``userAccountControl`` (MS-ADTS 2.2.16), every other bit kept: one modify deletes
the value that was read and adds the new one, so that a change in between makes the server refuse (noSuchAttribute).
Synchronous and safe to be called from several threads: each operation has a connection of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from incident.evidence import Person
from incident.requests import AccountRef, ReadBack, Written
from incident.voters import FindElectorate, Voters
from integrations.directory_checks import check_servers
from integrations.directory_electorate import ElectorateReader
from integrations.directory_person import PERSON_ATTRIBUTES, candidates, person_of
from integrations.errors import (
    Ambiguous,
    BadAnswer,
    Busy,
    Changed,
    IntegrationError,
    Misconfigured,
    NotFound,
    Rejected,
    Unreachable,
)
from integrations.interfaces import Check
from integrations.ldap_connection import DirectoryServers, LdapSession, Row
from integrations.ldap_errors import worst_of
from integrations.ldap_names import (
    SpelledName,
    account_filter,
    dns_domain,
    domain_partition_filter,
    group_filter,
    group_of_sid_filter,
    guid_filter,
    guid_text,
    person_filter,
    same_guid,
    same_name,
    sid_bytes,
    sid_text,
    spelled_name,
)

ACCOUNT_DISABLE = 0x2
UAC = "userAccountControl"

_FEW = 10
"""How many entries a search for one person may give; already the second one is one too many."""

_STATE_ATTRIBUTES = ("sAMAccountName", "objectGUID", UAC)


class ActiveDirectory:
    """A client of Active Directory; implements ``integrations.interfaces.Directory``.

    ``servers`` are ``ldaps://host[:port]`` or ``ldap://host[:port]`` (StartTLS before the bind), tried in order.
    ``bind_user`` is a UPN or a distinguished name. ``ca_file`` is a PEM bundle to trust instead of the system's.
    The timeouts are whole seconds: ``connect_timeout`` for TCP, ``receive_timeout`` for the TLS handshake and for each
    answer.
    """

    def __init__(
        self,
        servers: Sequence[str],
        bind_user: str,
        password: str,
        base_dn: str,
        *,
        ca_file: Path | None = None,
        connect_timeout: int = 3,
        receive_timeout: int = 5,
    ) -> None:
        self._base_dn = base_dn
        self._servers = DirectoryServers(
            servers,
            bind_user,
            password,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            receive_timeout=receive_timeout,
        )

    def find_person(self, name: str) -> Person:
        r"""The one account of that name: account name, UPN or mail address; ``DOMAIN\`` may stand before it.

        Where no UPN or mail is ``name@domain``, but ``domain`` is the directory's own, the account ``name`` is meant
        (an implicit UPN). A computer is not a person.

        Raises:
            NotFound: nobody is called that. Ambiguous: more than one is.
            Unreachable, Busy, BadAnswer, Misconfigured, Refused, Rejected: the directory did not tell.
        """
        spelled = spelled_name(name)
        if spelled is None:
            raise NotFound(f"no account can be called {name[:80]!r}")
        return self._servers.run(lambda session: self._find(session, spelled))

    def _find(self, session: LdapSession, spelled: SpelledName) -> Person:
        found = self._candidates(session, person_filter(spelled.name), spelled.name)
        if not found and spelled.before_at and self._is_own_domain(spelled.after_at):
            found = self._candidates(session, account_filter(spelled.before_at), spelled.before_at)
        if not found:
            raise NotFound(f"the directory knows nobody called {spelled.name!r}")
        if len(found) > 1:
            raise Ambiguous(f"{spelled.name!r} may be any of {', '.join(repr(row.dn) for row in found)}")
        self._refuse_other_domain(session, found[0], spelled)
        return person_of(session, found[0], self._base_dn)

    def _candidates(self, session: LdapSession, query: str, name: str) -> list[Row]:
        try:
            rows = session.search(self._base_dn, query, PERSON_ATTRIBUTES, size_limit=_FEW)
        except NotFound:
            raise Misconfigured(f"{session.url}: there is no base_dn {self._base_dn!r}") from None
        return candidates(rows, name)

    def _refuse_other_domain(self, session: LdapSession, row: Row, spelled: SpelledName) -> None:
        r"""``WEB01\jdoe`` is not the domain's ``jdoe``. Only a server that tells its own short name can say so."""
        if spelled.domain is None or self._is_own_domain(spelled.domain):
            return
        short = _short_domain(row) or _short_domain_of_partition(session, dns_domain(self._base_dn))
        if short and not same_name(short, spelled.domain):
            raise NotFound(f"{spelled.name!r} is meant in {spelled.domain!r}, and the directory only knows {short!r}")

    def _is_own_domain(self, domain: str | None) -> bool:
        own = dns_domain(self._base_dn)
        return domain is not None and own is not None and domain.casefold() in _domain_names(own)

    def disable(self, account: AccountRef) -> Written:
        """Disable the account, unless it is disabled already; ``before`` holds ``userAccountControl`` as it was.

        Raises:
            Changed: the account was changed in between: read again, decide again.
            NotFound: the account is gone, or another object has its name.
            Refused: Holdpoint's account lacks the right. Rejected: the directory's rules forbid it.
            Unreachable: no answer came. The account may be disabled: read back before anything else.
        """
        return self._servers.run(lambda session: self._disable(session, account))

    def _disable(self, session: LdapSession, account: AccountRef) -> Written:
        row = self._locate(session, account)
        old = _uac(row, session.url)
        if old & ACCOUNT_DISABLE:
            return Written(changed=False, before={UAC: str(old)}, detail="was disabled already")
        try:
            _swap(session, row, old | ACCOUNT_DISABLE)
        except Changed:
            now = _uac(self._locate(session, account), session.url)
            if not now & ACCOUNT_DISABLE:
                raise
            return Written(changed=False, before={UAC: str(now)}, detail="somebody else disabled it at that moment")
        return Written(changed=True, before={UAC: str(old)}, detail=f"disabled on {session.url}")

    def read_back(self, account: AccountRef) -> ReadBack:
        """Whether the account is disabled now, by the first server that tells. ``others`` says how many more there are.

        Raises:
            NotFound: the account is gone, or another object has its name.
            Unreachable, Busy, BadAnswer, Misconfigured: no server told.
        """
        return self._servers.run(lambda session: self._read_back(session, account))

    def _read_back(self, session: LdapSession, account: AccountRef) -> ReadBack:
        now = _uac(self._locate(session, account), session.url)
        disabled = bool(now & ACCOUNT_DISABLE)
        return ReadBack(
            in_force=disabled,
            detail=f"{UAC} is {now} on {session.url}",
            server=session.url,
            others=len(self._servers.urls) - 1,
        )

    def read_back_elsewhere(self, account: AccountRef, asked: str | None) -> ReadBack:
        """Whether the account is disabled at the other servers too: each that answers has to say so.

        ``detail`` names the servers, those that could not be asked as well. A change may take its time to reach them.

        Raises:
            Unreachable, Busy, BadAnswer, Misconfigured: none of them told.
            NotFound: the account is gone there.
        """
        told: list[ReadBack] = []
        faults: list[IntegrationError] = []
        for url in self._servers.urls:
            if url.rstrip("/") == asked:
                continue
            try:
                with self._servers.session(url) as session:
                    told.append(self._read_back(session, account))
            except (Unreachable, Busy, BadAnswer, Misconfigured) as error:
                faults.append(error)
        if not told:
            raise worst_of(faults)
        contradicting = [seen for seen in told if not seen.in_force]
        detail = "; ".join([*(seen.detail for seen in contradicting or told), *(str(fault) for fault in faults)])
        return ReadBack(in_force=not contradicting, pending=bool(contradicting), detail=detail)

    def unknown_groups(self, names: Sequence[str]) -> list[str]:
        """Those of the names that no group has, spelled so but for case; a SID (``S-1-...``) is looked for as one.

        Raises:
            Unreachable, Busy, BadAnswer, Misconfigured, Refused, Rejected: the directory did not tell.
        """
        return self._servers.run(lambda session: [name for name in names if not self._has_group(session, name)])

    def _has_group(self, session: LdapSession, name: str) -> bool:
        """Whether a group has just that name: the server takes more for equal than a guardrail does."""
        if name.upper().startswith("S-1-"):
            sid = sid_bytes(name)
            query, spelled = group_of_sid_filter(sid), sid_text(sid) or ""
            rows = session.search(self._base_dn, query, ("sAMAccountName",), size_limit=_FEW, partial=True)
            return bool(rows) and spelled.casefold() == name.casefold()
        wanted = name.rpartition("\\")[2]
        rows = session.search(
            self._base_dn, group_filter(wanted), ("sAMAccountName", "cn"), size_limit=_FEW, partial=True
        )
        names = [called for row in rows for called in (*row.texts("sAMAccountName"), *row.texts("cn"))]
        return any(called.casefold() == wanted.casefold() for called in names)

    def find_electorate(self, request: FindElectorate) -> Voters:
        """Who is in the groups, and who of the addresses is the suspect, above or below them. Read-only.

        Raises:
            Unreachable, Busy, BadAnswer, Misconfigured, Refused: the directory did not tell.
        """
        return self._servers.run(lambda session: self._electorate(session, request))

    def _electorate(self, session: LdapSession, request: FindElectorate) -> Voters:
        suspect = None
        if request.suspect:
            with suppress(NotFound):
                dn = self._locate(session, request.suspect).dn
                suspect = session.read(dn, ("manager", "objectGUID"))
        return ElectorateReader(session, self._base_dn, suspect).read(request)

    def enable(self, account: AccountRef, before: dict[str, str]) -> Written:
        """Undo ``disable``: clear the one bit, keep the others as they are now, and only if ``before`` had it clear.

        Raises:
            Rejected: ``before`` does not tell the state before; nothing is changed then.
            Others as ``disable`` raises them.
        """
        try:
            was = int(before[UAC])
        except (KeyError, TypeError, ValueError):
            raise Rejected(f"the state before is not known ({UAC} is missing or no number): left as it is") from None
        if was & ACCOUNT_DISABLE:
            return Written(changed=False, before={UAC: str(was)}, detail="was disabled before; left disabled")
        return self._servers.run(lambda session: self._enable(session, account))

    def _enable(self, session: LdapSession, account: AccountRef) -> Written:
        row = self._locate(session, account)
        old = _uac(row, session.url)
        if not old & ACCOUNT_DISABLE:
            return Written(changed=False, before={UAC: str(old)}, detail="was enabled already")
        try:
            _swap(session, row, old & ~ACCOUNT_DISABLE)
        except Changed:
            now = _uac(self._locate(session, account), session.url)
            if now & ACCOUNT_DISABLE:
                raise
            return Written(changed=False, before={UAC: str(now)}, detail="somebody else enabled it at that moment")
        return Written(changed=True, before={UAC: str(old)}, detail=f"enabled on {session.url}")

    def check(self) -> list[Check]:
        """Each server: reachable, certificate, bind, base_dn, clock; then the right to disable. Read-only."""
        return check_servers(self._servers, self._base_dn)

    def _locate(self, session: LdapSession, account: AccountRef) -> Row:
        """The entry that is meant: at its place or, when it was moved, by name or by GUID; always the same object."""
        try:
            row: Row | None = session.read(account.dn, _STATE_ATTRIBUTES)
        except NotFound:
            row = None
        if row is not None and _is_object(row, account):
            return row
        if account.guid is None:
            raise NotFound(f"{account.dn!r} is gone or is another account than {account.account!r}")
        for query in (account_filter(account.account), guid_filter(account.guid)):
            rows = session.search(self._base_dn, query, _STATE_ATTRIBUTES, size_limit=_FEW) if query else []
            for row in rows:
                if guid_text(row.raw("objectGUID")) and _is_object(row, account):
                    return row
        raise NotFound(f"{account.account!r} (object {account.guid}) is gone or is another object now")


def _is_object(row: Row, account: AccountRef) -> bool:
    guid = guid_text(row.raw("objectGUID"))
    if guid and account.guid:
        return same_guid(guid, account.guid)
    return same_name(row.text("sAMAccountName") or "", account.account)


def _uac(row: Row, url: str) -> int:
    value = row.number(UAC)
    if value is None:
        raise BadAnswer(f"{url} does not tell {UAC} of {row.dn!r}")
    return value


def _swap(session: LdapSession, row: Row, new: int) -> None:
    """Write ``userAccountControl`` of an entry that was there just now. Raises Changed if it is not as it was."""
    try:
        session.swap(row.dn, UAC, _octets(row), str(new).encode())
    except NotFound:
        raise Changed(f"{session.url}: {row.dn!r} was moved, renamed or deleted at that moment") from None


def _octets(row: Row) -> bytes:
    """The very octets that the server told: they are what has to be deleted."""
    return row.raw(UAC) or b""


def _domain_names(own: str) -> tuple[str, str]:
    return own.casefold(), own.casefold().partition(".")[0]


def _short_domain(row: Row) -> str | None:
    r"""What stands before the backslash of ``msDS-PrincipalName``; Samba knows the attribute and tells it empty."""
    short, backslash, _ = (row.text("msDS-PrincipalName") or "").partition("\\")
    return short if backslash and short else None


def _short_domain_of_partition(session: LdapSession, own: str | None) -> str | None:
    """The domain's NetBIOS name, from its entry among the forest's partitions (MS-ADTS, crossRef objects)."""
    try:
        forest = session.read("", ("configurationNamingContext",)).text("configurationNamingContext")
        if own is None or forest is None:
            return None
        rows = session.search(f"CN=Partitions,{forest}", domain_partition_filter(own), ("nETBIOSName",))
    except (Unreachable, Busy):
        raise
    except IntegrationError:
        return None
    names = {name for row in rows if (name := row.text("nETBIOSName"))}
    return names.pop() if len(names) == 1 else None
