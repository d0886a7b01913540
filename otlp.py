"""Traces and metrics out over OTLP/HTTP. Loaded by ``telemetry`` only where something is exported.

Everything that OpenTelemetry's SDK reads from ``OTEL_*`` holds: endpoint, headers, certificate, timeout, compression,
sampler, resource attributes, intervals. Nothing is ever sent from the thread that records it, so that no workflow
waits for a collector.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import monotonic

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from temporalio.client import Plugin
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider
from temporalio.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BufferedMetric,
    MetricBuffer,
)

from integrations import errors, tracing

SERVICE = "holdpoint"
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
"""Buckets of the ``holdpoint_*`` times: from a round trip to a week of waiting for people."""

_BUFFERED = 100_000
"""Temporal drops what does not fit; a busy worker makes some hundred updates a second."""

_DRAIN_SECONDS = 1.0
_FAILURES = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.IntegrationError)
)
_SIGNALS = frozenset({"alert", "analyst_decision", "seen"})
_SIGNALLING = frozenset({"HandleSignal", "SignalWorkflow"})
_DESCRIBED = re.compile(r"(\w+)(?:: (\w+)(?=:))?")

Record = Callable[[float, Mapping[str, str | int | float | bool]], None]


class Exporting:
    """The exporters of this process and what feeds them.

    Raises:
        ValueError, OSError: an ``OTEL_*`` variable has no usable value.
    """

    def __init__(self, *, traces: bool, metrics: bool) -> None:
        self._stops: list[Callable[[], None]] = []
        self._resource = _resource()
        self._meters = _meter_provider(self._resource) if metrics else None
        self.plugins: Sequence[Plugin] = ()
        self.buffer = MetricBuffer(_BUFFERED) if metrics else None
        if traces:
            self._trace(OTLPSpanExporter())

    def _trace(self, exporter: SpanExporter) -> None:
        provider = create_tracer_provider(resource=self._resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(DiscreetExporter(exporter)))
        trace.set_tracer_provider(provider)
        tracing.trace_exchanges()
        # A run that leaves the cache has its context detached wherever it is collected: harmless, and loud.
        logging.getLogger("opentelemetry.context").addFilter(_not_about_detaching)
        self._stops.append(provider.shutdown)
        self.plugins = (OpenTelemetryPlugin(add_temporal_spans=True),)

    def drain(self) -> None:
        """Begin to export what Temporal's runtime buffers; the runtime must have been made with ``buffer``."""
        provider, buffer = self._meters, self.buffer
        if provider is None or buffer is None:
            return
        drain = Drain(buffer, provider.get_meter("temporalio"))
        drain.start()

        def stop() -> None:
            drain.stop()
            provider.shutdown()

        self._stops.append(stop)

    def stop(self, within: timedelta) -> None:
        """Send what is left, for at most ``within`` in all, and stop."""
        until = monotonic() + within.total_seconds()
        stopping = [threading.Thread(target=stop, name="telemetry-stop", daemon=True) for stop in self._stops]
        self._stops.clear()
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(until - monotonic(), 0.0))


def _resource() -> Resource:
    """What the environment says; the service is ``holdpoint`` unless it says otherwise."""
    told = Resource.create()
    unnamed = str(told.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return told.merge(Resource({SERVICE_NAME: SERVICE})) if unnamed else told


def _meter_provider(resource: Resource) -> MeterProvider:
    times = View(
        instrument_name="holdpoint_*",
        instrument_type=Histogram,
        aggregation=ExplicitBucketHistogramAggregation(SECONDS),
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return MeterProvider([reader], resource=resource, shutdown_on_exit=False, views=[times])


def _not_about_detaching(record: logging.LogRecord) -> bool:
    return "Failed to detach context" not in record.getMessage()


class DiscreetExporter(SpanExporter):
    """Lets names of steps, ids, durations and kinds of failure out, and no words.

    Temporal's spans carry the message and the traceback of what failed, and those name hosts, accounts and people.
    They go by ``error.type`` alone: the integration's error where it was one, else the exception's class.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans without what they quote."""
        return self._inner.export([_discreet(span) for span in spans])

    def shutdown(self) -> None:
        """Stop the exporter behind."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter behind, for at most so many milliseconds."""
        return self._inner.force_flush(timeout_millis)


def _discreet(span: ReadableSpan) -> ReadableSpan:
    attributes = dict(span.attributes or {})
    described = _DESCRIBED.match(span.status.description or "")
    if described:
        outer, inner = described.groups()
        attributes["error.type"] = inner if inner in _FAILURES else outer
    return ReadableSpan(
        name=_name(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _name(name: str) -> str:
    """A signal is named by whoever sends it: a name that nobody listens to is anybody's text."""
    step, colon, what = name.partition(":")
    return f"{step}:unknown" if colon and step in _SIGNALLING and what not in _SIGNALS else name


class Drain(threading.Thread):
    """Moves buffered metrics into OpenTelemetry's instruments once a second.

    Not by Temporal's own ``MetricsExporter``: in 1.35.0 it remembers instruments and attributes by the address of
    objects that are freed, so that values land under another metric's name (measured: one in seven).
    """

    def __init__(self, buffer: MetricBuffer, meter: Meter) -> None:
        super().__init__(name="telemetry-metrics", daemon=True)
        self._buffer = buffer
        self._meter = meter
        self._stopping = threading.Event()
        self._instruments: dict[tuple[str, int], Record] = {}

    def run(self) -> None:
        """Drain until told to stop, and once more then."""
        while not self._stopping.wait(_DRAIN_SECONDS):
            self.drain()
        self.drain()

    def stop(self) -> None:
        """Stop, and wait for the last drain."""
        self._stopping.set()
        self.join()

    def drain(self) -> None:
        """Move what is buffered."""
        for update in self._buffer.retrieve_updates():
            key = (update.metric.name, update.metric.kind)
            record = self._instruments.get(key)
            if record is None:
                record = self._instruments[key] = self._instrument(update.metric)
            record(update.value, dict(update.attributes))

    def _instrument(self, metric: BufferedMetric) -> Record:
        described = (metric.name, metric.unit or "", metric.description or "")
        if metric.kind == BUFFERED_METRIC_KIND_COUNTER:
            return self._meter.create_counter(*described).add
        if metric.kind == BUFFERED_METRIC_KIND_GAUGE:
            return self._meter.create_gauge(*described).set
        return self._meter.create_histogram(*described).record
