"""The lab left running to play with: ``python -m lab.up``, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from incident.policy import OnUnanswered
from incident.text import plain
from lab.demo import a_console, prepare, run
from lab.environment import ANALYST, INTAKE_TOKEN, PEOPLE
from lab.scenarios import SCENARIOS, Cast, Scenario, named
from lab.servers import ROOT, TEMPORAL, BridgeProcess, LabFailed, free_port
from lab.stage import RUN_DIRECTORY, Stage, stage

WAIT = "2h"
"""How long each tier has here."""

_STARTED = ("high-corroborated", "high-alone", "risk-unknown")
_DESK_PORT = 8088
_LOOK_SECONDS = 0.5


async def up(console: Console, folder: Path = RUN_DIRECTORY) -> int:
    """Start everything and a few cases, tell how to play with them, and keep it running."""
    steering = {"wait": WAIT, "on_unanswered": OnUnanswered.HOLD, "recheck_every": "10m"}
    port = free_port(_DESK_PORT)
    try:
        async with stage(folder, console, **steering, desk_port=port) as on, _desk(on, port) as bridge:
            on.say(f"Temporal {on.temporal.address}; files in {folder}")
            await prepare(on)
            await bridge.start()
            on.processes.keep(on.temporal, on.worker, bridge)
            on.say(f"the desk is at {bridge.url} (process {bridge.pid})")
            cast = Cast(on.environment)
            alerts = {s.name: on.alert_file(s.name, cast.alert(s)) for s in SCENARIOS}
            post = asyncio.create_task(_keep_mail(on))
            try:
                for name in _STARTED:
                    await on.starter_json("start", str(alerts[name]))
                    on.say(f"started {name}: {named(name).case_id}")
                _explain(on, bridge, named("high-alone"), alerts["low-alone"])
                await _until_something_ends(on, bridge)
            finally:
                post.cancel()
                await asyncio.gather(post, return_exceptions=True)
    except LabFailed as error:
        console.print(Text(plain(str(error), limit=1000), style="bold red"), soft_wrap=True)
        return 1
    except asyncio.CancelledError:
        console.print("ended; the files stay until the next start")
    return 0


@asynccontextmanager
async def _desk(on: Stage, port: int) -> AsyncIterator[BridgeProcess]:
    """The desk's process, not started so far; it is ended before Temporal is."""
    bridge = BridgeProcess(on.folder, on.variables, port)
    try:
        yield bridge
    finally:
        await bridge.stop()


async def _until_something_ends(on: Stage, bridge: BridgeProcess) -> None:
    while True:
        bridge.check_alive()
        on.temporal.check_alive()
        on.worker.check_alive()
        await asyncio.sleep(_LOOK_SECONDS)


async def _keep_mail(on: Stage) -> None:
    """Each mail as a file that a mail program opens, and as a line here."""
    folder = on.folder / "mail"
    folder.mkdir()
    seen = 0
    while True:
        for mail in on.environment.mailbox.messages[seen:]:
            seen += 1
            path = folder / f"{seen:03}.eml"
            path.write_bytes(mail.raw)
            on.say(f"mail to {', '.join(mail.recipients)}: {plain(str(mail.message['Subject']))} ({_short(path)})")
        await asyncio.sleep(_LOOK_SECONDS)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _explain(on: Stage, bridge: BridgeProcess, paused: Scenario, another: Path) -> None:
    """Where everything is, and what to type in another terminal."""
    exports = {n: on.variables[n] for n in ("HOLDPOINT_CONFIG", "HOLDPOINT_SECRETS_DIR", "TEMPORAL_ADDRESS")}
    file = on.folder / "env"
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in exports.items()))
    python, temporal = _short(Path(sys.executable)), _short(TEMPORAL)
    case, who = paused.case_id, f'--analyst {ANALYST} --reason "seen it before"'
    lines = [
        "",
        f"The desk          {bridge.url}",
        *(f"  signs in        {one.name} <{one.mail}>" for one in PEOPLE),
        f"Temporal Web UI   {on.temporal.web_ui}",
        f"Alerts to start   {_short(another.parent)}/*.json",
        f"Mail and logs     {_short(on.folder / 'mail')}/, {_short(on.folder / 'logs')}/",
        "",
        f"In another terminal, in {ROOT}:",
        f"  . {_short(file)}     # which says:",
        *(f"    {line}" for line in file.read_text().splitlines()),
        "",
        f"  {python} starter.py list",
        f"  {python} starter.py status {case}",
        f"  {python} starter.py start {_short(another)} --wait",
        f"  {python} starter.py decide {case} contain {who}",
        f"  {temporal} workflow list --query \"IncidentStage='awaiting_decision'\"",
        f"  {temporal} workflow signal --workflow-id {case} --name analyst_decision \\",
        f'      --input \'{{"decision": "contain", "analyst": "{ANALYST}", "reason": "seen it before"}}\'',
        f"  curl -sS {bridge.url}/v1/alerts -H 'Authorization: Bearer {INTAKE_TOKEN}' \\",
        f"      -H 'Content-Type: application/json' --data @{_short(another)}",
        "",
        "Ctrl-C ends it all.",
    ]
    for line in lines:
        on.console.print(Text(line), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(up(a_console())))
