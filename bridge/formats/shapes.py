"""JSON objects told apart by their own marks, and made into records where they are not alerts of ours.

OCSF by ``class_uid``. Securonix's incidents as ``/ws/incident/get`` lists them, by ``incidentId``; its violations as a
Spotter search lists them, flat or as ``result.entry``, by what each has of ``policyname``, ``violator`` and the like.
Whatever else there is, is taken for an alert of our own schema, whose faults then say what it lacks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from bridge.formats.lines import Record
from bridge.formats.refusal import FormatRefused

_OURS = ("id", "destination_ip", "occurred_at")
_MARKS = frozenset(("class_uid", "incidentId"))
_FINDINGS = {"2004", "2006"}
_FINDING_CLOSED = "3"
_STATUS_DONE = {"3": "suppressed", "4": "resolved", "5": "archived", "6": "deleted"}
_VIOLATION = ("policyname", "riskthreatname", "violator", "generationtime", "accountname", "ipaddress", "eventid")
_LISTS = (("alerts",), ("result", "data", "incidentItems"), ("data", "incidentItems"), ("incidentItems",), ("events",))
"""Where a body that is one object holds several alerts: ours, and the answers of Securonix's own services."""


def several(body: Any) -> list[Any]:
    """The alerts of a JSON body: an array, an object that holds one, or one alert."""
    if isinstance(body, list):
        return body
    if isinstance(body, dict) and (_ours(body) or not _MARKS.isdisjoint(body)):
        return [body]
    for path in _LISTS:
        value = body
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, list):
            return value
    return [body]


def recognised(alert: Any) -> Record | None:
    """The record of another system's alert, or ``None`` where it can only be ours.

    Raises:
        FormatRefused: it is of a class that starts no case, or is over already.
    """
    if not isinstance(alert, dict) or _ours(alert):
        return None
    if "class_uid" in alert:
        return _finding(alert)
    if "incidentId" in alert:
        return _incident(alert)
    flat = _unfolded(alert)
    if sum(key in flat for key in _VIOLATION) > 1:
        return Record("securonix", {**flat, "derived": _derived(flat)})
    return None


def _ours(alert: dict[str, Any]) -> bool:
    return sum(key in alert for key in _OURS) > 1


def _finding(finding: dict[str, Any]) -> Record:
    """OCSF: Detection Finding 2004, Data Security Finding 2006."""
    if str(finding["class_uid"]) not in _FINDINGS:
        raise FormatRefused("class_uid: is neither 2004 (Detection Finding) nor 2006 (Data Security Finding)")
    if str(finding.get("activity_id")) == _FINDING_CLOSED:
        raise FormatRefused("activity_id: the finding is closed, so it starts no case")
    done = _STATUS_DONE.get(str(finding.get("status_id")))
    if done:
        raise FormatRefused(f"status_id: the finding is {done}, so it starts no case")
    return Record("ocsf", {**finding, "derived": _derived(finding)})


def _incident(incident: dict[str, Any]) -> Record:
    if _true(incident.get("statusCompleted")):
        raise FormatRefused("statusCompleted: the incident is completed in Securonix, so it starts no case")
    if _true(incident.get("sandBoxPolicy")):
        raise FormatRefused("sandBoxPolicy: the policy is in its sandbox, so it starts no case")
    address = incident.get("violatorText") if _word(incident.get("entity")) == "activityip" else None
    derived = _derived(incident) | {"policies": _policies(incident.get("reason"))}
    if isinstance(address, str) and _is_address(address):
        derived["violator_ip"] = address.strip()
    return Record("securonix", {**incident, "derived": derived})


def _policies(reason: Any) -> list[str]:
    """The policies in an incident's ``reason``: ``"Policy: X"``, or ``{"Policies": …}`` as a list or in stages."""
    names: list[str] = []
    for part in reason if isinstance(reason, list) else [reason]:
        if isinstance(part, str):
            kind, _, name = part.partition(": ")
            names += [name.strip()] if kind.strip().lower() in ("policy", "policies") and name.strip() else []
        elif isinstance(part, Mapping):
            names += _names(part.get("Policies"))
    return list(dict.fromkeys(names))


def _names(value: Any) -> list[str]:
    """All texts in lists and tables, which the caller has kept from being deep."""
    match value:
        case str():
            return [value.strip()] if value.strip() else []
        case list():
            return [name for item in value for name in _names(item)]
        case dict():
            return [name for item in value.values() for name in _names(item)]
    return []


def _unfolded(event: dict[str, Any]) -> dict[str, Any]:
    """A violation's own fields: in the older shape they are pairs of key and value below ``result.entry``."""
    result = event.get("result")
    entries = result.get("entry") if isinstance(result, dict) else None
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        return event
    pairs = {e["key"]: e.get("value") for e in entries if isinstance(e, dict) and isinstance(e.get("key"), str)}
    return {**{key: value for key, value in event.items() if key != "result"}, **pairs}


def _derived(alert: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(alert, sort_keys=True, separators=(",", ":"))
    return {"digest": hashlib.sha256(text.encode()).hexdigest()[:24]}


def _true(value: Any) -> bool:
    return value is True or _word(value) == "true"


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip())
    except ValueError:
        return False
    return True
