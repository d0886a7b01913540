"""``worker.py`` as it is, with gates at the edges of its steps: ``python -m tests.crash_matrix.gated_worker``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

import worker
from activities.case import CaseActivities
from incident.policy import CasePolicy
from incident.requests import EarlierCase, EarlierOutcome, SnapshotPolicy
from tests import processes
from tests.crash_matrix.cells import Moment
from tests.crash_matrix.gates import VARIABLE, Gates


class GatedWorker(processes.Worker):
    """That process."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        super().__init__(folder, {**variables, VARIABLE: str(self.gates)})
        self._command = [self._command[0], "-m", "tests.crash_matrix.gated_worker"]


async def _at(point: Moment) -> None:
    info = activity.info()
    await Gates(Path(os.environ[VARIABLE])).passed(info.workflow_id or "", info.activity_type, point)


class _Gated(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Edges(next)


class _Edges(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        await _at(Moment.BEFORE)
        result = await super().execute_activity(input)
        await _at(Moment.AFTER)
        return result


class _Case(CaseActivities):
    @activity.defn(name="case.snapshot_policy")
    async def snapshot_policy(self, request: SnapshotPolicy) -> CasePolicy:
        await _at(Moment.DURING)
        return await super().snapshot_policy(request)

    @activity.defn(name="case.find_earlier")
    async def find_earlier(self, request: EarlierCase) -> EarlierOutcome:
        await _at(Moment.DURING)
        return await super().find_earlier(request)


def _worker(*arguments: Any, interceptors: list[Interceptor], **options: Any) -> Worker:
    # Inside of the pulse: a step that stands at a gate is alive.
    return Worker(*arguments, interceptors=[*interceptors, _Gated()], **options)


if __name__ == "__main__":
    for name, gated in (("Worker", _worker), ("CaseActivities", _Case)):
        setattr(worker, name, gated)
    os._exit(worker.main())
