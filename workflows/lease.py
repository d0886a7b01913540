"""The lease of a containment: how a case hands it over, and asking the tiers whether to release or to renew it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from incident.policy import CasePolicy, Tier
    from incident.record import Asked, CaseRecord
    from incident.release import Containment
    from incident.release_record import LeaseQuestion, ReleaseInput
    from incident.release_telling import mail_context, why_asked
    from incident.requests import MailKind, Notice
    from incident.text import plain
    from workflows import steps
    from workflows.releasing import Release

WORKFLOW: Final = "ReleaseContainment"
_NOBODY: Final = "nobody left"
_TRIES: Final = 3


async def begin_lease(given: ReleaseInput) -> bool:
    """Hand a containment over to the release of its case, which may be running already; false if it took nothing.

    It outlives the case. Whoever calls this is about to end, so a release that ends at the same moment is started anew.
    """
    release = f"release-{given.case_id}"
    for _ in range(_TRIES):
        try:
            await workflow.start_child_workflow(
                WORKFLOW,
                given,
                id=release,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=plain(f"Lease of the containment of {given.case_id}", limit=190),
            )
            return True
        except WorkflowAlreadyStartedError:
            pass
        try:
            await workflow.get_external_workflow_handle(release).signal("contained", given)
            return True
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
    return False


class LeaseAsking:
    """The question of one lease (the hold point's ``Asker``), and the mail to the tiers."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def tiers(self) -> tuple[Tier, ...]:
        """The tiers to ask. Where nobody is left of any, one stands for the wait until the question is put again."""
        known = self._release.containment
        left = known.electorate.remaining(known.policy.tiers)
        return left or (Tier(name=_NOBODY, recipients=(), analysts=(), wait=known.policy.tiers[-1].wait),)

    def pose(self) -> LeaseQuestion:
        """Put a new question; the hold point's first turn completes it."""
        record, now = self._release.record, self._release.now
        record.questions_asked += 1
        record.question = LeaseQuestion(
            id=f"{self._release.containment.reference}-L{record.questions_asked}",
            posed_at=now,
            tier=_NOBODY,
            due_at=now,
            why=why_asked(record, now),
        )
        self._release.note(f"question {record.question.id}: {record.question.why}")
        return record.question

    def turn(self, tier: Tier, due_at: datetime, *, escalated: int) -> None:
        """It is this tier's turn."""
        question = self._release.record.question
        if question is None:
            return
        if escalated and question.tier != tier.name:
            self._release.note(f"{question.tier} did not answer; {tier.name} is asked")
        question.tier, question.due_at = tier.name, due_at
        self._release.publish()

    async def tell(self, tier: Tier, kind: MailKind) -> None:
        """Mail the standing question to the tier, and keep what became of the mail."""
        question = self._release.record.question
        if question is not None and tier.recipients:
            await self._mail(tier, kind, question, None)

    async def exhausted(self) -> None:
        """Everybody was asked and the question stays: the ticket says so."""
        what = "Nobody has answered whether to release or to renew: everything stays, and the last tier is asked again."
        self._release.note(what)
        await self._release.told_ticket(what)

    async def withdraw(self, question: LeaseQuestion, why: str) -> None:
        """Tell everybody who was asked that the question is withdrawn."""
        names = {asked.tier for asked in question.asked}
        for tier in self.tiers():
            if tier.name in names:
                await self._mail(tier, MailKind.WITHDRAWN, None, why)

    async def tell_tier(self, what: str) -> None:
        """Tell the first tier that is left."""
        tier = self.tiers()[0]
        if tier.recipients:
            await self._mail(tier, MailKind.NOTICE, None, what)

    async def _mail(self, tier: Tier, kind: MailKind, question: LeaseQuestion | None, what: str | None) -> None:
        release, known = self._release, self._release.containment
        release.record.mails_sent += 1
        context = mail_context(release.record, tier.name, release.now, what)
        notice = Notice(
            kind=kind,
            key=f"{known.key}-release-{release.mark}-{release.record.mails_sent}",
            thread=known.key,
            case_ref=known.reference,
            recipients=tier.recipients,
            context=context.model_dump(mode="json"),
        )
        refused: dict[str, str] = {}
        failed = None
        try:
            delivery = await steps.notify(notice, tier.wait)
            refused = {**delivery.refused, **delivery.deferred}
        except ActivityError as error:
            failed = steps.reason_of(error)
        if question is not None:
            about = {"tier": tier.name, "kind": kind, "at": release.now, "recipients": tier.recipients}
            question.sent(Asked(**about, refused=refused, failed=failed))
        trouble = failed or "; ".join(f"{who} refused: {why}" for who, why in refused.items())
        release.note(f"mail ({kind}) to {tier.name}: {f'FAILED: {trouble}' if trouble else 'sent'}")
        release.publish()


def leased(record: CaseRecord, policy: CasePolicy, run_id: str) -> ReleaseInput:
    """What the release of a case has to know when the case hands its containment over."""
    containment = Containment.of(record.status(), policy, run_id=run_id, key=record.key, open=False)
    return ReleaseInput(case_id=record.case_id, run_id=run_id, containment=containment, lease=policy.lease)
