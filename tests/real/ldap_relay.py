"""A relay before a directory server that ends TLS on both sides and so knows one LDAP message from another.

A test tells it what shall happen at the next request of a kind: a deed before it goes on, or no answer after it was
done. Only for clients that wait for each answer (RFC 4511 allows more at once).
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Literal, Self

from lab.certificates import LabCertificates

Loss = Literal["silence", "reset"]


class Request(IntEnum):
    """The tags of RFC 4511 that the client sends."""

    BIND = 0x60
    UNBIND = 0x42
    SEARCH = 0x63
    MODIFY = 0x66


_LAST_ANSWERS = frozenset({0x61, 0x65, 0x67, 0x78})
"""bindResponse, searchResDone, modifyResponse, extendedResp: what ends the answers to a request."""


class LdapRelay:
    """LDAPS on a port of 127.0.0.1, to LDAPS at ``address``. Use as a context manager.

    ``seen`` counts the requests by their kind that were handed on.
    """

    def __init__(self, address: str, tls: LabCertificates) -> None:
        self._address = address
        self._inside = ssl.create_default_context(cafile=str(tls.ca_file))
        self._outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._outside.load_cert_chain(tls.cert_file, tls.key_file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._deeds: dict[Request, Callable[[], object]] = {}
        self._losses: dict[Request, Loss] = {}
        self.faults: list[Exception] = []
        self.seen: Counter[int] = Counter()

    @property
    def url(self) -> str:
        return f"ldaps://127.0.0.1:{self._listener.getsockname()[1]}"

    def before(self, request: Request, deed: Callable[[], object]) -> None:
        """Do something once, at the next request of that kind, before it is handed on."""
        self._deeds[request] = deed

    def lose_answer(self, request: Request, how: Loss) -> None:
        """Once: the request is handed on and done; then the client hears nothing, or a reset."""
        self._losses[request] = how

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # A close alone would not wake the thread that waits for the next connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in list(self._open):
            _shut(one)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        assert not self.faults, f"what was to happen at a request failed: {self.faults}"

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._run(self._serve, client)

    def _serve(self, raw: socket.socket) -> None:
        client = server = None
        try:
            client = self._known(self._outside.wrap_socket(raw, server_side=True))
            plain = socket.create_connection((self._address, 636), 10)
            server = self._known(self._inside.wrap_socket(plain, server_hostname=self._address))
            while self._pass_on(client, server):
                pass
        except (OSError, EOFError):
            pass
        finally:
            for one in (client or raw, server):
                if one is not None:
                    self._open.discard(one)
                    one.close()

    def _known(self, opened: ssl.SSLSocket) -> ssl.SSLSocket:
        self._open.add(opened)
        return opened

    def _pass_on(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
        """One request and all its answers. False when the conversation is over."""
        request, kind = _message(client)
        deed = self._deeds.pop(Request(kind), None)
        if deed is not None:
            self._do(deed)
        server.sendall(request)
        self.seen[kind] += 1
        if kind == Request.UNBIND:
            return False
        loss = self._losses.pop(Request(kind), None)
        answered = 0
        while answered not in _LAST_ANSWERS:
            answer, answered = _message(server)
            if loss is None:
                client.sendall(answer)
        if loss == "reset":
            # Closed so, TCP says reset instead of goodbye.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        return True

    def _do(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except Exception as fault:  # noqa: BLE001 - told to the test, which waits in another thread
            self.faults.append(fault)


def _shut(one: socket.socket) -> None:
    try:
        # Not by the TLS socket's own method: it forgets its TLS, and whoever reads meanwhile gets records as they are.
        socket.socket.shutdown(one, socket.SHUT_RDWR)
    except OSError:
        return


def _message(stream: ssl.SSLSocket) -> tuple[bytes, int]:
    """One LDAPMessage (BER, RFC 4511 section 4.1.1) and the tag of its operation."""
    head = _exactly(stream, 2)
    length = head[1]
    if length & 0x80:
        more = _exactly(stream, length & 0x7F)
        head, length = head + more, int.from_bytes(more, "big")
    body = _exactly(stream, length)
    return head + body, body[2 + body[1]]


def _exactly(stream: ssl.SSLSocket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        part = stream.recv(size - len(taken))
        if not part:
            raise EOFError
        taken += part
    return taken
