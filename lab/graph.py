"""A stand-in for the part of Microsoft Graph that ends sessions: a token, a user by a name, and the revocation.

Shapes as in Microsoft's pages on the client credentials flow, ``user: get`` and ``user: revokeSignInSessions``.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.faults import Faults

_ERROR = b'{"error": {"code": "UnknownError", "message": "The request could not be processed."}}'


class GraphLab:
    """One tenant. Serve ``app``; it gives out tokens as well. ``revoked`` counts revocations by the user's id."""

    def __init__(self, *, tenant: str = "corp.example") -> None:
        self.tenant = tenant
        self.client_id = "holdpoint-lab"
        self.client_secret = f"lab-{secrets.token_urlsafe(16)}"
        self.revoked: Counter[str] = Counter()
        self._users: dict[str, dict[str, Any]] = {}
        self._tokens: set[str] = set()
        self.faults = Faults(
            Starlette(
                routes=[
                    Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                    Route("/v1.0/users/{name}", self._user, methods=["GET"]),
                    Route("/v1.0/users/{name}/revokeSignInSessions", self._revoke, methods=["POST"]),
                ]
            ),
            error_body=_ERROR,
        )

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    @property
    def tokens(self) -> frozenset[str]:
        """Every token that was given out."""
        return frozenset(self._tokens)

    def add_user(self, identity: str, *names: str) -> None:
        """A user with this id and these names, such as a UPN."""
        user = {"id": identity, "accountEnabled": True, "userPrincipalName": names[0], "onPremisesSyncEnabled": True}
        self._users.update(dict.fromkeys((identity, *names), user))

    async def _token(self, request: Request) -> Response:
        given = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        known = (given.get("client_id"), given.get("client_secret")) == (self.client_id, self.client_secret)
        if request.path_params["tenant"] != self.tenant or not known:
            return JSONResponse({"error": "invalid_client", "error_description": "AADSTS7000215"}, 401)
        token = secrets.token_hex(24)
        self._tokens.add(token)
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": token})

    def _found(self, request: Request) -> dict[str, Any] | Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            return _failure(401, "InvalidAuthenticationToken")
        return self._users.get(request.path_params["name"]) or _failure(404, "Request_ResourceNotFound")

    async def _user(self, request: Request) -> Response:
        found = self._found(request)
        return found if isinstance(found, Response) else JSONResponse(found)

    async def _revoke(self, request: Request) -> Response:
        found = self._found(request)
        if isinstance(found, Response):
            return found
        self.revoked[found["id"]] += 1
        return JSONResponse({"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#Edm.Boolean", "value": True})


def _failure(status: int, code: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": "told by the lab"}}, status)
