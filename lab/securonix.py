"""A stand-in for Securonix's web services: logins with tokens, Spotter searches over its own rows, incidents.

It evaluates the queries and time windows that it gets, and plays both answer shapes and the ways in which the real one
is awkward. Nothing in it knows what an answer should be.
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from lab.faults import Faults
from lab.securonix_incidents import item_of, listed
from lab.spotter import SyntaxFault, parse

Fields = dict[str, str]
_TIME = "%m/%d/%Y %H:%M:%S"
_STREAM_TIME = "%b %d, %Y %I:%M:%S %p"
_SYNTAX_ERROR = "Error searching in Spotter :[SYNTAX_ERROR] The query cannot be parsed."
_ALL_RETRIEVED = "All records have been retrieved. No more results to be fetched."
_WINDOW_OF = {"activity": "eventtime", "violation": "generationtime"}
_EMPTY_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<policies/>\n'
SMALLEST_PAGE = 300


class Refusal(Exception):
    """A request that is answered by an error body at 200."""


@dataclass
class Incident:
    """One incident: its status and its activity stream, the oldest item first.

    ``opened`` is when it was opened, ``shown`` from when on lists have it, and ``fields`` its further ones.
    """

    status: str = "Open"
    stream: list[dict[str, Any]] = field(default_factory=list)
    opened: datetime | None = None
    shown: datetime | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def comments(self) -> list[str]:
        """The texts of its comments."""
        return [part["Comments"] for item in self.stream for part in item.get("comment", ())]


@dataclass
class Quirks:
    """How awkward the stand-in is; set what a test needs.

    ``old_shape`` names the indexes that answer with ``result.entry`` lists; ``single_as_object`` gives one event alone
    rather than in a list; ``without_events`` leaves the key out where there is none. ``honours_tz`` is whether the
    ``tz`` parameter is obeyed. ``page_size`` overrides ``max``; ``needs_cursor`` pages by ``nextCursorMarker`` alone.
    ``activity_hours`` is the longest window for activity. ``calls_per_token`` lets a token die after so many calls.
    ``quoted_token`` puts the token in quotes. ``expired_status`` and ``bad_login_status`` are the refusals.
    ``incident_page`` is the most incidents of one page; without ``orders`` lists are the newest first whatever is
    asked for, and without ``offsets`` they always begin at the first.
    """

    old_shape: set[str] = field(default_factory=lambda: {"asset"})
    single_as_object: bool = False
    without_events: bool = False
    honours_tz: bool = True
    case_sensitive: bool = False
    page_size: int | None = None
    needs_cursor: bool = False
    activity_hours: int | None = None
    calls_per_token: int | None = None
    quoted_token: bool = False
    expired_status: int = 403
    bad_login_status: int = 403
    incident_page: int | None = None
    orders: bool = True
    offsets: bool = True


class SecuronixLab:
    """The stand-in; ``app`` is the application to serve, below whose address ``/Snypr/ws`` lies.

    ``activity``, ``violation``, ``users``, ``asset`` and ``riskscore`` are the rows by index, each a flat dict of text
    under the names that queries use; add to them directly or by the ``add_…`` methods. ``incidents`` is by id.
    """

    def __init__(
        self,
        *,
        username: str = "svc_holdpoint",
        password: str = "lab-password",  # noqa: S107 - it opens the stand-in only
        tenant: str = "acme",
        application_tz: str = "CST6CDT",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.username = username
        self.password = password
        self.tenant = tenant
        self.application_tz = application_tz
        self.quirks = Quirks()
        self.activity: list[Fields] = []
        self.violation: list[Fields] = []
        self.users: list[Fields] = []
        self.asset: list[Fields] = []
        self.riskscore: list[Fields] = []
        self.incidents: dict[str, Incident] = {}
        self.logins = 0
        self._clock = clock
        self._tokens: dict[str, int] = {}
        self._pages: dict[str, int] = {}
        self.app = Faults(_application(self))

    @property
    def faults(self) -> Faults:
        """Failures on demand, and the requests so far."""
        return self.app

    @property
    def zone(self) -> tzinfo:
        """The zone of all text times."""
        return ZoneInfo(self.application_tz)

    def add_activity(self, ip: str, *, at: datetime | None = None, **fields: str) -> str:
        """An event at an address; returns its id."""
        row = {"eventid": str(uuid.uuid4()), "ipaddress": ip, "userid": "-1", "id": "-1", **self._stamped(at), **fields}
        self.activity.append(row)
        return row["eventid"]

    def add_host(self, ip: str, host: str, account: str | None = None, *, at: datetime | None = None) -> str:
        """A sighting of a host, and of an account on it; returns the event's id."""
        user = {"accountname": account} if account else {}
        feed = {"resourcename": "EDGE-PROXY-01", "resourcegroupname": "proxy"}
        return self.add_activity(ip, at=at, resourcehostname=host, **feed, **user)

    def add_asset(self, ip: str, host: str, **columns: str) -> None:
        """A record of the asset feed."""
        self.asset.append(
            {"entityname": host, "entitytype": "Resources", "key_ip": ip, "key_hostname": host, **columns}
        )

    def add_user(self, employee_id: str, mail: str, *, account: str = "", score: float = 0.01, **fields: str) -> None:
        """A user's record; status 1 is active, 0 deleted."""
        row = {"employeeid": employee_id, "workemail": mail, "lanid": account, "userriskscore": f"{score:g}"}
        self.users.append({**row, "userid": employee_id, "status": "1", "tenantname": self.tenant, **fields})

    def add_risk(
        self, employee_id: str, mail: str, score: float, *, category: str = "DATA EXFILTRATION", sandbox: bool = False
    ) -> None:
        """A risk document of a user."""
        xml = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<categories><category><id>501</id>'
            f"<name>{escape(category)}</name><score>{score:g}</score><scoreAsLong>{round(score * 100)}</scoreAsLong>"
            f"<isSandBox>{str(sandbox).lower()}</isSandBox></category></categories>\n"
        )
        row = {"violator": "Users", "entityid": employee_id, "employeeid": employee_id, "workemail": mail}
        row |= {"riskscore": f"{score:g}", "doctype": "category", "category": category, "categories": xml}
        row |= {"policies": _EMPTY_XML, "threatmodels": _EMPTY_XML, "lastgeneratetime": self._text(self._clock())}
        self.riskscore.append({**row, "tenantname": self.tenant})

    def add_violation(
        self, policy: str, ip: str, *, at: datetime | None = None, generated: datetime | None = None, **fields: str
    ) -> str:
        """A violation of a policy; returns its event id. ``generated`` is when Securonix raised it."""
        at = at or self._clock()
        row = {"eventid": str(uuid.uuid4()), "ipaddress": ip, "policyname": policy, "category": "ALERT"}
        row |= {**self._stamped(at), "generationtime": self._text(generated or at), **fields}
        self.violation.append(row)
        return row["eventid"]

    def add_incident(
        self, incident_id: str, *, opened: datetime | None = None, shown: datetime | None = None, **fields: Any
    ) -> Incident:
        """An incident without comments. ``fields`` are its own, as lists tell them."""
        opened = opened or self._clock()
        self.incidents[incident_id] = Incident(opened=opened, shown=shown or opened, fields=fields)
        return self.incidents[incident_id]

    def expire_tokens(self) -> None:
        """Let every token die."""
        self._tokens.clear()

    def _stamped(self, at: datetime | None) -> Fields:
        at = at or self._clock()
        milliseconds = str(round(at.timestamp() * 1000))
        return {"datetime": milliseconds, "eventtime": self._text(at), "tenantname": self.tenant}

    def _text(self, at: datetime) -> str:
        return at.astimezone(self.zone).strftime(_TIME)

    # The endpoints.

    async def generate(self, request: Request) -> Response:
        """A token for the name and password in the headers."""
        self.logins += 1
        given = [request.headers.get(name, "").encode("latin-1") for name in ("username", "password")]
        wanted = [self.username.encode(), self.password.encode()]
        if not all(hmac.compare_digest(a, b) for a, b in zip(given, wanted, strict=True)):
            return _tomcat(self.quirks.bad_login_status)
        token = str(uuid.uuid4())
        self._tokens[token] = 0
        return PlainTextResponse(f'"{token}"\n' if self.quirks.quoted_token else token)

    async def validate(self, request: Request) -> Response:
        """Whether the token in the header is one."""
        return PlainTextResponse("Valid" if request.headers.get("token") in self._tokens else "Invalid")

    async def search(self, request: Request) -> Response:
        """One page of a Spotter search."""
        if not self._admits(request):
            return _tomcat(self.quirks.expired_status)
        params = dict(request.query_params)
        query = params.get("query", "")
        try:
            index, rows = self._matching(query, params)
        except Refusal as refusal:
            return _text_json(
                {
                    "totalDocuments": 0,
                    "error": True,
                    "errorMessage": str(refusal),
                    "available": False,
                    "inputParams": {"query": query},
                }
            )
        return _text_json(self._page(index, rows, params))

    async def incident(self, request: Request) -> Response:
        """What is known of an incident: its activity stream, status or details."""
        if not self._admits(request):
            return _tomcat(self.quirks.expired_status)
        if request.query_params.get("type") == "list":
            return listed(self.incidents, request.query_params, self.quirks, tenant=self.tenant, now=self._clock())
        incident_id = request.query_params.get("incidentId", "")
        incident = self.incidents.get(incident_id)
        if incident is None:
            return JSONResponse({"error": f"no incident {incident_id}", "type": "Bad Request", "code": "400"})
        kind = request.query_params.get("type")
        message = f"Get {kind} for incident ID [{incident_id}]"
        item = item_of(incident_id, incident, tenant=self.tenant)
        results: dict[str | None, Any] = {
            "activityStreamInfo": {"activityStreamData": incident.stream},
            "status": {"status": incident.status},
            "metaInfo": {"data": {"totalIncidents": 1.0, "incidentItems": [item]}},
        }
        if kind not in results:
            return JSONResponse({"error": f"no type {kind}", "type": "Bad Request", "code": "400"})
        return JSONResponse({"status": "OK", "messages": [message], "result": results[kind]})

    async def act(self, request: Request) -> Response:
        """Comment an incident; no other action is played."""
        if not self._admits(request):
            return _tomcat(self.quirks.expired_status)
        params = request.query_params
        incident_id = params.get("incidentId", "")
        incident = self.incidents.get(incident_id)
        if incident is None or params.get("actionName") != "comment" or not params.get("comment"):
            return JSONResponse({"status": "OK", "messages": ["Invalid incident id or action"], "result": []})
        incident.stream.append(
            {
                "caseid": incident_id,
                "actiontaken": "COMMENTS_ADDED",
                "status": incident.status,
                "comment": [{"Comments": params["comment"]}],
                "eventTime": self._clock().strftime(_STREAM_TIME),
                "username": self.username,
            }
        )
        message = f"Add comment to incident id - [{incident_id}]"
        return JSONResponse({"status": "OK", "messages": [message], "result": True})

    # How a search is answered.

    def _admits(self, request: Request) -> bool:
        token = request.headers.get("token", "")
        if token not in self._tokens:
            return False
        self._tokens[token] += 1
        limit = self.quirks.calls_per_token
        if limit is not None and self._tokens[token] > limit:
            del self._tokens[token]
            return False
        return True

    def _matching(self, text: str, params: Mapping[str, str]) -> tuple[str, list[Fields]]:
        try:
            query = parse(text, case_sensitive=self.quirks.case_sensitive)
        except SyntaxFault:
            raise Refusal(_SYNTAX_ERROR) from None
        tables = {"activity": self.activity, "violation": self.violation, "users": self.users}
        tables |= {"asset": self.asset, "riskscore": self.riskscore}
        if query.index not in tables:
            raise Refusal(f"Error searching in Spotter :there is no index {query.index}")
        start, end = self._window(query.index, params)
        rows = [row for row in tables[query.index] if query.matches(row)]
        if query.index in _WINDOW_OF:
            rows = [row for row in rows if start <= self._instant(query.index, row) <= end]
        return query.index, rows

    def _window(self, index: str, params: Mapping[str, str]) -> tuple[datetime, datetime]:
        now = self._clock()
        zone = ZoneInfo(params["tz"]) if self.quirks.honours_tz and params.get("tz") else self.zone
        name = _WINDOW_OF.get(index, "")
        texts = (params.get(f"{name}_from"), params.get(f"{name}_to"))
        if index == "activity" and not all(texts):
            raise Refusal("Error searching in Spotter :eventtime_from and eventtime_to are needed")
        start, end = now - timedelta(days=31), now + timedelta(days=1)
        try:
            if texts[0]:
                start = datetime.strptime(texts[0], _TIME).replace(tzinfo=zone)
            if texts[1]:
                end = datetime.strptime(texts[1], _TIME).replace(tzinfo=zone)
        except ValueError:
            raise Refusal("Error searching in Spotter :times are MM/dd/yyyy HH:mm:ss") from None
        hours = self.quirks.activity_hours
        if index == "activity" and hours is not None and end - start > timedelta(hours=hours):
            raise Refusal(f"Error searching in Spotter :the time range is longer than {hours} hours")
        return start, end

    def _instant(self, index: str, row: Fields) -> datetime:
        text = row.get(_WINDOW_OF[index]) if index == "violation" or not row.get("datetime") else None
        if text:
            return datetime.strptime(text, _TIME).replace(tzinfo=self.zone)
        return datetime.fromtimestamp(int(row["datetime"]) / 1000, UTC)

    def _page(self, index: str, rows: list[Fields], params: Mapping[str, str]) -> dict[str, Any]:
        asked = int(params.get("max") or 0)
        size = self.quirks.page_size or (asked if asked >= SMALLEST_PAGE else 1000)
        query_id = params.get("queryId") or f"spotterwebservice{uuid.uuid4()}"
        start = self._pages.get(query_id, 0)
        if self.quirks.needs_cursor:
            start = int(params.get("nextCursorMarker") or 0)
        shown = rows[start : start + size]
        self._pages[query_id] = start + size
        old = index in self.quirks.old_shape
        events: Any = [_old_event(index, row) for row in shown] if old else [dict(row) for row in shown]
        if self.quirks.single_as_object and len(events) == 1:
            events = events[0]
        page: dict[str, Any] = {"totalDocuments": str(len(rows)) if old else len(rows), "events": events}
        page |= {"error": "false" if old else False, "available": "false" if old else False, "queryId": query_id}
        if start and not shown:
            page["message"] = _ALL_RETRIEVED
        if not shown and self.quirks.without_events:
            del page["events"]
        if not old:
            page |= {"applicationTz": self.application_tz, "inputParams": dict(params), "index": index}
            page["nextCursorMarker"] = str(start + size)
        return page


def _old_event(index: str, row: Fields) -> dict[str, Any]:
    prefix = "u_" if index == "users" else ""
    entries = [{"key": key if key == "tenantname" else f"{prefix}{key}", "value": value} for key, value in row.items()]
    envelope = {"directImport": "false", "hour": "0", "ignored": "false", "invalid": "false", "tenantid": "1"}
    return {
        **envelope,
        "u_id": "-1",
        "u_userid": "-1",
        "result": {"entry": entries[0] if len(entries) == 1 else entries},
    }


def _text_json(body: Any) -> Response:
    return PlainTextResponse(json.dumps(body))


def _tomcat(status: int) -> Response:
    return HTMLResponse(
        f"<!doctype html><html><head><title>HTTP Status {status}</title></head><body><p><b>Description</b> The server"
        " understood the request but refuses to authorize it.</p></body></html>",
        status_code=status,
    )


def _application(lab: SecuronixLab) -> Starlette:
    routes = [
        Route("/token/generate", lab.generate, methods=["GET"]),
        Route("/token/validate", lab.validate, methods=["GET"]),
        Route("/spotter/index/search", lab.search, methods=["GET"]),
        Route("/incident/get", lab.incident, methods=["GET"]),
        Route("/incident/actions", lab.act, methods=["GET", "POST"]),
    ]
    return Starlette(routes=[Mount("/Snypr/ws", routes=routes)])
