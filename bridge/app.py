"""The application: the desk, the sign-in where there is one, the way in for alerts, and the process's health."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from temporalio.client import Client

from bridge.answers import problem
from bridge.desk.lists import Lists
from bridge.desk.reading import Reader
from bridge.desk.rendering import FOLDER, Pages
from bridge.desk.views import CaseViews
from bridge.headers import HEADERS, SafeHeaders
from bridge.intake import intake_routes
from bridge.signin import SignIn
from connection import TASK_QUEUE
from settings import Settings

_FOR_PROGRAMS: Final = "/v1/"
_TOLD: Final = {
    404: ("There is nothing here", "Look at the list of what waits, or open the link in your mail once more."),
    405: ("Not this way", "This address takes no such request. Open it in a browser."),
}

log = logging.getLogger("holdpoint.bridge")


def build(client: Client, settings: Settings, *, task_queue: str = TASK_QUEUE) -> Starlette:
    """The application over a client of Temporal. Raises SettingsRefused where the sign-in lacks a setting."""
    url = settings.desk.url or ""
    pages = Pages(urlsplit(url).path)
    reader = Reader(client)
    views = CaseViews(client, settings, reader, pages)
    sign_in = SignIn(settings.desk) if settings.desk.provider else None
    routes: list[BaseRoute] = [
        *Lists(reader, pages, views).routes(),
        *views.routes(),
        *(sign_in.routes() if sign_in else ()),
        *intake_routes(client, settings, task_queue=task_queue),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if sign_in:
            await sign_in.aclose()

    faults = Faults(pages)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(SafeHeaders, https=url.startswith("https://"))],
        exception_handlers={HTTPException: faults.refused, Exception: faults.failed},
        lifespan=lifespan,
    )
    if sign_in:
        app.state.sessions = sign_in.sessions
    return app


class Faults:
    """What nobody foresaw, and what is not there: a page that tells nothing of our insides."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def refused(self, request: Request, error: Exception) -> Response:
        """An address that is none of ours, or a method that it does not take."""
        status = error.status_code if isinstance(error, HTTPException) else 400
        title, advice = _TOLD.get(status, ("This was not understood", "Go back, and try it again."))
        if request.url.path.startswith(_FOR_PROGRAMS):
            return problem(status, title.lower())
        return self._pages.plain(request, status, title, advice)

    async def failed(self, request: Request, error: Exception) -> Response:
        """A fault of ours. The log has it; the page has not, and it comes without the headers of the others."""
        log.error("a request failed: %s", type(error).__name__)
        if request.url.path.startswith(_FOR_PROGRAMS):
            return problem(500, "a fault of ours")
        told = "A fault of ours. It may be that nothing was done: open the page again and look."
        page = self._pages.plain(request, 500, "Something went wrong", told, "If it stays so, tell the operators.")
        page.headers.update(HEADERS)
        return page
