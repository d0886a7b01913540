"""Programs that open mail before people do: they follow every link, run scripts, and send every form they find."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urlsplit

import httpx

from tests.bridge.page_reader import Page, in_turn, read_page

MOST_PAGES = 60
"""Of a desk that leads to ever new pages no more are opened."""


@dataclass
class Trail:
    """What a robot did: each request as method, address and status."""

    steps: list[tuple[str, str, int]] = field(default_factory=list)

    def count(self, method: str) -> int:
        """How many requests of that method."""
        return sum(1 for step in self.steps if step[0] == method)

    def statuses(self, method: str) -> set[int]:
        """The statuses that requests of that method met."""
        return {status for made, _, status in self.steps if made == method}


@dataclass
class PlainRobot:
    """A scanner that speaks HTTP and runs no scripts, from an address of its own on this machine.

    Attributes:
        address: where its requests come from.
        submits: whether it sends forms.
        required_only: whether it leaves out what need not be filled in.
        remembers: whether it keeps cookies.
        order: in which order it tries the words of a page.
        most: how many ways to fill in one form it tries.
        agent: what it calls itself.
    """

    address: str = "127.0.0.1"
    submits: bool = True
    required_only: bool = False
    remembers: bool = True
    order: Callable[[list[str]], list[str]] = list
    most: int = 12
    agent: str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
    trail: Trail = field(default_factory=Trail)

    async def run(self, links: Iterable[str], mail: str = "") -> Trail:
        """Open the links of a mail and all that they lead to on the same host; ``mail`` is the mail's text."""
        transport = httpx.AsyncHTTPTransport(local_address=self.address)
        async with httpx.AsyncClient(transport=transport, headers={"User-Agent": self.agent}, timeout=30) as client:
            left, seen = deque(dict.fromkeys(links)), set[str]()
            host = urlsplit(left[0]).netloc
            while left and len(seen) < MOST_PAGES:
                address = urldefrag(left.popleft())[0]
                if address in seen or urlsplit(address).netloc != host:
                    continue
                seen.add(address)
                page = await self._open(client, address)
                left.extend(page.links)
                if self.submits:
                    left.extend(await self._send_all(client, page, mail))
        return self.trail

    async def _ask(self, client: httpx.AsyncClient, method: str, address: str, **options: object) -> httpx.Response:
        if not self.remembers:
            client.cookies.clear()
        answer = await client.request(method, address, **options)  # type: ignore[arg-type]
        self.trail.steps.append((method, address, answer.status_code))
        assert answer.status_code not in (500, 501, 502), f"{method} {address}: {answer.text[:500]}"
        return answer

    async def _open(self, client: httpx.AsyncClient, address: str) -> Page:
        await self._ask(client, "HEAD", address)
        answer = await self._ask(client, "GET", address)
        if "html" not in answer.headers.get("content-type", ""):
            return Page(address, links=[str(answer.headers["location"])] if answer.has_redirect_location else [])
        page = read_page(address, answer.text)
        if answer.next_request is not None:
            page.links.append(str(answer.next_request.url))
        return page

    async def _send_all(self, client: httpx.AsyncClient, page: Page, mail: str) -> list[str]:
        further: list[str] = []
        words = self.order(list(dict.fromkeys((*page.words, *in_turn(mail), *page.labels))))
        for number, form in enumerate(page.forms):
            for sent, filling in enumerate(form.fillings(words, required_only=self.required_only)):
                if sent >= self.most:
                    break
                given: dict[str, list[str]] = {}
                for name, value in filling:
                    given.setdefault(name, []).append(value)
                options = {"data": given} if form.method == "post" else {"params": given}
                answer = await self._ask(client, form.method.upper(), form.action, **options)
                if answer.next_request is not None:
                    further.append(str(answer.next_request.url))
                if "html" in answer.headers.get("content-type", ""):
                    shown = read_page(str(answer.url), answer.text)
                    further += shown.links
                    # The form may be another one now, with fresh hidden fields.
                    if number < len(shown.forms):
                        form.fields[:] = shown.forms[number].fields or form.fields
        return further
