"""The commands about the record: export a case's, and find out whether one was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError

import terminal
from cases import NO_WORKER, CaseRefused, case_handle, queried
from commands import Case, Json, Leave, app, run
from connection import TemporalUnreachable, connect_temporal
from incident.chain import Finding, Uncanonical
from incident.sealing import NoRecord, Verdict, examine, seal
from incident.text import plain
from record_history import Held, against_history
from settings import record_settings

_MOST_BYTES = 16 * 1024 * 1024
_UNSEALED = "the record is chained and not sealed, so anybody could have written it: there is no [record] key"


async def case_record(client: Client, case_id: str, key: str | None) -> dict[str, Any]:
    """A case's record as of now, sealed, with what was undone since.

    Raises:
        CaseRefused: there is no such case, no worker runs, or something in it has no canonical form.
    """
    told = await queried(client, case_id, "record", dict[str, Any])
    try:
        return seal({**told, "undo": await _undone(client, told)}, key)
    except Uncanonical as error:
        raise CaseRefused(f"the record of {plain(case_id)} cannot be sealed: {error}") from None


async def _undone(client: Client, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the release of this case tells. One of an earlier case of the same host is not about this one."""
    release = client.get_workflow_handle(f"release-{told['case_id']}")
    try:
        undo: dict[str, Any] = await release.query("status", result_type=dict[str, Any], rpc_timeout=NO_WORKER)
    except (RPCError, WorkflowQueryFailedError):
        return None
    return undo if undo.get("reference") == told["reference"] else None


async def _otherwise_worded(client: Client, sealed: Mapping[str, Any]) -> bool:
    """Whether the case closed with another head than its entries have now: another version words them otherwise."""
    handle = case_handle(client, str(sealed["case_id"]))
    if (await handle.describe()).status is not WorkflowExecutionStatus.COMPLETED:
        return False
    result = await handle.result()
    return isinstance(result, dict) and "record" in result and result["record"] != sealed["record"]


@app.command()
def record(
    case: Case,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there instead of the terminal.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page there, ready to be printed.")] = None,
    as_json: Json = False,
) -> None:
    """Export a case's record, sealed with [record] key: as JSON, and as a page."""

    async def work() -> tuple[dict[str, Any], bool]:
        secret = record_settings().key
        client = await connect_temporal()
        sealed = await case_record(client, case, secret.get_secret_value() if secret else None)
        return sealed, await _otherwise_worded(client, sealed)

    sealed, other = run(work(), as_json=as_json or not (out or html))
    _write(sealed, out, html)
    if not out and not html:
        terminal.print_json(sealed)
    elif as_json:
        names = {"out": str(out) if out else None, "html": str(html) if html else None}
        terminal.print_json({**sealed["record"], "key_id": sealed["key_id"], **names})
    else:
        terminal.say(f"{sealed['record']['entries']} entries of {case}, head {sealed['head']}")
    if sealed["key_id"] is None:
        terminal.complain(_UNSEALED)
    if other:
        terminal.complain("the case was run by another version, which worded it otherwise: take the ticket's record")


def _write(sealed: dict[str, Any], out: Path | None, html: Path | None) -> None:
    from activities.record import written  # noqa: PLC0415 - no other command needs it, nor the templates
    from activities.record_page import page  # noqa: PLC0415

    try:
        if out:
            out.write_bytes(written(sealed))
        if html:
            html.write_text(page(sealed), encoding="utf-8")
    except OSError as error:
        terminal.complain(f"{error.filename}: {error.strerror}")
        raise Leave(1) from None


@app.command("verify-record")
def verify_record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A record, as JSON.")],
    case: Annotated[str | None, typer.Option(help="The case that it is of, whatever case it names.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not hold it against Temporal's history.")] = False,
    as_json: Json = False,
) -> None:
    """Find what was changed in a record: by its chain, by its seals, and by Temporal's own history."""

    async def work() -> dict[str, Any]:
        secret = record_settings().key
        try:
            sealed = read_record(file)
            verdict = examine(sealed, secret.get_secret_value() if secret else None)
        except NoRecord as error:
            raise NoRecord(f"{plain(str(file))}: {error}") from None
        return _told(verdict, None if offline else await _held(sealed, case))

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    else:
        _say(told)
    if not told["valid"]:
        raise Leave(1)


def read_record(file: Path) -> Any:
    """A record from its file. A name that stands twice in it is read one way here and another way elsewhere.

    Raises:
        NoRecord: it cannot be read, or is no JSON.
    """
    try:
        size = file.stat().st_size
        text = file.read_bytes().decode("utf-8") if size <= _MOST_BYTES else ""
    except OSError as error:
        raise NoRecord(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NoRecord("it is no UTF-8 text") from None
    if size > _MOST_BYTES:
        raise NoRecord("it is larger than a record can be")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except NoRecord:
        raise
    except (ValueError, RecursionError):
        raise NoRecord("it is no JSON") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise NoRecord(f"{plain(twice, limit=80)} stands twice in one object")
    return dict(pairs)


def _no_number(word: str) -> NoReturn:
    raise NoRecord(f"{word} is no number of JSON")


async def _held(sealed: Mapping[str, Any], case: str | None) -> Held:
    """What Temporal's history says. That it says nothing is no fault of the record, and is told."""
    try:
        return await against_history(await connect_temporal(), sealed, case_id=case)
    except (TemporalUnreachable, CaseRefused) as error:
        why = str(error)
    except RPCError as error:
        why = plain(error.message)
    except RuntimeError as error:  # a payload of which only a codec that is not here makes JSON
        why = f"it cannot be read here: {plain(str(error))}"
    return Held(unchecked=(f"Temporal's history: {why}",))


def _told(verdict: Verdict, held: Held | None) -> dict[str, Any]:
    findings: list[Finding] = [*verdict.findings, *(held.findings if held else ())]
    unchecked = [*verdict.unchecked, *(held.unchecked if held else ())]
    return {
        "valid": not findings and not unchecked,
        "keyed": verdict.keyed,
        "key_id": verdict.key_id,
        "seals_checked": verdict.checked,
        "entries": verdict.entries,
        "head": verdict.head,
        "history_checked": held is not None and not held.unchecked,
        "head_is_in": list(held.vouched) if held else [],
        "findings": [finding.model_dump() for finding in findings],
        "unchecked": unchecked,
    }


def _say(told: dict[str, Any]) -> None:
    for finding in told["findings"]:
        terminal.say(f"CHANGED {finding['where']}: {finding['what']}")
    for words in told["unchecked"]:
        terminal.say(f"NOT CHECKED {words}")
    for where in told["head_is_in"] if told["valid"] else ():
        terminal.say(f"its head stands in {where}")
    sealed = f"sealed with the key {told['key_id']}" if told["keyed"] else "chained, and not sealed with a key"
    history = "held against Temporal's history" if told["history_checked"] else "not held against Temporal's history"
    verdict = "nothing was changed" if told["valid"] else "NOT valid"
    terminal.say(f"{verdict}: {told['entries']} entries, {sealed}, {history}")
