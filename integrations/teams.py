"""A Microsoft Teams channel behind a workflow's webhook: an adaptive card of one line, and a link to the case's page.

Rests on Microsoft's pages on incoming webhooks with Workflows and on the Adaptive Cards schema 1.4. A workflow answers
202 with nothing; the older connectors answered 200, and told a failure inside of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from incident.chat import ChatNotice
from incident.text import plain
from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, Rejected
from integrations.http import Answer, clock_check
from integrations.interfaces import Check
from integrations.webhook import LONGEST_TEXT, WebhookChat, case_link

VENDOR: Final = "Microsoft Teams"
_CARD: Final = "application/vnd.microsoft.card.adaptive"
_SCHEMA: Final = "http://adaptivecards.io/schemas/adaptive-card.json"
_OFF: Final = re.compile(r"WorkflowTriggerIsNotEnabled|WorkflowNotFound|WorkflowDisabled", re.IGNORECASE)
_FAILED_INSIDE: Final = re.compile(r"delivery failed(?:.*?HTTP error (\d{3}))?", re.IGNORECASE | re.DOTALL)


class Teams(WebhookChat):
    """One channel; satisfies ``integrations.interfaces.Chat``."""

    vendor = VENDOR

    async def post(self, notice: ChatNotice) -> None:
        """Hand the card to the workflow, which posts it afterwards: that it arrived is never known here.

        Raises:
            Busy, Unreachable, BadAnswer: it may go later. Misconfigured: the workflow is gone or switched off, or the
            address is not whole. Refused: it may not be called. Rejected: it finds the card wrong.
        """
        self._raise_for_error(await self._webhook.post(message(notice, self._desk_url)))

    async def check(self) -> list[Check]:
        """Posts nothing, and so sees the host alone: every call of the address itself would start the workflow."""
        try:
            answer = await self._webhook.look()
        except IntegrationError as error:
            return [Check(name=f"{VENDOR}: webhook", ok=False, detail=str(error))]
        detail = "its host answers; whether the workflow posts is seen by the first line in the channel"
        return [Check(name=f"{VENDOR}: webhook", ok=True, detail=detail), clock_check(answer)]

    def _raise_for_error(self, answer: Answer) -> None:
        """What a failure means: the one place where that is decided."""
        words = "" if answer.is_html else self._webhook.words(answer)
        told = f"{VENDOR} answered {answer.status}" + (f" ({words})" if words else "")
        if answer.status == 410 or (answer.status >= 400 and _OFF.search(answer.text)):
            raise Misconfigured(f"{told}: the workflow is gone or switched off")
        self._webhook.raise_for_status(answer)
        if answer.is_html:
            raise BadAnswer(f"{told} with a web page: a proxy or a login page is in between")
        failed = _FAILED_INSIDE.search(answer.text)
        if failed and failed[1] == "429":
            raise Busy(told)
        if failed and (failed[1] or "").startswith("4"):
            raise Rejected(told)
        if failed:
            raise BadAnswer(told)


def message(notice: ChatNotice, desk_url: str | None) -> dict[str, Any]:
    """The card in the envelope that a workflow takes. A text run knows no Markdown, so its text stays text."""
    card: dict[str, Any] = {
        "$schema": _SCHEMA,
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": as_text(notice.text)}]}],
    }
    link = case_link(desk_url, notice.case_id)
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the case", "url": link}]
    return {"type": "message", "attachments": [{"contentType": _CARD, "contentUrl": None, "content": card}]}


def as_text(value: str) -> str:
    """``value`` as one line for a text run. Cards read ``{{DATE(…)}}`` in every text; broken up it is none."""
    return plain(value, limit=LONGEST_TEXT).replace("{{", "{ {").replace("}}", "} }")
