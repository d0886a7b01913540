"""Alerts to Temporal: those of one case in order and together, different cases side by side, the most urgent first."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from temporalio.client import Client
from temporalio.service import RPCError

from bridge.answers import NotTaken, Taken
from bridge.limits import Turns
from cases import MOST_TOGETHER, Started, refused_for_good, start_incidents, together
from incident.alert import Alert, AlertRefused
from incident.policy import CasePolicy
from incident.text import plain
from incident.triage import Priority

AT_ONCE = 32
"""Signals that are on their way to Temporal at one time, of all requests."""

WITHIN = 5.0
"""Seconds that Temporal may take for one signal: who sends waits for the answer."""

_NOT_REACHED = "Temporal cannot be reached; send it again"
_NOT_TRIED = "Temporal could not be reached for an alert before this one; send it again"

log = logging.getLogger("holdpoint.bridge")


@dataclass
class _UnderWay:
    """One request's alerts. ``halted`` once Temporal could not be reached: the rest would only wait for as long."""

    outcomes: dict[int, Taken | NotTaken] = field(default_factory=dict)
    halted: bool = False


@dataclass
class _Waiting:
    """An alert that waits for its turn, in the request that it came with."""

    index: int
    alert: Alert
    request: _UnderWay
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, outcome: Taken | NotTaken) -> None:
        self.request.outcomes[self.index] = outcome
        self.request.halted |= isinstance(outcome, NotTaken) and outcome.retry
        self.answered.set()


class Delivery:
    """Brings alerts to Temporal. One for all requests of a process.

    While a signal to a case is under way, what comes for the same case waits, and then travels together: a flood for
    one host is as many signals as Temporal takes one after another, whatever the number of its requests. What is more
    urgent than all that waits there does not wait for it.
    """

    def __init__(self, client: Client, policy: CasePolicy, *, task_queue: str, within: float = WITHIN) -> None:
        self._client, self._policy, self._queue, self._within = client, policy, task_queue, within
        self._turns = Turns(AT_ONCE)
        self._lanes: dict[tuple[str, int], deque[_Waiting]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits here or is under way."""
        return not self._lanes

    async def deliver(self, alerts: Mapping[int, Alert]) -> dict[int, Taken | NotTaken]:
        """What became of each alert, by its index. Temporal has those that are ``Taken``, come what may."""
        request = _UnderWay()
        waiting = [_Waiting(index, alert, request) for index, alert in alerts.items()]
        cases: dict[str, list[_Waiting]] = {}
        for one in waiting:
            cases.setdefault(one.alert.case_id, []).append(one)
        for case_id, mine in cases.items():
            self._queue_up(case_id, mine)
        for one in waiting:
            await one.answered.wait()
        return request.outcomes

    def _queue_up(self, case_id: str, mine: list[_Waiting]) -> None:
        urgency = max(one.alert.severity.rank for one in mine)
        for as_urgent in range(urgency, len(Priority)):
            if (case_id, as_urgent) in self._lanes:
                self._lanes[case_id, as_urgent].extend(mine)
                return
        self._lanes[case_id, urgency] = deque(mine)
        sender = asyncio.create_task(self._lane(case_id, urgency))
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _lane(self, case_id: str, urgency: int) -> None:
        """Send what waits for one case, until nothing does."""
        lane = self._lanes[case_id, urgency]
        some: list[_Waiting] = []
        try:
            while lane:
                async with self._turns.turn(urgency):
                    some = self._next(lane)
                    if some:
                        for one, outcome in zip(some, await self._start(some), strict=True):
                            one.answer(outcome)
        finally:
            del self._lanes[case_id, urgency]
            for one in (*some, *lane):
                if not one.answered.is_set():
                    one.answer(NotTaken(index=one.index, fault=_NOT_REACHED, retry=True))

    def _next(self, lane: deque[_Waiting]) -> list[_Waiting]:
        """The next ones that travel together; those of a request that was halted are answered."""
        going: list[_Waiting] = []
        while lane and (lane[0].request.halted or len(going) < MOST_TOGETHER):
            one = lane.popleft()
            if one.request.halted:
                one.answer(NotTaken(index=one.index, fault=_NOT_TRIED, retry=True))
            else:
                going.append(one)
        first = len(next(together([one.alert for one in going]), []))
        lane.extendleft(reversed(going[first:]))
        return going[:first]

    async def _start(self, some: list[_Waiting]) -> list[Taken | NotTaken]:
        alerts = [one.alert for one in some]
        try:
            async with asyncio.timeout(self._within):
                told = await start_incidents(self._client, alerts, policy=self._policy, task_queue=self._queue)
        except TimeoutError:
            log.warning("Temporal has not taken %d alerts within %.0f s", len(some), self._within)
            return [NotTaken(index=one.index, fault=_NOT_REACHED, retry=True) for one in some]
        return [_outcome(one, outcome) for one, outcome in zip(some, told, strict=True)]


def _outcome(one: _Waiting, outcome: Started | AlertRefused | RPCError) -> Taken | NotTaken:
    if isinstance(outcome, Started):
        return Taken(
            index=one.index,
            alert_id=one.alert.id,
            case_id=outcome.case_id,
            run_id=outcome.run_id,
            joined=outcome.joined,
        )
    if isinstance(outcome, AlertRefused):
        return NotTaken(index=one.index, fault=plain(str(outcome), limit=500))
    if refused_for_good(outcome):
        return NotTaken(index=one.index, fault=f"Temporal refused it: {plain(outcome.message, limit=200)}")
    log.warning("Temporal did not take an alert: %s: %s", outcome.status.name, plain(outcome.message, limit=200))
    return NotTaken(index=one.index, fault=_NOT_REACHED, retry=True)
