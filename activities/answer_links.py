"""The addresses that a mail leads to: the case's page at the desk, and the link by which one person answers.

They are made when the mail is, and never leave it: not into a payload, not into a log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from incident.links import LONGEST, LinkClaim, sign
from incident.requests import AnswerLinks

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def address_part(text: str) -> str:
    """Any text as one part of a web address (RFC 3986, section 2)."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode("utf-8", "replace"))


def _now() -> datetime:
    return datetime.now(UTC)


class LinkMaker:
    """The desk at ``url``, whose links are signed with ``key`` and last ``last``."""

    def __init__(self, url: str, key: str, last: timedelta, *, clock: Callable[[], datetime] = _now) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._last = last
        self._clock = clock

    def case_page(self, case_id: str) -> str:
        """The case at the desk, for those who sign in."""
        return f"{self._url}/cases/{address_part(case_id)}"

    def answer(self, asked: AnswerLinks | None, recipient: str) -> str | None:
        """The recipient's own link to the question; ``None`` where nothing is asked, or they may not answer."""
        if asked is None or recipient.casefold() not in map(str.casefold, asked.analysts):
            return None
        claim = LinkClaim(
            case_id=asked.case_id,
            run_id=asked.run_id,
            question=asked.question,
            digest=asked.digest,
            analyst=recipient,
            expires_at=self._clock() + self._last,
        )
        token = sign(self._key, claim)
        return f"{self._url}/answer/{token}" if len(token) <= LONGEST else None
