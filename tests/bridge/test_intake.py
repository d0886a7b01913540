"""``POST /v1/alerts`` over real sockets: who may send, how much, in what shape, and what is said of each alert."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.service import RPCError, RPCStatusCode

from bridge.answers import Answer, Problem, problem
from tests.bridge.sending import KEY, OLD_KEY, OLD_TOKEN, SECRETS, TOKEN, Cases, Sender, bridge, signature

AT = "2026-03-14T12:34:56Z"


def alert(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": f"SNX-{number}", "destination_ip": f"10.20.30.{number % 250}", "occurred_at": AT, **changes}


CEF = "CEF:0|Acme|Guard|4.1|1001|Large transfer|8|src=198.51.100.2 dst=10.20.30.40 rt=1773491696000 externalId=4711"
INCIDENT = {
    "incidentId": "200417",
    "entity": "Activityip",
    "violatorText": "10.20.30.40",
    "casecreatetime": 1773491696000,
    "reason": ["Policy: Large data transfer"],
}
FINDING = {
    "class_uid": 2004,
    "time": 1773491696000,
    "finding_info": {"uid": "f-1"},
    "dst_endpoint": {"ip": "10.20.30.41"},
}


@pytest.fixture
def cases() -> Cases:
    return Cases()


@pytest.fixture
async def sender(cases: Cases) -> AsyncIterator[Sender]:
    async with bridge(cases) as one:
        yield one


def told(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    assert response.status_code == status, response.text
    if status in (202, 207):
        return [line.model_dump() for line in Answer.model_validate(response.json()).alerts]
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.status == status
    return [line.model_dump() for line in problem.alerts or ()]


async def test_one_alert_is_answered_with_its_case(sender: Sender, cases: Cases) -> None:
    response = await sender.post(alert(1))
    assert response.status_code == 202
    assert response.json() == {
        "alerts": [
            {
                "index": 0,
                "alert_id": "SNX-1",
                "case_id": "sua-acme-10.20.30.1",
                "run_id": "run-of-sua-acme-10.20.30.1",
                "joined": False,
            }
        ]
    }
    assert [started["id"] for started in cases.started] == ["SNX-1"]


@pytest.mark.parametrize("wrap", [list, lambda alerts: {"alerts": alerts}])
async def test_many_alerts_of_any_shape(sender: Sender, wrap: Any) -> None:
    lines = told(await sender.post(wrap([alert(1), INCIDENT, FINDING, alert(1)])), 202)
    assert [(line["index"], line["alert_id"], line["joined"]) for line in lines] == [
        (0, "SNX-1", False),
        (1, "SNX-200417", False),
        (2, "f-1", False),
        (3, "SNX-1", True),
    ]


async def test_lines_of_text(sender: Sender) -> None:
    body = f"<13>Jan 18 11:07:53 host {CEF}\r\nnonsense\n\n{CEF.replace('4711', '4712')}\n"
    first, second, third = told(await sender.post(body, "text/plain"), 207)
    assert (first["alert_id"], first["joined"]) == ("Guard-4711", False)
    assert second == {"index": 1, "fault": "the line is neither CEF nor LEEF", "retry": False}
    assert (third["alert_id"], third["joined"], third["index"]) == ("Guard-4712", True, 2)


async def test_ndjson(sender: Sender) -> None:
    body = "\n".join(json.dumps(one) for one in (alert(1), {**alert(2), "severity": "dreadful"}, FINDING))
    lines = told(await sender.post(body, "application/x-ndjson"), 207)
    assert [line.get("fault") for line in lines] == [None, "severity: must be one of low, medium, high, critical", None]


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        (b"{", "application/json", "not JSON"),
        (b"[]", "application/json", "there is no alert in it"),
        (b"\n \n", "text/plain", "there is no alert in it"),
        (b'{"alerts": []}', "application/json", "there is no alert in it"),
        (b"[" * 100_000, "application/json", "nested"),
    ],
)
async def test_a_body_without_an_alert(sender: Sender, cases: Cases, body: bytes, kind: str, detail: str) -> None:
    response = await sender.post(body, kind)
    assert told(response, 400) == []
    assert detail in response.json()["detail"]
    assert cases.started == []


async def test_nothing_that_can_be_read(sender: Sender) -> None:
    lines = told(await sender.post([{"id": "x"}, 7]), 400)
    assert [line["index"] for line in lines] == [0, 1]
    assert all(line["fault"] for line in lines)


@pytest.mark.parametrize("kind", [None, "application/xml", "text/plain; charset=latin-1", "multipart/form-data"])
async def test_a_type_that_is_not_taken(sender: Sender, kind: str | None) -> None:
    told(await sender.post(b"{}", kind), 415)


async def test_an_encoded_body(sender: Sender) -> None:
    body = gzip.compress(json.dumps(alert()).encode())
    told(await sender.post(body, Authorization=f"Bearer {TOKEN}", Content_Encoding="gzip"), 415)


async def test_more_alerts_than_there_may_be(cases: Cases) -> None:
    async with bridge(cases, max_alerts=3) as sender:
        told(await sender.post([alert(n) for n in range(4)]), 413)
        assert cases.started == []
        assert len(told(await sender.post([alert(n) for n in range(3)]), 202)) == 3


async def test_a_line_that_is_too_long_costs_itself_alone(sender: Sender) -> None:
    lines = told(await sender.post(f"{CEF} msg={'x' * 65536}\n{CEF}", "text/plain"), 207)
    assert [line.get("fault") for line in lines] == ["the line is longer than 64 KiB", None]


async def raw(sender: Sender, *pieces: bytes, pause: asyncio.Event | None = None) -> bytes:
    """The answer to what is written by hand; before the last piece it waits for ``pause``."""
    url = httpx.URL(sender.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        for number, piece in enumerate(pieces):
            if pause and number == len(pieces) - 1:
                await pause.wait()
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def head(length: int | None, *, token: str = TOKEN) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = ["POST /v1/alerts HTTP/1.1", "Host: x", "Content-Type: application/json", f"Authorization: Bearer {token}"]
    return "\r\n".join([*lines, "Connection: close", size, "", ""]).encode()


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(cases: Cases) -> None:
    async with bridge(cases, max_bytes=1024) as sender:
        assert b" 413 " in await raw(sender, head(10**12), b"x")


async def test_a_body_that_turns_out_too_large(cases: Cases) -> None:
    async with bridge(cases, max_bytes=1024) as sender:
        chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
        assert b" 413 " in await raw(sender, head(None), chunk * 5)


async def test_a_body_of_exactly_the_limit(cases: Cases) -> None:
    async with bridge(cases, max_bytes=1024) as sender:
        body = json.dumps(alert()).encode().ljust(1024)
        told(await sender.post(body), 202)
        told(await sender.post(body + b" "), 413)


async def test_a_body_that_never_comes(cases: Cases) -> None:
    async with bridge(cases, body_within="1s") as sender:
        assert b" 408 " in await raw(sender, head(100), b'{"id"')
        told(await sender.post(alert()), 202)


async def test_a_sender_that_goes_away(cases: Cases, sender: Sender) -> None:
    url = httpx.URL(sender.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head(100) + b"{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    told(await sender.post(alert()), 202)
    assert len(cases.started) == 1


@pytest.mark.parametrize("token", [TOKEN, OLD_TOKEN])
async def test_tokens_rotate(sender: Sender, token: str) -> None:
    told(await sender.post(alert(), Authorization=f"bearer {token}"), 202)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Nothing": "x"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"X_Holdpoint_Timestamp": "1", "Authorization": f"Bearer {TOKEN}"},
    ],
)
async def test_who_may_not_send(sender: Sender, cases: Cases, headers: dict[str, str]) -> None:
    response = await sender.post(alert(), **headers)
    told(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert cases.started == []


def signed(body: bytes, **options: Any) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in signature(body, **options).items()}


@pytest.mark.parametrize("key", [KEY, OLD_KEY])
async def test_signatures_and_their_keys_rotate(sender: Sender, key: str) -> None:
    body = json.dumps(alert()).encode()
    told(await sender.post(body, **signed(body, key=key)), 202)


async def test_one_of_several_signatures_has_to_be_right(sender: Sender) -> None:
    body = json.dumps(alert()).encode()
    headers = signed(body)
    right = headers["X_Holdpoint_Signature"]
    wrong = f"v1={'0' * 64}"
    told(await sender.post(body, **{**headers, "X_Holdpoint_Signature": f"v2=abc,{wrong}, {right}"}), 202)
    many = ",".join([wrong] * 8 + [right])
    told(await sender.post(body, **{**headers, "X_Holdpoint_Signature": many}), 401)


async def test_what_was_signed_is_the_body_and_the_time(sender: Sender, cases: Cases) -> None:
    body, now = json.dumps(alert(1)).encode(), int(time.time())
    headers = signed(body, at=now)
    told(await sender.post(json.dumps(alert(2)).encode(), **headers), 401)
    told(await sender.post(body, **{**headers, "X_Holdpoint_Timestamp": str(now - 1)}), 401)
    told(await sender.post(body, **signed(body, key="another key altogether")), 401)
    assert cases.started == []


@pytest.mark.parametrize("away", [-400, 400])
async def test_a_signature_out_of_its_time(sender: Sender, away: int) -> None:
    body = json.dumps(alert()).encode()
    told(await sender.post(body, **signed(body, at=time.time() + away)), 401)
    told(await sender.post(body, **signed(body, at=time.time() + away / 2)), 202)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Holdpoint_Timestamp": "soon"},
        {"X_Holdpoint_Timestamp": "-1"},
        {"X_Holdpoint_Signature": "v1=abc"},
        {"X_Holdpoint_Signature": ""},
        {"X_Holdpoint_Signature": "g" * 67},
    ],
)
async def test_signatures_that_are_none(sender: Sender, headers: dict[str, str]) -> None:
    body = json.dumps(alert()).encode()
    told(await sender.post(body, **{**signed(body), **headers}), 401)


async def test_a_signed_request_is_taken_once(sender: Sender, cases: Cases) -> None:
    body, now = json.dumps(alert()).encode(), time.time()
    headers = signed(body, at=now)
    told(await sender.post(body, **headers), 202)
    response = await sender.post(body, **headers)
    told(response, 401)
    assert "sign it anew" in response.json()["detail"]
    assert len(cases.started) == 1
    told(await sender.post(body, **signed(body, at=now - 1)), 202)


async def test_a_signed_request_that_was_not_taken_may_come_again(sender: Sender, cases: Cases) -> None:
    body = json.dumps(alert()).encode()
    headers = signed(body)
    cases.down = True
    told(await sender.post(body, **headers), 503)
    cases.down = False
    told(await sender.post(body, **headers), 202)


async def test_without_a_credential_in_the_settings_nothing_is_taken(cases: Cases) -> None:
    nothing: dict[str, Any] = dict.fromkeys(SECRETS)
    async with bridge(cases, **nothing) as sender:
        for headers in ({}, {"Authorization": "Bearer"}, signed(b"{}", key="")):
            response = await sender.post(b"{}", **headers)
            told(response, 503)
            assert "not configured" in response.json()["detail"]
    assert cases.started == []


async def test_refusals_are_logged_without_secrets_and_not_without_end(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    statuses = [(await sender.post(alert(), Authorization="Bearer hunter2-hunter2")).status_code for _ in range(40)]
    assert set(statuses) == {401, 429}
    assert statuses[:10] == [401] * 10
    lines = [record for record in caplog.records if "refused a sender" in record.getMessage()]
    assert len(lines) == statuses.count(401) < 30
    assert "127.0.0.1" in lines[0].getMessage()
    assert "hunter2" not in caplog.text
    assert TOKEN not in caplog.text
    told(await sender.post(alert()), 202)


def test_a_problem_may_have_any_status() -> None:
    assert json.loads(bytes(problem(405, "not this way").body))["title"] == "Method Not Allowed"


async def test_alerts_a_second(cases: Cases) -> None:
    async with bridge(cases, alerts_per_second=0.01, burst=5, max_alerts=5) as sender:
        told(await sender.post([alert(n) for n in range(4)]), 202)
        response = await sender.post([alert(n) for n in range(3)])
        told(response, 429)
        assert 1 <= int(response.headers["retry-after"]) <= 300
        assert len(cases.started) == 4
        told(await sender.post([alert(n) for n in range(3)], Authorization=f"Bearer {OLD_TOKEN}"), 202)


async def test_requests_without_an_alert_count_too(cases: Cases) -> None:
    async with bridge(cases, alerts_per_second=0.01, burst=3, max_alerts=3) as sender:
        statuses = [(await sender.post(b"{")).status_code for _ in range(5)]
    assert statuses == [400, 400, 400, 429, 429]


async def test_while_temporal_is_away_those_that_it_has_are_named(sender: Sender, cases: Cases) -> None:
    cases.failing["SNX-2"] = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
    response = await sender.post(
        [alert(1, destination_ip="10.0.0.1"), alert(2, destination_ip="10.0.0.2"), {"id": "x"}]
    )
    first, second, third = told(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert first["case_id"] == "sua-acme-10.0.0.1"
    assert (second["retry"], third["retry"]) == (True, False)
    assert "connection refused" not in response.text


async def test_once_temporal_is_away_the_rest_is_not_tried(sender: Sender, cases: Cases) -> None:
    cases.down = True
    lines = told(await sender.post([alert(n) for n in range(200)]), 503)
    assert all(line["retry"] for line in lines)
    assert sum("before this one" in line["fault"] for line in lines) >= 160
    cases.down = False
    assert len(told(await sender.post([alert(n) for n in range(200)]), 202)) == 200


async def test_temporal_that_says_nothing(cases: Cases) -> None:
    cases.gate = asyncio.Event()
    async with bridge(cases, within=0.2) as sender:
        assert [line["retry"] for line in told(await sender.post(alert()), 503)] == [True]
        cases.gate.set()
        told(await sender.post(alert()), 202)


@pytest.mark.parametrize(
    ("message", "status"),
    [("invalid argument", 207), ("exceeded workflow execution limit for signal events", 503)],
)
async def test_what_temporal_refuses_for_good(sender: Sender, cases: Cases, message: str, status: int) -> None:
    cases.failing["SNX-1"] = RPCError(message, RPCStatusCode.INVALID_ARGUMENT, b"")
    first, second = told(await sender.post([alert(1), {**alert(2), "severity": "critical"}]), status)
    assert first["retry"] is (status == 503)
    assert second["case_id"] == "sua-acme-10.20.30.2"


async def test_alerts_of_one_case_stay_in_order_and_of_many_go_side_by_side(sender: Sender, cases: Cases) -> None:
    sent = [alert(n, destination_ip=f"10.0.0.{n % 4}") for n in range(100)]
    told(await sender.post(sent), 202)
    for host in range(4):
        case = f"sua-acme-10.0.0.{host}"
        assert [one["id"] for one in cases.started if one["case"] == case] == [f"SNX-{n}" for n in range(host, 100, 4)]
    assert 2 <= cases.most_at_once <= 4


async def test_many_cases_are_bounded(sender: Sender, cases: Cases) -> None:
    sent = [alert(n, destination_ip=f"10.0.{n // 200}.{n % 200}") for n in range(500)]
    told(await sender.post(sent), 202)
    assert 8 <= cases.most_at_once <= 32


async def test_health(sender: Sender, cases: Cases) -> None:
    alive, ready = await sender.get("/healthz"), await sender.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert cases.asked == 1
    await asyncio.gather(*(sender.get("/readyz") for _ in range(10)))
    assert cases.asked == 1


async def test_not_ready(cases: Cases) -> None:
    cases.down = True
    async with bridge(cases) as sender:
        ready = await sender.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
        assert (await sender.get("/healthz")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/openapi.json", "/healthz", "/readyz"])
async def test_other_methods_are_not_there(sender: Sender, path: str) -> None:
    method = "GET" if path == "/v1/alerts" else "POST"
    assert (await sender.http.request(method, sender.url + path)).status_code == 405
