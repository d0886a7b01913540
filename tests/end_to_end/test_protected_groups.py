"""Protected groups are held against the directory: by the worker before it works, and by the doctor."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from connection import TASK_QUEUE
from group_checks import GroupsFound, examine_groups, look_up
from incident.policy import OnUnanswered
from lab.environment import Environment
from tests import processes

LINE = "Guardrails: groups"
KNOWN = ["Crown-Jewels", "CORP\\ERP-Access", "crown-jewels", "Board ?U", "S-1-5-21-*-512"]
DOWN = {"HOLDPOINT_DIRECTORY__SERVERS": '["ldaps://127.0.0.1:1"]'}


class Place:
    """The stand-ins, the settings that point at them, and what is run there."""

    def __init__(self, lab: Environment, client: Client, env: dict[str, str]) -> None:
        self.lab = lab
        self.client = client
        self._env = env

    def env(self, groups: Sequence[str], **changes: str) -> dict[str, str]:
        return {**self._env, "HOLDPOINT_GUARDRAILS__PROTECTED_GROUPS": json.dumps(list(groups)), **changes}

    async def pollers(self) -> set[str]:
        told = await self.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=self.client.namespace, task_queue=TaskQueue(name=TASK_QUEUE))
        )
        return {poller.identity for poller in told.pollers}

    async def line(self, groups: Sequence[str], **changes: str) -> dict[str, Any]:
        ran = await processes.starter("doctor", "--json", env=self.env(groups, **changes))
        (line,) = [check for check in json.loads(ran.out) if check["name"] == LINE]
        assert line["ok"] or ran.code == 1
        return dict(line)


@pytest_asyncio.fixture(scope="module")
async def place(dev_server: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder: Path = tmp_path_factory.mktemp("groups")
    (folder / "logs").mkdir()
    async with Environment(folder) as lab:
        for name in ("Crown-Jewels", "ERP-Access"):
            lab.directory.add_group(name)
        settings = lab.write_settings("holdpoint.toml", wait="1h", on_unanswered=OnUnanswered.HOLD)
        env = processes.variables(
            folder, TEMPORAL_ADDRESS=dev_server.client.service_client.config.target_host, **lab.variables(settings)
        )
        yield Place(lab, dev_server.client, env)


async def test_a_worker_refuses_groups_that_the_directory_does_not_know(place: Place) -> None:
    groups = [*KNOWN, "Crown-Jewls", "S-1-5-21-1-2-3-4711", "(cn="]
    before = await place.pollers()
    ran = await processes.run(sys.executable, processes.WORKER, env=place.env(groups))
    assert ran.code == 2
    told = [line for line in ran.err.splitlines() if "settings: guardrails.protected_groups: " in line]
    assert len(told) == 3
    for line, name in zip(told, ("Crown-Jewls", "S-1-5-21-1-2-3-4711", "(cn="), strict=True):
        assert f"knows no group {name!r}" in line
    assert "worker ready" not in ran.err
    assert await place.pollers() == before, "it never asked for work"


async def test_a_group_of_analysts_that_is_not_there_is_told_too(place: Place) -> None:
    def tiers(group: str) -> str:
        return json.dumps([{"name": "soc", "recipients": ["soc@acme.example"], "analysts_group": group, "wait": "1h"}])

    there, lost = await asyncio.gather(
        place.line(KNOWN, HOLDPOINT_TIERS=tiers("ERP-Access")), place.line(KNOWN, HOLDPOINT_TIERS=tiers("SOC-Tier-9"))
    )
    assert there["ok"]
    assert not lost["ok"]
    assert lost["detail"].startswith("tiers: the directory knows no analysts_group 'SOC-Tier-9'")


async def test_a_worker_starts_where_all_are_known(place: Place, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    worker = processes.Worker(tmp_path, place.env(KNOWN))
    try:
        await worker.start()
        assert "protected_groups" not in worker.logged()
        assert await worker.drain() == 0
    finally:
        await worker.kill()


@pytest.mark.parametrize("change", [DOWN, {"HOLDPOINT_DIRECTORY__PASSWORD": "wrong"}], ids=["down", "refuses"])
async def test_a_directory_that_does_not_tell_keeps_no_worker_from_starting(
    place: Place, tmp_path: Path, change: dict[str, str]
) -> None:
    (tmp_path / "logs").mkdir()
    worker = processes.Worker(tmp_path, place.env(["No-Such"], **change))
    try:
        await worker.start()
        (line,) = [line for line in worker.logged().splitlines() if "protected_groups" in line]
        assert "WARNING" in line.upper()
        assert "could not be asked" in line
        assert "working all the same" in line
        assert await worker.drain() == 0
    finally:
        await worker.kill()


async def test_the_doctor_has_a_line_for_them(place: Place) -> None:
    well, none, unknown, down = await asyncio.gather(
        place.line(KNOWN), place.line([]), place.line([*KNOWN, "Crown-Jewls"]), place.line(["No-Such"], **DOWN)
    )
    told = "3 known to the directory, 2 with * or ?, which are not looked up"
    assert (well["ok"], well["detail"]) == (True, told)
    assert (none["ok"], none["detail"]) == (True, "none is named")
    assert not unknown["ok"]
    assert "knows no group 'Crown-Jewls'" in unknown["detail"]
    assert not down["ok"]
    assert "could not be asked" in down["detail"]
    assert "a worker starts all the same" in down["detail"]


class Silent:
    """A directory that takes the question and says nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def unknown_groups(self, names: Sequence[str]) -> list[str]:
        self.let_go.wait(30)
        return list(names)


async def test_nobody_waits_for_a_silent_directory_for_ever() -> None:
    silent: Any = Silent()
    within = timedelta(milliseconds=50)
    try:
        found = await look_up(silent, ["Sales", "Board *"], within=within)
        assert (found.unknown, found.patterns, found.faults) == ((), ("Board *",), [])
        assert found.warning
        assert "no answer within" in found.warning
        (check,) = await examine_groups(silent, ["Sales"], within=within)
        assert not check.ok
    finally:
        silent.let_go.set()


async def test_only_patterns_need_no_directory() -> None:
    nobody: Any = None
    assert await look_up(nobody, ["Board *", "S-1-5-21-*-512"]) == GroupsFound(patterns=("Board *", "S-1-5-21-*-512"))
