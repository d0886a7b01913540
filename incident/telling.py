"""A case in words: for the Temporal Web UI, a terminal, a ticket and a mail. The same facts everywhere."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any

from incident.evidence import Fact
from incident.guardrails import Context, Ground, Ruling, Target, evaluate
from incident.policy import CasePolicy, OnUnanswered
from incident.question import AnswerOption, FactLine, MailContext
from incident.record import ActionRecord, CaseRecord, Question
from incident.requests import ActionState
from incident.text import markdown, plain
from incident.triage import ActionName, RiskLevel
from incident.waiting import approved_so_far, approvers, asked_before, span

_ON_UNANSWERED = {
    OnUnanswered.HOLD: "a ticket is opened and the last tier is asked again until somebody answers",
    OnUnanswered.DISABLE_ACCOUNT: "the account is disabled by the declared default",
    OnUnanswered.CONTAIN: "host and account are contained by the declared default",
    OnUnanswered.CLOSE: "the case closes unanswered and nothing is touched",
}
_VERBS = {ActionName.QUARANTINE_HOST: "quarantine host", ActionName.DISABLE_ACCOUNT: "disable account"}
_STATES = {
    ActionState.REQUESTED: "requested, not verified yet",
    ActionState.ACCEPTED: "accepted, not verified yet",
    ActionState.IN_FORCE: "in force, not confirmed by another server",
    ActionState.VERIFIED: "verified",
    ActionState.PARTIAL: "in force at one server, not at another: left for hands",
    ActionState.FAILED: "FAILED",
    ActionState.UNREACHABLE: "requested, not in force so far: left for hands",
    ActionState.LEFT_ALONE: "left alone",
    ActionState.OBSERVED: "would have been done; observe mode, nothing was touched",
}
_MAX_JOINED = 50
_MAX_WAITING = 10
_LONGEST_CASE_ID = 1000
_LONGEST_NAME = 60
_YOU, _WHY = "YOUR-MAIL-ADDRESS", "WHY"


DEFAULT_NAMESPACE = "default"
"""Where Temporal's own programs look for a workflow when they are not told."""


def clock(at: datetime) -> str:
    """A time ready to read, in UTC, to the second."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def size(count: int | None) -> str:
    """A number of bytes, ready to read."""
    if count is None:
        return "an unknown amount"
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def headline(record: CaseRecord) -> str:
    """What happened, in one sentence. Untrusted text in it is plain, and quoted for no grammar yet."""
    alert = record.alert
    source = (
        " ".join(filter(None, (alert.source_host, f"({alert.source_ip})" if alert.source_ip else ""))) or "a server"
    )
    host = record.host.value
    target = f"{host.name} ({host.ip})" if host else f"{alert.destination_ip} (host unknown)"
    return plain(
        f"{size(alert.bytes_transferred)} went from {source} to {target} on {clock(alert.occurred_at)}"
        f" ({alert.rule or 'no rule named'}, alert {alert.id})."
    )


def _fact(label: str, fact: Fact[Any], value: Any) -> FactLine:
    at = clock(fact.at) if fact.at else None
    if not fact.known:
        return FactLine(label=label, reason=plain(fact.reason or ""), source=fact.source, at=at)
    return FactLine(label=label, value=plain(value(fact.value)), source=fact.source, at=at)


def fact_lines(record: CaseRecord) -> tuple[FactLine, ...]:
    """What is known and what is not, one line a fact."""
    level = record.risk_level.value if record.risk_level else "not triaged"
    return (
        _fact("Host", record.host, lambda host: f"{host.name} ({host.ip})"),
        _fact("Endpoint agent", record.device, lambda device: f"{device.kind or 'host'}, {device.containment}"),
        _fact("User", record.user, _person),
        _fact("Risk", record.risk, lambda risk: f"{level} (score {risk.score:g})"),
        _fact(
            "Further alerts or events", record.corroboration, lambda found: str(found.total) if found.found else "none"
        ),
    )


def _person(person: Any) -> str:
    about = ", ".join(filter(None, (person.display_name, person.title, person.department)))
    state = "" if person.enabled else " [disabled already]"
    return f"{person.account}{f' ({about})' if about else ''}{state}"


def related(record: CaseRecord) -> tuple[str, ...]:
    """Further alerts and events, one line each."""
    found = record.corroboration.value
    joined = [f"alert {plain(alert)} joined this case" for alert in record.alerts[1 : _MAX_JOINED + 1]]
    if record.joined.total > _MAX_JOINED + 1:
        joined.append(f"and {record.joined.total - _MAX_JOINED - 1} more alerts joined")
    joined += [f"in all {record.joined.tally.line()}"] if record.joined.tally.count > _MAX_JOINED else []
    joined += [f"alert {plain(one.id)} is about somebody else and waits" for one in record.joined.others[:_MAX_WAITING]]
    sightings = [
        plain(f"{s.kind} {s.name} about {s.about}" + (f" at {clock(s.at)}" if s.at else ""))
        for s in (found.sightings if found else ())
    ]
    return (*joined, *sightings)


def effect(record: CaseRecord, policy: CasePolicy, action: ActionName, *, approving: bool) -> str:
    """What an action would do and to whom, or why it cannot be done."""
    if action is ActionName.QUARANTINE_HOST:
        fact: Fact[Any] = record.device if record.host.known else record.host
        host = record.host.value
        ruling = _ruling(action, Target(host=host, device=record.device.value), policy) if host else None
        target = host.name if host else None
    else:
        fact = record.user
        user = record.user.value
        ruling = _ruling(action, Target(person=user), policy) if user else None
        target = user.account if user else None
    if not fact.known or target is None:
        return plain(f"cannot {_VERBS[action]}: {fact.reason}")
    text = f"{_VERBS[action]} {target}"
    if ruling and ruling.ground is Ground.OBSERVED:
        text = f"write down, and not do: {text} ({ruling.reason})"
    elif ruling and not ruling.allows and not approving:
        again = "asked about once more on its own" if ruling.asks else "left for hands"
        text += f" ({again}: {ruling.reason})"
    return plain(text)


def _ruling(action: ActionName, target: Target, policy: CasePolicy) -> Ruling:
    return evaluate(action, target, Context(policy=policy.guardrails, answered=True))


def options(
    record: CaseRecord, policy: CasePolicy, question: Question, namespace: str = DEFAULT_NAMESPACE
) -> tuple[AnswerOption, ...]:
    """What each answer would do, and the commands that give it. ``namespace`` is Temporal's, where the case is."""
    effects = [effect(record, policy, action, approving=question.protected) for action in question.actions]
    nothing = (
        "touch nothing more; what is done stays done" if question.protected else "touch nothing and close the case"
    )
    contain = "; ".join([*effects, "and tell the ticket" if record.ticket else "and open a ticket"])
    names = [(action, name) for action in question.actions if (name := _target(record, action))]
    whom = " and ".join(name for _, name in names)
    # Not "Contain" and the name alone: that is what somebody types to show that they are no program (incident.desk).
    kind = ("host " if names[0][0] is ActionName.QUARANTINE_HOST else "account ") if names else ""
    wrong = f"leave {whom or 'it'} alone" if question.protected else "close the case"
    found = (
        ("contain", tuple(a.value for a in question.actions), contain, f"Contain {kind}{whom}".rstrip()),
        ("false_positive", (), nothing, f"False positive: {wrong}"),
    )
    return tuple(_option(record.case_id, question, namespace, *option) for option in found)


def _target(record: CaseRecord, action: ActionName) -> str | None:
    if action is ActionName.QUARANTINE_HOST:
        return plain(record.host.value.name, _LONGEST_NAME) if record.host.value else None
    return plain(record.user.value.account, _LONGEST_NAME) if record.user.value else None


def _option(
    case_id: str, question: Question, namespace: str, decision: str, actions: tuple[str, ...], told: str, button: str
) -> AnswerOption:
    answer = {"decision": decision, "analyst": _YOU, "reason": _WHY, "question": question.id}
    payload = shlex.quote(json.dumps(answer))
    case = shlex.quote(plain(case_id, limit=_LONGEST_CASE_ID))
    # A shell that knows no other looks in the namespace "default".
    there = "" if namespace == DEFAULT_NAMESPACE else f"--namespace {shlex.quote(plain(namespace))} "
    return AnswerOption(
        decision=decision,
        actions=actions,
        effect=told,
        button=button,
        command_update=f"temporal workflow update execute {there}--workflow-id {case} --name decide --input {payload}",
        command_signal=f"temporal workflow signal {there}--workflow-id {case} --name analyst_decision"
        f" --input {payload}",
        command_starter=f"python starter.py decide {case} {decision} --analyst {_YOU} --reason {_WHY}"
        f" --question {question.id}",
    )


def priority_lines(record: CaseRecord) -> tuple[str, ...]:
    """How the priority came to be, the oldest first."""
    return tuple(f"{change.priority} ({change.reason}) at {clock(change.at)}" for change in record.priority_history)


def what_then(policy: CasePolicy, question: Question) -> str:
    """What happens when this tier does not answer."""
    names = [tier.name for tier in policy.tiers]
    if question.tier in names[:-1]:
        raised = ", and the priority goes up one level" if question.tier == names[0] else ""
        return f"the next tier is asked{raised}"
    if question.protected and policy.on_unanswered is not OnUnanswered.HOLD:
        return "it is left alone: what is protected is never contained without a person"
    return _ON_UNANSWERED[policy.on_unanswered]


def mail_context(
    record: CaseRecord,
    policy: CasePolicy,
    *,
    tier: str,
    now: datetime,
    what_changed: str | None = None,
    namespace: str = DEFAULT_NAMESPACE,
) -> MailContext:
    """The context of a mail to a tier; with a question it asks, without one it tells. ``now`` is when it is sent."""
    question = record.question if what_changed is None else None
    return MailContext(
        headline=headline(record),
        case_id=record.case_id,
        question_id=question.id if question else None,
        tier=tier,
        asked_before=asked_before(question.asked, now) if question else (),
        due_at=f"{question.due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if question else None,
        due_in=span(question.due_at - now) if question else None,
        quorum=question.quorum if question else 1,
        approvers=approvers(question) if question else (),
        approvals=approved_so_far(question, now) if question else (),
        on_no_answer=what_then(policy, question) if question else None,
        priority=record.priority.value,
        priority_history=priority_lines(record),
        facts=fact_lines(record),
        related=related(record),
        options=options(record, policy, question, namespace) if question else (),
        what_changed=what_changed or (question.why if question else None),
    )


def action_line(action: ActionRecord) -> str:
    """An action and how far it came."""
    notes = [action.detail] if action.detail else []
    if action.pending_until:
        notes.append(f"looked for until {clock(action.pending_until)}")
    if action.sign_ins:
        notes.append(f"sign-ins {action.sign_ins}")
    detail = f" ({'; '.join(notes)})" if notes else ""
    who = " and ".join(action.approvals) or action.by
    return plain(f"{_VERBS[action.action]} {action.target or '(unknown)'}: {_STATES[action.state]}{detail}, by {who}")


def details(record: CaseRecord, policy: CasePolicy | None, namespace: str = DEFAULT_NAMESPACE) -> str:
    """The case as Markdown, for the Temporal UI's current details."""
    lines = [
        f"**{record.stage.replace('_', ' ')}**, priority **{record.priority}**",
        "",
        markdown(headline(record)),
        "",
    ]
    lines += [_markdown_fact(line) for line in fact_lines(record)]
    lines += ["", "Priority: " + " → ".join(markdown(line) for line in priority_lines(record)), ""]
    lines += [f"- {markdown(line)}" for line in related(record)]
    if record.question and policy:
        lines += ["", *_markdown_question(record, policy, record.question, namespace)]
    if record.decision:
        lines += ["", f"Decided: {markdown(decision_line(record))}"]
    lines += [f"- {markdown(action_line(action))}" for action in record.actions]
    if record.ticket:
        lines += ["", f"Ticket: {markdown(ticket_line(record))}"]
    if record.outcome:
        lines += ["", f"Outcome: **{record.outcome}**"]
    return "\n".join(lines)


def _markdown_fact(line: FactLine) -> str:
    source = f" ({markdown(line.source)}, {line.at})" if line.source and line.at else ""
    if line.known:
        return f"- {line.label}: **{markdown(line.value or '')}**{source}"
    return f"- {line.label}: *unknown*: {markdown(line.reason or '')}{source}"


def _markdown_question(record: CaseRecord, policy: CasePolicy, question: Question, namespace: str) -> list[str]:
    lines = [
        f"### Waiting for {markdown(question.tier)} until {clock(question.due_at)}",
        f"{markdown(question.why)} If nobody answers: {what_then(policy, question)}.",
        "",
    ]
    for option in options(record, policy, question, namespace):
        lines += [
            f"**{option.decision}** would {markdown(option.effect)}:",
            "",
            "```",
            option.command_update,
            "```",
            "",
            f"or {option.decision} as a signal, which is kept also while no worker runs:",
            "",
            "```",
            option.command_signal,
            "```",
            "",
        ]
    return lines[:-1]


def why_asked(record: CaseRecord) -> str:
    """Why a person has to decide: what is not known, or that nothing corroborates."""
    if record.user.value is None:
        return f"The user is not known, and so neither is the risk: {record.user.reason}."
    if record.risk_level in (None, RiskLevel.UNKNOWN):
        return f"The user's risk is not known: {record.risk.reason}."
    if not record.corroboration.known:
        return f"Risk is {record.risk_level}, and further alerts are not known: {record.corroboration.reason}."
    return f"Risk is {record.risk_level}, and nothing else is known about the host or the user."


def decision_line(record: CaseRecord) -> str:
    """Who decided what, and why."""
    decision = record.decision
    if decision is None:
        return "not decided"
    who = decision.analyst or f"the {decision.by}"
    what = f" ({', '.join(decision.actions)})" if decision.actions else ""
    return plain(f"{decision.decision}{what} by {who}: {decision.reason}")


def ticket_line(record: CaseRecord) -> str:
    """The ticket's number, or why there is none."""
    ticket = record.ticket
    if ticket is None:
        return "none"
    return plain(f"{ticket.number} {ticket.url or ''}" if ticket.state == "open" else f"failed: {ticket.reason}")


def summary(record: CaseRecord) -> list[str]:
    """The case in lines of plain text: for the ticket and the terminal."""
    lines = [headline(record), "", f"Case {plain(record.case_id)} ({record.reference}), priority {record.priority}"]
    for line in fact_lines(record):
        known = line.value if line.known else f"UNKNOWN: {line.reason}"
        source = f" [{plain(line.source)}, {line.at}]" if line.source and line.at else ""
        lines.append(f"{line.label}: {known}{source}")
    lines += ["", "Priority history:", *(f"  {line}" for line in priority_lines(record))]
    if related(record):
        lines += ["", "Related:", *(f"  {line}" for line in related(record))]
    lines += ["", f"Decision: {decision_line(record)}"]
    lines += [f"  {action_line(action)}" for action in record.actions]
    return lines


def timeline(record: CaseRecord) -> str:
    """The case for a terminal: what is known, then line by line what happened."""
    lines = [*summary(record), f"Ticket: {ticket_line(record)}", f"Outcome: {record.outcome or record.stage}", ""]
    lines += [f"{clock(event.at)}  {event.text}" for event in record.events]
    if record.events_dropped:
        lines.append(f"({record.events_dropped} lines in the middle were dropped)")
    return "\n".join(lines)


def ticket_title(record: CaseRecord) -> str:
    """Neutral: a ticket's title is seen by more people than its text."""
    return f"Security case {record.reference} ({record.priority})"
