"""Worker and server are killed before, during and after every step and at every stage; see ``docs/crashes.md``."""

from __future__ import annotations

import pytest
import pytest_asyncio

from incident.record import Stage
from tests.crash_matrix.cells import SPENT, STEPS, Cell, Moment, Victim, cells
from tests.crash_matrix.strike import BLOWS, Struck, strike_all
from tests.crashes.table import PAGE, page
from workflows import steps

Run = dict[tuple[Victim, Moment, Cell], Struck]

CASES = [(victim, moment, cell) for victim, moment in BLOWS for cell in cells(victim, moment)]


@pytest_asyncio.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    struck = await strike_all(tmp_path_factory.mktemp("blows"), BLOWS)
    return {(one.victim, one.moment, one.cell): one for one in struck}


def _name(case: tuple[Victim, Moment, Cell]) -> str:
    victim, moment, cell = case
    return f"{victim} killed {moment} {cell.row}".replace("`", "")


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_a_case_ends_as_if_nothing_had_happened(run: Run, case: tuple[Victim, Moment, Cell]) -> None:
    assert run[case].differences == []


async def test_mail_and_a_line_alone_may_come_twice(run: Run) -> None:
    """Neither SMTP nor a webhook can be asked whether it took a message: better twice than never."""
    excused = {(cell.row, victim, moment) for (victim, moment, cell), one in run.items() if one.excused}
    twice = {(step, Victim.WORKER, Moment.AFTER) for step in ("notification.notify", "chat.post")}
    assert excused == twice | set(SPENT)


async def test_the_page_tells_what_the_run_showed(run: Run) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(list(run.values()))


def test_no_step_and_no_stage_is_left_out() -> None:
    assert set(STEPS) == steps.NAMES
    for victim in Victim:
        assert {cell.stage for cell in cells(victim, Moment.BEFORE) if cell.stage} == set(Stage)
