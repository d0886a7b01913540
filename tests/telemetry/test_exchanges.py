"""The span of one exchange, by how the exchange ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from integrations import tracing
from integrations.active_directory import ActiveDirectory
from integrations.errors import Misconfigured, NotFound, Unreachable
from integrations.http import VendorHttp
from integrations.interfaces import Mail
from integrations.smtp import Smtp
from lab.certificates import make_certificates
from lab.directory import DirectoryLab
from lab.serving import Served


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def told(span: ReadableSpan) -> dict[str, object]:
    assert not span.events
    assert span.status.description is None
    assert span.kind is SpanKind.CLIENT
    return dict(span.attributes or {})


async def _status(request: Request) -> PlainTextResponse:
    return PlainTextResponse("jdoe", status_code=int(request.path_params["code"]))


@pytest.mark.parametrize(
    ("code", "status"), [(200, StatusCode.UNSET), (302, StatusCode.UNSET), (503, StatusCode.ERROR)]
)
async def test_an_http_answer(spans: InMemorySpanExporter, code: int, status: StatusCode) -> None:
    async with Served(Starlette(routes=[Route("/{code}", _status)])) as served:
        http = VendorHttp("Securonix", served.url)
        await http.send("GET", f"/{code}", params={"query": "jdoe"}, headers={"token": "s3cret"})
        await http.aclose()
    (span,) = spans.get_finished_spans()
    assert span.name == "HTTP GET"
    assert span.status.status_code is status
    expected = {
        "peer.service": "Securonix",
        "server.address": "127.0.0.1",
        "server.port": served.port,
        "http.response.status_code": code,
    }
    assert told(span) == expected | ({"error.type": str(code)} if status is StatusCode.ERROR else {})


async def test_no_http_answer(spans: InMemorySpanExporter) -> None:
    http = VendorHttp("Securonix", "http://127.0.0.1:1")
    with pytest.raises(Unreachable):
        await http.send("GET", "/jdoe")
    await http.aclose()
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert told(span)["error.type"] == "Unreachable"


async def test_a_mail_server_that_is_not_there(spans: InMemorySpanExporter) -> None:
    mail = Mail(subject="s", text="t", html="<p>t</p>", recipients=("soc@acme.example",), message_id="a@b.example")
    with pytest.raises(Unreachable):
        await Smtp("127.0.0.1", 1, "holdpoint@acme.example").send(mail)
    (span,) = spans.get_finished_spans()
    assert span.name == "SMTP send"
    assert told(span) == {
        "peer.service": "mail",
        "server.address": "127.0.0.1",
        "server.port": 1,
        "error.type": "Unreachable",
    }


def test_ldap_operations_and_their_result_codes(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with DirectoryLab(certificates) as lab:
        for password in (lab.password, "wrong"):
            client = ActiveDirectory([lab.url], lab.bind_user, password, lab.base_dn, ca_file=certificates.ca_file)
            with pytest.raises(NotFound if password == lab.password else Misconfigured):
                client.find_person("nobody-there")
        port = lab.port
    bind, search, refused = spans.get_finished_spans()
    where = {"peer.service": "directory", "server.address": "127.0.0.1", "server.port": port}
    assert [bind.name, search.name, refused.name] == ["LDAP bind", "LDAP search", "LDAP bind"]
    assert told(bind) == told(search) == where | {"ldap.result_code": 0}
    assert told(refused) == where | {"ldap.result_code": 49, "error.type": "Misconfigured"}
    assert refused.status.status_code is StatusCode.ERROR


def test_without_tracing_an_exchange_keeps_nothing() -> None:
    with tracing.exchange("HTTP GET", "Securonix", "siem.example", 443) as exchange:
        exchange.answered("http.response.status_code", 503, failed=True)
        exchange.broke(ValueError("x"))
