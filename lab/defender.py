"""A stand-in for Microsoft Defender for Endpoint: machines, and actions on them that come to their end by themselves.

Speaks Entra's token endpoint, ``/api/machines``, ``/api/machines/{id}/isolate`` and ``/unisolate``,
``/api/machineactions`` and ``/cancel`` on its own data. No machine says whether it is isolated, as with the real one.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.faults import Faults
from lab.odata import ODataError, parse

ERROR = b'{"error":{"code":"InternalServerError","message":"An unexpected error has occurred","target":"lab"}}'
CONTEXT = "https://api.securitycenter.microsoft.com/api/$metadata#"
_MACHINE_FILTERS = ("computerDnsName", "id", "healthStatus", "onboardingStatus", "osPlatform", "lastIpAddress")
_ACTION_FILTERS = ("status", "machineId", "type", "requestor", "creationDateTimeUtc")
_OPEN = ("Pending", "InProgress")
_LAST = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@dataclass
class LabMachine:
    """One machine. ``addresses`` are several rows of one id; ``reads`` are how many reads an action stays open.

    ``online=False`` leaves every action Pending. ``ends_as`` is how actions end.
    """

    id: str
    name: str
    online: bool = True
    platform: str = "Windows11"
    health: str = "Active"
    onboarding: str | None = "Onboarded"
    addresses: tuple[str, ...] = ("10.20.30.40",)
    reads: int = 1
    ends_as: str = "Succeeded"
    isolated: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """The machine as a list tells it, once for each address."""
        row = {
            "id": self.id,
            "computerDnsName": self.name,
            "osPlatform": self.platform,
            "healthStatus": self.health,
            "lastSeen": "2026-03-14T12:30:00.1234567Z",
            "riskScore": "None",
        }
        if self.onboarding is not None:
            row["onboardingStatus"] = self.onboarding
        return [{**row, "lastIpAddress": address} for address in self.addresses]


@dataclass
class DefenderLab:
    """The stand-in. Everything may be changed while it runs.

    Attributes:
        tenant_id: the one tenant.
        client_id: the one application.
        client_secret: its secret.
        roles: the application's permissions.
        token_seconds: how long a token lives.
        readable_token: whether the token is a JWT that tells its roles.
        nothing: how a list of machines without any is answered: an empty list, or 404.
        functions: whether a filter may hold ``startswith``.
        second_isolate: what a second isolation meets: the error, or a second pending action.
        page: how many rows one answer holds.
        logins: how many tokens were given out.
    """

    tenant_id: str = "00112233-4455-6677-8899-aabbccddeeff"
    client_id: str = "lab-application"
    client_secret: str = "lab-application-secret"
    roles: set[str] = field(default_factory=lambda: {"Machine.Read.All", "Machine.Isolate"})
    token_seconds: float = 3599
    readable_token: bool = True
    nothing: Literal["empty", "404"] = "empty"
    functions: bool = True
    second_isolate: Literal["refused", "queued"] = "refused"
    page: int = 10_000
    logins: int = 0

    def __post_init__(self) -> None:
        self.machines: dict[str, LabMachine] = {}
        self.actions: list[dict[str, Any]] = []
        self._reads_left: dict[str, int] = {}
        self._tokens: dict[str, float] = {}
        self._ticks = 0
        routes = [
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/api/machines", self._machines, methods=["GET"]),
            Route("/api/machines/{id}/{verb}", self._act, methods=["POST"]),
            Route("/api/machineactions", self._list_actions, methods=["GET"]),
            Route("/api/machineactions/{id}/cancel", self._cancel, methods=["POST"]),
        ]
        self.faults = Faults(Starlette(routes=routes), error_body=ERROR)

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    def add_machine(self, name: str, **values: Any) -> LabMachine:
        """A machine; ``values`` are the fields of ``LabMachine``. Two may share a name."""
        made = LabMachine(id=values.pop("id", None) or uuid.uuid4().hex + "0" * 8, name=name, **values)
        self.machines[made.id] = made
        return made

    def add_action(self, machine: LabMachine, kind: str, status: str = "Pending", **values: Any) -> dict[str, Any]:
        """An action as somebody in the portal would ask for it; ``values`` may name any field."""
        now = self._now()
        row = {
            "id": str(uuid.uuid4()),
            "type": kind,
            "requestor": "somebody@corp.example",
            "requestorComment": "",
            "status": status,
            "machineId": machine.id,
            "computerDnsName": machine.name,
            "creationDateTimeUtc": now,
            "lastUpdateDateTimeUtc": now,
            "errorHResult": 0,
            "scope": None,
            "requestSource": "Portal",
            **values,
        }
        self.actions.append(row)
        self._reads_left[row["id"]] = machine.reads
        if status == "Succeeded":
            machine.isolated = kind == "Isolate"
        return row

    def finish(self, action: dict[str, Any], status: str = "Succeeded") -> None:
        """Let an action come to its end now; the machine does what it says."""
        action["status"], action["lastUpdateDateTimeUtc"] = status, self._now()
        if status == "Succeeded":
            self.machines[action["machineId"]].isolated = action["type"] == "Isolate"
        elif status != "Cancelled":
            action["errorHResult"] = -2147024637

    def revoke_tokens(self) -> None:
        """Let every token be worn, before its time."""
        self._tokens.clear()

    def _now(self) -> str:
        """Time passes by a tenth of a second an event, and is told with seven digits."""
        self._ticks += 1
        return (_LAST + timedelta(seconds=self._ticks / 10)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z"

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        wanted = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": "https://api.securitycenter.microsoft.com/.default",
        }
        if request.path_params["tenant"] != self.tenant_id:
            return _denied(400, "invalid_request", "AADSTS90002: Tenant not found.")
        if form != wanted:
            return _denied(401, "invalid_client", f"AADSTS7000215: Invalid client secret {form.get('client_secret')}.")
        self.logins += 1
        claims = json.dumps({"roles": sorted(self.roles), "jti": uuid.uuid4().hex}).encode()
        body = base64.urlsafe_b64encode(claims).decode().rstrip("=")
        token = f"e30.{body}.c2ln" if self.readable_token else uuid.uuid4().hex
        self._tokens[token] = time.monotonic() + self.token_seconds
        return JSONResponse({"token_type": "Bearer", "expires_in": int(self.token_seconds), "access_token": token})

    async def _machines(self, request: Request) -> Response:
        if refusal := self._barred(request, "Machine.Read.All"):
            return refusal
        rows = [row for machine in self.machines.values() for row in machine.rows()]
        return self._listed(request, rows, _MACHINE_FILTERS, "Machines")

    async def _list_actions(self, request: Request) -> Response:
        if refusal := self._barred(request, "Machine.Read.All"):
            return refusal
        for action in self.actions:
            self._pass_time(action)
        return self._listed(request, self.actions, _ACTION_FILTERS, "MachineActions")

    def _pass_time(self, action: dict[str, Any]) -> None:
        """Reading is what lets time pass here."""
        machine = self.machines[action["machineId"]]
        if action["status"] not in _OPEN or not machine.online:
            return
        left = self._reads_left[action["id"]] = self._reads_left[action["id"]] - 1
        if left < 0:
            self.finish(action, machine.ends_as)
        else:
            action["status"] = "InProgress"

    def _listed(self, request: Request, rows: list[dict[str, Any]], allowed: tuple[str, ...], what: str) -> Response:
        query = request.query_params
        try:
            test: Callable[[Mapping[str, Any]], bool] = lambda _: True  # noqa: E731
            if "$filter" in query:
                test = parse(query["$filter"], allowed)
            if "startswith(" in query.get("$filter", "") and not self.functions:
                raise ODataError("functions are not taken")  # noqa: TRY301
        except ODataError as error:
            return _failure(400, "ODataError", str(error))
        found = [row for row in rows if test(row)]
        if not found and what == "Machines" and self.nothing == "404":
            return _failure(404, "ResourceNotFound", "No recent machines were found")
        start, size = int(query.get("$skip", "0")), min(int(query.get("$top", "10000")), self.page)
        body: dict[str, Any] = {"@odata.context": CONTEXT + what, "value": found[start : start + size]}
        if start + size < len(found) and "$top" not in query:
            body["@odata.nextLink"] = f"{request.url}&$skip={start + size}"
        return JSONResponse(body)

    async def _act(self, request: Request) -> Response:
        kind = {"isolate": "Isolate", "unisolate": "Unisolate"}.get(request.path_params["verb"])
        if refusal := self._barred(request, "Machine.Isolate"):
            return refusal
        machine = self.machines.get(request.path_params["id"])
        if machine is None or kind is None:
            return _failure(404, "ResourceNotFound", "Machine was not found")
        body = await _body(request)
        wanted = {"Comment", "IsolationType"} if kind == "Isolate" else {"Comment"}
        if set(body) != wanted or not body["Comment"]:
            return _failure(400, "InvalidRequestBody", "Request body is incorrect")
        again = any(a["machineId"] == machine.id and a["type"] == kind and a["status"] in _OPEN for a in self.actions)
        if again and (kind == "Unisolate" or self.second_isolate == "refused"):
            return _failure(400, "ActiveRequestAlreadyExists", "Action is already in progress")
        made = self.add_action(
            machine,
            kind,
            requestor=self.client_id,
            requestorComment=body["Comment"],
            requestSource="PublicApi",
            scope=body.get("IsolationType"),
        )
        return JSONResponse({"@odata.context": f"{CONTEXT}MachineActions/$entity", **made}, 201)

    async def _cancel(self, request: Request) -> Response:
        if refusal := self._barred(request, "Machine.Isolate"):
            return refusal
        action = next((a for a in self.actions if a["id"] == request.path_params["id"]), None)
        if action is None:
            return _failure(404, "ResourceNotFound", "Action was not found")
        if action["status"] not in _OPEN or "Comment" not in await _body(request):
            return _failure(400, "BadRequest", "The action cannot be cancelled")
        self.finish(action, "Cancelled")
        return JSONResponse(action)

    def _barred(self, request: Request, role: str) -> Response | None:
        lasts_until = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "), 0.0)
        if time.monotonic() >= lasts_until:
            return _failure(401, "Unauthorized", "The token is invalid or has expired")
        if role not in self.roles:
            return _failure(403, "Forbidden", f"The application does not have {role}")
        return None


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _failure(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "target": str(uuid.uuid4())}}, status)


def _denied(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description, "error_codes": [0]}, status)
