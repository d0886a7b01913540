"""Microsoft's tokens by client credentials, shared by every Microsoft API: fetched once, kept while they last.

Shapes as in Microsoft's page on the OAuth 2.0 client credentials flow: a form to ``/{tenant}/oauth2/v2.0/token``, a
bearer token for about an hour.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from pathlib import Path
from typing import Any

from integrations.errors import BadAnswer, Busy, Misconfigured
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, quoted

LOGIN_VENDOR = "Microsoft Entra"

TOKEN_LIFE_SECONDS = 3599.0
"""How long a token lives when the answer does not say it."""

TOKEN_MARGIN_SECONDS = 300.0
"""How long before its end a token is renewed; half its life if it is a short one."""

_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]+")
_TENANT = re.compile(r"[A-Za-z0-9.-]{1,253}")
_LOGIN_LATER = ("temporarily_unavailable", "server_error")


class EntraLogin:
    """One application's tokens for one resource.

    Args:
        login_url: where tokens come from.
        tenant_id: the directory's id or domain.
        client_id: the registered application.
        client_secret: its secret.
        scope: what the token is for, as ``https://resource/.default``.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Raises:
        Misconfigured: ``tenant_id`` is none, or the address or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        login_url: str,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        if not _TENANT.fullmatch(tenant_id):
            raise Misconfigured(f"{quoted(tenant_id)!r} is not the id of a {LOGIN_VENDOR} tenant")
        self._http = VendorHttp(LOGIN_VENDOR, login_url, ca_file=ca_file, total_seconds=total_seconds)
        self._path = f"/{tenant_id}/oauth2/v2.0/token"
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": scope,
        }
        self._one_login = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat."""
        return self._form["client_secret"], self._token or ""

    async def bearer(self, *, worn: str | None = None) -> str:
        """A token other than ``worn``. Calls that find the same one worn share one login. Raises as ``log_in``."""
        async with self._one_login:
            if self._token is None or self._token == worn or time.monotonic() >= self._renew_at:
                return await self.log_in()
            return self._token

    async def log_in(self) -> str:
        """Get a new token, whether the old one still lasts or not.

        Raises:
            Misconfigured, Busy, BadAnswer, Unreachable, Rejected: no token came.
        """
        answer = await self._http.send("POST", self._path, form=self._form)
        body = object_of(answer)
        said = quoted(body.get("error_description") or body.get("error"), secrets=self.secrets)
        words = f" ({said})" if said else ""
        if body.get("error") in _LOGIN_LATER:
            raise Busy(f"{LOGIN_VENDOR} answered {answer.status} to the login{words}", retry_after=answer.retry_after())
        if answer.status in (400, 401, 403, 404):
            raise Misconfigured(
                f"{LOGIN_VENDOR} answered {answer.status} to the login: check tenant_id, client_id, client_secret and "
                f"login_url{words}"
            )
        answer.raise_for_status(words=said)
        body = answer.json_object()
        token = body.get("access_token")
        if not isinstance(token, str) or not _BEARER.fullmatch(token):
            raise BadAnswer(f"{LOGIN_VENDOR} answered {answer.status} to the login without a usable access_token")
        life = _seconds(body.get("expires_in")) or TOKEN_LIFE_SECONDS
        self._renew_at = time.monotonic() + max(life - TOKEN_MARGIN_SECONDS, life / 2)
        self._token = token
        return token

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def object_of(answer: Answer) -> dict[str, Any]:
    """The body if it is a JSON object, else an empty one."""
    try:
        return answer.json_object()
    except BadAnswer:
        return {}


def _seconds(value: object) -> float | None:
    """A positive number of seconds, or text that spells one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
