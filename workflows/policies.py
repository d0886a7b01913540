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
CHAT: Final = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
)
"""A line in a channel: a few tries, and never a reason for a case to wait."""

CHAT_BUDGET: Final = timedelta(seconds=30)
"""How long it is tried in all."""

POLL: Final = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(minutes=4),
    heartbeat_timeout=_PULSE,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=1)),
)
"""A page of incidents, with a search for each that tells no address, and the start of its cases."""

COMMENT_BUDGET: Final = timedelta(days=1)
"""How long a comment that outlives its case is tried."""

OWN: Final = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
)
"""What a worker answers by itself or by asking Temporal."""

NEXT: Final = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15)),
)
"""Opening the case of those alerts that waited for another one to close."""

NEXT_BUDGET: Final = timedelta(days=7)
"""How long that is tried: nobody else has these alerts."""

OWN_BUDGET: Final = timedelta(minutes=2)
"""How long such a step is tried in all."""

TOLD_BUDGET: Final = timedelta(minutes=10)
"""How long a case stays open for a mail that asks nothing: who answered, and who disagrees."""

ELECTORATE_BUDGET: Final = timedelta(seconds=30)
"""How long a question waits for the directory to say whom it may be put to."""

WEIGHING_BUDGET: Final = timedelta(seconds=8)
"""How long an answer waits for the directory: whoever gave it is waiting, and gives up after ten seconds."""
