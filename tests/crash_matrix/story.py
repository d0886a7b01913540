"""What a case did, told so that two cases can be held against each other: without names, numbers and times."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from lab.environment import Environment
from lab.mailbox import Received
from tests.crash_matrix.annex import Annex
from tests.crash_matrix.cells import Cell, Course

Story = dict[str, Any]

WORLD: Final[dict[Course, tuple[str, dict[str, int]]]] = {
    Course.CONTAINED: ("contained", {"quarantines": 1, "changes of the account": 1, "tickets": 1}),
    Course.PROTECTED: (
        "contained",
        {"quarantines": 1, "changes of the account": 1, "tickets": 1, "notes": 1, "mails": 1},
    ),
    Course.DISMISSED: ("false_positive", {"comments": 1, "mails": 1}),
    Course.UNANSWERED: ("unanswered", {"mails": 4}),
    Course.ELECTED: ("false_positive", {"comments": 1, "mails": 1}),
    Course.CONFIGURED: (
        "contained",
        {"quarantines": 1, "changes of the account": 1, "tickets": 1, "files": 2, "ended sessions": 1},
    ),
    Course.RELEASED: ("contained", {"quarantines": 2, "changes of the account": 2, "tickets": 1, "notes": 1}),
    Course.POLLED: (
        "contained",
        {"quarantines": 1, "changes of the account": 1, "tickets": 1, "files": 2, "ended sessions": 1},
    ),
    Course.FOLLOWED: ("false_positive", {"comments": 1, "mails": 2}),
}
"""A course's outcome, and what the systems have to hold of it; what is not named, not at all."""

_NOT_ALIKE: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?UTC|Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\bhp-[0-9a-f]{20}\b|\bHP-[0-9A-F]{8}\b"), "KEY"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|\bS-1-5-21(-\d+){4}\b"), "ID"),
    (re.compile(r"\bINC\d+\b"), "NUMBER"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"), "SEAL"),
)
_BY_THE_WAY: Final = ("detail", "at", "until", "reference", "release_run_id", "events")
_OPEN = re.compile(r"channel |who may answer|the directory")
_DETAIL = re.compile(r"(verified|requested|accepted|in_force) \(.*\)")


def mails(lab: Environment, cell: Cell) -> list[Received]:
    """The mails to a case's tiers."""
    return [mail for mail in lab.mailbox.messages if set(mail.recipients) & set(cell.tiers)]


def world(lab: Environment, annex: Annex, changes: Counter[str], cell: Cell) -> dict[str, int]:
    """What the systems hold of a case. A mail that came twice with one Message-ID is one mail.

    Sessions that are ended twice are ended: the cloud directory cannot be asked whether they are.
    """
    files = [row["table_sys_id"] for row in lab.tickets.rows("sys_attachment")]
    device = lab.falcon.device(cell.host)
    rows = [row for row in lab.tickets.rows() if cell.host in row["description"]]
    return {
        "quarantines": sum(found == device.device_id for found, _ in lab.falcon.actions),
        "changes of the account": changes[cell.account],
        "tickets": len(rows),
        "files": sum(files.count(row["sys_id"]) for row in rows),
        "ended sessions": int(bool(annex.graph.revoked[f"id-of-{cell.account}"])),
        "notes": sum(len(lab.tickets.notes(row["sys_id"])) for row in rows),
        "comments": len(lab.siem.incidents[cell.incident_id].comments),
        "mails": len({mail.message["Message-ID"] for mail in mails(lab, cell)}),
    }


def story(lab: Environment, cell: Cell, state: dict[str, Any], timeline: str, errand: Any = None) -> Story:
    """The case's own word, that of its release or of what began it or followed it, and what it left in the systems."""
    kept = {key: value for key, value in state.items() if key not in ("reference", "case_id")}
    for action in kept["actions"]:
        # How a write came about may differ: its answer was lost, and the next attempt found it done.
        del action["detail"]
    first = {str(mail.message["Message-ID"]): mail for mail in reversed(mails(lab, cell))}
    letters = [(mail.recipients, re.sub(r" by .*", "", str(mail.message["Subject"]))) for mail in first.values()]
    device = lab.falcon.device(cell.host)
    told = {
        "state": kept,
        "timeline": sorted(_DETAIL.sub(r"\1", line) for line in timeline.splitlines()),
        "mails": sorted(letters),
        "host": device.status,
        "account": lab.directory.uac(cell.account),
        "errand": of_errand(errand),
    }
    return dict(json.loads(_alike(json.dumps(told), cell, device.device_id)))


def forgiven(told: Story) -> Story:
    """Without what a step leaves open whose own budget may be spent: who may answer, and what a channel was told."""
    state = {key: value for key, value in told["state"].items() if key not in ("voters", "record")}
    return {**told, "state": state, "timeline": [line for line in told["timeline"] if not _OPEN.search(line)]}


def of_errand(told: Any) -> Any:
    """What a release or a poller's run has told, without times, and without how a write came about."""
    if isinstance(told, dict):
        return {key: of_errand(value) for key, value in told.items() if key not in _BY_THE_WAY}
    return [of_errand(value) for value in told] if isinstance(told, list) else told


def _alike(text: str, cell: Cell, device: str) -> str:
    names = {
        device: "DEVICE",
        cell.case_id: "CASE",
        cell.ip: "IP",
        cell.host: "HOST",
        cell.account: "ACCOUNT",
        cell.employee_id: "EMPLOYEE",
        cell.incident_id: "INCIDENT",
        cell.tiers[0]: "TIER A",
        cell.tiers[1]: "TIER B",
        f"CM-{cell.number:04}": "ALERT",
        f"SNX-{cell.incident_id}": "ALERT",
    }
    for name, word in names.items():
        text = text.replace(name, word)
    for pattern, word in _NOT_ALIKE:
        text = pattern.sub(word, text)
    return text


def differences(seen: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """Where two stories part, in words."""
    if isinstance(seen, dict) and isinstance(wanted, dict):
        for key in sorted({*seen, *wanted}):
            yield from differences(seen.get(key), wanted.get(key), f"{where}.{key}" if where else key)
    elif isinstance(seen, list) and isinstance(wanted, list):
        missing = [entry for entry in wanted if entry not in seen]
        beyond = [entry for entry in seen if entry not in wanted]
        if missing or beyond:
            yield f"{where}: missing {missing}, beyond {beyond}"
        elif len(seen) != len(wanted):
            yield f"{where}: {len(seen)} entries, not {len(wanted)}: {seen}"
    elif seen != wanted:
        yield f"{where}: {seen!r}, not {wanted!r}"
