"""``worker.py`` as it is, with gates at the edges of its steps: ``python -m tests.crash_matrix.gated_worker``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

import worker
from activities.case import CaseActivities
from activities.ledger import LedgerActivities
from activities.next_case import NextCaseActivities
from activities.siem_incidents import SiemIncidentActivities, Take
from incident.next_case import OpenNext
from incident.policy import CasePolicy
from incident.polling import Dealt, SiemIncident
from incident.release import Containment, ContainmentOf
from incident.requests import EarlierCase, EarlierOutcome, Reservation, Reserve, SnapshotPolicy
from integrations.interfaces import IncidentSource
from tests import processes
from tests.crash_matrix.cells import Moment
from tests.crash_matrix.gates import VARIABLE, Gates

AT_GATES: Final = 128
"""Steps at once: one that stands at its gate takes a place, and there is one for nearly every case of a blow."""


class GatedWorker(processes.Worker):
    """That process."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        super().__init__(folder, {**variables, VARIABLE: str(self.gates)})
        self._command = [self._command[0], "-m", "tests.crash_matrix.gated_worker"]


async def _at(point: Moment, request: Any = None) -> None:
    info = activity.info()
    # A release and a poller's run are named after their case; what opens the next case is told of it.
    named = (info.workflow_id or "").removeprefix("release-").removeprefix("poll-")
    case_id = request.case_id if isinstance(request, OpenNext) else named
    await Gates(Path(os.environ[VARIABLE])).passed(case_id, info.activity_type, point)


class _Gated(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Edges(next)


class _Edges(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        request = input.args[0] if input.args else None
        await _at(Moment.BEFORE, request)
        result = await super().execute_activity(input)
        await _at(Moment.AFTER, request)
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

    @activity.defn(name="case.containment_of")
    async def containment_of(self, request: ContainmentOf) -> Containment:
        await _at(Moment.DURING)
        return await super().containment_of(request)


class _Next(NextCaseActivities):
    @activity.defn(name="case.open_next")
    async def open_next(self, request: OpenNext) -> str:
        await _at(Moment.DURING, request)
        return await super().open_next(request)


class _Ledger(LedgerActivities):
    @activity.defn(name="ledger.reserve")
    async def reserve(self, request: Reserve) -> Reservation:
        await _at(Moment.DURING)
        return await super().reserve(request)


class _Incidents(SiemIncidentActivities):
    def __init__(self, source: IncidentSource | None, take: Take | None, *, comments: bool) -> None:
        async def gated(incidents: Sequence[SiemIncident]) -> list[Dealt | Exception]:
            """The page is read, and its cases are not started yet."""
            assert take is not None
            await _at(Moment.DURING)
            return await take(incidents)

        super().__init__(source, gated if take else None, comments=comments)


def _worker(*arguments: Any, interceptors: list[Interceptor], **options: Any) -> Worker:
    # Inside of the pulse: a step that stands at a gate is alive.
    return Worker(*arguments, interceptors=[*interceptors, _Gated()], **options)


if __name__ == "__main__":
    for name, gated in (
        ("MAX_ACTIVITIES", AT_GATES),
        ("Worker", _worker),
        ("CaseActivities", _Case),
        ("NextCaseActivities", _Next),
        ("LedgerActivities", _Ledger),
        ("SiemIncidentActivities", _Incidents),
    ):
        setattr(worker, name, gated)
    os._exit(worker.main())
