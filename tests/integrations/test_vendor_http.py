"""What can go wrong below every vendor, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.errors import (
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.http import MAX_RETRY_AFTER, Answer, VendorHttp, clock_check, quoted
from lab.certificates import make_certificates
from lab.faults import Faults
from lab.serving import Served


async def _echo(request: Request) -> Response:
    headers = {"X-Authorization": request.headers.get("Authorization", "none")}
    return JSONResponse({"body": (await request.body()).decode(), "query": str(request.query_params)}, headers=headers)


async def _away(_: Request) -> Response:
    return Response(status_code=302, headers={"Location": "/echo"})


def vendor() -> Faults:
    return Faults(Starlette(routes=[Route("/echo", _echo, methods=["GET", "POST"]), Route("/away", _away)]))


@pytest.fixture
async def served() -> AsyncIterator[tuple[Faults, str]]:
    app = vendor()
    async with Served(app) as server:
        yield app, server.url


@pytest.fixture
async def http(served: tuple[Faults, str]) -> AsyncIterator[VendorHttp]:
    client = VendorHttp("Vendor", served[1], total_seconds=5)
    yield client
    await client.aclose()


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Answer:
    return Answer("Vendor", status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), body)


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (301, Misconfigured),
            (307, Misconfigured),
            (400, Rejected),
            (401, Misconfigured),
            (403, Refused),
            (404, NotFound),
            (408, Busy),
            (409, Rejected),
            (422, Rejected),
            (425, Busy),
            (429, Busy),
            (500, Busy),
            (503, Busy),
        ],
    )
    def test_each_status_has_one_meaning(self, status: int, kind: type[IntegrationError]) -> None:
        with pytest.raises(kind, match=rf"Vendor answered {status}.*\(it said so\)") as caught:
            answer(status).raise_for_status(words="it said so")
        assert type(caught.value) is kind

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_success_raises_nothing(self, status: int) -> None:
        answer(status).raise_for_status()

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("7", 7), ("0", 0), ("1.5", 1.5), ("99999", 300), ("9" * 400, 300), ("soon", None), ("-5", None), ("", None)],
    )
    def test_retry_after_in_seconds(self, header: str, seconds: float | None) -> None:
        with pytest.raises(Busy) as caught:
            answer(429, Retry_After=header).raise_for_status()
        assert caught.value.retry_after == (None if seconds is None else timedelta(seconds=seconds))

    @pytest.mark.parametrize(
        ("ahead", "least", "most"),
        [(60, 50, 60), (-60, 0, 0), (9999, MAX_RETRY_AFTER.seconds, MAX_RETRY_AFTER.seconds)],
    )
    def test_retry_after_as_a_date(self, ahead: float, least: float, most: float) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        wish = answer(503, Retry_After=date).retry_after()
        assert wish is not None
        assert least <= wish.total_seconds() <= most

    def test_a_wish_told_elsewhere_goes_first_even_if_it_is_nothing(self) -> None:
        with pytest.raises(Busy) as caught:
            answer(429, Retry_After="7").raise_for_status(retry_after=timedelta(0))
        assert caught.value.retry_after == timedelta(0)

    @pytest.mark.parametrize(("ahead", "ok"), [(0, True), (50, True), (-90, False), (3600, False)])
    def test_the_clock(self, ahead: float, ok: bool) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        assert clock_check(answer(Date=date)).ok is ok

    @pytest.mark.parametrize("date", ["", "yesterday"])
    def test_no_clock(self, date: str) -> None:
        assert clock_check(answer(Date=date)).ok
        assert "not checked" in clock_check(answer(Date=date)).detail


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"  \n",
            b'{"a": 1',
            b"nonsense",
            b"<!DOCTYPE html><p>{}",
            b"\n <HTML>",
            b"[" * 100_000,
            b"\xff\xfe",
        ],
    )
    def test_what_is_no_data(self, body: bytes) -> None:
        with pytest.raises(BadAnswer):
            answer(body=body).json()

    @pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"3"])
    def test_what_is_no_object(self, body: bytes) -> None:
        with pytest.raises(BadAnswer):
            answer(body=body).json_object()

    def test_a_byte_order_mark_is_no_matter(self) -> None:
        assert answer(body=b'\xef\xbb\xbf{"a": 1}').json_object() == {"a": 1}

    def test_words_are_made_fit_for_a_line(self) -> None:
        assert quoted(" a\r\nb\x1b[31m\u202ec ") == "a b [31m c"
        assert quoted("the key is s3cret!", secrets=("s3cret", "")) == "the key is ***!"
        assert len(quoted("x" * 5000)) == 300
        assert quoted(None) == ""


class TestExchange:
    async def test_a_request_carries_what_it_should(self, http: VendorHttp) -> None:
        said = await http.send("POST", "/echo", params={"q": "a b&c"}, json={"ä": 1}, auth=("user", "word"))
        assert said.json_object() == {"body": '{"ä":1}', "query": "q=a+b%26c"}
        assert said.headers["X-Authorization"].startswith("Basic ")

    @pytest.mark.parametrize(
        ("fault", "kind"), [("reset", Unreachable), ("cut", Unreachable), ("truncated", BadAnswer)]
    )
    async def test_a_broken_answer(
        self, served: tuple[Faults, str], http: VendorHttp, fault: str, kind: type[IntegrationError]
    ) -> None:
        served[0].add(fault)
        with pytest.raises(kind):
            (await http.send("GET", "/echo")).json()

    @pytest.mark.parametrize("fault", ["slow", "drip"])
    async def test_the_whole_exchange_has_one_budget(self, served: tuple[Faults, str], fault: str) -> None:
        app, url = served
        app.add(fault, seconds=0.2)
        http = VendorHttp("Vendor", url, total_seconds=0.15 if fault == "slow" else 0.5)
        with pytest.raises(Unreachable, match="in time"):
            await http.send("GET", "/echo")
        await http.aclose()

    async def test_somebody_elses_deadline_is_not_ours(self, served: tuple[Faults, str], http: VendorHttp) -> None:
        served[0].add("slow", seconds=0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await http.send("GET", "/echo")

    async def test_redirects_are_not_followed(self, served: tuple[Faults, str], http: VendorHttp) -> None:
        said = await http.send("GET", "/away", auth=("user", "word"))
        with pytest.raises(Misconfigured):
            said.raise_for_status()
        assert served[0].requests == [("GET", "/away")]

    async def test_an_answer_without_end(self, served: tuple[Faults, str], http: VendorHttp) -> None:
        served[0].add("error200", body=b"x" * (16 * 1024 * 1024 + 1))
        with pytest.raises(BadAnswer, match="16 MiB"):
            await http.send("GET", "/echo")

    async def test_nobody_listens(self) -> None:
        async with Served(vendor()) as gone:
            pass
        http = VendorHttp("Vendor", gone.url)
        with pytest.raises(Unreachable, match="cannot be reached"):
            await http.send("GET", "/echo")
        await http.aclose()

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            ({"headers": {"Authorization": "Bearer s3cret\n"}}, Misconfigured),
            ({"headers": {"Authorization": "Bearer s3cret\u20ac"}}, Rejected),
            ({"form": {"password": "s3cret\ud800"}}, Rejected),
            ({"json": {"password": "s3cret\ud800"}}, Rejected),
        ],
    )
    async def test_what_cannot_be_sent_is_not_repeated(
        self, http: VendorHttp, arguments: dict[str, Any], kind: type[IntegrationError]
    ) -> None:
        with pytest.raises(kind) as caught:
            await http.send("POST", "/echo", **arguments)
        assert "s3cret" not in str(caught.value)


class TestCertificates:
    async def test_it_is_trusted_by_its_authority_alone(self, tmp_path: Path) -> None:
        made, other = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b")
        async with Served(vendor(), certificate=made.cert_file, key=made.key_file) as server:
            http = VendorHttp("Vendor", server.url, ca_file=made.ca_file)
            assert (await http.send("GET", "/echo")).status == 200
            await http.aclose()
            for ca_file in (other.ca_file, None):
                http = VendorHttp("Vendor", server.url, ca_file=ca_file)
                with pytest.raises(Misconfigured, match="not trusted"):
                    await http.send("GET", "/echo")
                await http.aclose()

    async def test_a_certificate_of_another_host(self, tmp_path: Path) -> None:
        made = make_certificates(tmp_path, names=("vendor.example",))
        async with Served(vendor(), certificate=made.cert_file, key=made.key_file) as server:
            http = VendorHttp("Vendor", server.url, ca_file=made.ca_file)
            with pytest.raises(Misconfigured, match="not trusted"):
                await http.send("GET", "/echo")
            await http.aclose()

    def test_a_file_that_holds_no_certificates(self, tmp_path: Path) -> None:
        empty = tmp_path / "ca.pem"
        empty.write_text("nothing")
        for path in (empty, tmp_path / "absent.pem"):
            with pytest.raises(Misconfigured, match="ca_file"):
                VendorHttp("Vendor", "https://vendor.example", ca_file=path)

    async def test_an_address_that_is_none(self) -> None:
        http = VendorHttp("Vendor", "ftp://vendor.example")
        with pytest.raises(Misconfigured):
            await http.send("GET", "/echo")
        await http.aclose()
        with pytest.raises(Misconfigured):
            VendorHttp("Vendor", "https://[::1/")
