"""A worker process that mails: ``worker.build_worker`` as it is, with a runbook that does nothing else.

``python -m tests.mail_crash.probe_worker TEMPORAL QUEUE RELAY_PORT``; it ends when it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

import worker
from clients import Clients
from integrations.smtp import Smtp
from settings import Settings
from tests.house.layers import ROOT
from tests.mail_crash.probe import Probe


async def main(target: str, queue: str, port: int) -> None:
    """Work on that queue, mailing through the relay on that port."""
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    tree["endpoint"]["crowdstrike"]["client_secret"] = "x"
    tree["desk"] |= {"url": "https://desk.corp.example.com", "key": "k" * 40}
    nobody: Any = SimpleNamespace()
    smtp = Smtp("127.0.0.1", port, "holdpoint@corp.example", starttls=False)
    clients = Clients(siem=nobody, directory=nobody, endpoint=nobody, ticketing=nobody, mailer=smtp)
    client = await Client.connect(target, data_converter=pydantic_data_converter)
    for name, probing in (("TASK_QUEUE", queue), ("WORKFLOWS", (Probe,))):
        setattr(worker, name, probing)
    with ThreadPoolExecutor(worker.MAX_ACTIVITIES) as executor:
        await worker.build_worker(client, Settings(**tree), clients, executor).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
