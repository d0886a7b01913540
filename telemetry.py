"""Traces and metrics by the standard ``OTEL_*`` variables. Off by default, and then nothing of OpenTelemetry is loaded.

Traces are on when ``OTEL_TRACES_EXPORTER`` is ``otlp``, or when it is not set and ``OTEL_EXPORTER_OTLP_ENDPOINT`` is;
metrics likewise. ``OTEL_SDK_DISABLED=true`` switches both off. OTLP is spoken over HTTP (``http/protobuf``) only.
What is exported, and what never is, tells ``docs/telemetry.md``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from temporalio.client import Plugin
from temporalio.runtime import LoggingConfig, LoggingFormat, Runtime, TelemetryConfig, TelemetryFilter

if TYPE_CHECKING:
    from otlp import Exporting

PROTOCOL = "http/protobuf"
FLUSH = timedelta(seconds=5)
"""How long the last spans and metrics may take at the end of a process; what is not out by then is lost."""

log = logging.getLogger("holdpoint.telemetry")


@dataclass(frozen=True)
class Wanted:
    """What the environment asks for. ``faults`` tells what was asked for and is not done: it never stops a case."""

    traces: bool = False
    metrics: bool = False
    faults: tuple[str, ...] = ()


def wanted(environment: Mapping[str, str]) -> Wanted:
    """Read the ``OTEL_*`` variables (OpenTelemetry specification, "Environment Variable Specification")."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Wanted()
    faults: list[str] = []
    traces = _exported("TRACES", environment, faults)
    metrics = _exported("METRICS", environment, faults)
    return Wanted(traces, metrics, tuple(dict.fromkeys(faults)))


def _exported(signal: str, environment: Mapping[str, str], faults: list[str]) -> bool:
    def told(*names: str) -> tuple[str, str]:
        return next(((n, environment[n].strip()) for n in names if environment.get(n, "").strip()), ("", ""))

    chooser, choice = told(f"OTEL_{signal}_EXPORTER")
    _, endpoint = told(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = {name.strip().lower() for name in choice.split(",") if name.strip()}
    unknown = sorted(exporters - {"otlp", "none"})
    if unknown:
        faults.append(f"{chooser}: {', '.join(unknown)} is not known here; otlp and none are")
    if "otlp" not in exporters and (exporters or not endpoint):
        return False
    name, protocol = told(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol.lower() != PROTOCOL:
        faults.append(f"{name}: {protocol} is not spoken here, only {PROTOCOL}; no {signal.lower()} are exported")
        return False
    return True


def plugins() -> Sequence[Plugin]:
    """The plugin that carries a trace through Temporal; none if no traces are wanted. For the client alone.

    The worker takes it from its client.
    """
    exporting = _exporting()
    return exporting.plugins if exporting else ()


def runtime(*, lasting: bool) -> Runtime:
    """Temporal's runtime for this process.

    In a process that lasts (a worker) its metrics are exported and the workflows' and activities' with them, if metrics
    are wanted, and its core writes warnings to standard output: as JSON, or plainly on a terminal. A command that is
    over in a second leaves neither; what it prints is for programs to read.
    """
    exporting = _exporting() if lasting else None
    return _runtime(exporting if exporting and exporting.buffer else None, lasting=lasting)


@cache
def _runtime(exporting: Exporting | None, *, lasting: bool) -> Runtime:
    # Not forwarded to Python's logging: a runtime that goes while a line is under way would wait for itself for ever.
    shape = LoggingFormat.COMPACT if sys.stdout.isatty() else LoggingFormat.JSON
    logs = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), format=shape) if lasting else None
    if exporting is None:
        return Runtime(telemetry=TelemetryConfig(logging=logs))
    made = Runtime(telemetry=TelemetryConfig(logging=logs, metrics=exporting.buffer, attach_service_name=False))
    exporting.drain()
    return made


@cache
def _exporting() -> Exporting | None:
    asked = wanted(os.environ)
    for fault in asked.faults:
        log.warning("%s", fault)
    if not (asked.traces or asked.metrics):
        return None
    try:
        from otlp import Exporting  # noqa: PLC0415 - OpenTelemetry's SDK is loaded only where something is exported

        return Exporting(traces=asked.traces, metrics=asked.metrics)
    except (ValueError, OSError) as error:
        log.error("no telemetry is exported: an OTEL_* variable is wrong: %s", error)  # noqa: TRY400 - it says all
        return None


def finish(within: timedelta = FLUSH) -> None:
    """Send what is left and stop. Call it once, as the last thing of a process; it does nothing where all is off."""
    if _exporting.cache_info().currsize and (exporting := _exporting()):
        exporting.stop(within)
