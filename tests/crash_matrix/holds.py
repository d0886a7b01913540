"""Holding one request of one case at its system, before it has its effect or before its answer leaves."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from aiosmtpd.smtp import Envelope

from lab.directory_tree import DnKey
from lab.environment import Environment
from lab.faults import App, Message, Receive, Send
from tests.crash_matrix.annex import Annex
from tests.crash_matrix.cells import Cell, Moment

REQUESTS: Final[dict[str, tuple[str, str]]] = {
    "siem.locate_host": ("/spotter/", "ip"),
    "siem.score_risk": ("/spotter/", "employee_id"),
    "siem.find_corroboration": ("index=violation", "employee_id"),
    "siem.comment_incident": ("/incident/actions", "incident_id"),
    "directory.find_person": ("search", "account"),
    "directory.disable_account": ("modify", "account"),
    "directory.confirm_disabled": ("search", "account"),
    "endpoint.find_device": ("/devices/queries/", "host"),
    "endpoint.quarantine_host": ("/devices-actions/", "device"),
    "endpoint.confirm_quarantined": ("/entities/devices/", "device"),
    "ticketing.open_ticket": ("POST /api/now/table", "host"),
    "ticketing.add_note": ("PATCH /api/now/table", "host"),
    "notification.notify": ("mail to", "mail"),
    "directory.find_electorate": ("search", "account"),
    "directory.confirm_elsewhere": ("search", "account"),
    "directory.enable_account": ("modify", "account"),
    "directory.confirm_enabled": ("search", "account"),
    "endpoint.lift_quarantine": ("/devices-actions/", "device"),
    "endpoint.confirm_lifted": ("/entities/devices/", "device"),
    "identity.revoke_sign_ins": ("/revokeSignInSessions", "account"),
    "record.attach": ("POST /api/now/attachment", "host"),
    "chat.post": ("POST /services/", "reference"),
}
"""How a step's own request is told from others, once the step is let go: a word of it, and a name of its case."""

_POLL = 0.01
_AT_MOST = 120.0


class Hold:
    """A place at which one request waits."""

    def __init__(self, moment: Moment, *words: str) -> None:
        self.moment = moment
        self.words = words
        self.taken = False
        self.arrived = threading.Event()
        self._released = threading.Event()
        self._cut = False

    def release(self, *, cut: bool) -> None:
        """Let it go on; with ``cut`` it goes nowhere: it has no effect."""
        self._cut = cut
        self._released.set()

    def wait(self) -> bool:
        """Wait in a thread; tells whether to go on."""
        self.arrived.set()
        self._released.wait(_AT_MOST)
        return not self._cut

    async def waited(self) -> bool:
        """Wait in the loop; tells whether to go on."""
        self.arrived.set()
        while not self._released.is_set():
            await asyncio.sleep(_POLL)
        return not self._cut


class Holds:
    """The holds at every stand-in of one environment. ``changes`` counts what was changed in the directory."""

    def __init__(self, lab: Environment, annex: Annex) -> None:
        self.placed: list[Hold] = []
        self.changes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._mails: dict[int, Hold | None] = {}
        for faults in (lab.siem.faults, lab.falcon.faults, lab.tickets.faults, annex.graph.faults, annex.chat.faults):
            faults._app = _HeldApp(faults._app, self)
        tree = lab.directory.tree
        self._search, self._modify = tree.search, tree.modify
        for name in ("search", "modify"):
            setattr(tree, name, getattr(self, name))
        lab.mailbox.around = self.mail

    def place(self, cell: Cell, step: str, moment: Moment, *, device: str, reference: str) -> Hold:
        """Hold the next request of that step of that case."""
        word, name = REQUESTS[step]
        names = {"device": device, "mail": cell.tiers[0], "reference": reference}
        hold = Hold(moment, word, names.get(name) or str(getattr(cell, name)))
        self.placed.append(hold)
        return hold

    def release(self, *, cut: bool = False) -> None:
        """Let every request go on; with ``cut`` those that had no effect have none."""
        for hold in self.placed:
            hold.release(cut=cut and hold.moment is Moment.DURING)

    def take(self, told: str) -> Hold | None:
        """The hold for a request, if there is one; each holds one request."""
        with self._lock:
            for hold in self.placed:
                if not hold.taken and all(word in told for word in hold.words):
                    hold.taken = True
                    return hold
        return None

    def search(self, base: str, scope: int, query: Any) -> list[Any]:
        """The directory's search."""
        hold = self.take(f"search {base} {query!r}")
        _before(hold)
        found = self._search(base, scope, query)
        _after(hold)
        return found

    def modify(self, dn: str, changes: Sequence[tuple[int, str, list[bytes]]], asker: DnKey | None) -> None:
        """The directory's modification."""
        hold = self.take(f"modify {dn}")
        _before(hold)
        self._modify(dn, changes, asker)
        self.changes[dn.partition(",")[0].removeprefix("CN=")] += 1
        _after(hold)

    async def mail(self, moment: str, envelope: Envelope) -> bool:
        """The relay's taking of a mail."""
        told = f"mail to {' '.join(envelope.rcpt_tos)}"
        if moment == Moment.BEFORE:
            hold = self._mails[id(envelope)] = self.take(told)
            return await hold.waited() if hold and hold.moment is Moment.DURING else True
        hold = self._mails.pop(id(envelope), None)
        return await hold.waited() if hold and hold.moment is Moment.AFTER else True


def _before(hold: Hold | None) -> None:
    if hold and hold.moment is Moment.DURING and not hold.wait():
        raise ConnectionAbortedError


def _after(hold: Hold | None) -> None:
    if hold and hold.moment is Moment.AFTER:
        hold.wait()


class _HeldApp:
    def __init__(self, app: App, holds: Holds) -> None:
        self._app = app
        self._holds = holds

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        path, query = scope["path"], unquote_plus(scope["query_string"].decode())
        hold = self._holds.take(f"{scope['method']} {path}?{query}\n{body.decode('utf-8', 'replace')}")
        replayed = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(replayed, None) or await receive()

        if hold is None:
            await self._app(scope, again, send)
        elif hold.moment is Moment.DURING:
            if await hold.waited():
                await self._app(scope, again, send)
        else:
            answer: list[Message] = []

            async def keep(message: Message) -> None:
                answer.append(message)

            await self._app(scope, again, keep)
            await hold.waited()
            for message in answer:
                await send(message)


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
