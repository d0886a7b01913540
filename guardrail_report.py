"""What the guardrails did, case by case: observed, asked and answered, contained, released."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError

from cases import WORKFLOW, CaseRefused
from incident.record import DecidedBy
from incident.requests import ActionState
from incident.text import plain
from incident.triage import ActionName, Corroborated, Priority, RiskLevel, decide

MOST_CASES = 2000
"""How many cases one report looks at, the latest first."""

_AT_ONCE = 8
_RELEASED = ("released", "partially_released", "completed")
_ANSWER = timedelta(seconds=5)
_CONTAINED = {
    ActionState.ACCEPTED,
    ActionState.IN_FORCE,
    ActionState.VERIFIED,
    ActionState.PARTIAL,
    ActionState.UNREACHABLE,
}


async def guardrail_report(client: Client, since: datetime) -> dict[str, Any]:
    """The cases that began at or after ``since``, each as ``story`` tells it, what could not be read, and the sums.

    A closed case is read from its result; an open one is asked, and that needs a worker.

    Raises:
        CaseRefused: there is something to read, and no worker answered for any of it.
        RPCError: Temporal refused.
    """
    began = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    query = f"WorkflowType = '{WORKFLOW}' AND StartTime >= '{began}' AND ExecutionStatus != 'ContinuedAsNew'"
    runs = [run async for run in client.list_workflows(query, limit=MOST_CASES)]
    reader = _Reader(client)
    read = await asyncio.gather(*(reader.read(run) for run in runs))
    told = [row for row in read if "why" not in row]
    unread = [row for row in read if "why" in row]
    if unread and not told:
        raise CaseRefused(f"none of {len(unread)} cases could be read: {unread[0]['why']}")
    return {
        "since": began,
        "cases": told,
        "unread": unread,
        "cut_short": len(runs) >= MOST_CASES,
        "summary": summary(told),
    }


class _Reader:
    """Reads a few cases at a time; once no worker answered, only what needs none."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._no_worker = False

    async def read(self, run: WorkflowExecution) -> dict[str, Any]:
        row: dict[str, Any] = {"case_id": run.id, "run_id": run.run_id, "started_at": run.start_time.isoformat()}
        async with self._free:
            status = await self._status(run)
            if isinstance(status, str):
                return {**row, "why": status}
            told = story(status)
            released = await self._released(run) if told["contained"] else None
        return {**row, **told, "released": released}

    async def _status(self, run: WorkflowExecution) -> dict[str, Any] | str:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        if run.status is WorkflowExecutionStatus.COMPLETED:
            result = await handle.result()
            return result if isinstance(result, dict) else "its result is not a case's"
        if self._no_worker:
            return "no worker answers"
        try:
            answer: dict[str, Any] = await handle.query("status", result_type=dict[str, Any], rpc_timeout=_ANSWER)
        except WorkflowQueryFailedError as error:
            return f"it does not answer as a case does: {plain(error.message)}"
        except RPCError as error:
            self._no_worker = True
            return f"no worker answers: {plain(error.message)}"
        return answer

    async def _released(self, run: WorkflowExecution) -> str | None:
        """How a release of this run's containment ended, or that it goes on; ``None`` if there was none."""
        handle = self._client.get_workflow_handle(f"release-{run.id}")
        try:
            described = await handle.describe()
        except RPCError:
            return None
        if described.start_time < run.start_time:
            return None
        try:
            told = await self._of_release(handle, described.status)
        except (RPCError, WorkflowFailureError, WorkflowQueryFailedError):
            told = {}
        if told.get("run_id") not in (None, run.run_id):
            return None
        going = described.status.name.lower() if described.status is not None else "unknown"
        return plain(str(told.get("outcome") or told.get("stage") or going))

    async def _of_release(
        self, handle: WorkflowHandle[Any, Any], status: WorkflowExecutionStatus | None
    ) -> dict[str, Any]:
        if status is WorkflowExecutionStatus.COMPLETED:
            told = await handle.result()
        else:
            told = await handle.query("status", rpc_timeout=_ANSWER)
        return told if isinstance(told, dict) else {}


def story(status: dict[str, Any]) -> dict[str, Any]:
    """One case, from what its query ``status`` answers.

    ``observed`` would have been done; ``recommended`` is what the table's row does by the facts that were known last;
    ``contained`` was written. ``asked`` tells whether people were, ``answer`` what they said last, and ``compared``
    whether that ``agreed`` with the table or ``differed``: ``open`` where the table itself asks, ``waiting`` while the
    question stands, ``unanswered`` where nobody did, ``None`` where nobody was asked.
    """
    actions = [action for action in status.get("actions") or [] if isinstance(action, dict)]
    decision = status.get("decision") or {}
    recommended = _recommended(status)
    by_analyst = decision.get("by") == DecidedBy.ANALYST
    return {
        "outcome": status.get("outcome"),
        "host": (status.get("host") or {}).get("value"),
        "user": (status.get("user") or {}).get("value"),
        "recommended": recommended,
        "observed": [_told(action) for action in actions if action.get("state") == ActionState.OBSERVED],
        "contained": [_told(action) for action in actions if action.get("state") in _CONTAINED],
        "asked": bool(status.get("question") or decision.get("question")),
        "answer": {key: decision.get(key) for key in ("decision", "analyst", "reason", "actions", "approvals")}
        if by_analyst
        else None,
        "compared": _compared(status, decision, recommended, actions),
    }


def _told(action: dict[str, Any]) -> dict[str, Any]:
    return {key: action.get(key) for key in ("action", "target", "state", "by", "detail")}


def _recommended(status: dict[str, Any]) -> list[str]:
    risk, found = status.get("risk") or {}, status.get("corroboration") or {}
    level = RiskLevel.UNKNOWN
    if risk.get("known") and risk.get("value") in list(RiskLevel):
        level = RiskLevel(risk["value"])
    corroborated = Corroborated.UNKNOWN
    if found.get("known"):
        corroborated = Corroborated.YES if found.get("value") else Corroborated.NO
    return [action.value for action in decide(Priority.LOW, level, corroborated).actions]


def _compared(
    status: dict[str, Any], decision: dict[str, Any], recommended: list[str], actions: list[dict[str, Any]]
) -> str | None:
    if status.get("question"):
        return "waiting"
    if not decision.get("question"):
        return None
    if decision.get("by") != DecidedBy.ANALYST:
        return "unanswered"
    if not recommended:
        return "open"
    states = {action.get("action"): action.get("state") for action in actions}
    refused = [name for name in recommended if states.get(name, ActionState.LEFT_ALONE) == ActionState.LEFT_ALONE]
    return "differed" if refused else "agreed"


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums: actions that observe mode would have done and that were done, and the answers by how they compare."""
    observed = Counter(action["action"] for case in cases for action in case["observed"])
    contained = Counter(action["action"] for case in cases for action in case["contained"])
    compared = Counter(case["compared"] for case in cases if case["compared"])
    return {
        "cases": len(cases),
        "observed": {name.value: observed[name.value] for name in ActionName},
        "contained": {name.value: contained[name.value] for name in ActionName},
        "asked": sum(case["asked"] for case in cases),
        "compared": {word: compared[word] for word in ("agreed", "differed", "open", "waiting", "unanswered")},
        "released": sum(case["released"] in _RELEASED for case in cases),
    }
