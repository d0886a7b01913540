"""The commands about the poller: install, pause, resume, status, remove."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

import terminal
from commands import Json, app, run
from connection import connect_temporal
from incident.text import plain
from polling import install_poller, pause_poller, poller_status, remove_poller, resume_poller
from settings import load_settings
from settings_values import Duration

_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)
Note = Annotated[str, typer.Option(help="Why; it stands at the schedule.")]

poll = typer.Typer(help="Read the SIEM's incidents at intervals.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(poll, name="poll")


def _told(work: Coroutine[Any, Any, dict[str, Any]], *, as_json: bool, words: str) -> None:
    told = run(work, as_json=as_json)
    if as_json:
        terminal.print_json(told)
    else:
        terminal.say(words.format(**told))


@poll.command("install")
def install(
    since: Annotated[str | None, typer.Option(help="How far back a new poller begins: 30m, 12h.")] = None,
    as_json: Json = False,
) -> None:
    """Install the poller in Temporal, or bring an installed one to the settings."""
    try:
        back = None if since is None else _DURATION.validate_python(since)
    except ValidationError:
        raise typer.BadParameter(f"--since: {plain(since or '')} is not a duration such as 30m or 12h") from None

    async def work() -> dict[str, Any]:
        settings = load_settings(secrets_needed=False)
        return await install_poller(await connect_temporal(), settings, since=back)

    _told(work(), as_json=as_json, words="{schedule}: every {every}, {overlap} of it again")


@poll.command("pause")
def pause(note: Note = "paused by hand", as_json: Json = False) -> None:
    """Let no tick begin until it is resumed."""

    async def work() -> dict[str, Any]:
        return await pause_poller(await connect_temporal(), note=note)

    _told(work(), as_json=as_json, words="paused: incidents are not read")


@poll.command("resume")
def resume(note: Note = "resumed by hand", as_json: Json = False) -> None:
    """Let the ticks go on; the first one reads all that was missed."""

    async def work() -> dict[str, Any]:
        return await resume_poller(await connect_temporal(), note=note)

    _told(work(), as_json=as_json, words="resumed: what was missed is read now")


@poll.command("remove")
def remove(as_json: Json = False) -> None:
    """Remove the poller, and with it how far it has read."""

    async def work() -> dict[str, Any]:
        return await remove_poller(await connect_temporal())

    _told(work(), as_json=as_json, words="removed: incidents are not read any more")


@poll.command("status")
def status(as_json: Json = False) -> None:
    """Show whether it runs, how far it has read, and what started no case."""

    async def work() -> dict[str, Any]:
        return await poller_status(await connect_temporal())

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
        return
    terminal.say(f"PAUSED: {told['note']}" if told["paused"] else f"every {told['every']}, next at {told['next_at']}")
    if told["trouble"]:
        terminal.say(f"TROUBLE: {told['trouble']}")
    if "until" not in told:
        terminal.say("nothing was read so far; a worker has to run for it")
        return
    counts = ", ".join(f"{count} {word}" for word, count in told["counts"].items())
    terminal.say(f"read up to {told['until']}: {counts}")
    for dealt in told["missed"]:
        terminal.say(f"  incident {plain(dealt['incident'])} started no case: {dealt['why']}")
