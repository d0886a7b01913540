"""A pulse for every step: Temporal learns within seconds that a worker died, and gives its steps to another.

Without it, a step of a killed worker is tried again only when its whole attempt has timed out, and a containment waits.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

KEEPS_ITS_OWN = frozenset({"notification.notify"})
"""Steps that keep something in their heartbeat; a pulse would wipe it out."""


class Pulse(Interceptor):
    """Beats for each step that has a heartbeat timeout, whether it runs on the event loop or in a thread."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Put the pulse around a step."""
        return _Beating(next)


class _Beating(ActivityInboundInterceptor):
    _outbound: ActivityOutboundInterceptor

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = outbound
        super().init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        if info.heartbeat_timeout is None or info.activity_type in KEEPS_ITS_OWN:
            return await super().execute_activity(input)
        beating = asyncio.create_task(self._beat(info.heartbeat_timeout / 3))
        try:
            return await super().execute_activity(input)
        finally:
            beating.cancel()

    async def _beat(self, every: timedelta) -> None:
        # Not activity.heartbeat: for a step in a thread that one waits for the event loop, which would wait for itself.
        # Not at once: Temporal knows that the step has begun, most are over sooner, and each beat is a call of its own.
        while True:
            await asyncio.sleep(every.total_seconds())
            self._outbound.heartbeat()
