"""Mail to those whom the mail server put off while others got theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.record import Asked
    from incident.requests import Delivery, Notice
    from workflows import steps
    from workflows.case import Case


class LateMail:
    """The rest of one notice: those who were put off are written to again, until it is said by other means.

    ``stands`` tells whether the mail is still worth sending; ``asked`` is what the question keeps of it, if it was one.
    """

    def __init__(self, case: Case, notice: Notice, stands: Callable[[], bool], asked: list[Asked]) -> None:
        self._case = case
        self._notice = notice
        self._stands = stands
        self._asked = asked
        self._place = len(asked) - 1

    async def deliver(self, waiting: dict[str, str], within: timedelta) -> None:
        """Try for ``within`` in all, or until everybody has it, or nobody needs it any more."""
        until = self._case.now + within
        while waiting and (left := until - self._case.now) > timedelta(0):
            try:
                delivery = await self._again(waiting, left)
            except ActivityError as error:
                self._case.note(f"{self._told(waiting)}: FAILED: {steps.reason_of(error)}", source="mail")
                break
            if delivery is None:
                break
            self._keep(delivery)
            waiting = delivery.deferred
        self._case.publish()

    async def _again(self, waiting: dict[str, str], within: timedelta) -> Delivery | None:
        rest = self._notice.model_copy(update={"recipients": tuple(waiting)})
        sending = asyncio.create_task(steps.notify(rest, within))
        try:
            await workflow.wait_condition(lambda: sending.done() or not self._stands())
            return await sending if sending.done() else None
        finally:
            sending.cancel()

    def _keep(self, delivery: Delivery) -> None:
        if delivery.accepted:
            self._case.note(f"{self._told(delivery.accepted)}: sent, after it was put off", source="mail")
        if delivery.refused:
            words = "; ".join(delivery.refused.values())
            self._case.note(f"{self._told(delivery.refused)}: FAILED: {words}", source="mail")
        if self._place >= 0:
            asked = self._asked[self._place]
            still = {who: why for who, why in asked.refused.items() if who not in delivery.accepted}
            refused = {**still, **delivery.refused, **delivery.deferred}
            self._asked[self._place] = asked.model_copy(update={"refused": refused})

    def _told(self, who: Iterable[str]) -> str:
        return f"mail ({self._notice.kind}) to {', '.join(who)}"
