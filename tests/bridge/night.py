"""A night at the desk: a case that asks, its mails, and the desk as it is served, over a world in memory."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from temporalio.client import Client
from temporalio.service import RPCError

from activities.answer_links import LinkMaker
from bridge.app import build
from incident.policy import Tier
from integrations.interfaces import Mail
from lab.issuer import IssuerLab
from lab.servers import free_port
from lab.serving import Served
from settings import Settings
from starter import Started
from tests.bridge.page_reader import read_page
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, World, alert, policy, working

KEY = "the desk's key of the tests, long enough"
TIERS = tuple(
    Tier(name=name, recipients=(who,), analysts=(who,), wait=timedelta(minutes=minutes))
    for name, who, minutes in (("analyst", ANALYST, 30), ("on-call", ON_CALL, 20), ("soc-lead", LEAD, 10))
)
_LINK = re.compile(r"https?://[^\s\"'<>]+")


@dataclass
class Night:
    """What a test has. ``url`` is the desk's address."""

    scene: Scene
    url: str
    issuer: IssuerLab | None = None
    cases: list[Started] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.scene.world

    async def ask(self, *, tiers: tuple[Tier, ...] = TIERS, **changes: Any) -> Started:
        """A case that stops at the hold point; returns when its mail is out."""
        before = len(self.world.mails)
        self.world.sightings = 0
        started = await self.scene.start(alert(**changes), policy(tiers=tiers, tell_answered=True))
        self.cases.append(started)
        await self.scene.mailed(before + 1)
        await self.scene.until(started, lambda state: state["question"] and state["question"]["asked"])
        return started

    def both_at_once(self) -> tuple[Tier, ...]:
        """Tiers of which the first is two people."""
        first = TIERS[0].model_copy(update={"recipients": (ANALYST, ON_CALL), "analysts": (ANALYST, ON_CALL)})
        return first, TIERS[2]

    def hold(self, step: str) -> asyncio.Event:
        """Have a step of the world wait until the event is set."""
        return self.world.gates.setdefault(step, asyncio.Event())

    async def answers(self, person: httpx.AsyncClient, decision: str, who: str = ANALYST) -> bool:
        """Answer by the link, as a person does; tells whether it was taken."""
        link = self.link_of(who)
        shown = read_page(link, (await person.get(link)).text)
        form = next(form for form in shown.forms if "/answer/" in form.action)
        given = {one.name: one.value for one in form.fields if one.kind == "hidden"}
        given |= {"decision": decision, "reason": "seen on the host", "target": self.typed(decision)}
        taken = await person.post(form.action, data=given)
        return "Your answer was taken" in taken.text

    def typed(self, decision: str) -> str:
        """What a person types to show that they are one."""
        return f"{decision.replace('_', ' ')} {self.world.host}"

    def mails_to(self, who: str) -> list[Mail]:
        """Every mail that somebody got."""
        return [mail for mail in self.world.mails if who in mail.recipients]

    def link_of(self, who: str = ANALYST) -> str:
        """The address by which somebody answers what they were asked last, as the mail has it."""
        return next(link for link in links_in(self.mails_to(who)[-1]) if "/answer/" in link).partition("?")[0]

    async def status(self, started: Started) -> dict[str, Any]:
        """The query ``status``."""
        state: dict[str, Any] = await self.scene.handle(started).query("status")
        return state

    async def undecided(self, started: Started) -> dict[str, Any]:
        """The status of a case that nobody has decided: anything else is a failure of the test."""
        state = await self.status(started)
        assert state["stage"] == "awaiting_decision", state
        assert state["decision"] is None, state["decision"]
        assert not state["dissent"], state["dissent"]
        assert not self.world.writes, self.world.writes
        return state

    def person(self, **options: Any) -> httpx.AsyncClient:
        """Somebody's browser, for what needs no real one."""
        return httpx.AsyncClient(base_url=self.url, follow_redirects=True, timeout=30, trust_env=False, **options)


def links_in(mail: Mail) -> list[str]:
    """Every address in both bodies of a mail."""
    return list(dict.fromkeys(link.rstrip(".") for link in _LINK.findall(mail.text + " " + mail.html)))


def settings_of(url: str, oidc: Mapping[str, Any] | None = None) -> Settings:
    """Settings whose vendors nobody calls. With ``oidc`` there is a sign-in."""
    web = {"url": "http://127.0.0.1:1", "username": "nobody", "password": "nothing to anybody"}
    desk = {"url": url, "key": KEY, **({"provider": "oidc", "oidc": oidc} if oidc else {})}
    return Settings.model_validate(
        {
            "securonix": web,
            "directory": {
                "servers": ["ldaps://127.0.0.1:1"],
                "bind_user": "nobody@corp.example",
                "password": "nothing to anybody",
                "base_dn": "DC=corp,DC=example",
            },
            "endpoint": {
                "crowdstrike": {
                    "base_url": "http://127.0.0.1:1",
                    "client_id": "nobody",
                    "client_secret": "nothing to anybody",
                }
            },
            "ticketing": {"servicenow": web},
            "mail": {"host": "127.0.0.1", "sender": "holdpoint@acme.example"},
            "desk": desk,
            "tiers": [
                {"name": tier.name, "recipients": list(tier.recipients), "analysts": list(tier.analysts), "wait": "30m"}
                for tier in TIERS
            ],
        }
    )


@asynccontextmanager
async def a_night(client: Client, issuer: IssuerLab | None = None) -> AsyncIterator[Night]:
    """A worker, and the desk served on loopback; with ``issuer`` (which is served already) one can sign in."""
    world, queue, port = World(), f"q-{uuid.uuid4()}", free_port(0)
    url = f"http://127.0.0.1:{port}"
    oidc = None
    if issuer is not None:
        issuer.redirects.add(f"{url}/sign-in/callback")
        oidc = {"issuer": issuer.url, "client_id": issuer.client_id, "client_secret": issuer.client_secret}
    app = build(client, settings_of(url, oidc), task_queue=queue)
    links = LinkMaker(url, KEY, timedelta(hours=24))
    async with app.router.lifespan_context(app), Served(app, port), working(client, world, queue, desk=links):
        night = Night(Scene(client, world, queue), url, issuer)
        try:
            yield night
        finally:
            for started in night.cases:
                with contextlib.suppress(RPCError):  # it may have ended by itself
                    await night.scene.handle(started).terminate("the test has ended")
