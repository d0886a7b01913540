"""From a record to the fields of our alert, by the places that the settings name.

What an alert cannot do without (``id``, ``destination_ip``, ``occurred_at``) and what says whose it is (``tenant``) is
read or refused. What else there is, is taken where it is certain and left out where it is not: two candidates are none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice, product
from typing import Any

from bridge.formats.lines import Record
from bridge.formats.refusal import FormatRefused
from bridge.formats.times import read_time
from incident.text import plain
from incident.triage import Priority

MAX_EVIDENCE = 16 * 1024
"""Bytes of the sender's own record that an alert keeps: it travels in the case's history."""

_MOST = 100
"""How many values of one place are looked at."""

_NEEDED = ("id", "destination_ip", "occurred_at")
_TEXTS = ("rule", "source_host", "destination_host", "user_account", "siem_incident_id")
_INNER = re.compile(r"\{([^{}]+)\}")
_WHOLE = re.compile(r"[0-9]{1,18}(?:\.0{1,9})?")
_DECIMAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,9})?")
_WORDS = {
    **dict.fromkeys(("low", "informational", "info", "none", "minor"), Priority.LOW),
    **dict.fromkeys(("medium", "moderate"), Priority.MEDIUM),
    **dict.fromkeys(("high", "major"), Priority.HIGH),
    **dict.fromkeys(("critical", "very-high", "very high", "fatal", "severe"), Priority.CRITICAL),
}
_OF_TEN = ((3, Priority.LOW), (6, Priority.MEDIUM), (8, Priority.HIGH), (10, Priority.CRITICAL))
"""Up to which number out of ten; the steps are CEF's, and LEEF has the same scale."""

_OF_OCSF = {
    "1": Priority.LOW,
    "2": Priority.LOW,
    "3": Priority.MEDIUM,
    "4": Priority.HIGH,
    "5": Priority.CRITICAL,
    "6": Priority.CRITICAL,
}
"""``severity_id``; 0 is unknown and 99 anything else."""


@dataclass(frozen=True)
class Places:
    """Where each of our fields stands in one format, and how its times are told; see ``settings_mapping``."""

    of: Mapping[str, Sequence[str]]
    zone: str | None = None
    patterns: Sequence[str] = ()


def alert_fields(record: Record, places: Places) -> dict[str, Any]:
    """The fields for ``incident.alert.parse_alert``, and under ``evidence`` the record itself as far as it is small.

    Raises:
        FormatRefused: a field that is needed is missing, has two candidates or cannot be read.
    """
    reading = _Reading(record, places)
    fields: dict[str, Any] = {
        "id": reading.needed("id"),
        "destination_ip": reading.needed("destination_ip"),
        "occurred_at": reading.time("occurred_at"),
        "severity": reading.severity(),
        "source_ip": reading.address("source_ip"),
        "bytes_transferred": reading.volume(),
        "tenant": reading.sure("tenant"),
        "event_ids": [_text(value) for value in reading.found("event_ids")],
        **{name: reading.optional(name) for name in _TEXTS},
    }
    told = {name: value for name, value in fields.items() if value is not None and value != []}
    return {**told, "evidence": _evidence(record, reading.unclear)}


@dataclass
class _Reading:
    """One record on its way to an alert; ``unclear`` tells what was left out, and why."""

    record: Record
    places: Places
    unclear: list[str] = field(default_factory=list)

    def found(self, name: str) -> list[Any]:
        """The distinct values at the first place that has any."""
        return next(filter(None, self._each(name)), [])

    def _each(self, name: str) -> Iterator[list[Any]]:
        for place in self.places.of.get(name, ()):
            yield _at(self.record.fields, place)

    def sure(self, name: str) -> str | None:
        """The one value, or ``None`` if there is none."""
        values = self.found(name)
        if len(values) > 1:
            raise FormatRefused(f"{name}: {_candidates(values)}")
        return _text(values[0]) if values else None

    def needed(self, name: str) -> str:
        """The one value."""
        value = self.sure(name)
        if value is None:
            looked = ", ".join(self.places.of.get(name, ())) or "nothing"
            raise FormatRefused(f"{name}: is missing; looked at {looked}")
        return value

    def time(self, name: str) -> str:
        """The one time, as our alert wants it."""
        value = self.needed(name)
        own = self.record.fields.get("devTimeFormat") if self.record.format == "leef" else None
        patterns = [own, *self.places.patterns] if isinstance(own, str) and own else self.places.patterns
        try:
            return read_time(value, patterns=patterns, zone=self.places.zone).isoformat()
        except FormatRefused as error:
            raise FormatRefused(f"{name}: {error}") from None

    def optional(self, name: str) -> str | None:
        """The one value, or ``None`` if there are several or none."""
        values = self.found(name)
        if len(values) > 1:
            self.unclear.append(f"{name}: {_candidates(values)}")
            return None
        return _text(values[0]) if values else None

    def address(self, name: str) -> str | None:
        """An address, or ``None`` if there is none that is certain."""
        value = self.optional(name)
        try:
            return None if value is None else str(ip_address(value))
        except ValueError:
            self.unclear.append(f"{name}: {_shown(value)} is not an IP address")
            return None

    def volume(self) -> int | None:
        """Bytes: the largest number of all places, since vendors do not agree on which direction is which."""
        numbers = [_text(value) for values in self._each("bytes_transferred") for value in values]
        whole = [int(number.partition(".")[0]) for number in numbers if _WHOLE.fullmatch(number)]
        return max(whole, default=None)

    def severity(self) -> Priority | None:
        """The first that can be read; an alert is not lost for a word that is not known here."""
        for values in self._each("severity"):
            for value in values[:1]:
                level = _ocsf(value) if self.record.format == "ocsf" else _level(value)
                if level is not None:
                    return level
        return None


def _at(record: Mapping[str, Any], place: str) -> list[Any]:
    """The distinct values at a place: texts and numbers that say anything."""
    if "{" not in place:
        return _distinct(_walk(record, place))
    inner = [_distinct(_walk(record, path)) for path in _INNER.findall(place)]
    made = []
    for values in islice(product(*inner), _MOST):
        words = iter(values)
        made.append(_INNER.sub(lambda _, words=words: _text(next(words)), place))  # type: ignore[misc]
    return made


def _walk(record: Mapping[str, Any], path: str) -> list[Any]:
    if path in record:
        return _flat([record[path]])
    values: list[Any] = [record]
    for key in path.replace("[]", "").split("."):
        values = [value[key] for value in _flat(values) if isinstance(value, Mapping) and key in value]
    return _flat(values)


def _flat(values: Sequence[Any]) -> list[Any]:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return flat[:_MOST]


def _distinct(values: Sequence[Any]) -> list[Any]:
    kept: dict[str, Any] = {}
    for value in values:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and _text(value):
            kept.setdefault(_text(value), value)
    return list(kept.values())


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value.replace("\x00", "").strip()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def _shown(value: object) -> str:
    return repr(plain(str(value), limit=80))


def _candidates(values: Sequence[Any]) -> str:
    return f"two candidates: {', '.join(map(_shown, values[:3]))}"


def _level(value: float | str) -> Priority | None:
    text = _text(value).lower()
    if _DECIMAL.fullmatch(text):
        return next((level for most, level in _OF_TEN if float(text) <= most), None)
    return _WORDS.get(text)


def _ocsf(value: float | str) -> Priority | None:
    text = _text(value).lower()
    return _OF_OCSF.get(text, _WORDS.get(text))


def _evidence(record: Record, unclear: list[str]) -> dict[str, Any]:
    own = {key: value for key, value in record.fields.items() if key != "derived"}
    length = len(json.dumps(own, ensure_ascii=False).encode("utf-8", "replace"))
    kept: dict[str, Any] = {"fields": own} if length <= MAX_EVIDENCE else {"omitted": f"{length // 1024} KiB"}
    return {"format": record.format, **kept, **({"unclear": unclear} if unclear else {})}
