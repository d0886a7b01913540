"""Whether a case is a repeated delivery: a batch of alerts may come again as a whole, and nobody is asked again."""

from __future__ import annotations

from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.alert import Alert
    from incident.requests import EarlierCase
    from workflows import policies, steps
    from workflows.case import Case
    from workflows.joining import Joining

_AT_ONCE: Final = 500
"""So many alerts are asked about in one step."""


async def first_unanswered(case: Case, joining: Joining) -> Alert | None:
    """The first of the alerts so far that no earlier case has answered, ``None`` if all were."""
    alert, repeated = case.record.alert, False
    while True:
        asked = joining.candidates(_AT_ONCE)
        request = EarlierCase(case_id=case.record.case_id, alert_id=alert.id, joined=tuple(one.id for one in asked))
        try:
            earlier = await steps.find_earlier(request, policies.OWN_BUDGET)
        except ActivityError as error:
            case.note(f"could not look for an earlier case: {steps.reason_of(error)}")
            return next(iter(asked), None) if repeated else alert
        if not repeated and earlier.run_id is None:
            return alert
        if not repeated:
            case.note(f"alert {alert.id} was answered by run {earlier.run_id}")
        repeated = True
        if earlier.answered is None:
            return next(iter(joining.candidates(1)), None)
        if left := joining.answered(asked, earlier.answered):
            return left
        await workflow.wait_condition(lambda: joining.idle or bool(joining.candidates(1)))
        if not joining.candidates(1):
            return None
