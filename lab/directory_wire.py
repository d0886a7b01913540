"""The stand-in directory's wire: LDAP messages (RFC 4511) over TLS at once or after StartTLS, a thread a connection.

The codec is ldaptor's; of its server nothing is used, since that needs a reactor, of which a process has only one.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ldaptor.protocols import pureber, pureldap

from integrations.ldap_names import dns_domain
from lab.directory_tree import DnKey, Entry, LdapFault, dn_key

if TYPE_CHECKING:
    from lab.directory import DirectoryLab

START_TLS = b"1.3.6.1.4.1.1466.20037"

_FAULT_CODES: Mapping[str | None, tuple[int, str]] = {
    "busy": (51, "000020EA: SvcErr: DSID-03210A3B, problem 5001 (BUSY), data 0"),
    "unavailable": (52, "0000200E: SvcErr: DSID-0310063D, problem 5002 (UNAVAILABLE), data 0"),
}
_RESPONSES: Mapping[str, Any] = {
    "bind": pureldap.LDAPBindResponse,
    "search": pureldap.LDAPSearchResultDone,
    "modify": pureldap.LDAPModifyResponse,
}
_KINDS: Mapping[str, str] = {
    "LDAPBindRequest": "bind",
    "LDAPSearchRequest": "search",
    "LDAPModifyRequest": "modify",
    "LDAPExtendedRequest": "extended",
    "LDAPUnbindRequest": "unbind",
}
_MESSAGES = pureldap.LDAPBERDecoderContext(fallback=pureber.BERDecoderContext())
_DECODER = pureldap.LDAPBERDecoderContext_TopLevel(
    inherit=pureldap.LDAPBERDecoderContext_LDAPMessage(fallback=_MESSAGES, inherit=_MESSAGES)
)


@dataclass(frozen=True)
class Operation:
    """A request that the server got. ``target`` is the bind name, search base or entry, ``detail`` filter or change."""

    kind: str
    target: str
    detail: str = ""


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections; each is served by a thread that ends when the connection does."""

    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, lab: DirectoryLab, context: ssl.SSLContext, *, tls_at_once: bool) -> None:
        self.lab = lab
        self.context = context
        self.tls_at_once = tls_at_once
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def port(self) -> int:
        """The port it got."""
        return int(self.server_address[1])

    def hold(self, connection: socket.socket) -> None:
        """Remember an open connection."""
        with self._guard:
            self._open.add(connection)

    def release(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._guard:
            self._open.discard(connection)

    def cut(self) -> None:
        """End every open connection."""
        with self._guard:
            for connection in self._open:
                _shut(connection)


class _BrokenOff(Exception):
    """The connection is to end now."""


class _Connection(socketserver.BaseRequestHandler):
    """One client, from the handshake to the end."""

    server: Listener

    def handle(self) -> None:
        self.lab = self.server.lab
        self.stream: socket.socket = self.request
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asker: DnKey | None = None
        self.server.hold(self.stream)
        try:
            if self.server.tls_at_once:
                self._wrap()
            self._serve()
        except (OSError, _BrokenOff):
            pass
        finally:
            self.server.release(self.stream)
            self.stream.close()

    def _wrap(self) -> None:
        plain = self.stream
        self.server.release(plain)
        self.stream = self.server.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.server.hold(self.stream)
        self.stream.do_handshake()

    def _serve(self) -> None:
        buffer = b""
        while octets := self.stream.recv(65536):
            buffer += octets
            while True:
                try:
                    message, length = pureber.berDecodeObject(_DECODER, buffer)
                except pureber.BERExceptionInsufficientData:
                    break
                if message is None:
                    break
                buffer = buffer[length:]
                self._handle(message)

    def _handle(self, message: Any) -> None:
        request = message.value
        kind = _KINDS.get(type(request).__name__, "unknown")
        self.lab.operations.append(_operation(kind, request))
        if kind == "unbind":
            raise _BrokenOff
        if kind not in _RESPONSES:
            self._extended(message.id, request)
            return
        fault = self.lab.take_fault(kind)
        if fault == "silent":
            return
        if fault == "reset":
            self._reset()
        code, words = self._answer(kind, fault, message)
        if fault == "answer_lost":
            self._reset()
        self._send(message.id, _RESPONSES[kind](resultCode=code, errorMessage=words))

    def _answer(self, kind: str, fault: str | None, message: Any) -> tuple[int, str]:
        if fault in _FAULT_CODES:
            return _FAULT_CODES[fault]
        try:
            getattr(self, f"_{kind}")(message.id, message.value)
        except LdapFault as refused:
            return refused.code, refused.message
        return 0, ""

    def _send(self, number: int, response: Any) -> None:
        self.stream.sendall(pureldap.LDAPMessage(response, id=number).toWire())

    def _reset(self) -> None:
        """End with a TCP reset instead of a goodbye."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _BrokenOff

    def _extended(self, number: int, request: Any) -> None:
        wanted = getattr(request, "requestName", b"")
        if wanted == START_TLS and self.lab.offers_start_tls and not isinstance(self.stream, ssl.SSLSocket):
            self._send(number, pureldap.LDAPStartTLSResponse(resultCode=0))
            self._wrap()
        else:
            refused = pureldap.LDAPExtendedResponse(resultCode=2, responseName=wanted, errorMessage="not supported")
            self._send(number, refused)

    def _bind(self, _: int, request: Any) -> None:
        self.asker = None
        name, password = request.dn.decode("utf-8", "replace"), request.auth
        if not name and not password:
            return
        if not isinstance(self.stream, ssl.SSLSocket):
            raise LdapFault(
                8,
                "00002028: LdapErr: DSID-0C090202, comment: The server requires binds to turn on integrity "
                "checking if SSL\\TLS are not already active on the connection, data 0, v4563",
            )
        if request.sasl or not password:
            raise LdapFault(48, "00002029: LdapErr: only simple binds with a password are offered here")
        self.asker = self.lab.signed_in(name, password.decode("utf-8", "replace"))

    def _search(self, number: int, request: Any) -> None:
        base = request.baseObject.decode("utf-8", "replace")
        wanted = [name.decode() for name in request.attributes]
        tree = self.lab.tree
        if not base and request.scope == 0:
            self._tell(number, self.lab.root_dse(), wanted)
            return
        self._need_to_be_signed_in()
        if dn_key(base)[-len(dn_key(self.lab.base_dn)) :] != dn_key(self.lab.base_dn):
            raise LdapFault(10, "0000202B: RefErr: DSID-03100835, data 0, 1 access points")
        rows = tree.search(base, request.scope, request.filter)
        most = min(request.sizeLimit or self.lab.most_rows, self.lab.most_rows)
        for entry in rows[:most]:
            self._tell(number, entry, wanted)
        if request.scope == 2 and self.lab.referral_rows and dn_key(base) == dn_key(self.lab.base_dn):
            elsewhere = f"ldap://ForestDnsZones.{dns_domain(base)}/DC=ForestDnsZones,{base}"
            self._send(number, pureldap.LDAPSearchResultReference(uris=[pureldap.LDAPString(elsewhere)]))
        if len(rows) > most:
            raise LdapFault(4, "00002023: SvcErr: the size limit was exceeded")

    def _tell(self, number: int, entry: Entry, wanted: Sequence[str]) -> None:
        with self.lab.tree.lock:
            told = self.lab.tree.told(entry, wanted, self.asker)
        self._send(number, pureldap.LDAPSearchResultEntry(objectName=entry.dn, attributes=told))

    def _modify(self, _: int, request: Any) -> None:
        self._need_to_be_signed_in()
        changes = [
            (change[0].value, change[1][0].value.decode(), [value.value for value in change[1][1]])
            for change in request.modification
        ]
        self.lab.tree.modify(request.object.decode("utf-8", "replace"), changes, self.asker)

    def _need_to_be_signed_in(self) -> None:
        if self.asker is None:
            raise LdapFault(
                1,
                "000004DC: LdapErr: DSID-0C090A5C, comment: In order to perform this operation a "
                "successful bind must be completed on the connection., data 0, v4563",
            )


def _operation(kind: str, request: Any) -> Operation:
    match kind:
        case "bind":
            return Operation(kind, request.dn.decode("utf-8", "replace"))
        case "search":
            return Operation(kind, request.baseObject.decode("utf-8", "replace"), repr(request.filter))
        case "modify":
            return Operation(kind, request.object.decode("utf-8", "replace"), repr(request.modification))
        case "extended":
            return Operation(kind, request.requestName.decode())
    return Operation(kind, "")


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
