"""Every step of the runbook meets every fault that its protocol knows, once and for good; see ``docs/faults.md``."""

from __future__ import annotations

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.faults.matrix import CELLS, NOT_STRUCK, STEPS, Cell
from tests.faults.play import Played, play_all
from tests.faults.table import PAGE, page
from workflows import steps

Run = dict[Cell, Played]

# Some of the calls that are cut off leave their sockets to the garbage collector, which closes them and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest_asyncio.fixture(scope="module")
async def run(dev_server: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    played = await play_all(dev_server.client, tmp_path_factory.mktemp("faults"), CELLS)
    return {one.cell: one for one in played}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
async def test_a_case_ends_as_the_design_names_it(run: Run, cell: Cell) -> None:
    assert run[cell].differences == []


async def test_the_page_tells_what_the_run_showed(run: Run) -> None:
    assert PAGE.read_text(encoding="utf-8") == page([run[cell] for cell in CELLS])


def test_no_step_is_left_out() -> None:
    assert set(STEPS) | set(NOT_STRUCK) == steps.NAMES
    assert not set(STEPS) & set(NOT_STRUCK)
