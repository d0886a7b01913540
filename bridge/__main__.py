"""The HTTP process: the desk, and the way in for alerts. Run it with ``python -m bridge``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

import logs
import telemetry
from bridge.app import build
from connection import TemporalUnreachable, connect_temporal
from settings import Settings, SettingsRefused, load_settings
from settings_bridge import BridgeSettings

DRAIN: Final = 15
"""Seconds that a request under way may take after SIGTERM: an answer that was sent is not lost because of a deploy."""

SECRETS: Final = ("desk", "bridge")
"""The sections whose secrets this process needs: it connects to no vendor."""

log = logging.getLogger("holdpoint.bridge")


class PortRefused(Exception):
    """The address cannot be listened on; the message says why."""


class Server(uvicorn.Server):
    """A server that leaves the signals to us, so that whoever drains it gets an exit code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        SettingsRefused: the desk or the certificate's files are not as they must be.
        TemporalUnreachable: there is no server.
        PortRefused: the address is taken, or not ours.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect_temporal(lasting=True)
    config = configured(build(client, settings), settings.bridge)
    with listening(settings.bridge) as sock:
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        host, port = sock.getsockname()[:2]
        log.info("bridge ready on %s port %d, namespace %s", host, port, client.namespace)
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        log.info("draining for at most %d s", DRAIN)
        stopping.cancel()
        server.should_exit = True
        await serving


def configured(app: object, bridge: BridgeSettings) -> uvicorn.Config:
    """How it is served. No log of requests: their addresses hold links. Raises SettingsRefused."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bridge.behind_proxy,
        forwarded_allow_ips="*" if bridge.behind_proxy else "",
        ssl_certfile=bridge.certificate,
        ssl_keyfile=bridge.private_key,
        timeout_graceful_shutdown=DRAIN,
        ws="none",
    )
    try:
        config.load()
    except OSError as error:
        fault = f"bridge.certificate, bridge.private_key: {error.strerror or 'are not a pair of PEM files'}"
        raise SettingsRefused([fault]) from None
    return config


@contextlib.contextmanager
def listening(bridge: BridgeSettings) -> Iterator[socket.socket]:
    """A socket that listens as the settings say. Raises PortRefused."""
    try:
        found = socket.getaddrinfo(bridge.host, bridge.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        sock = socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        told = f"bridge: cannot listen on {bridge.host} port {bridge.port}: {error.strerror}"
        raise PortRefused(told) from None
    with sock:
        yield sock


def main() -> int:
    """Run the bridge; returns the exit code: 0 drained, 1 no Temporal or no port, 2 bad settings."""
    written = logs.set_up()
    try:
        asyncio.run(run(load_settings(secrets_of=SECRETS)))
    except SettingsRefused as error:
        for fault in error.faults:
            log.error("settings: %s", fault)  # noqa: TRY400 - the fault is all that helps
        return 2
    except (TemporalUnreachable, PortRefused) as error:
        log.error("%s", error)  # noqa: TRY400 - the message is all that helps
        return 1
    finally:
        telemetry.finish()
        written()
    return 0


if __name__ == "__main__":
    code = main()
    # The SDK's threads can crash an interpreter that tears itself down, and with it the code; all is written by now.
    os._exit(code)
