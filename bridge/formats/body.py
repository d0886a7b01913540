"""A request's body as alerts, each read or refused by itself.

JSON holds one alert, an array of them, or an object with such an array; NDJSON one a line; text CEF and LEEF lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.formats.json_text import decoded, sound
from bridge.formats.lines import MAX_LINE, parse_line
from bridge.formats.mapping import Places, alert_fields
from bridge.formats.refusal import FormatRefused
from bridge.formats.shapes import recognised, several
from incident.alert import Alert, AlertRefused, parse_alert
from incident.text import plain

JSON = ("application/json",)
NDJSON = ("application/x-ndjson", "application/ndjson")
LINES = ("text/plain", "application/x-cef", "application/x-leef", "application/cef", "application/leef")

_CHARSETS = ("", "utf-8", "utf8", "us-ascii")
_LONGEST_FAULT = 1000


class WrongType(Exception):
    """The body is of a type that is not taken."""


class TooMany(Exception):
    """There are more alerts in it than may be."""


@dataclass(frozen=True)
class Reader:
    """Reads bodies: ``places`` by format, ``tenant`` that of alerts that name none, at most ``most`` alerts a body."""

    places: Mapping[str, Places]
    tenant: str | None
    most: int

    def read(self, content_type: str, body: bytes) -> list[Alert | str]:
        """Each alert of a body, or its fault in words.

        Raises:
            WrongType: the type is not one of ``JSON``, ``NDJSON`` and ``LINES``, or the text is not UTF-8.
            TooMany: there are more than ``most``. FormatRefused: it is not JSON as a whole.
        """
        kind = media_type(content_type)
        if kind in JSON:
            alerts = several(decoded(body))
            if len(alerts) > self.most:
                raise TooMany
            return [self._one_of_json(alert) for alert in alerts]
        lines = list(_lines(body, self.most))
        read = self._one_of_ndjson if kind in NDJSON else self._one_of_lines
        return [read(line) for line in lines]

    def _one_of_ndjson(self, line: bytes) -> Alert | str:
        if len(line) > MAX_LINE:
            return f"the line is longer than {MAX_LINE // 1024} KiB"
        try:
            alert = decoded(line)
        except FormatRefused as error:
            return _told(str(error))
        return self._one_of_json(alert)

    def _one_of_json(self, alert: Any) -> Alert | str:
        try:
            sound(alert)
            record = recognised(alert)
            return self._alert(alert if record is None else alert_fields(record, self.places[record.format]))
        except (FormatRefused, AlertRefused) as error:
            return _told(str(error))

    def _one_of_lines(self, line: bytes) -> Alert | str:
        try:
            record = parse_line(line)
            return self._alert(alert_fields(record, self.places[record.format]))
        except (FormatRefused, AlertRefused) as error:
            return _told(str(error))

    def _alert(self, fields: Any) -> Alert:
        return parse_alert(fields, self.tenant)


def media_type(content_type: str) -> str:
    """The type without its parameters.

    Raises:
        WrongType: it is none that is taken, or names another charset than UTF-8.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = ""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    if kind not in (*JSON, *NDJSON, *LINES) or charset not in _CHARSETS:
        raise WrongType
    return kind


def _lines(body: bytes, most: int) -> Iterator[bytes]:
    count = 0
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        count += 1
        if count > most:
            raise TooMany
        yield line


def _told(fault: str) -> str:
    return plain(fault, limit=_LONGEST_FAULT)
