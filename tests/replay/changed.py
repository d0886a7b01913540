"""Workflows that were changed without a thought for the cases that are open: what the replay test has to catch."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.case import CaseInput
    from workflows.suspicious_user_activity import SuspiciousUserActivity

_ABSENT: Any = None


@workflow.defn(name="SuspiciousUserActivity")
class WaitsFirst(SuspiciousUserActivity):
    """A new timer before everything else."""

    @workflow.init
    def __init__(self, given: CaseInput = _ABSENT) -> None:
        super().__init__(given)

    @workflow.run
    async def run(self, given: CaseInput = _ABSENT) -> dict[str, Any]:
        """Wait, and go on as before."""
        await workflow.sleep(1)
        return await super().run(given)


@workflow.defn(name="SuspiciousUserActivity")
class AsksLater(SuspiciousUserActivity):
    """A hold point that waits before it asks: another timer, and only for a case that is held."""

    @workflow.init
    def __init__(self, given: CaseInput = _ABSENT) -> None:
        super().__init__(given)

    @workflow.run
    async def run(self, given: CaseInput = _ABSENT) -> dict[str, Any]:
        """Go on as before, with another hold point."""
        return await super().run(given)

    async def _hold(self, *arguments: Any, **named: Any) -> Any:
        await workflow.sleep(60)
        return await super()._hold(*arguments, **named)
