"""Hands alerts to the bridge as a SIEM's forwarder does: in requests, signed or with a token (``docs/alerts.md``)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from lab.environment import INTAKE_KEY, INTAKE_TOKEN

Alert = dict[str, Any]
Credential = Callable[[bytes], dict[str, str]]
"""The headers by which the bridge knows who sends a body."""

_PATH = "/v1/alerts"
_TRIES = 10
_WITHIN = 30.0
"""Seconds that an answer may take; the bridge answers 503 long before."""


@dataclass(frozen=True)
class Delivered:
    """A request and its answer: the alerts that were sent, the last status, and a line for each alert.

    ``status`` is ``None`` where no answer came. ``waits`` tells how often it was refused for a while before.
    """

    alerts: Sequence[Alert]
    status: int | None
    lines: Sequence[dict[str, Any]] = ()
    waits: int = 0


def signed(body: bytes) -> dict[str, str]:
    """Of the sender who has the key."""
    stamp = str(int(time.time()))
    mac = hmac.new(INTAKE_KEY.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Holdpoint-Timestamp": stamp, "X-Holdpoint-Signature": f"v1={mac}"}


def with_token(_: bytes) -> dict[str, str]:
    """Of the sender who has the token."""
    return {"Authorization": f"Bearer {INTAKE_TOKEN}"}


async def deliver(url: str, requests: Sequence[tuple[Sequence[Alert], Credential]]) -> list[Delivered]:
    """Send them side by side to the bridge at ``url``. What is refused for a while is sent again after that while."""
    async with httpx.AsyncClient(timeout=_WITHIN, trust_env=False) as http:
        return await asyncio.gather(*(_one(http, url, alerts, credential) for alerts, credential in requests))


async def _one(http: httpx.AsyncClient, url: str, alerts: Sequence[Alert], credential: Credential) -> Delivered:
    body = json.dumps(alerts).encode()
    for waits in range(_TRIES):
        headers = {"Content-Type": "application/json", **credential(body)}
        try:
            answer = await http.post(url + _PATH, content=body, headers=headers)
        except httpx.TransportError:
            break
        if answer.status_code not in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            lines = answer.json()["alerts"] if answer.is_success else ()
            return Delivered(alerts, answer.status_code, lines, waits)
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return Delivered(alerts, None)
