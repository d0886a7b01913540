"""A case as the workflow holds it: the record, the settings it was started with, and what Temporal shows of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel, ConfigDict, model_validator

    from incident.alert import Alert, AlertRefused, parse_alert
    from incident.policy import CasePolicy
    from incident.record import CaseRecord, Stage
    from incident.telling import details
    from workflows.channel import Channel
    from workflows.measures import Measures
    from workflows.search_attributes import Published
    from workflows.write_back import WriteBack


class CaseInput(BaseModel):
    """What starts a case: the alert, and the settings that steer it. A bare alert is taken as well.

    Without ``policy`` the worker's settings are snapshot in the case's first step. ``resumed`` is the record of a case
    that waits so long that its history was begun anew, and ``unseen`` how many alerts have joined it since it looked;
    nobody else gives them.
    """

    model_config = ConfigDict(frozen=True)

    alert: Alert
    policy: CasePolicy | None = None
    resumed: CaseRecord | None = None
    unseen: int = 0

    @model_validator(mode="before")
    @classmethod
    def _alert_first(cls, value: object) -> object:
        """What is no alert fails the case at once: a task that fails for ever would keep its host's next alerts."""
        given = value if isinstance(value, dict) and "alert" in value else {"alert": value}
        if isinstance(given["alert"], Alert):
            return given
        try:
            return {**given, "alert": parse_alert(given["alert"])}
        except AlertRefused as refusal:
            raise ApplicationError(str(refusal), type="AlertRefused", non_retryable=True) from None


NO_ALERT: Final = CaseInput(
    alert=Alert(id="none", destination_ip="::", occurred_at=datetime.fromtimestamp(0, UTC), tenant="none")
)
"""What stands in a record where no alert was given, until the case has failed."""


class Case:
    """The record and how it is published. Every change of it ends with ``publish``."""

    def __init__(self, given: CaseInput) -> None:
        info = workflow.info()
        self.record = given.resumed or CaseRecord.opened(
            given.alert, info.workflow_id, info.first_execution_run_id, workflow.now()
        )
        self._policy = given.policy
        self._published = Published()
        self._showing = False
        self._over = False
        self._logged = self._noted() if given.resumed else 0
        self.channel = Channel(self.record, resumed=given.resumed is not None)
        self.write_back = WriteBack(self.record, resumed=given.resumed is not None)
        self.measures = Measures(self.record.priority_history[0].at)

    @property
    def policy(self) -> CasePolicy:
        """The settings of this case. Raises RuntimeError before they are snapshot."""
        if self._policy is None:
            raise RuntimeError("the settings are not snapshot yet")
        return self._policy

    @property
    def has_policy(self) -> bool:
        """Whether the settings are snapshot."""
        return self._policy is not None

    def adopt(self, policy: CasePolicy) -> None:
        """Take the worker's settings for a case that came without."""
        self._policy = policy

    def begun_anew(self, unseen: int) -> CaseInput:
        """The input with which this case goes on in a fresh history."""
        self.record.tell_joined(self.now)
        self._over = True
        return CaseInput(alert=self.record.alert, policy=self.policy, resumed=self.record, unseen=unseen)

    @property
    def now(self) -> datetime:
        """The workflow's time."""
        return workflow.now()

    def enter(self, stage: Stage) -> None:
        """Move to a stage and publish it."""
        if self.record.stage is not stage:
            self.record.stage = stage
            self.note(f"stage {stage}")
            self.measures.entered(stage)
        self.publish()

    def note(self, text: str, *, actor: str = "holdpoint", source: str = "runbook") -> None:
        """Add a line to the timeline: who (``actor``), by which system or step (``source``), and what."""
        self.record.note(self.now, text, actor=actor, source=source)
        self._log()

    def publish(self) -> None:
        """Bring search attributes, current details and the worker's log to the record's state."""
        if not self._together or self.record.stage is Stage.CLOSED:
            self.publish_now()
        if not self._showing:
            self._showing = True
            asyncio.get_running_loop().call_soon(self._show)
        self.tell_channel()
        if self._policy and self._policy.comment_incident:
            self.write_back.look()
        self._log()

    def publish_now(self, *, patient: bool = False) -> None:
        """Bring the search attributes to the record's state. Before a run ends: what comes after its end is lost."""
        if self._together:
            self._published.start_from(workflow.info().typed_search_attributes)
        changes = self._published.changes(self.record, patient=patient)
        if changes:
            workflow.upsert_search_attributes(changes)

    @property
    def _together(self) -> bool:
        return self._policy is not None and self._policy.publish_together

    def _show(self) -> None:
        """Once, for all that one step of the workflow has changed: a thousand alerts may have joined in it."""
        self._showing = False
        if self._together and not self._over:
            self.publish_now(patient=True)
        workflow.set_current_details(details(self.record, self._policy, workflow.info().namespace))

    def tell_channel(self) -> None:
        """Tell the channel what is new, if the settings want one told."""
        if self._policy and self._policy.chat:
            self.channel.look()

    def _log(self) -> None:
        """Bring the worker's log to the timeline's end; what the record noted by itself is in it too."""
        fresh = self._noted() - self._logged
        self._logged += fresh
        for event in self.record.events[-fresh:] if fresh else ():
            workflow.logger.info("%s", event.text)

    def _noted(self) -> int:
        return len(self.record.events) + self.record.events_dropped
