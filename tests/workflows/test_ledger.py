"""The ledger of containments on a real server: no crowd gets more than there is, and a freeze holds at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Worker

from activities.ledger import LedgerActivities
from incident.budget import LEDGER_ID
from incident.requests import Reservation, Reserve
from incident.triage import ActionName
from workflows.containment_ledger import ContainmentLedger


class Book:
    """A ledger of its own, a worker for it, and what asks it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queue = f"ledger-{uuid.uuid4()}"
        self.id = f"{LEDGER_ID}-{uuid.uuid4()}"
        self.activities = LedgerActivities(client, self.queue, self.id)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with Worker(self.client, task_queue=self.queue, workflows=[ContainmentLedger]):
            yield

    async def reserve(self, key: str, *, automatic: bool = True, most: int = 5) -> Reservation:
        request = Reserve(
            key=key,
            case_id=f"sua-acme-{key}",
            actions=(ActionName.DISABLE_ACCOUNT,),
            automatic=automatic,
            max_per_hour=most,
        )
        told: Reservation = await ActivityEnvironment().run(self.activities.reserve, request)
        return told

    async def turn(self, switch: str, **words: Any) -> dict[str, Any]:
        told: dict[str, Any] = await self.client.get_workflow_handle(self.id).execute_update(switch, words)
        return told


@pytest.fixture
async def book(dev_server: WorkflowEnvironment) -> AsyncIterator[Book]:
    made = Book(dev_server.client)
    yield made
    await made.client.get_workflow_handle(made.id).terminate()


async def test_a_crowd_gets_no_more_than_there_is(book: Book) -> None:
    async with book.working():
        told = await asyncio.gather(*(book.reserve(f"c{n}") for n in range(25)))
        assert sum(one.granted for one in told) == 5
        assert all("person decides" in one.reason for one in told if not one.granted)
        assert (await book.reserve("approved", automatic=False)).granted
        assert not (await book.reserve("late")).granted


async def test_the_same_request_has_one_place(book: Book) -> None:
    async with book.working():
        told = [await book.reserve("one", most=1) for _ in range(3)]
        assert [one.granted for one in told] == [True, True, True]
        assert not (await book.reserve("two", most=1)).granted


async def test_a_freeze_holds_for_all_and_survives_the_worker(book: Book) -> None:
    async with book.working():
        assert (await book.reserve("before")).granted
        await book.turn("freeze", by="lead@acme.example", reason="drill")
        with pytest.raises(WorkflowUpdateFailedError):
            await book.turn("thaw", by="", reason="")
    async with book.working():
        told = await book.reserve("during", automatic=False)
        assert (told.granted, told.frozen) == (False, True)
        assert "lead@acme.example" in told.reason
        await book.turn("thaw", by="lead@acme.example", reason="done")
        assert (await book.reserve("after")).granted


async def test_no_worker_means_no_grant(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    async with book.working():
        await book.reserve("first")
    monkeypatch.setattr("activities.ledger._TURN_SECONDS", 1.0)
    with pytest.raises(Exception, match="no worker answered"):
        await book.reserve("second")
