"""Taking alerts into a case: once each, a flood a part at a time, and none that is about somebody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.alert import Alert, AlertRefused, parse_alert
    from incident.record import Stage
    from incident.requests import LocateHost
    from incident.text import plain
    from incident.whose import Whose, hour, owner, whose
    from workflows import steps
    from workflows.case import Case

PART: Final = 1000
"""So many alerts are read in one task of the workflow; the SDK gives up one that computes for two seconds."""

_PAUSE: Final = timedelta(milliseconds=10)
_MOST_HOURS: Final = 100
"""Of so many hours one run of a case asks who had the address; what is about others gets a case of its own."""

_MOST_NAMED: Final = 20
_MOST_TOLD: Final = 3
_NOT_KNOWN: Final = "somebody who is not known yet"


class Joining:
    """The alerts that came to one case, and which of them nobody has looked at yet."""

    def __init__(
        self, case: Case, raised: Callable[[], None], tell: Callable[[str], None], *, resumed: bool, unseen: int
    ) -> None:
        """``raised`` is called when a joined alert raised the priority, ``tell`` with what the tier has to hear.

        ``unseen`` alerts joined before the history of a ``resumed`` case was begun anew, and were not looked at.
        """
        self._case = case
        self._raised = raised
        self._tell = tell
        self._inbox: deque[Any] = deque()
        self._taking: asyncio.Task[None] | None = None
        self._task = (0, 0)
        self._waiting: dict[str, Alert] = {}
        self._kept = {alert.id for alert in case.record.joined.others}
        self._told: set[str] = set()
        self._owners: dict[datetime, str] = {}
        self._looked_up = self._checked = resumed
        self._candidates: list[Alert] = []
        self._names: list[str] = []
        self._since = unseen
        self.decided = False
        """Whether the case has been decided about: what joins after that is for the ticket, looked at or not."""
        self._unseen = unseen
        self._before = 0
        self._handed = 0
        self._urgent = False

    @property
    def idle(self) -> bool:
        """Whether all that came has been read."""
        return not self._inbox and (self._taking is None or self._taking.done())

    @property
    def unseen(self) -> int:
        """How many alerts joined since the last look."""
        return self._unseen

    @property
    def wants_a_look(self) -> bool:
        """Whether there is anything that a look would be about."""
        return bool(self._unseen or self._waiting)

    @property
    def urgent(self) -> bool:
        """Whether one of them raised the priority: then the next look does not wait."""
        return self._urgent

    @property
    def undecided(self) -> bool:
        """Whether there are alerts of which it is not known yet whose they are."""
        return bool(self._waiting)

    def take(self, raw: Iterable[Any]) -> None:
        """Take alerts as they came. One that is here already, or is none, changes nothing."""
        self._inbox.extend(raw)
        if self._taking is None or self._taking.done():
            self._read()
            if self._inbox:
                self._taking = asyncio.create_task(self._read_on())

    async def _read_on(self) -> None:
        while self._inbox:
            await workflow.sleep(_PAUSE, summary="A flood is taken in a part at a time")
            self._read()

    def _read(self) -> None:
        """Read what this task of the workflow may still read."""
        folds = self._case.has_policy and self._case.policy.fold_alerts
        at, done = self._task
        length = workflow.info().get_current_history_length()
        done = done if at == length else 0
        changed = False
        while self._inbox and not (folds and done >= PART):
            changed |= self._one(self._inbox.popleft())
            done += 1
        self._task = (length, done)
        if changed:
            self._case.publish()

    def _one(self, raw: Any) -> bool:
        record = self._case.record
        try:
            alert = parse_alert(raw, record.alert.tenant)
        except AlertRefused as error:
            self._case.note(f"a signal 'alert' was no alert: {error}", source="signal")
            return False
        if alert.destination_ip != record.alert.destination_ip:
            told = f"alert {plain(alert.id)} is about {alert.destination_ip}: it needs a case of its own"
            self._case.note(told, source="signal")
            return False
        if record.has(alert.id) or alert.id in self._kept or alert.id in self._waiting:
            return False
        if self._case.has_policy and self._case.policy.tell_apart:
            verdict, who = whose(alert, record, looked_up=self._looked_up)
            if verdict is Whose.UNSURE:
                self._waiting[alert.id] = alert
                return False
            if verdict is Whose.ANOTHERS:
                self._keep(alert, who)
                return True
        self._join(alert)
        return True

    def _join(self, alert: Alert) -> None:
        record, before = self._case.record, self._case.record.priority
        record.join(alert, self._case.now)
        self._unseen += 1
        self._since += 1
        if not self._checked:
            self._candidates.append(alert)
        if len(self._names) < _MOST_NAMED:
            self._names.append(alert.id)
        if record.priority is not before:
            self._urgent = True
            self._raised()

    def _keep(self, alert: Alert, who: str) -> None:
        """Keep an alert of somebody else for a case of its own."""
        record = self._case.record
        self._kept.add(alert.id)
        if not record.joined.keep(alert):
            if record.joined.dropped == 1:
                self._case.note("more alerts of somebody else than can wait: further ones are counted only")
            return
        if who in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add(who)
        told = f"alert {plain(alert.id)} ({alert.severity}) is about {who}"
        self._case.note(f"{told}: it gets a case of its own once this one has closed", source="alert")
        if record.stage is Stage.AWAITING_DECISION:
            self._tell(f"{told}. Its own case opens once this question is answered and this case has closed.")

    async def judge(self) -> None:
        """Find out whose the alerts are that were not sure; the SIEM tells who had the address at their time."""
        self._looked_up = True
        waiting = list(self._waiting.values())
        for alert in waiting:
            verdict, who = whose(alert, self._case.record, looked_up=True)
            at = hour(alert.occurred_at)
            if verdict is Whose.UNSURE:
                if at not in self._owners and len(self._owners) < _MOST_HOURS:
                    self._owners[at] = await self._owner(alert)
                who = self._owners.get(at, _NOT_KNOWN)
            self._settle(alert, who)
        if waiting:
            self._case.publish()

    def _settle(self, alert: Alert, who: str) -> None:
        del self._waiting[alert.id]
        if who:
            self._keep(alert, who)
        else:
            self._join(alert)

    async def _owner(self, alert: Alert) -> str:
        """Who had the address then, if it was somebody else; where the SIEM does not tell, nothing differs."""
        request = LocateHost(ip=alert.destination_ip, at=alert.occurred_at)
        try:
            located = await steps.locate_host(request, self._case.policy.enrich_within)
        except ActivityError:
            return ""
        return owner(self._case.record, located) or ""

    def known(self) -> None:
        """Whoever decides now may know of all that joined so far."""
        self._before = self._unseen

    @property
    def news(self) -> bool:
        """Whether an alert joined that nobody who decided could know of."""
        return self._unseen > self._before

    def looked(self) -> None:
        """A look begins: it is about all that joined by now."""
        self._unseen = self._before = 0
        self._urgent = False
        if not self.decided:
            self._names.clear()
            self._since = 0
        self._case.record.tell_joined(self._case.now)

    @property
    def since(self) -> str:
        """Those that joined since the last look before the decision, for people."""
        more = self._since - len(self._names)
        return " and ".join(filter(None, (", ".join(self._names), f"{more} more" if more > 0 else "")))

    def candidates(self, most: int) -> Sequence[Alert]:
        """The first of those that joined before it was known whether the case is a repeated delivery."""
        return self._candidates[:most]

    def answered(self, asked: Sequence[Alert], ids: Iterable[str]) -> Alert | None:
        """Of those that were ``asked`` about these ``ids`` were answered; returns the first that was not."""
        known = set(ids)
        left = [alert for alert in asked if alert.id not in known]
        if not left:
            del self._candidates[: len(asked)]
        return left[0] if left else None

    def checked(self) -> None:
        """It is known now whether the case is a repeated delivery."""
        self._checked = True
        self._candidates.clear()

    def left_over(self) -> list[Alert]:
        """What needs a case of its own now that this one closes, and was not ``handed`` on."""
        for alert in list(self._waiting.values()):
            self._settle(alert, _NOT_KNOWN)
        return self._case.record.joined.others[self._handed :]

    def handed(self, count: int) -> None:
        """So many more of them were handed on."""
        self._handed += count
