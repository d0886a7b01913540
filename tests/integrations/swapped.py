"""One server for a module of tests, and a fresh stand-in behind it for each test.

To start and stop a server a test takes most of the test's time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from lab.serving import Served


class StandIn(Protocol):
    """What speaks a vendor's protocol as an ASGI application."""

    @property
    def app(self) -> Any: ...


Lab = TypeVar("Lab", bound=StandIn)


class Current(Generic[Lab]):
    """Serves whichever stand-in the test at hand has made."""

    def __init__(self, make: Callable[[], Lab]) -> None:
        self._make = make
        self.lab = make()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.lab.app(scope, receive, send)

    def renewed(self) -> Lab:
        self.lab = self._make()
        return self.lab


@asynccontextmanager
async def current(make: Callable[[], Lab]) -> AsyncIterator[Current[Lab]]:
    """The server, with a stand-in that ``renewed`` replaces."""
    app = Current(make)
    async with Served(app) as served:
        app.url = served.url
        yield app
