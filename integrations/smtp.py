"""Mail over SMTP submission: RFC 5321, STARTTLS as in RFC 3207, AUTH as in RFC 4954. One connection a mail.

Delivery is at least once: when the answer to the message is lost, the server may have taken it, and the repeat carries
the same Message-ID. Nothing is retried here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email import policy
from email.header import Header
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import aiosmtplib

from incident.requests import Delivery
from incident.text import plain
from integrations import tracing
from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, Rejected, Unreachable
from integrations.interfaces import Check, Mail

_T = TypeVar("_T")

SUBJECT_LIMIT = 200
"""Characters of a subject that are sent."""

_WORDS_LIMIT = 200
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
_ADDRESS = re.compile(rf"(?!.*=\?){_ATOM}@([A-Za-z0-9.-]+|\[[A-Za-z0-9.:]+\])")
_NOT_A_MAILBOX = "not sent: this is not a plain mail address"
_NEEDS_OTHER_SETTINGS = frozenset({530, 534, 535, 538})
"""RFC 4954 section 6: authentication required, mechanism too weak, credentials invalid, encryption required."""


class _Faithful(policy.EmailPolicy):
    """Folds what the standard library folds wrongly.

    It makes encoded words of a long Message-ID, which breaks the thread, and loses blanks in a subject of two scripts.
    """

    def fold(self, name: str, value: Any) -> str:
        if name in ("Message-ID", "In-Reply-To", "References"):
            return f"{name}: {value}{self.linesep}"
        if name == "Subject":
            charset = "us-ascii" if str(value).isascii() else "utf-8"
            folded = Header(str(value), charset, header_name=name).encode(linesep=self.linesep)
            return f"{name}: {folded}{self.linesep}"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("ascii")


_POLICY = _Faithful(linesep="\r\n", cte_type="7bit")


def build_message(mail: Mail, sender: str, recipients: tuple[str, ...], date: datetime) -> bytes:
    """The message as it goes over the wire: 7 bit, CRLF, text before HTML, nobody's vacation notice asked for.

    Headers are those of RFC 5322 section 3.6, ``Auto-Submitted`` of RFC 3834 and ``X-Auto-Response-Suppress`` of
    MS-OXCMAIL. The bytes are parsed again: a header that was not intended, or one that did not come through, is fatal.

    Raises:
        Rejected: the message cannot be made safe.
    """
    headers = {
        "From": sender,
        "To": ", ".join(recipients),
        "Subject": _subject(mail.subject),
        "Date": format_datetime(date),
        "Message-ID": _message_id(mail.message_id),
    }
    if mail.in_reply_to:
        headers["In-Reply-To"] = headers["References"] = _message_id(mail.in_reply_to)
    headers |= {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
    message = EmailMessage(policy=_POLICY)
    try:
        for name, value in headers.items():
            message[name] = value
        message.set_content(mail.text, charset="utf-8", cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", charset="utf-8", cte="quoted-printable")
        raw = message.as_bytes()
    except ValueError:  # a header with a line break, a body with a lone surrogate
        raise Rejected("the mail cannot be written: a header or a body holds what no mail can carry") from None
    _verify(raw, {**headers, "MIME-Version": "1.0", "Content-Type": "multipart/alternative"})
    return raw


def _subject(subject: str) -> str:
    # An encoded word in a value was once written out as a header line of its own (CVE-2024-6923).
    text = plain(subject, SUBJECT_LIMIT)
    while "=?" in text:
        text = text.replace("=?", "")
    return text


def _message_id(value: str) -> str:
    bare = value.removeprefix("<").removesuffix(">")
    if not _ADDRESS.fullmatch(bare):
        raise Rejected(f"{plain(value, 80)!r} is not a Message-ID")
    return f"<{bare}>"


def _verify(raw: bytes, intended: dict[str, str]) -> None:
    # Parsed whole: Python 3.11.2, which is Debian's, finds a defect in every multipart of which it reads headers only.
    names = BytesParser(policy=policy.compat32).parsebytes(raw).keys()
    parsed = BytesParser(policy=policy.default).parsebytes(raw)
    # Folding may add a blank, so blanks are not compared.
    through = all(
        str(parsed[name]).split() == intended[name].split() for name in ("Subject", "Message-ID", "To", "From")
    )
    if sorted(names) != sorted(intended) or not through or parsed.defects:
        raise Rejected("the mail is not sent: its headers would not be those that were meant")


class Smtp:
    """A mail relay, as ``integrations.interfaces.Mailer``.

    With ``starttls`` (the default) nothing but EHLO and STARTTLS is said in clear, and the certificate must be valid
    for ``host``, by ``ca_file`` (PEM) or else by the system's authorities. Without it, ``host`` must be loopback.
    ``timeout`` bounds each command, in seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        sender: str,
        *,
        starttls: bool = True,
        username: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        timeout: float = 15.0,
    ) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._starttls = starttls
        self._username = username
        self._password = password or ""
        self._ca_file = ca_file
        self._timeout = timeout
        self._context: ssl.SSLContext | None = None
        self._own_name: str | None = None
        self._where = f"mail server {host}:{port}"

    async def send(self, mail: Mail) -> Delivery:
        """Send to every recipient that the server takes; ``refused`` has its words for each other one.

        A recipient refused for now (4xx) while others are taken is in ``refused`` too, marked as temporary.

        Raises:
            Unreachable: no connection, a timeout, or a connection lost; after the message was sent it may be there.
            Busy: 4xx to the connection, the sender or the message, or to one recipient while none was taken.
            Rejected: 5xx there, every recipient refused for good, or a mail that cannot be written safely.
            Misconfigured: no STARTTLS, a certificate that is not trusted, credentials missing or not accepted.
            BadAnswer: what answers does not speak SMTP.
        """
        wanted = tuple(dict.fromkeys(mail.recipients))
        recipients = tuple(address for address in wanted if _ADDRESS.fullmatch(address))
        refused = {address: _NOT_A_MAILBOX for address in wanted if address not in recipients}
        if not recipients:
            raise Rejected("the mail has no recipient that can be written to")
        self._require_plain_sender()
        raw = build_message(mail, self._sender, recipients, datetime.now(UTC))
        with tracing.exchange("SMTP send", "mail", self._host, self._port):
            async with self._session() as smtp:
                answers, _ = await self._step("message", smtp.sendmail(self._sender, recipients, raw))
        refused |= {address: _words(answer.code, answer.message) for address, answer in answers.items()}
        accepted = tuple(address for address in recipients if address not in answers)
        return Delivery(message_id=mail.message_id, accepted=accepted, refused=refused)

    async def check(self) -> list[Check]:
        """Connect, encrypt, log in, and ask whether the sender may send; then take it back. Sends nothing.

        The lines end at the first that is not well. SMTP tells no time, so the clock is not compared.
        """
        smtp = self._client()
        steps: list[tuple[str, str, Callable[[aiosmtplib.SMTP], Awaitable[None]]]] = [
            ("mail: connection", f"{self._host}:{self._port} answers", self._connect),
            ("mail: STARTTLS and certificate", self._encryption_told(), self._encrypt),
            ("mail: credentials", self._login_told(), self._log_in),
            ("mail: sender", f"{plain(self._sender)} may send", self._try_sender),
        ]
        lines: list[Check] = []
        try:
            for name, well, step in steps:
                try:
                    await step(smtp)
                except IntegrationError as error:
                    lines.append(Check(name=name, ok=False, detail=str(error)))
                    if step in (self._log_in, self._try_sender):
                        await _leave_after(error, smtp)
                    break
                lines.append(Check(name=name, ok=True, detail=well))
            else:
                await _leave(smtp)
        finally:
            _cut(smtp)
        return lines

    def _encryption_told(self) -> str:
        return "encrypted, certificate valid" if self._starttls else "not encrypted: on this machine only"

    def _login_told(self) -> str:
        return f"logged in as {plain(self._username)}" if self._username else "no login configured"

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiosmtplib.SMTP]:
        smtp = self._client()
        try:
            await self._connect(smtp)
            await self._encrypt(smtp)
            try:
                await self._log_in(smtp)
                yield smtp
            except IntegrationError as error:
                await _leave_after(error, smtp)
                raise
            await _leave(smtp)
        finally:
            _cut(smtp)

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(hostname=self._host, port=self._port, start_tls=False, timeout=self._timeout)

    async def _connect(self, smtp: aiosmtplib.SMTP) -> None:
        if not self._starttls and not _is_loopback(self._host):
            raise Misconfigured(f"{self._where}: without STARTTLS it must be on this machine")
        if self._own_name is None:
            self._own_name = await asyncio.to_thread(_own_name)
        smtp.local_hostname = self._own_name
        await self._step("connection", smtp.connect())
        await self._step("connection", smtp.ehlo())

    async def _encrypt(self, smtp: aiosmtplib.SMTP) -> None:
        if not self._starttls:
            return
        if not smtp.supports_extension("starttls"):
            raise Misconfigured(f"{self._where} does not offer STARTTLS")
        if self._context is None:
            self._context = self._tls_context()
        await self._step("STARTTLS", smtp.starttls(tls_context=self._context))
        await self._step("STARTTLS", smtp.ehlo())

    def _tls_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        except OSError as error:
            fault = f"{self._where}: ca_file {self._ca_file} cannot be used: {error.strerror or error}"
        raise Misconfigured(fault)

    async def _log_in(self, smtp: aiosmtplib.SMTP) -> None:
        """One attempt with one mechanism: three wrong passwords a mail would lock the account."""
        if self._username is None:
            return
        mechanisms = {"plain": smtp.auth_plain, "login": smtp.auth_login, "cram-md5": smtp.auth_crammd5}
        for name, log_in in mechanisms.items():
            if name in smtp.server_auth_methods:
                await self._step("AUTH", log_in(self._username, self._password))
                return
        raise Misconfigured(f"{self._where} offers no login that is known here (PLAIN, LOGIN, CRAM-MD5)")

    async def _try_sender(self, smtp: aiosmtplib.SMTP) -> None:
        self._require_plain_sender()
        await self._step("sender", smtp.mail(self._sender))
        await self._step("sender", smtp.rset())

    def _require_plain_sender(self) -> None:
        if not _ADDRESS.fullmatch(self._sender):
            raise Misconfigured(f"sender {plain(self._sender, 80)!r} is not a plain mail address")

    async def _step(self, step: str, command: Awaitable[_T]) -> _T:
        # Raised outside of the handler: what the library raised may quote the server, who may quote what it was sent.
        try:
            return await command
        except (aiosmtplib.SMTPException, OSError, UnicodeError) as error:
            failure = self._named(step, error)
        raise failure

    def _named(self, step: str, error: Exception) -> IntegrationError:
        match error:
            case ssl.SSLCertVerificationError():
                return Misconfigured(f"{self._where}: the certificate is not trusted: {plain(error.verify_message)}")
            case ssl.SSLEOFError():
                return Unreachable(f"{self._where} broke off during {step}")
            case ssl.SSLError():
                return Misconfigured(f"{self._where}: no encryption can be agreed on: {plain(str(error.reason))}")
            case UnicodeError():
                return Misconfigured(f"{self._where}: this cannot be a host name")
            case aiosmtplib.SMTPRecipientsRefused():
                return self._nobody_taken(error.recipients)
            case aiosmtplib.SMTPResponseException():
                return self._answered(step, error.code, error.message)
            case TimeoutError():
                return Unreachable(f"{self._where} did not answer in time ({step})")
            case OSError():
                return Unreachable(f"{self._where} cannot be reached, or broke off ({step}): {plain(str(error))}")
            case _:
                return Misconfigured(f"{self._where} lacks what is needed ({step}): {plain(str(error))}")

    def _answered(self, step: str, code: int, message: str) -> IntegrationError:
        # At AUTH the words are left out: a server that does not understand the command may echo it.
        if step == "AUTH" and code >= 500:
            return Misconfigured(f"{self._where} does not accept the credentials ({code})")
        told = f"{self._where} answered {code if step == 'AUTH' else _words(code, message)} to the {step}"
        if not 400 <= code < 600:
            return BadAnswer(f"{self._where} does not speak SMTP ({step})")
        if code < 500:
            return Busy(told)
        if code in _NEEDS_OTHER_SETTINGS or step == "STARTTLS":
            return Misconfigured(told)
        return Rejected(told)

    def _nobody_taken(self, answers: list[aiosmtplib.SMTPRecipientRefused]) -> IntegrationError:
        told = "; ".join(f"{plain(a.recipient, 80)}: {_words(a.code, a.message)}" for a in answers[:5])
        if any(400 <= answer.code < 500 for answer in answers):
            return Busy(f"{self._where} takes none of the recipients now: {told}")
        if all(answer.code in _NEEDS_OTHER_SETTINGS for answer in answers):
            return Misconfigured(f"{self._where} wants other credentials: {told}")
        return Rejected(f"{self._where} takes none of the recipients: {told}")


def _words(code: int, message: str) -> str:
    temporary = " (temporary)" if 400 <= code < 500 else ""
    return f"{code} {plain(message, _WORDS_LIMIT)}{temporary}"


def _own_name() -> str:
    """The name to say in EHLO: the host's full name, else an address literal (RFC 5321 section 4.1.4)."""
    name = socket.getfqdn()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else "[127.0.0.1]"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _leave(smtp: aiosmtplib.SMTP) -> None:
    """QUIT. All is said already, so whatever happens here does not matter."""
    with suppress(aiosmtplib.SMTPException, OSError):
        await smtp.quit()


async def _leave_after(error: IntegrationError, smtp: aiosmtplib.SMTP) -> None:
    """QUIT where the server has answered, if only with no: relays count broken connections, and ban who makes many."""
    if not isinstance(error, Unreachable | BadAnswer):
        await _leave(smtp)


def _cut(smtp: aiosmtplib.SMTP) -> None:
    """Close at once, whatever state the connection is in: a polite TLS shutdown would wait for a stuck server."""
    if isinstance(smtp.transport, asyncio.Transport):
        smtp.transport.abort()
    smtp.close()
