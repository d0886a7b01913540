"""The timeline of a case as a picture: lanes over one line of time, as shapes that a template draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

WIDTH: Final = 960
"""How wide the picture is where nobody says otherwise, in its own units: a letter is about 6 of them wide."""

_LEFT, _RIGHT, _LANE = 84, 14, 30
_LETTER: Final = 6.2
_LONG: Final = 60.0
_MOST_LABELS: Final = 6
_WRITERS: Final = ("guardrails", "directory", "endpoint", "identity")
_PEOPLE: Final = ("hold point", "answer")
_SAID: Final = ("decided: ", "question ", "nobody answered")

Entry = Mapping[str, Any]


def picture(record: Mapping[str, Any], width: int = WIDTH) -> dict[str, Any]:
    """The lanes of a record's picture: its stages and priorities as bars, its events as marks.

    The line of time is not to scale: a wait of hours would leave the seconds in which everything happens no room. Each
    step from one event to the next is as long as the logarithm of its time.
    """
    events: Sequence[Entry] = record["events"]
    at = [datetime.fromisoformat(entry["at"]) for entry in events]
    scale = _Scale(at, width)
    lanes: list[dict[str, Any]] = [
        {"name": "stage", "bars": _bars(scale, _stages(events, at)), "marks": []},
        {"name": "priority", "bars": _bars(scale, _priorities(record["priority_history"])), "marks": []},
        *({"name": name, "bars": [], "marks": marks} for name, marks in _marks(scale, events, at).items()),
    ]
    for place, lane in enumerate(lanes):
        lane["y"] = place * _LANE + 8
    return {
        "width": width,
        "height": len(lanes) * _LANE + 44,
        "left": _LEFT,
        "bottom": len(lanes) * _LANE + 8,
        "lanes": lanes,
        "waits": _waits(scale, at),
    }


class _Scale:
    """From a time to its place across."""

    def __init__(self, times: Sequence[datetime], width: int) -> None:
        self.times = times
        steps = [math.log1p(max((b - a).total_seconds(), 0.0)) + 0.1 for a, b in pairwise(times)]
        unit = (width - _LEFT - _RIGHT) / (sum(steps) or 1.0)
        self.places = [_LEFT + unit * sum(steps[:place]) for place in range(len(times))]

    def __call__(self, at: datetime) -> float:
        """Between two events it is as far as its share of the time between them."""
        for place, (time, following) in enumerate(pairwise(self.times)):
            if time <= at < following:
                share = (at - time) / (following - time)
                return round(self.places[place] + share * (self.places[place + 1] - self.places[place]), 1)
        return round(self.places[0] if at < self.times[0] else self.places[-1], 1)


def _stages(events: Sequence[Entry], at: Sequence[datetime]) -> Iterator[tuple[datetime, str]]:
    yield at[0], "enriching"
    for entry, time in zip(events, at, strict=True):
        if entry["text"].startswith("stage "):
            yield time, entry["text"].removeprefix("stage ").replace("_", " ")


def _priorities(history: Sequence[Entry]) -> Iterator[tuple[datetime, str]]:
    for change in history:
        yield datetime.fromisoformat(change["at"]), change["priority"]


def _bars(scale: _Scale, begun: Iterator[tuple[datetime, str]]) -> list[dict[str, Any]]:
    """One bar for each state, from its beginning to the next one's; its name stands in it where there is room."""
    states = list(begun)
    ends = [*(time for time, _ in states[1:]), scale.times[-1]]
    bars = []
    for (start, name), end in zip(states, ends, strict=True):
        x, width = scale(start), max(scale(end) - scale(start), 1.0)
        bars.append({"x": x, "width": round(width, 1), "name": name, "fits": len(name) * _LETTER < width})
    return bars


def _marks(scale: _Scale, events: Sequence[Entry], at: Sequence[datetime]) -> dict[str, list[dict[str, Any]]]:
    lanes: dict[str, list[dict[str, Any]]] = {"people": [], "writes": [], "other": []}
    for entry, time in zip(events, at, strict=True):
        lanes[_lane(entry)].append({"x": scale(time), "title": entry["text"]})
    return lanes


def _lane(entry: Entry) -> str:
    if entry["source"] in _PEOPLE or entry["text"].startswith(_SAID):
        return "people"
    return "writes" if entry["source"] in _WRITERS else "other"


def _waits(scale: _Scale, at: Sequence[datetime]) -> list[dict[str, Any]]:
    """How long the longest steps of time were, for the axis."""
    steps = [((b - a).total_seconds(), (scale(a) + scale(b)) / 2) for a, b in pairwise(at)]
    longest = sorted((step for step in steps if step[0] >= _LONG), reverse=True)[:_MOST_LABELS]
    placed: list[dict[str, Any]] = []
    for seconds, x in longest:
        if all(abs(x - other["x"]) > 10 * _LETTER for other in placed):
            placed.append({"x": round(x, 1), "text": _length(seconds)})
    return placed


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
