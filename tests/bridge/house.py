"""The desk as it is served: a real server on loopback over a real Temporal, and what a person at a browser does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from temporalio.client import Client

from bridge.app import build
from bridge.session import Sessions
from incident.links import LinkClaim, sign
from lab.servers import free_port
from lab.serving import Served
from settings import Settings
from starter import Started
from tests.bridge.page_reader import Form, Page, read_page
from tests.workflows.world import TIERS

KEY = "a key of the tests, long enough"
OLD_KEY = "the key that was before it, as long"


def settings(url: str, **desk: Any) -> Settings:
    """Settings whose vendors nobody calls, with the tiers of the tests."""
    web = {"url": "http://127.0.0.1:1", "username": "nobody", "password": "nothing to anybody"}
    falcon = {"base_url": "http://127.0.0.1:1", "client_id": "nobody", "client_secret": "nothing to anybody"}
    directory = {"servers": ["ldaps://127.0.0.1:1"], "bind_user": "nobody", "password": "x", "base_dn": "DC=corp"}
    return Settings.model_validate(
        {
            "securonix": web,
            "directory": directory,
            "endpoint": {"crowdstrike": falcon},
            "ticketing": {"servicenow": web},
            "mail": {"host": "127.0.0.1", "sender": "holdpoint@acme.example"},
            "desk": {"url": url, "key": KEY, **desk},
            "tiers": [
                {"name": t.name, "recipients": t.recipients, "analysts": t.analysts, "wait": t.wait} for t in TIERS
            ],
        }
    )


@dataclass
class Desk:
    """A desk that is served, and the browsers that reach it."""

    client: Client
    url: str
    app: Starlette

    def browser(self, **options: Any) -> Browser:
        """A browser without cookies."""
        return Browser(self.url, **options)

    def signed_in(self, analyst: str) -> Browser:
        """A browser whose user has signed in."""
        browser = self.browser()
        sessions: Sessions = self.app.state.sessions
        made = Response()
        sessions.begin(made, analyst, analyst.partition("@")[0])
        name, _, value = made.headers["set-cookie"].partition(";")[0].partition("=")
        browser.cookies.set(name, value)
        return browser

    async def link(self, started: Started, analyst: str, **changes: Any) -> str:
        """The path of the link that a mail to this analyst holds."""
        handle = self.client.get_workflow_handle(started.case_id, run_id=started.run_id)
        question = (await handle.query("status"))["question"]
        bound = {"question": question["id"], "digest": question["digest"], **changes}
        return link(started, bound.pop("question"), bound.pop("digest"), analyst, **bound)


def link(started: Started, question: str, digest: str, analyst: str, *, key: str = KEY, **changes: Any) -> str:
    claim = LinkClaim(
        case_id=started.case_id,
        run_id=started.run_id,
        question=question,
        digest=digest,
        analyst=analyst,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    ).model_copy(update=changes)
    return f"/answer/{sign(key, claim)}"


class Browser(httpx.AsyncClient):
    """A browser that follows nothing by itself, and fills in the form that it sees."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(base_url=url, timeout=30, **options)

    async def read(self, path: str, status: int = 200) -> Page:
        """Open a page."""
        answer = await self.get(path)
        assert answer.status_code == status, answer.text
        return page_of(answer)

    async def until(self, path: str, words: str, status: int = 200) -> Page:
        """Open a page until it says something: what the desk has read is good for a moment."""
        async with asyncio.timeout(20):
            while True:
                answer = await self.get(path)
                if answer.status_code == status and words in page_of(answer).text:
                    return page_of(answer)
                await asyncio.sleep(0.1)

    async def fill(self, form: Form, **filled: Any) -> httpx.Response:
        """Send a form with what its hidden fields hold and what a person fills in."""
        hidden = {one.name: one.value for one in form.fields if one.kind == "hidden"}
        if filled.get("target"):
            filled["target"] = f"{filled.get('decision', '').replace('_', ' ')} {filled['target']}"
        return await self.post(form.action, data={**hidden, **filled})

    async def answer(self, path: str, **filled: Any) -> httpx.Response:
        """Open a page and send its answer form."""
        return await self.fill(form_of(await self.read(path)), **filled)


def page_of(answer: httpx.Response) -> Page:
    """What a response shows."""
    return read_page(str(answer.url), answer.text)


def form_of(page: Page) -> Form:
    """The answer form of a page."""
    return next(form for form in page.forms if any(one.name == "decision" for one in form.fields))


def has_form(page: Page) -> bool:
    """Whether the page takes an answer."""
    return any(one.name == "decision" for form in page.forms for one in form.fields)


@asynccontextmanager
async def serving(client: Client, **desk: Any) -> AsyncIterator[Desk]:
    """Serve a desk; with ``provider`` people can sign in."""
    port = free_port(0)
    url = f"http://127.0.0.1:{port}"
    app = build(client, settings(url, **desk))
    async with Served(app, port):
        yield Desk(client, url, app)


OIDC = {
    "provider": "oidc",
    "oidc": {"issuer": "https://login.acme.example", "client_id": "holdpoint", "client_secret": "x"},
}
