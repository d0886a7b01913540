"""Stand-ins for two chats' incoming webhooks: one as Slack takes messages, one as a Teams workflow takes cards.

Each checks what it is sent as its vendor does, and keeps what a reader would see: the text after the vendor's own
unescaping, the addresses that are links, and who would be called by a mention. Nothing in them knows what should be
said.
"""

from __future__ import annotations

import html
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lab.faults import Faults

LONGEST = {"section": 3000, "button": 75, "url": 3000, "blocks": 50}
MOST_BYTES = 28 * 1024
_BRACKETS = re.compile(r"<([^<>]*)>")
_AT = re.compile(r"(?<![\w@])@(here|channel|everyone)\b")
_MARKDOWN_LINK = re.compile(r"(?<!\\)\[([^\]]*)\]\(([^)\s]+)\)")
_MARKDOWN_MARK = re.compile(r"(?<!\\)(\*\*|__|\*|_)(?=\S)(.+?)(?<=\S)\1")
_TEMPLATE = re.compile(r"\{\{(?:DATE|TIME)\([^{}]*\)\}\}")


@dataclass
class Seen:
    """A message as its readers see it.

    ``calls`` are those whom a mention notifies, ``links`` the addresses that can be opened, ``marked`` the pieces that
    are not shown as they were written, ``decides`` the interactive elements that would tell the sender something.
    """

    text: str = ""
    notification: str = ""
    links: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)
    decides: list[str] = field(default_factory=list)


class _Wrong(Exception):
    """The message is not as the vendor documents it."""


class SlackLab:
    """A Slack-shaped webhook. Serve ``app``; ``path`` is the secret part of the address, below the server's.

    ``state`` may be set to one of the words of a hook that is gone (``no_service``, ``channel_is_archived``).
    """

    def __init__(self) -> None:
        self.path = f"/services/T0LAB/B0LAB/{secrets.token_urlsafe(18)}"
        self.messages: list[Seen] = []
        self.state = ""
        routes = [Route("/{rest:path}", self._take, methods=["GET", "POST"])]
        self.app = Faults(Starlette(routes=routes), error_body=b"rollup_error")

    @property
    def faults(self) -> Faults:
        """Failures on demand, and the requests so far."""
        return self.app

    async def _take(self, request: Request) -> Response:
        if request.url.path != self.path:
            return PlainTextResponse("no_service", 404)
        if request.method != "POST":
            return PlainTextResponse("invalid_http_method", 405)
        if self.state:
            return PlainTextResponse(self.state, 410 if self.state == "channel_is_archived" else 404)
        try:
            body = json.loads(await request.body())
            if not body.get("text") and not body.get("blocks"):
                return PlainTextResponse("no_text", 400)
            self.messages.append(_slack(body))
        except (ValueError, KeyError, TypeError, AttributeError, _Wrong):
            return PlainTextResponse("invalid_payload", 400)
        return PlainTextResponse("ok")


def _slack(body: dict[str, Any]) -> Seen:
    seen = Seen()
    names = body.get("link_names") in (1, True) or body.get("parse") == "full"
    seen.notification = _slack_text(body.get("text", ""), seen, marked=body.get("mrkdwn", True), names=names)
    blocks = body.get("blocks", [])
    if len(blocks) > LONGEST["blocks"]:
        raise _Wrong
    lines = []
    for block in blocks:
        if block["type"] == "section":
            lines.append(_slack_object(block["text"], LONGEST["section"], seen, names=names))
        elif block["type"] == "actions":
            for element in block["elements"]:
                _slack_button(element, seen, names=names)
        else:
            raise _Wrong
    seen.text = "\n".join(lines) or seen.notification
    return seen


def _slack_object(given: dict[str, Any], limit: int, seen: Seen, *, names: bool) -> str:
    text = given["text"]
    if given["type"] not in ("plain_text", "mrkdwn") or not isinstance(text, str) or not 0 < len(text) <= limit:
        raise _Wrong
    return _slack_text(text, seen, marked=given["type"] == "mrkdwn", names=names)


def _slack_button(element: dict[str, Any], seen: Seen, *, names: bool) -> None:
    if element["type"] != "button" or element["text"]["type"] != "plain_text":
        raise _Wrong
    _slack_object(element["text"], LONGEST["button"], seen, names=names)
    if "url" in element:
        if len(element["url"]) > LONGEST["url"]:
            raise _Wrong
        seen.links.append(element["url"])
    if "value" in element or "url" not in element:
        seen.decides.append(element.get("action_id", "button"))


def _slack_text(text: str, seen: Seen, *, marked: bool, names: bool) -> str:
    """Brackets are read in every kind of text; marks and names only where they are switched on."""
    for inside in _BRACKETS.findall(text):
        if inside[:1] in ("!", "@", "#"):
            seen.calls.append(inside)
        else:
            seen.links.append(inside.partition("|")[0])
    if marked:
        seen.marked += [found[1] for found in re.finditer(r"([*_~`])(?=\S).+?(?<=\S)\1", text)]
    if names or marked:
        seen.calls += _AT.findall(text)
    return html.unescape(_BRACKETS.sub(lambda found: found[1].rpartition("|")[2], text))


class TeamsLab:
    """A workflow's webhook as Teams gives them out. Serve ``app``; ``path`` is the address below the server's.

    ``enabled`` is whether the workflow is switched on; ``connector`` makes it answer as the older connectors did.
    """

    def __init__(self) -> None:
        self._signature = secrets.token_urlsafe(32)
        self.path = (
            "/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke"
            f"?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={self._signature}"
        )
        self.messages: list[Seen] = []
        self.enabled = True
        self.connector = False
        self.connector_says = "1"
        routes = [Route("/{rest:path}", self._take, methods=["GET", "POST"])]
        self.app = Faults(Starlette(routes=routes), error_body=b'{"error":{"code":"InternalServerError","message":""}}')

    @property
    def faults(self) -> Faults:
        """Failures on demand, and the requests so far."""
        return self.app

    async def _take(self, request: Request) -> Response:
        if request.url.path != self.path.partition("?")[0]:
            return _azure(404, "WorkflowNotFound", "The workflow could not be found.")
        if request.method != "POST":
            return _azure(404, "NotFound", "There is no such trigger for this method.")
        if request.query_params.get("sig") != self._signature or not request.query_params.get("sp"):
            return _azure(401, "DirectApiAuthorizationRequired", "The request must be authenticated by its signature.")
        if not self.enabled:
            return _azure(400, "WorkflowTriggerIsNotEnabled", "Could not execute the trigger: the workflow is off.")
        raw = await request.body()
        if len(raw) > MOST_BYTES:
            return _azure(413, "RequestEntityTooLarge", "The message is too large.")
        try:
            seen = _card(json.loads(raw))
        except (ValueError, KeyError, TypeError, _Wrong):
            return _azure(400, "TriggerInputSchemaMismatch", "The input body does not match the schema.")
        if self.connector:
            if self.connector_says == "1":
                self.messages.append(seen)
            return PlainTextResponse(self.connector_says)
        self.messages.append(seen)
        return Response(status_code=202)


def _card(body: dict[str, Any]) -> Seen:
    (attachment,) = body["attachments"]
    card = attachment["content"]
    fits = body["type"] == "message" and attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    if not fits or card["type"] != "AdaptiveCard" or not card["body"]:
        raise _Wrong
    seen = Seen()
    seen.text = "\n".join(_element(element, seen) for element in card["body"])
    for action in card.get("actions", []):
        if action["type"] == "Action.OpenUrl":
            seen.links.append(action["url"])
        else:
            seen.decides.append(action["type"])
    return seen


def _element(element: dict[str, Any], seen: Seen) -> str:
    """A text block's text is Markdown, a text run's is not; both are templates."""
    if element["type"] == "TextBlock":
        text: str = element["text"]
        seen.links += [found[2] for found in _MARKDOWN_LINK.finditer(text)]
        seen.marked += [found[2] for found in _MARKDOWN_MARK.finditer(text)]
    elif element["type"] == "RichTextBlock":
        runs = [run if isinstance(run, dict) else {"type": "TextRun", "text": run} for run in element["inlines"]]
        if any(run["type"] != "TextRun" for run in runs):
            raise _Wrong
        seen.decides += ["selectAction" for run in runs if "selectAction" in run]
        text = "".join(run["text"] for run in runs)
    else:
        raise _Wrong
    seen.marked += _TEMPLATE.findall(text)
    return text


def _azure(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
