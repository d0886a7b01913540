"""One mail a step: an attempt that comes after a delivery finds it, in its heartbeat or in the worker."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import notification
from activities.notification import NotificationActivities
from incident.question import MailContext
from incident.requests import Delivery, MailKind, Notice
from integrations.errors import Unreachable
from integrations.interfaces import Mail, Mailer


class _Relay:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.down = False

    async def send(self, mail: Mail) -> Delivery:
        if self.down:
            raise Unreachable("mail: no answer")
        self.sent.append(mail.message_id)
        return Delivery(message_id=mail.message_id, accepted=mail.recipients, refused={})


NOTICE = Notice(
    kind=MailKind.ASK,
    key="hp-1",
    thread=None,
    case_ref="HP-1",
    recipients=("soc@acme.example",),
    context=MailContext(headline="A transfer", case_id="sua-acme-10.20.30.40", priority="high").model_dump(mode="json"),
)


async def _attempt(steps: NotificationActivities, number: int, **info: Any) -> Delivery:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, attempt=number, **info)
    return cast(Delivery, await environment.run(steps.notify, NOTICE))


def _steps(relay: _Relay) -> NotificationActivities:
    return NotificationActivities(cast(Mailer, relay), "acme.example")


async def test_a_delivery_is_put_into_the_heartbeat_and_found_there() -> None:
    relay, beats = _Relay(), list[Any]()
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details[0])
    first = await environment.run(_steps(relay).notify, NOTICE)
    assert await _attempt(_steps(relay), 2, heartbeat_details=beats) == first
    assert len(relay.sent) == 1


async def test_a_delivery_that_temporal_never_heard_of_is_found_in_the_worker() -> None:
    relay = _Relay()
    steps = _steps(relay)
    first = await _attempt(steps, 1)
    assert await _attempt(steps, 2) == first
    assert len(relay.sent) == 1


async def test_another_step_another_run_and_another_worker_send() -> None:
    relay = _Relay()
    steps = _steps(relay)
    await _attempt(steps, 1)
    await _attempt(steps, 2, activity_id="another")
    await _attempt(steps, 2, workflow_run_id="another")
    await _attempt(_steps(relay), 2)
    await _attempt(steps, 1)
    assert len(relay.sent) == 5


async def test_what_failed_is_sent_by_the_next_attempt() -> None:
    relay = _Relay()
    steps = _steps(relay)
    relay.down = True
    with pytest.raises(ApplicationError):
        await _attempt(steps, 1)
    relay.down = False
    await _attempt(steps, 2)
    assert len(relay.sent) == 1


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification, "_REMEMBERED", 2)
    relay = _Relay()
    steps = _steps(relay)
    for name in "abc":
        await _attempt(steps, 1, activity_id=name)
    await _attempt(steps, 2, activity_id="c")
    assert len(relay.sent) == 3
    await _attempt(steps, 2, activity_id="a")
    assert len(relay.sent) == 4
