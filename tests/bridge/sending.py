"""What tests of the bridge's way in share: settings, a bridge on a real socket, a sender, a Temporal in memory."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from bridge.intake import intake_routes
from lab.serving import Served
from settings import Settings

KEY, OLD_KEY, TOKEN, OLD_TOKEN = (
    f"{name} of the tests, long" for name in ("a key", "the old key", "token", "old token")
)
SECRETS = {"hmac_key": KEY, "previous_hmac_key": OLD_KEY, "token": TOKEN, "previous_token": OLD_TOKEN}
VENDOR = {"url": "https://siem.example.com/Snypr", "username": "svc", "password": "x" * 12, "tenant": "acme"}


def settings(**bridge: Any) -> Settings:
    given: dict[str, Any] = {**SECRETS, **bridge}
    tier = {"name": "a", "recipients": ["soc@example.com"], "analysts": ["ann@example.com"], "wait": "15m"}
    return Settings.model_validate(
        {
            "securonix": VENDOR,
            "directory": {"servers": ["ldaps://dc"], "bind_user": "svc@x", "password": "x", "base_dn": "DC=x"},
            "endpoint": {"crowdstrike": {"base_url": "https://x.example", "client_id": "i", "client_secret": "x"}},
            "ticketing": {"servicenow": {"url": "https://x.example", "username": "svc", "password": "x"}},
            "mail": {"host": "mail.example.com", "sender": "holdpoint@example.com"},
            "tiers": [tier],
            "bridge": {key: value for key, value in given.items() if value is not None},
        }
    )


@dataclass
class Cases:
    """Takes alerts as Temporal's client does, and fails as it is told to."""

    started: list[dict[str, Any]] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    namespace: str = "default"
    under_way: int = 0
    most_at_once: int = 0
    asked: int = 0
    signals: list[int] = field(default_factory=list)
    down: bool = False

    async def start_workflow(
        self,
        _: str,
        given: dict[str, Any],
        *,
        id: str,  # noqa: A002
        start_signal: str,
        start_signal_args: list[Any],
        **__: Any,
    ) -> Any:
        alerts = start_signal_args[0] if start_signal == "alerts" else start_signal_args
        assert alerts[0]["id"] == given["alert"]["id"]
        self.signals.append(len(alerts))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            if self.gate:
                await self.gate.wait()
            await asyncio.sleep(0)
            if self.down:
                raise RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
            for alert in alerts:
                if alert["id"] in self.failing:
                    raise self.failing[alert["id"]]
            joined = any(other["case"] == id for other in self.started)
            self.started += [{"case": id, **alert} for alert in alerts]
        finally:
            self.under_way -= 1
        return SimpleNamespace(
            result_run_id=f"run-of-{id}", _start_workflow_response=SimpleNamespace(started=not joined)
        )

    @property
    def workflow_service(self) -> Any:
        return self

    async def describe_namespace(self, _: Any, *, timeout: Any) -> None:
        self.asked += 1
        if self.gate:
            await self.gate.wait()
        if self.down:
            raise RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")


def signature(body: bytes, *, key: str = KEY, at: float | None = None) -> dict[str, str]:
    """The headers of a signed request, made here by the documentation alone."""
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(key.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Holdpoint-Timestamp": stamp, "X-Holdpoint-Signature": f"v1={mac}"}


@dataclass
class Sender:
    """Sends to one bridge."""

    url: str
    http: httpx.AsyncClient

    async def post(self, body: Any, kind: str | None = "application/json", **headers: str) -> httpx.Response:
        """With the token, unless ``headers`` say otherwise; ``_`` stands for the dash in their names."""
        told = {"Authorization": f"Bearer {TOKEN}"} if not headers else {}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        if kind is not None:
            told["Content-Type"] = kind
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return await self.http.post(f"{self.url}/v1/alerts", content=content, headers=told)

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(self.url + path)


@asynccontextmanager
async def bridge(
    client: Cases | Client, *, queue: str = "q", within: float = 5.0, **changes: Any
) -> AsyncIterator[Sender]:
    """A bridge on a real socket before that client."""
    routes = intake_routes(cast("Client", client), settings(**changes), task_queue=queue, start_within=within)
    async with Served(Starlette(routes=routes)) as served, httpx.AsyncClient(timeout=30) as http:
        yield Sender(served.url, http)
