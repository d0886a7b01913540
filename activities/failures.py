"""From a vendor's failure to Temporal's: its type, whether it is tried again, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from incident.evidence import Fact
from integrations.errors import Ambiguous, IntegrationError, NotFound, NotInForce, NotYet


@contextmanager
def told_to_temporal() -> Iterator[None]:
    """Raise what Temporal acts on. The chain is cut: a cause may hold what must not enter a history."""
    try:
        yield
    except IntegrationError as error:
        awaited = isinstance(error, NotYet | NotInForce)
        if not awaited and activity.in_activity():
            _count(error)
        raise ApplicationError(
            str(error),
            type=type(error).__name__,
            non_retryable=not error.retryable,
            next_retry_delay=error.retry_after,
            category=ApplicationErrorCategory.BENIGN if awaited else ApplicationErrorCategory.UNSPECIFIED,
        ) from None


def _count(error: IntegrationError) -> None:
    """``holdpoint_integration_errors``: failed attempts, by integration (as the steps are named) and type of error."""
    meter = activity.metric_meter()
    told = {"integration": activity.info().activity_type.partition(".")[0], "error_type": type(error).__name__}
    meter.create_counter("holdpoint_integration_errors", "Attempts that an integration made fail").add(1, told)


def no_such_fact(error: NotFound | Ambiguous, source: str) -> Fact[Any]:
    """A vendor that answered and has nothing, or more than one: the fact is unknown, with the reason."""
    return Fact[Any].unknown(str(error), source=source, at=datetime.now(UTC))
