"""What waits, the most urgent first, and what has ended."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.desk.access import may_see
from bridge.desk.reading import Reader, Sighting, Unreachable
from bridge.desk.rendering import Pages
from bridge.desk.views import CaseViews, Turned
from incident.triage import Priority

_LAST = "9999"
"""Stands behind every time."""

Look = Callable[[], Awaitable[list[Sighting]]]


class Lists:
    """The two lists, for people who are signed in."""

    def __init__(self, reader: Reader, pages: Pages, views: CaseViews) -> None:
        self._reader = reader
        self._pages = pages
        self._views = views

    def routes(self) -> list[Route]:
        """The lists and their states."""
        return [
            Route("/", self._waiting, methods=["GET"]),
            Route("/closed", self._closed, methods=["GET"]),
            Route("/state/waiting", self._waiting_state, methods=["GET"]),
            Route("/state/closed", self._closed_state, methods=["GET"]),
        ]

    async def _waiting(self, request: Request) -> Response:
        return await self._listed(
            request, self._reader.open_cases, waiting, "waiting", "What waits", "Nothing waits. No case is open."
        )

    async def _closed(self, request: Request) -> Response:
        return await self._listed(
            request, self._reader.closed_cases, ended, "closed", "Closed cases", "No closed case is kept any more."
        )

    async def _waiting_state(self, request: Request) -> Response:
        return await self._state(request, self._reader.open_cases, waiting)

    async def _closed_state(self, request: Request) -> Response:
        return await self._state(request, self._reader.closed_cases, ended)

    async def _listed(
        self, request: Request, look: Look, order: Order, here: str, title: str, nothing: str
    ) -> Response:
        try:
            session = self._views.signed_in(request)
            found = await look()
        except Turned as turned:
            return turned.response
        except Unreachable:
            return self._pages.unreachable(request)
        rows = self._rows(order(found), session.analyst)
        return self._pages.page(
            request,
            "desk_list.html",
            title=title,
            here=here,
            rows=rows,
            nothing=nothing,
            silent=any(one.view is None for one in found),
            state_url=f"{self._pages.base}/state/{here}",
            version=_version(rows),
        )

    async def _state(self, request: Request, look: Look, order: Order) -> Response:
        try:
            session = self._views.signed_in(request)
            rows = self._rows(order(await look()), session.analyst)
        except Turned as turned:
            return turned.response
        except Unreachable:
            return self._pages.unreachable(request)
        return JSONResponse({"version": _version(rows), "ended": False})

    def _rows(self, found: Sequence[Sighting], analyst: str) -> list[dict[str, Any]]:
        """A row a case; a case that this person may not see is not there at all."""
        return [self._row(one, may_see(one, analyst)) for one in found if may_see(one, analyst) is not False]

    def _row(self, one: Sighting, allowed: bool | None) -> dict[str, Any]:
        row, view = one.row, one.view or {}
        told = {"priority": row["priority"], "stage": row["stage"], "due": row["decision_due_at"]}
        told |= {"outcome": row["outcome"], "closed_at": row["closed_at"], "tier": None, "decided": None}
        if not allowed:
            return told | {"name": "A case", "href": None, "host": None, "user": None, "hidden": True}
        question = view.get("question") or {}
        # The next case of the same host has the same name.
        run = f"?run={one.run_id}" if one.closed else ""
        return told | {
            "name": view.get("reference") or one.case_id,
            "href": f"{self._pages.base}/cases/{quote(one.case_id, safe='')}{run}",
            "host": row["host"],
            "user": row["user"],
            "hidden": False,
            "tier": question.get("tier"),
            "due": question.get("due_at") or row["decision_due_at"],
            "decided": view.get("decided"),
        }


Order = Callable[[Sequence[Sighting]], list[Sighting]]


def waiting(found: Sequence[Sighting]) -> list[Sighting]:
    """By priority, then by the deadline that is nearest; what waits for nobody stands behind."""
    return sorted(found, key=lambda one: (_rank(one), one.row["decision_due_at"] or _LAST, one.row["started_at"]))


def ended(found: Sequence[Sighting]) -> list[Sighting]:
    """The last one first."""
    return sorted(found, key=lambda one: one.row["closed_at"] or "", reverse=True)


def _rank(one: Sighting) -> int:
    return -_RANKS.get(one.row["priority"] or "", -1)


_RANKS = {priority.value: priority.rank for priority in Priority}


def _version(rows: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
