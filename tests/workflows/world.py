"""A world in memory that satisfies the integrations' interfaces, for tests of the runbook alone.

The wire is tested elsewhere; here every answer, delay and failure is under the test's hand.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from activities.answer_links import LinkMaker
from activities.case import CaseActivities
from activities.chat import ChatActivities
from activities.directory import DirectoryActivities
from activities.endpoint import EndpointActivities
from activities.failures import told_to_temporal
from activities.ledger import LedgerActivities
from activities.next_case import NextCaseActivities
from activities.notification import NotificationActivities
from activities.pulse import Pulse
from activities.record import RecordActivities
from activities.siem import SiemActivities
from activities.ticketing import TicketingActivities
from handing_over import handing_on
from incident.alert import Alert, parse_alert
from incident.evidence import Corroboration, Device, Fact, Host, Identity, Located, Person, Risk, Sighting
from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from incident.requests import (
    ConfirmElsewhere,
    Delivery,
    ReadBack,
    Reservation,
    Reserve,
    RevokeSignIns,
    Ticket,
    Written,
)
from incident.voters import FindElectorate, Voters
from integrations.errors import NotFound
from starter import Started, start_incident
from workflows.containment_ledger import ContainmentLedger
from workflows.next_case import NextCase
from workflows.release_containment import ReleaseContainment
from workflows.suspicious_user_activity import SuspiciousUserActivity
from workflows.write_back import IncidentComment

NOW = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
ANALYST, ON_CALL, LEAD = "ana@acme.example", "oncall@acme.example", "lead@acme.example"
STRICT = SandboxRestrictions.default.with_import_notification_policy(
    SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
)

TIERS = (
    Tier(name="analyst", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(minutes=30)),
    Tier(name="on-call", recipients=(ON_CALL,), analysts=(ON_CALL,), wait=timedelta(minutes=20)),
    Tier(name="soc-lead", recipients=(LEAD,), analysts=(LEAD,), wait=timedelta(minutes=10)),
)


def policy(**changes: Any) -> CasePolicy:
    given: dict[str, Any] = {
        "medium_at": 30.0,
        "high_at": 70.0,
        "lookback": timedelta(days=7),
        "recheck_every": timedelta(days=7),
        "on_unanswered": OnUnanswered.CLOSE,
        "enrich_within": timedelta(minutes=2),
        "contain_within": timedelta(minutes=15),
        "verify_within": timedelta(minutes=15),
        "ticket_within": timedelta(hours=1),
        "tiers": TIERS,
        "guardrails": GuardrailPolicy(),
    }
    return CasePolicy(**{**given, **changes})


def alert(**changes: Any) -> Alert:
    number = uuid.uuid4().int
    given = {
        "id": f"SNX-{number % 10**8}",
        "rule": "Large data transfer from web server",
        "occurred_at": NOW.isoformat(),
        "severity": "medium",
        "source_ip": "198.51.100.2",
        "source_host": "web01",
        "destination_ip": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "bytes_transferred": 734003200,
        "tenant": "acme",
        "siem_incident_id": "200417",
    }
    return parse_alert({**given, **changes})


class World:
    """One host, one user, and what every system says about them."""

    def __init__(self) -> None:
        self.host: str | None = "FIN-LT-042"
        self.account: str | None = "jdoe"
        self.score: float | None = 50.0
        self.sightings = 1
        self.person = Person(
            account="jdoe",
            upn="jdoe@corp.example",
            mails=("john.doe@acme.example",),
            display_name="John Doe",
            employee_id="4711",
            dn="CN=John Doe,OU=Staff,DC=corp,DC=example",
            guid="11111111-2222-4333-8444-555555555555",
            sid="S-1-5-21-1-2-3-1104",
            enabled=True,
            user_account_control=512,
            managers=(Identity(account="boss", upn="boss@corp.example", mails=("boss@acme.example",)),),
        )
        self.device_kind = "Workstation"
        self.agent = "aid-1"
        self.online = True
        self.contained = False
        self.disabled = False
        self.writes: list[str] = []
        self.tickets: dict[str, Any] = {}
        self.notes: list[str] = []
        self.mails: list[Any] = []
        self.posts: list[Any] = []
        self.comments: list[str] = []
        self.failures: dict[str, list[BaseException]] = defaultdict(list)
        self.always: dict[str, BaseException] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []
        self.mailed = asyncio.Condition()
        self.reservation = Reservation(granted=True)
        self.reserved: list[Reserve] = []
        self.others = 0
        self.sign_ins: list[str | None] = []
        self.electorates: list[FindElectorate] = []
        self.groups: dict[str, tuple[str, ...]] = {}
        self.recused: dict[str, str] = {}
        self.accounts: dict[str, str] = {}
        self.directory_gate: threading.Event | None = None
        self.attached: dict[str, bytes] = {}
        self.record_key: str | None = "a key of the tests, long enough"

    async def _meet(self, name: str) -> None:
        self._fail(name)
        if name in self.gates:
            await self.gates[name].wait()

    def _fail(self, name: str) -> None:
        self.calls.append(name)
        if name in self.always:
            raise self.always[name]
        if self.failures[name]:
            raise self.failures[name].pop(0)

    async def locate(self, request: Any) -> Located:
        await self._meet("locate")
        host = (
            Fact[Host].of(Host(name=self.host, ip=request.ip), "Securonix asset", NOW)
            if self.host
            else Fact[Host].unknown("no host was seen at this address", at=NOW)
        )
        account = (
            Fact[str].of(self.account, "Securonix activity", NOW)
            if self.account
            else Fact[str].unknown("two people were active on this host", at=NOW, candidates=("jdoe", "asmith"))
        )
        return Located(host=host, account=account)

    async def risk(self, request: Any) -> Risk:
        await self._meet("risk")
        if self.score is None:
            raise NotFound("Securonix does not know jdoe")
        return Risk(score=self.score, documents=1)

    async def corroboration(self, request: Any) -> Corroboration:
        await self._meet("corroboration")
        seen = tuple(
            Sighting(kind="alert", id=f"e{n}", name="Upload to paste site", about="user", at=NOW)
            for n in range(self.sightings)
        )
        return Corroboration(total=self.sightings, sightings=seen)

    async def comment(self, incident_id: str, text: str, marker: str) -> bool:
        await self._meet("comment")
        self.comments.append(text)
        return True

    def find_person(self, name: str) -> Person:
        self._fail("find_person")
        return self.person

    def find_electorate(self, request: FindElectorate) -> Voters:
        self._fail("find_electorate")
        self.electorates.append(request)
        if self.directory_gate is not None:
            self.directory_gate.wait(20)
        groups = {tier: self.groups[name] for tier, name in request.groups.items() if name in self.groups}
        looked_at = {*request.addresses, *(m for found in groups.values() for m in found if request.members_too)}
        return Voters(
            members=groups,
            recused={mail: why for mail, why in self.recused.items() if mail in looked_at and request.suspect},
            accounts={mail: account for mail, account in self.accounts.items() if mail in looked_at},
        )

    def disable(self, account: Any) -> Written:
        self._fail("disable")
        if self.disabled:
            return Written(changed=False, before={"userAccountControl": "514"}, detail="was disabled already")
        self.disabled = True
        self.writes.append("disable")
        return Written(changed=True, before={"userAccountControl": "512"})

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        await self._meet("find_device")
        status = "contained" if self.contained else "normal"
        return Device(id=self.agent, hostname=hostname, kind=self.device_kind, containment=status)

    async def quarantine(self, device: Any) -> Written:
        await self._meet("quarantine")
        self.contained = True
        self.writes.append("quarantine")
        return Written(changed=True, before={"status": "normal"})

    async def open_ticket(self, draft: Any) -> Ticket:
        await self._meet("open_ticket")
        self.tickets.setdefault(draft.key, draft)
        return Ticket(id="sys1", number="INC0001")

    async def add_note(self, ticket: Any, text: str, marker: str) -> bool:
        await self._meet("add_note")
        self.notes.append(text)
        return True

    async def attach(self, ticket: Any, file: Any) -> bool:
        await self._meet("attach")
        new = file.name not in self.attached
        self.attached.setdefault(file.name, file.content)
        return new

    def enable(self, account: Any, before: dict[str, str]) -> Written:
        self._fail("enable")
        if not self.disabled:
            return Written(changed=False, before={"userAccountControl": "512"}, detail="was enabled already")
        self.disabled = False
        self.writes.append("enable")
        return Written(changed=True, before={"userAccountControl": "514"}, detail="enabled")

    async def lift(self, device: Any) -> Written:
        await self._meet("lift")
        if not self.contained:
            return Written(changed=False, before={"status": "normal"}, detail="was not contained")
        self.contained = False
        self.writes.append("lift")
        return Written(changed=True, before={"status": "contained"}, detail="lifted")

    async def send(self, mail: Any) -> Delivery:
        await self._meet("send")
        async with self.mailed:
            self.mails.append(mail)
            self.mailed.notify_all()
        return Delivery(message_id=mail.message_id, accepted=mail.recipients, refused={})

    async def post(self, notice: Any) -> None:
        await self._meet("post")
        self.posts.append(notice)


class _Directory:
    def __init__(self, world: World) -> None:
        self.find_person, self.disable, self.enable = world.find_person, world.disable, world.enable
        self.find_electorate = world.find_electorate
        self._world = world

    def read_back(self, account: Any) -> ReadBack:
        self._world._fail("read_back_account")
        return ReadBack(in_force=self._world.disabled, server="dc1", others=self._world.others)


class _Endpoint:
    def __init__(self, world: World) -> None:
        self.find_device, self.quarantine, self.lift = world.find_device, world.quarantine, world.lift
        self._world = world

    async def read_back(self, device: Any) -> ReadBack:
        await self._world._meet("read_back_host")
        return ReadBack(in_force=self._world.contained and self._world.online, pending=not self._world.online)


class _Steps:
    """Steps whose own modules are tested elsewhere, answered by the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    @activity.defn(name="ledger.reserve")
    async def reserve(self, request: Reserve) -> Reservation:
        await self._world._meet("reserve")
        self._world.reserved.append(request)
        return self._world.reservation

    @activity.defn(name="directory.confirm_elsewhere")
    async def confirm_elsewhere(self, request: ConfirmElsewhere) -> ReadBack:
        with told_to_temporal():
            await self._world._meet("confirm_elsewhere")
        return ReadBack(in_force=True, server="dc2")

    @activity.defn(name="identity.revoke_sign_ins")
    async def revoke_sign_ins(self, request: RevokeSignIns) -> Written:
        await self._world._meet("revoke_sign_ins")
        self._world.sign_ins.append(request.upn)
        return Written(changed=True, before={}, detail="revoked")


@asynccontextmanager
async def working(
    client: Client,
    world: World,
    queue: str,
    worker_policy: CasePolicy | None = None,
    desk: LinkMaker | None = None,
    ledger: LedgerActivities | None = None,
) -> AsyncIterator[None]:
    """A worker over the world, with the sandbox at its strictest and every bug a failure.

    Places are granted by the world, or by the real ``ledger``.
    """
    siem = SiemActivities(world, "Securonix")  # type: ignore[arg-type]
    directory = DirectoryActivities(_Directory(world), "Active Directory")  # type: ignore[arg-type]
    endpoint = EndpointActivities(_Endpoint(world), "CrowdStrike Falcon")  # type: ignore[arg-type]
    ticketing = TicketingActivities(world)  # type: ignore[arg-type]
    notification = NotificationActivities(world, "acme.example", desk)  # type: ignore[arg-type]
    case = CaseActivities(client, worker_policy or policy())
    take = handing_on(client, worker_policy or policy(), task_queue=queue)
    beside = _Steps(world)
    with ThreadPoolExecutor(16) as executor:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[
                SuspiciousUserActivity,
                ReleaseContainment,
                IncidentComment,
                NextCase,
                *([ContainmentLedger] if ledger else []),
            ],
            activities=[
                siem.locate_host,
                siem.score_risk,
                siem.find_corroboration,
                siem.comment_incident,
                directory.find_person,
                directory.find_electorate,
                directory.disable_account,
                directory.confirm_disabled,
                directory.enable_account,
                directory.confirm_enabled,
                endpoint.find_device,
                endpoint.quarantine_host,
                endpoint.confirm_quarantined,
                endpoint.lift_quarantine,
                endpoint.confirm_lifted,
                ticketing.open_ticket,
                ticketing.add_note,
                notification.notify,
                ChatActivities(world).post,  # type: ignore[arg-type]
                case.snapshot_policy,
                case.find_earlier,
                case.containment_of,
                NextCaseActivities(client, take).open_next,
                RecordActivities(world, world.record_key).attach,  # type: ignore[arg-type]
                (ledger or beside).reserve,
                beside.confirm_elsewhere,
                beside.revoke_sign_ins,
            ],
            activity_executor=executor,
            max_concurrent_activities=16,
            interceptors=[Pulse()],
            workflow_runner=SandboxedWorkflowRunner(restrictions=STRICT),
            workflow_failure_exception_types=[Exception],
        ):
            yield


class Scene:
    """A client, a world and a worker, and the calls that a test makes."""

    def __init__(self, client: Client, world: World, queue: str) -> None:
        self.client = client
        self.world = world
        self.queue = queue

    async def start(self, given: Alert, steering: CasePolicy | None = None) -> Started:
        return await start_incident(self.client, given, policy=steering or policy(), task_queue=self.queue)

    async def run(self, given: Alert, steering: CasePolicy | None = None) -> dict[str, Any]:
        """Start a case and wait for its end; returns its last status."""
        return await self.end(await self.start(given, steering))

    async def end(self, started: Started) -> dict[str, Any]:
        """Wait for a case's end; returns its last status."""
        async with asyncio.timeout(30):
            result: dict[str, Any] = await self.handle(started).result()
        return result

    def handle(self, started: Started) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(started.case_id, run_id=started.run_id)

    async def mailed(self, count: int) -> None:
        """Wait until so many mails went out."""
        async with asyncio.timeout(20), self.world.mailed:
            await self.world.mailed.wait_for(lambda: len(self.world.mails) >= count)

    async def until(self, started: Started, condition: Any) -> dict[str, Any]:
        """Query until the status fulfils a condition; each query is answered after all that went before it."""
        async with asyncio.timeout(20):
            while True:
                state: dict[str, Any] = await self.handle(started).query("status")
                if condition(state):
                    return state
                await asyncio.sleep(0.02)
