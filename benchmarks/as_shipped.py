"""The settings that the benchmarks run with: those of ``holdpoint.example.toml``, and the alerts that start cases."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.instant import Row, address
from incident.alert import Alert, parse_alert
from incident.policy import CasePolicy
from incident.triage import Priority
from lab.servers import ROOT
from settings import Settings, case_policy

_NO_SECRET = "not a secret"  # noqa: S105
_FOREIGN = ("HOLDPOINT_", "TEMPORAL_", "OTEL_")
ROOM = 10**6
"""Containments an hour: as shipped, a benchmark would soon be told to ask a person instead."""


def forget_surroundings() -> None:
    """Take settings of Holdpoint, Temporal and telemetry out of this process's environment."""
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]


def shipped_settings() -> Settings:
    """The example's settings, with no secret in them; nothing is ever connected to."""
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = _NO_SECRET
    tree["endpoint"]["crowdstrike"]["client_secret"] = _NO_SECRET
    return Settings(**tree)


def shipped_policy(*, ledger: bool = True, **changes: Any) -> CasePolicy:
    """The snapshot that a new case carries, with ``changes`` to it."""
    policy = case_policy(shipped_settings())
    guardrails = policy.guardrails.model_copy(update={"max_per_hour": ROOM, "ledger": ledger})
    return policy.model_copy(update={"guardrails": guardrails, **changes})


def bench_alert(row: Row, number: int, mark: str, severity: Priority = Priority.MEDIUM) -> Alert:
    """An alert about a row's host of that number; ``mark`` makes its id."""
    ip = address(row, number)
    return parse_alert(
        {
            "id": f"SNX-{mark}",
            "rule": "Large data transfer from web server",
            "occurred_at": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
            "severity": severity.value,
            "source_ip": "198.51.100.2",
            "source_host": "web01",
            "destination_ip": ip,
            "bytes_transferred": 734003200,
            "tenant": "bench",
            "siem_incident_id": mark,
        }
    )
