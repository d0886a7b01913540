"""The hold point: ask, wait on a durable timer, remind, escalate through the tiers, and end when nobody answers.

It knows nothing of hosts, accounts or mail: any runbook that has to ask a person can use it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.policy import Tier
    from incident.requests import MailKind


T = TypeVar("T")


class Ending(Enum):
    """How a hold point ended."""

    ANSWERED = auto()
    WITHDRAWN = auto()
    UNANSWERED = auto()
    SUSPENDED = auto()


class Asker(Protocol):
    """What the runbook does on the hold point's behalf."""

    def turn(self, tier: Tier, due_at: datetime, *, escalated: int) -> None:
        """It is this tier's turn until ``due_at``; ``escalated`` tiers had theirs and did not answer."""

    async def tell(self, tier: Tier, kind: MailKind) -> None:
        """Write to the tier. It fails quietly: what went wrong belongs into the case."""

    async def exhausted(self) -> None:
        """The last tier did not answer and the question stays: leave a trace outside (a ticket)."""


class HoldPoint:
    """One question to people. The first settlement wins; a later one is refused by ``stands`` being false.

    Deadlines are durable timers: they survive restarts of worker and server and fire at their due time.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        asker: Asker,
        *,
        keep_asking: bool,
        turn: tuple[str, datetime] | None = None,
        weighing: Callable[[], bool] = lambda: False,
    ) -> None:
        """With ``keep_asking`` the last tier is asked again and again; without it the hold point ends unanswered.

        ``turn`` takes a suspended hold point up again: whose turn it was, and until when. Nobody is written to for it.
        While ``weighing`` is true an answer has come in time, and nobody is called unanswered before it is weighed.
        """
        if not tiers:
            raise ValueError("a hold point needs somebody to ask, or at least how long to wait")
        self._tiers = tuple(tiers)
        self._asker = asker
        self._keep_asking = keep_asking
        self._turn = turn
        self._weighing = weighing
        self._tier = self._tiers[0]
        self._due_at: datetime | None = None
        self._settled: Ending | None = None
        self._errands: list[asyncio.Task[None]] = []

    @property
    def stands(self) -> bool:
        """Whether the question still stands."""
        return self._settled is None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way but the wait."""
        return all(errand.done() for errand in self._errands)

    def hurry(self) -> datetime | None:
        """Half of the turn's wait has to be enough from now on; returns the deadline, ``None`` if it is no sooner."""
        due_at = workflow.now() + self._tier.wait / 2
        if self._settled is not None or self._due_at is None or due_at >= self._due_at:
            return None
        self._due_at = due_at
        return due_at

    def settle(self, ending: Ending) -> None:
        """End the question: it was answered, or withdrawn. Only the first call counts."""
        if self._settled is None:
            self._settled = ending

    async def wait(self) -> Ending:
        """Ask tier by tier until the question is settled or nobody is left to ask."""
        try:
            for escalated, tier in enumerate(self._tiers):
                if self._turn and self._turn[0] != tier.name and any(t.name == self._turn[0] for t in self._tiers):
                    continue
                kind = MailKind.ESCALATE if escalated else MailKind.ASK
                await self._take_turn(tier, kind, escalated=escalated)
                if self._settled:
                    return self._settled
            if not self._keep_asking:
                await workflow.wait_condition(lambda: not self._weighing())
                self.settle(Ending.UNANSWERED)
                return self._settled or Ending.UNANSWERED
            self.send(self._asker.exhausted())
            while not self._settled:
                await self._take_turn(self._tiers[-1], MailKind.REMIND, escalated=len(self._tiers) - 1, remind=False)
            return self._settled
        finally:
            for errand in self._errands:
                errand.cancel()

    async def _take_turn(self, tier: Tier, kind: MailKind, *, escalated: int, remind: bool = True) -> None:
        resumed = self._turn
        self._turn = None
        due_at = resumed[1] if resumed and resumed[0] == tier.name else workflow.now() + tier.wait
        self._tier, self._due_at = tier, due_at
        self._asker.turn(tier, due_at, escalated=escalated)
        if not resumed:
            self.send(self._asker.tell(tier, kind))
        halfway = due_at - tier.wait / 2
        if remind and workflow.now() < halfway and not await self._settles_by(halfway, f"Remind {tier.name}"):
            self.send(self._asker.tell(tier, MailKind.REMIND))
        await self._settles_by(due_at, f"{tier.name} answers until")

    def _otherwise(self, due_at: datetime | None) -> bool:
        return self._settled is not None or self._due_at != due_at

    async def _settles_by(self, deadline: datetime, summary: str) -> bool:
        while self._settled is None:
            due_at = self._due_at
            until = min(deadline, due_at) if due_at else deadline
            try:
                await workflow.wait_condition(
                    functools.partial(self._otherwise, due_at),
                    timeout=max(until - workflow.now(), timedelta(0)),
                    timeout_summary=summary,
                )
            except TimeoutError:
                return False
        return True

    def send(self, errand: Coroutine[Any, Any, None]) -> None:
        """Mail goes out beside the wait: a slow mail server must not keep an answer waiting."""
        self._errands = [task for task in self._errands if not task.done()]
        self._errands.append(asyncio.create_task(errand))


async def first_of(waiting: asyncio.Task[Ending], watching: asyncio.Task[T | None] | None) -> tuple[Ending, T | None]:
    """Wait until a hold point ends, or whoever watches the world beside it has found something; then for its end."""
    tasks: list[asyncio.Task[Any]] = [waiting, *([watching] if watching else [])]
    try:
        await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        found = watching.result() if watching and watching.done() else None
        ending = await waiting
    finally:
        for task in tasks:
            task.cancel()
    # Not in the finally: a run that leaves the worker's cache is closed there, and may not wait for anything.
    await asyncio.gather(*tasks, return_exceptions=True)
    return ending, found
