"""Request Tracker 5: one ticket a case, and private comments on it, by REST2 (``/REST/2.0``).

What the product does and a client has to live with: a custom field that a ticket cannot take, or that the account may
not set, is left out without a word, and the ticket is created all the same (201); an update that changed nothing
answers 200 and tells why in messages, in the language of the account; nothing is unique, so of two creators at once
both succeed; a queue that does not exist and one that may not be seen are both 403; lists hold what may be seen, so
that a ticket without right looks like one without comments. (RT 5's ``RT::REST2``, tried against 5.0.3.)
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from incident.requests import Ticket, TicketDraft
from incident.triage import Priority
from integrations.errors import BadAnswer, IntegrationError, Misconfigured, NotFound, Refused, Rejected
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, clock_check, quoted
from integrations.interfaces import Attachment, Check

VENDOR = "Request Tracker"
REST2 = "/REST/2.0"

MAX_TITLE = 200
"""How many bytes of UTF-8 a subject holds; RT cuts the rest without a word."""

MAX_TEXT = 30_000
"""How many characters of a description or a comment are sent."""

PAGE = 100
"""How many rows are asked for at once; RT gives no more."""

MAX_PAGES = 20
"""How many pages of a list are read."""

PROBE_KEY = "hp-holdpoint-doctor"
"""A key that no ticket has, for the doctor."""

PRIORITIES: Mapping[Priority, int] = {
    Priority.CRITICAL: 100,
    Priority.HIGH: 80,
    Priority.MEDIUM: 50,
    Priority.LOW: 0,
}
"""RT's priority is a number; these carry the four names of the example in its documentation of PriorityAsString."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
_ID = re.compile(r"[1-9][0-9]{0,17}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Queue:
    """What RT tells of a queue: its number, the numbers of its ticket fields of our name, may tickets be created."""

    id: str
    fields: tuple[str, ...]
    may_create: bool


class RequestTracker:
    """One queue of a Request Tracker; satisfies ``integrations.interfaces.Ticketing``.

    Args:
        url: where its web pages are, such as ``https://rt.example.com``.
        token: an authentication token of the account.
        queue: the queue's name (or number).
        key_field: the custom field, applied to the queue's tickets, that holds a case's key.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: a right is missing, or there is no such queue.
        Misconfigured: address, token or custom field. Rejected: RT says that the request is wrong.
    """

    def __init__(
        self,
        url: str,
        token: str,
        queue: str,
        *,
        key_field: str = "Holdpoint Key",
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        if not queue.strip(". ") or "/" in queue:
            raise Misconfigured(f"{quoted(queue)!r} cannot stand in an address of {VENDOR}: give the queue's number")
        self._url = url.rstrip("/").removesuffix(REST2)
        self._http = VendorHttp(VENDOR, self._url, ca_file=ca_file, total_seconds=total_seconds)
        self._token = token
        self._queue = queue
        self._key_field = key_field

    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """The one ticket whose key field is ``draft.key``, created if there is none.

        Nothing is created unless the queue has the field. The search afterwards proves that the key is on the ticket;
        if RT left it out, it is set by an update. Of several tickets the oldest is everybody's, one that was merged
        into another too: RT shows and comments the other for it.

        Raises:
            Rejected: the key is not ``[A-Za-z0-9][A-Za-z0-9_-]{7,63}``.
            Misconfigured: the queue has no such field, or two; or the account may not set it, and then a ticket
                without key is there, whose number is told.
        """
        if not _KEY.fullmatch(draft.key):
            raise Rejected(f"{quoted(draft.key)!r} cannot be the key of a ticket: it must match {_KEY.pattern}")
        _, queue = await self._see_queue()
        field = self._field_of(queue)
        found = await self._find(queue, field, draft.key)
        if not found:
            created = await self._create(queue, field, draft)
            found = await self._find(queue, field, draft.key)
            if created not in found:
                found = await self._mend(queue, field, created, draft.key)
        number = min(found, key=int)
        return Ticket(id=number, number=number, url=f"{self._url}/Ticket/Display.html?id={number}")

    async def add_note(self, ticket: Ticket, text: str, marker: str) -> bool:
        """Add a comment, which requestors are not mailed and do not see, unless one with ``marker`` is there.

        At most ``MAX_TEXT`` characters; a marker that is not in them is appended.

        Raises:
            NotFound: there is no such ticket.
        """
        if not _ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the number of a {VENDOR} ticket")
        if await self._has_note(ticket.id, marker):
            return False
        body = {"Content": _note(text, marker), "ContentType": "text/plain"}
        answer = await self._request("POST", f"/ticket/{ticket.id}/comment", json=body)
        if answer.status in (400, 403, 404):
            await self._tell_why_not(ticket.id)
        if not isinstance(self._body(answer), list):
            raise BadAnswer(f"{VENDOR} does not say that the comment was added")
        return True

    async def attach(self, ticket: Ticket, file: Attachment) -> bool:
        """Attach a file by a comment of its own, which requestors do not see, unless one of its name is there.

        Raises:
            NotFound: there is no such ticket.
        """
        if not _ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the number of a {VENDOR} ticket")
        async for row in self._list(f"/ticket/{ticket.id}/attachments", {"fields": "Filename"}):
            if row.get("Filename") == file.name:
                return False
        content = base64.b64encode(file.content).decode("ascii")
        attached = {"FileName": file.name, "FileType": file.media_type, "FileContent": content}
        body = {"Content": file.name, "ContentType": "text/plain", "Attachments": [attached]}
        answer = await self._request("POST", f"/ticket/{ticket.id}/comment", json=body)
        if answer.status in (400, 403, 404):
            await self._tell_why_not(ticket.id)
        if not isinstance(self._body(answer), list):
            raise BadAnswer(f"{VENDOR} does not say that {file.name} was attached")
        return True

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, token, queue, key field, create right, clock. Raises no ``errors``."""
        name = f"{VENDOR}: queue {quoted(self._queue)}"
        try:
            answer, queue = await self._see_queue()
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        create = "allowed" if queue.may_create else "the queue is disabled, or the account lacks CreateTicket on it"
        comment = (
            "not checked: they show only when a ticket is written; the account needs CommentOnTicket, "
            "ShowTicketComments and SetInitialCustomField"
        )
        return [
            Check(name=name, ok=True, detail="the token is accepted and the queue can be seen"),
            await self._check_field(queue),
            Check(name=f"{VENDOR}: create tickets", ok=queue.may_create, detail=create),
            Check(name=f"{VENDOR}: set the key, comment", ok=True, detail=comment),
            clock_check(answer),
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _check_field(self, queue: _Queue) -> Check:
        name = f"{VENDOR}: field {quoted(self._key_field)}"
        try:
            await self._find(queue, self._field_of(queue), PROBE_KEY)
        except IntegrationError as error:
            return Check(name=name, ok=False, detail=str(error))
        return Check(name=name, ok=True, detail="it is on the queue's tickets, and they can be searched by it")

    async def _see_queue(self) -> tuple[Answer, _Queue]:
        answer = await self._request("GET", f"/queue/{quote(self._queue, safe='')}")
        if answer.status == 403:
            raise Refused(f"{VENDOR} has no queue {quoted(self._queue)!r}, or the account lacks SeeQueue on it")
        if answer.status == 404:
            raise Misconfigured(f"{VENDOR} does not speak REST2 at this address")
        body = self._object(answer)
        fields = _rows(body.get("TicketCustomFields"))
        wanted = self._key_field.casefold()
        ours = tuple(_id(field) for field in fields if str(field.get("name", "")).casefold() == wanted)
        links = _rows(body.get("_hyperlinks", []))
        may_create = any(link.get("ref") == "create" for link in links) and str(body.get("Disabled")) != "1"
        return answer, _Queue(_id(body), ours, may_create)

    def _field_of(self, queue: _Queue) -> str:
        """The number of the key's field. Raises Misconfigured unless there is just one."""
        if len(queue.fields) == 1:
            return queue.fields[0]
        name, where = quoted(self._key_field), quoted(self._queue)
        if queue.fields:
            raise Misconfigured(f"{VENDOR} has {len(queue.fields)} fields {name!r} on the tickets of the queue {where}")
        raise Misconfigured(
            f"{VENDOR} has no field {name!r} on the tickets of the queue {where}, or the account lacks SeeCustomField"
        )

    async def _find(self, queue: _Queue, field: str, key: str) -> list[str]:
        """The tickets with exactly that key. To name EffectiveId makes RT find merged ones too."""
        query = f"Queue = {queue.id} AND CF.{{{field}}} = {ticketsql_string(key)} AND EffectiveId > 0"
        params = {"query": query, "fields": "CustomFields", "orderby": "id", "order": "ASC"}
        return [_id(row) async for row in self._list("/tickets", params) if key in _values(row, field)]

    async def _create(self, queue: _Queue, field: str, draft: TicketDraft) -> str:
        body = {
            "Queue": queue.id,
            "Subject": _cut_bytes(" ".join(_clean(draft.title).split()), MAX_TITLE) or draft.key,
            "Content": _cut(_clean(draft.description), MAX_TEXT),
            "ContentType": "text/plain",
            "Priority": PRIORITIES[draft.priority],
            "CustomFields": {field: draft.key},
        }
        return _id(self._object(await self._request("POST", "/ticket", json=body)))

    async def _mend(self, queue: _Queue, field: str, number: str, key: str) -> list[str]:
        """Set the key that the creation left out; whether that worked is seen, since the answer is 200 either way."""
        answer = await self._request("PUT", f"/ticket/{number}", json={"CustomFields": {field: key}})
        if answer.status == 403:
            raise Refused(
                f"{VENDOR} created the ticket {number} and lets the account not see it: ShowTicket is missing"
            )
        self._body(answer)
        found = await self._find(queue, field, key)
        if number in found:
            return found
        raise Misconfigured(
            f"{VENDOR} created the ticket {number} without its key, and it cannot be found again: the account needs "
            f"SetInitialCustomField for {quoted(self._key_field)!r} ({self._words(answer) or 'no reason told'})"
        )

    async def _has_note(self, number: str, marker: str) -> bool:
        """Whether a text on the ticket that the account may see holds the marker.

        RT narrows the list by itself; a percent sign or another case in what it finds is looked at again here.
        """
        narrowed = json.dumps([{"field": "Content", "operator": "LIKE", "value": marker}])
        params = {"query": narrowed, "fields": "Content"}
        async for row in self._list(f"/ticket/{number}/attachments", params):
            if marker in str(row.get("Content") or ""):
                return True
        return False

    async def _tell_why_not(self, number: str) -> None:
        """Raise why a comment was not taken, if the ticket tells: a missing right or ticket is 400 to RT."""
        answer = await self._request("GET", f"/ticket/{number}")
        if answer.status == 404:
            raise NotFound(f"{VENDOR} has no ticket {number}")
        if answer.status == 403:
            raise Refused(f"{VENDOR} has a ticket {number} that the account may not see")
        links = _rows(self._object(answer).get("_hyperlinks", []))
        if not any(link.get("ref") == "comment" for link in links):
            raise Refused(f"{VENDOR} takes no comment on the ticket {number}: the account lacks CommentOnTicket")

    async def _list(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Row]:
        """The rows of a list. What may not be seen is missing in its page, so only an empty page is the last one."""
        seen = 0
        for page in range(1, MAX_PAGES + 1):
            paged = {**params, "per_page": str(PAGE), "page": str(page)}
            body = self._object(await self._request("GET", path, params=paged))
            rows, total = _rows(body.get("items")), body.get("total")
            for row in rows:
                yield row
            seen += len(rows)
            if not rows or (isinstance(total, int) and seen >= total):
                return
        raise BadAnswer(f"{VENDOR} lists more than {MAX_PAGES} pages for one key or marker")

    async def _request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Answer:
        headers = {"Accept": "application/json", "Authorization": f"token {self._token}"}
        return await self._http.send(method, REST2 + path, params=params, json=json, headers=headers)

    def _object(self, answer: Answer) -> dict[str, Any]:
        body = self._body(answer)
        if not isinstance(body, dict):
            raise BadAnswer(f"{VENDOR} answered {answer.status} with {type(body).__name__} instead of an object")
        return body

    def _body(self, answer: Answer) -> Any:
        """The answer's data, and what a failure means: the one place where that is decided."""
        answer.raise_for_status(words=self._words(answer))
        return answer.json()

    def _words(self, answer: Answer) -> str:
        """What RT says: the message of a failure, or the messages of an update."""
        try:
            body = answer.json()
        except BadAnswer:
            return ""
        said = [body.get("message")] if isinstance(body, dict) else body if isinstance(body, list) else []
        return quoted("; ".join(part for part in said if isinstance(part, str)), secrets=(self._token,))


def ticketsql_string(text: str) -> str:
    """A string of TicketSQL.

    Raises:
        Rejected: for what no quotes keep a string: nothing, control characters, and ``CF.…``, which RT takes for a
            field even between quotes.
    """
    if not text or not text.isprintable() or text.casefold().startswith("cf."):
        raise Rejected(f"{quoted(text)!r} cannot stand in a {VENDOR} query")
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _rows(value: Any) -> list[Row]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise BadAnswer(f"{VENDOR} answered without the list that was asked for")
    return value


def _id(row: Row) -> str:
    """The number of an object, which comes as a number or as text."""
    number = str(row.get("id") or "")
    if not _ID.fullmatch(number):
        raise BadAnswer(f"{VENDOR} answered with an object that has no number")
    return number


def _values(row: Row, field: str) -> list[Any]:
    """A found ticket's values of a field. Raises BadAnswer if it tells no fields: it may be ours, and it may not."""
    values: list[Any] = []
    for entry in _rows(row.get("CustomFields")):
        told = entry.get("values")
        if str(entry.get("id")) == field and isinstance(told, list):
            values += told
    return values


def _clean(text: str) -> str:
    """Text without the characters that databases and terminals take amiss."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _cut_bytes(text: str, length: int) -> str:
    """Text of at most so many bytes of UTF-8, cut between characters."""
    whole = text.encode()
    return text if len(whole) <= length else whole[: length - len("…".encode())].decode(errors="ignore") + "…"


def _note(text: str, marker: str) -> str:
    """The comment as it is sent: bounded, and with the marker in it."""
    body = _clean(text)
    if marker in body and len(body) <= MAX_TEXT:
        return body
    return f"{_cut(body, MAX_TEXT - len(marker) - 2)}\n\n{marker}"
