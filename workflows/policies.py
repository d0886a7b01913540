"""How each kind of step is tried again, by name; no numbers at call sites. Budgets come from the case's policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy

_ATTEMPT = timedelta(seconds=45)
"""One attempt: a login, a search and its pages, each bounded by the client; or one LDAP operation over all servers."""

_PULSE = timedelta(seconds=10)
"""A worker that has not been heard of for so long is gone, and its step is given to another."""

READ: Final = workflow.ActivityConfig(
    start_to_close_timeout=_ATTEMPT,
    heartbeat_timeout=_PULSE,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
)
WRITE: Final = workflow.ActivityConfig(
    start_to_close_timeout=_ATTEMPT,
    heartbeat_timeout=_PULSE,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
)
READ_BACK: Final = workflow.ActivityConfig(
    start_to_close_timeout=_ATTEMPT,
    heartbeat_timeout=_PULSE,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=1.5, maximum_interval=timedelta(seconds=15)
    ),
)
TICKET: Final = workflow.ActivityConfig(
    start_to_close_timeout=_ATTEMPT,
    heartbeat_timeout=_PULSE,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=2)),
)
MAIL: Final = workflow.ActivityConfig(
    start_to_close_timeout=_ATTEMPT,
    heartbeat_timeout=_ATTEMPT,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=1)),
)
OWN: Final = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
)
"""What a worker answers by itself or by asking Temporal."""

OWN_BUDGET: Final = timedelta(minutes=2)
"""How long such a step is tried in all."""
