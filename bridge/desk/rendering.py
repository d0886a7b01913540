"""Pages from templates. All text is untrusted and escaped; what is no page of its own is a plain one that says why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from bridge.desk import clock
from bridge.session import session_of

FOLDER: Final = Path(__file__).parents[1]

_PAGES: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters.update(exact=clock.exact, second=clock.second, left=clock.left, ago=clock.ago, lasting=clock.lasting)


def now() -> datetime:
    """The time of day of this machine."""
    return datetime.now(UTC)


class Pages:
    """Renders the desk's pages. ``base`` is the path below which the desk is reached."""

    def __init__(self, base: str) -> None:
        self.base = base

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page of a template."""
        whole = {
            "base": self.base,
            "now": now(),
            "session": session_of(request),
            "here": None,
            "state_url": None,
            "version": None,
            **context,
        }
        return HTMLResponse(_PAGES.get_template(template).render(whole), status_code=status)

    def plain(
        self,
        request: Request,
        status: int,
        title: str,
        *lines: str,
        kept: str | None = None,
        onward: tuple[str, str] | None = None,
        retry_after: int | None = None,
    ) -> HTMLResponse:
        """A page that only says something: what is the matter, and what to do. ``kept`` is what somebody had typed."""
        link = {"href": f"{self.base}{onward[0]}", "text": onward[1]} if onward else None
        page = self.page(request, "desk_plain.html", status, title=title, lines=lines, kept=kept, onward=link)
        if retry_after is not None:
            page.headers["Retry-After"] = str(retry_after)
        return page

    def unreachable(self, request: Request, kept: Sequence[str] = ()) -> HTMLResponse:
        """Temporal is not there."""
        return self.plain(
            request,
            503,
            "Not to be reached just now",
            "The desk cannot reach Temporal, where the cases are kept. No case is lost, and no deadline is forgotten.",
            "Try again in a moment. If it stays like this, tell whoever runs Holdpoint.",
            kept="\n".join(kept) or None,
            retry_after=10,
        )

    def no_such_case(self, request: Request) -> HTMLResponse:
        """There is none, or none for this person: which of the two is not said."""
        return self.plain(
            request,
            404,
            "No such case",
            "There is no case of this name, or none that you may see.",
            "Look at the list of what waits, or open the link in your mail once more.",
        )

    def bad_form(self, request: Request, status: int) -> HTMLResponse:
        """A form that is none of ours, or too large."""
        told = "It is too long." if status == 413 else "It is not a form of this page."
        return self.plain(
            request, status, "This could not be read", told, "Open the page again and send it anew. Nothing was done."
        )
