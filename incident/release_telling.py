"""A release in words: for the Temporal Web UI, a terminal, a ticket and a mail. The same facts everywhere."""

from __future__ import annotations

import json
import shlex
from datetime import datetime

from incident.question import AnswerOption, FactLine, MailContext
from incident.record import ActionRecord
from incident.release import Left, Undo, left_alone
from incident.release_record import LeaseQuestion, ReleaseOutcome, ReleaseRecord
from incident.requests import ActionState
from incident.telling import clock
from incident.text import markdown, plain
from incident.triage import ActionName
from incident.waiting import asked_before, span

_UNDOING = {ActionName.QUARANTINE_HOST: "lift the quarantine of", ActionName.DISABLE_ACCOUNT: "enable account"}
_STANDS = {ActionName.QUARANTINE_HOST: "host cut off", ActionName.DISABLE_ACCOUNT: "account disabled"}
_STATES = {
    ActionState.REQUESTED: "requested, not done yet",
    ActionState.ACCEPTED: "accepted, not verified yet",
    ActionState.VERIFIED: "verified",
    ActionState.FAILED: "FAILED: left for hands",
    ActionState.UNREACHABLE: "accepted, and not carried out so far: left for hands",
    ActionState.LEFT_ALONE: "left alone",
}
_OUTCOMES = {
    ReleaseOutcome.RELEASED: "released",
    ReleaseOutcome.PARTIALLY_RELEASED: "partially released: the rest is left for hands",
    ReleaseOutcome.NOTHING_TO_RELEASE: "nothing was released",
    ReleaseOutcome.RELEASE_FAILED: "the release FAILED: left for hands",
    ReleaseOutcome.REFUSED: "refused",
}
_LONGEST_CASE_ID = 1000
_YOU, _WHY = "YOUR-MAIL-ADDRESS", "WHY"

SIGN_INS = "The sign-ins that were ended stay ended, which need not be undone: the user signs in again."


def undo_line(undo: Undo) -> str:
    """One undoing and how far it came."""
    detail = f" ({undo.detail})" if undo.detail else ""
    target = undo.target or "(unknown)"
    return plain(f"{_UNDOING[undo.action]} {target}: {_STATES.get(undo.state, undo.state)}{detail}, by {undo.by}")


def outcome_line(record: ReleaseRecord) -> str:
    """What came of it, by whom and why."""
    if record.outcome is None:
        return f"still {record.stage.replace('_', ' ')}"
    if record.refusal and not record.receipt:
        return plain(f"refused: {record.refusal}")
    by = f" by {record.by}: {record.reason}" if record.by else ""
    return plain(f"{_OUTCOMES[record.outcome]}{by}")


def sign_ins_line(record: ReleaseRecord) -> str | None:
    """What has to be said of ended sign-ins, where there are any."""
    actions = record.containment.actions if record.containment else ()
    released = {undo.key for undo in record.actions if undo.state is ActionState.VERIFIED}
    ended = any(a.sign_ins and not a.sign_ins.startswith("not revoked") for a in actions)
    return SIGN_INS if ended and any(key.startswith(ActionName.DISABLE_ACCOUNT) for key in released) else None


def done_lines(record: ReleaseRecord) -> list[str]:
    """Everything that was undone or left alone, one line each."""
    lines = [undo_line(undo) for undo in record.actions]
    if not lines:
        lines = ["the case changed nothing of what was asked for"]
    return [*lines, *filter(None, [sign_ins_line(record)])]


def lease_line(record: ReleaseRecord) -> str | None:
    """Until when the containment is leased, if it is."""
    if record.lease is None or record.lease_until is None:
        return None
    renewed = f", renewed by {record.renewed_by}" if record.renewed_by else ""
    return plain(f"leased until {clock(record.lease_until)}{renewed}; then somebody decides")


def summary(record: ReleaseRecord) -> list[str]:
    """The release in lines of plain text."""
    known = record.containment
    reference = f" ({known.reference}, run {known.run_id})" if known else ""
    lines = [plain(f"Release of case {record.case_id}{reference}", limit=_LONGEST_CASE_ID)]
    if record.by:
        lines += [plain(f"Asked for by {record.by}: {record.reason}")]
    lines += [line for line in (lease_line(record),) if line]
    lines += [f"  {line}" for line in done_lines(record)] if record.receipt else []
    return lines


def timeline(record: ReleaseRecord) -> str:
    """The release for a terminal: what it came to, then line by line what happened."""
    lines = [*summary(record), f"Outcome: {outcome_line(record)}", ""]
    lines += [f"{clock(event.at)}  {event.text}" for event in record.events]
    if record.events_dropped:
        lines.append(f"({record.events_dropped} lines in the middle were dropped)")
    return "\n".join(lines)


def note_text(record: ReleaseRecord, what: str, marker: str) -> str:
    """A note for the case's ticket. ``marker`` tells whether it is there already."""
    return "\n".join([plain(what), "", *summary(record), "", marker])


def _standing(action: ActionRecord) -> FactLine:
    value = plain(f"{action.target or '(unknown)'} since {clock(action.at)}, by {action.by}")
    return FactLine(label=_STANDS[action.action].capitalize(), value=value)


def facts(record: ReleaseRecord, now: datetime) -> tuple[FactLine, ...]:
    """What stands since when, what was undone, and what can not be undone and why."""
    standing = record.standing(now)
    lines = [_standing(action) for action in standing]
    lines += [FactLine(label="Released", value=undo_line(undo)) for undo in record.actions]
    known = record.containment
    for action in known.actions if known else ():
        left = left_alone(action, known, now) if known else None
        if left and left[0] is not Left.NOT_DONE:
            value = plain(f"{action.target or '(unknown)'}: {left[1]}")
            lines.append(FactLine(label=f"Not to be undone by Holdpoint ({action.action})", value=value))
    return tuple(lines)


def why_asked(record: ReleaseRecord, now: datetime) -> str:
    """Why somebody has to decide."""
    until = clock(record.lease_until) if record.lease_until else "now"
    what = "; ".join(f"{_STANDS[a.action]}: {a.target or '(unknown)'}" for a in record.standing(now))
    return plain(f"The lease of this containment ends at {until}. Release it, or renew it? What stands: {what}.")


def on_no_answer(record: ReleaseRecord, tier: str) -> str:
    """What happens when this tier does not answer: never a release, and never an end of the asking."""
    names = [t.name for t in record.containment.policy.tiers] if record.containment else []
    who = "the next tier is asked" if tier in names[:-1] else "the last tier is asked again until somebody answers"
    return f"everything stays as it is, and {who}"


def options(record: ReleaseRecord, question: LeaseQuestion, now: datetime) -> tuple[AnswerOption, ...]:
    """What each answer would do, and the commands that give it."""
    standing = record.standing(now)
    undoing = (
        "; ".join(f"{_UNDOING[a.action]} {a.target or '(unknown)'}" for a in standing) or "nothing is left to undo"
    )
    length = f" for another {record.lease}" if record.lease else ""
    return (
        _option(record, question, "release", tuple(a.action.value for a in standing), undoing),
        _option(record, question, "renew", (), f"leave everything as it is{length}, and ask again then"),
    )


def _option(
    record: ReleaseRecord, question: LeaseQuestion, word: str, actions: tuple[str, ...], told: str
) -> AnswerOption:
    payload = shlex.quote(json.dumps({"decision": word, "analyst": _YOU, "reason": _WHY, "question": question.id}))
    case = plain(record.case_id, limit=_LONGEST_CASE_ID)
    release = shlex.quote(f"release-{case}")
    return AnswerOption(
        decision=word,
        actions=actions,
        effect=plain(told),
        command_update=f"temporal workflow update execute --workflow-id {release} --name decide --input {payload}",
        command_signal=f"temporal workflow signal --workflow-id {release} --name analyst_decision --input {payload}",
        command_starter=f"python starter.py {word} {shlex.quote(case)} --analyst {_YOU} --reason {_WHY}",
    )


def mail_context(record: ReleaseRecord, tier: str, now: datetime, what: str | None = None) -> MailContext:
    """The context of a mail to a tier; it asks the standing question, or tells ``what``."""
    known, question = record.containment, record.question if what is None else None
    reference = known.reference if known else record.case_id
    return MailContext(
        headline=plain(f"Containment of case {reference}: {lease_line(record) or outcome_line(record)}."),
        case_id=record.case_id,
        question_id=question.id if question else None,
        tier=tier,
        asked_before=asked_before(question.asked, now) if question else (),
        due_at=clock(question.due_at) if question else None,
        due_in=span(question.due_at - now) if question else None,
        on_no_answer=on_no_answer(record, tier) if question else None,
        priority=known.priority.value if known else "medium",
        facts=facts(record, now),
        options=options(record, question, now) if question else (),
        what_changed=what or (question.why if question else None),
    )


def details(record: ReleaseRecord, now: datetime) -> str:
    """The release as Markdown, for the Temporal UI's current details."""
    lines = [f"**{record.stage.replace('_', ' ')}**: release of case {markdown(record.case_id)}", ""]
    if record.by:
        lines += [f"Asked for by {markdown(record.by)}: {markdown(record.reason or '')}", ""]
    if record.refusal:
        lines += [f"Refused: {markdown(record.refusal)}", ""]
    if lease := lease_line(record):
        lines += [f"The containment is {markdown(lease)}.", ""]
    lines += [f"- {line.label}: **{markdown(line.value or '')}**" for line in facts(record, now)]
    if record.question:
        lines += ["", *_markdown_question(record, record.question, now)]
    if record.outcome:
        lines += ["", f"Outcome: **{record.outcome}**"]
    return "\n".join(lines)


def _markdown_question(record: ReleaseRecord, question: LeaseQuestion, now: datetime) -> list[str]:
    lines = [
        f"### Waiting for {markdown(question.tier)} until {clock(question.due_at)}",
        f"{markdown(question.why)} If nobody answers: {on_no_answer(record, question.tier)}.",
    ]
    for option in options(record, question, now):
        lines += [
            "",
            f"**{option.decision}** would {markdown(option.effect)}:",
            "",
            "```",
            option.command_update,
            "```",
        ]
        lines += [
            "",
            "or as a signal, which is kept also while no worker runs:",
            "",
            "```",
            option.command_signal,
            "```",
        ]
    return lines
