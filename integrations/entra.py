"""Microsoft Entra ID over Graph: ending an account's sessions. The account itself is disabled in Active Directory.

Shapes as in Microsoft's page on ``user: revokeSignInSessions``. It needs ``User.Read.All`` and
``User.RevokeSessions.All``; tokens that were given out already live on for up to about an hour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from incident.requests import RevokeSignIns, Written
from integrations.entra_login import LOGIN_VENDOR, EntraLogin, object_of
from integrations.errors import Ambiguous, BadAnswer, IntegrationError, NotFound, Refused
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, clock_check, quoted
from integrations.interfaces import Check

VENDOR: Final = "Microsoft Graph"
BASE_URL: Final = "https://graph.microsoft.com"
LOGIN_URL: Final = "https://login.microsoftonline.com"
_SELECT: Final = "id,accountEnabled,userPrincipalName,onPremisesSyncEnabled"


class Entra:
    """Sign-ins of one tenant; satisfies ``integrations.interfaces.SignIns``.

    Raises:
        Misconfigured: ``tenant_id`` is none, or an address or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        *,
        base_url: str = BASE_URL,
        login_url: str = LOGIN_URL,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._http = VendorHttp(VENDOR, base_url, ca_file=ca_file, total_seconds=total_seconds)
        host = urlsplit(base_url).hostname or ""
        resource = f"https://{host}" if host.endswith((".us", ".cn")) else BASE_URL
        self._login = EntraLogin(
            login_url,
            tenant_id,
            client_id,
            client_secret,
            scope=f"{resource}/.default",
            ca_file=ca_file,
            total_seconds=total_seconds,
        )

    async def revoke(self, request: RevokeSignIns) -> Written:
        """End the sessions of the one account by any of these names. Repeating it does no harm.

        Raises:
            NotFound: the tenant knows none of the names. Ambiguous: they are two accounts.
            Unreachable, Busy, BadAnswer, Refused, Rejected, Misconfigured: see there.
        """
        names = dict.fromkeys(name.strip() for name in (request.upn or "", *request.mails) if "@" in name)
        found = {user["id"]: user for name in names if (user := await self._user(name)) is not None}
        if not found:
            raise NotFound(f"{VENDOR} knows no account of {quoted(request.account)}")
        if len(found) > 1:
            raise Ambiguous(f"{VENDOR} knows {len(found)} accounts by the names of {quoted(request.account)}")
        ((identity, user),) = found.items()
        answer = await self._call("POST", f"/v1.0/users/{quote(identity, safe='')}/revokeSignInSessions")
        self._raise_for_error(answer)
        if answer.json_object().get("value") is not True:
            raise BadAnswer(f"{VENDOR} does not say that the sessions were revoked")
        told = user.get("accountEnabled")
        enabled = ("enabled there" if told else "disabled there") if isinstance(told, bool) else "in a state not told"
        before = {"accountEnabled": str(told)}
        return Written(changed=True, before=before, detail=f"revoked; the account is {enabled}")

    async def check(self) -> list[Check]:
        """Read-only: login, certificate, the right to read users, clock. Raises nothing of ``errors``."""
        name = f"{VENDOR}: read users"
        try:
            await self._login.log_in()
        except IntegrationError as error:
            return [Check(name=f"{LOGIN_VENDOR}: login", ok=False, detail=str(error))]
        login = Check(name=f"{LOGIN_VENDOR}: login", ok=True, detail="token granted")
        try:
            answer = await self._call("GET", "/v1.0/users", params={"$top": "1", "$select": "id"})
            self._raise_for_error(answer)
        except IntegrationError as error:
            return [login, Check(name=name, ok=False, detail=str(error))]
        return [login, Check(name=name, ok=True, detail="users can be read"), clock_check(answer)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._login.aclose()

    async def _user(self, name: str) -> dict[str, Any] | None:
        answer = await self._call("GET", f"/v1.0/users/{quote(name, safe='')}", params={"$select": _SELECT})
        if answer.status == 404 and not answer.is_html:
            return None
        self._raise_for_error(answer)
        user = answer.json_object()
        if not isinstance(user.get("id"), str) or not user["id"]:
            raise BadAnswer(f"{VENDOR} tells a user without an id")
        return user

    async def _call(self, method: str, path: str, *, params: dict[str, str] | None = None) -> Answer:
        """One call, repeated once with a new token if the answer is 401: then nothing has happened yet."""
        token = await self._login.bearer()
        answer = await self._send(method, path, token, params)
        if answer.status == 401:
            answer = await self._send(method, path, await self._login.bearer(worn=token), params)
        return answer

    async def _send(self, method: str, path: str, token: str, params: dict[str, str] | None) -> Answer:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        return await self._http.send(method, path, params=params, headers=headers)

    def _raise_for_error(self, answer: Answer) -> None:
        """What a failure means: the one place where that is decided."""
        error = object_of(answer).get("error")
        told = error if isinstance(error, dict) else {}
        parts = (quoted(told.get(part), secrets=self._login.secrets) for part in ("code", "message"))
        words = ": ".join(filter(None, parts))
        if answer.status == 403:
            raise Refused(f"{VENDOR} refuses it: the application needs User.RevokeSessions.All ({words})")
        answer.raise_for_status(words=words)
        if error:
            raise BadAnswer(f"{VENDOR} answered {answer.status} with an error ({words or 'no reason told'})")
