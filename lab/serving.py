"""Serve an ASGI application on loopback inside the running event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import uvicorn


class _QuietServer(uvicorn.Server):
    """A server beside others in one process: the signals belong to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served:
    """An application on 127.0.0.1. With port 0 the system picks one; ``port`` and ``url`` tell which, once started.

    ``certificate`` and ``key`` are PEM files; with them it speaks https.
    """

    def __init__(self, app: Any, port: int = 0, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self._app = app
        self._certificate = certificate
        self._key = key
        self.port = port
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The base address, without a trailing slash."""
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Bind and serve; returns when requests are taken. Raises OSError when the port is taken."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError:
            listener.close()
            raise
        # Connections that arrive before the server accepts them wait in the backlog, so listening is being ready.
        listener.listen(128)
        listener.setblocking(False)  # noqa: FBT003 - the socket API takes it by position
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            interface="asgi3",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate,
            ssl_keyfile=self._key,
        )
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Stop serving and close every connection; a second call does nothing."""
        server, task = self._server, self._task
        self._server = self._task = None
        if server is not None and task is not None:
            server.should_exit = True
            await task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
