"""Task queues: which integration a step belongs to, over which queue it goes, and how urgent a case is to Temporal."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from incident.triage import Priority

CASES: Final = "cases"
"""What the main queue is called where queues are named: cases, what a worker answers by itself, and all integrations
without a queue of their own."""


class Integration(StrEnum):
    """A system that steps talk to, and that may have a task queue of its own."""

    SIEM = "siem"
    DIRECTORY = "directory"
    ENDPOINT = "endpoint"
    TICKETING = "ticketing"
    IDENTITY = "identity"
    MAIL = "mail"
    CHAT = "chat"


_BY_PREFIX: Final = {
    **{integration.value: integration for integration in Integration},
    "notification": Integration.MAIL,
    "record": Integration.TICKETING,
}


def integration_of(step: str) -> Integration | None:
    """The integration whose credentials a step needs, by the name of its activity; ``None`` for what needs none."""
    return _BY_PREFIX.get(step.partition(".")[0])


def queue_of(integration: Integration, main: str) -> str:
    """The name of an integration's own task queue; ``main`` is that of the cases."""
    return f"{main}-{integration}"


def priority_key(priority: Priority) -> int:
    """A case's priority as Temporal's: 1 goes first, 3 is what has none, 5 goes last."""
    return len(Priority) - priority.rank


def fairness_key(tenant: str) -> str:
    """A tenant's line in Temporal's queues. A tenant's name fits: it has 64 characters at most, and so has the key."""
    return tenant
