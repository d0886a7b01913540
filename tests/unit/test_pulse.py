"""A step beats while it lasts, and one that is over at once does not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.pulse import Pulse

Step = Callable[[], Awaitable[str]]


class _Runs:
    """What stands behind the pulse: the step itself, and where its beats go."""

    def __init__(self, step: Step, beats: list[bool], beaten: asyncio.Event) -> None:
        self._step, self._beats, self._beaten = step, beats, beaten

    def init(self, outbound: Any) -> None:
        del outbound

    async def execute_activity(self, _: Any) -> str:
        return await self._step()

    def heartbeat(self, *_: Any) -> None:
        self._beats.append(True)
        self._beaten.set()


async def _run(step: Step, beaten: asyncio.Event, *, timeout: timedelta | None, kind: str = "siem.locate_host") -> int:
    beats: list[bool] = []
    runs: Any = _Runs(step, beats, beaten)
    inbound = Pulse().intercept_activity(runs)
    inbound.init(runs)
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(), heartbeat_timeout=timeout, activity_type=kind
    )

    async def execute() -> str:
        told: str = await inbound.execute_activity(None)  # type: ignore[arg-type]
        return told

    assert await environment.run(execute) == "done"
    await asyncio.sleep(0)
    return len(beats)


async def test_a_long_step_beats_again_and_again_until_it_ends() -> None:
    beaten = asyncio.Event()

    async def step() -> str:
        for _ in range(3):
            beaten.clear()
            await asyncio.wait_for(beaten.wait(), 10)
        return "done"

    assert await _run(step, beaten, timeout=timedelta(milliseconds=30)) >= 3


async def test_a_step_that_is_over_at_once_costs_no_beat() -> None:
    async def step() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await _run(step, asyncio.Event(), timeout=timedelta(minutes=1)) == 0


async def test_a_step_that_keeps_its_own_or_has_no_timeout_is_left_alone() -> None:
    async def step() -> str:
        await asyncio.sleep(0.02)
        return "done"

    quick = timedelta(milliseconds=3)
    assert await _run(step, asyncio.Event(), timeout=quick, kind="notification.notify") == 0
    assert await _run(step, asyncio.Event(), timeout=None) == 0
