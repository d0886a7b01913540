"""The record's step against both ticket systems: sealed where the key is, and on the ticket once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from xml.etree import ElementTree

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.record import RecordActivities
from incident.requests import AttachRecord, TicketDraft
from incident.sealing import examine, exported
from incident.triage import Priority
from integrations.interfaces import Ticketing
from integrations.jira import Jira
from integrations.servicenow import ServiceNow
from lab.jira import JiraLab
from lab.servicenow import ServiceNowLab
from lab.serving import Served
from tests.unit.test_record import whole

KEY = "a key of the tests, long enough"
DRAFT = TicketDraft(key="hp-5f0c0e7a1b2c3d4e5f60", title="Case", description="x", priority=Priority.HIGH)
Files = Callable[[], dict[str, bytes]]


@asynccontextmanager
async def service_now() -> AsyncIterator[tuple[Ticketing, Any, Files]]:
    lab = ServiceNowLab()
    async with Served(lab.app) as served:
        client = ServiceNow(served.url, lab.username, lab.password)
        yield client, lab.faults, lambda: {r["file_name"]: lab.files[r["sys_id"]] for r in lab.rows("sys_attachment")}
        await client.aclose()


@asynccontextmanager
async def jira() -> AsyncIterator[tuple[Ticketing, Any, Files]]:
    lab = JiraLab()
    async with Served(lab.app) as served:
        client = Jira(served.url, lab.username, lab.api_token, lab.project, search_again=(0.0, 0.0))
        yield client, lab.faults, lambda: {name: content for name, _, content in lab.issues[0].files}
        await client.aclose()


@pytest.mark.parametrize("system", [service_now, jira])
async def test_it_is_sealed_and_attached_once(system: Any) -> None:
    async with system() as (client, _, files):
        case, ticket = whole("w\u00fcrst <b>"), await client.open_ticket(DRAFT)
        request = AttachRecord(ticket=ticket, name=f"{case.reference}-record", record=exported(case))
        step = RecordActivities(client, KEY).attach
        names = [f"{case.reference}-record.json", f"{case.reference}-record.html"]
        assert await ActivityEnvironment().run(step, request) == names
        assert await ActivityEnvironment().run(step, request) == []
        assert sorted(files()) == sorted(names)
        sealed = json.loads(files()[names[0]])
        assert examine(sealed, KEY).valid
        assert sealed["head"] == case.head
        assert KEY not in repr(files())
        assert "w\u00fcrst <b>" in "".join(ElementTree.fromstring(files()[names[1]].decode()).itertext())


@pytest.mark.parametrize("system", [service_now, jira])
async def test_an_attempt_that_broke_off_half_way_is_completed(system: Any) -> None:
    async with system() as (client, faults, files):
        case, ticket = whole("web01"), await client.open_ticket(DRAFT)
        request = AttachRecord(ticket=ticket, name="HP-1-record", record=exported(case))
        step = RecordActivities(client, None).attach
        faults.add("slow", match="POST", seconds=0)
        faults.add("503", match="POST")
        with pytest.raises(ApplicationError) as raised:
            await ActivityEnvironment().run(step, request)
        assert (raised.value.type, raised.value.non_retryable) == ("Busy", False)
        assert list(files()) == ["HP-1-record.json"]
        assert await ActivityEnvironment().run(step, request) == ["HP-1-record.html"]
        assert sorted(files()) == ["HP-1-record.html", "HP-1-record.json"]
        assert examine(json.loads(files()["HP-1-record.json"]), None).valid
