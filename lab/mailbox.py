"""A mail relay on loopback that keeps what it is sent: STARTTLS, AUTH, recipients it will not take, and bad days."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

DROP = "drop"
"""As a reply: the connection is cut instead. To ``data`` that is after the mail was taken: only the answer is lost."""

SILENT = "silent"
"""As a reply to ``connect``: no greeting ever comes."""

STEPS = ("connect", "starttls", "auth", "mail", "rcpt", "data")


class CertificateFiles(Protocol):
    """PEM files of the server's certificate and its key."""

    @property
    def cert_file(self) -> Path:
        """The certificate, with its chain."""

    @property
    def key_file(self) -> Path:
        """The private key."""


@dataclass(frozen=True)
class Received:
    """A mail that was taken: its envelope, who had logged in, and what it says."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    raw: bytes
    login: str | None
    at: datetime

    @property
    def text(self) -> str:
        """The plain text body."""
        return self._body("plain")

    @property
    def html(self) -> str:
        """The HTML body."""
        return self._body("html")

    def _body(self, subtype: str) -> str:
        part = self.message.get_body((subtype,))
        return "" if part is None else str(part.get_content())


@dataclass
class _Fault:
    step: str
    reply: str
    times: int


class MailboxLab:
    """The relay. With ``certificates`` it insists on STARTTLS; with ``username`` it insists on a login (after TLS).

    Attributes:
        messages: What was taken, in order. The same Message-ID twice is two entries, as on a real relay.
        deferred: Addresses that get 451 (greylisting).
        refused: Addresses that get 550.
        commands: What clients said: the verbs with their addresses, never credentials.
        sessions: How many connections were made.
        offers_starttls: Whether EHLO names STARTTLS.
        around: Awaited ``before`` and ``after`` a mail is taken; the answer waits for it. False cuts the connection.
    """

    def __init__(
        self,
        certificates: CertificateFiles | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        port: int = 0,
    ) -> None:
        self.username = username
        self.password = password
        self.port = port
        self.messages: list[Received] = []
        self.deferred: set[str] = set()
        self.refused: set[str] = set()
        self.commands: list[str] = []
        self.sessions = 0
        self.offers_starttls = certificates is not None
        self.around: Callable[[str, Envelope], Awaitable[bool]] | None = None
        self.tls: ssl.SSLContext | None = None
        if certificates is not None:
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.tls.load_cert_chain(certificates.cert_file, certificates.key_file)
        self._faults: list[_Fault] = []
        self._server: asyncio.Server | None = None
        self._open: set[_Conversation | _Turned] = set()
        self._waiting: list[tuple[Callable[[Received], bool], asyncio.Future[Received]]] = []

    async def start(self) -> None:
        """Listen on 127.0.0.1; with port 0 the system picks one, and ``port`` tells which."""
        logging.getLogger("mail.log").disabled = True
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection; a second call does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await asyncio.gather(*(connection.end() for connection in list(self._open)))
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def fail(self, step: str, reply: str, *, times: int = 1) -> None:
        """Answer ``reply`` (such as ``"451 4.3.0 try later"``, or ``DROP``) the next ``times`` times at ``step``.

        Steps: ``connect``, ``starttls``, ``auth``, ``mail``, ``rcpt``, ``data`` (the answer to the whole message).
        """
        if step not in STEPS:
            raise ValueError(f"there is no step {step!r}")
        self._faults.append(_Fault(step, reply, times))

    def clear(self) -> None:
        """Forget the mails, the planned failures, the refusals and the counts."""
        for kept in (self.messages, self.deferred, self.refused, self.commands, self._faults):
            kept.clear()
        self.sessions = 0
        self.offers_starttls = self.tls is not None

    async def wait_for(self, predicate: Callable[[Received], bool], timeout: float = 10.0) -> Received:  # noqa: ASYNC109
        """The first mail, past or to come, that the predicate accepts. Raises TimeoutError after ``timeout`` seconds.

        To be awaited in the loop that the relay was started in.
        """
        for received in self.messages:
            if predicate(received):
                return received
        future: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        entry = (predicate, future)
        self._waiting.append(entry)
        try:
            return await asyncio.wait_for(future, timeout)
        finally:
            self._waiting.remove(entry)

    def planned(self, step: str) -> str | None:
        """The failure that is due at this step, counted down; ``None`` when all is well."""
        for fault in self._faults:
            if fault.step == step and fault.times > 0:
                fault.times -= 1
                return fault.reply
        return None

    def keep(self, session: Session, envelope: Envelope) -> None:
        """Take a mail, and wake those who wait for it."""
        raw = bytes(envelope.original_content or b"")
        message = message_from_bytes(raw, EmailMessage, policy=policy.default)
        login = session.auth_data.login.decode() if isinstance(session.auth_data, LoginPassword) else None
        received = Received(envelope.mail_from or "", tuple(envelope.rcpt_tos), message, raw, login, datetime.now(UTC))
        self.messages.append(received)
        for predicate, future in self._waiting:
            if not future.done() and predicate(received):
                future.set_result(received)

    def opened(self, connection: _Conversation | _Turned) -> None:
        """A connection has begun; it is cut when the relay stops."""
        self._open.add(connection)

    def closed(self, connection: _Conversation | _Turned) -> None:
        """A connection has ended."""
        self._open.discard(connection)

    def _accept(self) -> asyncio.Protocol:
        self.sessions += 1
        reply = self.planned("connect")
        return _Conversation(self) if reply is None else _Turned(self, reply)


class _Turned(asyncio.Protocol):
    """A connection that is not let in."""

    def __init__(self, lab: MailboxLab, reply: str) -> None:
        self._lab = lab
        self._reply = reply
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._lab.opened(self)
        if self._reply == DROP:
            abort(transport)
        elif self._reply != SILENT and isinstance(transport, asyncio.WriteTransport):
            transport.write(self._reply.encode() + b"\r\n")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lab.closed(self)

    async def end(self) -> None:
        """Cut the connection and see it closed."""
        abort(self._transport)
        await asyncio.sleep(0)


class _Session(Session):
    login_data: Any = None  # the library's own property warns at each login


class _Conversation(SMTP):
    """One client's session. The hooks are aiosmtpd's; what is refused here never reaches the library's own answer."""

    def __init__(self, lab: MailboxLab) -> None:
        self._lab = lab
        self._plain_transport: asyncio.BaseTransport | None = None
        super().__init__(
            self,
            loop=asyncio.get_running_loop(),
            hostname="mailbox.lab",
            ident="ESMTP",
            tls_context=lab.tls,
            require_starttls=lab.tls is not None,
            auth_require_tls=lab.tls is not None,
            authenticator=self._knows,
        )

    def _create_session(self) -> Session:
        return _Session(self.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._plain_transport is None:
            self._plain_transport = transport
            self._lab.opened(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._lab.closed(self)
        super().connection_lost(error)

    async def end(self) -> None:
        """Cut the connection and see its task end: one that is cut while it shakes hands is never told so."""
        abort(self._plain_transport)
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.gather(self._handler_coroutine, return_exceptions=True)

    async def handle_exception(self, error: Exception) -> str:
        return f"451 4.3.0 {type(error).__name__}"

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self._lab.commands.append("EHLO")
        return [line for line in responses if self._lab.offers_starttls or "STARTTLS" not in line]

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append("STARTTLS")
        if not await self._fails("starttls"):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append(f"AUTH {arg.partition(' ')[0]}" if arg else "AUTH")
        if not await self._fails("auth"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append(f"MAIL {arg}")
        if await self._fails("mail"):
            return
        if self._lab.username is not None and not (self.session and self.session.authenticated):
            await self.push("530 5.7.0 Authentication required")
            return
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append(f"RCPT {arg}")
        if not await self._fails("rcpt"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append("DATA")
        await super().smtp_DATA(arg)

    async def smtp_RSET(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append("RSET")
        await super().smtp_RSET(arg)

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        self._lab.commands.append("QUIT")
        await super().smtp_QUIT(arg)

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self._lab.refused:
            return "550 5.1.1 no such user here"
        if address in self._lab.deferred:
            return "451 4.7.1 greylisted, try later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        around = self._lab.around
        reply = self._lab.planned("data")
        if around and not await around("before", envelope):
            abort(self._plain_transport)
            return "451 4.3.0 cut"
        if reply is None or reply == DROP:
            self._lab.keep(session, envelope)
        if reply == DROP or (around and not await around("after", envelope)):
            abort(self._plain_transport)
        return reply or "250 2.0.0 queued"

    async def _fails(self, step: str) -> bool:
        reply = self._lab.planned(step)
        if reply is None:
            return False
        if reply == DROP:
            abort(self._plain_transport)
        else:
            await self.push(reply)
        return True

    def _knows(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        wanted = ((self._lab.username or "").encode(), (self._lab.password or "").encode())
        known = isinstance(data, LoginPassword) and (data.login, data.password) == wanted
        return AuthResult(success=known, handled=False, auth_data=data)


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Cut a connection, its buffers unsent."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
