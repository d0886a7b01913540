"""What one sender may take of the bridge: bytes, time, alerts a second; and whose alert goes first to Temporal."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from starlette.requests import ClientDisconnect, Request

_LINGER = 2.0
"""Seconds that what is left of a refused body is waited for, so that its sender reads the answer and no broken pipe."""


class TooLarge(Exception):
    """The body is larger than it may be."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class TooBusy(Exception):
    """So many bodies are under way that there is no room for this one."""


class Rates:
    """A token bucket each for many names: ``rate`` a second on the long run, ``burst`` at once.

    It remembers the ``most`` names that came last; one that was forgotten starts with a full bucket.
    """

    def __init__(self, rate: float, burst: float, *, most: int = 4096, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, amount: float = 1) -> float:
        """Take ``amount`` and return 0, or take nothing and return the seconds until there is enough."""
        now = self._clock()
        level, at = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        wait = max(0.0, (min(amount, self._burst) - level) / self._rate)
        self._levels[name] = (level if wait else level - amount, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait


def seconds(wait: float) -> str:
    """A wait as ``Retry-After`` tells it: whole seconds, at least one."""
    return str(max(1, math.ceil(wait)))


class Bodies:
    """Reads bodies of at most ``limit`` bytes within ``within`` seconds, holding ``room`` bytes of them all at most."""

    def __init__(self, limit: int, within: float, *, room: int = 64 * 1024 * 1024) -> None:
        self._limit, self._within, self._room = limit, within, max(room, limit)

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its room is free again when the block ends.

        Raises:
            TooLarge: it is, or says that it will be. TooSlow: it did not arrive in time.
            TooBusy: there is no room. ClientDisconnect: the sender went away.
        """
        pieces: list[bytes] = []
        try:
            await self._read(request, pieces)
            yield b"".join(pieces)
        finally:
            self._room += sum(map(len, pieces))

    async def _read(self, request: Request, pieces: list[bytes]) -> None:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            raise TooLarge
        held = 0
        try:
            async with asyncio.timeout(self._within):
                async for piece in request.stream():
                    held += len(piece)
                    if held > self._limit:
                        raise TooLarge
                    if len(piece) > self._room:
                        raise TooBusy
                    self._room -= len(piece)
                    pieces.append(piece)
        except TimeoutError:
            raise TooSlow from None

    async def pass_over(self, request: Request) -> None:
        """Let what is left of a refused body pass by unread: no more than ``limit`` bytes, and not for long."""
        passed = 0
        try:
            async with asyncio.timeout(_LINGER):
                async for piece in request.stream():
                    passed += len(piece)
                    if passed > self._limit:
                        return
        except (TimeoutError, ClientDisconnect, RuntimeError):
            return  # RuntimeError: it was read to its end before


class Turns:
    """Lets ``at_once`` through at a time, and of those who wait the most urgent first."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    @asynccontextmanager
    async def turn(self, urgency: int) -> AsyncIterator[None]:
        """Wait for a turn. The higher ``urgency`` is, the sooner; among equals who came first is first."""
        await self._wait(urgency)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, urgency: int) -> None:
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-urgency, next(self._order), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # the turn came together with the cancellation
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1
