"""Whether the process lives, and whether it can do its work. Both say one word to anybody, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from bridge.answers import Health

WITHIN = 2.0
"""Seconds that Temporal may take to answer."""

FRESH = 1.5
"""Seconds that an answer is good for: probes, however many, ask Temporal once in that time."""


def health_routes(client: Client) -> list[Route]:
    """``GET /healthz``: the process lives. ``GET /readyz``: Temporal answers for our namespace."""
    return [
        Route("/healthz", _alive, methods=["GET"]),
        Route("/readyz", Readiness(client).answer, methods=["GET"]),
    ]


async def _alive(_: Request) -> Response:
    return _told(Health(status="alive"))


class Readiness:
    """Asks Temporal, one question at a time, and remembers the answer for a moment."""

    def __init__(self, client: Client, *, within: float = WITHIN, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._within, self._clock = client, within, clock
        self._asking = asyncio.Lock()
        self._ready = False
        self._until = float("-inf")

    async def answer(self, _: Request) -> Response:
        """200 and ``ready``, or 503 and ``not ready``."""
        async with self._asking:
            if self._clock() >= self._until:
                self._ready = await self._asked()
                self._until = self._clock() + FRESH
        return _told(Health(status="ready"), 200) if self._ready else _told(Health(status="not ready"), 503)

    async def _asked(self) -> bool:
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        try:
            async with asyncio.timeout(self._within):
                await self._client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=self._within))
        except (RPCError, TimeoutError):
            return False
        return True


def _told(health: Health, status: int = 200) -> Response:
    return JSONResponse(health.model_dump(), status_code=status, headers={"Cache-Control": "no-store"})
