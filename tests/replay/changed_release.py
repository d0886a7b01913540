"""A release that was changed without a thought for the leases that run: what the replay test has to catch."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.release_containment import ReleaseContainment


@workflow.defn(name="ReleaseContainment")
class WaitsFirst(ReleaseContainment):
    """A new timer before everything else."""

    @workflow.init
    def __init__(self, given: Any = None) -> None:
        super().__init__(given)

    @workflow.run
    async def run(self, given: Any = None) -> dict[str, Any]:
        """Wait, and go on as before."""
        await workflow.sleep(1)
        return await super().run(given)
