"""Searching Securonix: ``GET /ws/spotter/index/search``, its pages, and time windows that hold in any time zone.

Text times are in the application's zone, and whether ``tz`` is obeyed is not sure. So a window is asked for as UTC and
wide enough for any zone, and the caller judges the rows by their own times.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from integrations import spotter
from integrations.errors import BadAnswer, IntegrationError
from integrations.securonix_session import Session
from integrations.securonix_shapes import FURTHEST_EAST, FURTHEST_WEST, Row, page_of, zone_of

PATH = "spotter/index/search"
PAGE = 1000
MOST_ROWS = 5000
MOST_PAGES = 20
LONGEST_ACTIVITY = timedelta(hours=24)
"""Some versions take no longer window for activity."""

_TIME = "%m/%d/%Y %H:%M:%S"
_WINDOW_REFUSED = re.compile(r"\b24\b|hour|range|window|\bdays?\b", re.IGNORECASE)
_TIME_OF = {"activity": "eventtime", "violation": "generationtime"}


@dataclass(frozen=True)
class Found:
    """Rows, and whether they are all that there are."""

    rows: tuple[Row, ...]
    complete: bool


def together(results: Iterable[Found]) -> Found:
    """Several results as one; a row that came twice stays once."""
    parts = list(results)
    rows = {row.fingerprint: row for part in parts for row in part.rows}
    return Found(tuple(rows.values()), all(part.complete for part in parts))


async def side_by_side(*searches: Coroutine[Any, Any, Found]) -> list[Found | IntegrationError]:
    """What each search found, or how it failed, in their order; returns when all have ended."""
    results = await asyncio.gather(*searches, return_exceptions=True)
    ended = [result for result in results if isinstance(result, Found | IntegrationError)]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, IntegrationError):
            raise result
    return ended


def found_all(results: Iterable[Found | IntegrationError]) -> list[Found]:
    """The results, if all searches went well; else one failure is raised, and one that may pass goes before others."""
    results = list(results)
    failures = [result for result in results if isinstance(result, IntegrationError)]
    if failures:
        raise max(failures, key=lambda failure: failure.retryable)
    return [result for result in results if isinstance(result, Found)]


async def all_of(*searches: Coroutine[Any, Any, Found]) -> Found:
    """Everything that the searches found. Raises the failure of one, after all have ended."""
    return together(found_all(await side_by_side(*searches)))


class Search:
    """Searches of one Securonix. It remembers the application's zone and what the version does not take."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._zone_name = ""
        self._short_windows = False

    async def rows(self, index: str, *terms: str) -> Found:
        """All rows of an index without a time window. Raises the errors of ``Session.call`` and ``page_of``."""
        return await self._pages({"query": spotter.search(index, *terms)})

    async def between(self, index: str, *terms: str, start: datetime, end: datetime) -> Found:
        """The rows of ``activity`` or ``violation`` between two instants, and some from before and after.

        Where there are too many in the wide window, and the application's zone is known by then, the exact one is
        asked for.
        """
        wide = await self._windows(index, terms, start - FURTHEST_WEST, end + FURTHEST_EAST, "UTC")
        if wide.complete or not self._zone_name:
            return wide
        exact = await self._windows(index, terms, start, end, self._zone_name)
        return Found(together((wide, exact)).rows, exact.complete)

    async def _windows(self, index: str, terms: Iterable[str], start: datetime, end: datetime, zone_name: str) -> Found:
        query = spotter.search(index, *terms)
        too_long = index == "activity" and end - start > LONGEST_ACTIVITY
        if not (too_long and self._short_windows):
            try:
                return await self._pages(_window(index, query, start, end, zone_name))
            except BadAnswer as error:
                if not too_long or not _WINDOW_REFUSED.search(str(error)):
                    raise
                self._short_windows = True
        slices = []
        while start < end:
            slices.append(_window(index, query, start, min(start + LONGEST_ACTIVITY, end), zone_name))
            start += LONGEST_ACTIVITY
        return await all_of(*(self._pages(params) for params in slices))

    async def _pages(self, params: dict[str, str]) -> Found:
        params = {**params, "max": str(PAGE)}
        rows: dict[object, Row] = {}
        seen = 0
        for _ in range(MOST_PAGES):
            page = page_of(await self._session.call("GET", PATH, params))
            self._zone_name = page.zone_name or self._zone_name
            known = len(rows)
            rows |= {row.fingerprint: row for row in page.rows}
            seen += len(page.rows)
            if page.last or (not page.rows and "queryId" in params) or (page.total is not None and seen >= page.total):
                return Found(tuple(rows.values()), complete=True)
            if page.total is None and not page.query_id:
                return Found(tuple(rows.values()), complete=True)
            # A wide window with too much in it is not worth reading where an exact one can be asked for.
            hopeless = params.get("tz") == "UTC" and page.zone_name and (page.total or 0) > MOST_ROWS
            if len(rows) == known or not page.query_id or seen >= MOST_ROWS or hopeless:
                break
            params |= {"queryId": page.query_id}
            if page.cursor:
                params |= {"nextCursorMarker": page.cursor}
        # An empty first page that gives no count says that there is nothing; one that counts rows says otherwise.
        return Found(tuple(rows.values()), complete=not rows and page.total is None)


def _window(index: str, query: str, start: datetime, end: datetime, zone_name: str) -> dict[str, str]:
    zone = zone_of(zone_name) or UTC
    name = _TIME_OF[index]
    return {
        "query": query,
        f"{name}_from": _local(start, zone),
        f"{name}_to": _local(end, zone),
        "tz": zone_name,
    }


def _local(at: datetime, zone: tzinfo) -> str:
    return at.astimezone(zone).strftime(_TIME)
