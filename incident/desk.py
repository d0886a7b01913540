"""A case as the desk shows it: all that a person needs to decide, and who that person may be. The query ``desk``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from incident.decision import Electorate
from incident.evidence import Fact
from incident.guardrails import Context, Ground, Target, evaluate
from incident.policy import CasePolicy
from incident.record import Asked, CaseRecord, Event, Question
from incident.telling import action_line, decision_line, effect, fact_lines, headline, related, what_then
from incident.text import plain
from incident.triage import CONTAIN, ActionName

_SHOWN: Final = {"case_id", "reference", "stage", "priority", "priority_history", "decision", "dissent", "outcome"}
_ASKED: Final = {"id", "digest", "actions", "tier", "due_at", "posed_at", "protected", "quorum", "approvals", "seen"}
_EVENT: Final = 240
"""Characters of an event: four hundred of them have to fit into one answer."""

_CANNOT, _WRITTEN_DOWN, _AGAIN, _HANDS, _DONE = (
    "cannot be done",
    "written down, not done",
    "asked about once more",
    "left for hands",
    "done at once",
)


def desk_view(
    record: CaseRecord, policy: CasePolicy | None, electorate: Electorate | None, run_id: str
) -> dict[str, Any]:
    """The case for the desk, as JSON. Times are ISO 8601 in UTC; every text is untrusted and quoted for no grammar.

    ``electorate`` says who may see the case and answer it; it is for the desk's own use, and no page shows it. Without
    ``policy`` the case has only just begun: then nobody is known who may answer.
    """
    question = record.question
    return {
        **record.model_dump(mode="json", include=_SHOWN),
        "reference": record.reference,
        "run_id": run_id,
        "head": record.head,
        "headline": headline(record),
        "facts": _facts(record),
        "related": list(related(record)),
        "targets": targets(record, question.actions if question else CONTAIN),
        "question": _question(record, policy, question) if policy and question else None,
        "superseded": [one.model_dump(mode="json") for one in record.superseded],
        "decided": decision_line(record) if record.decision else None,
        "actions": [
            {"action": a.action.value, "state": a.state.value, "at": _iso(a.at), "text": action_line(a)}
            for a in record.actions
        ],
        "ticket": record.ticket.model_dump(mode="json") if record.ticket else None,
        "events": [_event(event) for event in record.events],
        "events_dropped": record.events_dropped,
        "electorate": electorate.model_dump(mode="json") if electorate else None,
    }


def targets(record: CaseRecord, actions: Iterable[ActionName]) -> dict[str, list[str]]:
    """What a person types to show that they know what they answer about: host and account of these actions.

    Where neither is known it is the address that the alert names.
    """
    wanted = set(actions)
    host = record.host.value if ActionName.QUARANTINE_HOST in wanted else None
    user = record.user.value if ActionName.DISABLE_ACCOUNT in wanted else None
    hosts = [host.name] if host else []
    accounts = [name for name in (user.account, user.upn) if name] if user else []
    return {
        "hosts": hosts,
        "accounts": accounts,
        "addresses": [] if hosts or accounts else [str(record.alert.destination_ip)],
    }


def names_target(typed: str, wanted: Mapping[str, Iterable[str]]) -> bool:
    """Whether what was typed names one of the ``targets``: without case, a host also by its label alone.

    A host's label alone means it where either of the two names lacks the domain; two domains have to be the same.
    """
    given = plain(typed).casefold().rstrip(".")
    if not given:
        return False
    whole = [plain(name).casefold() for kind in ("accounts", "addresses") for name in wanted.get(kind, ())]
    return given in whole or any(_means_host(given, plain(host).casefold()) for host in wanted.get("hosts", ()))


def name_after(typed: str, decision: str) -> str | None:
    """The name in what was typed, which is the answer's words and then a name, as in ``contain FIN-LT-042``.

    ``None`` where it is not. Words and name stand on the page, and nowhere there together: a program that tries the
    page's words one after the other does not come upon it, and a person says once more what they have chosen.
    """
    words = "[ _-]*".join(re.escape(word) for word in decision.split("_"))
    said = re.fullmatch(rf"{words}[ :,]+(?P<name>.+)", plain(typed), re.IGNORECASE) if decision else None
    return said["name"] if said else None


def _means_host(given: str, host: str) -> bool:
    host = host.rstrip(".")
    if given == host:
        return bool(host)
    short, label = given.partition(".")[0], host.partition(".")[0]
    return bool(label) and short == label and (short == given or label == host)


def _facts(record: CaseRecord) -> list[dict[str, Any]]:
    """The lines of the mail, with times that a program can read, and what was found where it was more than one."""
    facts: tuple[Fact[Any], ...] = (record.host, record.device, record.user, record.risk, record.corroboration)
    return [
        {
            **line.model_dump(include={"label", "value", "reason", "source"}),
            "at": _iso(fact.at),
            "candidates": [plain(name) for name in fact.candidates],
        }
        for line, fact in zip(fact_lines(record), facts, strict=True)
    ]


def _question(record: CaseRecord, policy: CasePolicy, question: Question) -> dict[str, Any]:
    return {
        **question.model_dump(mode="json", include=_ASKED),
        "why": question.why,
        "effects": [_effect(record, policy, action, question) for action in question.actions],
        "ticket": "the ticket is told" if record.ticket else "a ticket is opened",
        "nothing": "Nothing more is touched; what is done stays done."
        if question.protected
        else "Nothing is touched, no ticket is opened, and the case closes.",
        "what_then": what_then(policy, question),
        "asked": _asked(question.asked),
    }


def _effect(record: CaseRecord, policy: CasePolicy, action: ActionName, question: Question) -> dict[str, Any]:
    """One action: to whom, what the guardrails say, and what that means."""
    verdict, reason = _verdict(record, policy, action, approving=question.protected)
    return {
        "action": action.value,
        "text": effect(record, policy, action, approving=question.protected),
        "verdict": verdict,
        "reason": plain(reason),
    }


def _verdict(record: CaseRecord, policy: CasePolicy, action: ActionName, *, approving: bool) -> tuple[str, str]:
    if action is ActionName.QUARANTINE_HOST:
        missing: Fact[Any] = record.host if not record.host.value else record.device
        target = Target(host=record.host.value, device=record.device.value)
        known = record.host.value is not None and record.device.value is not None
    else:
        missing, target, known = record.user, Target(person=record.user.value), record.user.value is not None
    if not known:
        return _CANNOT, missing.reason or ""
    ruling = evaluate(action, target, Context(policy=policy.guardrails, answered=True, approved=approving))
    if ruling.ground is Ground.OBSERVED:
        return _WRITTEN_DOWN, ruling.reason
    if ruling.allows:
        return _DONE, ruling.reason
    return (_AGAIN if ruling.asks else _HANDS), ruling.reason


def _asked(asked: Iterable[Asked]) -> list[dict[str, Any]]:
    """Who was asked, a line a tier: since when, how often, and what went wrong with the mail."""
    tiers: dict[str, dict[str, Any]] = {}
    for mail in asked:
        line = tiers.setdefault(
            mail.tier, {"tier": mail.tier, "since": _iso(mail.at), "mails": 0, "recipients": [], "trouble": []}
        )
        line["mails"] += 1
        line["recipients"] = list(dict.fromkeys((*line["recipients"], *mail.recipients)))
        line["trouble"] += [mail.failed] if mail.failed else [f"{who}: {why}" for who, why in mail.refused.items()]
    return list(tiers.values())


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": _iso(event.at),
        "actor": event.actor,
        "source": event.source,
        "text": plain(event.text, limit=_EVENT),
    }


def _iso(at: Any) -> str | None:
    return at.isoformat() if at else None
