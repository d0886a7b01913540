"""One client span for each exchange with a vendor. Off, and without OpenTelemetry loaded, until somebody asks for it.

A span says whom, what kind of exchange, how it ended and how long it took. It never says what was asked or answered:
queries, paths, headers, bodies, names and the words of an error stay out, since spans leave for a system that more
people read than a case. Attribute names follow OpenTelemetry's semantic conventions where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_tracer: Tracer | None = None


def trace_exchanges() -> None:
    """From now on every exchange leaves a span with OpenTelemetry's global tracer provider."""
    global _tracer  # noqa: PLW0603 - tracing is on or off for a process, as OpenTelemetry's own provider is
    from opentelemetry import trace  # noqa: PLC0415 - only a process that traces pays for it

    _tracer = trace.get_tracer("holdpoint.integrations")


class Exchange:
    """An exchange under way. Without tracing it takes everything and keeps nothing."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def answered(self, code_name: str, code: int | None, *, failed: bool) -> None:
        """Keep the answer's code, under its attribute name; ``failed`` says that the code means failure."""
        if self._span is not None and code is not None:
            self._span.set_attribute(code_name, code)
            if failed:
                self._fail(str(code))

    def broke(self, error: BaseException) -> None:
        """Keep the type of what was raised, and nothing else of it."""
        if self._span is not None:
            self._fail(type(error).__name__)

    def _fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only a process that traces pays for it

        assert self._span is not None  # noqa: S101 - both callers have looked
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


@contextmanager
def exchange(name: str, vendor: str, host: str, port: int | None) -> Iterator[Exchange]:
    """A span around one exchange: ``name`` is the protocol and the verb (``HTTP GET``, ``LDAP bind``)."""
    if _tracer is None:
        yield Exchange()
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only a process that traces pays for it

    attributes: dict[str, str | int] = {"peer.service": vendor, "server.address": host}
    if port is not None:
        attributes["server.port"] = port
    with _tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        under_way = Exchange(span)
        try:
            yield under_way
        except BaseException as error:  # a span tells of a cancellation too; nothing is swallowed
            under_way.broke(error)
            raise
