"""A chat's incoming webhook: an address that takes JSON by POST, and that is itself the secret.

Whoever has the address may write to the channel, so it stays out of messages, logs and exceptions: HTTP libraries
repeat addresses in all of them.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import httpx

from integrations.errors import IntegrationError, Misconfigured, NotFound
from integrations.http import Answer, VendorHttp, quoted

WITHIN_SECONDS = 8.0
"""How long one post may take in all: a line in a channel is not worth more."""

LONGEST_TEXT = 500
"""Characters of one line."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PRINTABLE = re.compile(r"[!-~]+")
_NO_ADDRESS = "the webhook in the settings is not an https:// address with a path"


class Webhook:
    """Posts to one address. A bad address is told by each call, so that a chat never keeps a worker from starting.

    Raises:
        Misconfigured: ``ca_file`` cannot be read.
    """

    def __init__(
        self,
        vendor: str,
        address: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = WITHIN_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._vendor = vendor
        base, self._target = _parted(address)
        self._secrets = _secrets_of(self._target)
        self._http = VendorHttp(
            vendor, base or "https://localhost", ca_file=ca_file, total_seconds=total_seconds, transport=transport
        )
        self._hiding = _Hiding(self._secrets)
        _HTTPX.addFilter(self._hiding)

    async def post(self, body: Any) -> Answer:
        """Send it once, whatever the answer. Raises as ``VendorHttp.send``, and Misconfigured for a bad address."""
        return await self._send("POST", self._path(), body)

    async def look(self) -> Answer:
        """What the webhook's host answers at ``/``: the secret part of the address is not sent."""
        self._path()
        return await self._send("GET", "/", None)

    def words(self, answer: Answer) -> str:
        """What the answer says, without the address."""
        return quoted(answer.text, secrets=self._secrets)

    def raise_for_status(self, answer: Answer) -> None:
        """As ``Answer.raise_for_status``, in its own words; what is not found is Misconfigured."""
        try:
            answer.raise_for_status(words="" if answer.is_html else self.words(answer))
        except NotFound as error:
            raise Misconfigured(f"{error}; check the webhook's address") from None

    async def aclose(self) -> None:
        """Close the connections."""
        _HTTPX.removeFilter(self._hiding)
        await self._http.aclose()

    def _path(self) -> str:
        if not self._target:
            raise Misconfigured(f"{self._vendor}: {_NO_ADDRESS}")
        return self._target

    async def _send(self, method: str, path: str, body: Any) -> Answer:
        failed: IntegrationError
        try:
            return await self._http.send(method, path, json=body)
        except IntegrationError as error:
            message = quoted(str(error), secrets=self._secrets)
            failed = type(error)(message, retry_after=error.retry_after)
        # Outside of the except, so that nothing hangs on it that holds the request.
        raise failed


class WebhookChat:
    """One channel behind a webhook: with a vendor's ``post`` and ``check`` it is an ``integrations.interfaces.Chat``.

    Args:
        webhook: the address that the vendor gave out; a secret.
        desk_url: where the desk is; without it there is no link.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one post may take in all.
        transport: for tests.

    Raises:
        Misconfigured: ``ca_file`` cannot be read.
    """

    vendor: ClassVar[str]

    def __init__(
        self,
        webhook: str,
        *,
        desk_url: str | None = None,
        ca_file: Path | None = None,
        total_seconds: float = WITHIN_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._webhook = Webhook(self.vendor, webhook, ca_file=ca_file, total_seconds=total_seconds, transport=transport)
        self._desk_url = desk_url

    async def aclose(self) -> None:
        """Close the connections."""
        await self._webhook.aclose()


_HTTPX = logging.getLogger("httpx")


class _Hiding(logging.Filter):
    """Leaves out the lines in which the HTTP library tells the address."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is free of it."""
        told = record.getMessage()
        return not any(secret in told for secret in self._secrets)


def case_link(desk_url: str | None, case_id: str) -> str | None:
    """The page of a case at the desk, where there is one: for whoever is signed in, never a personal link."""
    return f"{desk_url.rstrip('/')}/cases/{quote(case_id, safe='')}" if desk_url else None


def _parted(address: str) -> tuple[str, str]:
    """The address as its public and its secret part; two empty ones where it is no webhook's."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        fits = parts.port != 0 and parts.hostname and not (parts.username or parts.password or parts.fragment)
    except ValueError:
        return "", ""
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not (fits and safe and _PRINTABLE.fullmatch(address)) or parts.path in ("", "/") or parts.path.startswith("//"):
        return "", ""
    return f"{parts.scheme}://{parts.netloc}", parts.path + (f"?{parts.query}" if parts.query else "")


def _secrets_of(target: str) -> tuple[str, ...]:
    """The secret part, whole and in the pieces that could give it away, the longest first."""
    pieces = {target, *re.split(r"[/?&=]", target)}
    return tuple(sorted((piece for piece in pieces if len(piece) >= 8), key=len, reverse=True))
