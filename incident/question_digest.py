"""The digest that binds an answer to its question: what was asked, about whom, and on what evidence."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from incident.evidence import Fact
from incident.guardrails import Context, Ground, Target, evaluate
from incident.matter import AccountTarget, HostTarget, Matter
from incident.policy import GuardrailPolicy
from incident.record import CaseRecord
from incident.triage import ActionName, RiskLevel


def matter_of(record: CaseRecord, actions: tuple[ActionName, ...], guardrails: GuardrailPolicy) -> Matter:
    """What a question about these actions is about, by the case as it stands."""
    host, user, device = record.host.value, record.user.value, record.device.value
    facts: dict[str, Fact[Any]] = {
        "host": record.host,
        "endpoint agent": record.device,
        "user": record.user,
        "risk": record.risk,
        "further alerts or events": record.corroboration,
    }
    return Matter(
        actions=actions,
        host=HostTarget(name=host.name, ip=host.ip, agent=device.id if device else None) if host else None,
        account=AccountTarget(name=user.account, dn=user.dn, guid=user.guid) if user else None,
        risk=record.risk_level or RiskLevel.UNKNOWN,
        corroborated=record.corroborated,
        verdicts={action: _verdict(record, action, guardrails) for action in actions},
        unknown=tuple(kind for kind, fact in facts.items() if not fact.known),
    )


def digest_of(case_key: str, question: str, matter: Matter) -> str:
    """SHA-256, in hexadecimal, of the question and its matter in the canonical form of RFC 8785."""
    bound = {"case": case_key, "question": question, "matter": matter.canonical()}
    # A lone surrogate has no octets in UTF-8; the names of vendors are text, and such a one stays what it looks like.
    return hashlib.sha256(rfc8785.dumps(_octets(bound))).hexdigest()


def target_of(record: CaseRecord, action: ActionName) -> Target | None:
    """What the action is about, by the case as it stands; ``None`` while it is not known."""
    if action is ActionName.DISABLE_ACCOUNT:
        return Target(person=record.user.value) if record.user.value else None
    return Target(host=record.host.value, device=record.device.value) if record.host.value else None


def _verdict(record: CaseRecord, action: ActionName, guardrails: GuardrailPolicy) -> str:
    target = target_of(record, action)
    if target is None:
        return "cannot be done"
    ruling = evaluate(action, target, Context(policy=guardrails, answered=True))
    return f"{ruling.allowance}" if ruling.ground is Ground.NONE else f"{ruling.allowance} ({ruling.ground})"


def _octets(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _octets(part) for key, part in value.items()}
    return [_octets(part) for part in value] if isinstance(value, list) else value
