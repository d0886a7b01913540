"""Jira Cloud: one issue a case, comments and files on it, by REST v3.

What the platform does and a client has to live with: ``/search/jql`` is eventually consistent, so an issue that was
just created may be missed; it tells ids only unless fields are named; text is an Atlassian document (ADF); a field that
is not on the create screen is refused. (Atlassian's REST v3 reference.)
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from incident.requests import Ticket, TicketDraft
from incident.triage import Priority
from integrations.errors import BadAnswer, IntegrationError, Misconfigured, NotFound, Rejected
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, clock_check, quoted
from integrations.interfaces import Attachment, Check

VENDOR = "Jira"
SEARCH_PATH = "/rest/api/3/search/jql"
ISSUE_PATH = "/rest/api/3/issue"

SEARCH_AGAIN = (2.0, 4.0)
"""Seconds between the searches that have to find nothing before an issue is created."""

MAX_TITLE = 255
"""How many characters a summary holds; longer ones are refused."""

MAX_TEXT = 30_000
"""How many characters of a description or a comment are sent; Jira takes 32,767."""

PAGE = 100
"""How many rows are asked for at once."""

MAX_PAGES = 50
"""How many pages of issues or comments are read."""

PROBE_KEY = "hp-holdpoint-doctor"
"""A label that no issue has, for the doctor."""

PRIORITIES: Mapping[Priority, str] = {
    Priority.CRITICAL: "Highest",
    Priority.HIGH: "High",
    Priority.MEDIUM: "Medium",
    Priority.LOW: "Low",
}
"""Jira's names as shipped; a site may have others, and then the issue is opened without."""

# A comment in a service project is shown to the customer unless it says this; other projects ignore it.
_INTERNAL = [{"key": "sd.public.comment", "value": {"internal": True}}]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
_PROJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_ISSUE_ID = re.compile(r"[0-9]{1,20}")
_ISSUE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*-[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_BLOCKS = ("paragraph", "heading", "codeBlock", "listItem", "tableCell")

Row = Mapping[str, Any]


class Jira:
    """The ticket system; satisfies ``integrations.interfaces.Ticketing``.

    Args:
        url: the site, such as ``https://example.atlassian.net``.
        username: the mail address of the account.
        api_token: its API token.
        project: the project's key.
        issue_type: the name of the type that is opened.
        search_again: seconds between the searches before an issue is created, see ``open_ticket``.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: a permission is missing. Misconfigured: address, project,
        type or credentials. Rejected: Jira says that the request is wrong.
    """

    def __init__(
        self,
        url: str,
        username: str,
        api_token: str,
        project: str,
        *,
        issue_type: str = "Task",
        search_again: tuple[float, ...] = SEARCH_AGAIN,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        if not _PROJECT.fullmatch(project):
            raise Misconfigured(f"{quoted(project)!r} is not the key of a {VENDOR} project")
        self._http = VendorHttp(VENDOR, url, ca_file=ca_file, total_seconds=total_seconds)
        self._url = url.rstrip("/")
        self._auth = (username, api_token)
        self._secrets = (base64.b64encode(f"{username}:{api_token}".encode()).decode(), api_token)
        self._project = project
        self._issue_type = issue_type
        self._search_again = search_again

    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """The one issue with the label ``draft.key``, opened if there is none.

        Nothing on the server keeps a second issue from being made, and the search may miss a young one. So an issue is
        created only after several searches, spaced, found nothing; an attempt that lost its answer is thus followed by
        one that looks for seconds. An issue that the search misses for longer than that is opened twice; of several the
        oldest is everybody's. What was created counts, whether it can be read back or not.

        Raises:
            Rejected: the key is not fit to be a label.
        """
        if not _KEY.fullmatch(draft.key):
            raise Rejected(f"{quoted(draft.key)!r} cannot be the label of an issue: it must match {_KEY.pattern}")
        for pause in (0.0, *self._search_again):
            await asyncio.sleep(pause)
            found = await self._find(draft.key)
            if found:
                return found[0]
        created = await self._create(draft)
        try:
            read = await self._request("GET", f"{ISSUE_PATH}/{created.number}", params={"fields": "labels"})
            created = self._ticket(self._body(read))
            older = await self._find(draft.key)
        except IntegrationError:
            # A second attempt would make a second issue.
            return created
        return min([created, *older], key=lambda ticket: int(ticket.id))

    async def add_note(self, ticket: Ticket, text: str, marker: str) -> bool:
        """Add a comment, internal where the project serves customers, unless one with ``marker`` is there.

        At most ``MAX_TEXT`` characters; a marker that is not in them is appended.

        Raises:
            NotFound: there is no such issue, or the account may not see it.
        """
        if not _ISSUE_ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the id of a {VENDOR} issue")
        path = f"{ISSUE_PATH}/{ticket.id}/comment"
        if await self._has_comment(path, marker):
            return False
        body = {"body": document(_note(text, marker)), "properties": _INTERNAL}
        self._body(await self._request("POST", path, json=body))
        return True

    async def attach(self, ticket: Ticket, file: Attachment) -> bool:
        """Attach a file to the issue, unless one of its name is there.

        A form is refused as forged unless ``X-Atlassian-Token`` says that it is none.

        Raises:
            NotFound: there is no such issue, the account may not see it, or attachments are disabled.
        """
        if not _ISSUE_ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the id of a {VENDOR} issue")
        path = f"{ISSUE_PATH}/{ticket.id}"
        if file.name in _file_names(self._body(await self._request("GET", path, params={"fields": "attachment"}))):
            return False
        answer = await self._http.send(
            "POST",
            f"{path}/attachments",
            headers={"Accept": "application/json", "X-Atlassian-Token": "no-check"},
            files={"file": (file.name, file.content, file.media_type)},
            auth=self._auth,
        )
        if answer.status >= 300:
            self._body(answer)
        made = answer.json()
        if not isinstance(made, list) or not any(isinstance(row, dict) and row.get("id") for row in made):
            raise BadAnswer(f"{VENDOR} does not say that it has {file.name}")
        return True

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, credentials, project, clock. Raises nothing of ``errors``."""
        name = f"{VENDOR}: project {self._project}"
        try:
            answer, _, _ = await self._page(PROBE_KEY, None)
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        write = (
            "not checked: they show only when an issue is opened; the account needs Create issues, Add comments and "
            "Create attachments, and Labels on the create screen"
        )
        return [
            Check(name=name, ok=True, detail="the credentials are accepted and the project can be searched"),
            Check(name=f"{VENDOR}: create and comment", ok=True, detail=write),
            clock_check(answer),
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _find(self, key: str) -> list[Ticket]:
        """The issues with exactly that label, the oldest first."""
        found: list[Ticket] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            _, rows, token = await self._page(key, token)
            found += [self._ticket(row) for row in rows if key in _labels(row)]
            if token is None:
                return sorted(found, key=lambda ticket: int(ticket.id))
        raise BadAnswer(f"{VENDOR} lists more issues than one label can have")

    async def _page(self, key: str, token: str | None) -> tuple[Answer, list[Row], str | None]:
        """One page of a search, and the token of the next."""
        jql = f"project = {jql_string(self._project)} AND labels = {jql_string(key)}"
        body: dict[str, Any] = {"jql": jql, "fields": ["labels"], "maxResults": PAGE}
        if token:
            body["nextPageToken"] = token
        answer = await self._request("POST", SEARCH_PATH, json=body)
        if answer.status in (400, 404):
            # The query is our own, so what is wrong in it is the project, and what is missing is Jira.
            words = self._words(answer)
            raise Misconfigured(
                f"{VENDOR} cannot search the project {self._project}: check url and project ({words or answer.status})"
            )
        found = self._body(answer)
        rows, more = found.get("issues"), found.get("nextPageToken")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadAnswer(f"{VENDOR} answered a search without a list of issues")
        ended = found.get("isLast") is True or not isinstance(more, str) or not more
        return answer, rows, None if ended else more

    async def _create(self, draft: TicketDraft) -> Ticket:
        fields: dict[str, Any] = {
            "project": {"key": self._project},
            "issuetype": {"name": self._issue_type},
            "summary": _cut(" ".join(_clean(draft.title).split()), MAX_TITLE) or draft.key,
            "description": document(_cut(_clean(draft.description), MAX_TEXT)),
            "labels": [draft.key],
            "priority": {"name": PRIORITIES[draft.priority]},
        }
        answer = await self._request("POST", ISSUE_PATH, json={"fields": fields})
        if answer.status == 400 and "priority" in _field_errors(answer):
            # Not on the create screen, or another set of names. Nothing has been created.
            del fields["priority"]
            answer = await self._request("POST", ISSUE_PATH, json={"fields": fields})
        wrong = _field_errors(answer) if answer.status == 400 else {}
        if answer.status == 404 or wrong.keys() & {"project", "issuetype", "labels"}:
            raise Misconfigured(
                f"{VENDOR} opens no {quoted(self._issue_type)} in the project {self._project}: check url, project and "
                f"issue_type, and that Labels is on the create screen ({self._words(answer) or answer.status})"
            )
        return self._ticket(self._body(answer))

    async def _has_comment(self, path: str, marker: str) -> bool:
        """Whether a comment holds the marker; newest first. Raises BadAnswer if they do not end."""
        start = 0
        for _ in range(MAX_PAGES):
            params = {"startAt": str(start), "maxResults": str(PAGE), "orderBy": "-created"}
            found = self._body(await self._request("GET", path, params=params))
            rows, total = found.get("comments"), found.get("total")
            if not isinstance(rows, list):
                raise BadAnswer(f"{VENDOR} answered without a list of comments")
            if any(marker in plain_text(row.get("body")) for row in rows if isinstance(row, dict)):
                return True
            start += len(rows)
            if not rows or (isinstance(total, int) and start >= total):
                return False
        raise BadAnswer(f"{VENDOR} lists more than {MAX_PAGES * PAGE} comments; whether ours is there is not known")

    def _ticket(self, row: Row) -> Ticket:
        identity, key = str(row.get("id") or ""), str(row.get("key") or "")
        if not _ISSUE_ID.fullmatch(identity) or not _ISSUE_KEY.fullmatch(key):
            raise BadAnswer(f"{VENDOR} answered with an issue that has no id or no key")
        return Ticket(id=identity, number=key, url=f"{self._url}/browse/{key}")

    async def _request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Answer:
        headers = {"Accept": "application/json"}
        return await self._http.send(method, path, params=params, json=json, headers=headers, auth=self._auth)

    def _body(self, answer: Answer) -> dict[str, Any]:
        """The answer's object, and what a failure means: the one place where that is decided."""
        words = self._words(answer)
        if answer.status == 403 and "AUTHENTICATION_DENIED" in answer.headers.get("X-Seraph-LoginReason", ""):
            raise Misconfigured(f"{VENDOR} takes no login of this account before somebody answers its CAPTCHA")
        if answer.status == 404:
            raise NotFound(f"{VENDOR} has no such issue, or the account may not see it ({words or 404})")
        answer.raise_for_status(words=words)
        body = answer.json_object()
        if body.get("errorMessages") or body.get("errors"):
            raise BadAnswer(f"{VENDOR} answered {answer.status} with a failure ({words or 'no reason told'})")
        return body

    def _words(self, answer: Answer) -> str:
        body = _object(answer)
        general = body.get("errorMessages")
        parts = [part for part in general if isinstance(part, str)] if isinstance(general, list) else []
        parts += [f"{name}: {text}" for name, text in _field_errors(answer).items()]
        return quoted("; ".join(parts), secrets=self._secrets)


def jql_string(text: str) -> str:
    """A JQL string. Raises Rejected for what no escape makes safe."""
    if not text or not text.isprintable():
        raise Rejected(f"{quoted(text)!r} cannot stand in a {VENDOR} query")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def document(text: str) -> dict[str, Any]:
    """Plain text as an Atlassian document: a paragraph for each block, a hard break for each line; no node is empty."""
    paragraphs = []
    for block in filter(str.strip, re.split(r"\n[ \t]*\n", text)):
        content: list[dict[str, str]] = []
        for line in block.strip("\n").split("\n"):
            content += [{"type": "hardBreak"}] if content else []
            content += [{"type": "text", "text": line}] if line else []
        paragraphs.append({"type": "paragraph", "content": content})
    return {"type": "doc", "version": 1, "content": paragraphs or [{"type": "paragraph", "content": []}]}


def plain_text(node: Any) -> str:
    """The text of an Atlassian document, a line for each block and break. Plain text is taken as it is."""
    parts: list[str] = []
    stack = [node]
    while stack:
        at = stack.pop()
        if isinstance(at, str):
            parts.append(at)
        elif isinstance(at, list):
            stack += reversed(at)
        elif isinstance(at, dict):
            kind = at.get("type")
            if kind == "hardBreak" or kind in _BLOCKS:
                parts.append("\n")
            stack.append(at.get("text") if kind == "text" else at.get("content"))
    return "".join(parts).strip("\n")


def _labels(row: Row) -> list[str]:
    """The labels of a found issue. Raises BadAnswer if it tells none: then nothing says whether it is ours."""
    fields = row.get("fields")
    labels = fields.get("labels") if isinstance(fields, dict) else None
    if not isinstance(labels, list):
        raise BadAnswer(f"{VENDOR} found an issue and does not tell its labels")
    return [label for label in labels if isinstance(label, str)]


def _file_names(row: Row) -> list[str]:
    """The names of an issue's files. A site that hides the field tells none: a repeated file is better than none."""
    fields = row.get("fields")
    files = fields.get("attachment") if isinstance(fields, dict) else None
    return [str(file.get("filename")) for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def _field_errors(answer: Answer) -> dict[str, Any]:
    errors = _object(answer).get("errors")
    return errors if isinstance(errors, dict) else {}


def _object(answer: Answer) -> dict[str, Any]:
    try:
        return answer.json_object()
    except BadAnswer:
        return {}


def _clean(text: str) -> str:
    """Text without the characters that JSON and XML behind it take amiss."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _note(text: str, marker: str) -> str:
    """The comment as it is sent: bounded, and with the marker in it."""
    body = _clean(text)
    if marker in body and len(body) <= MAX_TEXT:
        return body
    return f"{_cut(body, MAX_TEXT - len(marker) - 2)}\n\n{marker}"
