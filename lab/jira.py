"""A stand-in for Jira Cloud's REST v3: issues at once, a search that learns of them later, comments as documents."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.faults import Faults

ERROR = b'{"errorMessages":["The request could not be processed"],"errors":{}}'
TITLE_LENGTH = 255
TEXT_LENGTH = 32_767
_STRING = r'"((?:[^"\\]|\\.)*)"'
_JQL = re.compile(rf"\s*(\w+)\s*=\s*{_STRING}\s*(?:AND|$)", re.IGNORECASE)
_PRIORITIES = ("Highest", "High", "Medium", "Low", "Lowest")
_SETTABLE = ("project", "issuetype", "summary", "description", "labels", "priority")


@dataclass
class LabIssue:
    """One issue. ``hidden_for`` counts the searches that still miss it; ``files`` are its attachments by name."""

    id: str
    key: str
    fields: dict[str, Any]
    hidden_for: int = 0
    comments: list[dict[str, Any]] = field(default_factory=list)
    files: list[tuple[str, str, bytes]] = field(default_factory=list)


@dataclass
class JiraLab:
    """The stand-in. Everything may be changed while it runs.

    Attributes:
        username: the account's mail address.
        api_token: its token.
        project: the one project.
        issue_types: the types that it has.
        screen: the fields of the create screen.
        lag: how many searches miss a new issue.
        readonly: whether every write is forbidden.
        blind: whether single issues cannot be seen.
        bare: whether a search tells ids only, whatever fields are named.
        page: how many rows one answer holds.
        no_files: whether attachments are disabled, which hides the field as well.
    """

    username: str = "lab-holdpoint@corp.example"
    api_token: str = "lab-jira-token"
    project: str = "IR"
    issue_types: set[str] = field(default_factory=lambda: {"Task", "Incident"})
    screen: set[str] = field(default_factory=lambda: set(_SETTABLE))
    lag: int = 0
    readonly: bool = False
    blind: bool = False
    bare: bool = False
    page: int = 100
    no_files: bool = False

    def __post_init__(self) -> None:
        self.issues: list[LabIssue] = []
        routes = [
            Route("/rest/api/3/issue", self._create, methods=["POST"]),
            Route("/rest/api/3/issue/{key}", self._issue, methods=["GET"]),
            Route("/rest/api/3/issue/{key}/comment", self._comments, methods=["GET", "POST"]),
            Route("/rest/api/3/issue/{key}/attachments", self._attach, methods=["POST"]),
            Route("/rest/api/3/search/jql", self._search, methods=["POST"]),
            Route("/rest/api/3/search", self._gone, methods=["GET", "POST"]),
        ]
        self.faults = Faults(Starlette(routes=routes), error_body=ERROR)

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    def add_issue(self, *labels: str, **fields: Any) -> LabIssue:
        """An issue as somebody there would open it."""
        number = len(self.issues) + 1
        values = {"project": {"key": self.project}, "labels": list(labels), **fields}
        made = LabIssue(str(10_000 + number), f"{self.project}-{number}", values, hidden_for=self.lag)
        self.issues.append(made)
        return made

    def add_comment(self, issue: LabIssue, body: Any, **values: Any) -> dict[str, Any]:
        """A comment as somebody there would write it."""
        made = {"id": str(len(issue.comments) + 1), "body": body, **values}
        issue.comments.append(made)
        return made

    async def _create(self, request: Request) -> Response:
        if refusal := self._barred(request):
            return refusal
        fields = (await _body(request)).get("fields")
        if not isinstance(fields, dict):
            return _failure(400, "Invalid request payload")
        errors = self._faults_of(fields)
        if errors:
            return _failure(400, **errors)
        made = self.add_issue()
        made.fields.update(fields)
        where = f"{request.url.scheme}://{request.url.netloc}/rest/api/3/issue/{made.id}"
        return JSONResponse({"id": made.id, "key": made.key, "self": where}, 201)

    def _faults_of(self, fields: Mapping[str, Any]) -> dict[str, str]:
        missing = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."
        errors = {name: missing.format(name) for name in fields if name not in self.screen}
        if (fields.get("project") or {}).get("key") != self.project:
            errors["project"] = "valid project is required"
        if (fields.get("issuetype") or {}).get("name") not in self.issue_types:
            errors["issuetype"] = "Specify a valid issue type"
        summary = fields.get("summary")
        if not isinstance(summary, str) or not summary.strip() or len(summary) > TITLE_LENGTH or "\n" in summary:
            errors["summary"] = "You must specify a summary of the issue, of at most 255 characters on one line."
        if not _is_document(fields.get("description")):
            errors["description"] = "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
        if any(not isinstance(label, str) or " " in label for label in fields.get("labels", ())):
            errors["labels"] = "The label can't contain spaces."
        if "priority" in fields and fields["priority"].get("name") not in _PRIORITIES:
            errors.setdefault("priority", "The priority selected is invalid.")
        return errors

    async def _issue(self, request: Request) -> Response:
        if refusal := self._barred(request):
            return refusal
        issue = self._seen(request)
        if issue is None:
            return _absent()
        if not self.no_files:
            issue.fields["attachment"] = [_file(place, *made) for place, made in enumerate(issue.files)]
        wanted = [name for name in request.query_params.get("fields", "").split(",") if name]
        return JSONResponse(self._shown(issue, wanted or ["labels"]))

    async def _attach(self, request: Request) -> Response:
        if refusal := self._barred(request):
            return refusal
        if request.headers.get("X-Atlassian-Token") not in ("no-check", "nocheck"):
            return Response("XSRF check failed", 403)
        issue = self._seen(request)
        if issue is None or self.no_files:
            return _absent()
        made = _parts(request.headers.get("Content-Type", ""), await request.body())
        if not made:
            return _failure(400, "There is no part 'file' in the request")
        before = len(issue.files)
        issue.files += made
        return JSONResponse([_file(before + place, *one) for place, one in enumerate(made)])

    async def _comments(self, request: Request) -> Response:
        if refusal := self._barred(request):
            return refusal
        issue = self._seen(request)
        if issue is None:
            return _absent()
        if request.method == "POST":
            body = await _body(request)
            if not _is_document(body.get("body")):
                return _failure(400, comment="Operation value must be an Atlassian Document")
            return JSONResponse(self.add_comment(issue, body["body"], properties=body.get("properties", [])), 201)
        query = request.query_params
        rows = issue.comments[::-1] if query.get("orderBy") == "-created" else issue.comments
        start, size = int(query.get("startAt", "0")), min(int(query.get("maxResults", "50")), self.page)
        body = {"startAt": start, "maxResults": size, "total": len(rows), "comments": rows[start : start + size]}
        return JSONResponse(body)

    async def _search(self, request: Request) -> Response:
        if refusal := self._barred(request, writes=False):
            return refusal
        body = await _body(request)
        terms = _parse(str(body.get("jql", "")))
        if terms is None:
            return _failure(400, "Error in the JQL Query")
        if terms.get("project", self.project) != self.project:
            return _failure(400, f"The value '{terms['project']}' does not exist for the field 'project'.")
        found = []
        for issue in self.issues:
            issue.hidden_for -= 1
            # The search folds case, as Jira's does for labels typed by hand.
            if issue.hidden_for < 0 and terms.get("labels", "").lower() in map(str.lower, issue.fields["labels"]):
                found.append(issue)
        start = int(body.get("nextPageToken", "0"))
        rows = [self._shown(issue, body.get("fields", [])) for issue in found[start : start + self.page]]
        ended = start + self.page >= len(found)
        more = {} if ended else {"nextPageToken": str(start + self.page)}
        return JSONResponse({"issues": rows, "isLast": ended, **more})

    async def _gone(self, _: Request) -> Response:
        return _failure(410, "The requested API has been removed. Please migrate to /rest/api/3/search/jql.")

    def _shown(self, issue: LabIssue, names: list[str]) -> dict[str, Any]:
        if self.bare or not names:
            return {"id": issue.id}
        return {"id": issue.id, "key": issue.key, "fields": {n: issue.fields[n] for n in names if n in issue.fields}}

    def _seen(self, request: Request) -> LabIssue | None:
        name = request.path_params["key"]
        return None if self.blind else next((i for i in self.issues if name in (i.id, i.key)), None)

    def _barred(self, request: Request, *, writes: bool | None = None) -> Response | None:
        pair = base64.b64encode(f"{self.username}:{self.api_token}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            return _failure(401, "Client must be authenticated to access this resource.")
        if self.readonly and (request.method != "GET" if writes is None else writes):
            return _failure(403, "You do not have permission to do this")
        return None


def _parse(jql: str) -> dict[str, str] | None:
    """The terms of a query that joins ``field = "value"`` by AND; ``None`` for any other."""
    terms: dict[str, str] = {}
    at = 0
    while at < len(jql):
        term = _JQL.match(jql, at)
        if term is None or term[1].lower() in terms:
            return None
        terms[term[1].lower()] = re.sub(r"\\(.)", r"\1", term[2])
        at = term.end()
    return terms or None


def _parts(content_type: str, body: bytes) -> list[tuple[str, str, bytes]]:
    """The files of a form, each its name, type and content: the parts that are called ``file``."""
    form = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    return [
        (part.get_filename() or "", part.get_content_type(), bytes(part.get_payload(decode=True)))
        for part in form.iter_parts()
        if part.get_param("name", header="content-disposition") == "file"
    ]


def _file(place: int, name: str, media_type: str, content: bytes) -> dict[str, Any]:
    return {"id": str(20_000 + place), "filename": name, "mimeType": media_type, "size": len(content)}


def _is_document(value: Any) -> bool:
    """Whether it is an Atlassian document of paragraphs whose texts are not empty."""
    if not isinstance(value, dict) or value.get("type") != "doc" or value.get("version") != 1:
        return False
    nodes = [node for block in value["content"] for node in block.get("content", ())]
    texts = [node["text"] for node in nodes if node["type"] == "text"]
    return all(texts) and len("".join(texts)) <= TEXT_LENGTH and all(b["type"] == "paragraph" for b in value["content"])


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _failure(status: int, *messages: str, **errors: str) -> Response:
    return JSONResponse({"errorMessages": list(messages), "errors": errors}, status)


def _absent() -> Response:
    return _failure(404, "Issue does not exist or you do not have permission to see it.")
