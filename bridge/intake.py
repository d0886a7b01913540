"""``POST /v1/alerts``: alerts from whoever may send them, answered once Temporal has them. See ``docs/alerts.md``.

Nothing is kept here: what was answered with a case is in Temporal, and what was not can be sent again, as it joins.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.client import Client

from bridge.answers import Answer, NotTaken, Taken, problem
from bridge.auth import Credentials, Sender, Signed, TooManySigned, Unauthenticated
from bridge.delivery import WITHIN, Delivery
from bridge.formats.body import Reader, TooMany, WrongType, media_type
from bridge.formats.mapping import Places
from bridge.formats.refusal import FormatRefused
from bridge.health import health_routes
from bridge.limits import Bodies, Rates, TooBusy, TooLarge, TooSlow, seconds
from bridge.openapi import openapi_routes
from connection import TASK_QUEUE
from incident.alert import Alert
from incident.text import plain
from settings import Settings
from settings_bridge import BridgeSettings

PATH = "/v1/alerts"

_REFUSALS_A_SECOND, _REFUSALS_AT_ONCE = 1.0, 20.0
"""How many refused credentials of one address are told and logged; more of them are only sent away."""

_LINES_A_SECOND, _LINES_AT_ONCE = 10.0, 100.0
"""How many of them are logged of all addresses, which a sender behind a proxy can make up."""

_RETRY = 5.0
"""Seconds after which Temporal may be back."""

log = logging.getLogger("holdpoint.bridge")


class _Refused(Exception):
    """The answer is this one, and the body was not read to its end."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def intake_routes(
    client: Client, settings: Settings, *, task_queue: str = TASK_QUEUE, start_within: float = WITHIN
) -> list[Route]:
    """The way in for alerts, its description, and the process's health. ``start_within`` is in seconds an alert."""
    intake = Intake(settings, Delivery(client, settings.case_policy(), task_queue=task_queue, within=start_within))
    return [
        Route(PATH, intake.take, methods=["POST"]),
        *openapi_routes(settings.bridge),
        *health_routes(client),
    ]


class Intake:
    """Takes requests: who sends, how much, what it is; and what became of each alert."""

    def __init__(self, settings: Settings, delivery: Delivery) -> None:
        bridge = settings.bridge
        self._delivery = delivery
        self._credentials = Credentials(bridge.hmac_keys, bridge.tokens, window=bridge.replay_window.total_seconds())
        self._bodies = Bodies(bridge.max_bytes, bridge.body_within.total_seconds())
        self._rates = Rates(bridge.alerts_per_second, bridge.burst)
        self._refusals = Rates(_REFUSALS_A_SECOND, _REFUSALS_AT_ONCE)
        self._lines = Rates(_LINES_A_SECOND, _LINES_AT_ONCE)
        self._reader = Reader(places_of(bridge), settings.securonix.tenant, bridge.max_alerts)
        self._limits = bridge

    async def take(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return await self._taken(request)
        except _Refused as refused:
            await self._bodies.pass_over(request)
            return refused.answer
        except ClientDisconnect:
            return problem(400, "the sender went away")  # nobody hears it

    async def _taken(self, request: Request) -> Response:
        if not self._credentials:
            raise _Refused(problem(503, "intake is not configured: no key and no token is set", retry_after="300"))
        try:
            shown = self._credentials.of(request.headers)
            content_type = request.headers.get("content-type", "")
            async with self._bodies.of(self._acceptable(request, content_type)) as body:
                sender = self._credentials.verify(shown, body) if isinstance(shown, Signed) else shown
                return await self._remembered(sender, content_type, body)
        except Unauthenticated as error:
            raise _Refused(self._unauthenticated(request, error)) from None
        except TooManySigned:
            return problem(429, "too many signed requests are remembered just now", retry_after="60")
        except TooLarge:
            raise _Refused(problem(413, f"the body is larger than {self._limits.max_bytes} bytes")) from None
        except TooSlow:
            return problem(408, "the body did not arrive in time")
        except TooBusy:
            raise _Refused(problem(503, "too many bodies are under way", retry_after="1")) from None

    async def _remembered(self, sender: Sender, content_type: str, body: bytes) -> Response:
        """The answer; unless something was taken, the request may come again as it was signed."""
        taken = False
        try:
            answer = await self._answered(sender, content_type, body)
            taken = answer.status_code < 400
        finally:
            if not taken:
                self._credentials.forget(sender)
        return answer

    def _acceptable(self, request: Request, content_type: str) -> Request:
        try:
            media_type(content_type)
        except WrongType:
            raise _Refused(_wrong_type()) from None
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Refused(problem(415, "the body is encoded; send it plain"))
        return request

    async def _answered(self, sender: Sender, content_type: str, body: bytes) -> Response:
        # A request that holds no alert costs as much as one.
        if wait := self._rates.take(sender.name):
            return _too_many(wait)
        try:
            read = self._reader.read(content_type, body)
        except TooMany:
            return problem(413, f"there are more than {self._limits.max_alerts} alerts in it")
        except FormatRefused as error:
            log.warning("a request of %s was refused: %s", sender.name, plain(str(error), limit=200))
            return problem(400, plain(str(error), limit=500))
        if not read:
            return problem(400, "there is no alert in it")
        alerts = {index: alert for index, alert in enumerate(read) if isinstance(alert, Alert)}
        if len(alerts) > 1 and (wait := self._rates.take(sender.name, len(alerts) - 1)):
            return _too_many(wait)
        outcomes = await self._delivery.deliver(alerts)
        return _answer(sender, [_outcome(index, alert, outcomes) for index, alert in enumerate(read)])

    def _unauthenticated(self, request: Request, error: Unauthenticated) -> Response:
        address = _address(request)
        if wait := self._refusals.take(address):
            return problem(429, "too many requests that were not authenticated", retry_after=seconds(wait))
        if not self._lines.take(""):
            log.warning("refused a sender at %s: %s", plain(address, limit=80), error)
        return problem(401, str(error))


def places_of(bridge: BridgeSettings) -> dict[str, Places]:
    """Where each field of an alert stands in each format, as the settings say."""
    told = {}
    for name, mapping in bridge.mapping:
        of = {field: places for field, places in mapping if field not in ("zone", "time_formats")}
        told[name] = Places(of, mapping.zone, mapping.time_formats)
    return told


def _outcome(index: int, read: Alert | str, outcomes: dict[int, Taken | NotTaken]) -> Taken | NotTaken:
    return NotTaken(index=index, fault=read) if isinstance(read, str) else outcomes[index]


def _answer(sender: Sender, told: Sequence[Taken | NotTaken]) -> Response:
    """202 all taken, 207 some, 400 none that could be read, 503 as soon as one is worth sending again."""
    lost = [alert for alert in told if isinstance(alert, NotTaken)]
    for alert in lost[:10]:
        log.warning("alert %d of a request of %s was not taken: %s", alert.index, sender.name, alert.fault)
    log.info("took %d of %d alerts of %s", len(told) - len(lost), len(told), sender.name)
    if any(alert.retry for alert in lost):
        detail = "Temporal has those that name a case; send the others again, or all: what is there already joins"
        return problem(503, detail, alerts=tuple(told), retry_after=seconds(_RETRY))
    if len(lost) == len(told):
        return problem(400, "no alert in it could be taken; each one's fault is told", alerts=tuple(told))
    return JSONResponse(Answer(alerts=tuple(told)).model_dump(mode="json"), status_code=207 if lost else 202)


def _wrong_type() -> Response:
    return problem(415, "send application/json, application/x-ndjson, or CEF or LEEF lines as text/plain, in UTF-8")


def _too_many(wait: float) -> Response:
    return problem(429, "more alerts than this credential may send; nothing of it was taken", retry_after=seconds(wait))


def _address(request: Request) -> str:
    """The sender's address; of IPv6 the network, which one sender has the whole of."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and not address.ipv4_mapped:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
