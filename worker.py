"""A worker process: settings, clients, Worker. Run it with ``python worker.py``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, PollerBehaviorSimpleMaximum, Worker

import logs
import telemetry
from activities.answer_links import LinkMaker
from activities.case import CaseActivities
from activities.chat import ChatActivities
from activities.directory import DirectoryActivities
from activities.endpoint import EndpointActivities
from activities.identity import IdentityActivities
from activities.ledger import LedgerActivities
from activities.next_case import NextCaseActivities
from activities.notification import NotificationActivities
from activities.pulse import Pulse
from activities.record import RecordActivities
from activities.siem import SiemActivities
from activities.siem_incidents import SiemIncidentActivities
from activities.ticketing import TicketingActivities
from clients import SOURCES, Clients, connect
from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from group_checks import analysts_groups, look_up
from handing_over import handing_on
from incident.queues import Integration, queue_of
from polling import taking
from sandbox import LOADED_ONCE, CaseSandbox
from serving import served, serves_cases, worker_settings
from settings import Settings, SettingsRefused
from workflows.containment_ledger import ContainmentLedger
from workflows.next_case import NextCase
from workflows.poll_incidents import IncidentPoller
from workflows.release_containment import ReleaseContainment
from workflows.suspicious_user_activity import SuspiciousUserActivity
from workflows.write_back import IncidentComment

DRAIN = timedelta(seconds=30)
"""How long a running step may go on after SIGTERM: a half-done write must not repeat because of a deploy."""

MAX_ACTIVITIES = 32
"""Steps at once, and as many threads: a blocking LDAP step never waits for a thread while its clock runs."""

CASE_TASKS = 8
"""Tasks of cases at once: one interpreter computes one at a time, and what it has begun is not overtaken."""

CASE_POLLS = 4
"""Polls for them at once. Each holds one of those places while it waits, so half of them is left to work in."""

QUEUES_VARIABLE = "HOLDPOINT_WORKER__QUEUES"

STICKY = timedelta(seconds=5)
"""How long a task waits for the worker that has its case in memory: no longer does a crash delay an answer."""

HEARD = timedelta(milliseconds=100)
"""How soon Temporal hears what a step keeps in its heartbeat: who has been mailed outlives a crash a moment later."""

WORKFLOWS = (SuspiciousUserActivity, ContainmentLedger, ReleaseContainment, IncidentPoller, IncidentComment, NextCase)

log = logging.getLogger("holdpoint.worker")


def steps_of(client: Client, settings: Settings, clients: Clients) -> dict[Integration, list[object]]:
    """The steps of each integration, bound to its client."""
    siem = SiemActivities(clients.siem, SOURCES["securonix"])
    directory = DirectoryActivities(clients.directory, SOURCES["directory"])
    endpoint = EndpointActivities(clients.endpoint, SOURCES[settings.endpoint.provider])
    ticketing = TicketingActivities(clients.ticketing)
    notification = NotificationActivities(clients.mailer, settings.mail.sender.partition("@")[2], _links(settings))
    return {
        Integration.SIEM: [
            siem.locate_host,
            siem.score_risk,
            siem.find_corroboration,
            siem.comment_incident,
            _incidents(client, settings, clients).take_incidents,
        ],
        Integration.DIRECTORY: [
            directory.find_person,
            directory.find_electorate,
            directory.disable_account,
            directory.confirm_disabled,
            directory.confirm_elsewhere,
            directory.enable_account,
            directory.confirm_enabled,
        ],
        Integration.ENDPOINT: [
            endpoint.find_device,
            endpoint.quarantine_host,
            endpoint.confirm_quarantined,
            endpoint.lift_quarantine,
            endpoint.confirm_lifted,
        ],
        Integration.TICKETING: [
            ticketing.open_ticket,
            ticketing.add_note,
            RecordActivities(clients.ticketing, _record_key(settings)).attach,
        ],
        Integration.IDENTITY: [IdentityActivities(clients.sign_ins).revoke_sign_ins],
        Integration.MAIL: [notification.notify],
        Integration.CHAT: [ChatActivities(clients.chat).post],
    }


def _without_credentials(client: Client, settings: Settings) -> list[object]:
    """The steps that a worker answers by itself or by asking Temporal."""
    case = CaseActivities(client, settings.case_policy())
    return [
        case.snapshot_policy,
        case.find_earlier,
        case.containment_of,
        NextCaseActivities(client, handing_on(client, settings.case_policy())).open_next,
        LedgerActivities(client, TASK_QUEUE).reserve,
    ]


def activities(client: Client, settings: Settings, clients: Clients) -> list[object]:
    """Every step of the main queue: all of them, in a process that serves all queues."""
    steps = steps_of(client, settings, clients)
    return [*(step for name in served(settings) for step in steps[name]), *_without_credentials(client, settings)]


def _incidents(client: Client, settings: Settings, clients: Clients) -> SiemIncidentActivities:
    source = clients.incidents
    take = taking(client, settings, source) if source else None
    return SiemIncidentActivities(source, take, comments=settings.securonix.write_back)


def _record_key(settings: Settings) -> str | None:
    return settings.record.key.get_secret_value() if settings.record.key else None


def _links(settings: Settings) -> LinkMaker | None:
    desk = settings.desk
    if desk.url is None or desk.key is None:
        return None
    return LinkMaker(desk.url, desk.key.get_secret_value(), desk.links_last)


def tuned(executor: ThreadPoolExecutor) -> dict[str, Any]:
    """How the worker works; what each setting brings is in ``docs/performance.md``."""
    return {
        "activity_executor": executor,
        "max_concurrent_activities": MAX_ACTIVITIES,
        "max_concurrent_workflow_tasks": CASE_TASKS,
        "workflow_task_poller_behavior": PollerBehaviorSimpleMaximum(CASE_POLLS),
        "activity_task_poller_behavior": PollerBehaviorAutoscaling(),
        "sticky_queue_schedule_to_start_timeout": STICKY,
        "max_heartbeat_throttle_interval": HEARD,
        "interceptors": [Pulse()],
        "workflow_runner": CaseSandbox(restrictions=LOADED_ONCE),
        "graceful_shutdown_timeout": DRAIN,
    }


def build_worker(client: Client, settings: Settings, clients: Clients, executor: ThreadPoolExecutor) -> Worker:
    """The worker of the task queue ``incident-response``."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=WORKFLOWS,
        activities=activities(client, settings, clients),  # type: ignore[arg-type]
        **tuned(executor),
    )


def build_workers(
    client: Client, settings: Settings, clients: Clients, executor: ThreadPoolExecutor
) -> dict[str, Worker]:
    """One for each task queue that this process serves, by the queue's name.

    The limit of a queue goes to Temporal, which holds it over all workers of the queue.
    """
    workers = {TASK_QUEUE: build_worker(client, settings, clients, executor)} if serves_cases(settings) else {}
    steps, ours = steps_of(client, settings, clients), served(settings)
    for name, limit in settings.own_queues().items():
        if name in ours:
            queue = queue_of(name, TASK_QUEUE)
            workers[queue] = Worker(
                client,
                task_queue=queue,
                activities=steps[name],  # type: ignore[arg-type]
                max_task_queue_activities_per_second=limit / 60 if limit else None,
                **tuned(executor),
            )
    return workers


async def check_groups(settings: Settings, clients: Clients, executor: ThreadPoolExecutor) -> None:
    """Hold the protected groups against the directory. One that does not answer keeps no case from running.

    Raises:
        SettingsRefused: it knows none of that name.
    """
    protected, analysts = settings.guardrails.protected_groups, analysts_groups(settings)
    found = await look_up(clients.directory, protected, analysts=analysts, executor=executor)
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
        threads = MAX_ACTIVITIES * (1 + len(settings.own_queues()))
        with ThreadPoolExecutor(threads, thread_name_prefix="directory") as executor:
            if Integration.DIRECTORY in served(settings):
                await check_groups(settings, clients, executor)
            workers = build_workers(client, settings, clients, executor)
            async with AsyncExitStack() as working:
                for worker in workers.values():
                    await working.enter_async_context(worker)
                log.info("worker ready on %s, namespace %s", ", ".join(workers), client.namespace)
                await stop.wait()
                log.info("draining for at most %d s", DRAIN.total_seconds())
    finally:
        await clients.aclose()


def main(arguments: Sequence[str] = ()) -> int:
    """Run a worker; returns the exit code: 0 drained, 1 no Temporal, 2 bad settings."""
    parser = argparse.ArgumentParser(prog="worker.py", description="Work on cases.")
    parser.add_argument("--queues", help="serve only these, such as cases,endpoint; goes before worker.queues")
    queues = parser.parse_args(list(arguments)).queues
    if queues is not None:
        os.environ[QUEUES_VARIABLE] = queues
    written = logs.set_up()
    try:
        asyncio.run(run(worker_settings()))
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
    code = main(sys.argv[1:])
    # The SDK's threads can crash an interpreter that tears itself down, and with it the code; all is written by now.
    os._exit(code)
