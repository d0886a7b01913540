"""Listing Securonix's incidents, against a server that lists its own as Securonix does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from incident.polling import SiemIncident
from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, Refused, Rejected, Unreachable
from integrations.securonix import Securonix
from lab.securonix import SecuronixLab
from tests.integrations.swapped import Current, current

AT = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
SINCE = AT - timedelta(hours=6)
LIST = "incident/get?type=list"


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Current[SecuronixLab]]:
    async with current(lambda: SecuronixLab(clock=lambda: AT)) as app:
        yield app


@pytest.fixture
def lab(served: Current[SecuronixLab]) -> SecuronixLab:
    return served.renewed()


@pytest.fixture
async def siem(lab: SecuronixLab, served: Current[SecuronixLab]) -> AsyncIterator[Securonix]:
    client = Securonix(served.url, lab.username, lab.password, tenant="acme", clock=lambda: AT)
    yield client
    await client.aclose()


async def ids(siem: Securonix, offset: int = 0) -> list[str]:
    page = await siem.incidents(SINCE, AT, offset)
    return [incident.id for incident in page.incidents]


async def test_a_window_is_asked_for_in_milliseconds_and_the_oldest_comes_first(
    siem: Securonix, lab: SecuronixLab
) -> None:
    lab.add_incident("2", opened=AT - timedelta(minutes=1))
    lab.add_incident("1", opened=AT - timedelta(hours=5))
    lab.add_incident("before", opened=SINCE - timedelta(milliseconds=1))
    lab.add_incident("after", opened=AT + timedelta(milliseconds=1))
    page = await siem.incidents(SINCE, AT, 0)
    assert ([i.id for i in page.incidents], page.count, page.total) == (["1", "2"], 2, 2)
    assert page.incidents[0].opened_at == AT - timedelta(hours=5)
    method, path = lab.faults.requests[-1]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    assert method == "GET"
    assert asked == {
        "type": "list",
        "from": str(int(SINCE.timestamp() * 1000)),
        "to": str(int(AT.timestamp() * 1000)),
        "rangeType": "opened",
        "max": "200",
        "offset": "0",
        "order": "asc",
        "tenantname": "acme",
    }


async def test_an_empty_page_is_the_last(siem: Securonix, lab: SecuronixLab) -> None:
    lab.quirks.incident_page = 2
    for number in range(5):
        lab.add_incident(str(number), opened=AT - timedelta(minutes=30 - number))
    read: list[str] = []
    while more := await ids(siem, len(read)):
        read += more
    assert read == ["0", "1", "2", "3", "4"]


async def test_another_tenants_are_counted_and_not_told(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_incident("1")
    lab.add_incident("2", tenantInfo={"tenantname": "other"})
    lab.add_incident("3", tenantInfo={"tenantname": " ACME "})
    lab.add_incident("4", tenantInfo=None)
    page = await siem.incidents(SINCE, AT, 0)
    assert page.count == 4
    assert [incident.id for incident in page.incidents] == ["1", "3", "4"]


def body(**data: Any) -> bytes:
    return json.dumps({"status": "OK", "result": {"data": data}}).encode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (body(totalIncidents=1.0, incidentItems=[{"incidentId": 7}]), ["7"]),
        (body(totalIncidents="1", incidentItems={"incidentId": "7"}), ["7"]),
        (body(totalIncidents=0.0, incidentItems=[]), []),
        (body(totalIncidents=0), []),
        (body(incidentItems=[{"incidentId": "7", "lastUpdateDate": "no time", "casecreatetime": 10**30}]), ["7"]),
        (b"\xef\xbb\xbf" + body(incidentItems=[{"incidentId": "7"}]), ["7"]),
        (b'{"error": false, "result": {"data": {"incidentItems": [{"incidentId": "7"}]}}}', ["7"]),
        (b'{"error": "false", "result": {"data": {"incidentItems": []}}}', []),
    ],
)
async def test_every_documented_shape_is_read(
    siem: Securonix, lab: SecuronixLab, answer: bytes, expected: list[str]
) -> None:
    lab.faults.add("error200", match=LIST, body=answer)
    assert await ids(siem) == expected


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "error200", "body": b'{"error": "[User] do not have access", "code": "400"}'}, Rejected),
        ({"kind": "error200", "body": b'{"error": true, "errorMessage": "later"}'}, BadAnswer),
        ({"kind": "error200", "body": b'{"status": "OK", "result": {}}'}, BadAnswer),
        ({"kind": "error200", "body": b'{"status": "OK", "result": {"data": {}}}'}, BadAnswer),
        ({"kind": "error200", "body": body(incidentItems=[{"priority": "High"}])}, BadAnswer),
        ({"kind": "empty"}, BadAnswer),
        ({"kind": "truncated"}, BadAnswer),
        ({"kind": "html200", "times": 2}, BadAnswer),
        ({"kind": "403", "times": 2}, Refused),
        ({"kind": "400"}, Rejected),
        ({"kind": "429", "seconds": 7}, Busy),
        ({"kind": "html503"}, Busy),
        ({"kind": "reset"}, Unreachable),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else value.__name__,
)
async def test_each_failure_has_its_type(
    siem: Securonix, lab: SecuronixLab, fault: dict[str, Any], kind: type[IntegrationError]
) -> None:
    lab.add_incident("1")
    lab.faults.add(**{"match": LIST, **fault})
    with pytest.raises(IntegrationError) as caught:
        await ids(siem)
    assert type(caught.value) is kind
    lab.faults.clear()
    assert await ids(siem) == ["1"]


async def test_a_wrong_password_is_misconfigured(lab: SecuronixLab, served: Current[SecuronixLab]) -> None:
    client = Securonix(served.url, lab.username, "wrong")
    with pytest.raises(Misconfigured):
        await client.incidents(SINCE, AT, 0)
    await client.aclose()


# The address of an incident that tells none.

UPLOAD = "Large data transfer"


async def listed(siem: Securonix) -> SiemIncident:
    (incident,) = (await siem.incidents(SINCE, AT, 0)).incidents
    return incident


def users(lab: SecuronixLab, **fields: Any) -> None:
    lab.add_incident("1", entity="Users", violatorText="Jane Roe", violatorSubText="4711", **fields)


async def test_the_violations_of_the_incidents_person_and_policy_tell_it(siem: Securonix, lab: SecuronixLab) -> None:
    users(lab)
    one = lab.add_violation(UPLOAD, "10.20.30.40", employeeid="4711", destinationaddress="10.20.30.41")
    lab.add_violation("Another policy", "10.20.30.50", employeeid="4711", destinationaddress="10.20.30.51")
    lab.add_violation(UPLOAD, "10.20.30.60", employeeid="4712", destinationaddress="10.20.30.61")
    found = await siem.with_address(await listed(siem), [UPLOAD])
    assert found.fields["destinationaddress"] == ["10.20.30.41"]
    assert found.fields["eventid"] == [one]


async def test_without_a_destination_it_is_the_address_of_the_violation(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_incident("1", entity="RTActivityAccount", violatorText='j"*doe', violatorId='j"*doe')
    lab.add_violation(UPLOAD, "10.20.30.40", accountname='j"*doe')
    lab.add_violation(UPLOAD, "10.20.30.50", accountname='j"xdoe')
    assert (await siem.with_address(await listed(siem), [UPLOAD])).fields["destinationaddress"] == ["10.20.30.40"]


async def test_two_are_told_as_two(siem: Securonix, lab: SecuronixLab) -> None:
    users(lab)
    for last in (41, 42, 41):
        lab.add_violation(UPLOAD, "10.20.30.40", employeeid="4711", destinationaddress=f"10.20.30.{last}")
    found = await siem.with_address(await listed(siem), [UPLOAD])
    assert found.fields["destinationaddress"] == ["10.20.30.41", "10.20.30.42"]


@pytest.mark.parametrize(
    "fields",
    [
        {"entity": "Activityip", "violatorText": "10.20.30.40"},
        {"entity": "Users", "violatorSubText": "4711", "destinationaddress": "10.20.30.40"},
        {"entity": "Unheard of", "violatorText": "x"},
        {"entity": "Users", "violatorSubText": "47\n11"},
        {"entity": None},
    ],
)
async def test_what_tells_its_address_or_names_nobody_is_left_as_it_is(
    siem: Securonix, lab: SecuronixLab, fields: dict[str, Any]
) -> None:
    lab.add_incident("1", **fields)
    incident = await listed(siem)
    before = len(lab.faults.requests)
    assert await siem.with_address(incident, [UPLOAD]) == incident
    assert len(lab.faults.requests) == before


async def test_none_yet_is_no_failure_and_a_failed_search_is_one(siem: Securonix, lab: SecuronixLab) -> None:
    users(lab)
    incident = await listed(siem)
    assert await siem.with_address(incident, [UPLOAD]) == incident
    lab.faults.add("503", match="spotter")
    with pytest.raises(Busy):
        await siem.with_address(incident, [UPLOAD])
