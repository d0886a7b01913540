"""The exporters themselves: no value under another's name, no word of a failure, and an end within its time."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status, StatusCode
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from otlp import DiscreetExporter, Drain


def test_values_keep_their_metric_and_their_attributes() -> None:
    buffer = MetricBuffer(10_000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer, attach_service_name=False))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    drain = Drain(buffer, provider.get_meter("test"))
    meant: Counter[tuple[str, str, str]] = Counter()
    for turn in range(20):
        for step in range(50):
            name, stage = f"metric_{step % 3}", f"stage_{(step * 7 + turn) % 13}"
            runtime.metric_meter.create_counter(name).add(1, {"stage": stage})
            meant[name, "counter", stage] += 1
            meter = runtime.metric_meter.with_additional_attributes({"stage": stage})
            meter.create_histogram_float(f"{name}_time", unit="s").record(1.5)
            meant[f"{name}_time", "histogram", stage] += 1
            meter.create_gauge(f"{name}_now").set(step)
        drain.drain()
        gc.collect()
    assert _collected(reader) == meant
    provider.shutdown()


def _collected(reader: InMemoryMetricReader) -> Counter[tuple[str, str, str]]:
    data = reader.get_metrics_data()
    assert data is not None
    found: Counter[tuple[str, str, str]] = Counter()
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        for point in metric.data.data_points:
            stage = str((point.attributes or {})["stage"])
            if hasattr(point, "count"):
                found[metric.name, "histogram", stage] += point.count
            elif not metric.name.endswith("_now"):
                found[metric.name, "counter", stage] += int(point.value)
    return found


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("ApplicationError: Busy: Falcon is busy with FIN-LT-042", "Busy"),
        ("ApplicationError: jdoe: is to blame", "ApplicationError"),
        ("ApplicationError: jdoe", "ApplicationError"),
        ("ActivityError: Activity task failed", "ActivityError"),
        ("", None),
    ],
)
def test_a_failure_goes_by_its_type(description: str, kind: str | None) -> None:
    kept = Kept()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(DiscreetExporter(kept)))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("RunActivity:x") as span:
        span.record_exception(ValueError("jdoe"))
        span.set_status(Status(StatusCode.ERROR, description))
    (sent,) = kept.spans
    assert (sent.attributes or {}).get("error.type") == kind
    assert sent.status.status_code is StatusCode.ERROR
    assert not sent.events
    assert "jdoe" not in sent.to_json()
    provider.shutdown()


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("HandleSignal:alert", "HandleSignal:alert"),
        ("HandleSignal:analyst_decision", "HandleSignal:analyst_decision"),
        ("HandleSignal:seen", "HandleSignal:seen"),
        ("HandleSignal:jdoe: is to blame", "HandleSignal:unknown"),
        ("SignalWorkflow:jdoe", "SignalWorkflow:unknown"),
        ("RunActivity:siem.score_risk", "RunActivity:siem.score_risk"),
        ("HTTP GET", "HTTP GET"),
    ],
)
def test_a_signal_that_nobody_listens_to_has_no_name(name: str, sent: str) -> None:
    kept = Kept()
    DiscreetExporter(kept).export([ReadableSpan(name)])
    assert kept.spans[0].name == sent
