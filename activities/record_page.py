"""The record as a page that prints well: one HTML file without scripts and without anything from elsewhere.

It is well-formed XML besides, so that any parser reads it alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from incident.picture import picture
from incident.text import plain

_LABELS: Final = {
    "host": "Host",
    "device": "Endpoint agent",
    "user": "User",
    "risk": "Risk",
    "corroboration": "Further alerts or events",
}
_LIMIT: Final = 2000
_NO_XML: Final = re.compile("[\ufffe\uffff\U0001fffe\U0001ffff]")


def page(sealed: Mapping[str, Any]) -> str:
    """The page of a sealed record. Every string of it is untrusted, made visible text and escaped."""
    shown = _visible(sealed)
    facts = [{"label": label, **_told(name, shown[name])} for name, label in _LABELS.items() if name in shown]
    values = {"r": shown, "facts": facts, "picture": picture(shown), "answers": _answers(shown)}
    return _PAGES.get_template("record.html.j2").render(values)


def _visible(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return _NO_XML.sub("\ufffd", plain(value, limit=_LIMIT)) if isinstance(value, str) else value


def _told(name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
    """A fact in words: its value with what matters of its detail, or why it is not known."""
    shown = {"known": fact["known"], "source": fact.get("source"), "at": fact.get("at"), "lines": []}
    detail = fact.get("detail", {})
    if not fact["known"]:
        return {**shown, "text": fact.get("reason", ""), "lines": fact.get("candidates", [])}
    match name:
        case "risk":
            text = f"{fact['value']} (score {detail['score']:g})"
        case "corroboration":
            text = str(detail["total"]) if detail["total"] else "none"
            shown["lines"] = [f"{one['kind']} {one['name']} about {one['about']}" for one in detail["sightings"]]
        case "host":
            text = f"{detail['name']} ({detail['ip']})"
        case "device":
            text = f"{detail['hostname']}, {detail.get('kind', 'host')}, {detail['containment']} when it was looked up"
        case _:
            parts = (detail.get("display_name"), detail.get("title"), detail.get("department"))
            about = ", ".join(part for part in parts if part)
            text = f"{fact['value']} ({about})" if about else str(fact["value"])
    return {**shown, "text": text}


def _answers(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries that tell who decided what: questions, answers that counted or did not, and decisions."""
    starts = ("question ", "decided: ", "nobody answered")
    return [
        entry
        for entry in record["events"]
        if entry["source"] in ("hold point", "answer") or entry["text"].startswith(starts)
    ]


def _clock(value: str | None) -> str:
    """A time ready to read; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(value or '').astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return value or ""


_PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters["clock"] = _clock
