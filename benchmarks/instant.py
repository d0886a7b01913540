"""Vendors in this process that answer at once: what is measured around them is Holdpoint and Temporal alone.

The world follows from the destination address ``10.<row>.<a>.<b>``: the row says how risky the user is and what else
there is, the rest who and which host. Only what is contained is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from benchmarks.marks import Marks
from clients import Clients
from incident.evidence import Corroboration, Device, Fact, Host, Located, Person, Risk, Sighting
from incident.requests import (
    AccountRef,
    Delivery,
    DeviceRef,
    FindCorroboration,
    LocateHost,
    ReadBack,
    ScoreRisk,
    Ticket,
    TicketDraft,
    Written,
)
from incident.voters import FindElectorate, Voters
from integrations.errors import NotFound, Rejected
from integrations.interfaces import Attachment, Check, Mail

WRITES = ("quarantine", "disable")
"""The kinds of marks that are containment writes."""


class Row(IntEnum):
    """A row of the decision table, by what the world says."""

    HIGH_CORROBORATED = 1
    MEDIUM_CORROBORATED = 2
    HIGH_ALONE = 3
    MEDIUM_ALONE = 4
    HIGH_SEARCH_FAILED = 5
    LOW_CORROBORATED = 6
    LOW_ALONE = 7
    RISK_UNKNOWN = 8


@dataclass(frozen=True)
class _Says:
    score: float | None
    sightings: int | None


_WORLD = {
    Row.HIGH_CORROBORATED: _Says(90.0, 2),
    Row.MEDIUM_CORROBORATED: _Says(50.0, 2),
    Row.HIGH_ALONE: _Says(90.0, 0),
    Row.MEDIUM_ALONE: _Says(50.0, 0),
    Row.HIGH_SEARCH_FAILED: _Says(90.0, None),
    Row.LOW_CORROBORATED: _Says(0.01, 2),
    Row.LOW_ALONE: _Says(0.01, 0),
    Row.RISK_UNKNOWN: _Says(None, 2),
}


def address(row: Row, number: int) -> str:
    """The destination address of a row's host of that number (below 65 536)."""
    return f"10.{row.value}.{number >> 8 & 255}.{number & 255}"


def about(ip: str) -> str:
    """The name under which marks tell of a host or its user."""
    return ip.replace(".", "-")


def _row(name: str) -> Row:
    return Row(int(name.split("-")[1]))


class InstantSiem:
    """Says what the row says."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    async def locate(self, request: LocateHost) -> Located:
        """The host and the user of that address."""
        name, now = about(request.ip), datetime.now(UTC)
        self._marks.call("locate", name)
        host = Fact[Host].of(Host(name=f"ws-{name}", ip=request.ip), "Securonix asset", now)
        return Located(host=host, account=Fact[str].of(f"u-{name}", "Securonix activity", now))

    async def risk(self, request: ScoreRisk) -> Risk:
        """The row's score. Raises NotFound where it has none."""
        name = (request.account or "").removeprefix("u-")
        self._marks.call("risk", name)
        score = _WORLD[_row(name)].score
        if score is None:
            raise NotFound("Securonix does not know the user")
        return Risk(score=score, documents=1)

    async def corroboration(self, request: FindCorroboration) -> Corroboration:
        """The row's sightings. Raises Rejected where the search fails."""
        name = about(request.ip)
        self._marks.call("corroboration", name)
        count = _WORLD[_row(name)].sightings
        if count is None:
            raise Rejected("the search was refused")
        seen = [
            Sighting(kind="alert", id=f"e{n}", name="Upload to a paste site", about="user", at=datetime.now(UTC))
            for n in range(count)
        ]
        return Corroboration(total=count, sightings=tuple(seen))

    async def comment(self, incident_id: str, text: str, marker: str) -> bool:
        """Take the comment."""
        self._marks.call("comment", incident_id)
        return True

    async def check(self) -> list[Check]:
        """Nothing to look at."""
        return []

    async def aclose(self) -> None:
        """Nothing to close."""


class InstantDirectory:
    """Everybody is there, and nobody leads anybody."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._disabled: set[str] = set()

    def find_person(self, name: str) -> Person:
        """The account of that name."""
        self._marks.call("find_person", name.removeprefix("u-"))
        disabled = name in self._disabled
        return Person(
            account=name,
            upn=f"{name}@corp.example.com",
            mails=(f"{name}@example.com",),
            display_name=name,
            employee_id=name,
            dn=f"CN={name},OU=Staff,DC=corp,DC=example,DC=com",
            guid="11111111-2222-4333-8444-555555555555",
            department="Sales",
            enabled=not disabled,
            user_account_control=514 if disabled else 512,
        )

    def disable(self, account: AccountRef) -> Written:
        """Disable it."""
        self._marks.write("disable", account.account.removeprefix("u-"))
        changed = account.account not in self._disabled
        self._disabled.add(account.account)
        return Written(changed=changed, before={"userAccountControl": "512" if changed else "514"})

    def read_back(self, account: AccountRef) -> ReadBack:
        """Whether it is disabled."""
        self._marks.call("read_back_account", account.account.removeprefix("u-"))
        return ReadBack(in_force=account.account in self._disabled, server="dc1")

    def read_back_elsewhere(self, account: AccountRef, asked: str | None) -> ReadBack:
        """As ``read_back``."""
        return self.read_back(account)

    def unknown_groups(self, names: Sequence[str]) -> list[str]:
        """None of them."""
        return []

    def find_electorate(self, request: FindElectorate) -> Voters:
        """Nobody is recused."""
        self._marks.call("find_electorate", "all")
        return Voters()

    def enable(self, account: AccountRef, before: dict[str, str]) -> Written:
        """Enable it."""
        self._disabled.discard(account.account)
        return Written(changed=True, before={"userAccountControl": "514"})

    def check(self) -> list[Check]:
        """Nothing to look at."""
        return []


class InstantEndpoint:
    """Every host has an agent."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._contained: set[str] = set()

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        """The agent of that host."""
        self._marks.call("find_device", hostname.removeprefix("ws-"))
        status = "contained" if hostname in self._contained else "normal"
        return Device(id=f"aid-{hostname}", hostname=hostname, kind="Workstation", containment=status)

    async def quarantine(self, device: DeviceRef) -> Written:
        """Cut it off."""
        self._marks.write("quarantine", device.hostname.removeprefix("ws-"))
        changed = device.hostname not in self._contained
        self._contained.add(device.hostname)
        return Written(changed=changed, before={"status": "normal"})

    async def read_back(self, device: DeviceRef) -> ReadBack:
        """Whether it is cut off."""
        self._marks.call("read_back_host", device.hostname.removeprefix("ws-"))
        return ReadBack(in_force=device.hostname in self._contained)

    async def lift(self, device: DeviceRef) -> Written:
        """Let it back."""
        self._contained.discard(device.hostname)
        return Written(changed=True, before={"status": "contained"})

    async def check(self) -> list[Check]:
        """Nothing to look at."""
        return []

    async def aclose(self) -> None:
        """Nothing to close."""


class InstantTicketing:
    """Takes every ticket."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """Open it."""
        self._marks.call("open_ticket", draft.key)
        return Ticket(id=draft.key, number=f"INC{draft.key[-8:]}")

    async def add_note(self, ticket: Ticket, text: str, marker: str) -> bool:
        """Take the note."""
        self._marks.call("add_note", ticket.id)
        return True

    async def attach(self, ticket: Ticket, file: Attachment) -> bool:
        """Take the file."""
        self._marks.call("attach", ticket.id)
        return True

    async def check(self) -> list[Check]:
        """Nothing to look at."""
        return []

    async def aclose(self) -> None:
        """Nothing to close."""


class InstantMailer:
    """Takes every mail."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    async def send(self, mail: Mail) -> Delivery:
        """Take it."""
        self._marks.call("mail", mail.message_id)
        return Delivery(message_id=mail.message_id, accepted=mail.recipients, refused={})

    async def check(self) -> list[Check]:
        """Nothing to look at."""
        return []


def instant_clients(marks: Marks) -> Clients:
    """One of each."""
    return Clients(
        siem=InstantSiem(marks),
        directory=InstantDirectory(marks),
        endpoint=InstantEndpoint(marks),
        ticketing=InstantTicketing(marks),
        mailer=InstantMailer(marks),
    )
