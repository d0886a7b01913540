"""Who is signed in: a signed cookie, which a browser keeps and sends back, and nothing kept here but who signed out.

The cookie holds the analyst's mail address, their name, and when they signed in; it is signed (HMAC-SHA-256, by
itsdangerous) and not encrypted. Its key is derived from ``desk.key`` for this one purpose, so that neither a link nor
the cookie of a sign-in under way can stand in for it. It is good for ``desk.oidc.last`` from the sign-in on, whatever
is done in between. Attributes by RFC 6265bis: ``HttpOnly``, ``SameSite=Lax``, and ``Secure`` with the ``__Host-``
prefix where the desk is reached by https.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from incident.evidence import Frozen

_PURPOSE = "holdpoint/desk-session/1"
_NAME = "holdpoint-session"
_LONGEST = 4096
"""No cookie of ours has more characters; what does is not read."""

_SKEW = 60
"""By so many seconds the clock of another bridge, which wrote the cookie, may be ahead."""


class Session(Frozen):
    """Somebody who is signed in.

    ``analyst`` is the mail address by which the tiers name them, ``name`` what to call them (untrusted text), and
    ``csrf`` what each of their forms sends along in the field ``csrf``.
    """

    analyst: str
    name: str
    csrf: str


class SignedCookie:
    """A cookie that only we can write, of use for one purpose and for so long.

    ``keys`` are today's first and those before it: a cookie may be signed with any, and is written with today's.
    """

    def __init__(self, name: str, keys: Sequence[str], purpose: str, last: timedelta, *, secure: bool) -> None:
        self.name = f"__Host-{name}" if secure else name
        self._secure = secure
        self._seconds = int(last.total_seconds())
        # itsdangerous wants the newest key last.
        self._serializer = URLSafeTimedSerializer(
            list(reversed(keys)), salt=purpose, signer_kwargs={"key_derivation": "hmac", "digest_method": sha256}
        )

    def read(self, request: HTTPConnection) -> dict[str, Any] | None:
        """What the request's cookie says, if it is ours and its time is not over."""
        value = request.cookies.get(self.name, "")
        if not value or len(value) > _LONGEST:
            return None
        try:
            told, at = self._serializer.loads(value, return_timestamp=True)
        except BadData:
            return None
        age = _now() - at.timestamp()
        return told if isinstance(told, dict) and -_SKEW <= age <= self._seconds else None

    def write(self, response: Response, told: dict[str, Any]) -> None:
        """Have the browser keep it. It lasts from now on."""
        self._set(response, str(self._serializer.dumps(told)), self._seconds)

    def clear(self, response: Response) -> None:
        """Have the browser drop it."""
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self.name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="lax"
        )


class Sessions:
    """The sessions of the desk. An application that has them keeps them as ``app.state.sessions``."""

    def __init__(self, keys: Sequence[str], last: timedelta, *, secure: bool) -> None:
        self._cookie = SignedCookie(_NAME, keys, _PURPOSE, last, secure=secure)
        self._last = last
        # Whoever copied a cookie cannot go on with it. A restart forgets this; the cookie's own end holds in any case.
        self._ended: dict[str, float] = {}

    def begin(self, response: Response, analyst: str, name: str) -> None:
        """Sign somebody in, with a session that never was before."""
        told = {"a": analyst, "n": name, "c": secrets.token_urlsafe(24), "i": secrets.token_urlsafe(12)}
        self._cookie.write(response, told)

    def read(self, request: HTTPConnection) -> Session | None:
        """Who the request is from, if they are signed in."""
        told = self._cookie.read(request)
        if told is None or told.get("i") in self._ended:
            return None
        return Session(analyst=told["a"], name=told["n"], csrf=told["c"])

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Sign the request's sender out, and whoever else has their cookie."""
        told = self._cookie.read(request)
        now = time.monotonic()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        if told is not None:
            self._ended[told["i"]] = now + self._last.total_seconds()
        self._cookie.clear(response)


def _now() -> float:
    return time.time()


def session_of(request: HTTPConnection) -> Session | None:
    """Who the request is from, if they are signed in; nobody where the desk has no sign-in."""
    sessions: Sessions | None = getattr(request.app.state, "sessions", None)
    return sessions.read(request) if sessions is not None else None


def csrf_holds(session: Session, sent: object) -> bool:
    """Whether a form comes from a page that we made for this session."""
    return isinstance(sent, str) and secrets.compare_digest(sent.encode("utf-8", "replace"), session.csrf.encode())
