"""The stand-ins, the real clients and the real activities; the step of a cell that meets its fault has its own way.

Everything healthy is shared. The faulty step has a client of its own, which talks to a front of its own: the same
data behind it, and the fault before it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

from temporalio import activity

from activities.chat import ChatActivities
from activities.directory import DirectoryActivities
from activities.endpoint import EndpointActivities
from activities.identity import IdentityActivities
from activities.notification import NotificationActivities
from activities.record import RecordActivities
from activities.siem import SiemActivities
from activities.siem_incidents import SiemIncidentActivities, Take
from activities.ticketing import TicketingActivities
from incident.polling import Dealt, SiemIncident
from integrations.active_directory import ActiveDirectory
from integrations.crowdstrike import CrowdStrike
from integrations.entra import Entra
from integrations.securonix import Securonix
from integrations.servicenow import ServiceNow
from integrations.slack import Slack
from integrations.smtp import Smtp
from lab.certificates import make_certificates
from lab.chat import SlackLab
from lab.directory import DirectoryLab
from lab.directory import Fault as LdapFaultName
from lab.directory_tree import DirectoryTree, DnKey
from lab.falcon import FalconLab
from lab.faults import Faults
from lab.graph import GraphLab
from lab.mailbox import MailboxLab
from lab.securonix import SecuronixLab
from lab.servicenow import ServiceNowLab
from lab.serving import Served
from tests.faults.matrix import (
    BLIND,
    ELSEWHERE,
    FOR_GOOD,
    HTTP,
    LDAP,
    POLL,
    READS,
    REFUSED,
    SMTP,
    WRITES,
    Cell,
)

RULE = "Large data transfer from web server"
RECORD_KEY = "fault-matrix-record-key-of-32-characters"
MAIL_PASSWORD = "fault-matrix-mail-password"
SENDER = "holdpoint@acme.example"
SHORT = 1.0
"""Seconds that the clients of faulty steps wait for one exchange."""

SURE = 5.0
"""The same of the steps of which nobody can be asked whether they are done: too short a wait would repeat them."""


class CountedTree(DirectoryTree):
    """A directory that counts the changes that it made, by distinguished name."""

    def __init__(self, base_dn: str, netbios: str) -> None:
        super().__init__(base_dn, netbios)
        self.changes: Counter[str] = Counter()

    def modify(self, dn: str, changes: Sequence[tuple[int, str, list[bytes]]], asker: DnKey | None) -> None:
        super().modify(dn, changes, asker)
        self.changes[dn.casefold()] += 1


@dataclass
class Front:
    """The faulty step's way to its system. ``dead`` leads nowhere; ``mailbox`` takes what a faulty mail step sends.

    ``beside`` are clients of its own for other steps of the case; ``take`` brings a faulty poller's incidents to cases.
    """

    cell: Cell
    client: Any
    dead: Any = None
    mailbox: MailboxLab | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    siem: SecuronixLab | None = None
    take: Take | None = None
    calls: int = 0

    def method(self, name: str) -> Callable[..., Any]:
        """The client's method; where no connection comes about, of the client that gets none, once or each time."""
        self.calls += 1
        broken = self.dead is not None and (self.cell.lasting or self.calls == 1)
        return cast(Callable[..., Any], getattr(self.dead if broken else self.client, name))


class Switch:
    """A client that is another one for the step under test."""

    def __init__(self, healthy: Any, fronts: dict[str, Front]) -> None:
        self._healthy = healthy
        self._fronts = fronts

    def __getattr__(self, name: str) -> Any:
        info = activity.info()
        front = self._fronts.get(case_of(info.workflow_id or ""))
        if front is None or front.cell.step != info.activity_type:
            beside = front.beside if front else {}
            return getattr(beside.get(info.activity_type, self._healthy), name)
        return front.method(name)


def case_of(workflow_id: str) -> str:
    """The case id in the id of a release or of a poller's run."""
    return workflow_id.removeprefix("release-").removeprefix("poll-")


class Wire:
    """Every stand-in on loopback. An asynchronous context manager."""

    def __init__(self, folder: Path) -> None:
        self.certificates = make_certificates(folder)
        self.siem, self.falcon, self.tickets = SecuronixLab(), FalconLab(), ServiceNowLab()
        self.graph, self.chat = GraphLab(), SlackLab()
        self.directory = self._directory(CountedTree("DC=corp,DC=example", "CORP"))
        self.directory._furnish()
        self.tree = cast(CountedTree, self.directory.tree)
        self.mailbox = self._mailbox()
        self.fronts: dict[str, Front] = {}
        self.began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        self._open = AsyncExitStack()
        self._dead: dict[str, int] = {}
        self._preparing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._open = opening
            labs = (self.siem, self.falcon, self.tickets, self.graph, self.chat)
            urls = [await self._serve(cast(Any, lab).app) for lab in labs]
            await self._start_directory(self.directory)
            await opening.enter_async_context(self.mailbox)
            self._bury()
            self._healthy = {
                "siem": self._closing(self._siem(urls[0], None)),
                "endpoint": self._closing(self._endpoint(urls[1], None)),
                "ticketing": self._closing(self._ticketing(urls[2], None)),
                "identity": self._closing(self._identity(urls[3], None)),
                "chat": self._closing(self._chat(urls[4], None)),
                "directory": self._active_directory([self.directory.url], 5),
                "notification": self._smtp(self.mailbox.port, 15.0),
            }
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @property
    def secrets(self) -> list[bytes]:
        """What must not stand in a history."""
        words = [self.siem.password, self.falcon.client_secret, self.tickets.password, self.directory.password]
        words += [self.graph.client_secret, self.chat.path, MAIL_PASSWORD, RECORD_KEY]
        words += [front.siem.password for front in self.fronts.values() if front.siem]
        return [word.encode() for word in words]

    @property
    def tokens(self) -> set[bytes]:
        """Every token that was given out."""
        polled = [token for front in self.fronts.values() if front.siem for token in front.siem._tokens]
        return {token.encode() for token in (*self.siem._tokens, *self.falcon._tokens, *self.graph.tokens, *polled)}

    def steps(self) -> list[Any]:
        """The activities, bound to clients that the cells may replace."""
        clients = {name: cast(Any, Switch(client, self.fronts)) for name, client in self._healthy.items()}
        siem, directory = SiemActivities(clients["siem"], "SIEM"), DirectoryActivities(clients["directory"], "AD")
        endpoint, ticketing = EndpointActivities(clients["endpoint"], "EDR"), TicketingActivities(clients["ticketing"])
        return [
            siem.locate_host,
            siem.score_risk,
            siem.find_corroboration,
            siem.comment_incident,
            SiemIncidentActivities(clients["siem"], self._take, comments=False).take_incidents,
            directory.find_person,
            directory.find_electorate,
            directory.disable_account,
            directory.confirm_disabled,
            directory.confirm_elsewhere,
            directory.enable_account,
            directory.confirm_enabled,
            IdentityActivities(clients["identity"]).revoke_sign_ins,
            endpoint.find_device,
            endpoint.quarantine_host,
            endpoint.confirm_quarantined,
            endpoint.lift_quarantine,
            endpoint.confirm_lifted,
            ticketing.open_ticket,
            ticketing.add_note,
            RecordActivities(clients["ticketing"], RECORD_KEY).attach,
            NotificationActivities(clients["notification"], "acme.example").notify,
            ChatActivities(clients["chat"]).post,
        ]

    async def _take(self, incidents: Sequence[SiemIncident]) -> list[Dealt | Exception]:
        take = self.fronts[case_of(activity.info().workflow_id or "")].take
        assert take is not None
        return await take(incidents)

    async def prepare(self, cell: Cell, *, further: bool) -> Front:
        """Seed a cell's host and user, and put its fault in its step's way."""
        mail = f"{cell.account}@acme.example"
        who: dict[str, Any] = {"employeeid": cell.employee_id, "workemail": mail, "accountname": cell.account}
        self.siem.add_host(cell.ip, cell.host, cell.account, at=self.began - timedelta(minutes=40))
        self.siem.add_violation(RULE, cell.ip, at=self.began, **who)
        if further:
            self.siem.add_violation("Upload to a file sharing site", "10.99.0.7", at=self.began, **who)
        self.siem.add_user(cell.employee_id, mail, account=cell.account, score=90.0)
        self.siem.add_risk(cell.employee_id, mail, 90.0)
        self.siem.add_incident(cell.incident_id)
        self.directory.add_user(
            cell.account,
            mail=mail,
            upn=f"{cell.account}@corp.example",
            name=f"Person {cell.number}",
            extra={"employeeID": [cell.employee_id]},
        )
        self.graph.add_user(f"id-of-{cell.account}", f"{cell.account}@corp.example", mail)
        self.falcon.add_device(cell.host, reads_until_contained=0)
        # One after the other: a client takes its time to be made, and many at once would starve the steps' heartbeats.
        async with self._preparing:
            self.fronts[cell.case_id] = front = await self._front(cell)
        return front

    async def _front(self, cell: Cell) -> Front:
        if cell.integration == "directory":
            return await self._directory_front(cell)
        if cell.integration == "notification":
            return await self._mail_front(cell)
        polled = self._incident(cell) if cell.step == POLL else None
        make, lab = {
            "siem": (self._siem, polled or self.siem),
            "endpoint": (self._endpoint, self.falcon),
            "ticketing": (self._ticketing, self.tickets),
            "identity": (self._identity, self.graph),
            "chat": (self._chat, self.chat),
        }[cell.integration]
        inner = cast(Any, lab).app
        faults = Faults(inner, error_body=inner._error_body)
        if not cell.dead:
            kind, more = HTTP[cell.fault]
            match = WRITES.get(cell.step) or READS.get(cell.step) or READS[cell.integration]
            faults.add(kind, match=match, times=FOR_GOOD if cell.lasting else 1, **more)
        seconds = SURE if cell.step in BLIND else SHORT
        front = Front(cell, self._closing(make(await self._serve(faults), seconds)), siem=polled)
        if cell.dead:
            front.dead = self._closing(make(f"http://127.0.0.1:{self._dead[cell.fault]}", SHORT))
        return front

    def _incident(self, cell: Cell) -> SecuronixLab:
        """A SIEM that knows the cell's own incident alone: a poller takes every incident that it is told of."""
        lab = SecuronixLab()
        about: dict[str, Any] = {"entity": "Activityip", "violatorText": cell.ip, "reason": [f"Policy: {RULE}"]}
        lab.add_incident(cell.incident_id, opened=self.began, **about)
        return lab

    async def _directory_front(self, cell: Cell) -> Front:
        """A second server of the same directory, which fails. ``ELSEWHERE`` is asked of it beside the first one."""
        lab = self._directory(self.tree)
        await self._start_directory(lab)
        first = [self.directory.url] if cell.step == ELSEWHERE else []
        client = self._active_directory([*first, lab.url], 1)
        beside = {"directory.confirm_disabled": self._active_directory([*first, lab.url], 5)} if first else {}
        if cell.dead:
            dead = self._active_directory([*first, f"ldaps://127.0.0.1:{self._dead[cell.fault]}"], 1)
            return Front(cell, client, dead, beside=beside)
        on = "modify" if cell.step in ("directory.disable_account", "directory.enable_account") else "search"
        lab.fail(cast(LdapFaultName, LDAP[cell.fault]), FOR_GOOD if cell.lasting else 1, on)
        return Front(cell, client, beside=beside)

    async def _mail_front(self, cell: Cell) -> Front:
        mailbox = await self._open.enter_async_context(self._mailbox())
        if not cell.dead:
            mailbox.fail(*SMTP[cell.fault], times=FOR_GOOD if cell.lasting else 1)
        dead = self._smtp(self._dead[cell.fault], SHORT) if cell.dead else None
        return Front(cell, self._smtp(mailbox.port, SHORT), dead, mailbox)

    def _siem(self, url: str, seconds: float | None) -> Securonix:
        bounded: dict[str, Any] = {} if seconds is None else {"total_seconds": seconds}
        return Securonix(url, self.siem.username, self.siem.password, tenant="acme", **bounded)

    def _endpoint(self, url: str, seconds: float | None) -> CrowdStrike:
        bounded: dict[str, Any] = {} if seconds is None else {"total_seconds": seconds}
        ca = self.certificates.ca_file
        return CrowdStrike(url, self.falcon.client_id, self.falcon.client_secret, ca_file=ca, **bounded)

    def _ticketing(self, url: str, seconds: float | None) -> ServiceNow:
        bounded: dict[str, Any] = {} if seconds is None else {"total_seconds": seconds}
        return ServiceNow(url, self.tickets.username, self.tickets.password, **bounded)

    def _identity(self, url: str, seconds: float | None) -> Entra:
        bounded: dict[str, Any] = {} if seconds is None else {"total_seconds": seconds}
        lab = self.graph
        return Entra(lab.tenant, lab.client_id, lab.client_secret, base_url=url, login_url=url, **bounded)

    def _chat(self, url: str, seconds: float | None) -> Slack:
        bounded: dict[str, Any] = {} if seconds is None else {"total_seconds": seconds}
        return Slack(url + self.chat.path, **bounded)

    def _active_directory(self, urls: Sequence[str], seconds: int) -> ActiveDirectory:
        lab = self.directory
        return ActiveDirectory(
            urls,
            lab.bind_user,
            lab.password,
            lab.base_dn,
            ca_file=self.certificates.ca_file,
            connect_timeout=min(seconds, 3),
            receive_timeout=seconds,
        )

    def _smtp(self, port: int, seconds: float) -> Smtp:
        ca = self.certificates.ca_file
        return Smtp(
            "127.0.0.1", port, SENDER, starttls=True, username="relay", password=MAIL_PASSWORD, ca_file=ca,
            timeout=seconds,
        )  # fmt: skip

    def _directory(self, tree: DirectoryTree) -> DirectoryLab:
        return DirectoryLab(self.certificates, tree=tree)

    def _mailbox(self) -> MailboxLab:
        return MailboxLab(self.certificates, username="relay", password=MAIL_PASSWORD)

    async def _serve(self, app: Any) -> str:
        return (await self._open.enter_async_context(Served(app))).url

    async def _start_directory(self, lab: DirectoryLab) -> None:
        lab.start()
        self._open.push_async_callback(asyncio.to_thread, lab.stop)

    def _closing(self, client: Any) -> Any:
        self._open.push_async_callback(client.aclose)
        return client

    def _bury(self) -> None:
        """Two ports that take no connection: one refuses, one has no room left and does not say so."""
        for fault in (REFUSED, "connect timeout"):
            bound = self._open.enter_context(socket.socket())
            bound.bind(("127.0.0.1", 0))
            self._dead[fault] = bound.getsockname()[1]
        bound.listen(0)
        for _ in range(3):
            filler = self._open.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the socket API takes it by position
            filler.connect_ex(bound.getsockname())
