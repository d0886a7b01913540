"""Doing what was decided: the guardrails, the write, and the read-back, for each action side by side."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.guardrails import Allowance, Context, Ground, Ruling, Target, evaluate
    from incident.record import ActionRecord, DecidedBy, Decision, Outcome, Stage
    from incident.requests import (
        AccountRef,
        ActionState,
        ConfirmElsewhere,
        DeviceRef,
        DisableAccount,
        QuarantineHost,
        ReadBack,
        Reservation,
        Reserve,
        RevokeSignIns,
    )
    from incident.triage import CONTAIN, ActionName
    from workflows import policies, steps
    from workflows.case import Case

_DONE: Final = (ActionState.VERIFIED, ActionState.IN_FORCE)
_NOT_BEGUN: Final = (ActionState.LEFT_ALONE, ActionState.OBSERVED)


class Containment:
    """The actions of one case. What a guardrail keeps from being done stands in ``held``, with its ruling."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._confirming: dict[ActionName, asyncio.Task[None]] = {}
        self._rounds = 0
        self.held: dict[ActionName, Ruling] = {}

    async def contain(self, decision: Decision, actions: tuple[ActionName, ...], *, approved: bool = False) -> None:
        """Write what the guardrails allow, then read back. ``approved`` says that people approved just these.

        A target that is not known, or not one, is left for hands: the possible half is done. A read-back that takes
        longer than ``settle_within`` goes on beside the rest; ``settled`` waits for it.
        """
        self._case.enter(Stage.CONTAINING)
        begun = await self._cleared(decision, actions, approved=approved)
        await asyncio.gather(*(self._write(action) for action in begun))
        self._case.enter(Stage.VERIFYING)
        for action in begun:
            self._confirming[action] = asyncio.create_task(self._verify(action))
        await self._settle(tuple(begun))
        for action in actions:
            self._case.measures.acted(self._entry(action))
        self._case.publish()

    async def settled(self) -> bool:
        """Wait for the read-backs that were still out, each until its own deadline; tells whether there were any."""
        pending = [action for action, task in self._confirming.items() if not task.done()]
        await asyncio.gather(*self._confirming.values())
        for action in pending:
            self._case.measures.acted(self._entry(action))
        return bool(pending)

    def deny(self, action: ActionName, why: str) -> None:
        """Nobody can approve this: it stays held, for hands."""
        self.held[action] = Ruling(allowance=Allowance.DENY, ground=Ground.PROTECTED, reason=why)
        self._entry(action).detail = why
        self._case.note(f"{action} left for hands: {why}", source="guardrails")

    def leave_alone(self, action: ActionName, why: str) -> None:
        """Say in the record that a target was not touched."""
        self.held.pop(action, None)
        record = self._case.record.action(action)
        if record is not None:
            record.detail = why
        self._case.note(f"{action} left alone: {why}", source="guardrails")

    @property
    def begun(self) -> bool:
        """Whether anything was done or tried; what a guardrail kept from being done was not."""
        return any(action.state not in _NOT_BEGUN for action in self._case.record.actions)

    @property
    def observed(self) -> bool:
        """Whether anything was only written down, in observe mode."""
        return any(action.state is ActionState.OBSERVED for action in self._case.record.actions)

    def outcome(self) -> Outcome:
        """The outcome that the actions' states give; what is only observed does not count."""
        actions = [action for action in self._case.record.actions if action.state is not ActionState.OBSERVED]
        done = {action.action for action in actions if action.state in _DONE}
        if not actions:
            return Outcome.OBSERVED
        if not done:
            return Outcome.CONTAINMENT_FAILED
        if len(done) < len(actions):
            return Outcome.PARTIALLY_CONTAINED
        return Outcome.ACCOUNT_DISABLED if done == {ActionName.DISABLE_ACCOUNT} else Outcome.CONTAINED

    async def _cleared(
        self, decision: Decision, actions: tuple[ActionName, ...], *, approved: bool
    ) -> list[ActionName]:
        """The actions that may be written now; every one of them is in the record with its ruling."""
        answered = decision.by is DecidedBy.ANALYST
        context = Context(policy=self._case.policy.guardrails, answered=answered, approved=approved)
        willing = tuple(a for a in actions if not self._missing(a) and evaluate(a, self._target(a), context).allows)
        if willing and context.policy.ledger:
            context = context.model_copy(update={"reservation": await self._reserved(willing, automatic=not answered)})
        return [action for action in actions if self._recorded(action, decision, context)]

    def _recorded(self, action: ActionName, decision: Decision, context: Context) -> bool:
        missing = self._missing(action)
        ruling = None if missing else evaluate(action, self._target(action), context)
        self.held.pop(action, None)
        state, detail = ActionState.REQUESTED, ""
        if missing:
            state, detail = ActionState.FAILED, missing
        elif ruling and not ruling.allows:
            observed = ruling.ground is Ground.OBSERVED
            state, detail = ActionState.OBSERVED if observed else ActionState.LEFT_ALONE, ruling.reason
            if not observed:
                self.held[action] = ruling
        entry = ActionRecord(
            action=action, target=self._named(action), state=state, by=decision.who, at=self._case.now, detail=detail
        )
        if state is ActionState.REQUESTED:
            entry.approvals = decision.approvals
            if action is ActionName.DISABLE_ACCOUNT:
                entry.account = self._account()
            else:
                entry.device = self._device()
        kept = [a for a in self._case.record.actions if a.action is not action]
        self._case.record.actions = sorted([*kept, entry], key=lambda a: CONTAIN.index(a.action))
        self._case.note(f"{action} {entry.target or ''}: {detail or 'requested'}", actor=entry.by, source="guardrails")
        return state is ActionState.REQUESTED

    async def _reserved(self, actions: tuple[ActionName, ...], *, automatic: bool) -> Reservation:
        """A place in the ledger. A ledger that does not answer grants none: then a person is asked."""
        record, policy = self._case.record, self._case.policy.guardrails
        self._rounds += 1
        request = Reserve(
            key=f"{record.key}/{self._rounds}",
            case_id=record.case_id,
            actions=actions,
            department=record.user.value.department if record.user.value else None,
            automatic=automatic,
            max_per_hour=policy.max_per_hour,
            max_per_department=policy.max_per_department,
        )
        try:
            return await steps.reserve(request, policies.OWN_BUDGET)
        except ActivityError as error:
            why = f"the ledger of containments does not answer, so nothing is done by itself: {steps.reason_of(error)}"
            self._case.note(why, source="ledger")
            return Reservation(granted=False, reason=why)

    def _missing(self, action: ActionName) -> str | None:
        """Why there is nothing to act on, or ``None``."""
        record = self._case.record
        if action is ActionName.DISABLE_ACCOUNT:
            return None if record.user.value else f"the user is not known: {record.user.reason}"
        if record.host.value is None:
            return f"the host is not known: {record.host.reason}"
        return None if record.device.value else f"no endpoint agent to ask: {record.device.reason}"

    def _target(self, action: ActionName) -> Target:
        record = self._case.record
        if action is ActionName.DISABLE_ACCOUNT:
            return Target(person=record.user.value)
        return Target(host=record.host.value, device=record.device.value)

    def _named(self, action: ActionName) -> str | None:
        host, user = self._case.record.host.value, self._case.record.user.value
        if action is ActionName.DISABLE_ACCOUNT:
            return user.account if user else None
        return host.name if host else None

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
            entry.state = ActionState.ACCEPTED
            entry.before, entry.changed, entry.detail = written.before, written.changed, written.detail
        self._moved(entry)

    async def _settle(self, actions: tuple[ActionName, ...]) -> None:
        """Wait for the read-backs for as long as the ticket may wait for them."""
        tasks = [self._confirming[action] for action in actions]
        within = self._case.policy.settle_within
        if within is None:
            await asyncio.gather(*tasks)
            return
        try:
            await workflow.wait_condition(
                lambda: all(task.done() for task in tasks), timeout=within, timeout_summary="Read-backs settle"
            )
        except TimeoutError:
            for action in actions:
                if not self._confirming[action].done():
                    self._case.note(f"{action} {self._entry(action).target}: the read-back goes on beside the rest")

    async def _verify(self, action: ActionName) -> None:
        """Read back, also after a write that failed: its answer may have been lost on the way."""
        entry, policy = self._entry(action), self._case.policy
        failed = entry.state is ActionState.FAILED
        within = min(policy.verify_within, policy.enrich_within) if failed else policy.verify_within
        if not failed:
            entry.pending_until = self._case.now + within
        try:
            seen = await self._confirmed(action, within)
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
            if action is ActionName.DISABLE_ACCOUNT:
                await self._everywhere(entry, seen)
        entry.pending_until = None
        self._moved(entry)

    async def _confirmed(self, action: ActionName, within: timedelta) -> ReadBack:
        if action is ActionName.DISABLE_ACCOUNT:
            return await steps.confirm_disabled(self._account(), within)
        return await steps.confirm_quarantined(self._device(), within)

    async def _everywhere(self, entry: ActionRecord, seen: ReadBack) -> None:
        """One server's word is not the whole directory's, and a session that is open elsewhere goes on."""
        if seen.others:
            entry.state = ActionState.IN_FORCE
            self._moved(entry)
            request = ConfirmElsewhere(account=self._account(), server=seen.server)
            try:
                await steps.confirm_elsewhere(request, self._case.policy.verify_within)
                entry.state = ActionState.VERIFIED
            except ActivityError as error:
                contradicted = steps.type_of(error) == steps.NOT_IN_FORCE
                entry.state = ActionState.PARTIAL if contradicted else ActionState.IN_FORCE
                entry.detail = steps.reason_of(error)
        if self._case.policy.revoke_sign_ins:
            await self._revoke_sign_ins(entry)

    async def _revoke_sign_ins(self, entry: ActionRecord) -> None:
        user = self._case.record.user.value
        if user is None:
            return
        request = RevokeSignIns(account=user.account, upn=user.upn, mails=user.mails)
        try:
            written = await steps.revoke_sign_ins(request, self._case.policy.contain_within)
            entry.sign_ins = written.detail or "revoked"
        except ActivityError as error:
            entry.sign_ins = f"not revoked: {steps.reason_of(error)}"
        self._case.note(f"sign-ins of {user.account}: {entry.sign_ins}", source="identity")

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

    def _moved(self, entry: ActionRecord) -> None:
        entry.at = self._case.now
        detail = f" ({entry.detail})" if entry.detail else ""
        source = "directory" if entry.action is ActionName.DISABLE_ACCOUNT else "endpoint"
        self._case.note(f"{entry.action} {entry.target}: {entry.state}{detail}", actor=entry.by, source=source)
        self._case.publish()


def next_group(held: dict[ActionName, Ruling]) -> tuple[tuple[ActionName, ...], bool] | None:
    """What of the held is asked about next, and whether it is protected: one question is about one kind alone."""
    askable = {a: r for a, r in held.items() if r.allowance is Allowance.ASK or r.ground is Ground.FROZEN}
    for protected in (False, True):
        group = tuple(a for a in CONTAIN if a in askable and (askable[a].ground is Ground.PROTECTED) is protected)
        if group:
            return group, protected
    return None
