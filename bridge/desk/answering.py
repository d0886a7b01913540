"""Giving an answer to its case: by the update where a worker answers, as a signal that waits where none does."""

from __future__ import annotations

import logging
from typing import Any

from temporalio.client import Client

from bridge.desk.forms import Filled
from bridge.desk.guard import Said
from bridge.desk.reading import Sighting, Unreachable
from bridge.desk.rendering import now
from bridge.desk.standing import Bound, Stand
from cases import CaseRefused, NotReached, NoWorker, decide_case, leave_answer
from incident.triage import CONTAIN

log = logging.getLogger("holdpoint.desk")


def asked_of(found: Sighting, stand: Stand) -> tuple[str, ...]:
    """The actions that an answer may choose from."""
    if stand is Stand.ASKS and found.view:
        return tuple(found.view["question"]["actions"])
    return tuple(action.value for action in CONTAIN) if stand is Stand.UNTOLD else ()


async def give(client: Client, found: Sighting, stand: Stand, bound: Bound, analyst: str, filled: Filled) -> Said:
    """Give an answer; tells what became of it. The same answer twice is one answer.

    Raises:
        CaseRefused: it does not count; the message says why.
        Unreachable: Temporal does not answer.
    """
    answer = filled.answer(analyst, bound.question, bound.digest, asked_of(found, stand))
    try:
        if stand is Stand.ASKS:
            what = await _decide(client, found.case_id, answer)
        elif stand is Stand.UNTOLD:
            await leave_answer(client, found.case_id, answer)
            what = "left"
        else:
            what = await _for_the_record(client, found, answer)
    except NotReached as error:
        log.warning("an answer could not be given: %s", error)
        raise Unreachable from None
    log.info("answer of %s to %s: %s, %s", analyst, bound.question, filled.decision, what, extra=about(found.case_id))
    return Said(what=what, decision=filled.decision, question=bound.question, at=now().isoformat())


def about(case_id: str) -> dict[str, Any]:
    """What makes a line of the log one about a case."""
    return {"temporal_workflow": {"workflow_id": case_id}}


async def _decide(client: Client, case_id: str, answer: dict[str, Any]) -> str:
    try:
        receipt = await decide_case(client, case_id, answer)
    except NoWorker:
        await leave_answer(client, case_id, answer)
        return "left"
    return "waits" if "waits_for" in receipt else "taken"


async def _for_the_record(client: Client, found: Sighting, answer: dict[str, Any]) -> str:
    """It is decided. What contradicts is kept; the same once more is what it was."""
    made = (found.view or {}).get("decision") or {}
    if made.get("decision") == answer["decision"]:
        mine = (made.get("analyst") or "").casefold() == answer["analyst"].casefold()
        return "taken" if mine else "same"
    if found.closed:
        raise CaseRefused("The case is closed: nothing can be added to it. Tell the SOC lead what you see otherwise.")
    await leave_answer(client, found.case_id, answer)
    return "dissent"
