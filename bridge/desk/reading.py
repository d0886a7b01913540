"""Reading cases from Temporal: what it shows of them, and what a worker tells where one answers."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from bridge.desk.shared import Shared
from bridge.desk.silence import Silence
from cases import WORKFLOW, NoSuchCase, case_handle, case_row, closed_cases, list_cases
from incident.decision import Electorate

ANSWERS_WITHIN: Final = 4.0
"""Seconds until a worker that says nothing is none, and until Temporal that says nothing is not there."""

_SHARED_FOR, _LISTED_FOR, _ENDED_FOR = 1.5, 60.0, 3600.0
"""Seconds for which a look is good: at one case, at one of a list that shows no change, at one that has ended."""

_LIST_WITHIN = 6.0
"""Seconds after which a list is shown with what is known by then."""

_AT_ONCE = 8
_MOST_RUNS = 50
_REMEMBERED = 2000
_OPEN, _CLOSED = 200, 50

T = TypeVar("T")


class Unreachable(Exception):
    """Temporal does not answer."""


@dataclass(frozen=True)
class Sighting:
    """A case as it was found. ``row`` is what Temporal shows of it; ``view`` what its worker tells, if one answers.

    ``electorate`` is who may see and answer it, also where only an earlier look could tell.
    """

    case_id: str
    run_id: str
    row: dict[str, Any]
    view: dict[str, Any] | None
    electorate: Electorate | None

    @property
    def closed(self) -> bool:
        """Whether the case has ended."""
        return bool(self.row["execution"] != "running")


class Reader:
    """All the desk's looks at Temporal, shared between all who look."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cases: Shared[Sighting] = Shared(_SHARED_FOR, 500)
        self._lists: Shared[list[dict[str, Any]]] = Shared(_SHARED_FOR, 4)
        self._told: Shared[Sighting] = Shared(_LISTED_FOR, 1000)
        self._ended: Shared[Sighting] = Shared(_ENDED_FOR, 1000)
        self._who: OrderedDict[str, Electorate] = OrderedDict()
        self._silence = Silence()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def case(self, case_id: str, run_id: str | None = None) -> Sighting:
        """A case, or the one that a run of it belongs to, as it was at most a moment ago.

        Raises:
            NoSuchCase: there is none.
            Unreachable: Temporal does not answer.
        """
        return await self._cases.get((case_id, run_id), lambda: self._look(case_id, run_id))

    def forget(self, case_id: str, run_id: str | None) -> None:
        """Somebody has answered: whoever looks next sees it."""
        self._cases.forget((case_id, run_id))
        self._lists.forget("open")

    async def open_cases(self) -> list[Sighting]:
        """Every open case, each with what its worker told since it last changed. Raises Unreachable."""
        look = functools.partial(list_cases, self._client, limit=_OPEN)
        return await self._with_views(await self._lists.get("open", lambda: _reached(look())))

    async def closed_cases(self) -> list[Sighting]:
        """The cases that ended last. Raises Unreachable."""
        look = functools.partial(closed_cases, self._client, limit=_CLOSED)
        return await self._with_views(await self._lists.get("closed", lambda: _reached(look())))

    async def _with_views(self, rows: Sequence[dict[str, Any]]) -> list[Sighting]:
        async def one(row: dict[str, Any]) -> Sighting:
            async with self._slots:
                return await self._sighted(row)

        async def shared(row: dict[str, Any]) -> Sighting:
            # A list needs of a case only what Temporal shows as changed as well: so long it is not asked anew.
            key = tuple(str(value) for value in row.values())
            kept = self._told if row["execution"] == "running" else self._ended
            found = await kept.get(key, lambda: one(row))
            if found.view is None:
                kept.forget(key)
            return found

        looks = [asyncio.ensure_future(shared(row)) for row in rows]
        if looks:
            await asyncio.wait(looks, timeout=_LIST_WITHIN)
        return [self._found_in_time(look, row) for look, row in zip(looks, rows, strict=True)]

    def _found_in_time(self, look: asyncio.Future[Sighting], row: dict[str, Any]) -> Sighting:
        """What a look at one case of a list has found; a case that is gone meanwhile is shown as it was listed."""
        if not look.done():
            look.cancel()
        elif not isinstance(look.exception(), NoSuchCase):
            return look.result()
        return Sighting(row["case_id"], row["run_id"], row, None, self._who.get(row["run_id"]))

    async def _look(self, case_id: str, run_id: str | None) -> Sighting:
        described = await self._described(case_id, run_id)
        if described.workflow_type != WORKFLOW:
            raise NoSuchCase(case_id)
        return await self._sighted(case_row(described))

    async def _described(self, case_id: str, run_id: str | None) -> WorkflowExecutionDescription:
        """The last run of the case that a run belongs to: one that waits for weeks goes on in another run."""
        case_handle(self._client, case_id)
        for _ in range(_MOST_RUNS):
            handle = self._client.get_workflow_handle(case_id, run_id=run_id)
            described = await _reached(handle.describe())
            if described.status is not WorkflowExecutionStatus.CONTINUED_AS_NEW:
                return described
            run_id = await _reached(self._next_run(case_id, described.run_id))
        raise NoSuchCase(case_id)

    async def _next_run(self, case_id: str, run_id: str | None) -> str:
        handle = self._client.get_workflow_handle(case_id, run_id=run_id)
        last = WorkflowHistoryEventFilterType.CLOSE_EVENT
        async for event in handle.fetch_history_events(event_filter_type=last):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                return event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        raise NoSuchCase(case_id)

    async def _sighted(self, row: dict[str, Any]) -> Sighting:
        view = await self._view(row)
        who = Electorate.model_validate(view["electorate"]) if view and view["electorate"] else None
        if who:
            self._who[row["run_id"]] = who
            self._who.move_to_end(row["run_id"])
            while len(self._who) > _REMEMBERED:
                self._who.popitem(last=False)
        return Sighting(row["case_id"], row["run_id"], row, view, who or self._who.get(row["run_id"]))

    async def _view(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """What the query ``desk`` answers; ``None`` where no worker does."""
        case_id, run_id, queue = row["case_id"], row["run_id"], row["task_queue"]
        if self._silence.holds(queue, run_id):
            return None
        handle = self._client.get_workflow_handle(case_id, run_id=run_id)
        try:
            async with asyncio.timeout(ANSWERS_WITHIN):
                view: dict[str, Any] = await handle.query("desk", result_type=dict[str, Any])
        except TimeoutError:
            self._silence.of(queue, run_id)
            return None
        except WorkflowQueryFailedError:
            self._silence.of_case(run_id)
            return None
        except RPCError as error:
            if error.status in _NOT_THERE:
                raise Unreachable from None
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchCase(case_id) from None
            self._silence.of_case(run_id)
            return None
        self._silence.broken(queue)
        return view


_NOT_THERE: Final = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED)


async def _reached(looking: Awaitable[T]) -> T:
    """A call that needs Temporal, and no worker."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN):
            return await looking
    except TimeoutError:
        raise Unreachable from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NoSuchCase(error.message) from None
        if error.status is RPCStatusCode.INVALID_ARGUMENT:  # an id that is too long, or a run that can be none
            raise NoSuchCase(error.message) from None
        raise Unreachable from None
