"""Securonix's incidents: ``GET /ws/incident/get?type=list``, page by page, and the address that one is about.

Windows and times are epoch milliseconds. ``offset`` counts incidents, not pages, and a page may be shorter than what
was asked for, so only an empty one is the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from incident.polling import SiemIncident, SiemIncidents
from integrations import spotter
from integrations.errors import BadAnswer, Rejected
from integrations.http import Answer, quoted
from integrations.securonix_search import Search, all_of
from integrations.securonix_session import VENDOR, Session
from integrations.securonix_shapes import json_object, number, said_true, trimmed

PAGE = 200
LOOK_BACK = timedelta(hours=24)
"""How long before an incident its violations may have been raised, where it does not say."""

MOST_NAMED = 50
_OPENED = ("casecreatetime", "caseEventStartTime", "lastUpdateDate")
_BEGAN = ("caseEventStartTime", "policystarttime", "casecreatetime", "lastUpdateDate")
_USERS = ("users",)
_ACCOUNTS = ("activityaccount", "rgactivityaccount", "rtactivityaccount")
_RESOURCES = ("resources",)


async def opened(session: Session, since: datetime, until: datetime, offset: int, tenant: str | None) -> SiemIncidents:
    """One page of the incidents that were opened in a window, the oldest first where the version obeys that.

    Raises:
        Rejected: Securonix does not take the request. BadAnswer: this is no list of incidents.
        Else the errors of ``Session.call``.
    """
    params = {
        "type": "list",
        "from": _milliseconds(since),
        "to": _milliseconds(until),
        "rangeType": "opened",
        "max": str(PAGE),
        "offset": str(offset),
        "order": "asc",
    }
    if tenant:
        params["tenantname"] = tenant
    items, total = _items(await session.call("GET", "incident/get", params))
    incidents = tuple(_incident(item) for item in items if _of(tenant, item))
    return SiemIncidents(count=len(items), total=total, incidents=incidents)


async def with_address(search: Search, incident: SiemIncident, policies: Iterable[str], now: datetime) -> SiemIncident:
    """The incident with the addresses and ids of its violations, where it tells no address itself.

    They are its own by policy and by whom it is about. None of them is an answer too: they may come later.

    Raises:
        The errors of ``Session.call`` and of a search.
    """
    fields = incident.fields
    entity = _word(fields.get("entity"))
    if fields.get("destinationaddress") or fields.get("ipaddress") or entity == "activityip":
        return incident
    terms = _terms(entity, fields)
    began = next((at for name in _BEGAN if (at := _instant(fields.get(name)))), now - LOOK_BACK)
    if not terms:
        return incident
    found = await all_of(*(search.between("violation", term, start=began - LOOK_BACK, end=now) for term in terms))
    wanted = {trimmed(name) for name in policies}
    rows = [row for row in found.rows if trimmed(row.text("policyname")) in wanted]
    places = ("destinationaddress", "ipaddress")
    told = next(
        (names for place in places if (names := list(dict.fromkeys(filter(None, (r.text(place) for r in rows)))))), []
    )
    if not told:
        return incident
    ids = list(dict.fromkeys(filter(None, (row.text("eventid") for row in rows))))
    more = {"destinationaddress": told[:MOST_NAMED], "eventid": ids[:MOST_NAMED]}
    return incident.model_copy(update={"fields": {**fields, **more}})


def _terms(entity: str, fields: dict[str, Any]) -> list[str]:
    """The search terms for whom the incident is about; none where that is not known, or cannot be quoted."""
    kinds = (
        (_USERS, "employeeid", ("violatorSubText",)),
        (_ACCOUNTS, "accountname", ("violatorText", "violatorId")),
        (_RESOURCES, "resourcehostname", ("violatorText",)),
    )
    names = [(field, fields.get(key)) for entities, field, keys in kinds if entity in entities for key in keys]
    terms = []
    for field, name in names:
        if isinstance(name, str) and name.strip():
            try:
                terms.append(spotter.equals(field, name.strip()))
            except spotter.NotQuotable:
                continue
    return list(dict.fromkeys(terms))


def _items(answer: Answer) -> tuple[list[dict[str, Any]], int | None]:
    body = json_object(answer)
    error = body.get("error")
    if error and not (isinstance(error, str) and error.strip().lower() == "false"):
        told = quoted(body.get("errorMessage") or (error if isinstance(error, str) else "")) or "no reason given"
        # A text is a refusal of the request; a bare flag is one of the system, as of a search that failed.
        kind = BadAnswer if said_true(error) else Rejected
        raise kind(f"{VENDOR} could not list incidents: {told}")
    result = body.get("result")
    data = result.get("data") if isinstance(result, dict) else None
    if not isinstance(data, dict) or not ("incidentItems" in data or "totalIncidents" in data):
        raise BadAnswer(f"{VENDOR} answered the list of incidents with something else")
    items = data.get("incidentItems")
    listed = items if isinstance(items, list) else [items] if isinstance(items, dict) else []
    total = number(data.get("totalIncidents"))
    return [item for item in listed if isinstance(item, dict)], None if total is None else int(total)


def _incident(item: dict[str, Any]) -> SiemIncident:
    identifier = str(item.get("incidentId") or "").strip()
    if not identifier:
        raise BadAnswer(f"{VENDOR} listed an incident without an id")
    return SiemIncident(
        id=identifier, opened_at=next((at for name in _OPENED if (at := _instant(item.get(name)))), None), fields=item
    )


def _of(tenant: str | None, item: dict[str, Any]) -> bool:
    """Whether an incident is the tenant's; one that names none is."""
    info = item.get("tenantInfo")
    named = str(info.get("tenantname") or "") if isinstance(info, dict) else ""
    return not tenant or not named or trimmed(named) == trimmed(tenant)


def _milliseconds(at: datetime) -> str:
    return str(round(at.timestamp() * 1000))


def _instant(value: object) -> datetime | None:
    told = number(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    try:
        return datetime.fromtimestamp(told / 1000, UTC) if told else None
    except (ValueError, OverflowError, OSError):
        return None


def _word(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""
