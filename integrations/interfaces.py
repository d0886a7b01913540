"""The small interfaces that the activities use. A second vendor is one new file that satisfies one of them.

Every method raises the errors of ``integrations.errors`` and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Protocol

from pydantic import Field

from incident.chat import ChatNotice
from incident.evidence import Corroboration, Device, Frozen, Located, Person, Risk
from incident.polling import SiemIncident, SiemIncidents
from incident.requests import (
    AccountRef,
    Delivery,
    DeviceRef,
    FindCorroboration,
    LocateHost,
    ReadBack,
    RevokeSignIns,
    ScoreRisk,
    Ticket,
    TicketDraft,
    Written,
)
from incident.voters import FindElectorate, Voters


class Check(Frozen):
    """One line of the doctor: what was looked at, whether it is well, and what was found or has to be done."""

    name: str
    ok: bool
    detail: str


class Siem(Protocol):
    """Where the alerts, the activity and the risk scores are."""

    async def locate(self, request: LocateHost) -> Located:
        """The host behind an address and the account active on it; each unknown with a reason when there is not one."""

    async def risk(self, request: ScoreRisk) -> Risk:
        """The user's score. Raises NotFound for a user whom the SIEM does not know, Ambiguous for two records."""

    async def corroboration(self, request: FindCorroboration) -> Corroboration:
        """Further alerts and events about the host or the user, the starting alert excluded."""

    async def comment(self, incident_id: str, text: str, marker: str) -> bool:
        """Comment the SIEM's own incident unless ``marker`` is there already; tells whether it was written."""

    async def check(self) -> list[Check]:
        """Read-only: reachable, certificate, credentials, rights, clock skew."""

    async def aclose(self) -> None:
        """Close the connections."""


class IncidentSource(Protocol):
    """A SIEM whose incidents can be listed."""

    async def incidents(self, since: datetime, until: datetime, offset: int) -> SiemIncidents:
        """A page of the incidents that were opened in a window, from the ``offset``th on; an empty one is the last."""

    async def with_address(self, incident: SiemIncident, policies: Iterable[str]) -> SiemIncident:
        """The incident, with what its violations tell of its address if it tells none itself."""

    async def comment(self, incident_id: str, text: str, marker: str) -> bool:
        """Comment the incident unless ``marker`` is there already; tells whether it was written."""


class Directory(Protocol):
    """Where the accounts are. Synchronous: it is called from a thread pool of known size."""

    def find_person(self, name: str) -> Person:
        """The one account of that name. Raises NotFound or Ambiguous."""

    def disable(self, account: AccountRef) -> Written:
        """Disable by compare-and-swap, keeping every other bit; already disabled is success."""

    def read_back(self, account: AccountRef) -> ReadBack:
        """Whether the account is disabled now."""

    def read_back_elsewhere(self, account: AccountRef, asked: str | None) -> ReadBack:
        """Whether the account is disabled at the servers other than ``asked`` too; each that answers has to say so."""

    def unknown_groups(self, names: Sequence[str]) -> list[str]:
        """Those of the names (account names, common names or SIDs of groups) that the directory does not know."""

    def find_electorate(self, request: FindElectorate) -> Voters:
        """Who is in the tiers' groups, and who is the suspect, above or below them."""

    def enable(self, account: AccountRef, before: dict[str, str]) -> Written:
        """Undo ``disable``: restore exactly the one bit, and only if ``before`` had it clear."""

    def check(self) -> list[Check]:
        """Read-only: each server reachable, certificate, credentials, rights, clock skew."""


class Endpoint(Protocol):
    """What can cut a host off from the network."""

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        """The one agent of that host. ``ip`` is its address in the alert. Raises NotFound or Ambiguous."""

    async def quarantine(self, device: DeviceRef) -> Written:
        """Ask for quarantine unless it is there or on its way; already quarantined is success."""

    async def read_back(self, device: DeviceRef) -> ReadBack:
        """Whether the host is cut off now."""

    async def lift(self, device: DeviceRef) -> Written:
        """Undo ``quarantine``."""

    async def check(self) -> list[Check]:
        """Read-only: reachable, certificate, credentials, rights, clock skew."""

    async def aclose(self) -> None:
        """Close the connections."""


class Attachment(Frozen):
    """A file for a ticket: its name (``[A-Za-z0-9._-]``, at most 100 characters), its media type and its bytes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    media_type: Annotated[str, Field(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
    content: bytes


class Ticketing(Protocol):
    """Where tickets are."""

    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """Create the ticket once: search by key, create, search again; finds the one that is there already."""

    async def add_note(self, ticket: Ticket, text: str, marker: str) -> bool:
        """Add a private note unless ``marker`` is there already; tells whether it was written."""

    async def attach(self, ticket: Ticket, file: Attachment) -> bool:
        """Attach the file unless one of its name is there already; tells whether it was uploaded."""

    async def check(self) -> list[Check]:
        """Read-only: reachable, certificate, credentials, rights, clock skew."""

    async def aclose(self) -> None:
        """Close the connections."""


class SignIns(Protocol):
    """A cloud directory in which an account's sessions can be ended."""

    async def revoke(self, request: RevokeSignIns) -> Written:
        """End the sessions. Raises NotFound or Ambiguous where there is not one such account."""

    async def check(self) -> list[Check]:
        """Read-only: reachable, certificate, credentials, rights, clock skew."""

    async def aclose(self) -> None:
        """Close the connections."""


class Mail(Frozen):
    """A mail, ready to be sent: fixed subject, both bodies, threading ids without angle brackets."""

    subject: str
    text: str
    html: str
    recipients: tuple[str, ...]
    message_id: str
    in_reply_to: str | None = None


class Mailer(Protocol):
    """What sends mail."""

    async def send(self, mail: Mail) -> Delivery:
        """Send it to every recipient that the server takes. Raises Rejected if it takes none."""

    async def check(self) -> list[Check]:
        """Read-only: reachable, STARTTLS and certificate, credentials. Sends nothing."""


class Chat(Protocol):
    """A channel that is told of cases. Nobody answers there."""

    async def post(self, notice: ChatNotice) -> None:
        """Post the line. Once it is taken nothing more is known of it."""

    async def check(self) -> list[Check]:
        """Reachable, certificate, address. Posts nothing."""

    async def aclose(self) -> None:
        """Close the connections."""
