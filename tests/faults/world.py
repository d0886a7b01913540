"""What the stand-ins hold of a cell's case, against what the design names: each effect once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.faults.matrix import ATTACH, POST, REVOKE, Cell, Expected, expected
from tests.faults.wire import Front, Wire

State = dict[str, Any]

FILES = 2
"""A record is attached as JSON and as a page."""

LINES = 2
"""What a channel hears of a case that nobody was asked about: the decision and the end."""


def wrong_in_the_world(wire: Wire, front: Front, state: State) -> list[str]:
    """Where the stand-ins do not hold just what the design names, each effect once."""
    cell, wanted = front.cell, expected(front.cell)
    key = "hp-" + str(state["reference"]).removeprefix("HP-").lower()
    rows = [row for row in wire.tickets.rows() if row["correlation_id"].startswith(key)]
    files = [row["table_sys_id"] for row in wire.tickets.rows("sys_attachment")]
    counts = {
        **_systems(wire, cell, wanted),
        "tickets": (len(rows), int(wanted.ticket == "open")),
        "notes": (sum(len(wire.tickets.notes(row["sys_id"])) for row in rows), wanted.notes),
        "comments": (len(wire.siem.incidents[cell.incident_id].comments), wanted.comments),
        "files": (
            sum(files.count(row["sys_id"]) for row in rows),
            FILES if cell.step == ATTACH and cell.recovers else 0,
        ),
        **_mails(wire, front, wanted),
    }
    wrong = [f"{what}: {seen}, not {right}" for what, (seen, right) in counts.items() if seen != right]
    wrong += _twice(wire, cell, str(state["reference"]))
    facts = [state[fact]["known"] for fact in ("user", "risk", "corroboration")]
    if not all(facts) and state["actions"] and not (state["decision"] or {}).get("analyst"):
        wrong.append(f"acted on an unknown fact: {state['actions']}")
    return wrong


def _systems(wire: Wire, cell: Cell, wanted: Expected) -> dict[str, tuple[Any, Any]]:
    """The account and the host; a release has changed both a second time, but for what it leaves."""
    dn = wire.tree.named(cell.account).dn.casefold()
    device = wire.falcon.device(cell.host)
    disabled, quarantined = int(wanted.disabled), int(wanted.quarantined)
    if wanted.released:
        disabled, quarantined = 2 - disabled, 2 - quarantined
    return {
        "changes of the account": (wire.tree.changes[dn], disabled),
        "account is disabled": (bool(wire.directory.uac(cell.account) & 2), wanted.disabled),
        "quarantines": (sum(found == device.device_id for found, _ in wire.falcon.actions), quarantined),
        "host is or will be cut off": (device.status in ("containment_pending", "contained"), wanted.quarantined),
    }


def _mails(wire: Wire, front: Front, wanted: Expected) -> dict[str, tuple[Any, Any]]:
    cell, box = front.cell, front.mailbox or wire.mailbox
    mails = [mail for mail in box.messages if set(mail.recipients) & set(cell.tiers)]
    subjects = [str(mail.message["Subject"]) for mail in mails]
    ids = [str(mail.message["Message-ID"]) for mail in mails]
    told = {"mails about what is left": (sum("Case update" in s for s in subjects), int(wanted.tier_told))}
    if not (cell.integration == "notification" and cell.fault == "connection lost after DATA"):
        told["mails that came again"] = (len(ids) - len(set(ids)), 0)
    return told


def _twice(wire: Wire, cell: Cell, reference: str) -> list[str]:
    """Ended sessions and a channel's lines: nobody can be asked for them, so an answer that is lost brings another."""
    if cell.step not in (REVOKE, POST):
        return []
    if cell.step == REVOKE:
        seen, once = Counter({"revocation": wire.graph.revoked[f"id-of-{cell.account}"]}), 1
    else:
        seen, once = Counter(line.text for line in wire.chat.messages if reference in line.text), LINES
    done = +seen
    right = once if cell.recovers or cell.has_effect else 0
    wrong = [f"{cell.step} was done {done}, not {right}"] if len(done) != right else []
    again = done.total() - len(done)
    if (again and not cell.has_effect) or (cell.has_effect and not cell.lasting and not again):
        wrong.append(f"{cell.step} was done {again} times more than needed")
    return wrong
