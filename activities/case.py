"""What a case, or the release of one, asks of Holdpoint itself and of Temporal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from incident.joined import MOST_SEARCHABLE, known_in
from incident.policy import CasePolicy
from incident.record import Stage
from incident.release import Containment, ContainmentOf, Earlier
from incident.requests import EarlierCase, EarlierOutcome, SnapshotPolicy
from incident.text import plain

_CASE_ID = re.compile(r"[A-Za-z0-9._:-]+")
_WORKFLOW = "SuspiciousUserActivity"
_LATEST = 100
_FEW = 20


class CaseActivities:
    """Knows the worker's settings and asks Temporal's visibility store."""

    def __init__(self, client: Client, policy: CasePolicy) -> None:
        self._client = client
        self._policy = policy

    @activity.defn(name="case.snapshot_policy")
    async def snapshot_policy(self, request: SnapshotPolicy) -> CasePolicy:
        """The worker's settings, for a case that came without."""
        activity.logger.info("settings snapshot for %s", request.case_id)
        return self._policy

    @activity.defn(name="case.find_earlier")
    async def find_earlier(self, request: EarlierCase) -> EarlierOutcome:
        """The latest completed run of this case id that had this alert, and which of those that joined any run had.

        The alerts' ids are compared here and never enter the query: they are untrusted text. A run that failed or was
        terminated answered nothing and does not count. What is searchable of a run may be the first of its alerts only;
        then its result knows the others.
        """
        if not _CASE_ID.fullmatch(request.case_id):
            raise ApplicationError(f"{request.case_id!r} is no case id", type="Rejected", non_retryable=True)
        query = f"WorkflowId = '{request.case_id}' AND ExecutionStatus = 'Completed'"
        found: str | None = None
        left = {request.alert_id, *request.joined}
        async for run in self._client.list_workflows(query, limit=_LATEST):
            known = await self._known(run, left)
            if request.alert_id in known:
                found = run.run_id
            left -= known
            if not left:
                break
        return EarlierOutcome(run_id=found, answered=tuple(one for one in request.joined if one not in left))

    async def _known(self, run: WorkflowExecution, ids: set[str]) -> set[str]:
        """Which of these alerts a completed run had."""
        named = next((pair.value for pair in run.typed_search_attributes if pair.key.name == "AlertIds"), ())
        known = ids & {str(name) for name in named}
        if known == ids or len(named) < MOST_SEARCHABLE:
            return known
        return known | known_in(await self._status(run), sorted(ids - known))

    @activity.defn(name="case.containment_of")
    async def containment_of(self, request: ContainmentOf) -> Containment:
        """What a run of a case did, what an earlier release of it has undone, and whether a younger run is open.

        Without a run id it is the latest run that changed anything; where none did, the latest.

        Raises:
            ApplicationError: there is no such case, its history is gone, or what has the id is no case (NotFound).
        """
        latest = await self._run(request.case_id, None)
        if request.run_id:
            chosen = await self._contained(await self._run(request.case_id, request.run_id))
        else:
            chosen = await self._contained(latest)
            if not chosen.ours:
                chosen = await self._older(latest) or chosen
        update: dict[str, Any] = {"earlier": await self._earlier(chosen, request.after)}
        if chosen.run_id != latest.run_id and latest.status is WorkflowExecutionStatus.RUNNING:
            update["later"] = _wanted(await self._status(latest), latest.run_id)
        return chosen.model_copy(update=update)

    async def _run(self, case_id: str, run_id: str | None) -> WorkflowExecution:
        try:
            run = await self._client.get_workflow_handle(case_id, run_id=run_id).describe()
        except RPCError as error:
            if error.status not in _NO_SUCH_RUN:
                raise
            which = f"no run {plain(run_id)} of case" if run_id else "no case"
            gone = "if there was one, Temporal keeps its history no longer"
            raise _not_found(f"there is {which} {plain(case_id)}; {gone}") from None
        if run.workflow_type != _WORKFLOW:
            raise _not_found(f"{plain(case_id)} is no case: it is a {plain(run.workflow_type)}")
        if run.status is WorkflowExecutionStatus.CONTINUED_AS_NEW:
            raise _not_found(f"run {run.run_id} of {plain(case_id)} went on as a later run: name that one, or none")
        return run

    async def _contained(self, run: WorkflowExecution) -> Containment:
        given, first_run = await self._given(run)
        status = await self._status(run)
        try:
            policy = CasePolicy.model_validate(given["policy"]) if given.get("policy") else self._policy
            digest = hashlib.sha256(f"{run.id}/{first_run}".encode()).hexdigest()
            key = str(status.get("key") or f"hp-{digest[:20]}")
            is_open = run.status is WorkflowExecutionStatus.RUNNING
            return Containment.of(status, policy, run_id=run.run_id, key=key, open=is_open)
        except (KeyError, TypeError, ValueError) as error:
            raise _not_found(
                f"run {run.run_id} of {plain(run.id)} tells no containment: {type(error).__name__}"
            ) from None

    async def _given(self, run: WorkflowExecution) -> tuple[dict[str, Any], str]:
        """The run's input, and the first run of its chain."""
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        async for event in handle.fetch_history_events(page_size=1):
            started = event.workflow_execution_started_event_attributes
            given = await self._client.data_converter.decode(started.input.payloads)
            return given[0] if given and isinstance(given[0], dict) else {}, started.first_execution_run_id
        return {}, run.run_id

    async def _status(self, run: WorkflowExecution) -> dict[str, Any]:
        """The run's last status: its result where it has one, which needs nobody to replay it."""
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        try:
            if run.status is WorkflowExecutionStatus.COMPLETED:
                status: Any = await handle.result(follow_runs=False)
            else:
                status = await handle.query("status")
        except WorkflowQueryFailedError as error:
            raise _not_found(f"{plain(run.id)} does not answer as a case does: {plain(error.message)}") from None
        return status if isinstance(status, dict) else {}

    async def _older(self, latest: WorkflowExecution) -> Containment | None:
        """The youngest closed run before the latest that changed anything."""
        async for run in self._listed(latest.id):
            if run.run_id == latest.run_id or run.status in _NO_END:
                continue
            try:
                found = await self._contained(run)
            except ApplicationError:  # a run that tells nothing is none to undo
                continue
            if found.ours:
                return found
        return None

    async def _earlier(self, containment: Containment, after: str | None) -> Earlier | None:
        """What the latest release of this very run did. The release that asks is none of them: it has not ended."""
        release = f"release-{containment.case_id}"
        listed = [run.run_id async for run in self._listed(release)]
        for run_id in dict.fromkeys([after, *listed] if after else listed):
            handle = self._client.get_workflow_handle(release, run_id=run_id)
            try:
                if (await handle.describe()).status is not WorkflowExecutionStatus.COMPLETED:
                    continue
                told: Any = await handle.result(follow_runs=False)
            except RPCError as error:
                if error.status not in _NO_SUCH_RUN:
                    raise
                continue
            if isinstance(told, dict) and told.get("receipt") and told.get("run_id") == containment.run_id:
                return Earlier.model_validate(told)
        return None

    async def _listed(self, workflow_id: str) -> AsyncIterator[WorkflowExecution]:
        """The runs of that id, the youngest first. An id that would need quoting in a query has none."""
        if _CASE_ID.fullmatch(workflow_id):
            found = [r async for r in self._client.list_workflows(f"WorkflowId = '{workflow_id}'", limit=_FEW)]
            for run in sorted(found, key=lambda run: run.start_time, reverse=True):
                yield run


_NO_SUCH_RUN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)
_NO_END = (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW, WorkflowExecutionStatus.FAILED)


def _wanted(status: dict[str, Any], run_id: str) -> str | None:
    """Why a younger run wants what stands, or ``None``. While it asks, nobody has decided that it does."""
    stage = str(status.get("stage"))
    if stage == Stage.AWAITING_DECISION:
        return None
    return (
        f"a later run of this case ({run_id}) is {plain(stage)} and may want it: try again when it asks or has closed"
    )


def _not_found(message: str) -> ApplicationError:
    return ApplicationError(message, type="NotFound", non_retryable=True)
