"""A worker process: settings, clients, Worker. Run it with ``python worker.py``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

import logs
import telemetry
from activities.case import CaseActivities
from activities.directory import DirectoryActivities
from activities.endpoint import EndpointActivities
from activities.identity import IdentityActivities
from activities.ledger import LedgerActivities
from activities.notification import NotificationActivities
from activities.pulse import Pulse
from activities.record import RecordActivities
from activities.siem import SiemActivities
from activities.ticketing import TicketingActivities
from clients import SOURCES, Clients, connect
from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from group_checks import look_up
from settings import Settings, SettingsRefused, load_settings
from workflows.containment_ledger import ContainmentLedger
from workflows.release_containment import ReleaseContainment
from workflows.suspicious_user_activity import SuspiciousUserActivity

DRAIN = timedelta(seconds=30)
"""How long a running step may go on after SIGTERM: a half-done write must not repeat because of a deploy."""

MAX_ACTIVITIES = 32
"""Steps at once, and as many threads: a blocking LDAP step never waits for a thread while its clock runs."""

STICKY = timedelta(seconds=5)
"""How long a task waits for the worker that has its case in memory: no longer does a crash delay an answer."""

WORKFLOWS = (SuspiciousUserActivity, ContainmentLedger, ReleaseContainment)

log = logging.getLogger("holdpoint.worker")


def activities(client: Client, settings: Settings, clients: Clients) -> list[object]:
    """Every step, bound to its client."""
    siem = SiemActivities(clients.siem, SOURCES["securonix"])
    directory = DirectoryActivities(clients.directory, SOURCES["directory"])
    endpoint = EndpointActivities(clients.endpoint, SOURCES[settings.endpoint.provider])
    ticketing = TicketingActivities(clients.ticketing)
    notification = NotificationActivities(clients.mailer, settings.mail.sender.partition("@")[2])
    case = CaseActivities(client, settings.case_policy())
    return [
        siem.locate_host,
        siem.score_risk,
        siem.find_corroboration,
        siem.comment_incident,
        directory.find_person,
        directory.disable_account,
        directory.confirm_disabled,
        directory.confirm_elsewhere,
        directory.enable_account,
        directory.confirm_enabled,
        endpoint.find_device,
        endpoint.quarantine_host,
        endpoint.confirm_quarantined,
        endpoint.lift_quarantine,
        endpoint.confirm_lifted,
        ticketing.open_ticket,
        ticketing.add_note,
        RecordActivities(clients.ticketing, _record_key(settings)).attach,
        IdentityActivities(clients.sign_ins).revoke_sign_ins,
        notification.notify,
        case.snapshot_policy,
        case.find_earlier,
        case.containment_of,
        LedgerActivities(client, TASK_QUEUE).reserve,
    ]


def _record_key(settings: Settings) -> str | None:
    return settings.record.key.get_secret_value() if settings.record.key else None


def build_worker(client: Client, settings: Settings, clients: Clients, executor: ThreadPoolExecutor) -> Worker:
    """The worker of the task queue ``incident-response``."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=WORKFLOWS,
        activities=activities(client, settings, clients),  # type: ignore[arg-type]
        activity_executor=executor,
        max_concurrent_activities=MAX_ACTIVITIES,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        sticky_queue_schedule_to_start_timeout=STICKY,
        interceptors=[Pulse()],
        graceful_shutdown_timeout=DRAIN,
    )


async def check_groups(settings: Settings, clients: Clients, executor: ThreadPoolExecutor) -> None:
    """Hold the protected groups against the directory. One that does not answer keeps no case from running.

    Raises:
        SettingsRefused: it knows none of that name.
    """
    found = await look_up(clients.directory, settings.guardrails.protected_groups, executor=executor)
    if found.faults:
        raise SettingsRefused(found.faults)
    if found.warning:
        log.warning("%s; working all the same", found.warning)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then drain.

    Raises:
        SettingsRefused: the directory does not know a protected group.
        TemporalUnreachable: there is no server.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect_temporal(lasting=True)
    clients = connect(settings)
    try:
        with ThreadPoolExecutor(MAX_ACTIVITIES, thread_name_prefix="directory") as executor:
            await check_groups(settings, clients, executor)
            async with build_worker(client, settings, clients, executor):
                log.info("worker ready on %s, namespace %s", TASK_QUEUE, client.namespace)
                await stop.wait()
                log.info("draining for at most %d s", DRAIN.total_seconds())
    finally:
        await clients.aclose()


def main() -> int:
    """Run a worker; returns the exit code: 0 drained, 1 no Temporal, 2 bad settings."""
    written = logs.set_up()
    try:
        asyncio.run(run(load_settings()))
    except SettingsRefused as error:
        for fault in error.faults:
            log.error("settings: %s", fault)  # noqa: TRY400 - the fault is all that helps
        return 2
    except TemporalUnreachable as error:
        log.error("%s", error)  # noqa: TRY400 - the message is all that helps
        return 1
    finally:
        telemetry.finish()
        written()
    return 0


if __name__ == "__main__":
    code = main()
    # The SDK's threads can crash an interpreter that tears itself down, and with it the code; all is written by now.
    os._exit(code)
