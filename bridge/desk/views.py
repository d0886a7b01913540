"""The desk's routes for one case: by the link in a mail, and for people who are signed in."""

from __future__ import annotations

import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from temporalio.client import Client

from bridge.desk.access import is_analyst, may_see
from bridge.desk.answering import about, asked_of, give
from bridge.desk.case_pages import Viewer, case_page
from bridge.desk.forms import Faults, Filled, FormRefused, check, read_form
from bridge.desk.guard import Cookies, Tries
from bridge.desk.reading import Reader, Sighting, Unreachable
from bridge.desk.rendering import Pages, now
from bridge.desk.standing import Bound, Stand, stand_of, version_of
from bridge.session import Session, csrf_holds, session_of
from cases import CaseRefused, NoSuchCase, note_seen
from incident.desk import name_after, names_target
from incident.links import LinkClaim, LinkExpired, LinkRefused, read
from settings import Settings

_MOST_SEEN: Final = 5000
_RUN: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STALE = "This form was opened elsewhere, or too long ago. Nothing was done: look at it once more and send it again."
_UNSAID = "Type the answer that you chose, a space, and the name of the host or of the account as it stands above."
_WRONG = "This is not the name of the host or of the account. Look above, and type it as it stands there."

log = logging.getLogger("holdpoint.desk")

Handler = Callable[[Request], Awaitable[Response]]


class Turned(Exception):
    """Whoever asks is turned away with a page."""

    def __init__(self, response: Response) -> None:
        self.response = response


class CaseViews:
    """One case on one page, and its answer."""

    def __init__(self, client: Client, settings: Settings, reader: Reader, pages: Pages) -> None:
        self._client = client
        self._settings = settings
        self._reader = reader
        self._pages = pages
        self._tries = Tries()
        self._noted: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        url = settings.desk.url or ""
        keys = settings.desk.keys or (secrets.token_urlsafe(32),)
        self._cookies = Cookies(keys, secure=url.startswith("https://"), path=f"{urlsplit(url).path}/")

    def routes(self) -> list[Route]:
        """The case's page and its state, by link and for a session."""
        return [
            Route("/answer/{token}", self._guarded(self._by_link), methods=["GET", "POST"]),
            Route("/state/answer/{token}", self._guarded(self._state_by_link), methods=["GET"]),
            Route("/cases/{case_id:path}", self._guarded(self._by_session), methods=["GET", "POST"]),
            Route("/state/cases/{case_id:path}", self._guarded(self._state_by_session), methods=["GET"]),
        ]

    def _guarded(self, serve: Handler) -> Handler:
        """Everything that is foreseen is a page of its own."""

        async def served(request: Request) -> Response:
            try:
                return await serve(request)
            except Turned as turned:
                return turned.response
            except FormRefused as refusal:
                return self._pages.bad_form(request, refusal.status)
            except NoSuchCase:
                return self._pages.no_such_case(request)
            except Unreachable:
                return self._pages.unreachable(request)

        return served

    async def _by_link(self, request: Request) -> Response:
        viewer = self._viewer_of_link(request)
        if request.method == "POST":
            return await self._answer(request, viewer)
        found = await self._found(request, viewer)
        response = self._case_page(request, found, viewer)
        if request.method == "GET" and viewer.bound and self._is_news(found, viewer.bound, viewer.analyst):
            response.background = BackgroundTask(self._note_seen, found.case_id, viewer.bound.question, viewer.analyst)
        return response

    async def _by_session(self, request: Request) -> Response:
        viewer, _ = self._viewer_of_session(request)
        if request.method == "POST":
            return await self._answer(request, viewer)
        return self._case_page(request, await self._found(request, viewer), viewer)

    async def _state_by_link(self, request: Request) -> Response:
        return self._state(await self._found(request, self._viewer_of_link(request)))

    async def _state_by_session(self, request: Request) -> Response:
        viewer, _ = self._viewer_of_session(request)
        return self._state(await self._found(request, viewer))

    def _state(self, found: Sighting) -> Response:
        return JSONResponse({"version": version_of(found), "ended": found.closed})

    def _viewer_of_link(self, request: Request) -> Viewer:
        token = request.path_params["token"]
        claim = self._claim(request, token)
        session = session_of(request)
        if session and session.analyst.casefold() != claim.analyst.casefold():
            told = f"You are signed in as {session.analyst}, and this link was sent to somebody else."
            raise Turned(
                self._pages.plain(request, 403, "This link is not yours", told, "Use the link in your own mail.")
            )
        return Viewer(
            analyst=claim.analyst,
            case_id=claim.case_id,
            run_id=claim.run_id,
            path=f"{self._pages.base}/answer/{token}",
            state_path=f"{self._pages.base}/state/answer/{token}",
            link=token,
            bound=Bound(claim.question, claim.digest),
            signed_in=session is not None,
        )

    def _claim(self, request: Request, token: str) -> LinkClaim:
        try:
            return read(self._settings.desk.keys, token, now())
        except LinkExpired:
            page = self._pages.plain(
                request,
                410,
                "This link has expired",
                "For safety a link is good for a while only. Nothing was done.",
                "If the question still stands, a newer mail has a link that works; or sign in at the desk.",
            )
        except LinkRefused:
            page = self._pages.plain(
                request,
                404,
                "This link cannot be used",
                "It is not a link of this desk as it stands: it may have been cut short on its way.",
                "Open it once more from the mail itself. If that does not help, use a newer mail's link or sign in.",
            )
        raise Turned(page)

    def _viewer_of_session(self, request: Request) -> tuple[Viewer, Session]:
        session = self.signed_in(request)
        case_id = request.path_params["case_id"]
        run = request.query_params.get("run")
        run_id = run if run and _RUN.fullmatch(run) else None
        named = quote(case_id, safe="") + (f"?run={run_id}" if run_id else "")
        viewer = Viewer(
            analyst=session.analyst,
            case_id=case_id,
            run_id=run_id,
            path=f"{self._pages.base}/cases/{named}",
            state_path=f"{self._pages.base}/state/cases/{named}",
            link=f"{case_id}\0{session.analyst}",
            bound=None,
            signed_in=True,
        )
        return viewer, session

    def signed_in(self, request: Request) -> Session:
        """Who is signed in, and may see the desk at all. Raises Turned for everybody else."""
        session = session_of(request)
        if session is None and self._settings.desk.provider is None:
            page = self._pages.plain(
                request,
                200 if request.url.path == "/" else 404,
                "Answer by the link in your mail",
                "This desk has no sign-in, so it shows no list and no case by name. The links in the mails work.",
                "To operators: python starter.py list shows the cases; desk.provider in the settings adds a sign-in.",
            )
            raise Turned(page)
        if session is None:
            if request.method == "POST" or request.url.path.startswith("/state/"):
                told = "Your session is over. Nothing was done."
                raise Turned(self._pages.plain(request, 401, "Sign in first", told, onward=("/sign-in", "Sign in")))
            onward = quote(request.url.path, safe="/")
            raise Turned(RedirectResponse(f"{self._pages.base}/sign-in?next={quote(onward, safe='')}", 303))
        if not is_analyst(self._settings, session.analyst):
            page = self._pages.plain(
                request,
                403,
                "Not for you",
                f"You are signed in as {session.analyst}, and no tier names you as an analyst: nothing is shown.",
                "If you should answer cases, ask the SOC lead to name you in a tier.",
            )
            raise Turned(page)
        return session

    async def _found(self, request: Request, viewer: Viewer) -> Sighting:
        """The case, for somebody who may see it."""
        found = await self._reader.case(viewer.case_id, viewer.run_id)
        allowed = may_see(found, viewer.analyst)
        if allowed is None and not viewer.by_link:
            page = self._pages.plain(
                request,
                503,
                "No worker answers just now",
                "Only a worker can say who may see this case, so it is not shown. The case and its deadline are kept.",
                "To answer now, use the link in your mail: it works while no worker runs.",
                retry_after=10,
            )
            raise Turned(page)
        if allowed is False and viewer.by_link:
            log.warning("link of %s refused: may not answer any more", viewer.analyst, extra=about(found.case_id))
            told = "Who may answer has changed since it was sent, so it shows nothing and answers nothing."
            page = self._pages.plain(request, 403, "This link is not good any more", told, "Ask the SOC lead.")
            raise Turned(page)
        if allowed is False:
            log.warning("%s asked for a case that they may not see", viewer.analyst, extra=about(found.case_id))
            raise NoSuchCase(viewer.case_id)
        return found

    def _case_page(
        self,
        request: Request,
        found: Sighting,
        viewer: Viewer,
        status: int = 200,
        filled: Filled | None = None,
        faults: Faults | None = None,
    ) -> Response:
        session = None if viewer.by_link else session_of(request)
        half, other = ("", session.csrf) if session else self._cookies.form(request, viewer.link)
        context = case_page(
            found,
            viewer,
            csrf=other,
            said=None if faults else self._cookies.said(request, viewer.link),
            filled=filled,
            faults=faults,
            hint=request.query_params.get("answer"),
        )
        page = self._pages.page(request, "desk_case.html", status, **context, state_url=viewer.state_path)
        if half:
            self._cookies.keep_form(page, viewer.link, half)
        return page

    def _is_news(self, found: Sighting, bound: Bound, analyst: str) -> bool:
        """Whether this visit is the first of this analyst to this question, as far as is known."""
        stand = stand_of(found, bound)
        if found.closed or stand not in (Stand.ASKS, Stand.UNTOLD):
            return False
        seen = found.view["question"]["seen"] if found.view else []
        key = (found.run_id, bound.question, analyst.casefold())
        if key in self._noted or any(one["analyst"].casefold() == analyst.casefold() for one in seen):
            return False
        self._noted[key] = None
        while len(self._noted) > _MOST_SEEN:
            self._noted.popitem(last=False)
        return True

    async def _note_seen(self, case_id: str, question: str, analyst: str) -> None:
        log.info("link of %s to %s was opened", analyst, question, extra=about(case_id))
        try:
            await note_seen(self._client, case_id, question, analyst)
        except CaseRefused as error:
            log.warning("the visit of %s was not noted: %s", analyst, error, extra=about(case_id))

    async def _answer(self, request: Request, viewer: Viewer) -> Response:
        """Take a form: it changes nothing unless all of it is as it must be."""
        filled = await read_form(request)
        self._reader.forget(viewer.case_id, viewer.run_id)
        found = await self._found(request, viewer)
        # From here to the count of a wrong name nothing is waited for: forms sent at once are counted one by one.
        wait = self._tries.wait(viewer.link)
        if wait:
            return self._too_often(request, wait, filled)
        if not self._is_our_form(request, viewer, filled):
            return self._case_page(request, found, viewer, 403, filled, Faults(whole=_STALE))
        bound = viewer.bound or Bound(filled.question, filled.digest)
        stand = stand_of(found, bound)
        if stand in (Stand.CHANGED, Stand.OVER):
            return self._gone(request, filled, found, bound, viewer)
        asked = asked_of(found, stand)
        faults = check(filled, asked or filled.actions, wants_target=not viewer.signed_in)
        if not viewer.signed_in and not faults.fields.keys() & {"target", "decision"}:
            self._check_name(viewer, found, filled, faults)
        wait = self._tries.wait(viewer.link)
        if wait:
            return self._too_often(request, wait, filled)
        if faults:
            return self._case_page(request, found, viewer, 422, filled, faults)
        return await self._given(request, viewer, found, bound, filled)

    def _check_name(self, viewer: Viewer, found: Sighting, filled: Filled, faults: Faults) -> None:
        """Hold the name against the target's. What is no answer with a name is no try: scanners send all sorts."""
        name = name_after(filled.target, filled.decision)
        if name is None:
            faults.fields["target"] = _UNSAID
        elif not names_target(name, _targets(found)):
            faults.fields["target"] = _WRONG
            self._tries.wrong(viewer.link)
            log.warning("wrong name typed by the link of %s", viewer.analyst, extra=about(found.case_id))

    def _is_our_form(self, request: Request, viewer: Viewer, filled: Filled) -> bool:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        session = None if viewer.by_link else session_of(request)
        return csrf_holds(session, filled.csrf) if session else self._cookies.holds(request, viewer.link, filled.csrf)

    async def _given(self, request: Request, viewer: Viewer, found: Sighting, bound: Bound, filled: Filled) -> Response:
        """Give it; where it is refused because the world moved on meanwhile, look once more."""
        stand = stand_of(found, bound)
        try:
            said = await give(self._client, found, stand, bound, viewer.analyst, filled)
        except CaseRefused as refusal:
            self._reader.forget(viewer.case_id, viewer.run_id)
            found = await self._found(request, viewer)
            moved = stand_of(found, bound)
            if moved in (Stand.CHANGED, Stand.OVER):
                return self._gone(request, filled, found, bound, viewer)
            if moved is stand:
                return self._case_page(request, found, viewer, 409, filled, Faults(whole=str(refusal)))
            return await self._given(request, viewer, found, bound, filled)
        self._reader.forget(viewer.case_id, viewer.run_id)
        response = RedirectResponse(viewer.path, status_code=303)
        self._cookies.say(response, viewer.link, said)
        return response

    def _gone(self, request: Request, filled: Filled, found: Sighting, bound: Bound, viewer: Viewer) -> Response:
        """The question of the form does not stand any more: show what does, and what had been written."""
        log.info("answer to %s, which stands no more", bound.question, extra=about(found.case_id))
        again = viewer.path.removeprefix(self._pages.base)
        return self._pages.plain(
            request,
            409,
            "Your answer was not taken",
            "The question does not stand any more: the world has changed meanwhile. Nothing was done.",
            "See what has changed, and answer what is asked now.",
            kept=filled.reason,
            onward=(again, "See what has changed"),
        )

    def _too_often(self, request: Request, wait: int, filled: Filled) -> Response:
        return self._pages.plain(
            request,
            429,
            "Too many wrong names",
            f"This link takes no answer for {max(wait // 60, 1)} minutes. Nothing was done.",
            "If you cannot wait, use a newer mail's link, sign in at the desk, or have somebody else answer.",
            kept=filled.reason,
            retry_after=wait,
        )


def _targets(found: Sighting) -> dict[str, list[str]]:
    """What may be typed. Without a worker it is what Temporal shows, or the address at the end of the case's name."""
    if found.view:
        targets: dict[str, list[str]] = found.view["targets"]
        return targets
    hosts, accounts = ([name] if name else [] for name in (found.row["host"], found.row["user"]))
    addresses = [] if hosts or accounts else [found.case_id.rpartition("-")[2]]
    return {"hosts": hosts, "accounts": accounts, "addresses": addresses}
