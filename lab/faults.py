"""Make a stand-in fail on demand, and keep what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

HTML = b"<!doctype html><html><head><title>Service page</title></head><body><p>Please sign in.</p></body></html>"
ERROR = b'{"error": true, "errorMessage": "The request could not be processed."}'
_LATE = ("slow", "drip", "truncated", "cut")
_PLAIN = ("empty", "reset", "error200")


@dataclass
class Fault:
    """One planned failure; ``times`` counts down with each request that it meets."""

    kind: str
    match: str
    times: int
    seconds: float
    after_effect: bool
    body: bytes | None


@dataclass
class _Reply:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Faults:
    """An ASGI application around another one.

    ``requests`` lists every request as method and path with query, as they came over the wire; the ones that met a
    fault too.
    """

    def __init__(self, app: App, *, error_body: bytes = ERROR) -> None:
        self._app = app
        self._error_body = error_body
        self._faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []

    def add(
        self,
        kind: str,
        *,
        match: str = "",
        times: int = 1,
        seconds: float = 0,
        after_effect: bool = False,
        body: bytes | None = None,
    ) -> Fault:
        """Plan a failure for the next ``times`` requests whose ``METHOD path?query`` contains ``match``.

        The first fault that was added and still has times left is met first. ``after_effect`` lets the application do
        its work and then spoils the answer. ``body`` replaces the fault's own body.

        Args:
            kind: a status code (``"429"``; ``seconds`` is then its ``Retry-After``), ``html`` and a status code
                (``"html503"``, ``"html200"``), ``error200`` (the vendor's error at 200), ``empty`` (200 without a
                body), ``truncated`` (half of the true body, well framed), ``cut`` (the connection ends half-way through
                the true body), ``slow`` (the true answer after ``seconds``), ``drip`` (the true answer, ``seconds``
                between its bytes), ``reset`` (the connection ends without an answer).
            match: looked for in the text as sent and in its percent-decoded form.
            times: how many requests meet it.
            seconds: see ``kind``.
            after_effect: whether the request has its effect.
            body: the body to send instead.
        """
        if kind not in (*_LATE, *_PLAIN) and not kind.removeprefix("html").isdigit():
            raise ValueError(f"there is no fault {kind!r}")
        fault = Fault(kind, match, times, seconds, after_effect, body)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget the failures that are still planned."""
        self._faults.clear()

    def count(self, match: str) -> int:
        """How many requests came whose ``METHOD path?query`` contains ``match``."""
        return sum(_matches(match, f"{method} {path}") for method, path in self.requests)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, or fail it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"]
        query = scope.get("query_string", b"").decode("ascii", "replace")
        target = f"{path}?{query}" if query else path
        self.requests.append((scope["method"], target))
        fault = self._next(f"{scope['method']} {target}")
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.kind in _LATE:
            await self._spoil(fault, scope, receive, send)
        else:
            if fault.after_effect:
                await self._capture(scope, receive)
            await self._fail(fault, receive, send)

    def _next(self, target: str) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and _matches(fault.match, target):
                fault.times -= 1
                return fault
        return None

    async def _capture(self, scope: Any, receive: Receive) -> _Reply:
        reply = _Reply(500, [], b"")

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(k, v) for k, v in message.get("headers", ()) if k.lower() != b"content-length"]
            elif message["type"] == "http.response.body":
                reply.body += message.get("body", b"")

        await self._app(scope, receive, keep)
        return reply

    async def _fail(self, fault: Fault, receive: Receive, send: Send) -> None:
        kind = fault.kind
        if kind == "reset":
            await _abort(receive, send)
        elif kind == "empty":
            await _reply(send, _Reply(200, [(b"content-type", b"text/plain")], b""))
        elif kind == "error200":
            body = self._error_body if fault.body is None else fault.body
            await _reply(send, _Reply(200, [(b"content-type", b"text/plain")], body))
        elif kind.startswith("html"):
            body = HTML if fault.body is None else fault.body
            await _reply(send, _Reply(int(kind.removeprefix("html")), [(b"content-type", b"text/html")], body))
        else:
            headers = [(b"content-type", b"application/json")]
            if fault.seconds:
                headers.append((b"retry-after", f"{fault.seconds:g}".encode()))
            await _reply(send, _Reply(int(kind), headers, self._error_body if fault.body is None else fault.body))

    async def _spoil(self, fault: Fault, scope: Any, receive: Receive, send: Send) -> None:
        if fault.kind == "slow" and not fault.after_effect:
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        reply = await self._capture(scope, receive)
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await _reply(send, reply)
        elif fault.kind == "truncated":
            await _reply(send, _Reply(reply.status, reply.headers, reply.body[: len(reply.body) // 2]))
        elif fault.kind == "drip":
            await _start(send, reply, len(reply.body))
            for byte in reply.body:
                await send({"type": "http.response.body", "body": bytes((byte,)), "more_body": True})
                await asyncio.sleep(fault.seconds)
            await send({"type": "http.response.body", "body": b""})
        else:
            await _start(send, reply, len(reply.body) + 1)
            await send({"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True})
            await _abort(receive, send, gracefully=True)


def _matches(match: str, target: str) -> bool:
    return match in target or match in unquote_plus(target)


async def _start(send: Send, reply: _Reply, length: int) -> None:
    headers = [*reply.headers, (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _reply(send: Send, reply: _Reply) -> None:
    await _start(send, reply, len(reply.body))
    await send({"type": "http.response.body", "body": reply.body})


async def _abort(receive: Receive, send: Send, *, gracefully: bool = False) -> None:
    """End the connection under the server: ASGI itself has no word for that, so the transport is taken from it."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    if gracefully:
        transport.close()
    else:
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
