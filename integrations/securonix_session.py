"""The way to Securonix's web services: their address, the token that every call carries, and what a refusal means.

``GET /ws/token/generate`` gives a token as bare text, which the header ``token`` carries. A token may die long before
its validity ends (idle sessions, a changed address), so one answer of 401 or 403 leads to one new login.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from integrations.errors import BadAnswer, IntegrationError, Misconfigured, NotFound, Refused
from integrations.http import Answer, VendorHttp

VENDOR = "Securonix"
VALIDITY_DAYS = "1"
SEARCH_SECONDS = 30.0
"""How long one exchange may take: searches are slow."""

AT_ONCE = 24
"""How many calls run side by side: the searches of two steps of one case go out in one wave."""

_TOKEN = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9._~+/=:-]{4,1024}")


def base_url(url: str) -> str:
    """The root of the web services, whichever part of it the settings give (host, ``/Snypr`` or ``/Snypr/ws``).

    Raises:
        Misconfigured: it is no web address, or holds a query, a fragment or a user.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Misconfigured(f"{VENDOR}: the url in the settings is no https:// address")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise Misconfigured(f"{VENDOR}: the url in the settings must not hold a user, a query or a fragment")
    steps = [step for step in parts.path.split("/") if step]
    if steps[-1:] == ["ws"]:
        pass
    elif steps and steps[-1].lower() == "snypr":
        steps.append("ws")
    else:
        steps += ["Snypr", "ws"]
    return f"{parts.scheme}://{parts.netloc}/{'/'.join(steps)}"


class Session:
    """Calls with a token that is shared, and renewed once when it is not taken any more.

    ``username``, ``password`` and ``tenant`` travel as headers of the login only.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        tenant: str | None = None,
        ca_file: Path | None = None,
        total_seconds: float = SEARCH_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.root = base_url(url)
        self._credentials = {"username": username, "password": password, "validity": VALIDITY_DAYS}
        if tenant:
            self._credentials["tenant"] = tenant
        self._http = VendorHttp(VENDOR, self.root, ca_file=ca_file, total_seconds=total_seconds, transport=transport)
        self._token: str | None = None
        self._attempts = 0
        self._failed: IntegrationError | None = None
        self._login_lock = asyncio.Lock()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def call(self, method: str, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """One call below the root, repeated once after a new login when the token is not taken.

        Raises:
            Refused: it is not taken again: a missing right, a token bound to another address, or a locked account.
            IntegrationError: as ``Answer.raise_for_status`` and the login tell.
        """
        async with self._room:
            token = self._token or await self._renewed(None)
            answer = await self._send(method, path, params, token)
            # A page at 200 may hide a write that was done, so only a read is repeated after one.
            if _turned_away(answer) or (method == "GET" and answer.is_html and answer.status < 400):
                answer = await self._send(method, path, params, await self._renewed(token))
        if answer.status in (401, 403):
            raise Refused(
                f"{VENDOR} answered {answer.status} again after a new login: the account lacks the right to"
                f" {path.rpartition('/')[2]}, or is locked, or its token is bound to another address"
            )
        answer.raise_for_status()
        if answer.is_html:
            raise BadAnswer(f"{VENDOR} answered with a web page instead of data: a proxy or a login page is in between")
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, params: Mapping[str, str] | None, token: str) -> Answer:
        return await self._http.send(method, path, params=params, headers={"token": token})

    async def _renewed(self, stale: str | None) -> str:
        """A token other than ``stale``. Callers that come together share one login, and its failure.

        Were each to try for itself, one wrong password would lock the account.
        """
        seen = self._attempts
        async with self._login_lock:
            if self._token and self._token != stale:
                return self._token
            if self._attempts != seen and self._failed:
                raise type(self._failed)(str(self._failed), retry_after=self._failed.retry_after)
            self._token, self._failed = None, None
            try:
                self._token = await self._login()
            except IntegrationError as error:
                self._failed = error
                raise
            finally:
                self._attempts += 1
            return self._token

    async def _login(self) -> str:
        answer = await self._ask_for_token()
        if answer.status == 403:
            # This one is known to be passing at times.
            answer = await self._ask_for_token()
        if answer.status in (400, 401, 403):
            raise Misconfigured(
                f"{VENDOR} answered the login with {answer.status}: check username, password and tenant"
            )
        try:
            answer.raise_for_status()
        except NotFound:
            raise Misconfigured(f"{VENDOR}: there are no web services at {self.root}; check the url") from None
        token = answer.text.strip().strip('"').strip()
        if answer.is_html or not _TOKEN.fullmatch(token):
            raise BadAnswer(f"{VENDOR} answered the login with something that is no token")
        return token

    async def _ask_for_token(self) -> Answer:
        for name, value in self._credentials.items():
            # The HTTP library quotes a header that it cannot send in its error, so it must not come to that.
            if not value or value != value.strip() or any(ord(c) < 0x20 or ord(c) == 0x7F for c in value):
                raise Misconfigured(f"{VENDOR}: the {name} is empty, or begins or ends with a blank, or cannot be sent")
        headers = httpx.Headers(self._credentials, encoding="utf-8")
        return await self._http.send("GET", "token/generate", headers=headers)


def _turned_away(answer: Answer) -> bool:
    return answer.status in (401, 403) or (300 <= answer.status < 400 and answer.status != 304)
