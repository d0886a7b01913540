"""Cases, people and hostile text for the tests of the domain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from incident.alert import Alert, parse_alert
from incident.evidence import Corroboration, Device, Fact, Group, Host, Identity, Person, Risk, Sighting
from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from incident.record import CaseRecord

AT = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
DOMAIN = "S-1-5-21-1004336348-1177238915-682003330"

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            [
                *("\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\x00", "\n", "\r\n", "\u2028", "\u202e", "\u200b", "\x7f"),
                *("<script>alert(1)</script>", "```", "`", "~~~", "# h", "|", "[x](http://evil.example)", "**b**"),
                *("'", '"', "\\", "$(id)", ";", "--", "*", "%s", "{0}", " ", "web01", "j.doe", "w\u00fcrst"),
            ]
        ),
        max_size=10,
    ).map("".join),
)
"""Text that somebody who names hosts, rules or accounts would like us to print."""

NAMES = HOSTILE.filter(lambda text: bool(text.strip()))
"""The same, where there has to be something."""

SEVERITIES = st.sampled_from(["low", "medium", "high", "critical"])


def fields(**changed: Any) -> dict[str, Any]:
    """The alert of the contract, as decoded JSON."""
    whole: dict[str, Any] = {
        "id": "SNX-200417",
        "rule": "Large data transfer from web server",
        "occurred_at": "2026-03-14T12:34:56Z",
        "severity": "medium",
        "source_ip": "198.51.100.2",
        "source_host": "web01",
        "destination_ip": "10.20.30.40",
        "destination_host": None,
        "user_account": None,
        "bytes_transferred": 734003200,
        "tenant": "acme",
        "siem_incident_id": "200417",
        "event_ids": [],
    }
    return {**whole, **changed}


def alert(**changed: Any) -> Alert:
    """The alert of the contract."""
    return parse_alert(fields(**changed))


def person(**changed: Any) -> Person:
    """An ordinary employee."""
    whole: dict[str, Any] = {
        "account": "jdoe",
        "upn": "jane.doe@corp.example.com",
        "mails": ("jane.doe@example.com",),
        "display_name": "Jane Doe",
        "dn": "CN=Jane Doe,OU=People,DC=corp,DC=example,DC=com",
        "sid": f"{DOMAIN}-1104",
        "enabled": True,
        "user_account_control": 512,
        "groups": (Group(name="Domain Users", sid=f"{DOMAIN}-513"),),
        "managers": (Identity(account="boss", mails=("boss@example.com",)),),
    }
    return Person(**{**whole, **changed})


def device(**changed: Any) -> Device:
    """An ordinary workstation's agent."""
    whole: dict[str, Any] = {"id": "a1", "hostname": "ws-042", "kind": "Workstation", "containment": "normal"}
    return Device(**{**whole, **changed})


def tier(name: str, *analysts: str, **changed: Any) -> Tier:
    """A tier whose analysts are its recipients as well."""
    return Tier(
        **{"name": name, "recipients": analysts, "analysts": analysts, "wait": timedelta(minutes=15), **changed}
    )


def policy(**changed: Any) -> CasePolicy:
    """Settings of a case with two tiers."""
    whole: dict[str, Any] = {
        "medium_at": 30,
        "high_at": 70,
        "lookback": timedelta(days=7),
        "recheck_every": timedelta(minutes=10),
        "on_unanswered": OnUnanswered.HOLD,
        "enrich_within": timedelta(minutes=2),
        "contain_within": timedelta(minutes=15),
        "verify_within": timedelta(minutes=15),
        "ticket_within": timedelta(hours=4),
        "tiers": (tier("analyst", "ann@example.com"), tier("lead", "lea@example.com")),
        "guardrails": GuardrailPolicy(),
    }
    return CasePolicy(**{**whole, **changed})


def record(opened_by: Alert | None = None, case_id: str | None = None) -> CaseRecord:
    """A case that has just been opened."""
    first = opened_by or alert()
    return CaseRecord.opened(first, case_id or first.case_id, "5d1c8e9e-run", AT)


def learn(case: CaseRecord, name: str, *, host: str | None = None) -> CaseRecord:
    """Fill in every fact of a case; ``name`` is what the vendors call whatever has a name."""
    case.host = Fact[Host].of(Host(name=host or name, ip=case.alert.destination_ip), name, AT)
    case.user = Fact[Person].of(person(account=name, display_name=name, title=name, department=name), name, AT)
    case.device = Fact[Device].of(device(hostname=name, kind=name, containment=name), name, AT)
    case.risk = Fact[Risk].of(Risk(score=50, documents=1), name, AT)
    sighting = Sighting(kind="alert", id="1", name=name, about=name, at=AT)
    case.corroboration = Fact[Corroboration].of(Corroboration(total=1, sightings=(sighting,)), name, AT)
    return case
