"""How the Securonix stand-in lists its incidents: windows in epoch milliseconds, pages by offset, in two orders."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

_DEFAULT_PAGE = 10
_RANGES = ("opened", "updated", "closed")


class Listed(Protocol):
    """An incident, as far as a list tells of it."""

    status: str
    opened: datetime | None
    shown: datetime | None
    fields: dict[str, Any]


class Awkward(Protocol):
    """What is awkward about lists; see the stand-in's quirks."""

    incident_page: int | None
    orders: bool
    offsets: bool


def item_of(incident_id: str, incident: Listed, *, tenant: str) -> dict[str, Any]:
    """An incident as lists and ``metaInfo`` tell it."""
    opened = _milliseconds(incident.opened) if incident.opened else 0
    item: dict[str, Any] = {
        "incidentId": incident_id,
        "incidentStatus": incident.status,
        "incidentType": "Policy",
        "priority": "High",
        "riskscore": 0.0,
        "workflowName": "SOCTeamReview",
        "reason": [],
        "lastUpdateDate": opened,
        "casecreatetime": opened,
        "isWhitelisted": False,
        "statusCompleted": incident.status.lower() == "completed",
        "sandBoxPolicy": False,
        "parentCaseId": "",
        "tenantInfo": {"tenantid": 3, "tenantname": tenant, "tenantshortcode": "AC", "tenantcolor": "#112233"},
    }
    return {**item, **incident.fields}


def listed(
    incidents: Mapping[str, Listed], params: Mapping[str, str], awkward: Awkward, *, tenant: str, now: datetime
) -> Response:
    """The answer of ``incident/get?type=list``."""
    try:
        start, end = (datetime.fromtimestamp(int(params[name]) / 1000, UTC) for name in ("from", "to"))
        size, offset = int(params.get("max") or _DEFAULT_PAGE), int(params.get("offset") or 0)
    except (KeyError, ValueError):
        return _refusal("from and to are needed, as milliseconds")
    if params.get("rangeType") not in _RANGES:
        return _refusal("rangeType is not one of opened, updated, closed")
    if params.get("tenantname", tenant) != tenant:
        return _refusal("[User] do not have access to incident tenant")
    there = [
        (incident.opened, name)
        for name, incident in incidents.items()
        if incident.opened and start <= incident.opened <= end and (incident.shown or incident.opened) <= now
    ]
    there.sort(reverse=not (awkward.orders and params.get("order") == "asc"))
    size = min(size, awkward.incident_page or size)
    first = offset if awkward.offsets else 0
    items = [item_of(name, incidents[name], tenant=tenant) for _, name in there[first : first + size]]
    data = {"totalIncidents": float(len(there)), "incidentItems": items}
    return JSONResponse({"status": "OK", "result": {"data": data}})


def _refusal(why: str) -> Response:
    return JSONResponse({"error": why, "type": "Bad Request", "code": "400"})


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
