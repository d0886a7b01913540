"""Traces and metrics out over OTLP/HTTP. Loaded by ``telemetry`` only where something is exported.

Everything that OpenTelemetry's SDK reads from ``OTEL_*`` holds: endpoint, headers, certificate, timeout, compression,
sampler, resource attributes, intervals. Nothing is ever sent from the thread that records it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
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
    BUFFERED_METRIC_KIND_HISTOGRAM,
    BufferedMetric,
    BufferedMetricUpdate,
    MetricBuffer,
)

from integrations import errors, tracing

SERVICE = "holdpoint"
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
"""Buckets for ``holdpoint_*`` times: from a round trip to a week of waiting for people."""

_BUFFERED = 100_000
_DRAIN_SECONDS = 1.0


class Exporting:
    """The exporters of this process and what feeds them.

    Raises:
        ValueError, OSError: an ``OTEL_*`` variable has no usable value.
    """

    def __init__(self, *, traces: bool, metrics: bool) -> None:
        self._stops: list[Callable[[], None]] = []
        self.plugins: Sequence[Plugin] = ()
        self.metered = metrics
        self.buffer = MetricBuffer(_BUFFERED)
        self._resource = _resource()
        self._reader_exporter = OTLPMetricExporter() if metrics else None
        if traces:
            self._trace(OTLPSpanExporter())

    def _trace(self, exporter: SpanExporter) -> None:
        provider = create_tracer_provider(resource=self._resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(Discreet(exporter)))
        trace.set_tracer_provider(provider)
        tracing.trace_exchanges()
        # An abandoned run's context is detached where the garbage collector happens to be; that is harmless and loud.
        logging.getLogger("opentelemetry.context").addFilter(_not_about_detaching)
        self._stops.append(provider.shutdown)
        self.plugins = (OpenTelemetryPlugin(add_temporal_spans=True),)

    def drain(self) -> None:
        """Begin to export Temporal's buffered metrics. The runtime that fills the buffer must have been made."""
        assert self._reader_exporter is not None, "metrics are wanted"  # noqa: S101 - the caller looks at metered
        view = View(instrument_name="holdpoint_*", aggregation=ExplicitBucketHistogramAggregation(SECONDS))
        provider = MeterProvider(
            [PeriodicExportingMetricReader(self._reader_exporter)],
            resource=self._resource,
            shutdown_on_exit=False,
            views=[_only_histograms(view)],
        )
        drain = _Drain(self.buffer, provider.get_meter("temporalio"))
        drain.start()
        self._stops.append(lambda: (drain.stop(), provider.shutdown())[-1])

    def stop(self, within: timedelta) -> None:
        """Send what is left, for at most ``within`` in all, and stop."""
        until = monotonic() + within.total_seconds()
        stopping = [threading.Thread(target=stop, name="telemetry-stop", daemon=True) for stop in self._stops]
        self._stops = []
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(until - monotonic(), 0.0))
