"""ServiceNow: one ticket a case, private notes and files on it, by the Table API (``/api/now/table/{table}``).

What the platform does and a client has to live with: ``correlation_id`` is neither unique nor indexed; the parts of
``sysparm_query`` that it does not understand are dropped and the rest is answered; every value is text; journal fields
read back empty unless display values are asked for; an error may come with any status. (ServiceNow's product
documentation, Table API, Attachment API and encoded query strings.)
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from incident.requests import Ticket, TicketDraft
from incident.triage import Priority
from integrations.errors import (
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
)
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, clock_check, quoted
from integrations.interfaces import Attachment, Check

VENDOR = "ServiceNow"
CORRELATION_DISPLAY = "holdpoint"
ATTACHMENTS = "/api/now/attachment"

MAX_TITLE = 160
"""How many characters ``short_description`` holds as shipped; the platform cuts the rest without a word."""

MAX_TEXT = 20_000
"""How many characters of a description or a note are sent."""

SEARCH_LIMIT = 100
"""How many rows a search may bring: few have our key; foreign ones mean that the query was dropped."""

PROBE_KEY = "holdpoint-doctor"
"""A key that no ticket has, for the doctor."""

IMPACT_AND_URGENCY: Mapping[Priority, tuple[str, str]] = {
    Priority.CRITICAL: ("1", "1"),
    Priority.HIGH: ("1", "2"),
    Priority.MEDIUM: ("2", "2"),
    Priority.LOW: ("2", "3"),
}
"""What yields priority 1, 2, 3 and 4 by the lookup rules as shipped; ``priority`` itself is overwritten by them."""

_KEY = re.compile(r"[a-z0-9-]{8,64}")
_SYS_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TABLE = re.compile(r"[a-z0-9_]{1,80}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# The journal renders what stands between these as HTML, and notes repeat what an alert says.
_CODE = re.compile(r"\[\s*(/?)\s*code\s*\]", re.IGNORECASE)


class ServiceNow:
    """The ticket system; satisfies ``integrations.interfaces.Ticketing``.

    Args:
        url: the instance, such as ``https://example.service-now.com``.
        username: an integration user; interactive users may be refused Basic authentication.
        password: its password.
        table: ``incident`` or ``sn_si_incident``.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: an access rule forbids it. Misconfigured: address, table or
        credentials. Rejected: ServiceNow says that the request is wrong.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        table: str = "incident",
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise Misconfigured(f"{quoted(table)!r} is not the name of a {VENDOR} table")
        self._http = VendorHttp(VENDOR, url, ca_file=ca_file, total_seconds=total_seconds)
        self._url = url.rstrip("/")
        self._auth = (username, password)
        self._secrets = (base64.b64encode(f"{username}:{password}".encode()).decode(), password)
        self._table = table

    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """The one ticket of ``draft.key``, opened if there is none.

        Searches by key, creates, and searches again: nothing on the server keeps two creators apart, so of two tickets
        the oldest is everybody's. After a lost answer the next attempt's search finds the ticket.

        Raises:
            Rejected: the key is not ``[a-z0-9-]{8,64}``; nothing else may enter an encoded query.
        """
        if not _KEY.fullmatch(draft.key):
            raise Rejected(f"{quoted(draft.key)!r} cannot be the key of a ticket: it must match {_KEY.pattern}")
        there = await self._find(draft.key)
        if there is not None:
            return there
        answer = await self._answer("POST", self._path(), json=_record(draft))
        created = self._ticket(_row(self._result(answer)))
        return await self._find(draft.key) or created

    async def add_note(self, ticket: Ticket, text: str, marker: str) -> bool:
        """Add a work note, which the caller of the ticket does not see, unless one with ``marker`` is there.

        At most ``MAX_TEXT`` characters; a marker that is not in them is appended.

        Raises:
            NotFound: there is no such ticket, or an access rule hides it.
        """
        if not _SYS_ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the id of a {VENDOR} record")
        if await self._has_note(ticket.id, marker):
            return False
        answer = await self._answer("PATCH", self._path(ticket.id), json={"work_notes": _note(text, marker)})
        self._result(answer, of_record=True)
        return True

    async def attach(self, ticket: Ticket, file: Attachment) -> bool:
        """Attach a file to the ticket, unless one of its name is there. By the Attachment API.

        Raises:
            NotFound: there is no such ticket, or an access rule hides it.
        """
        if not _SYS_ID.fullmatch(ticket.id):
            raise NotFound(f"{quoted(ticket.id)!r} is not the id of a {VENDOR} record")
        if await self._has_file(ticket.id, file.name):
            return False
        params = {"table_name": self._table, "table_sys_id": ticket.id, "file_name": file.name}
        headers = {"Accept": "application/json", "Content-Type": file.media_type}
        answer = await self._http.send(
            "POST", f"{ATTACHMENTS}/file", params=params, headers=headers, content=file.content, auth=self._auth
        )
        row = _row(self._result(answer, of_record=True))
        size = _text(row.get("size_bytes"))
        if not _text(row.get("sys_id")) or (size.isdecimal() and int(size) != len(file.content)):
            raise BadAnswer(f"{VENDOR} does not say that it has all of {file.name}")
        return True

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, credentials, table, clock. Raises nothing of ``errors``."""
        name = f"{VENDOR}: table {self._table}"
        params = {"sysparm_fields": "sys_id,number", "sysparm_exclude_reference_link": "true", "sysparm_limit": "1"}
        try:
            answer = await self._answer("GET", self._path(), params=params)
            _rows(self._result(answer))
            searched = await self._check_search()
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        write = "not checked: they show only when a ticket is opened; the user needs both, on attachments as well"
        return [
            Check(name=name, ok=True, detail="the credentials are accepted and the table can be read"),
            searched,
            Check(name=f"{VENDOR}: create and work notes", ok=True, detail=write),
            clock_check(answer),
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _path(self, sys_id: str = "") -> str:
        return f"/api/now/table/{self._table}" + (f"/{sys_id}" if sys_id else "")

    async def _check_search(self) -> Check:
        dropped = any(_text(row.get("correlation_id")) != PROBE_KEY for row in await self._search(PROBE_KEY))
        bad = "the search by correlation_id is ignored: a ticket whose creation was not confirmed may be opened twice"
        detail = bad if dropped else "tickets can be found by their key"
        return Check(name=f"{VENDOR}: search by correlation_id", ok=not dropped, detail=detail)

    async def _find(self, key: str) -> Ticket | None:
        """The oldest ticket with exactly that key."""
        ours = [row for row in await self._search(key) if _text(row.get("correlation_id")) == key]
        ours.sort(key=lambda row: (_text(row.get("sys_created_on")) or "9999", _text(row.get("number"))))
        return self._ticket(ours[0]) if ours else None

    async def _search(self, key: str) -> list[Mapping[str, Any]]:
        """The rows that the platform answers to a search by key, theirs or not."""
        params = {
            "sysparm_query": f"correlation_id={key}",
            "sysparm_fields": "sys_id,number,correlation_id,sys_created_on",
            "sysparm_exclude_reference_link": "true",
            "sysparm_limit": str(SEARCH_LIMIT),
        }
        answer = await self._answer("GET", self._path(), params=params)
        return [] if _nothing_found(answer) else _rows(self._result(answer))

    async def _has_note(self, sys_id: str, marker: str) -> bool:
        """Whether the record's notes, as they are displayed, hold the marker; the journal's rows tell if they do not.

        Both may be hidden from the user; then a repeated note is better than none.
        """
        params = {"sysparm_fields": "sys_id,work_notes", "sysparm_display_value": "true"}
        answer = await self._answer("GET", self._path(sys_id), params=params)
        shown = _text(_row(self._result(answer, of_record=True)).get("work_notes"))
        if shown:
            return marker in shown
        params = {
            "sysparm_query": f"element_id={sys_id}^element=work_notes",
            "sysparm_fields": "element_id,element,value",
            "sysparm_limit": str(SEARCH_LIMIT),
        }
        try:
            rows = _rows(self._result(await self._answer("GET", "/api/now/table/sys_journal_field", params=params)))
        except (Refused, NotFound, Misconfigured, Rejected):
            return False
        return any(_text(row.get("element_id")) == sys_id and marker in _text(row.get("value")) for row in rows)

    async def _has_file(self, sys_id: str, name: str) -> bool:
        """Whether the record has a file of that name. The rows are looked at: a dropped query brings strangers."""
        params = {"sysparm_query": f"table_sys_id={sys_id}^file_name={name}", "sysparm_limit": str(SEARCH_LIMIT)}
        answer = await self._answer("GET", ATTACHMENTS, params=params)
        rows = [] if _nothing_found(answer) else _rows(self._result(answer, of_record=True))
        return any((_text(row.get("table_sys_id")), _text(row.get("file_name"))) == (sys_id, name) for row in rows)

    def _ticket(self, row: Mapping[str, Any]) -> Ticket:
        sys_id, number = _text(row.get("sys_id")), _text(row.get("number"))
        if not _SYS_ID.fullmatch(sys_id) or not number:
            raise BadAnswer(f"{VENDOR} answered with a record that has no sys_id or no number")
        target = quote(f"/{self._table}.do?sys_id={sys_id}", safe="")
        return Ticket(id=sys_id, number=quoted(number), url=f"{self._url}/nav_to.do?uri={target}")

    async def _answer(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Mapping[str, str] | None = None
    ) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return await self._http.send(method, path, params=params, json=json, headers=headers, auth=self._auth)

    def _result(self, answer: Answer, *, of_record: bool = False) -> Any:
        """What stands under ``result``, and what a failure means: the one place where that is decided."""
        words, error = self._words(answer), _error(answer)
        spoken = words.lower()
        if "invalid table" in spoken or (answer.status == 404 and not of_record):
            raise Misconfigured(f"{VENDOR} has no table {self._table} at this address ({words or 404})")
        answer.raise_for_status(words=words)
        if error is None:
            body = answer.json_object()
            if body.get("result") is None:
                raise BadAnswer(f"{VENDOR} answered {answer.status} without a result")
            return body["result"]
        if "not authenticated" in spoken:
            raise Misconfigured(f"{VENDOR} does not accept the credentials ({words})")
        if "transaction cancelled" in spoken:
            raise Busy(f"{VENDOR} gave the transaction up ({words})")
        raise BadAnswer(f"{VENDOR} answered {answer.status} with a failure ({words or 'no reason told'})")

    def _words(self, answer: Answer) -> str:
        error = _error(answer)
        if not isinstance(error, dict):
            return quoted(error, secrets=self._secrets)
        parts = (error.get("message"), error.get("detail"))
        return quoted(": ".join(str(part) for part in parts if part), secrets=self._secrets)


def _error(answer: Answer) -> Any:
    """The ``error`` of an answer, at whatever status; ``None`` if there is none."""
    try:
        body = answer.json_object()
    except BadAnswer:
        return None
    failed = body.get("status") == "failure"
    return body.get("error") or ({} if failed else None)


def _nothing_found(answer: Answer) -> bool:
    """The first version of the API answers a search that finds nothing with 404."""
    return answer.status == 404 and "no record found" in answer.text.lower()


def _rows(result: Any) -> list[Mapping[str, Any]]:
    """The rows of a search. Raises BadAnswer for anything else than objects."""
    rows = result if isinstance(result, list) else [result]
    if not all(isinstance(row, dict) for row in rows):
        raise BadAnswer(f"{VENDOR} answered with rows that are no records")
    return rows


def _row(result: Any) -> Mapping[str, Any]:
    """The one record of an answer. Raises BadAnswer for none or several."""
    rows = _rows(result)
    if len(rows) != 1:
        raise BadAnswer(f"{VENDOR} answered with {len(rows)} records instead of one")
    return rows[0]


def _text(value: Any) -> str:
    """A field's text: plain, a reference, or a pair of value and display value."""
    if isinstance(value, dict):
        value = value.get("value") or value.get("display_value")
    return "" if value is None else str(value)


def _clean(text: str) -> str:
    """Text without the characters that XML and terminals take amiss."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _record(draft: TicketDraft) -> dict[str, str]:
    impact, urgency = IMPACT_AND_URGENCY[draft.priority]
    return {
        "short_description": _cut(" ".join(_clean(draft.title).split()), MAX_TITLE),
        "description": _cut(_clean(draft.description), MAX_TEXT),
        "impact": impact,
        "urgency": urgency,
        "correlation_id": draft.key,
        "correlation_display": CORRELATION_DISPLAY,
    }


def _note(text: str, marker: str) -> str:
    """The note as it is sent: harmless in the journal, bounded, and with the marker in it."""
    body = _CODE.sub(r"(\1code)", _clean(text))
    if marker in body[:MAX_TEXT] and len(body) <= MAX_TEXT:
        return body
    return f"{_cut(body, MAX_TEXT - len(marker) - 2)}\n\n{marker}"
