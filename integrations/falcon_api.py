"""CrowdStrike Falcon's API, below any one of its services: login, envelope, and what its errors mean.

Wire shapes as in CrowdStrike's own SDKs (falconpy, gofalcon). Falcon wants ``Content-Type: application/json`` on every
call, with a body or without.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from integrations.errors import BadAnswer, Misconfigured
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, quoted

VENDOR = "CrowdStrike Falcon"
TOKEN_PATH = "/oauth2/token"  # noqa: S105 - an address

TOKEN_LIFE_SECONDS = 1799.0
"""How long a token lives when the answer does not say it."""

TOKEN_MARGIN_SECONDS = 120.0
"""How long before its end a token is renewed, as falconpy does it; half its life if it is a short one."""

MAX_RATE_WAIT = timedelta(seconds=120)
"""The longest wait taken from ``X-RateLimit-RetryAfter``; the limit's own window is one minute."""

_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]+")
_NEW_TOKEN = (
    "token is invalid",
    "invalid bearer token",
    "token has expired",
    "token expired",
    "expiredauthenticationtoken",
    "authorization failed",
    "access denied",
)


@dataclass(frozen=True)
class Reply:
    """Falcon's envelope. Both lists may be filled, ``null`` or absent; an error is its code and its words."""

    answer: Answer
    resources: list[Any]
    errors: list[tuple[int | None, str]]

    @classmethod
    def of(cls, answer: Answer) -> Reply:
        """The envelope of an answer. Raises BadAnswer if it is none."""
        body = answer.json_object()
        resources, errors = body.get("resources") or [], body.get("errors") or []
        if not {"resources", "errors", "meta"} & body.keys() or not isinstance(resources, list):
            raise BadAnswer(f"{VENDOR} answered {answer.status} with something else than its usual envelope")
        return cls(answer, resources, [_error(error) for error in (errors if isinstance(errors, list) else [errors])])


class FalconApi:
    """Calls with a bearer token that is kept while it lasts.

    Args:
        base_url: the customer's region. Regions are never guessed and redirects never followed.
        client_id: the API client.
        client_secret: its secret.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.
        clock: seconds since the epoch, for ``X-RateLimit-RetryAfter``.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = VendorHttp(VENDOR, base_url, ca_file=ca_file, total_seconds=total_seconds)
        self._credentials = {"client_id": client_id, "client_secret": client_secret}
        self._clock = clock
        self._one_login = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        tolerated: Collection[int] = (),
    ) -> Reply:
        """One call, repeated once with a new token if the answer asks for one.

        Args:
            method: the HTTP method.
            path: below ``base_url``.
            params: the query.
            json: the body.
            tolerated: statuses that the caller understands. The unknown id (404) has an envelope, a wrong address none.

        Raises:
            Unreachable, Busy, BadAnswer, Refused, Rejected: see there.
            Misconfigured: credentials, certificate, or an address that is not that of this region's API.
        """
        token = await self._bearer()
        answer = await self._send(method, path, token, params, json)
        if _wants_new_token(answer):
            answer = await self._send(method, path, await self._bearer(worn=token), params, json)
        if answer.status not in tolerated and answer.status != 404:
            self._raise_for_status(answer)
            return Reply.of(answer)
        try:
            reply: Reply | None = Reply.of(answer)
        except BadAnswer:
            reply = None
        if answer.status == 404 and (reply is None or 404 not in tolerated):
            raise Misconfigured(f"{VENDOR} has nothing at {path}: is base_url the address of its API?")
        return reply or Reply(answer, [], [])

    async def log_in(self) -> Answer:
        """Get a new token, whether the old one still lasts or not. Raises what ``call`` raises."""
        answer = await self._http.send(
            "POST", TOKEN_PATH, form=self._credentials, headers={"Accept": "application/json"}
        )
        if answer.status in (400, 401, 403, 404):
            hint = "; 403 also answers an address that is not on the IP allow-list" if answer.status == 403 else ""
            raise Misconfigured(
                f"{VENDOR} answered {answer.status} to the login: check client_id, client_secret and base_url{hint}"
                f"{self._said(answer)}"
            )
        self._raise_for_status(answer)
        body = answer.json_object()
        token = body.get("access_token")
        if not isinstance(token, str) or not _BEARER.fullmatch(token):
            raise BadAnswer(f"{VENDOR} answered {answer.status} to the login without a usable access_token")
        life = _number(body.get("expires_in")) or TOKEN_LIFE_SECONDS
        self._renew_at = time.monotonic() + max(life - TOKEN_MARGIN_SECONDS, life / 2)
        self._token = token
        return answer

    def raise_inner(self, reply: Reply, code: int | None) -> None:
        """Raise what an error inside an answer means: the same as it would as the answer's status."""
        answer = reply.answer
        if code is not None and code >= 400:
            self._raise_for_status(Answer(VENDOR, code, answer.headers, answer.body))
        raise BadAnswer(f"{VENDOR} answered {answer.status} with errors{self._said(answer)}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, token: str, params: Mapping[str, str] | None, json: Any) -> Answer:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
        }
        return await self._http.send(method, path, params=params, json=json, headers=headers)

    async def _bearer(self, *, worn: str | None = None) -> str:
        """A token other than ``worn``. Calls that find the same one worn share one login."""
        async with self._one_login:
            if self._token is None or self._token == worn or time.monotonic() >= self._renew_at:
                await self.log_in()
            return self._token or ""

    def _raise_for_status(self, answer: Answer) -> None:
        if 300 <= answer.status < 400:
            raise Misconfigured(f"{VENDOR} answered {answer.status}: base_url is not the customer's region")
        wish = None
        epoch = _number(answer.headers.get("X-RateLimit-RetryAfter"))
        if answer.status == 429 and epoch is not None:
            wish = timedelta(seconds=min(max(epoch - self._clock(), 0.0), MAX_RATE_WAIT.total_seconds()))
        answer.raise_for_status(retry_after=wish, words=self._words(answer))

    def _words(self, answer: Answer) -> str:
        try:
            messages = [words for _, words in Reply.of(answer).errors if words]
        except BadAnswer:
            return ""
        return quoted("; ".join(messages), secrets=(self._credentials["client_secret"], self._token or ""))

    def _said(self, answer: Answer) -> str:
        words = self._words(answer)
        return f" ({words})" if words else ""


def _error(error: Any) -> tuple[int | None, str]:
    if not isinstance(error, dict):
        return None, str(error)
    code = _number(error.get("code"))
    return (None if code is None else int(code)), str(error.get("message") or "")


def _number(value: object) -> float | None:
    """A number, or text that spells one; nothing else, and nothing endless."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _wants_new_token(answer: Answer) -> bool:
    """A 401 does; a 403 by its words, which are also those of a missing scope: then the repetition shows it."""
    if answer.status != 403:
        return answer.status == 401
    text = answer.text.lower()
    return any(words in text for words in _NEW_TOKEN)
