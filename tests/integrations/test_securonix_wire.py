from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from incident.requests import FindCorroboration, LocateHost, StartingAlert
from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, Refused, Rejected, Unreachable
from integrations.securonix import Securonix
from integrations.securonix_session import base_url
from lab.certificates import make_certificates
from lab.securonix import SecuronixLab
from lab.serving import Served

IP = "10.20.30.40"
AT = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
SECRET = "pa55-wörd"
LOCATE = LocateHost(ip=IP, at=AT)
SEARCH = "spotter/index/search"
FIND = FindCorroboration(
    starting_alert=StartingAlert(destination_ip=IP, occurred_at=AT), ip=IP, since=AT - timedelta(days=7)
)


class Stage:
    """One server for all tests of this file; each test puts its own stand-in behind it."""

    lab: SecuronixLab

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.lab.app(scope, receive, send)


@pytest_asyncio.fixture(scope="module")
async def stage() -> AsyncIterator[tuple[Stage, Served]]:
    stage = Stage()
    async with Served(stage) as server:
        yield stage, server


@pytest.fixture
def served(stage: tuple[Stage, Served]) -> Served:
    return stage[1]


@pytest.fixture
def lab(stage: tuple[Stage, Served]) -> SecuronixLab:
    lab = stage[0].lab = SecuronixLab(password=SECRET, clock=lambda: AT)
    lab.add_host(IP, "HR-LT-0042", "JROE", at=AT)
    lab.add_violation("Upload", IP, at=AT - timedelta(days=1))
    return lab


@pytest_asyncio.fixture
async def siem(lab: SecuronixLab, served: Served) -> AsyncIterator[Securonix]:
    client = Securonix(served.url, lab.username, lab.password, clock=lambda: AT)
    yield client
    await client.aclose()


async def host_of(siem: Securonix) -> str | None:
    found = await siem.locate(LOCATE)
    return found.host.value.name if found.host.value else None


# The address and the login.


@pytest.mark.parametrize("path", ["", "/", "/Snypr", "/Snypr/", "/Snypr/ws", "/Snypr/ws/"])
async def test_every_form_of_the_address_is_understood(lab: SecuronixLab, served: Served, path: str) -> None:
    client = Securonix(served.url + path, lab.username, lab.password)
    assert await host_of(client) == "HR-LT-0042"
    await client.aclose()


def test_other_paths_keep_their_front() -> None:
    assert base_url("https://gw.acme.example:8443/siem") == "https://gw.acme.example:8443/siem/Snypr/ws"
    assert base_url("https://gw.acme.example/siem/ws") == "https://gw.acme.example/siem/ws"


@pytest.mark.parametrize("url", ["gw.acme.example", "https://", "https://a/?x=1", "https://a/#x", "https://u:p@a/"])
def test_an_unusable_address_is_a_fault_of_the_settings(url: str) -> None:
    with pytest.raises(Misconfigured):
        base_url(url)


async def test_one_login_serves_all_calls(siem: Securonix, lab: SecuronixLab) -> None:
    assert await asyncio.gather(*(host_of(siem) for _ in range(5))) == ["HR-LT-0042"] * 5
    assert lab.logins == 1


async def test_a_quoted_token_is_one(siem: Securonix, lab: SecuronixLab) -> None:
    lab.quirks.quoted_token = True
    assert await host_of(siem) == "HR-LT-0042"


@pytest.mark.parametrize("status", [401, 403])
async def test_calls_that_meet_a_dead_token_share_one_new_login(
    siem: Securonix, lab: SecuronixLab, status: int
) -> None:
    lab.quirks.expired_status = status
    await host_of(siem)
    lab.expire_tokens()
    assert await asyncio.gather(*(host_of(siem) for _ in range(5))) == ["HR-LT-0042"] * 5
    assert lab.logins == 2


async def test_a_token_may_die_in_the_middle(siem: Securonix, lab: SecuronixLab) -> None:
    lab.quirks.calls_per_token = 3
    for _ in range(4):
        assert (await siem.corroboration(FIND)).total == 1
        assert await host_of(siem) == "HR-LT-0042"


@pytest.mark.parametrize("status", ["401", "403"])
async def test_a_second_refusal_is_one(siem: Securonix, lab: SecuronixLab, status: str) -> None:
    lab.faults.add(status, match=SEARCH, times=99)
    with pytest.raises(Refused):
        await siem.corroboration(FIND)
    assert lab.logins == 2
    assert lab.faults.count(SEARCH) == 2


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_wrong_password_is_tried_once_for_all(
    siem: Securonix, lab: SecuronixLab, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    lab.password, lab.quirks.bad_login_status = "another", status
    with caplog.at_level(logging.DEBUG):
        failures = await asyncio.gather(*(siem.corroboration(FIND) for _ in range(5)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {Misconfigured}
    assert lab.logins == (2 if status == 403 else 1)
    assert SECRET not in caplog.text + repr(failures)


async def test_a_passing_refusal_of_the_login_is_passed_over(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("403", match="token/generate")
    assert await host_of(siem) == "HR-LT-0042"


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("html200", None, BadAnswer),
        ("empty", None, BadAnswer),
        ("error200", b"two lines\nof 1 text", BadAnswer),
        ("error200", b"Failure", BadAnswer),
        ("503", None, Busy),
        ("429", None, Busy),
        ("reset", None, Unreachable),
        ("404", None, Misconfigured),
        ("302", None, Misconfigured),
    ],
)
async def test_a_login_without_a_token_is_told_apart(
    siem: Securonix, lab: SecuronixLab, kind: str, body: bytes | None, error: type[IntegrationError]
) -> None:
    lab.faults.add(kind, match="token/generate", body=body)
    with pytest.raises(error):
        await siem.corroboration(FIND)
    assert (await siem.corroboration(FIND)).total == 1


@pytest.mark.parametrize("password", ["", " x", "a\nb", "a\0b"])
async def test_a_password_that_cannot_be_sent_is_not_shown(served: Served, lab: SecuronixLab, password: str) -> None:
    client = Securonix(served.url, lab.username, password)
    with pytest.raises(Misconfigured) as failure:
        await client.corroboration(FIND)
    await client.aclose()
    assert not password or password not in str(failure.value)
    assert lab.faults.requests == []


async def test_the_tenant_is_told_at_the_login(served: Served, lab: SecuronixLab) -> None:
    client = Securonix(served.url, lab.username, lab.password, tenant="acme")
    assert await host_of(client) == "HR-LT-0042"
    await client.aclose()


# What goes wrong with a search.


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", Busy),
        ("500", Busy),
        ("html503", Busy),
        ("empty", BadAnswer),
        ("truncated", BadAnswer),
        ("error200", BadAnswer),
        ("cut", Unreachable),
        ("reset", Unreachable),
        ("400", Rejected),
    ],
)
async def test_each_failure_of_a_search_has_its_type(
    siem: Securonix, lab: SecuronixLab, kind: str, error: type[IntegrationError]
) -> None:
    wait = 7 if kind == "429" else 0
    lab.faults.add(kind, match="index=violation", seconds=wait)
    lab.faults.add(kind, match="index=activity", seconds=wait)
    for search in (lambda: siem.corroboration(FIND), lambda: siem.locate(LOCATE)):
        with pytest.raises(error) as failure:
            await search()
        assert failure.value.retry_after == (timedelta(seconds=wait) if wait else None)
    assert (await siem.corroboration(FIND)).total == 1
    assert await host_of(siem) == "HR-LT-0042"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"status": "OK"}', b'{"totalDocuments": 3, "events": []}'])
async def test_nothing_is_not_read_out_of_something_else(siem: Securonix, lab: SecuronixLab, body: bytes) -> None:
    lab.faults.add("error200", match="index=violation", body=body)
    with pytest.raises(BadAnswer):
        await siem.corroboration(FIND)


@pytest.mark.parametrize("flag", [b"true", b'"true"', b'"True"'])
async def test_a_syntax_error_is_told_in_their_words(siem: Securonix, lab: SecuronixLab, flag: bytes) -> None:
    message = b"Error searching in Spotter :[SYNTAX_ERROR] An error\\noccured " + b"x" * 1000
    lab.faults.add("error200", match=SEARCH, body=b'{"error": %s, "errorMessage": "%s"}' % (flag, message))
    with pytest.raises(Rejected, match="An error occured") as failure:
        await siem.corroboration(FIND)
    assert len(str(failure.value)) < 400


@pytest.mark.parametrize("without", [True, False])
async def test_nothing_found_is_nothing(siem: Securonix, lab: SecuronixLab, *, without: bool) -> None:
    lab.quirks.without_events = without
    lab.violation.clear()
    assert not (await siem.corroboration(FIND)).found


async def test_a_login_page_leads_to_one_new_login(siem: Securonix, lab: SecuronixLab) -> None:
    await host_of(siem)
    lab.faults.add("html200", match="index=violation")
    assert (await siem.corroboration(FIND)).total == 1
    lab.faults.add("html200", match="index=violation", times=2)
    with pytest.raises(BadAnswer):
        await siem.corroboration(FIND)
    assert lab.logins == 3


@pytest.mark.parametrize("kind", ["slow", "drip"])
async def test_a_slow_answer_is_given_up(served: Served, lab: SecuronixLab, kind: str) -> None:
    client = Securonix(served.url, lab.username, lab.password, total_seconds=0.3)
    lab.faults.add(kind, match=SEARCH, seconds=0.5)
    with pytest.raises(Unreachable):
        await client.corroboration(FIND)
    await client.aclose()


async def test_raw_control_characters_and_a_byte_order_mark_do_no_harm(siem: Securonix, lab: SecuronixLab) -> None:
    row = f'{{"ipaddress":"{IP}","policyname":"Up\0load\ttoday","eventid":"e1"}}'.encode()
    lab.faults.add(
        "error200", match=SEARCH, body=b'\xef\xbb\xbf{"totalDocuments":"1","error":"false","events":' + row + b"}"
    )
    alert = StartingAlert(event_ids=("other",), destination_ip=IP, occurred_at=AT)
    found = await siem.corroboration(FIND.model_copy(update={"starting_alert": alert}))
    assert [(s.name, s.id) for s in found.sightings] == [("Upload today", "e1")]


# The comment.


async def test_a_comment_is_written_once(siem: Securonix, lab: SecuronixLab) -> None:
    incident = lab.add_incident("200417")
    assert await siem.comment("200417", "Closed as a false positive. [hp-1]", "[hp-1]")
    assert not await siem.comment("200417", "Closed as a false positive. [hp-1]", "[hp-1]")
    assert incident.comments == ["Closed as a false positive. [hp-1]"]
    assert [method for method, path in lab.faults.requests if "incident/actions" in path] == ["POST"]


@pytest.mark.parametrize("kind", ["reset", "empty", "truncated", "html200", "500"])
async def test_a_lost_answer_does_not_double_the_comment(siem: Securonix, lab: SecuronixLab, kind: str) -> None:
    incident = lab.add_incident("200417")
    lab.faults.add(kind, match="incident/actions", after_effect=True)
    with pytest.raises(IntegrationError) as failure:
        await siem.comment("200417", "text [hp-1]", "[hp-1]")
    assert failure.value.retryable
    assert not await siem.comment("200417", "text [hp-1]", "[hp-1]")
    assert len(incident.comments) == 1


async def test_a_long_comment_keeps_its_marker(siem: Securonix, lab: SecuronixLab) -> None:
    incident = lab.add_incident("200417")
    assert await siem.comment("200417", "ü\x1b€" * 2000 + " [hp-1]", "[hp-1]")
    assert len(incident.comments[0]) <= 2000
    assert incident.comments[0].endswith("[hp-1]")
    assert incident.comments[0].isprintable()


@pytest.mark.parametrize(
    "body", [b'{"error": "no stream", "code": "400"}', b'{"status": "OK"}', b'{"result": {"activityStreamData": null}}']
)
async def test_without_a_stream_the_comment_is_written(siem: Securonix, lab: SecuronixLab, body: bytes) -> None:
    incident = lab.add_incident("200417")
    lab.faults.add("error200", match="activityStreamInfo", body=body)
    assert await siem.comment("200417", "text [hp-1]", "[hp-1]")
    lab.faults.add("404", match="activityStreamInfo")
    assert await siem.comment("200417", "text [hp-2]", "[hp-2]")
    assert len(incident.comments) == 2


@pytest.mark.parametrize("kind", ["truncated", "html503", "reset"])
async def test_while_the_stream_cannot_be_read_nothing_is_written(
    siem: Securonix, lab: SecuronixLab, kind: str
) -> None:
    incident = lab.add_incident("200417")
    lab.faults.add(kind, match="activityStreamInfo", times=2)
    with pytest.raises(IntegrationError):
        await siem.comment("200417", "text [hp-1]", "[hp-1]")
    assert incident.comments == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "OK", "messages": ["Invalid incident"], "result": true}',
        b'{"error": "[User] do not have access to incident tenant", "type": "Bad Request", "code": "400"}',
        b'{"status": "OK", "result": false}',
        b'{"status": "FAILED", "messages": []}',
    ],
)
async def test_a_comment_that_is_not_taken_is_told(siem: Securonix, lab: SecuronixLab, body: bytes) -> None:
    lab.add_incident("200417")
    lab.faults.add("error200", match="incident/actions", body=body)
    with pytest.raises(Rejected):
        await siem.comment("200417", "text [hp-1]", "[hp-1]")


@pytest.mark.parametrize("incident_id", ["", "1&type=list", "a b", "x" * 65])
async def test_what_is_no_incident_id_is_not_sent(siem: Securonix, lab: SecuronixLab, incident_id: str) -> None:
    with pytest.raises(Rejected):
        await siem.comment(incident_id, "text [hp-1]", "[hp-1]")
    assert lab.faults.requests == []


# The doctor.


async def test_all_is_well(siem: Securonix, lab: SecuronixLab) -> None:
    checks = await siem.check()
    assert all(check.ok for check in checks)
    assert [check.name for check in checks] == ["Securonix: sign-in", "Securonix: clock", "Securonix: search"]


async def test_a_wrong_password_is_told(siem: Securonix, lab: SecuronixLab) -> None:
    lab.password = "another"
    (check,) = await siem.check()
    assert not check.ok
    assert "username, password" in check.detail


async def test_a_version_without_validation_is_told_from_a_fault(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("404", match="token/validate")
    assert [check.ok for check in await siem.check()] == [True, True]
    lab.faults.add("error200", match="token/validate", body=b"Invalid")
    assert [check.ok for check in await siem.check()] == [False, True, True]


async def test_a_missing_right_to_search_is_told(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("403", match=SEARCH, times=2)
    assert [check.ok for check in await siem.check()] == [True, True, False]


async def test_a_tenant_that_no_row_names_is_told(served: Served, lab: SecuronixLab) -> None:
    client = Securonix(served.url, lab.username, lab.password, tenant="globex")
    checks = await client.check()
    await client.aclose()
    assert [check.name for check in checks if not check.ok] == ["Securonix: search"]
    assert "acme" in checks[-1].detail


async def test_nobody_there_is_told() -> None:
    async with Served(SecuronixLab().app) as gone:
        pass
    client = Securonix(gone.url, "user", SECRET)
    (check,) = await client.check()
    await client.aclose()
    assert not check.ok


async def test_the_certificate_is_verified(lab: SecuronixLab, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    async with Served(lab.app, certificate=made.cert_file, key=made.key_file) as served:
        trusting = Securonix(served.url, lab.username, lab.password, ca_file=made.ca_file)
        wary = Securonix(served.url, lab.username, lab.password)
        assert all(check.ok for check in await trusting.check())
        (check,) = await wary.check()
        await trusting.aclose()
        await wary.aclose()
    assert not check.ok
    assert "certificate" in check.detail
