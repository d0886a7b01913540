"""Why a directory server did not do what was asked: the one place where its failures get their type.

References: RFC 4511, appendix A (result codes), MS-ERREF (the numbers in bind refusals).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from ldap3 import Connection
from ldap3.core.exceptions import LDAPException, LDAPStartTLSError

from integrations.errors import (
    Ambiguous,
    BadAnswer,
    Busy,
    Changed,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
    Unreachable,
)

BUSY, UNAVAILABLE = 51, 52
SIZE_LIMIT_EXCEEDED = 4

_BY_CODE: Mapping[int, tuple[type[IntegrationError], str]] = {
    2: (Rejected, "it does not understand the request"),
    3: (Busy, "it ran out of time"),
    SIZE_LIMIT_EXCEEDED: (Ambiguous, "more entries match than were asked for"),
    7: (Misconfigured, "it does not allow simple binds"),
    8: (Misconfigured, "it asks for a stronger way to sign in"),
    10: (Misconfigured, "it points to another server; check base_dn, and that no read-only server is listed"),
    11: (Rejected, "the request costs it too much"),
    12: (Rejected, "it does not offer what was asked for"),
    13: (Misconfigured, "it asks for encryption"),
    16: (Changed, "the value is not there any more"),
    17: (Rejected, "it does not know the attribute"),
    18: (Rejected, "it cannot match in that way"),
    19: (Rejected, "its rules forbid the value"),
    20: (Changed, "the value is there already"),
    21: (Rejected, "the value is malformed"),
    32: (NotFound, "there is no such entry"),
    34: (Rejected, "the distinguished name is malformed"),
    48: (Misconfigured, "it does not accept the way to sign in"),
    49: (Misconfigured, "it does not accept the credentials"),
    50: (Refused, "the account that Holdpoint uses lacks the right"),
    BUSY: (Busy, "it is busy"),
    UNAVAILABLE: (Busy, "it is unavailable"),
    53: (Rejected, "it is unwilling to do that"),
    64: (Rejected, "the name is not allowed"),
    65: (Rejected, "the entry would break the schema"),
    68: (Changed, "there is such an entry already"),
}
"""Result codes (RFC 4511, appendix A). Any other is an answer that makes no sense here."""

_BIND_FAULTS: Mapping[str, str] = {
    "525": "there is no such account",
    "52e": "the account name or the password is wrong",
    "530": "it may not sign in at this time",
    "531": "it may not sign in from this machine",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}
"""What Active Directory adds to invalidCredentials, as ``data 52e`` (Windows error numbers in hexadecimal)."""


def raise_for_result(result: Mapping[str, Any], url: str) -> None:
    """Raise what a result code means. Success is 0 alone: ldap3 lets 3, 4 and 10 pass as well."""
    code = result.get("result")
    if code == 0:
        return
    kind, meaning = _BY_CODE.get(code, (BadAnswer, "that makes no sense here")) if code else (BadAnswer, "no result")
    told = one_line(result.get("message") or "")
    raise kind(f"{url} answered {code} ({result.get('description')}): {meaning}" + (f" - {told}" if told else ""))


def bind_fault(result: Mapping[str, Any]) -> str:
    """Active Directory's words for why a bind was refused with invalidCredentials."""
    found = re.search(r"\bdata ([0-9a-f]{3,8})\b", str(result.get("message") or ""), re.IGNORECASE)
    number = found[1].lower() if found else None
    return _BIND_FAULTS.get(number or "", "the credentials are not accepted") + (f" (data {number})" if number else "")


def not_open(
    connection: Connection, tls_fault: OSError | None, error: LDAPException | OSError, url: str
) -> IntegrationError:
    """Why a connection did not come up. A TLS failure that time cannot heal is the settings' fault."""
    if isinstance(tls_fault, ssl.SSLCertVerificationError):
        return Misconfigured(f"{url}: the server's certificate is not trusted: {tls_fault.verify_message}")
    cut_off = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    if isinstance(tls_fault, ssl.SSLError) and not isinstance(tls_fault, cut_off):
        return Misconfigured(f"{url}: TLS cannot be agreed on ({tls_fault.reason}); is it the right port?")
    result = connection.result
    if tls_fault is None and isinstance(error, LDAPStartTLSError) and isinstance(result, dict):
        if result.get("result") in (BUSY, UNAVAILABLE):
            return Busy(f"{url}: StartTLS is not available now")
        return Misconfigured(f"{url}: it does not offer StartTLS ({result.get('description')})")
    return Unreachable(f"{url} cannot be reached: {one_line(tls_fault or error)}")


def worst_of(faults: Sequence[IntegrationError]) -> IntegrationError:
    """The one error to raise when no server worked: what somebody has to mend goes before what time may heal."""
    if len(faults) == 1:
        return faults[0]
    kind = next((k for k in (Misconfigured, Busy) if any(isinstance(f, k) for f in faults)), Unreachable)
    return kind("; ".join(map(str, faults))) if faults else Misconfigured("no directory server is configured")


def one_line(message: object) -> str:
    """A server's or library's words, fit for one line."""
    printable = "".join(character if character.isprintable() else " " for character in str(message))
    return " ".join(printable.split())[:300]
