"""A runbook that mails once, and does nothing else."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.requests import Delivery, Notice

HEARTBEAT = timedelta(seconds=3)
"""Shorter than in the runbook, so that a dead worker's step is another's soon."""


@workflow.defn
class Probe:
    """Sends one notice."""

    @workflow.run
    async def run(self, notice: Notice) -> Delivery:
        """Send it."""
        delivery: Delivery = await workflow.execute_activity(
            "notification.notify",
            notice,
            result_type=Delivery,
            start_to_close_timeout=timedelta(seconds=45),
            heartbeat_timeout=HEARTBEAT,
        )
        return delivery
