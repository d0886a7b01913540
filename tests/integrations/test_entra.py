"""Ending sessions through Graph, against a small server that speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from incident.requests import RevokeSignIns
from integrations.entra import Entra
from integrations.errors import Ambiguous, BadAnswer, Busy, IntegrationError, Misconfigured, NotFound, Refused
from lab.faults import Faults
from lab.serving import Served

SECRET = "the application's secret"
JDOE = RevokeSignIns(account="jdoe", upn="jdoe@corp.example", mails=("john.doe@corp.example",))


class Tenant:
    """Users by their names, and whose sessions were ended."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {"jdoe@corp.example": {"id": "u-1", "accountEnabled": False}}
        self.revoked: list[str] = []
        self.tokens: set[str] = set()
        self.value: object = True
        routes = [
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/v1.0/users", self._all),
            Route("/v1.0/users/{name}", self._user),
            Route("/v1.0/users/{id}/revokeSignInSessions", self._revoke, methods=["POST"]),
        ]
        self.faults = Faults(Starlette(routes=routes))

    async def _token(self, request: Request) -> Response:
        form = await request.body()
        if b"secret" not in form or b"graph.microsoft.com" not in form:
            return JSONResponse({"error": "invalid_client"}, 401)
        self.tokens = {f"token-{len(self.revoked)}-{self.faults.count('token')}"}
        return JSONResponse({"access_token": next(iter(self.tokens)), "expires_in": 3599})

    def _barred(self, request: Request) -> Response | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return None if given in self.tokens else JSONResponse({"error": {"code": "InvalidAuthenticationToken"}}, 401)

    async def _all(self, request: Request) -> Response:
        return self._barred(request) or JSONResponse({"value": []})

    async def _user(self, request: Request) -> Response:
        user = self.users.get(request.path_params["name"])
        missing = JSONResponse({"error": {"code": "Request_ResourceNotFound", "message": "no such user"}}, 404)
        return self._barred(request) or (JSONResponse(user) if user else missing)

    async def _revoke(self, request: Request) -> Response:
        barred = self._barred(request)
        if barred is None:
            self.revoked.append(request.path_params["id"])
        return barred or JSONResponse({"@odata.context": "x", "value": self.value})


@pytest.fixture
async def tenant() -> Tenant:
    return Tenant()


@pytest.fixture
async def entra(tenant: Tenant) -> AsyncIterator[Entra]:
    async with Served(tenant.faults) as served:
        made = Entra("corp.example", "app", SECRET, base_url=served.url, login_url=served.url)
        yield made
        await made.aclose()


async def test_the_one_account_is_signed_out(tenant: Tenant, entra: Entra) -> None:
    written = await entra.revoke(JDOE)
    assert (written.changed, tenant.revoked) == (True, ["u-1"])
    assert "disabled there" in written.detail


async def test_one_account_by_two_names_is_one(tenant: Tenant, entra: Entra) -> None:
    tenant.users["john.doe@corp.example"] = tenant.users["jdoe@corp.example"]
    await entra.revoke(JDOE)
    assert tenant.revoked == ["u-1"]


async def test_two_accounts_are_no_account(tenant: Tenant, entra: Entra) -> None:
    tenant.users["john.doe@corp.example"] = {"id": "u-2"}
    with pytest.raises(Ambiguous):
        await entra.revoke(JDOE)
    assert tenant.revoked == []


@pytest.mark.parametrize("names", [{"upn": "nobody@corp.example"}, {"upn": None}, {"upn": "a/../../me@x"}])
async def test_nobody_of_that_name(tenant: Tenant, entra: Entra, names: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        await entra.revoke(RevokeSignIns(account="jdoe", **names))
    assert tenant.revoked == []


async def test_a_worn_token_is_renewed_once(tenant: Tenant, entra: Entra) -> None:
    await entra.revoke(JDOE)
    tenant.tokens = set()
    await entra.revoke(JDOE)
    assert tenant.revoked == ["u-1", "u-1"]


@pytest.mark.parametrize(
    ("fault", "kind"), [("403", Refused), ("429", Busy), ("500", Busy), ("truncated", BadAnswer), ("empty", BadAnswer)]
)
async def test_each_failure_has_one_type(
    tenant: Tenant, entra: Entra, fault: Any, kind: type[IntegrationError]
) -> None:
    tenant.faults.add(fault, match="revokeSignInSessions", times=9)
    with pytest.raises(kind):
        await entra.revoke(JDOE)


async def test_an_answer_that_does_not_say_so(tenant: Tenant, entra: Entra) -> None:
    tenant.value = False
    with pytest.raises(BadAnswer):
        await entra.revoke(JDOE)


async def test_the_secret_is_in_no_message(tenant: Tenant, entra: Entra) -> None:
    tenant.faults.add("401", match="token", times=9)
    with pytest.raises(Misconfigured) as caught:
        await entra.revoke(JDOE)
    assert SECRET not in str(caught.value)


async def test_the_doctor(tenant: Tenant, entra: Entra) -> None:
    assert all(check.ok for check in await entra.check())
    assert tenant.revoked == []
    tenant.faults.add("403", match="/users", times=9)
    assert not all(check.ok for check in await entra.check())
