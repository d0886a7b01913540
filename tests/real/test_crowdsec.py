"""The CrowdSec client against a real local API, with a real bouncer and packets that really stop."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from typing import Any, Protocol

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from incident.requests import DeviceRef, ReadBack
from integrations.blackbox import Probe
from integrations.crowdsec import BANNED, OPEN, REACHED, SILENT, UNPROBED, CrowdSec
from integrations.errors import Misconfigured, NotFound, Unreachable
from tests.real.crowdsec import MACHINE, PASSWORD, CrowdSecLab
from tests.real.netlab import FIN, MGMT, VICTIM, WEB, Echo, NetLab, hears, unique
from tests.real.packages import need
from tests.workflows import world as worlds
from tests.workflows.world import Scene, World, alert, policy, working

HTTP, SMB, WINRM = 8080, 445, 5985
HOST = DeviceRef(id=VICTIM, hostname="FIN-LT-042", comment="Holdpoint HP-1", seen=REACHED)
BAN_FOR = timedelta(days=30)
WITHIN = 15.0


class Make(Protocol):
    def __call__(self, **changes: Any) -> CrowdSec: ...


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrowdSecLab]:
    need("CrowdSec")
    with (
        NetLab(unique()) as net,
        Echo(net, "web", HTTP),
        Echo(net, "fin", SMB),
        Echo(net, "victim", WINRM),
        CrowdSecLab(net, tmp_path_factory.mktemp("crowdsec")) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def as_it_was(lab: CrowdSecLab) -> Iterator[None]:
    """Every program runs, nothing is banned, and the router's set is empty."""
    yield
    lab.mend()
    lab.cscli("decisions", "delete", "--all")
    lab.until("an empty set", lambda: "elements" not in lab.enforced())


@pytest.fixture
async def make(lab: CrowdSecLab) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def connect(**changes: Any) -> CrowdSec:
            plain: dict[str, Any] = {
                "url": lab.url,
                "machine": MACHINE,
                "password": PASSWORD,
                "bouncer_key": lab.key,
                "ban_for": BAN_FOR,
                "probe": Probe(lab.probe_url, "icmp", control=FIN),
                "ca_file": lab.ca_file,
            }
            client = CrowdSec(**(plain | changes))
            stack.push_async_callback(client.aclose)
            return client

        yield connect


@pytest.fixture
def crowdsec(make: Make) -> CrowdSec:
    return make()


async def in_force(client: CrowdSec, lab: CrowdSecLab, device: DeviceRef = HOST) -> ReadBack:
    """Ask until the ban is proved, as the runbook does."""
    limit = time.monotonic() + WITHIN
    while not (seen := await client.read_back(device)).in_force:
        assert time.monotonic() < limit, f"not in force after {WITHIN} s: {seen}\n{lab.bouncer.tail()}"
    return seen


def stands(lab: CrowdSecLab) -> list[dict[str, Any]]:
    """The decisions about the victim, as the API lists them."""
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    with httpx.Client(verify=context, trust_env=False) as client:
        answer = client.get(f"{lab.url}/v1/decisions", params={"ip": VICTIM}, headers={"X-Api-Key": lab.key})
    return answer.raise_for_status().json() or []


class TestTraffic:
    async def test_a_ban_stops_it_and_the_lift_brings_it_back(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        device = await crowdsec.find_device("FIN-LT-042", VICTIM)
        assert (device.id, device.hostname, device.kind, device.containment) == (VICTIM, "FIN-LT-042", None, REACHED)
        with closing(lab.net.dial("victim", WEB, HTTP)) as transfer, closing(lab.net.dial("fin", WEB, HTTP)) as other:
            assert hears(transfer)
            written = await crowdsec.quarantine(HOST)
            assert (written.changed, written.before) == (True, {"status": REACHED})
            assert written.detail.startswith("ban recorded, by Holdpoint, for another 719h59m")
            seen = await in_force(crowdsec, lab)
            assert "does not reach" in seen.detail
            assert VICTIM in lab.enforced()
            assert not hears(transfer)
            assert not lab.net.reaches("victim", WEB, HTTP)
            assert not lab.net.reaches("victim", FIN, SMB)
            assert not lab.net.reaches("fin", VICTIM, WINRM)
            assert not lab.net.reaches("web", VICTIM, WINRM)
            assert lab.net.reaches("mgmt", VICTIM, WINRM)
            assert lab.net.reaches("fin", WEB, HTTP)
            assert hears(other)
            assert (await crowdsec.find_device("FIN-LT-042", VICTIM)).containment == BANNED
        lifted = await crowdsec.lift(HOST)
        assert (lifted.changed, lifted.before, lifted.detail) == (True, {"status": BANNED}, "lifted")
        lab.until("traffic after the lift", lambda: lab.net.reaches("victim", WEB, HTTP))
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending) == (False, False)
        assert (await crowdsec.find_device("FIN-LT-042", VICTIM)).containment == REACHED

    async def test_a_dead_bouncer_is_not_taken_for_a_ban(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        lab.bouncer.kill()
        assert (await crowdsec.quarantine(HOST)).changed
        assert [row["scenario"] for row in stands(lab)] == ["holdpoint/quarantine"]
        for _ in range(3):
            seen = await crowdsec.read_back(HOST)
            assert (seen.in_force, seen.pending, seen.detail) == (False, True, "the probe still reaches it")
        assert lab.net.reaches("victim", WEB, HTTP)
        lab.start_bouncer()
        await in_force(crowdsec, lab)
        assert not lab.net.reaches("victim", WEB, HTTP)

    async def test_a_dead_bouncer_is_not_taken_for_a_lift(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        await in_force(crowdsec, lab)
        lab.bouncer.kill()
        assert (await crowdsec.lift(HOST)).changed
        assert (await crowdsec.find_device("FIN-LT-042", VICTIM)).containment == SILENT
        assert not lab.net.reaches("victim", WEB, HTTP)

    async def test_a_ban_of_a_range_is_made_good(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        """The bouncer takes a range for its first address: the record says banned, and the traffic flows."""
        lab.cscli("decisions", "add", "--range", "198.51.100.8/29", "--reason", "the whole floor")
        lab.until("the range is in the set", lambda: "198.51.100.8" in lab.enforced())
        assert (await crowdsec.find_device("FIN-LT-042", VICTIM)).containment == BANNED
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending, seen.detail) == (False, True, "the probe still reaches it")
        written = await crowdsec.quarantine(HOST)
        assert (written.changed, written.before) == (True, {"status": BANNED})
        await in_force(crowdsec, lab)
        assert not lab.net.reaches("victim", WEB, HTTP)
        lifted = await crowdsec.lift(HOST)
        assert "still banned by cscli (the whole floor) of 198.51.100.8/29" in lifted.detail


class TestWhoseBan:
    async def test_twice_is_one_decision(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        first, second = [await crowdsec.quarantine(HOST) for _ in range(2)]
        assert (first.changed, second.changed, second.before) == (True, False, {"status": BANNED})
        (row,) = stands(lab)
        assert (row["type"], row["scope"], row["value"]) == ("ban", "Ip", VICTIM)
        assert row["scenario"] == "holdpoint/quarantine"
        assert row["duration"].startswith("719h59m")

    async def test_an_administrator_sees_it(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        (made,) = json.loads(lab.cscli("decisions", "list", "-o", "json"))
        assert made["source"]["value"] == VICTIM
        assert made["decisions"][0]["scenario"] == "holdpoint/quarantine"
        assert json.loads(lab.cscli("alerts", "inspect", str(made["id"]), "-o", "json"))["message"] == "Holdpoint HP-1"

    @pytest.mark.parametrize("order", ["before", "after"])
    async def test_anothers_ban_counts_and_stays(self, lab: CrowdSecLab, crowdsec: CrowdSec, order: str) -> None:
        if order == "after":
            assert (await crowdsec.quarantine(HOST)).changed
        lab.cscli("decisions", "add", "--ip", VICTIM, "--duration", "3h", "--reason", "port scan")
        again = await crowdsec.quarantine(HOST)
        assert (again.changed, again.before) == (False, {"status": BANNED})
        assert "cscli (port scan), for another 2h59m" in again.detail
        await in_force(crowdsec, lab)
        lifted = await crowdsec.lift(HOST)
        assert lifted.changed is (order == "after")
        assert "still banned by cscli (port scan)" in lifted.detail
        assert [row["scenario"] for row in stands(lab)] == ["port scan"]
        seen = await crowdsec.read_back(HOST)
        assert seen.in_force
        assert not lab.net.reaches("victim", WEB, HTTP)

    async def test_a_ban_found_when_first_looked_at(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        lab.cscli("decisions", "add", "--ip", VICTIM, "--reason", "port scan")
        lab.until("the ban is in the set", lambda: VICTIM in lab.enforced())
        device = await crowdsec.find_device("FIN-LT-042", VICTIM)
        ref = DeviceRef(id=device.id, hostname=device.hostname, seen=device.containment)
        assert not (await crowdsec.quarantine(ref)).changed
        assert (await crowdsec.read_back(ref)).in_force

    async def test_nothing_to_lift(self, crowdsec: CrowdSec) -> None:
        written = await crowdsec.lift(HOST)
        assert (written.changed, written.before) == (False, {"status": OPEN})

    async def test_both_decisions_of_ours_are_lifted(self, lab: CrowdSecLab, make: Make) -> None:
        await asyncio.gather(*(make().quarantine(HOST) for _ in range(4)))
        assert (await make().lift(HOST)).changed
        assert stands(lab) == []


class TestProof:
    async def test_a_host_that_never_answered_is_never_verified(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        with lab.deaf("victim"):
            device = await crowdsec.find_device("FIN-LT-042", VICTIM)
            assert device.containment == SILENT
            ref = HOST.model_copy(update={"seen": device.containment})
            written = await crowdsec.quarantine(ref)
            assert (written.changed, written.before) == (True, {"status": SILENT})
            lab.until("the ban is in the set", lambda: VICTIM in lab.enforced())
            seen = await crowdsec.read_back(ref)
            assert (seen.in_force, seen.pending) == (False, True)
            assert "did not answer before the ban either" in seen.detail

    async def test_a_port_is_probed_where_one_is_set(self, lab: CrowdSecLab, make: Make) -> None:
        lab.until("the port", lambda: lab.net.reaches("web", VICTIM, WINRM))
        answering = make(probe=Probe(lab.probe_url, "tcp_connect", port=WINRM, control=f"{FIN}:{SMB}"))
        with lab.deaf("victim"):
            assert (await answering.find_device("FIN-LT-042", VICTIM)).containment == REACHED
        shut = make(probe=Probe(lab.probe_url, "tcp_connect", port=SMB, control=FIN))
        assert (await shut.find_device("FIN-LT-042", VICTIM)).containment == SILENT
        await answering.quarantine(HOST)
        await in_force(answering, lab)

    async def test_a_dead_probe_proves_nothing(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        await in_force(crowdsec, lab)
        lab.exporter.kill()
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending) == (False, True)
        assert "the probe does not work" in seen.detail
        lab.start_exporter()
        assert (await crowdsec.read_back(HOST)).in_force

    async def test_a_dead_probe_keeps_nobody_from_being_banned(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        lab.exporter.kill()
        device = await crowdsec.find_device("FIN-LT-042", VICTIM)
        assert device.containment == UNPROBED
        ref = HOST.model_copy(update={"seen": device.containment})
        assert (await crowdsec.quarantine(ref)).changed
        lab.start_exporter()
        lab.until("the ban is in the set", lambda: VICTIM in lab.enforced())
        seen = await crowdsec.read_back(ref)
        assert (seen.in_force, seen.pending) == (False, True)
        assert "did not work before the ban" in seen.detail

    async def test_a_dead_control_proves_nothing(self, lab: CrowdSecLab, make: Make) -> None:
        client = make(probe=Probe(lab.probe_url, "icmp", control=MGMT))
        await client.quarantine(HOST)
        await in_force(client, lab)
        with lab.deaf("mgmt"):
            seen = await client.read_back(HOST)
            assert (seen.in_force, seen.pending) == (False, True)
            assert seen.detail == "the probe's control target does not answer: the probe proves nothing"
            assert not (await client.check())[-1].ok
        assert (await client.read_back(HOST)).in_force

    async def test_without_a_probe_nothing_is_ever_proved(self, lab: CrowdSecLab, make: Make) -> None:
        client = make(probe=None)
        assert (await client.find_device("FIN-LT-042", VICTIM)).containment == OPEN
        await client.quarantine(HOST)
        lab.until("the ban is in the set", lambda: VICTIM in lab.enforced())
        seen = await client.read_back(HOST)
        assert (seen.in_force, seen.pending) == (False, True)
        assert seen.detail == "the API has recorded it; no probe is configured, so nothing proves that it is enforced"


class TestRefusals:
    @pytest.mark.parametrize("text", ["FIN-LT-042", "198.51.100.10 ; nft flush ruleset", "0/0", "127.0.0.1", "::"])
    async def test_only_an_address_goes_out(self, lab: CrowdSecLab, crowdsec: CrowdSec, text: str) -> None:
        ref = DeviceRef(id=text, hostname="FIN-LT-042", seen=REACHED)
        for call in (crowdsec.find_device("x", text), crowdsec.quarantine(ref), crowdsec.lift(ref)):
            with pytest.raises(NotFound, match="was not asked"):
                await call
        assert stands(lab) == []

    async def test_a_wrong_password(self, lab: CrowdSecLab, make: Make) -> None:
        client = make(password="Wr0ng-Passw0rd")
        with pytest.raises(Misconfigured, match="check machine and password") as failed:
            await client.quarantine(HOST)
        assert "Wr0ng" not in str(failed.value)
        assert stands(lab) == []

    async def test_a_wrong_key(self, make: Make) -> None:
        client = make(bouncer_key="0123456789abcdef")
        with pytest.raises(Misconfigured, match="bouncer_key") as failed:
            await client.find_device("FIN-LT-042", VICTIM)
        assert "0123456789abcdef" not in str(failed.value)

    async def test_an_authority_that_is_not_trusted(self, make: Make) -> None:
        with pytest.raises(Misconfigured, match="certificate"):
            await make(ca_file=None).find_device("FIN-LT-042", VICTIM)

    async def test_a_token_that_ended_with_the_api(self, lab: CrowdSecLab, crowdsec: CrowdSec) -> None:
        assert (await crowdsec.quarantine(HOST)).changed
        lab.lapi.kill()
        with pytest.raises(Unreachable):
            await crowdsec.lift(HOST)
        lab.start_lapi()
        assert (await crowdsec.lift(HOST)).changed
        assert stands(lab) == []


class TestCheck:
    async def test_all_is_well(self, crowdsec: CrowdSec) -> None:
        checks = await crowdsec.check()
        assert [check.name for check in checks] == [
            "CrowdSec: machine",
            "CrowdSec: bouncer key",
            "CrowdSec: clock",
            "CrowdSec: bouncer",
            "blackbox exporter: probe",
            "blackbox exporter: control target",
        ]
        assert all(check.ok for check in checks)

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"password": "wrong"}, "CrowdSec: machine"),
            ({"machine": "nobody"}, "CrowdSec: machine"),
            ({"bouncer_key": "wrong"}, "CrowdSec: bouncer key"),
            ({"ca_file": None}, "CrowdSec: machine"),
        ],
    )
    async def test_what_is_wrong_is_named(self, make: Make, changes: dict[str, Any], name: str) -> None:
        assert name in [check.name for check in await make(**changes).check() if not check.ok]

    async def test_the_probe_is_looked_at(self, lab: CrowdSecLab, make: Make) -> None:
        unknown = (await make(probe=Probe(lab.probe_url, "icpm", control=FIN)).check())[-1]
        assert not unknown.ok
        assert 'Unknown module "icpm"' in unknown.detail
        nobody = (await make(probe=Probe(lab.probe_url, "icmp", control="203.0.113.7")).check())[-1]
        assert not nobody.ok
        without = await make(probe=Probe(lab.probe_url, "icmp")).check()
        assert all(check.ok for check in without)
        assert "names none" in without[-1].detail
        lab.exporter.kill()
        assert not (await make().check())[-1].ok
        assert "not checked" in (await make(probe=None).check())[-1].detail


class TestCase:
    """A whole case; every other system is a world in memory."""

    @pytest.fixture
    async def scene(
        self, dev_server: WorkflowEnvironment, crowdsec: CrowdSec, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Scene]:
        monkeypatch.setattr(worlds, "_Endpoint", lambda _: crowdsec)
        world, queue = World(), f"q-{uuid.uuid4()}"
        async with working(dev_server.client, world, queue):
            yield Scene(dev_server.client, world, queue)

    async def test_it_ends_contained(self, lab: CrowdSecLab, scene: Scene) -> None:
        state = await scene.run(alert(destination_ip=VICTIM, tenant=uuid.uuid4().hex))
        quarantine = next(a for a in state["actions"] if a["action"] == "quarantine_host")
        assert (quarantine["state"], quarantine["before"]) == ("verified", {"status": REACHED})
        assert state["outcome"] == "contained"
        assert [row["scenario"] for row in stands(lab)] == ["holdpoint/quarantine"]
        assert not lab.net.reaches("victim", WEB, HTTP)

    async def test_with_a_dead_bouncer_it_does_not(self, lab: CrowdSecLab, scene: Scene) -> None:
        lab.bouncer.kill()
        steering = policy(verify_within=timedelta(seconds=5))
        state = await scene.run(alert(destination_ip=VICTIM, tenant=uuid.uuid4().hex), steering)
        states = {action["action"]: action["state"] for action in state["actions"]}
        assert states == {"quarantine_host": "unreachable", "disable_account": "verified"}
        (told,) = [a["detail"] for a in state["actions"] if a["action"] == "quarantine_host"]
        assert "the probe still reaches it" in told
        assert state["outcome"] == "partially_contained"
        assert lab.net.reaches("victim", WEB, HTTP)
