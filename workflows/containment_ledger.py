"""The ledger of containments: one workflow for all cases, asked before every write, and the freeze switch in it.

One workflow handles one message at a time: two cases can never take the same place.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import AwareDatetime, TypeAdapter, ValidationError

    from incident import budget
    from incident.budget import LEDGER_WORKFLOW, Ledger, Switch, SwitchRefused, read_switch
    from incident.requests import Reservation, Reserve

    _AT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

FROZEN_MEMO = "frozen"
"""The memo that tells the switch's state also while no worker runs: who, since when and why, or an empty text."""

_SIGNALLED = {"by": "somebody who sent a signal", "reason": "no reason given"}


@workflow.defn(name=LEDGER_WORKFLOW)
class ContainmentLedger:
    """The state of ``incident.budget`` as a workflow. It never ends; a long history is begun anew with its state."""

    @workflow.init
    def __init__(self, kept: Ledger | None = None) -> None:
        self._ledger = kept or Ledger()

    @workflow.run
    async def run(self, kept: Ledger | None = None) -> None:
        """Serve until the history is long, then go on in a fresh one. ``kept`` is the state it goes on with."""
        self._publish()
        await workflow.wait_condition(lambda: workflow.info().is_continue_as_new_suggested())
        await workflow.wait_condition(workflow.all_handlers_finished)
        kept = budget.prune(self._ledger, workflow.now())
        workflow.continue_as_new(kept, memo={FROZEN_MEMO: self._frozen_words()})

    @workflow.update(description="A place for a case's containment writes, all of them or none")
    def reserve(self, request: Reserve) -> Reservation:
        """Grant a place, or say why not."""
        self._ledger, told = budget.reserve(self._ledger, request, workflow.now())
        if not told.granted:
            workflow.logger.warning("%s: no place for %s: %s", request.case_id, ", ".join(request.actions), told.reason)
        self._publish()
        return told

    @reserve.validator
    def _refuse_request(self, request: Reserve) -> None:
        fault = budget.fault_of(request)
        if fault:
            raise ApplicationError(fault, type="ReserveRefused", non_retryable=True)

    @workflow.update(description='Stop every containment at once: {"by","reason"}')
    def freeze(self, switch: Any = None) -> dict[str, Any]:
        """Turn the switch on; returns its state and whether this changed it."""
        return self._turned(*budget.freeze(self._ledger, read_switch(switch), workflow.now()))

    @workflow.update(description='Let containments go on: {"by","reason"}')
    def thaw(self, switch: Any = None) -> dict[str, Any]:
        """Turn the switch off; returns its state and whether this changed it."""
        return self._turned(*budget.thaw(self._ledger, read_switch(switch), workflow.now()))

    @freeze.validator
    def _refuse_freeze(self, switch: Any = None) -> None:
        _read(switch)

    @thaw.validator
    def _refuse_thaw(self, switch: Any = None) -> None:
        _read(switch)

    @workflow.signal(
        name="freeze", description='Stop every containment, kept also while no worker runs: {"by","reason"}'
    )
    def freeze_by_signal(self, *arguments: Any) -> None:
        """Turn the switch on whatever came with it: who signals this wants it to stop."""
        try:
            switch = read_switch(arguments[0] if arguments else None)
        except SwitchRefused:
            switch = Switch(**_SIGNALLED)
        self._turned(*budget.freeze(self._ledger, switch, workflow.now()))

    @workflow.query(description="The switch and the budget as JSON; takes the time to tell it for, ISO 8601")
    def status(self, at: Any = None) -> dict[str, Any]:
        """The ledger as JSON. Without ``at`` it is told for the last moment at which the ledger was asked anything."""
        try:
            asked = _AT.validate_python(at)
        except ValidationError:
            asked = workflow.now()
        return budget.view(self._ledger, max(asked, workflow.now()))

    def _turned(self, ledger: Ledger, changed: bool) -> dict[str, Any]:
        self._ledger = ledger
        frozen = ledger.freeze
        if changed:
            words = self._frozen_words()
            workflow.upsert_memo({FROZEN_MEMO: words})
            workflow.logger.warning("%s", words or f"containment is thawed by {ledger.history[-1].by}")
        self._publish()
        return {
            "frozen": frozen is not None,
            "changed": changed,
            "freeze": frozen.model_dump(mode="json") if frozen else None,
        }

    def _frozen_words(self) -> str:
        return budget.frozen_words(self._ledger.freeze) if self._ledger.freeze else ""

    def _publish(self) -> None:
        workflow.set_current_details(budget.details(self._ledger, workflow.now()))


def _read(raw: Any) -> None:
    try:
        read_switch(raw)
    except SwitchRefused as refusal:
        raise ApplicationError(str(refusal), type="SwitchRefused", non_retryable=True) from None
