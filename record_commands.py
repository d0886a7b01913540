"""The commands about the record: export a case's, and find out whether one was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

import terminal
from cases import CaseRefused, queried
from commands import Case, Json, Leave, app, run
from connection import TemporalUnreachable, connect_temporal
from incident.alert import AlertRefused
from incident.sealing import NoRecord, Verdict, examine, seal
from incident.text import plain
from record_history import Held, against_history
from settings import load_settings

_MOST_BYTES = 16 * 1024 * 1024


async def case_record(client: Client, case_id: str, key: str | None) -> dict[str, Any]:
    """A case's record, sealed, with what was undone since.

    Raises:
        CaseRefused: there is no such case, or no worker runs.
    """
    record = await queried(client, case_id, "record", dict[str, Any])
    return seal({**record, "undo": await _undone(client, case_id)}, key)


async def _undone(client: Client, case_id: str) -> dict[str, Any] | None:
    release = client.get_workflow_handle(f"release-{case_id}")
    try:
        undo: dict[str, Any] = await release.query("status", result_type=dict[str, Any])
        return undo
    except (RPCError, WorkflowQueryFailedError):
        return None


@app.command()
def record(
    case: Case,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there instead of the terminal.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page there, ready to be printed.")] = None,
) -> None:
    """Export a case's record, sealed with [record] key."""
    from activities.record import written  # noqa: PLC0415 - half of the time that another command takes
    from activities.record_page import page  # noqa: PLC0415

    async def work() -> dict[str, Any]:
        return await case_record(await connect_temporal(), case, _key())

    sealed = run(work(), as_json=out is None and html is None)
    try:
        if out:
            out.write_bytes(written(sealed))
        if html:
            html.write_text(page(sealed), encoding="utf-8")
    except OSError as error:
        terminal.complain(f"{error.filename}: {error.strerror}")
        raise Leave(1) from None
    if not out and not html:
        terminal.print_json(sealed)
    if sealed["key_id"] is None:
        terminal.complain("the record is chained and not sealed: there is no [record] key")


@app.command("verify-record")
def verify_record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A record, as JSON.")],
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask Temporal's history.")] = False,
    as_json: Json = False,
) -> None:
    """Find what was changed in a record: by its chain, its seals, and Temporal's own history."""

    async def work() -> dict[str, Any]:
        sealed = _read(file)
        verdict = _examined(sealed)
        held = Held() if offline else await _held(sealed)
        return _told(verdict, held, offline=offline)

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    else:
        _say(told)
    if not told["valid"]:
        raise Leave(1)


def _key() -> str | None:
    """The key, where the settings have one. A person who verifies may have the key and no other setting."""
    secret = load_settings(secrets_needed=False).record.key
    return secret.get_secret_value() if secret else None


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise AlertRefused([f"{file}: is larger than a record can be"])
        sealed = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AlertRefused([f"{file}: {error.strerror}"]) from None
    except (ValueError, RecursionError):
        raise AlertRefused([f"{file}: is no JSON"]) from None
    if not isinstance(sealed, dict):
        raise AlertRefused([f"{file}: is no record: it is no JSON object"])
    return sealed


def _examined(sealed: dict[str, Any]) -> Verdict:
    try:
        return examine(sealed, _key())
    except NoRecord as error:
        raise AlertRefused([f"it is no record: {error}"]) from None


async def _held(sealed: Mapping[str, Any]) -> Held:
    try:
        return await against_history(await connect_temporal(), sealed)
    except (TemporalUnreachable, CaseRefused) as error:
        return Held(unchecked=(f"Temporal's history: {error}",))
    except RPCError as error:
        return Held(unchecked=(f"Temporal's history: {plain(error.message)}",))


def _told(verdict: Verdict, held: Held, *, offline: bool) -> dict[str, Any]:
    findings = [*verdict.findings, *held.findings]
    unchecked = [*verdict.unchecked, *held.unchecked]
    return {
        "valid": not findings and not unchecked,
        "keyed": verdict.keyed,
        "key_id": verdict.key_id,
        "entries": verdict.entries,
        "head": verdict.head,
        "history_checked": not offline and not held.unchecked,
        "findings": [finding.model_dump() for finding in findings],
        "unchecked": unchecked,
    }


def _say(told: dict[str, Any]) -> None:
    for finding in told["findings"]:
        terminal.say(f"CHANGED  {finding['where']}: {finding['what']}")
    for words in told["unchecked"]:
        terminal.say(f"not checked: {words}")
    seal_words = f"sealed with the key {told['key_id']}" if told["keyed"] else "chained, and not sealed with a key"
    history = "held against Temporal's history" if told["history_checked"] else "not held against Temporal's history"
    verdict = "nothing was changed" if told["valid"] else "NOT valid"
    terminal.say(f"{verdict}: {told['entries']} entries, {seal_words}, {history}")
