"""The record as a page that prints well: one HTML file without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from incident.telling import clock
from incident.text import plain

_WIDTH: Final = 960
_MARGIN: Final = 20
_ROWS: Final = 6
_ROW: Final = 18
_MARKED: Final = ("stage ", "decided: ", "question ", "case opened", "case closed", "ticket ")
_MOST_MARKS: Final = 24

_PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(sealed: Mapping[str, Any]) -> str:
    """The page of a sealed record. Every string of it is untrusted, made visible text and escaped."""
    shown = _visible(sealed)
    shown["facts"] = [
        {"label": name, **shown[name]} for name in ("host", "device", "user", "risk", "corroboration") if name in shown
    ]
    shown["picture"] = _picture(sealed.get("events") or [])
    return _PAGES.get_template("record.html.j2").render(r=shown)


def _visible(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return plain(value, limit=2000) if isinstance(value, str) else value


def _picture(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where each event stands on the line of time, and which are named."""
    times = [datetime.fromisoformat(event["at"]) for event in events]
    if not times:
        return {"dots": [], "marks": [], "width": _WIDTH, "height": 0, "line": 0}
    first, span = times[0], max((times[-1] - times[0]).total_seconds(), 1.0)
    line = _ROWS * _ROW + 10

    def across(at: datetime) -> float:
        return round(_MARGIN + (at - first).total_seconds() / span * (_WIDTH - 2 * _MARGIN), 1)

    named = [(at, event) for at, event in zip(times, events, strict=True) if event["text"].startswith(_MARKED)]
    marks = [
        {
            "x": across(at),
            "y": (place % _ROWS) * _ROW + 14,
            "end": "end" if across(at) > _WIDTH * 0.7 else "start",
            "text": plain(event["text"], limit=40),
        }
        for place, (at, event) in enumerate(named[:_MOST_MARKS])
    ]
    return {
        "dots": sorted({across(at) for at in times}),
        "marks": marks,
        "width": _WIDTH,
        "height": line + 34,
        "line": line,
        "from": clock(times[0]),
        "to": clock(times[-1]),
    }
