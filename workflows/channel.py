"""Telling a channel of a case: beside everything else, for a short time, and without consequence when it fails."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.chat import ChatNotice, Told, news, told_by_now
    from incident.record import CaseRecord
    from workflows import policies, steps


class Channel:
    """What one case's channel was told. It reads the record when that is published, and asks nothing of the runbook."""

    def __init__(self, record: CaseRecord, *, resumed: bool) -> None:
        self._record = record
        self._told = told_by_now(record) if resumed else Told()
        self._posts: list[asyncio.Task[None]] = []

    def look(self) -> None:
        """Post what is new in the record."""
        self._told, notices = news(self._told, self._record)
        self._posts = [post for post in self._posts if not post.done()]
        self._posts += [asyncio.create_task(self._post(notice)) for notice in notices]

    async def finished(self) -> None:
        """Wait for the posts that are under way; each has ``policies.CHAT_BUDGET`` in all."""
        await asyncio.gather(*self._posts)

    async def _post(self, notice: ChatNotice) -> None:
        try:
            await steps.post_chat(notice, policies.CHAT_BUDGET)
            told = f"channel told: {notice.kind}"
        except ActivityError as error:
            told = f"channel could not be told ({notice.kind}): {steps.reason_of(error)}"
        self._record.note(workflow.now(), told, source="chat")
