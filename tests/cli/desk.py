"""A desk to type at: the command line against a dev server, where a worker over a world in memory serves the queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from temporalio.client import Client

from connection import TASK_QUEUE
from incident.alert import Alert
from lab.servers import Ran
from starter import Started
from tests import processes
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, World, alert, policy

SETTINGS = f"""
[securonix]
url = "http://127.0.0.1:1/Snypr"
username = "nobody"
tenant = "acme"
[directory]
servers = ["ldaps://127.0.0.1:1"]
bind_user = "nobody@corp.example"
base_dn = "DC=corp,DC=example"
[endpoint.crowdstrike]
base_url = "http://127.0.0.1:1"
client_id = "nobody"
[ticketing.servicenow]
url = "http://127.0.0.1:1"
username = "nobody"
[mail]
host = "127.0.0.1"
sender = "holdpoint@acme.example"
[policy]
recheck_every = "7d"
on_unanswered = "close"
[[tiers]]
name = "analyst"
recipients = ["soc@acme.example"]
analysts = ["{ANALYST}"]
wait = "30m"
[[tiers]]
name = "on-call"
recipients = ["{ON_CALL}"]
analysts = ["{ON_CALL}"]
wait = "20m"
[[tiers]]
name = "soc-lead"
recipients = ["{LEAD}"]
analysts = ["{LEAD}"]
wait = "10m"
"""
"""What the command line needs; it connects to none of these systems, and holds none of their secrets."""


def settings_file(folder: Path, text: str = SETTINGS) -> Path:
    """The settings in a file of their own."""
    path = folder / "holdpoint.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Desk(Scene):
    """A scene on the queue that the command line uses, and the programs that are typed at it."""

    def __init__(self, client: Client, world: World, folder: Path) -> None:
        super().__init__(client, world, TASK_QUEUE)
        self.folder = folder
        self.env = processes.variables(
            folder,
            TEMPORAL_ADDRESS=client.service_client.config.target_host,
            TEMPORAL_NAMESPACE=client.namespace,
            HOLDPOINT_CONFIG=str(settings_file(folder)),
        )

    async def starter(self, *arguments: str, given: bytes = b"") -> Ran:
        """``python starter.py …``."""
        return await processes.starter(*arguments, env=self.env, given=given)

    async def json(self, *arguments: str, given: bytes = b"") -> Any:
        """What such a command prints with ``--json``; it has to succeed."""
        ran = await self.starter(*arguments, "--json", given=given)
        assert (ran.code, ran.err) == (0, "")
        return json.loads(ran.out)

    async def temporal(self, *arguments: str) -> Ran:
        """``temporal …``."""
        return await processes.temporal(*arguments, env=self.env)

    def file(self, given: Alert | dict[str, Any], name: str = "alert.json") -> str:
        """The alert in a file."""
        path = self.folder / name
        path.write_text(given.model_dump_json() if isinstance(given, Alert) else json.dumps(given), encoding="utf-8")
        return str(path)

    async def held(self, **changes: Any) -> Started:
        """A case that waits for an answer."""
        self.world.sightings = 0
        before = len(self.world.mails)
        started = await self.start(alert(**changes), policy())
        await self.mailed(before + 1)
        return started
