"""The chat's step: one line to a channel."""

from __future__ import annotations

from temporalio import activity

from activities.failures import told_to_temporal
from incident.chat import ChatNotice
from integrations.errors import Misconfigured
from integrations.interfaces import Chat


class ChatActivities:
    """Posts to one channel, if there is one."""

    def __init__(self, chat: Chat | None) -> None:
        self._chat = chat

    @activity.defn(name="chat.post")
    async def post(self, notice: ChatNotice) -> None:
        """Post the line."""
        with told_to_temporal():
            if self._chat is None:
                raise Misconfigured("the case wants a channel told, and this worker has no [chat] provider")
            await self._chat.post(notice)
