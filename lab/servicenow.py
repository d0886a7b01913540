"""A stand-in for ServiceNow's Table and Attachment APIs: rows stay, journals hide, queries are half understood."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.encoded_query import evaluate
from lab.faults import Faults

ERROR = (
    b'{"error":{"message":"Transaction cancelled: maximum execution time exceeded","detail":null},"status":"failure"}'
)
TITLE_LENGTH = 160
JOURNALS = {"work_notes": "Work notes", "comments": "Additional comments"}
_PREFIX = {"incident": "INC", "sn_si_incident": "SIR"}
_WRITABLE = (
    "short_description",
    "description",
    "impact",
    "urgency",
    "state",
    "correlation_id",
    "correlation_display",
    "caller_id",
    "assignment_group",
)
_FIELDS = ("sys_id", "number", "priority", "active", "sys_created_on", "sys_created_by", "sys_updated_on", "opened_by")
_REFERENCES = ("opened_by", "caller_id", "assignment_group")
_PRIORITY = {"11": "1", "12": "2", "13": "3", "21": "2", "22": "3", "23": "4", "31": "3", "32": "4", "33": "5"}
_JOURNAL_TABLE = "sys_journal_field"
_FILE_TABLE = "sys_attachment"
_FILE_FIELDS = ("sys_id", "table_name", "table_sys_id", "file_name", "content_type", "size_bytes")
_JOURNAL_FIELDS = ("sys_id", "element_id", "element", "name", "value", "sys_created_on", "sys_created_by")

Row = dict[str, str]


@dataclass
class ServiceNowLab:
    """The stand-in. Everything may be changed while it runs.

    Attributes:
        username: the one integration user.
        password: its password.
        readonly: whether an access rule forbids every write.
        hidden_journal: whether ``sys_journal_field`` answers 403.
        hidden_notes: whether the record's journal fields read back empty even as display values.
        unsearchable: fields on which conditions are dropped, as on a table that lacks them.
        strict_queries: ``glide.invalid_query.returns_no_rows``.
        first_version: whether a search that finds nothing answers 404, as the first version of the API does.
        clock: what time it is there.
        evaluated: the scripts that a query made the platform run.
        extensions: the extensions of files that may be attached; empty means all.
        files: the content of each attachment, by its ``sys_id``; its row stands in ``sys_attachment``.
    """

    username: str = "lab-integration"
    password: str = "lab-ticket-password"
    readonly: bool = False
    hidden_journal: bool = False
    hidden_notes: bool = False
    unsearchable: set[str] = field(default_factory=set)
    strict_queries: bool = False
    first_version: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    evaluated: list[str] = field(default_factory=list)
    extensions: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tables: dict[str, list[Row]] = {name: [] for name in (*_PREFIX, _JOURNAL_TABLE, _FILE_TABLE)}
        self._count = 10_000
        routes = [
            Route("/api/now/attachment", self._attachments, methods=["GET"]),
            Route("/api/now/attachment/file", self._attach, methods=["POST"]),
            Route("/api/now/table/{table}", self._table, methods=["GET", "POST"]),
            Route("/api/now/table/{table}/{sys_id}", self._record, methods=["GET", "PATCH", "PUT", "DELETE"]),
        ]
        self.faults = Faults(Starlette(routes=routes), error_body=ERROR)

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    def rows(self, table: str = "incident") -> list[Row]:
        """The rows of a table, in the order in which they were made; changing them changes the table."""
        return self._tables[table]

    def notes(self, sys_id: str, element: str = "work_notes") -> list[str]:
        """The journal entries of a record, the first one first."""
        return [
            row["value"]
            for row in self._tables[_JOURNAL_TABLE]
            if row["element_id"] == sys_id and row["element"] == element
        ]

    def add_row(self, table: str = "incident", **values: str) -> Row:
        """Insert a row, as a rule or a person there would; ``values`` may name any field."""
        row = self._insert(table, values)
        row.update({name: value for name, value in values.items() if name not in JOURNALS})
        return row

    async def _table(self, request: Request) -> Response:
        table = request.path_params["table"]
        if refusal := self._barred(request, table):
            return refusal
        if request.method == "POST":
            values = await _values(request)
            if values is None:
                return _failure(400, "Exception while reading request", "Cannot decode the body")
            row = self._insert(table, values)
            where = f"{request.url.scheme}://{request.url.netloc}/api/now/table/{table}/{row['sys_id']}"
            return JSONResponse({"result": self._shown(row, table, request)}, 201, headers={"Location": where})
        found = self._found(table, request.query_params.get("sysparm_query", ""))
        if not found and self.first_version:
            return _absent()
        offset, limit = _number(request, "sysparm_offset", 0), _number(request, "sysparm_limit", 10_000)
        page = [self._shown(row, table, request) for row in found[offset : offset + limit]]
        return JSONResponse({"result": page}, headers={"X-Total-Count": str(len(found))})

    async def _attachments(self, request: Request) -> Response:
        if refusal := self._barred(request, _FILE_TABLE):
            return refusal
        found = self._found(_FILE_TABLE, request.query_params.get("sysparm_query", ""))
        return JSONResponse({"result": [dict(row) for row in found[: _number(request, "sysparm_limit", 10_000)]]})

    async def _attach(self, request: Request) -> Response:
        if refusal := self._barred(request, _FILE_TABLE):
            return refusal
        values = {name: request.query_params.get(name, "") for name in ("table_name", "table_sys_id", "file_name")}
        if not all(values.values()):
            return _failure(400, "Missing parameter", "table_name, table_sys_id and file_name are required")
        if not any(row["sys_id"] == values["table_sys_id"] for row in self._tables.get(values["table_name"], ())):
            return _absent()
        if self.extensions and values["file_name"].rpartition(".")[2] not in self.extensions:
            return _failure(400, "Invalid file type", "The file type is not allowed or does not match the file content")
        row = self.add_file(await request.body(), request.headers.get("Content-Type", ""), **values)
        where = f"{request.base_url}api/now/attachment/{row['sys_id']}"
        return JSONResponse({"result": row}, 201, headers={"Location": where})

    def add_file(self, content: bytes, content_type: str = "text/plain", **values: str) -> Row:
        """Attach a file, as a person there would; ``values`` names ``table_name``, ``table_sys_id``, ``file_name``."""
        row = {"sys_id": uuid.uuid4().hex, "content_type": content_type, "size_bytes": str(len(content)), **values}
        self._tables[_FILE_TABLE].append(row)
        self.files[row["sys_id"]] = content
        return row

    async def _record(self, request: Request) -> Response:
        table, sys_id = request.path_params["table"], request.path_params["sys_id"]
        if refusal := self._barred(request, table):
            return refusal
        row = next((row for row in self._tables[table] if row["sys_id"] == sys_id), None)
        if row is None:
            return _absent()
        if request.method == "DELETE":
            self._tables[table].remove(row)
            return Response(status_code=204)
        if request.method in ("PATCH", "PUT"):
            values = await _values(request)
            if values is None:
                return _failure(400, "Exception while reading request", "Cannot decode the body")
            self._write(table, row, values)
        return JSONResponse({"result": self._shown(row, table, request)})

    def _barred(self, request: Request, table: str) -> Response | None:
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            answer = _failure(401, "User Not Authenticated", "Required to provide Auth information")
            answer.headers["WWW-Authenticate"] = 'BASIC realm="Service-now"'
            return answer
        if table not in self._tables:
            return _failure(400, f"Invalid table {table}", None)
        writes = request.method != "GET"
        if (writes and (self.readonly or table == _JOURNAL_TABLE)) or (table == _JOURNAL_TABLE and self.hidden_journal):
            return _failure(403, "Operation Failed", "ACL Exception: the operation is not allowed")
        return None

    def _found(self, table: str, query: str) -> list[Mapping[str, str]]:
        fields = {_JOURNAL_TABLE: _JOURNAL_FIELDS, _FILE_TABLE: _FILE_FIELDS}.get(table, (*_WRITABLE, *_FIELDS))
        known = set(fields) - self.unsearchable
        outcome = evaluate(query, self._tables[table], known)
        self.evaluated += outcome.evaluated
        return [] if outcome.dropped and self.strict_queries else outcome.rows

    def _insert(self, table: str, values: Mapping[str, str]) -> Row:
        self._count += 1
        now = self.clock().astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        row = dict.fromkeys(_WRITABLE, "") | {
            "sys_id": uuid.uuid4().hex,
            "number": f"{_PREFIX.get(table, 'REC')}{self._count:07d}",
            "state": "1",
            "active": "true",
            "impact": "3",
            "urgency": "3",
            "sys_created_on": now,
            "sys_created_by": self.username,
            "sys_updated_on": now,
            "opened_by": uuid.uuid5(uuid.NAMESPACE_DNS, self.username).hex,
        }
        self._tables[table].append(row)
        self._write(table, row, values)
        return row

    def _write(self, table: str, row: Row, values: Mapping[str, str]) -> None:
        """Take what may be written and drop the rest without a word; the priority follows from impact and urgency."""
        row.update({name: value for name, value in values.items() if name in _WRITABLE})
        row["short_description"] = row["short_description"][:TITLE_LENGTH]
        row["priority"] = _PRIORITY.get(row["impact"] + row["urgency"], "5")
        now = self.clock().astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        row["sys_updated_on"] = now
        for element in JOURNALS:
            if values.get(element):
                self._tables[_JOURNAL_TABLE].append(
                    {
                        "sys_id": uuid.uuid4().hex,
                        "element_id": row["sys_id"],
                        "element": element,
                        "name": table,
                        "value": values[element],
                        "sys_created_on": now,
                        "sys_created_by": self.username,
                    }
                )

    def _shown(self, row: Mapping[str, str], table: str, request: Request) -> dict[str, Any]:
        """A row as the parameters of the request want it."""
        display = request.query_params.get("sysparm_display_value", "false")
        plain = request.query_params.get("sysparm_exclude_reference_link", "false") == "true"
        wanted = [name for name in request.query_params.get("sysparm_fields", "").split(",") if name]
        journals = {} if table == _JOURNAL_TABLE else {name: self._journal(row, name) for name in JOURNALS}
        shown: dict[str, Any] = {}
        for name, value in {**row, **journals}.items():
            stored = "" if name in journals else value
            if display == "all":
                shown[name] = {"display_value": value, "value": stored}
            elif display == "true":
                shown[name] = value
            elif name in _REFERENCES and stored and not plain:
                shown[name] = {"link": f"{request.base_url}api/now/table/sys_user/{stored}", "value": stored}
            else:
                shown[name] = stored
        return {name: shown[name] for name in wanted if name in shown} if wanted else shown

    def _journal(self, row: Mapping[str, str], element: str) -> str:
        """A journal as it is displayed, the newest entry first."""
        if self.hidden_notes:
            return ""
        entries = [
            f"{entry['sys_created_on']} - {entry['sys_created_by']} ({JOURNALS[element]})\n{entry['value']}\n\n"
            for entry in self._tables[_JOURNAL_TABLE]
            if entry["element_id"] == row["sys_id"] and entry["element"] == element
        ]
        return "".join(reversed(entries))


def _failure(status: int, message: str, detail: str | None) -> Response:
    return JSONResponse({"error": {"message": message, "detail": detail}, "status": "failure"}, status)


def _absent() -> Response:
    return _failure(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdigit() else default


async def _values(request: Request) -> dict[str, str] | None:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
