"""A receiver for OTLP over HTTP: keeps what is exported to it, as bytes and decoded."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.serving import Served


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes as a dictionary."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")


class Collector:
    """Serves ``/v1/traces`` and ``/v1/metrics`` on loopback; ``url`` is the base endpoint."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.spans: list[Span] = []
        self.resources: list[Resource] = []
        self.headers: list[dict[str, str]] = []
        self.metrics: dict[str, list[Metric]] = defaultdict(list)
        routes = [
            Route("/v1/traces", self._traces, methods=["POST"]),
            Route("/v1/metrics", self._metrics, methods=["POST"]),
        ]
        self._served = Served(Starlette(routes=routes))

    @property
    def url(self) -> str:
        return self._served.url

    async def __aenter__(self) -> Collector:
        await self._served.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._served.stop()

    async def _traces(self, request: Request) -> Response:
        decoded = ExportTraceServiceRequest.FromString(await self._kept(request))
        for group in decoded.resource_spans:
            self.resources.append(group.resource)
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)
        return Response(b"", media_type="application/x-protobuf")

    async def _metrics(self, request: Request) -> Response:
        decoded = ExportMetricsServiceRequest.FromString(await self._kept(request))
        for group in decoded.resource_metrics:
            self.resources.append(group.resource)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    self.metrics[metric.name].append(metric)
        return Response(b"", media_type="application/x-protobuf")

    async def _kept(self, request: Request) -> bytes:
        assert request.headers["content-type"] == "application/x-protobuf"
        body = await request.body()
        self.raw.append(body)
        self.headers.append(dict(request.headers))
        return body

    def named(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def by_id(self) -> dict[bytes, Span]:
        """The spans by their id; that two have the same is what a repeated replay would look like."""
        found = {span.span_id: span for span in self.spans}
        assert len(found) == len(self.spans), "a span came twice"
        return found

    def total(self, name: str, **wanted: str) -> float:
        """A counter's latest value, or a histogram's count, over the points that have these attributes."""
        sent = self.metrics[name]
        latest = sent[-1] if sent else Metric()
        points: list[Any] = [*latest.sum.data_points, *latest.histogram.data_points]
        fitting = [p for p in points if wanted.items() <= attributes(p.attributes).items()]
        return sum((p.as_int or p.as_double) if isinstance(p, NumberDataPoint) else p.count for p in fitting)

    def said(self, words: str) -> bool:
        """Whether the words occur in anything that was exported."""
        return any(words.encode().lower() in body.lower() for body in self.raw)
