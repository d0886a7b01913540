"""Connections to directory servers: verified TLS, a bind, and the servers tried in order.

One fresh connection an operation. Knows LDAP (RFC 4511) and what ldap3 2.9.1 does, nothing of people or accounts.
ldap3 itself verifies no host name against IP addresses since Python 3.12, so that the ``ssl`` module does it here.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from ldap3 import MODIFY_ADD, MODIFY_DELETE, SIMPLE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPCommunicationError, LDAPException
from pyasn1.error import PyAsn1Error

from integrations import tracing
from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, NotFound, Rejected, Unreachable
from integrations.ldap_errors import SIZE_LIMIT_EXCEEDED, bind_fault, not_open, one_line, raise_for_result, worst_of

T = TypeVar("T")

_GARBLED = (ValueError, LookupError, TypeError, OverflowError, PyAsn1Error)
"""What ldap3's decoder raises on bytes that are not LDAP."""


@dataclass(frozen=True)
class Row:
    """An entry as the server told it: octets, since only text attributes are text. Names are in lower case."""

    dn: str
    attributes: Mapping[str, Sequence[bytes]]

    def raw(self, name: str) -> bytes | None:
        """The first value."""
        values = self.attributes.get(name.lower())
        return values[0] if values else None

    def text(self, name: str) -> str | None:
        """The first value as text, ``None`` if it is absent or blank."""
        return (self.raw(name) or b"").decode("utf-8", "replace").strip() or None

    def texts(self, name: str) -> tuple[str, ...]:
        """All values as text."""
        values = (value.decode("utf-8", "replace").strip() for value in self.attributes.get(name.lower(), ()))
        return tuple(value for value in values if value)

    def number(self, name: str) -> int | None:
        """The first value as an integer, ``None`` if it is absent or none."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None


@dataclass(frozen=True)
class _Address:
    url: str
    host: str
    port: int
    ldaps: bool

    @classmethod
    def of(cls, url: str) -> _Address:
        parts = urlsplit(url.strip())
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or port == 0:
            raise Misconfigured(f"{url!r} is neither ldaps://host nor ldap://host (which then speaks StartTLS)")
        ldaps = parts.scheme == "ldaps"
        return cls(url.strip().rstrip("/"), parts.hostname, port or (636 if ldaps else 389), ldaps)

    def resolved(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{self.url}: the name cannot be resolved: {error}") from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _VerifyingTls(Tls):
    """TLS by the ``ssl`` module's own rules, for DNS names and IP addresses alike; remembers why a handshake failed."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context
        self._host = host
        self.fault: OSError | None = None

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Called by ldap3 for LDAPS and for StartTLS; the handshake is always done here, and verified by it."""
        try:
            connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)
        except OSError as error:
            self.fault = error
            raise


class LdapSession:
    """A bound connection. Every method raises the errors of ``integrations.errors`` and no others.

    ``wrote`` tells whether a change was sent: then the whole operation must not run again on another server.
    """

    def __init__(self, connection: Connection, url: str) -> None:
        self._connection = connection
        self.url = url
        self.wrote = False

    def search(
        self,
        base: str,
        query: str,
        attributes: Sequence[str],
        *,
        scope: Literal["BASE", "LEVEL", "SUBTREE"] = "SUBTREE",
        size_limit: int = 0,
        partial: bool = False,
    ) -> list[Row]:
        """The entries that match; referrals to elsewhere are left out.

        Raises Ambiguous when the server had more than ``size_limit`` (or than it gives at once), unless a ``partial``
        answer will do.
        """
        result = self._ask(
            "LDAP search",
            lambda: self._connection.search(
                base,
                query,
                search_scope=scope,
                dereference_aliases="NEVER",
                attributes=list(attributes),
                size_limit=size_limit,
            ),
        )
        if not (partial and result.get("result") == SIZE_LIMIT_EXCEEDED):
            raise_for_result(result, self.url)
        answer = self._connection.response or []
        return [_row(entry) for entry in answer if entry.get("type") == "searchResEntry"]

    def read(self, dn: str, attributes: Sequence[str]) -> Row:
        """One entry. Raises NotFound if it is not there or may not be seen."""
        rows = self.search(dn, "(objectClass=*)", attributes, scope="BASE")
        if not rows:
            raise NotFound(f"{self.url}: {dn!r} is not there, or may not be read")
        return rows[0]

    def swap(self, dn: str, attribute: str, old: bytes, new: bytes) -> None:
        """Compare and swap one value, in one modify. Raises Changed if ``old`` is not its value any more."""
        self.wrote = True
        change = {attribute: [(MODIFY_DELETE, [old]), (MODIFY_ADD, [new])]}
        result = self._ask(
            "LDAP modify",
            lambda: self._connection.modify(dn, change),  # type: ignore[no-untyped-call]  # stub's gap
        )
        raise_for_result(result, self.url)

    def _ask(self, operation: str, call: Callable[[], object]) -> Mapping[str, Any]:
        with _exchange(operation, self.url) as exchange:
            try:
                call()
            except (LDAPCommunicationError, OSError) as error:
                raise Unreachable(f"{self.url} broke off or did not answer in time: {one_line(error)}") from None
            except LDAPException as error:
                raise Rejected(f"{self.url}: {type(error).__name__}: {one_line(error)}") from None
            except _GARBLED as error:
                raise BadAnswer(f"{self.url}: the answer is not LDAP ({type(error).__name__})") from None
            return _result(self._connection, self.url, exchange)


class DirectoryServers:
    """The servers of one directory, tried in order.

    ``bind_user`` is a UPN or a distinguished name; ``ca_file`` a PEM bundle to trust instead of the system's; both
    timeouts are whole seconds (ldap3 takes no fractions). ``ldap://`` means StartTLS: nothing is sent in clear.
    """

    def __init__(
        self,
        urls: Sequence[str],
        bind_user: str,
        password: str,
        *,
        ca_file: Path | None = None,
        connect_timeout: int = 3,
        receive_timeout: int = 5,
    ) -> None:
        self.urls = tuple(urls)
        self.bind_user = bind_user
        self._password = password
        self._ca_file = ca_file
        self._connect_timeout = connect_timeout
        self._receive_timeout = receive_timeout

    def run(self, work: Callable[[LdapSession], T]) -> T:
        """Do ``work`` on the first server that can.

        A server that cannot be reached, is busy, or whose certificate or bind fails is passed over; once ``work`` has
        sent a change there is no second attempt.

        Raises:
            Misconfigured: no server worked, and at least one has to be mended.
            Busy, Unreachable: no server worked.
            IntegrationError: whatever ``work`` raised.
        """
        faults: list[IntegrationError] = []
        for url in self.urls:
            session: LdapSession | None = None
            try:
                with self.session(url) as session:
                    return work(session)
            except (Unreachable, Busy, Misconfigured) as error:
                if session is not None and session.wrote:
                    raise
                faults.append(error)
        raise worst_of(faults)

    @contextmanager
    def session(self, url: str) -> Iterator[LdapSession]:
        """A bound connection to one server, closed afterwards.

        Raises:
            Unreachable: refused, timed out or broken off. Busy: result 51 or 52.
            Misconfigured: address, certificate or credentials.
        """
        address = _Address.of(url)
        if not self.bind_user or not self._password:
            raise Misconfigured(f"{url}: there is no bind user or no password: nobody signs in without")
        connection = self._signed_in(address)
        try:
            yield LdapSession(connection, address.url)
        finally:
            _close(connection)

    def _signed_in(self, address: _Address) -> Connection:
        with _exchange("LDAP bind", address.url) as exchange:
            connection = self._open(address)
            try:
                self._bind(connection, address.url, exchange)
            except BaseException:  # whatever ends it, a cancellation too, must leave no socket behind; it goes on
                _close(connection)
                raise
        return connection

    @cached_property
    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        except OSError as error:
            raise Misconfigured(f"ca_file {self._ca_file}: {error.strerror or error}") from None

    def _open(self, address: _Address) -> Connection:
        fault: IntegrationError | None = None
        for ip in address.resolved():
            tls = _VerifyingTls(self._context, address.host)
            connection = self._connection(ip, address, tls)
            try:
                connection.open(read_server_info=False)
                if not address.ldaps:
                    connection.start_tls(read_server_info=False)
                return connection
            except (LDAPException, OSError) as error:
                fault = not_open(connection, tls.fault, error, address.url)
                _close(connection)
            except _GARBLED as error:
                fault = BadAnswer(f"{address.url}: the answer to StartTLS is not LDAP ({type(error).__name__})")
                _close(connection)
            if not isinstance(fault, Unreachable):
                break
        raise fault or Unreachable(f"{address.url}: the name has no address")

    def _connection(self, ip: str, address: _Address, tls: Tls) -> Connection:
        server = Server(
            ip,
            port=address.port,
            use_ssl=address.ldaps,
            get_info="NO_INFO",
            tls=tls,
            connect_timeout=self._connect_timeout,
        )
        return Connection(
            server,
            user=self.bind_user,
            password=self._password,
            authentication=SIMPLE,
            auto_referrals=False,
            raise_exceptions=False,
            check_names=False,
            auto_escape=False,
            receive_timeout=self._receive_timeout,
        )

    def _bind(self, connection: Connection, url: str, exchange: tracing.Exchange) -> None:
        try:
            connection.bind(read_server_info=False)
        except (LDAPCommunicationError, OSError) as error:
            raise Unreachable(f"{url} broke off or did not answer the bind in time: {one_line(error)}") from None
        except LDAPException as error:
            raise Misconfigured(f"{url}: cannot sign in as {self.bind_user!r} ({type(error).__name__})") from None
        except _GARBLED as error:
            raise BadAnswer(f"{url}: the answer to the bind is not LDAP ({type(error).__name__})") from None
        result = _result(connection, url, exchange)
        if result.get("result") == 49:
            raise Misconfigured(f"{url}: cannot sign in as {self.bind_user!r}: {bind_fault(result)}")
        raise_for_result(result, url)


def _exchange(operation: str, url: str) -> AbstractContextManager[tracing.Exchange]:
    address = _Address.of(url)
    return tracing.exchange(operation, "directory", address.host, address.port)


def _result(connection: Connection, url: str, exchange: tracing.Exchange) -> Mapping[str, Any]:
    result = connection.result
    if not isinstance(result, dict):
        raise BadAnswer(f"{url}: the answer has no result")
    code = result.get("result")
    exchange.answered("ldap.result_code", code, failed=code != 0)
    return result


def _row(entry: Mapping[str, Any]) -> Row:
    """An answer's entry. Attribute options (``;range=…``) are dropped; ldap3 has fetched the rest by then."""
    told = {str(name).partition(";")[0].lower(): values for name, values in entry["raw_attributes"].items()}
    return Row(bytes(entry["raw_dn"]).decode("utf-8", "replace"), told)


def _close(connection: Connection) -> None:
    """Say goodbye if the other end still listens; close the socket in any case (ldap3 leaves it after a failure)."""
    with suppress(LDAPException, OSError, AttributeError):
        connection.unbind()
    if connection.socket is not None:
        connection.socket.close()
