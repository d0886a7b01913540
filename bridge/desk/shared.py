"""One look for all who ask at the same time: however many pages are open, Temporal is asked once in a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Look(Generic[T]):
    task: asyncio.Future[T]
    until: float | None = None


class Shared(Generic[T]):
    """Keeps what was looked up for ``last`` seconds, a failure too, and of at most ``most`` things."""

    def __init__(self, last: float, most: int) -> None:
        self._last = last
        self._most = most
        self._looks: OrderedDict[object, _Look[T]] = OrderedDict()

    async def get(self, key: object, look: Callable[[], Awaitable[T]]) -> T:
        """What ``look`` finds, or found a moment ago. Raises what it raised."""
        known = self._looks.get(key)
        if known is None or (known.until is not None and known.until <= time.monotonic()):
            known = self._looks[key] = _Look(asyncio.ensure_future(look()))
            known.task.add_done_callback(lambda _: self._ended(known))
            self._looks.move_to_end(key)
            while len(self._looks) > self._most:
                self._looks.popitem(last=False)
        # Whoever closes their page does not end the look of the others.
        return await asyncio.shield(known.task)

    def forget(self, key: object) -> None:
        """Look again next time."""
        self._looks.pop(key, None)

    def _ended(self, look: _Look[T]) -> None:
        look.until = time.monotonic() + self._last
        if not look.task.cancelled():
            look.task.exception()
