"""The alert that starts a case, as the command line and a SIEM bridge take it."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from incident.triage import Priority

DEFAULT_TENANT = "default"
MAX_BYTES = 256 * 1024
"""An alert is a report, not the evidence itself; a larger one would not fit into a case's history."""

MAX_DEPTH = 32
"""How deep an alert may be nested; Temporal's JSON would refuse a much deeper one when it is too late to say so."""

_MAX_BYTES_TRANSFERRED = 2**63 - 1
_YEARS = range(1970, 2200)
_DATED = re.compile(r"\d{4}-")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIT: Final = frozenset({int, bool, type(None)})
"""Kinds of values that JSON carries as they are."""

_NO_TIME = "is not an ISO 8601 time such as 2026-03-14T12:34:56Z"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AlertRefused(ValueError):
    """The alert cannot start a case; ``faults`` has one line for each thing that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _canonical_ip(value: object) -> object:
    return _canonical(value) if isinstance(value, str) else value


# A flood repeats a few addresses thousands of times.
@lru_cache(maxsize=256)
def _canonical(value: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(value.strip())
    except ValueError:
        raise ValueError(f"{value[:80]!r} is not an IP address") from None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError(f"{value[:80]!r} carries a zone, which names no host outside one machine")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _absent_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _text_of_number(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is not a number of bytes")  # noqa: TRY004 - only a ValueError becomes a fault
    return value


IpText = Annotated[str, BeforeValidator(_canonical_ip)]
Identifier = Annotated[str, BeforeValidator(_text_of_number), Field(min_length=1, max_length=256)]
Volume = Annotated[int, Field(ge=0, le=_MAX_BYTES_TRANSFERRED)]
OptionalText = Annotated[str | None, BeforeValidator(_absent_if_blank)]


class Alert(BaseModel):
    """A report of a large transfer to an internal host.

    ``occurred_at`` is the time of the transfer and carries a zone; ``bytes_transferred`` is in bytes. ``event_ids``
    are the SIEM's ids of the violations behind this alert: they are the alert itself and never corroborate it.
    Keys that Holdpoint does not know are kept as evidence.
    """

    model_config = ConfigDict(frozen=True, extra="allow", str_strip_whitespace=True)

    id: Identifier
    destination_ip: IpText
    occurred_at: AwareDatetime
    rule: OptionalText = None
    severity: Annotated[Priority, BeforeValidator(_lower)] = Priority.MEDIUM
    source_ip: Annotated[IpText | None, BeforeValidator(_absent_if_blank)] = None
    source_host: OptionalText = None
    destination_host: OptionalText = None
    user_account: OptionalText = None
    bytes_transferred: Annotated[Volume | None, BeforeValidator(_no_truth)] = None
    tenant: OptionalText = None
    siem_incident_id: Annotated[OptionalText, BeforeValidator(_text_of_number)] = None
    event_ids: tuple[Identifier, ...] = ()

    @field_validator("occurred_at", mode="before")
    @classmethod
    def _text_time(cls, value: object) -> object:
        """Only ISO 8601 text: a bare number could be seconds or milliseconds, and guessing moves the search window."""
        if isinstance(value, datetime):
            return value
        if not isinstance(value, str) or not _DATED.match(value.strip()):
            raise ValueError(_NO_TIME)
        return value.strip()

    @field_validator("occurred_at")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        if value.year not in _YEARS:
            raise ValueError(f"is not a time between {_YEARS.start} and {_YEARS.stop}")
        return value.astimezone(UTC)

    @field_validator("severity", mode="before")
    @classmethod
    def _default_severity(cls, value: object) -> object:
        return Priority.MEDIUM if value is None else value

    @field_validator("event_ids", mode="before")
    @classmethod
    def _no_event_ids(cls, value: object) -> object:
        return () if value is None else value

    @field_validator("tenant")
    @classmethod
    def _slug(cls, value: str | None) -> str | None:
        if value is not None and not _TENANT.fullmatch(value):
            raise ValueError("may hold letters, digits, dot, dash and underscore only, at most 64")
        return value

    @property
    def case_id(self) -> str:
        """The workflow id: one open case for each tenant and affected host."""
        return f"sua-{self.tenant or DEFAULT_TENANT}-{self.destination_ip}"


def parse_alert(source: Any, default_tenant: str | None = None) -> Alert:
    """Read an alert from JSON text (``str`` or ``bytes``) or from a decoded object.

    What JSON cannot carry in keys and values that are kept as evidence is made fit: a number that is none becomes
    null, a lone surrogate U+FFFD.

    Raises:
        AlertRefused: with every fault at once, each naming its key.
    """
    if isinstance(source, str | bytes):
        source = _decoded(source)
    if not isinstance(source, dict):
        raise AlertRefused(["the alert is not a JSON object"])
    fields = _fit(source)
    if _absent_if_blank(fields.get("tenant")) is None:
        fields["tenant"] = default_tenant or DEFAULT_TENANT
    try:
        alert = Alert.model_validate(fields)
    except ValidationError as error:
        raise AlertRefused([_fault(e) for e in error.errors(include_url=False, include_context=False)]) from None
    if len(alert.model_dump_json()) > MAX_BYTES:
        raise AlertRefused([f"the alert is larger than {MAX_BYTES // 1024} KiB"])
    return alert


def _decoded(text: str | bytes) -> Any:
    if len(text) > MAX_BYTES:
        raise AlertRefused([f"the alert is larger than {MAX_BYTES // 1024} KiB"])
    try:
        return json.loads(text)
    except ValueError as error:
        raise AlertRefused([f"the alert is not JSON: {error}"]) from None
    except RecursionError:
        raise AlertRefused([f"the alert is nested more than {MAX_DEPTH} deep"]) from None


def _fit(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise AlertRefused([f"the alert is nested more than {MAX_DEPTH} deep"])
    # By the kind first: what an alert is mostly made of needs nothing, and a flood has thousands of them.
    kind = type(value)
    if kind in _FIT or (kind is str and value.isascii()):
        return value
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {_fit(key): _fit(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_fit(item, depth + 1) for item in value]
        case _:
            return value


def _fault(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    message = str(error["msg"]).removeprefix("Value error, ")
    match error["type"]:
        case "missing":
            return f"{key}: is missing"
        case "string_type" | "value_error" if error["input"] is None:
            return f"{key}: is missing"
        case "string_too_short" | "too_short":
            return f"{key}: is empty"
        case "timezone_aware":
            return f"{key}: has no time zone; write 2026-03-14T12:34:56Z"
        case kind if kind.startswith("datetime"):
            return f"{key}: {_NO_TIME}"
        case "enum":
            return f"{key}: must be one of {', '.join(Priority)}"
        case _:
            return f"{key}: {message}"
