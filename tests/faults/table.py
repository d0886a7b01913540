"""Write ``docs/faults.md`` from a run of the whole matrix: ``python -m tests.faults.table``, from the root."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.conftest import FAST, temporal_cli
from tests.faults.matrix import CELLS, CHAT, DIRECTORY, ENDPOINT, IDENTITY, MAIL, NOT_STRUCK, SIEM, TICKETING
from tests.faults.play import Played, play_all
from workflows import search_attributes

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_HEAD: Final = """# What each fault does to a case

Written by `python -m tests.faults.table` from a run of the matrix in `tests/faults/`: whole cases, the real clients,
each system played over its own protocol. One step of the case meets one fault, **once** (the step is tried again) or
**for good** (until its budget is spent). A cell names how the case ended, by its own word. In each of them the systems
held just that: every effect once, nothing contained on an unknown fact, no password and no token in the history.
Sessions and a channel's lines are the exception: nobody can be asked whether they are ended or posted, so a lost answer
brings a second one. The steps that undo are those of the case's release, which is asked for once it is contained;
`siem.take_incidents` is a run of the poller that meets the case's incident. A dash says that the protocol, or a step
that only reads, does not know the fault.
"""
_SECTIONS: Final = (
    ("SIEM (HTTP)", SIEM),
    ("Directory (LDAP)", DIRECTORY),
    ("Cloud directory (HTTP)", IDENTITY),
    ("Endpoint (HTTP)", ENDPOINT),
    ("Tickets (HTTP)", TICKETING),
    ("Mail (SMTP)", MAIL),
    ("Channel (a webhook over HTTP)", CHAT),
)


def told(played: Played) -> str:
    """How a case ended, in few words."""
    state = played.state
    if played.differences:
        return "**NOT AS DESIGNED**"
    if not state:
        return "no case; the run failed, and the next one reads on from where it began"
    if played.release:
        left = [f"{a['action']} {a['state']}" for a in played.release["actions"] if a["state"] != "verified"]
        return "; ".join([played.release["outcome"].replace("_", " "), *left])
    if state["stage"] != "closed":
        unknown = [fact for fact in ("host", "user", "risk", "corroboration") if not state[fact]["known"]]
        return f"hold point; unknown: {', '.join(unknown)}"
    words = [str(state["outcome"]).replace("_", " ")]
    words += [f"{a['action']} {a['state']}" for a in state["actions"] if a["state"] != "verified"]
    if (state["ticket"] or {}).get("state") == "failed":
        words.append("ticket failed, tier mailed")
    for line, said in (
        (r"ticket \S+ could not be told", "note missing, told in the case"),
        ("could not be commented", "comment missing, told in the case"),
        ("who may answer stays", "put to those configured, told in the case"),
        ("not revoked", "sessions not known to be ended, told in the case"),
        ("record could not be attached", "record not attached, told in the case"),
        ("channel could not be told", "channel not known to be told, told in the case"),
        (r"mail \(ask\) to a: FAILED", "first mail failed, told in the case, asked again"),
        ("b is asked", "next tier asked"),
    ):
        words += [said] if re.search(line, played.told) else []
    return "; ".join(words)


def page(run: Sequence[Played]) -> str:
    """The whole page."""
    ends = {(p.cell.step, p.cell.fault, p.cell.lasting): told(p) for p in run}
    lines = [_HEAD]
    for title, steps in _SECTIONS:
        faults = list(dict.fromkeys(cell.fault for cell in CELLS if cell.step in steps))
        lines += [f"## {title}", "", f"| fault | | {' | '.join(f'`{step}`' for step in steps)} |"]
        lines.append("|---" * (len(steps) + 2) + "|")
        for fault in faults:
            for lasting in (False, True):
                row = [ends.get((step, fault, lasting), "—") for step in steps]
                lines.append(f"| {fault} | {'for good' if lasting else 'once'} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join([*lines, "## Not struck here", "", *(f"- `{step}` {why}" for step, why in NOT_STRUCK.items()), ""])


async def main() -> int:
    """Run the matrix and write the page; returns 1 if a cell is not as designed."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        data_converter=pydantic_data_converter,
        dev_server_extra_args=FAST,
        dev_server_log_level="error",
    ) as env:
        with tempfile.TemporaryDirectory() as folder:
            run = await play_all(env.client, Path(folder), CELLS)
    PAGE.write_text(page(run), encoding="utf-8")
    for played in run:
        for difference in played.differences:
            sys.stderr.write(f"{played.cell.name}: {difference}\n")
    return int(any(played.differences for played in run))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
