"""Slack's incoming webhook: a line of plain text, and a button that opens the case's page.

Rests on Slack's pages on incoming webhooks, Block Kit and the formatting of text. A webhook answers 200 ``ok``, or a
status with one word. It gives no message id back, so there are no threads.
"""

from __future__ import annotations

from typing import Any, Final

from incident.chat import ChatNotice
from incident.text import plain
from integrations.errors import BadAnswer, IntegrationError, Misconfigured, Refused, Rejected
from integrations.http import Answer, clock_check
from integrations.interfaces import Check
from integrations.webhook import LONGEST_TEXT, WebhookChat, case_link

VENDOR: Final = "Slack"
_LONGEST_LINK: Final = 3000
_ESCAPES: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
_GONE: Final = (
    *("no_service", "no_service_id", "no_team", "team_disabled", "no_active_hooks", "invalid_token"),
    *("channel_not_found", "channel_is_archived"),
)
_FORBIDDEN: Final = ("action_prohibited", "posting_to_general_channel_denied")


class Slack(WebhookChat):
    """One channel; satisfies ``integrations.interfaces.Chat``."""

    vendor = VENDOR

    async def post(self, notice: ChatNotice) -> None:
        """Post the line. Posted twice it stands there twice: a webhook can be asked for nothing.

        Raises:
            Busy, Unreachable, BadAnswer: it may go later. Misconfigured: the webhook is not there any more.
            Refused: nobody may post there. Rejected: Slack finds the message wrong.
        """
        self._raise_for_error(await self._webhook.post(message(notice, self._desk_url)))

    async def check(self) -> list[Check]:
        """Posts nothing: a message without text is refused, by a webhook that is there and by one that is not."""
        name = f"{VENDOR}: webhook"
        try:
            answer = await self._webhook.post({})
            self._raise_for_error(answer)
        except Rejected:
            return [Check(name=name, ok=True, detail="it is there; nothing was posted"), clock_check(answer)]
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        return [Check(name=name, ok=False, detail="it takes a message without text, as Slack's own does not")]

    def _raise_for_error(self, answer: Answer) -> None:
        """What a failure means: the one place where that is decided."""
        word = answer.text.strip().lower()
        told = f"{VENDOR} answered {answer.status} ({self._webhook.words(answer)})"
        if answer.status == 200 and word == "ok":
            return
        if word in _FORBIDDEN:
            raise Refused(f"{told}: nobody may post to that channel")
        if word in _GONE or answer.status == 410:
            raise Misconfigured(f"{told}: the webhook does not work any more; make a new one")
        self._webhook.raise_for_status(answer)
        raise BadAnswer(f"{told}, and not ok")


def message(notice: ChatNotice, desk_url: str | None) -> dict[str, Any]:
    """The message: its text stays text in every client, and its one button is a link.

    ``text`` is what a notification shows. Markup is switched off there, and there is none in a plain text block.
    """
    line = as_text(notice.text)
    blocks: list[dict[str, Any]] = [{"type": "section", "text": _plain(line)}]
    link = case_link(desk_url, notice.case_id)
    if link and len(link) <= _LONGEST_LINK:
        button = {"type": "button", "text": _plain("Open the case"), "url": link}
        blocks.append({"type": "actions", "elements": [button]})
    return {"text": line, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False, "blocks": blocks}


def as_text(value: str) -> str:
    """``value`` as one line that Slack shows as it is: no link, no mention of a person, a group or a channel.

    Slack reads ``<…>`` and ``&…;`` in every text, and ``@here`` without brackets where names are linked.
    """
    text = plain(value, limit=LONGEST_TEXT).replace("@", "\N{FULLWIDTH COMMERCIAL AT}")
    for character, entity in _ESCAPES:
        text = text.replace(character, entity)
    return text


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
