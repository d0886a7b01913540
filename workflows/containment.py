"""Doing what was decided: a guardrail, the write, and the read-back, for each action side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.guardrails import Ruling, evaluate_account, evaluate_host
    from incident.record import ActionRecord, DecidedBy, Decision, Outcome, Stage
    from incident.requests import (
        AccountRef,
        ActionState,
        DeviceRef,
        DisableAccount,
        QuarantineHost,
        ReadBack,
        Written,
    )
    from incident.triage import CONTAIN, ActionName
    from workflows import steps
    from workflows.case import Case

Write = Callable[[], Coroutine[Any, Any, Written]]
Confirm = Callable[[], Coroutine[Any, Any, ReadBack]]


class Containment:
    """The actions of one case. An action that a guardrail wants a person for is left to ``protected``."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.protected: dict[ActionName, str] = {}

    async def contain(self, decision: Decision, actions: tuple[ActionName, ...], *, approved: bool = False) -> None:
        """Write what the guardrails allow, then read back. ``approved`` says that a person was asked about just these.

        A target that is not known, or not one, is left for hands: the possible half is done.
        """
        self._case.enter(Stage.CONTAINING)
        begun = [action for action in actions if self._cleared(action, decision, approved=approved)]
        await asyncio.gather(*(self._write(action) for action in begun))
        self._case.enter(Stage.VERIFYING)
        await asyncio.gather(*(self._verify(action) for action in begun))
        for action in actions:
            self._case.measures.acted(self._entry(action))
        self._case.publish()

    def leave_alone(self, action: ActionName, why: str) -> None:
        """Say in the record that a protected target was not touched."""
        record = self._case.record.action(action)
        if record is not None:
            record.detail = why
        self._case.note(f"{action} left alone: {why}")

    @property
    def begun(self) -> bool:
        """Whether anything was done or tried; what a guardrail kept from being done was not."""
        return any(action.state is not ActionState.LEFT_ALONE for action in self._case.record.actions)

    def outcome(self) -> Outcome:
        """The outcome that the actions' verified states give."""
        actions = self._case.record.actions
        verified = {action.action for action in actions if action.state is ActionState.VERIFIED}
        if not verified:
            return Outcome.CONTAINMENT_FAILED
        if len(verified) < len(actions):
            return Outcome.PARTIALLY_CONTAINED
        return Outcome.ACCOUNT_DISABLED if verified == {ActionName.DISABLE_ACCOUNT} else Outcome.CONTAINED

    def _cleared(self, action: ActionName, decision: Decision, *, approved: bool) -> bool:
        target, missing, ruling = self._target(action, answered=decision.by is DecidedBy.ANALYST)
        state = ActionState.REQUESTED
        detail = ""
        if missing:
            state, detail = ActionState.FAILED, missing
        elif ruling and ruling.asks and not approved:
            state, detail = ActionState.LEFT_ALONE, ruling.reason
            self.protected[action] = ruling.reason
        entry = ActionRecord(
            action=action, target=target, state=state, by=decision.who, at=self._case.now, detail=detail
        )
        kept = [a for a in self._case.record.actions if a.action is not action]
        self._case.record.actions = sorted([*kept, entry], key=lambda a: CONTAIN.index(a.action))
        self._case.note(f"{action} {target or ''}: {detail or 'requested'}")
        return state is ActionState.REQUESTED

    def _target(self, action: ActionName, *, answered: bool) -> tuple[str | None, str | None, Ruling | None]:
        """The target's name, why it cannot be acted on, and what the guardrail says."""
        record, guardrails = self._case.record, self._case.policy.guardrails
        if action is ActionName.DISABLE_ACCOUNT:
            user = record.user.value
            if user is None:
                return None, f"the user is not known: {record.user.reason}", None
            return user.account, None, evaluate_account(user, guardrails, answered=answered)
        host = record.host.value
        if host is None:
            return None, f"the host is not known: {record.host.reason}", None
        if record.device.value is None:
            return host.name, f"no endpoint agent to ask: {record.device.reason}", None
        return host.name, None, evaluate_host(host, record.device.value, guardrails, answered=answered)

    def _account(self) -> AccountRef:
        user = self._case.record.user.value
        assert user is not None, "only a known user's account is written to"  # noqa: S101 - _cleared holds it
        return AccountRef(dn=user.dn, guid=user.guid, account=user.account)

    def _device(self) -> DeviceRef:
        device = self._case.record.device.value
        assert device is not None, "only a known agent is written to"  # noqa: S101 - _cleared holds it
        comment = f"Holdpoint {self._case.record.reference}"
        return DeviceRef(id=device.id, hostname=device.hostname, comment=comment, seen=device.containment)

    async def _write(self, action: ActionName) -> None:
        policy = self._case.policy
        entry = self._entry(action)
        seen = self._seen(action)
        try:
            if action is ActionName.DISABLE_ACCOUNT:
                disable = DisableAccount(account=self._account(), seen=seen)
                written = await steps.disable_account(disable, policy.contain_within)
            else:
                quarantine = QuarantineHost(device=self._device(), seen=seen)
                written = await steps.quarantine_host(quarantine, policy.contain_within)
        except ActivityError as error:
            entry.state, entry.detail = ActionState.FAILED, steps.reason_of(error)
        else:
            entry.before, entry.changed, entry.detail = written.before, written.changed, written.detail
        self._settled(entry)

    async def _verify(self, action: ActionName) -> None:
        """Read back, also after a write that failed: its answer may have been lost on the way."""
        entry, policy = self._entry(action), self._case.policy
        failed = entry.state is ActionState.FAILED
        within = min(policy.verify_within, policy.enrich_within) if failed else policy.verify_within
        try:
            if action is ActionName.DISABLE_ACCOUNT:
                await steps.confirm_disabled(self._account(), within)
            else:
                await steps.confirm_quarantined(self._device(), within)
        except ActivityError as error:
            if not failed:
                pending = steps.type_of(error) == steps.PENDING
                entry.state = ActionState.UNREACHABLE if pending else ActionState.FAILED
                entry.detail = steps.reason_of(error)
        else:
            entry.state = ActionState.VERIFIED
            if failed:
                # Whose change it was is not known; what the case had seen is all that an undo could go back to.
                entry.before = self._seen(action)
        self._settled(entry)

    def _seen(self, action: ActionName) -> dict[str, str]:
        """The state before, as the case's own reads told it."""
        user, device = self._case.record.user.value, self._case.record.device.value
        if action is ActionName.DISABLE_ACCOUNT:
            return {"userAccountControl": str(user.user_account_control if user else 0)}
        return {"status": device.containment if device else ""}

    def _entry(self, action: ActionName) -> ActionRecord:
        entry = self._case.record.action(action)
        assert entry is not None, "an action is recorded before it is begun"  # noqa: S101 - _cleared holds it
        return entry

    def _settled(self, entry: ActionRecord) -> None:
        entry.at = self._case.now
        detail = f" ({entry.detail})" if entry.detail else ""
        self._case.note(f"{entry.action} {entry.target}: {entry.state}{detail}")
        self._case.publish()
