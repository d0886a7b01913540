"""Who may send alerts: whoever signs a request with a key, or shows a token. Several of each are good at once.

A signature is HMAC-SHA256, in hex, over the time that ``X-Holdpoint-Timestamp`` tells (seconds since 1970), a dot, and
the body as it is sent. ``X-Holdpoint-Signature`` has it as ``v1=…``; with commas between, or in several such headers,
there may be more, of which one has to be right: that is how a sender changes its key. A signed request is good within
a window around its time, once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

TIMESTAMP = "X-Holdpoint-Timestamp"
SIGNATURE = "X-Holdpoint-Signature"

_MOST_SIGNATURES = 8
_SECONDS = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v1=([0-9a-fA-F]{64})")


class Unauthenticated(Exception):
    """The request does not show that it may send alerts; the message says what is wrong, and holds no secret."""


class TooManySigned(Exception):
    """There is no room to remember a further signed request, so that it cannot be taken just now."""


@dataclass(frozen=True)
class Signed:
    """What a request says of its signature, before the body is there to try it on."""

    timestamp: int
    stamp: bytes
    signatures: tuple[bytes, ...]


@dataclass(frozen=True)
class Sender:
    """Whose credential it was: ``name`` is its name in the settings. ``digest`` is that of a signed request."""

    name: str
    digest: bytes | None = None


class Credentials:
    """The keys and tokens that are good, by name, and the signed requests that were taken.

    Args:
        hmac_keys: the keys that sign.
        tokens: the bearer tokens.
        window: seconds that a signed request's time may be from ours.
        most: how many signed requests are remembered, for twice the window each.
        clock: the present time in seconds since 1970.
    """

    def __init__(
        self,
        hmac_keys: Mapping[str, str],
        tokens: Mapping[str, str],
        *,
        window: float = 300.0,
        most: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = {name: key.encode() for name, key in hmac_keys.items()}
        self._tokens = {name: _hashed(token.encode()) for name, token in tokens.items()}
        self._window, self._most, self._clock = window, most, clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._keys or self._tokens)

    def of(self, headers: Headers) -> Sender | Signed:
        """What the headers show, without the body: a sender by its token, or signatures that are still to be tried.

        Raises:
            Unauthenticated: nothing is shown, or nothing that is good.
        """
        if SIGNATURE in headers or TIMESTAMP in headers:
            return self._signed(headers)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            raise Unauthenticated("no credential is shown")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the Authorization is no bearer token")
        given = _hashed(token.strip().encode("latin-1"))
        good = [name for name, known in self._tokens.items() if hmac.compare_digest(known, given)]
        if not good:
            raise Unauthenticated("the token is not known")
        return Sender(good[0])

    def _signed(self, headers: Headers) -> Signed:
        stamps = headers.getlist(TIMESTAMP)
        if len(stamps) != 1 or not _SECONDS.fullmatch(stamps[0]):
            raise Unauthenticated(f"{TIMESTAMP} is not one time in seconds since 1970")
        timestamp = int(stamps[0])
        if abs(self._clock() - timestamp) > self._window:
            raise Unauthenticated(f"{TIMESTAMP} is more than {self._window:.0f} s from our clock")
        parts = ",".join(headers.getlist(SIGNATURE)).split(",", _MOST_SIGNATURES)[:_MOST_SIGNATURES]
        found = [match[1] for part in parts if (match := _SIGNATURE.fullmatch(part.strip()))]
        if not found:
            raise Unauthenticated(f"{SIGNATURE} holds no v1= and 64 hex digits")
        return Signed(timestamp, stamps[0].encode(), tuple(bytes.fromhex(text) for text in found))

    def verify(self, signed: Signed, body: bytes) -> Sender:
        """The sender who signed that body; it counts as taken from now on.

        Raises:
            Unauthenticated: no key made any of the signatures, or this very request was taken before.
            TooManySigned: there is no room to remember it.
        """
        message = signed.stamp + b"." + body
        good = []
        for name, key in self._keys.items():
            right = hmac.digest(key, message, "sha256")
            # All are tried, so that the time taken tells nothing.
            good += [name for tried in signed.signatures if hmac.compare_digest(right, tried)]
        if not good:
            raise Unauthenticated("no signature is right")
        sender = Sender(good[0], _hashed(message))
        self._remember(sender)
        return sender

    def _remember(self, sender: Sender) -> None:
        now = self._clock()
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if sender.digest in self._seen:
            raise Unauthenticated("this very request was taken before: to deliver it again, sign it anew")
        if len(self._seen) >= self._most:
            raise TooManySigned
        if sender.digest is not None:
            self._seen[sender.digest] = now + 2 * self._window

    def forget(self, sender: Sender) -> None:
        """The request was not taken after all, so that it may come again as it is."""
        if sender.digest is not None:
            self._seen.pop(sender.digest, None)


def _hashed(text: bytes) -> bytes:
    """Of one length, so that comparing tells no length either."""
    return hashlib.sha256(text).digest()
