"""What stands before an answer: that the form is ours and was shown to this browser, and that nobody guesses names."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from incident.evidence import Frozen

TRIES: Final = 5
"""How many wrong names a link takes before it takes none for a while."""

TRIES_WITHIN: Final = 2 * 60
"""How long that while is, and how long a wrong name counts, in seconds."""

_MOST: Final = 10_000
_LONGEST: Final = 1024
_FORM, _SAID = "holdpoint/answer-form/1", "holdpoint/answer-said/1"
_FORM_LASTS, _SAID_LASTS = 12 * 3600, 15 * 60


class Tries:
    """Counts wrong names, in this process alone, and of so many links that a flood cannot fill the memory."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, link: str) -> int:
        """Seconds until this link takes an answer again; 0 if it does now."""
        times, now = self._wrong.get(link, deque()), time.monotonic()
        while times and times[0] <= now - TRIES_WITHIN:
            times.popleft()
        return int(times[0] + TRIES_WITHIN - now) + 1 if len(times) >= TRIES else 0

    def wrong(self, link: str) -> None:
        """Count one."""
        self._wrong.setdefault(link, deque(maxlen=TRIES)).append(time.monotonic())
        self._wrong.move_to_end(link)
        while len(self._wrong) > _MOST:
            self._wrong.popitem(last=False)


class Said(Frozen):
    """What became of an answer, for the page that is shown next: ``taken``, ``waits``, ``left``, ``dissent``, ``same``.

    ``decision`` is what was answered, ``at`` when, in ISO 8601.
    """

    what: str
    decision: str
    question: str
    at: str


class Cookies:
    """The two cookies of a link: the half of its form that only this browser has, and what became of an answer.

    Both belong to one link or case, are signed, and are sent to nobody on the way from another site.
    """

    def __init__(self, keys: Sequence[str], *, secure: bool, path: str) -> None:
        # itsdangerous wants the newest key last.
        newest_last = list(reversed(keys))
        self._form = URLSafeTimedSerializer(newest_last, salt=_FORM, signer_kwargs=_SIGNER)
        self._said = URLSafeTimedSerializer(newest_last, salt=_SAID, signer_kwargs=_SIGNER)
        self._key = keys[0]
        self._secure = secure
        self._path = path

    def form(self, request: Request, link: str) -> tuple[str, str]:
        """The half in the browser's cookie, which may be new, and the half that the form sends along."""
        kept = request.cookies.get(self._name("form", link), "")
        half = kept if self._is_ours(kept, link) else str(self._form.dumps([secrets.token_urlsafe(18), _of(link)]))
        return half, self._other(half, link)

    def holds(self, request: Request, link: str, sent: str) -> bool:
        """Whether a form was made for this browser and this link."""
        half = request.cookies.get(self._name("form", link), "")
        return self._is_ours(half, link) and hmac.compare_digest(self._other(half, link).encode(), sent.encode())

    def keep_form(self, response: Response, link: str, half: str) -> None:
        """Have the browser keep its half."""
        self._set(response, self._name("form", link), half, _FORM_LASTS)

    def say(self, response: Response, link: str, said: Said) -> None:
        """Have the browser bring along what became of the answer, for a while."""
        told = str(self._said.dumps([_of(link), said.model_dump()]))
        self._set(response, self._name("said", link), told, _SAID_LASTS)

    def said(self, request: Request, link: str) -> Said | None:
        """What became of an answer that was given just now."""
        told = _read(self._said, request.cookies.get(self._name("said", link), ""), _SAID_LASTS)
        match told:
            case [str(whose), dict(said)] if whose == _of(link):
                return Said.model_validate(said)
        return None

    def _is_ours(self, half: str, link: str) -> bool:
        match _read(self._form, half, _FORM_LASTS):
            case [str(), str(whose)]:
                return whose == _of(link)
        return False

    def _other(self, half: str, link: str) -> str:
        return hmac.new(self._key.encode(), f"{_FORM}\0{half}\0{_of(link)}".encode(), hashlib.sha256).hexdigest()

    def _name(self, what: str, link: str) -> str:
        return f"holdpoint-{what}-{_of(link)[:12]}"

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self._path,
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )


_SIGNER: Final = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


def _of(link: str) -> str:
    return hashlib.sha256(link.encode()).hexdigest()


def _read(serializer: URLSafeTimedSerializer, value: str, last: int) -> Any:
    if not value or len(value) > _LONGEST:
        return None
    try:
        return serializer.loads(value, max_age=last)
    except BadData:
        return None
