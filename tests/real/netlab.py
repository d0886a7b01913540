"""Five hosts and a router in network namespaces: real packets, no link to this machine's network or to the outside.

A thread that enters a namespace opens its sockets there, and they stay there: so a test speaks from any of the hosts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import pytest

T = TypeVar("T")

WEB, FIN, VICTIM, MGMT = "198.51.100.2", "198.51.100.6", "198.51.100.10", "198.51.100.14"
ADDRESSES = {"web": WEB, "fin": FIN, "victim": VICTIM, "mgmt": MGMT}
"""Each host's address, each in a network of its own behind the router."""

ROUTER = "router"
_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)


class NetLab:
    """The namespaces, while it is entered. ``prefix`` keeps the names apart from everybody else's."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __enter__(self) -> Self:
        try:
            self._run("ip", "netns", "add", self.name(ROUTER))
        except RuntimeError as error:
            pytest.skip(f"network namespaces are not permitted here: {error}")
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in (*ADDRESSES, ROUTER):
            if (_NAMESPACES / self.name(host)).exists():
                self._run("ip", "netns", "del", self.name(host))

    def name(self, host: str) -> str:
        """The namespace that a host is."""
        return f"{self._prefix}-{host}"

    def within(self, host: str, *command: str | Path) -> list[str]:
        """The command that runs ``command`` on that host."""
        return ["ip", "netns", "exec", self.name(host), *map(str, command)]

    def run(self, host: str, *command: str | Path, given: str = "") -> str:
        """Run a command on that host to its end; returns what it prints. Raises RuntimeError with its complaint."""
        return self._run(*self.within(host, *command), given=given)

    def on(self, host: str, act: Callable[[], T]) -> T:
        """What ``act`` returns or raises, called on that host."""
        done: list[T] = []
        failed: list[Exception] = []

        def enter() -> None:
            try:
                _enter(_NAMESPACES / self.name(host))
                done.append(act())
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def dial(self, host: str, address: str, port: int, *, within: float = 0.4) -> socket.socket:
        """A connection from that host, which waits at most ``within`` seconds for anything. Raises OSError."""
        return self.on(host, lambda: socket.create_connection((address, port), within))

    def reaches(self, host: str, address: str, port: int) -> bool:
        """Whether a new connection from that host comes about."""
        try:
            self.dial(host, address, port).close()
        except OSError:
            return False
        return True

    def _build(self) -> None:
        self._run("ip", "-n", self.name(ROUTER), "link", "set", "lo", "up")
        self.run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for host, address in ADDRESSES.items():
            here, there, link = self.name(host), self.name(ROUTER), f"to-{host}"
            gateway = address.rpartition(".")[0] + f".{int(address.rpartition('.')[2]) - 1}"
            for command in (
                f"ip netns add {here}",
                f"ip -n {here} link set lo up",
                f"ip -n {there} link add {link} type veth peer name eth0 netns {here}",
                f"ip -n {there} addr add {gateway}/30 dev {link}",
                f"ip -n {there} link set {link} up",
                f"ip -n {here} addr add {address}/30 dev eth0",
                f"ip -n {here} link set eth0 up",
                f"ip -n {here} route add default via {gateway}",
            ):
                self._run(*command.split())

    @staticmethod
    def _run(*command: str, given: str = "") -> str:
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=30)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(command)}: {ran.stderr.strip() or ran.returncode}")
        return ran.stdout


def _enter(namespace: Path) -> None:
    """Let the calling thread be in that network namespace from now on."""
    with namespace.open("rb") as file:
        if _LIBC.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{namespace} cannot be entered")


class _Served(ABC):
    """What takes connections on a listening socket, each in a thread of its own, until it is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """End it and every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._open.add(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._speak(connection)
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    @abstractmethod
    def _speak(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""


class Echo(_Served):
    """Sends back whatever comes, on a host's address."""

    def __init__(self, lab: NetLab, host: str, port: int) -> None:
        super().__init__(lab.on(host, lambda: socket.create_server((ADDRESSES[host], port))))

    def _speak(self, connection: socket.socket) -> None:
        while data := connection.recv(4096):
            connection.sendall(data)


class Relay(_Served):
    """A port on this machine's loopback that leads to an address as a host sees it."""

    def __init__(self, lab: NetLab, host: str, address: str, port: int) -> None:
        self._where = (lab, host, address, port)
        super().__init__(socket.create_server(("127.0.0.1", 0)))

    def _speak(self, connection: socket.socket) -> None:
        lab, host, address, port = self._where
        with lab.dial(host, address, port, within=5.0) as inner:
            inner.settimeout(None)
            back = threading.Thread(target=_pump, args=(inner, connection))
            back.start()
            _pump(connection, inner)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Bytes from one to the other until one ends; then both end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def unique() -> str:
    """A prefix of this run's own."""
    return f"hp{os.getpid()}{secrets.token_hex(2)}"


def hears(connection: socket.socket) -> bool:
    """Whether anything comes back from an echo over a connection in the time that it waits."""
    try:
        connection.sendall(b"ping")
        return bool(connection.recv(4096))
    except OSError:
        return False
