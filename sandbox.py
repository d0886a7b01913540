"""The sandbox that cases run in: the SDK's, entered for the workflow's own code and for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

if TYPE_CHECKING:
    from temporalio.bridge.proto.workflow_activation import WorkflowActivation
    from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

LOADED_ONCE = SandboxRestrictions.default.with_passthrough_modules("workflows")
"""The sandbox stays around every run, but does not load the runbook's file anew for each: a fifth of the worker's work.

The runbook keeps no state outside of its objects, and the tests run it under the sandbox at its strictest.
"""


class CaseSandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox, without its detour for each payload.

    For every payload that comes or goes the SDK (1.35) asks the run three times which context it is read or written in,
    and enters the sandbox for each answer. Only a codec or a converter that minds its context needs that, and Holdpoint
    has neither: one that is added needs the SDK's own runner again.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """A run in the sandbox."""
        return _Run(super().create_instance(det))


class _Run(WorkflowInstance):
    """One run: its tasks go into the sandbox."""

    def __init__(self, sandboxed: WorkflowInstance) -> None:
        self._sandboxed = sandboxed

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._sandboxed.activate(act)

    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._sandboxed.get_info()

    def get_thread_id(self) -> int | None:
        return self._sandboxed.get_thread_id()
