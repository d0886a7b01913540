"""What can go wrong with a vendor. One type a failure; retryable or not is decided here and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar


class IntegrationError(Exception):
    """A vendor did not do what was asked. The message is read by people and never holds a secret."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(IntegrationError):
    """No answer: refused, reset, timed out, or cut off. The request may have had its effect."""

    retryable = True


class Busy(IntegrationError):
    """The vendor asks to come back later (429, 5xx, LDAP busy); ``retry_after`` is its own wish, if it told one."""

    retryable = True


class BadAnswer(IntegrationError):
    """The answer is not what the vendor documents: HTML, truncated, empty, or missing what was asked for."""

    retryable = True


class Changed(IntegrationError):
    """The object was changed by somebody between our read and our write; read again, then decide again."""

    retryable = True


class NotYet(IntegrationError):
    """Accepted, and not in force so far: ask again."""

    retryable = True


class NotInForce(IntegrationError):
    """Asked for, and neither in force nor on its way by the vendor's word: ask again."""

    retryable = True


class Refused(IntegrationError):
    """The account that Holdpoint uses lacks the right."""


class Misconfigured(IntegrationError):
    """Wrong address, credentials or certificate: somebody has to mend the settings."""


class NotFound(IntegrationError):
    """There is no such object."""


class Ambiguous(IntegrationError):
    """More than one candidate; two candidates are no candidate."""


class Rejected(IntegrationError):
    """The vendor understood the request and says that it is wrong."""
