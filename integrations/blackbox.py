"""A Prometheus blackbox exporter as a witness: does a host answer, seen from where the exporter stands?

``GET <url>?target=…&module=…`` probes while one waits; ``probe_success`` in the answer is 1 or 0. (The project's
README and CONFIGURATION pages.) Without a time from the one who asks, a probe of a module that names none itself
waits for two minutes.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from integrations.errors import BadAnswer, IntegrationError, Misconfigured
from integrations.http import TOTAL_SECONDS, VendorHttp, quoted
from integrations.interfaces import Check

VENDOR = "blackbox exporter"

PROBE_SECONDS = 3.0
"""How long one probe may wait for the host; the exporter keeps half a second of it for itself."""

TRIES = 2
"""How often a host is probed before it counts as silent: one lost packet is no proof."""

_SUCCESS = re.compile(r"^probe_success(?:\{[^}]*\})?[ \t]+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Probe:
    """A Prometheus blackbox exporter that stands where the data came from.

    Args:
        url: its probe address (``https://web01.corp.example:9115/probe``).
        module: the module of its configuration.
        port: the port that is probed, for a TCP module; ``None`` for ICMP.
        control: a target that it reaches in any case. A bare address gets ``port`` as every other one does.
    """

    url: str
    module: str
    port: int | None = None
    control: str | None = None


@dataclass(frozen=True)
class Sight:
    """What the probe saw: the host answered, did not, or (``None``) nothing can be said, and why."""

    reached: bool | None
    why: str = ""


class Blackbox:
    """Asks one exporter.

    Args:
        probe: which, and what for.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Raises:
        Misconfigured: the address or ``ca_file`` cannot be used.
    """

    def __init__(self, probe: Probe, *, ca_file: Path | None = None, total_seconds: float = TOTAL_SECONDS) -> None:
        try:
            parts = urlsplit(probe.url)
        except ValueError:
            raise Misconfigured(f"{VENDOR}: probe_url is not an address") from None
        self._probe = probe
        self._path = parts.path.rstrip("/") or "/probe"
        self._http = VendorHttp(
            VENDOR, f"{parts.scheme}://{parts.netloc}", ca_file=ca_file, total_seconds=total_seconds
        )

    async def look(self, ip: str) -> Sight:
        """Whether the host answers. That it does not is believed only while the control target answers.

        Raises nothing of ``errors``: a probe that fails says nothing, and that is an answer too.
        """
        try:
            if await self._answers(_target(ip, self._probe.port)):
                return Sight(reached=True)
            if self._control and not await self._answers(self._control):
                return Sight(None, "the probe's control target does not answer: the probe proves nothing")
        except IntegrationError as error:
            return Sight(None, f"the probe does not work: {error}")
        return Sight(reached=False)

    async def check(self) -> list[Check]:
        """Read-only: reachable, module known, control target answers. Raises nothing of ``errors``."""
        name = f"{VENDOR}: probe"
        control = self._control
        try:
            # Without a control target, the exporter's own machine will do to see that the module is there.
            answered = await self._answers(control or _target("127.0.0.1", self._probe.port))
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        checks = [Check(name=name, ok=True, detail=f"it answers, and knows the module {quoted(self._probe.module)}")]
        name = f"{VENDOR}: control target"
        if control is None:
            detail = "not checked: probe_control names none, so a probe that reaches nobody passes for proof"
            return [*checks, Check(name=name, ok=True, detail=detail)]
        detail = f"{quoted(control)} {'answers' if answered else 'does not answer: no quarantine will be verified'}"
        return [*checks, Check(name=name, ok=answered, detail=detail)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def _control(self) -> str | None:
        """The control target as the module wants it."""
        named = self._probe.control
        if not named:
            return None
        try:
            return _target(str(ipaddress.ip_address(named.strip())), self._probe.port)
        except ValueError:
            return named.strip()

    async def _answers(self, target: str) -> bool:
        for _ in range(TRIES):
            if await self._succeeds(target):
                return True
        return False

    async def _succeeds(self, target: str) -> bool:
        """One probe. The one place where the exporter's failures are told apart.

        Raises:
            Misconfigured: there is no such module, or the address is not a probe's. BadAnswer: no ``probe_success``.
            Unreachable, Busy, Refused: see there.
        """
        answer = await self._http.send(
            "GET",
            self._path,
            params={"target": target, "module": self._probe.module},
            headers={"X-Prometheus-Scrape-Timeout-Seconds": f"{PROBE_SECONDS:g}"},
        )
        if answer.status in (400, 404):
            said = quoted(answer.text) if not answer.is_html else "a web page"
            raise Misconfigured(f"{VENDOR} answered {answer.status}: check probe_url and probe_module ({said})")
        answer.raise_for_status()
        found = _SUCCESS.search(answer.text.replace("\r", ""))
        try:
            return float(found[1]) == 1 if found else _missing(answer.status)
        except ValueError:
            return _missing(answer.status)


def _missing(status: int) -> bool:
    raise BadAnswer(f"{VENDOR} answered {status} without probe_success")


def _target(ip: str, port: int | None) -> str:
    if port is None:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
