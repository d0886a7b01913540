"""The barest Temporal workflow with a case's shape: as many trivial activities, as many of them side by side."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel

    from benchmarks.marks import Marks

FLOOR_QUEUE: Final = "floor"
FLOOR: Final = "BenchmarkFloor"
MARK: Final = "write"
_ATTEMPT: Final = timedelta(seconds=45)


class FloorInput(BaseModel):
    """``batches`` are how many activities run side by side, one after the other; the one at ``writes`` is marked."""

    name: str
    batches: list[int]
    writes: int


class StepInput(BaseModel):
    """What a trivial activity gets."""

    name: str
    marked: bool


class FloorActivities:
    """The trivial activity."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    @activity.defn(name="floor.step")
    async def step(self, given: StepInput) -> bool:
        """Do nothing, or mark the moment."""
        if given.marked:
            self._marks.write(MARK, given.name)
        return True


@workflow.defn(name=FLOOR)
class BenchmarkFloor:
    """Batch after batch."""

    @workflow.run
    async def run(self, given: FloorInput) -> int:
        """Run them; returns how many activities there were."""
        for place, size in enumerate(given.batches):
            step = StepInput(name=given.name, marked=place == given.writes)
            await asyncio.gather(
                *(
                    workflow.execute_activity("floor.step", step, result_type=bool, start_to_close_timeout=_ATTEMPT)
                    for _ in range(size)
                )
            )
        return sum(given.batches)
