"""A worker is killed between two recipients: Temporal knows who was mailed, and the next worker mails the rest."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiosmtpd.smtp import Envelope
from temporalio.testing import WorkflowEnvironment

from incident.question import MailContext
from incident.requests import Delivery, MailKind, Notice
from lab.mailbox import MailboxLab
from tests.house.layers import ROOT
from tests.mail_crash.probe import Probe

PEOPLE = ("ann@corp.example", "bob@corp.example", "cyd@corp.example", "dan@corp.example")


@asynccontextmanager
async def process(target: str, queue: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process; it is killed at the end."""
    command = (sys.executable, "-m", "tests.mail_crash.probe_worker", target, queue, str(port))
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_who_was_mailed_before_the_crash_is_not_mailed_again(dev_server: WorkflowEnvironment) -> None:
    queue, client = f"q-{uuid.uuid4()}", dev_server.client
    target = client.service_client.config.target_host
    context = MailContext(headline="A transfer", case_id="sua-acme-10.20.30.40", priority="high")
    notice = Notice(
        kind=MailKind.NOTICE,
        key="hp-1",
        thread=None,
        case_ref="HP-1",
        recipients=PEOPLE,
        context=context.model_dump(mode="json"),
    )
    struck = asyncio.Event()

    async def at_the_fourth(moment: str, envelope: Envelope) -> bool:
        if moment == "before" and envelope.rcpt_tos == [PEOPLE[3]] and not struck.is_set():
            # Three have theirs; the worker has a moment to tell Temporal so.
            await asyncio.sleep(1)
            struck.set()
            await asyncio.Event().wait()
        return True

    async with MailboxLab() as relay:
        relay.around = at_the_fourth
        handle = await client.start_workflow(Probe.run, notice, id=f"probe-{uuid.uuid4()}", task_queue=queue)
        async with process(target, queue, relay.port) as first:
            await asyncio.wait_for(struck.wait(), 60)
            first.kill()
            await first.wait()
        async with process(target, queue, relay.port):
            delivery: Delivery = await asyncio.wait_for(handle.result(), 60)
        assert [mail.recipients[0] for mail in relay.messages] == list(PEOPLE)
    assert delivery.accepted == PEOPLE
