"""The address by which one person answers one question: signed, expiring, and good for nothing else.

A link names its case, its question with the question's digest (targets, actions, evidence), and the approver. It shows
the question to whoever has it; it decides nothing by itself. HMAC-SHA-256 (RFC 2104) over the claim; the key is in the
settings of the worker, which writes links into mails, and of the bridge, which reads them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, ValidationError

from incident.evidence import Frozen

LONGEST = 4096
"""No link of ours has more characters; what does is not read."""

_PURPOSE = b"holdpoint/answer-link/1\0"


class LinkClaim(Frozen):
    """What a link says: ``analyst`` (a mail address) may answer ``question`` of a case, until ``expires_at`` (UTC).

    ``digest`` is the question's own; ``run_id`` the run of the workflow, which a case that goes on in a fresh history
    changes.
    """

    case_id: str
    run_id: str
    question: str
    digest: str
    analyst: str
    expires_at: AwareDatetime


class LinkRefused(ValueError):
    """This is no link of ours: altered, cut short, or signed with a key that is not known."""


class LinkExpired(LinkRefused):
    """A link of ours whose time is over; ``claim`` is what it said."""

    def __init__(self, claim: LinkClaim) -> None:
        super().__init__("the link has expired")
        self.claim = claim


def sign(key: str, claim: LinkClaim) -> str:
    """The link's token: letters, digits, ``-``, ``_`` and one dot, so that it needs no quoting in an address."""
    told = {
        "c": claim.case_id,
        "r": claim.run_id,
        "q": claim.question,
        "d": claim.digest,
        "a": claim.analyst,
        "e": int(claim.expires_at.timestamp()),
    }
    payload = _encoded(json.dumps(told, separators=(",", ":"), sort_keys=True).encode())
    return f"{payload}.{_seal(key, payload)}"


def read(keys: Sequence[str], token: str, now: datetime) -> LinkClaim:
    """What a token says. ``keys`` are the key of today and those before it, as long as their links live.

    Raises:
        LinkExpired: it was ours, and its time is over.
        LinkRefused: it is none of ours.
    """
    payload, dot, seal = token.partition(".")
    if len(token) > LONGEST or not dot or not token.isascii():
        raise LinkRefused("this is not a link of ours")
    if not any(hmac.compare_digest(_seal(key, payload), seal) for key in keys):
        raise LinkRefused("this link was altered, or signed with a key that is not known")
    claim = _claim(payload)
    if now >= claim.expires_at:
        raise LinkExpired(claim)
    return claim


def _claim(payload: str) -> LinkClaim:
    try:
        told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return LinkClaim(
            case_id=told["c"],
            run_id=told["r"],
            question=told["q"],
            digest=told["d"],
            analyst=told["a"],
            expires_at=datetime.fromtimestamp(told["e"], UTC),
        )
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError, OSError, ValidationError):
        raise LinkRefused("this link cannot be read") from None


def _seal(key: str, payload: str) -> str:
    return _encoded(hmac.new(key.encode(), _PURPOSE + payload.encode(), hashlib.sha256).digest())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
