"""What a case's page says, put together from how the case was found and who looks at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.desk import clock
from bridge.desk.answering import asked_of
from bridge.desk.forms import Faults, Filled
from bridge.desk.guard import Said
from bridge.desk.reading import Sighting
from bridge.desk.rendering import now
from bridge.desk.standing import Bound, Stand, changes_since, stand_of, version_of
from incident.decision import DecisionName
from incident.picture import picture

_WIDTH: Final = 480
"""The picture's width in its own units: so its letters can be read on a phone."""

_HEADINGS: Final = {
    Stand.ASKS: "your answer is needed",
    Stand.DECIDED: "it is decided",
    Stand.CHANGED: "the question has changed",
    Stand.OVER: "nothing is asked just now",
    Stand.UNTOLD: "no details just now",
}
_LABELS: Final = {DecisionName.CONTAIN: "Contain", DecisionName.FALSE_POSITIVE: "False positive"}
_SAID: Final = {
    "taken": "Your answer was taken: {decision}, at {at}.",
    "waits": "Your approval was taken at {at}. A second approver, of another tier, has to say contain too.",
    "left": "Your answer ({decision}) is accepted and kept since {at}. No worker runs just now; it is applied when one"
    " is back, if the question still stands then.",
    "dissent": "Your answer ({decision}) was kept with the case at {at}. It changes nothing.",
    "same": "Somebody else had decided the same before: {decision}. There was nothing to add.",
}


@dataclass(frozen=True)
class Viewer:
    """Who looks, and by what: ``link`` is the token or what stands for it, ``bound`` the question of a link."""

    analyst: str
    case_id: str
    run_id: str | None
    path: str
    state_path: str
    link: str
    bound: Bound | None
    signed_in: bool

    @property
    def by_link(self) -> bool:
        """Whether a link brought them here."""
        return self.bound is not None


def case_page(
    found: Sighting,
    viewer: Viewer,
    *,
    csrf: str,
    said: Said | None = None,
    filled: Filled | None = None,
    faults: Faults | None = None,
    hint: str | None = None,
) -> dict[str, Any]:
    """The context of ``desk_case.html``."""
    stand, view = stand_of(found, viewer.bound), found.view
    question = view["question"] if view and stand is Stand.ASKS else None
    reference = view["reference"] if view else _reference(viewer)
    heading = f"{reference}: {_HEADINGS[stand]}"
    row = found.row
    form = None
    if _takes_answer(found, stand, viewer, said):
        form = _form(found, stand, viewer, filled or Filled(), faults, hint) | {"csrf": csrf}
    return {
        "title": heading,
        "heading": heading,
        "reference": reference,
        "notes": _notes(found, stand, viewer, said),
        "view": view,
        "row": row,
        "priority": (view["priority"] if view else row["priority"]) or "unknown",
        "stage": (view["stage"] if view else row["stage"]) or "just begun",
        "outcome": view["outcome"] if view else row["outcome"],
        "due": question["due_at"] if question else row["decision_due_at"] if view is None else None,
        "question": question,
        "form": form,
        "faults": faults,
        "picture": picture(view, _WIDTH) if view and view["events"] else None,
        "picture_told": _picture_told(view) if view else "",
        "version": version_of(found),
    }


def _reference(viewer: Viewer) -> str:
    return viewer.bound.question.rpartition("-")[0] if viewer.bound else "This case"


def _picture_told(view: Mapping[str, Any]) -> str:
    """What the picture shows, for whoever does not see it."""
    first, last = clock.moment(view["events"][0]["at"]), clock.moment(view["events"][-1]["at"])
    took = clock.length((last - first).total_seconds()) if first and last else "some time"
    steps = ", then ".join(change["priority"] for change in view["priority_history"])
    return (
        f"The case in time: {len(view['events'])} events in {took}; the stage is {view['stage'].replace('_', ' ')},"
        f" the priority went {steps}. The table of events below has all of it."
    )


def _takes_answer(found: Sighting, stand: Stand, viewer: Viewer, said: Said | None) -> bool:
    if found.closed:
        return False
    if stand is Stand.UNTOLD:
        return viewer.by_link and not (said and said.what == "left")
    if stand is Stand.DECIDED and found.view:
        made = found.view["decision"]
        return (made["analyst"] or "").casefold() != viewer.analyst.casefold() and not _dissented(found, viewer)
    return stand is Stand.ASKS


def _dissented(found: Sighting, viewer: Viewer) -> bool:
    view = found.view or {}
    mine = [one for one in view["dissent"] if (one["analyst"] or "").casefold() == viewer.analyst.casefold()]
    return any(one["at"] >= view["decision"]["at"] for one in mine)


def _form(
    found: Sighting, stand: Stand, viewer: Viewer, filled: Filled, faults: Faults | None, hint: str | None
) -> dict[str, Any]:
    for_record = stand is Stand.DECIDED
    actions = asked_of(found, stand) if stand is Stand.ASKS else ()
    options = [_option(found, stand, decision) for decision in DecisionName]
    if hint in tuple(DecisionName):
        options.sort(key=lambda option: option["decision"] != hint)
    return {
        "action": viewer.path,
        "bound": None if viewer.by_link else _bound(found),
        "filled": filled,
        "faults": faults,
        "for_record": for_record,
        "actions": actions,
        "options": options,
        "wants_target": not viewer.signed_in,
        "first": {
            "decision": f"decision-{options[0]['decision']}",
            "actions": f"actions-{actions[0]}" if actions else "answer",
            "reason": "reason",
            "target": "target",
        },
    }


def _bound(found: Sighting) -> Bound:
    """The question that a form is bound to which no link binds."""
    view = found.view or {}
    question, made = view.get("question"), view.get("decision")
    if question:
        return Bound(question["id"], question["digest"])
    return Bound((made or {}).get("question") or "", "")


def _option(found: Sighting, stand: Stand, decision: DecisionName) -> dict[str, str]:
    told = {
        DecisionName.CONTAIN: "What the question asks about is contained, as your mail says.",
        DecisionName.FALSE_POSITIVE: "Nothing more is touched.",
    }[decision]
    if stand is Stand.DECIDED:
        told = "You would have contained." if decision is DecisionName.CONTAIN else "You would have left it alone."
    elif stand is Stand.ASKS and found.view:
        question = found.view["question"]
        effects = "; ".join([*(effect["text"] for effect in question["effects"]), question["ticket"]])
        told = f"{effects}." if decision is DecisionName.CONTAIN else question["nothing"]
    return {"decision": decision.value, "label": _LABELS[decision], "told": told}


def _notes(found: Sighting, stand: Stand, viewer: Viewer, said: Said | None) -> list[dict[str, Any]]:
    """What has to be said before everything else."""
    notes = [_note("good", _told(said))] if said and (said.what != "left" or stand is Stand.UNTOLD) else []
    if found.view is None:
        notes.append(_note("warn", _untold(found, viewer)))
    else:
        notes += _about_question(found.view, stand, viewer, answered=said is not None)
    if found.closed:
        notes.append(_note("", "The case is closed. What was done can be undone: python starter.py release."))
    return notes


def _note(kind: str, text: str, lines: Sequence[str] = ()) -> dict[str, Any]:
    return {"kind": kind, "text": text, "lines": lines}


def _told(said: Said) -> str:
    decision = said.decision.replace("_", " ")
    return _SAID[said.what].format(decision=decision, at=clock.exact(said.at, now()))


def _about_question(view: dict[str, Any], stand: Stand, viewer: Viewer, *, answered: bool) -> Iterator[dict[str, Any]]:
    question = view["question"]
    if stand is Stand.ASKS and viewer.analyst.casefold() in {a["analyst"].casefold() for a in question["approvals"]}:
        yield _note("good", "You have approved this. Somebody of another tier has to as well.")
    if stand is Stand.CHANGED and viewer.bound:
        yield _changed(view, viewer.bound)
    if stand is Stand.DECIDED and not answered:
        yield _note("", f"It is decided: {view['decided'].rstrip('.')}.")
    if stand is Stand.DECIDED and question:
        yield _note("warn", f"Another question stands now, {question['id']}: a newer mail has the link to it.")
    if stand is Stand.OVER and viewer.by_link:
        told = "This question is over: it was withdrawn, or the case was ended. There is nothing for you to do."
        yield _note("", told)


def _untold(found: Sighting, viewer: Viewer) -> str:
    told = "No worker answers just now, so details are not to be had. The case and its deadline are kept."
    if found.closed:
        return told
    if viewer.by_link:
        return f"{told} You can answer all the same: your answer is kept, and applied when a worker is back."
    return f"{told} To answer now, use the link in your mail."


def _changed(view: dict[str, Any], bound: Bound) -> dict[str, Any]:
    changes = changes_since(view, bound) or []
    told = "The world has changed since you were asked, so this link answers nothing any more."
    if view["question"]:
        told += f" A new question went out, {view['question']['id']}: look for the newer mail and answer by its link."
    if changes:
        told += " What has changed:"
    return _note("warn", told, changes)
