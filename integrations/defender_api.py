"""Microsoft Defender for Endpoint's API, below any one of its calls: login, envelope, and what its errors mean.

Shapes as in Microsoft's pages on the API (exposed-apis-create-app-webapp, common-errors, rate-limits): a token by
client credentials for an hour, ``{"error": {"code", "message", "target"}}`` for errors, ``Retry-After`` in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from integrations.entra_login import EntraLogin, object_of
from integrations.errors import BadAnswer, Misconfigured, NotYet
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, quoted

VENDOR = "Microsoft Defender"

RESOURCE = "https://api.securitycenter.microsoft.com"
"""What the token is for, whichever region's address is used; the clouds for US government have their own."""

MAX_PAGES = 10
"""How many pages of a list are read; one host has far fewer machines and actions."""

_IN_PROGRESS = "activerequestalreadyexists"


class ActionInProgress(NotYet):
    """Defender has an action of that kind for the machine and takes no second one (``ActiveRequestAlreadyExists``)."""


class DefenderApi:
    """Calls with a bearer token that is kept while it lasts.

    Args:
        base_url: the API; a regional address is taken too. Redirects are never followed.
        login_url: where tokens come from.
        tenant_id: the directory's id or domain.
        client_id: the registered application.
        client_secret: its secret.
        ca_file: PEM bundle to trust instead of the system's, for both addresses.
        total_seconds: how long one exchange may take in all.

    Raises:
        Misconfigured: ``tenant_id`` is none, or an address or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        login_url: str,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._http = VendorHttp(VENDOR, base_url, ca_file=ca_file, total_seconds=total_seconds)
        self._login = EntraLogin(
            login_url,
            tenant_id,
            client_id,
            client_secret,
            scope=_scope(base_url),
            ca_file=ca_file,
            total_seconds=total_seconds,
        )

    async def record(self, method: str, path: str, *, json: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One call whose answer is one object.

        Raises:
            ActionInProgress: there is such an action already. NotFound: there is no such machine or action.
            Unreachable, Busy, BadAnswer, Refused, Rejected, Misconfigured: see there.
        """
        answer = await self._call(method, path, json=json)
        self._raise_for_error(answer)
        return answer.json_object()

    async def listed(self, path: str, filter_by: str) -> list[dict[str, Any]]:
        """All rows that an OData filter leaves. 404 and an empty list both mean none.

        Raises:
            BadAnswer: the list has more than ``MAX_PAGES`` pages, or is none. Others as ``record``.
        """
        rows: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            params = {"$filter": filter_by} | ({"$skip": str(len(rows))} if rows else {})
            page, more = self._page(await self._call("GET", path, params=params))
            rows += page
            if not more or not page:
                return rows
        raise BadAnswer(f"{VENDOR} lists more at {path} than one host can have")

    async def first_page(self, path: str) -> Answer:
        """The answer to a list of at most one row, for the doctor. Raises what ``listed`` raises."""
        answer = await self._call("GET", path, params={"$top": "1"})
        self._page(answer)
        return answer

    async def log_in(self) -> str:
        """Get a new token, for the doctor. Raises what ``EntraLogin.log_in`` raises."""
        return await self._login.log_in()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._login.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call, repeated once with a new token if the answer is 401: then nothing has happened yet."""
        token = await self._login.bearer()
        answer = await self._send(method, path, token, params, json)
        if answer.status == 401:
            answer = await self._send(method, path, await self._login.bearer(worn=token), params, json)
        return answer

    async def _send(self, method: str, path: str, token: str, params: Mapping[str, str] | None, json: Any) -> Answer:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        return await self._http.send(method, path, params=params, json=json, headers=headers)

    def _page(self, answer: Answer) -> tuple[list[dict[str, Any]], bool]:
        """The rows of one answer, and whether there are more."""
        if answer.status == 404 and not answer.is_html:
            return [], False
        self._raise_for_error(answer)
        body = answer.json()
        rows = body.get("value") if isinstance(body, dict) else body
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadAnswer(f"{VENDOR} answered {answer.status} without a list of objects")
        return rows, isinstance(body, dict) and bool(body.get("@odata.nextLink"))

    def _raise_for_error(self, answer: Answer) -> None:
        """What a failure means: the one place where that is decided."""
        body = object_of(answer)
        error = body.get("error")
        told = error if isinstance(error, dict) else {}
        code = quoted(told.get("code"), secrets=self._login.secrets)
        words = ": ".join(filter(None, (code, quoted(told.get("message"), secrets=self._login.secrets))))
        if answer.status == 400 and code.lower() == _IN_PROGRESS:
            raise ActionInProgress(f"{VENDOR} has an action in progress for this machine ({words})")
        if answer.status == 403 and code.lower() == "disabledfeature":
            raise Misconfigured(f"{VENDOR}: the feature is switched off in this tenant ({words})")
        if answer.status == 404 and answer.is_html:
            raise Misconfigured(f"{VENDOR} has nothing there: is base_url the address of its API?")
        answer.raise_for_status(words=words)
        if error:
            raise BadAnswer(f"{VENDOR} answered {answer.status} with an error ({words or 'no reason told'})")


def _scope(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    return f"https://{host}/.default" if host.endswith(".microsoft.us") else f"{RESOURCE}/.default"
