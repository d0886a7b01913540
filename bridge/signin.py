"""Signing in and out: ``/sign-in``, ``/sign-in/callback`` and ``/sign-out``, by the OpenID provider of the settings.

What a sign-in under way is held against (state, nonce, verifier) waits in a signed cookie of the browser that began it:
an answer that another browser brings is refused. Where somebody goes on to afterwards is a path of ours and is appended
to ``desk.url``, so that no address can lead elsewhere. Whatever goes wrong is a plain page that says what to do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import timedelta
from secrets import compare_digest
from urllib.parse import urlencode, urlsplit

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bridge.desk.rendering import Pages
from bridge.openid import Flow, NotAdmitted, NotProven, OpenId, new_flow
from bridge.session import Sessions, SignedCookie, csrf_holds
from integrations.errors import IntegrationError
from settings import SettingsRefused
from settings_bridge import DeskSettings

AT_ONCE = 3
"""So many sign-ins may be under way in one browser: somebody opens two links, and then answers the first."""

UNDER_WAY = timedelta(minutes=10)
"""For how long one may take."""

_PURPOSE = "holdpoint/sign-in/1"
_NAME = "holdpoint-sign-in"
_LOCAL = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?-][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
"""A path of ours with its query: one slash at the start, and nothing that a browser reads as one."""

_LONGEST_PATH = 600
_AGAIN = "Try again; it takes a few seconds."
_LINKS = "The links in the mails work without signing in."

log = logging.getLogger("holdpoint.sign_in")


class SignIn:
    """The sign-in of the desk. ``sessions`` are those who have signed in.

    Raises:
        SettingsRefused: ``desk`` lacks what a sign-in needs.
    """

    def __init__(self, desk: DeskSettings) -> None:
        missing = [
            f"desk.{name}: is missing, and desk.provider needs it"
            for name in ("url", "key", "oidc")
            if not getattr(desk, name)
        ]
        if desk.url is None or desk.oidc is None or missing:
            raise SettingsRefused(missing)
        self._url = desk.url
        self._pages = Pages(urlsplit(desk.url).path)
        secure = desk.url.startswith("https://")
        self.sessions = Sessions(desk.keys, desk.oidc.last, secure=secure)
        self._under_way = SignedCookie(_NAME, desk.keys, _PURPOSE, UNDER_WAY, secure=secure)
        self._provider = OpenId(desk.oidc, f"{desk.url}/sign-in/callback")

    def routes(self) -> list[Route]:
        """What an application serves for it; it keeps ``sessions`` as ``app.state.sessions``."""
        return [
            Route("/sign-in", self._begin, methods=["GET"]),
            Route("/sign-in/callback", self._back, methods=["GET"]),
            Route("/sign-out", self._end, methods=["POST"]),
            Route("/signed-out", self._ended, methods=["GET"]),
        ]

    async def aclose(self) -> None:
        """Close the connections to the provider."""
        await self._provider.aclose()

    async def _begin(self, request: Request) -> Response:
        flow = new_flow(local(request.query_params.get("next")))
        try:
            address = await self._provider.address(flow)
        except IntegrationError as error:
            return self._not_there(request, error)
        response = RedirectResponse(address, status_code=302)
        self._keep(response, [*self._flows(request), flow][-AT_ONCE:])
        return response

    async def _back(self, request: Request) -> Response:
        given = request.query_params
        flow = next((f for f in self._flows(request) if _same(f.state, given.get("state"))), None)
        if flow is None:
            return self._page(
                request, 400, "This sign-in cannot go on", "It was begun elsewhere, or took too long.", _AGAIN
            )
        response = await self._answered(request, flow)
        self._keep(response, [f for f in self._flows(request) if f.state != flow.state])
        return response

    async def _answered(self, request: Request, flow: Flow) -> Response:
        given = request.query_params
        code = given.get("code")
        if not code or "error" in given:
            said = given.get("error", "")
            log.warning("sign-in: the provider refused (%s)", said if re.fullmatch(r"[a-z_]{1,40}", said) else "?")
            told = "You are not signed in: the sign-in service says no, or you broke it off."
            return self._page(request, 403, "Not signed in", told, _AGAIN, flow.onward)
        try:
            who = await self._provider.identify(code, flow, issuer=given.get("iss"))
        except IntegrationError as error:
            return self._not_there(request, error, flow.onward)
        except NotProven as error:
            log.warning("sign-in refused: %s", error)
            told = "What the sign-in service answered does not prove who you are."
            return self._page(
                request,
                403,
                "Not signed in",
                told,
                f"{_AGAIN} If it happens again, tell whoever runs Holdpoint: its log says why.",
                flow.onward,
            )
        except NotAdmitted as error:
            log.warning("sign-in refused: %s", error)
            return self._page(request, 403, "Not signed in", str(error), "Whoever runs it can mend that.", flow.onward)
        response = RedirectResponse(self._url + flow.onward, status_code=303)
        self.sessions.begin(response, who.analyst, who.name)
        log.info("signed in: %s", who.analyst)
        return response

    async def _end(self, request: Request) -> Response:
        session = self.sessions.read(request)
        if session is not None:
            async with request.form(max_files=0, max_fields=10) as form:
                if not csrf_holds(session, form.get("csrf")):
                    told = "This was not asked for by a page of ours, so you are still signed in."
                    return self._page(request, 403, "Not signed out", told, "Go back to the desk and sign out there.")
        response = RedirectResponse(f"{self._url}/signed-out", status_code=303)
        self.sessions.end(request, response)
        return response

    async def _ended(self, request: Request) -> Response:
        told = "You are signed out here. You may still be signed in at the sign-in service."
        return self._page(request, 200, "Signed out", told, _LINKS)

    def _flows(self, request: Request) -> list[Flow]:
        told = self._under_way.read(request) or {}
        try:
            return [Flow.model_validate(one) for one in told.get("flows", ())]
        except ValidationError:
            return []

    def _keep(self, response: Response, flows: Sequence[Flow]) -> None:
        if flows:
            self._under_way.write(response, {"flows": [flow.model_dump() for flow in flows]})
        else:
            self._under_way.clear(response)

    def _not_there(self, request: Request, error: IntegrationError, onward: str = "/") -> Response:
        log.warning("sign-in: %s: %s", type(error).__name__, error)
        told = "The sign-in service does not answer as it should, so nobody can sign in just now."
        return self._page(request, 503, "Signing in does not work", told, f"{_LINKS} {_AGAIN}", onward)

    def _page(self, request: Request, status: int, title: str, what: str, advice: str, onward: str = "/") -> Response:
        again = f"/sign-in?{urlencode({'next': onward})}"
        return self._pages.plain(request, status, title, what, advice, onward=(again, "Sign in"))


def local(path: str | None) -> str:
    """Where to go on to: ``path`` if it is a page of ours that a sign-in may lead to, else the list."""
    if path is None or len(path) > _LONGEST_PATH or not _LOCAL.fullmatch(path):
        return "/"
    return "/" if urlsplit(path).path.startswith(("/sign-", "/signed-")) else path


def _same(ours: str, given: str | None) -> bool:
    return given is not None and compare_digest(ours.encode(), given.encode("utf-8", "replace"))
