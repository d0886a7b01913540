"""Write ``docs/crashes.md`` from a run of the whole matrix: ``python -m tests.crashes.table``, from the root.

With ``--check`` nothing is written; it fails where the page is not what the run showed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.crash_matrix.cells import STAGES, STEPS, Moment, Victim
from tests.crash_matrix.strike import BLOWS, Struck, strike_all

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "crashes.md"
_SAME: Final = "same"
_HEAD: Final = f"""# What a crash does to a case

Written by `python -m tests.crashes.table` from a run of the matrix in `tests/crash_matrix/`: `worker.py` and Temporal's
server as processes, the systems played over their own protocols, and many cases that stand each at its own point when
one of the two gets SIGKILL and is started again.

**{_SAME}** means: as if nothing had happened. The case ended just like one on the same course that nothing struck: with
the same outcome, priorities, facts, decision and timeline; with one ticket, one note, one comment, one mail a turn of a
question, one containment of the host and one change of the account, and one more of both where it is released. The
state before each action is the true one, and no timer fired early or was lost. What a cell says instead is where that
is not so.

## At each step

The blow falls **before** the step (a worker has it and has sent nothing), **during** it (the system has the request,
and nothing came of it) or **after** it (the system has done it, and its answer never leaves). What a dead worker asked
for and the system had not begun never happens; a living worker's request goes on while the server is down. That is for
longer than a step may go unheard (12 s), and *after* it even for longer than an attempt may take (50 s). The
`case.` steps and `ledger.reserve` ask nobody but Temporal, and `siem.take_incidents` starts cases: there *during* is in
the middle of their code, and *after* is before Temporal has their result. The steps that undo, and
`case.containment_of`, are those of the case's release; `siem.take_incidents` is a run of the poller, and
`case.open_next` the workflow that opens the case of alerts about somebody else.
"""
_MAIL: Final = """
Mail is the exception by its nature: SMTP cannot be asked whether it took a message. A worker that dies between the
relay's taking a mail and its answer leaves nobody who knows, so the next attempt sends the mail again: better twice
than never. Both have the same text and the same Message-ID, by which they are known as one and stand in one thread.
So is a line in a channel: a webhook cannot be asked either, and the line is posted again. Sessions that are ended twice
are ended.

Two steps have half a minute in all, so that no case waits for them: a line in a channel, and asking the directory who
may answer. A server that is gone for so long leaves open how they ended: the case may say that the channel could not be
told, or that who may answer stays as configured. All else of it is the same.
"""
_STAGES: Final = """
## At each stage

A paused case's timer is due while the process is gone, or after it is back. *The mail out and told*: the relay took the
mail, and Temporal had that in the step's heartbeat.
"""


def told(struck: Struck) -> str:
    """What came of a case, in few words."""
    return "**NOT AS IF NOTHING HAD HAPPENED**" if struck.differences else struck.excused or _SAME


def page(run: Sequence[Struck]) -> str:
    """The whole page."""
    ends = {(one.cell.row, one.victim, one.moment): told(one) for one in run}
    lines = [_HEAD, f"| step | {' | '.join(f'{victim}, {moment}' for victim, moment in BLOWS)} |"]
    lines.append("|---" * (len(BLOWS) + 1) + "|")
    lines += [f"| `{step}` | {' | '.join(ends[step, *blow] for blow in BLOWS)} |" for step in STEPS]
    lines += [_MAIL, _STAGES.removeprefix("\n"), f"| stage | {' | '.join(Victim)} |", "|---" * (len(Victim) + 1) + "|"]
    for stage in STAGES:
        row = [ends.get((stage, victim, Moment.BEFORE), "—") for victim in Victim]
        lines.append(f"| {stage} | {' | '.join(row)} |")
    lines += ["", "A dash: without a server nobody can answer.", ""]
    return "\n".join(lines)


async def main(*, check: bool) -> int:
    """Run the matrix, write or check the page; returns 1 if a cell, or a checked page, is not as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        run = await strike_all(Path(folder), BLOWS)
    for one in run:
        for difference in one.differences:
            sys.stderr.write(f"{one.victim} killed {one.moment} {one.cell.row}: {difference}\n")
    written = page(run)
    if check and PAGE.read_text(encoding="utf-8") != written:
        sys.stderr.write(f"{PAGE} is not what the run showed\n")
        return 1
    if not check:
        PAGE.write_text(written, encoding="utf-8")
    return int(any(one.differences for one in run))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(check="--check" in sys.argv[1:])))
