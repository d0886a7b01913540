"""How the fields of other people's alerts become ours: the tables ``[bridge.mapping.…]``, one a format.

A field of ours has a list of places, tried in order; the first that has a value gives it. A place is a key, a path of
keys (``finding_info.uid``; lists on the way are looked through), or a text with such paths in braces
(``SNX-{incidentId}``). A field whose list is empty is never set. Every key is explained in ``holdpoint.example.toml``.
"""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from settings_sections import Section

_PLACE = re.compile(r"[^{}]+|[^{}]*(?:\{[^{}]+\}[^{}]*)+")


def _place(value: str) -> str:
    if not _PLACE.fullmatch(value):
        raise ValueError(f"{value!r} is no place: a key, a path of keys, or a text with paths in {{braces}}")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is no time zone such as Europe/Berlin or UTC") from None
    return value


Places = tuple[Annotated[str, AfterValidator(_place)], ...]
Patterns = tuple[Annotated[str, Field(min_length=1, max_length=64)], ...]

_CEF_TIMES = (
    "MMM dd yyyy HH:mm:ss.SSS zzz",
    "MMM dd yyyy HH:mm:ss zzz",
    "MMM dd yyyy HH:mm:ss.SSS",
    "MMM dd yyyy HH:mm:ss",
)
"""With a year only: CEF allows a time without one, and which year it was would be a guess."""


class FieldMapping(Section):
    """Where each field of an alert stands in one format.

    ``zone`` is the time zone of times that tell none (without it such a time is a fault), ``time_formats`` are the
    patterns of textual times, in the letters of Java's SimpleDateFormat. Epochs and ISO 8601 are always read.
    """

    id: Places = ()
    destination_ip: Places = ()
    occurred_at: Places = ()
    rule: Places = ()
    severity: Places = ()
    source_ip: Places = ()
    source_host: Places = ()
    destination_host: Places = ()
    user_account: Places = ()
    bytes_transferred: Places = ()
    tenant: Places = ()
    siem_incident_id: Places = ()
    event_ids: Places = ()
    zone: Annotated[str, AfterValidator(_zone)] | None = None
    time_formats: Patterns = ()


class SecuronixMapping(FieldMapping):
    """Incidents, and violations as Spotter lists them. Whose the host is, Holdpoint asks Securonix itself."""

    id: Places = ("SNX-{incidentId}", "eventid", "SNX-{derived.digest}")
    destination_ip: Places = ("destinationaddress", "derived.violator_ip", "ipaddress")
    occurred_at: Places = (
        "caseEventEndTime",
        "caseEventStartTime",
        "policyendtime",
        "casecreatetime",
        "datetime",
        "eventtime",
        "generationtime",
    )
    rule: Places = ("policyname", "derived.policies")
    severity: Places = ("priority", "criticality", "severity")
    source_ip: Places = ("sourceaddress",)
    source_host: Places = ("sourcehostname",)
    destination_host: Places = ("destinationhostname",)
    bytes_transferred: Places = ("bytesout", "bytesin", "filesize")
    tenant: Places = ("tenantInfo.tenantname", "tenantname")
    siem_incident_id: Places = ("incidentId",)
    event_ids: Places = ("eventid",)
    time_formats: Patterns = (
        "MM/dd/yyyy HH:mm:ss",
        "EEE, dd MMM yyyy @ hh:mm:ss a",
        "MMM dd, yyyy hh:mm:ss a",
    )


class OcsfMapping(FieldMapping):
    """OCSF Detection Finding (2004) and Data Security Finding (2006)."""

    id: Places = ("finding_info.uid", "metadata.uid")
    destination_ip: Places = ("dst_endpoint.ip", "evidences.dst_endpoint.ip")
    occurred_at: Places = (
        "finding_info.last_seen_time",
        "finding_info.last_seen_time_dt",
        "finding_info.first_seen_time",
        "time",
        "time_dt",
    )
    severity: Places = ("severity_id", "severity")
    source_ip: Places = ("src_endpoint.ip", "evidences.src_endpoint.ip")
    source_host: Places = ("src_endpoint.hostname", "evidences.src_endpoint.hostname")
    destination_host: Places = ("dst_endpoint.hostname", "evidences.dst_endpoint.hostname")
    user_account: Places = ("dst_endpoint.owner.name", "evidences.dst_endpoint.owner.name")
    bytes_transferred: Places = ("traffic.bytes", "traffic.bytes_out", "traffic.bytes_in")
    tenant: Places = ("metadata.tenant_uid",)


class CefMapping(FieldMapping):
    """ArcSight's Common Event Format. A custom field can be named by its label: ``labels.Case Number``."""

    id: Places = ("{header.product}-{externalId}", "CEF-{derived.digest}")
    destination_ip: Places = ("dst",)
    occurred_at: Places = ("end", "start", "rt")
    severity: Places = ("header.severity",)
    source_ip: Places = ("src",)
    source_host: Places = ("shost",)
    destination_host: Places = ("dhost",)
    user_account: Places = ("duser",)
    bytes_transferred: Places = ("in", "out", "bytesIn", "bytesOut")
    time_formats: Patterns = _CEF_TIMES


class LeefMapping(FieldMapping):
    """IBM's Log Event Extended Format 1.0 and 2.0. ``devTimeFormat``, where it stands, goes before ``time_formats``."""

    id: Places = ("{header.product}-{externalId}", "LEEF-{derived.digest}")
    destination_ip: Places = ("dst",)
    occurred_at: Places = ("devTime",)
    severity: Places = ("sev",)
    source_ip: Places = ("src",)
    source_host: Places = ("srcHostName", "shost")
    destination_host: Places = ("dstHostName", "dhost")
    user_account: Places = ("usrName",)
    bytes_transferred: Places = ("srcBytes", "dstBytes")
    time_formats: Patterns = _CEF_TIMES


class MappingSettings(Section):
    """One table a format."""

    securonix: SecuronixMapping = SecuronixMapping()
    ocsf: OcsfMapping = OcsfMapping()
    cef: CefMapping = CefMapping()
    leef: LeefMapping = LeefMapping()
