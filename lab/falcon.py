"""A stand-in for CrowdStrike Falcon's Hosts service: devices with a containment status that really changes.

Speaks ``/oauth2/token``, ``/oauth2/revoke``, ``/devices/queries/devices/v1``, ``/devices/entities/devices/v2`` and
``/devices/entities/devices-actions/v2`` on its own data, with the shapes that CrowdStrike's SDKs expect.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.faults import Faults
from lab.fql import Unreadable, matches

ERROR = (
    b'{"meta":{"query_time":0.01,"trace_id":"lab"},"resources":[],"errors":[{"code":500,"message":"internal error"}]}'
)
_ACTIONS = {
    "contain": ("containment_pending", "contained"),
    "lift_containment": ("lift_containment_pending", "normal"),
}


@dataclass
class LabDevice:
    """One agent. ``reads_left`` counts the reads that still show the pending status, once the host is online."""

    device_id: str
    hostname: str
    kind: str = "Workstation"
    online: bool = True
    status: str = "normal"
    reads_until_contained: int = 1
    machine_domain: str = ""
    local_ip: str = "10.20.30.40"
    last_seen: str = ""
    reads_left: int = 0

    def ask(self, action: str) -> bool:
        """Take an action; ``False`` if the device is in that state or on its way to it."""
        pending, done = _ACTIONS[action]
        if self.status.lower() in (pending, done):
            return False
        self.status, self.reads_left = pending, self.reads_until_contained
        return True

    def read(self) -> dict[str, Any]:
        """The details as of this read; reading is what lets time pass here."""
        for pending, done in _ACTIONS.values():
            if self.status == pending and self.online:
                self.status = done if self.reads_left <= 0 else pending
                self.reads_left -= 1
        return self.details()

    def details(self) -> dict[str, Any]:
        """The details as Falcon writes them."""
        return {
            "device_id": self.device_id,
            "cid": "0" * 31 + "1",
            "hostname": self.hostname,
            "local_ip": self.local_ip,
            "status": self.status,
            "last_seen": self.last_seen,
            "platform_name": "Windows",
            "product_type_desc": self.kind,
            "machine_domain": self.machine_domain,
        }


@dataclass
class FalconLab:
    """The stand-in. Everything may be changed while it runs.

    Attributes:
        client_id: the one API client.
        client_secret: its secret.
        scopes: what the client may do.
        token_seconds: how long a token lives.
        expired_status: the status that answers a worn token; 401 and 403 are both seen.
        empty: how an empty ``resources`` is written.
        conflict_status: the status around the error 409 of a device that is in the wanted state already.
        both_lists: an action's answer carries an error of some other device beside its success.
        unknown_status: the status that answers a details request of which no id is known.
        partial: whether ``hostname:'X'`` matches part of a name.
        actions: the accepted actions, as device id and action.
        logins: how many tokens were given out.
    """

    client_id: str = "lab-client"
    client_secret: str = "lab-client-secret"
    scopes: set[str] = field(default_factory=lambda: {"hosts:read", "hosts:write"})
    token_seconds: float = 1799
    expired_status: int = 401
    empty: Literal["list", "null", "absent"] = "list"
    conflict_status: int = 409
    both_lists: bool = False
    unknown_status: int = 404
    partial: bool = True
    actions: list[tuple[str, str]] = field(default_factory=list)
    logins: int = 0

    def __post_init__(self) -> None:
        self.devices: dict[str, LabDevice] = {}
        self._tokens: dict[str, float] = {}
        self._throttled: tuple[int, float] = (0, 0.0)
        routes = [
            Route("/oauth2/token", self._token, methods=["POST"]),
            Route("/oauth2/revoke", self._revoke, methods=["POST"]),
            Route("/devices/queries/devices/v1", self._query, methods=["GET"]),
            Route("/devices/entities/devices/v2", self._details, methods=["GET", "POST"]),
            Route("/devices/entities/devices-actions/v2", self._action, methods=["POST"]),
        ]
        self.faults = Faults(Starlette(routes=routes), error_body=ERROR)

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    def add_device(
        self,
        hostname: str,
        *,
        device_id: str | None = None,
        kind: str = "Workstation",
        online: bool = True,
        status: str = "normal",
        reads_until_contained: int = 1,
        machine_domain: str = "",
        last_seen: datetime | None = None,
    ) -> LabDevice:
        """A host with an agent. Two devices may share a hostname, as after a re-installation."""
        seen = (last_seen or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = LabDevice(
            device_id=device_id or uuid.uuid4().hex,
            hostname=hostname,
            kind=kind,
            online=online,
            status=status,
            reads_until_contained=reads_until_contained,
            machine_domain=machine_domain,
            last_seen=seen,
        )
        self.devices[made.device_id] = made
        return made

    def device(self, hostname: str) -> LabDevice:
        """The one device of that host, as it is; raises KeyError for none or several."""
        found = [device for device in self.devices.values() if device.hostname.lower() == hostname.lower()]
        if len(found) != 1:
            raise KeyError(hostname)
        return found[0]

    def come_online(self, hostname: str) -> None:
        """The host checks in and takes what waits for it with the reads that follow."""
        self.device(hostname).online = True

    def expire_tokens(self) -> None:
        """Every token given out so far is worn from now on."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def throttle(self, times: int, seconds: float) -> None:
        """Answer the next calls with 429 and the epoch ``seconds`` from now, whole, in ``X-RateLimit-RetryAfter``."""
        self._throttled = (times, seconds)

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if not form.get("client_id") or not form.get("client_secret"):
            return self._refused(400, "client_id and client_secret are required")
        if (form["client_id"], form["client_secret"]) != (self.client_id, self.client_secret):
            return self._refused(403, "access denied, authorization failed")
        token = f"{uuid.uuid4().hex}.{uuid.uuid4().hex}"
        self._tokens[token] = time.monotonic() + self.token_seconds
        self.logins += 1
        body = {"access_token": token, "token_type": "bearer", "expires_in": int(self.token_seconds)}
        return JSONResponse(body, 201, headers={"X-Cs-Region": "us-1", "X-Cs-Traceid": uuid.uuid4().hex})

    async def _revoke(self, request: Request) -> Response:
        pair = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            return self._refused(403, "access denied, authorization failed")
        for token in parse_qs((await request.body()).decode()).get("token", []):
            self._tokens.pop(token, None)
        return self._envelope([])

    async def _query(self, request: Request) -> Response:
        if refusal := self._barred(request, "hosts:read"):
            return refusal
        limit, offset = request.query_params.get("limit", "100"), request.query_params.get("offset", "0")
        if not limit.isdigit() or not 1 <= int(limit) <= 5000 or not offset.isdigit():
            return self._refused(400, "limit must be between 1 and 5000")
        try:
            fql = request.query_params.get("filter", "")
            found = [d.device_id for d in self.devices.values() if matches(fql, d.details(), partial=self.partial)]
        except Unreadable:
            return self._refused(400, "invalid filter")
        start, size = int(offset), int(limit)
        pages = {"pagination": {"offset": start, "limit": size, "total": len(found)}}
        return self._envelope(found[start : start + size], meta=pages)

    async def _details(self, request: Request) -> Response:
        if refusal := self._barred(request, "hosts:read"):
            return refusal
        ids = request.query_params.getlist("ids") if request.method == "GET" else await _ids(request)
        if not ids or len(ids) > 5000:
            return self._refused(400, "between 1 and 5000 ids are required")
        unknown = [{"code": 404, "message": "resource not found", "id": i} for i in ids if i not in self.devices]
        known = [self.devices[i].read() for i in dict.fromkeys(ids) if i in self.devices]
        return self._envelope(known, errors=unknown, status=200 if known else self.unknown_status)

    async def _action(self, request: Request) -> Response:
        if refusal := self._barred(request, "hosts:write"):
            return refusal
        action, ids = request.query_params.get("action_name", ""), await _ids(request)
        if action not in _ACTIONS or not ids:
            return self._refused(400, "invalid action_name or no ids")
        done: list[dict[str, str]] = []
        errors: list[dict[str, Any]] = []
        for device_id in ids:
            device = self.devices.get(device_id)
            if device is None:
                errors.append({"code": 404, "message": f"device {device_id} not found"})
            elif device.ask(action):
                done.append({"id": device_id, "path": "/devices/entities/devices/v1"})
                self.actions.append((device_id, action))
            else:
                errors.append({"code": 409, "message": f"device {device_id} is already in the state {device.status}"})
        status = 202 if done else (self.conflict_status if errors[0]["code"] == 409 else errors[0]["code"])
        if done and self.both_lists:
            errors.append({"code": 404, "message": "another device was not found"})
        return self._envelope(done, errors=errors, status=status)

    def _barred(self, request: Request, scope: str) -> Response | None:
        times, seconds = self._throttled
        if times > 0:
            self._throttled = (times - 1, seconds)
            headers = {"X-RateLimit-RetryAfter": str(round(time.time() + seconds)), "X-RateLimit-Remaining": "0"}
            return self._refused(429, "API rate limit exceeded.", headers=headers)
        lasts_until = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if lasts_until is None:
            return self._refused(401, "access denied, invalid bearer token")
        if time.monotonic() >= lasts_until:
            return self._refused(self.expired_status, "access denied, token has expired")
        if scope not in self.scopes:
            return self._refused(403, "access denied, authorization failed")
        if request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            return self._refused(400, "Content-Type must be application/json")
        return None

    def _refused(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> Response:
        return self._envelope([], errors=[{"code": status, "message": message}], status=status, headers=headers)

    def _envelope(
        self,
        resources: list[Any],
        *,
        errors: Iterable[dict[str, Any]] = (),
        status: int = 200,
        meta: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        about = {"query_time": 0.01, "powered_by": "device-api", "trace_id": str(uuid.uuid4()), **(meta or {})}
        body: dict[str, Any] = {"meta": about, "resources": resources, "errors": list(errors)}
        if not resources and self.empty == "null":
            body["resources"] = None
        if not resources and self.empty == "absent":
            del body["resources"]
        return JSONResponse(body, status, headers={"X-RateLimit-Limit": "6000", **(headers or {})})


async def _ids(request: Request) -> list[str]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return []
    ids = body.get("ids") if isinstance(body, dict) else None
    return [str(device_id) for device_id in ids] if isinstance(ids, list) else []
