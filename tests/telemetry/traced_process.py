"""A process with the telemetry of its environment: two cases over a world whose SIEM, directory and mail are wired.

Run as ``python -m tests.telemetry.traced_process``; the log goes to standard error, the case ids to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from temporalio.worker import Worker

import logs
import otlp
import telemetry
from connection import connect_temporal
from incident.evidence import Located, Person
from incident.requests import AccountRef, Delivery, Written
from integrations.active_directory import ActiveDirectory
from integrations.errors import Busy
from integrations.http import VendorHttp
from integrations.smtp import Smtp
from lab.certificates import make_certificates
from lab.directory import DirectoryLab
from lab.mailbox import MailboxLab
from lab.serving import Served
from tests.workflows import world
from tests.workflows.world import ANALYST, Scene, World, alert, working

TOKEN = "t0ken-that-opens-everything"
REASON = "the analyst knows why"


class WiredWorld(World):
    """Its SIEM, its directory and its mail are asked over sockets."""

    def __init__(self, siem: str, directory: DirectoryLab, mail: MailboxLab, ca_file: Path) -> None:
        super().__init__()
        self.http = VendorHttp("Securonix", siem)
        self.ad = ActiveDirectory(
            [directory.url], directory.bind_user, directory.password, directory.base_dn, ca_file=ca_file
        )
        self.smtp = Smtp("127.0.0.1", mail.port, "holdpoint@acme.example", ca_file=ca_file)

    async def locate(self, request: Any) -> Located:
        question = {"query": f'index=asset and hostname = "{self.host}"', "token": TOKEN}
        answer = await self.http.send("POST", "/ws/find", params=question, headers={"token": TOKEN}, json=question)
        assert answer.status == 200
        return await super().locate(request)

    def find_person(self, name: str) -> Person:
        return self.ad.find_person(name)

    def disable(self, account: AccountRef) -> Written:
        self.disabled = True
        return self.ad.disable(account)

    async def send(self, mail: Any) -> Delivery:
        delivery = await self.smtp.send(mail)
        await super().send(mail)
        return delivery


async def _found(request: Request) -> JSONResponse:
    return JSONResponse({"hostname": "FIN-LT-042", "you_sent": request.headers["token"]})


async def _answered(scene: Scene) -> str:
    """A case that stops at the hold point and is answered."""
    scene.world.sightings = 0
    started = await scene.start(alert())
    await scene.mailed(1)
    answer = {"decision": "contain", "analyst": ANALYST, "reason": REASON}
    await scene.handle(started).execute_update("decide", answer)
    await scene.handle(started).signal("jdoe is to blame")
    assert (await scene.end(started))["outcome"] == "contained"
    return started.case_id


async def _contained(scene: Scene) -> str:
    """A case that the table decides, with a quarantine that comes off at the second attempt."""
    scene.world.sightings = 1
    scene.world.failures["quarantine"] = [Busy("Falcon is busy with FIN-LT-042 of jdoe")]
    started = await scene.start(alert())
    assert (await scene.end(started))["outcome"] == "contained"
    return started.case_id


def _watch_the_exporter() -> set[str]:
    """The names of the threads that spans are sent from."""
    threads: set[str] = set()
    export = otlp.DiscreetExporter.export

    def watched(exporter: otlp.DiscreetExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        threads.add(threading.current_thread().name)
        return export(exporter, spans)

    setattr(otlp.DiscreetExporter, "export", watched)  # noqa: B010 - a method's type does not take a function
    return threads


async def main() -> dict[str, str]:
    """Both cases, one after the other."""
    # Nothing is kept between two tasks, so that each one replays what went before.
    setattr(world, "Worker", partial(Worker, max_cached_workflows=0))  # noqa: B010 - the world's own import
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_certificates(Path(folder))
        async with (
            Served(Starlette(routes=[Route("/ws/find", _found, methods=["POST"])])) as siem,
            MailboxLab(certificates) as mail,
        ):
            with DirectoryLab(certificates) as directory:
                directory.add_user("jdoe", name="John Doe", mail="john.doe@acme.example", upn="jdoe@corp.example")
                wired = WiredWorld(siem.url, directory, mail, certificates.ca_file)
                client, queue = await connect_temporal(lasting=True), f"q-{uuid.uuid4()}"
                async with working(client, wired, queue):
                    scene = Scene(client, wired, queue)
                    cases = {"answered": await _answered(scene), "contained": await _contained(scene)}
                await wired.http.aclose()
    return cases


if __name__ == "__main__":
    written = logs.set_up()
    sending = _watch_the_exporter()
    cases = asyncio.run(main())
    telemetry.finish()
    written()
    sys.stdout.write(json.dumps({**cases, "sending": sorted(sending)}))
    sys.stdout.flush()
    os._exit(0)
