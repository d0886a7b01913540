"""Where a question stands for the person who looks at it: asked, decided, asked anew, or over."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from bridge.desk.reading import Sighting

_SHOWN_ONLY: Final = ("head", "events", "events_dropped", "run_id", "electorate")


class Stand(StrEnum):
    """What a page offers. ``UNTOLD`` is where no worker could say."""

    ASKS = "asks"
    DECIDED = "decided"
    CHANGED = "changed"
    OVER = "over"
    UNTOLD = "untold"


@dataclass(frozen=True)
class Bound:
    """The question that an answer is bound to: its id and its digest."""

    question: str
    digest: str


def stand_of(found: Sighting, bound: Bound | None) -> Stand:
    """Where the question stands that a link or a form is bound to; without ``bound`` the one that stands, if any."""
    view = found.view
    if view is None:
        return Stand.UNTOLD
    question = view["question"]
    if question and (bound is None or bound == Bound(question["id"], question["digest"])):
        return Stand.ASKS
    if bound and (changes_since(view, bound) is not None or (question and question["id"] == bound.question)):
        return Stand.CHANGED
    return Stand.DECIDED if view["decision"] else Stand.OVER


def changes_since(view: dict[str, Any], bound: Bound) -> list[str] | None:
    """What has changed since a question, in words, the oldest first; ``None`` if it was not asked anew."""
    superseded = view["superseded"]
    places = [n for n, old in enumerate(superseded) if bound == Bound(old["question"], old["digest"])]
    if not places:
        return None
    return list(dict.fromkeys(change for old in superseded[places[-1] :] for change in old["changes"]))


def version_of(found: Sighting) -> str:
    """Changes when what the page says changes; who has looked and which mail went out is not that.

    Empty where no worker answers: nothing has changed because of that.
    """
    if found.view is None:
        return ""
    told = {key: value for key, value in found.view.items() if key not in _SHOWN_ONLY}
    if told["question"]:
        told["question"] = {k: v for k, v in told["question"].items() if k not in ("asked", "seen")}
    whole = json.dumps([found.row["execution"], told], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]
