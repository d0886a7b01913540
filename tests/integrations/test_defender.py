"""The Defender client against a stand-in over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.requests import DeviceRef
from integrations.defender import Defender, _host_name, _literal, _time
from integrations.defender_api import DefenderApi, _scope
from integrations.errors import (
    Ambiguous,
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    NotYet,
    Refused,
    Unreachable,
)
from integrations.interfaces import Endpoint
from lab.defender import DefenderLab, LabMachine
from lab.odata import parse
from tests.integrations import swapped
from tests.integrations.swapped import Current

Make = Callable[..., Awaitable[Defender]]


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current[DefenderLab]]:
    async with swapped.current(DefenderLab) as serving:
        yield serving


@pytest.fixture
def lab(current: Current[DefenderLab]) -> DefenderLab:
    return current.renewed()


@pytest.fixture
async def connect(lab: DefenderLab, current: Current[DefenderLab]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(**arguments: Any) -> Defender:
            plain = {
                "tenant_id": lab.tenant_id,
                "client_id": lab.client_id,
                "client_secret": lab.client_secret,
                "base_url": current.url,
                "login_url": current.url,
            }
            client = Defender(**(plain | arguments))
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def defender(connect: Make) -> Defender:
    return await connect()


def ref(machine: LabMachine) -> DeviceRef:
    return DeviceRef(id=machine.id, hostname=machine.name, comment="Holdpoint HP-1")


def posts(lab: DefenderLab, verb: str) -> int:
    return lab.faults.count(f"/{verb}")


async def settled(defender: Defender, device: DeviceRef) -> Any:
    while (seen := await defender.read_back(device)).pending:
        pass
    return seen


def test_it_is_an_endpoint(defender: Defender) -> None:
    endpoint: Endpoint = defender
    assert endpoint is defender


class TestFindDevice:
    async def test_the_details_are_told(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17.corp.example")
        device = await defender.find_device("ws-17.corp.example")
        assert (device.id, device.hostname, device.kind) == (made.id, "ws-17.corp.example", "Workstation")
        assert device.last_seen == datetime(2026, 3, 14, 12, 30, 0, 123456, tzinfo=UTC)
        assert device.containment == "not_isolated"

    @pytest.mark.parametrize("nothing", ["empty", "404"])
    @pytest.mark.parametrize("functions", [True, False])
    async def test_none_is_told_in_two_ways(
        self, lab: DefenderLab, defender: Defender, nothing: Any, functions: bool
    ) -> None:
        lab.nothing, lab.functions = nothing, functions
        lab.add_machine("ws-170")
        with pytest.raises(NotFound, match="no machine named ws-17"):
            await defender.find_device("ws-17")
        made = lab.add_machine("ws-17")
        assert (await defender.find_device("ws-17")).id == made.id

    @pytest.mark.parametrize("known", ["ws-17", "ws-17.corp.example"])
    @pytest.mark.parametrize("asked", ["WS-17", "ws-17", "WS-17.Corp.Example.", " ws-17.corp.example "])
    async def test_case_and_domain_do_not_matter(
        self, lab: DefenderLab, defender: Defender, known: str, asked: str
    ) -> None:
        lab.add_machine("ws-170.corp.example")
        made = lab.add_machine(known)
        assert (await defender.find_device(asked)).id == made.id

    async def test_the_same_short_name_in_another_domain(self, lab: DefenderLab, defender: Defender) -> None:
        lab.add_machine("web01.branch.example")
        with pytest.raises(NotFound):
            await defender.find_device("web01.corp.example")
        lab.add_machine("web01.corp.example")
        with pytest.raises(Ambiguous):
            await defender.find_device("web01")

    async def test_one_machine_in_several_rows_is_one(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", addresses=("10.0.0.1", "10.0.0.2", "10.0.0.3"))
        assert (await defender.find_device("ws-17")).id == made.id

    async def test_two_machines_are_no_machine_and_health_is_told(self, lab: DefenderLab, defender: Defender) -> None:
        old, new = lab.add_machine("ws-17", health="Inactive"), lab.add_machine("ws-17")
        with pytest.raises(Ambiguous) as caught:
            await defender.find_device("ws-17")
        assert all(word in str(caught.value) for word in (old.id, new.id, "Inactive", "Active"))

    async def test_what_was_only_seen_on_the_network_has_no_agent(self, lab: DefenderLab, defender: Defender) -> None:
        seen = lab.add_machine("ws-17", onboarding="CanBeOnboarded")
        with pytest.raises(NotFound, match="not onboarded") as caught:
            await defender.find_device("ws-17")
        assert seen.id in str(caught.value)
        made = lab.add_machine("ws-17", onboarding=None)
        assert (await defender.find_device("ws-17")).id == made.id

    @pytest.mark.parametrize(
        ("platform", "kind"),
        [
            ("WindowsServer2022", "Server"),
            ("Windows10", "Workstation"),
            ("macOS", "Workstation"),
            ("Ubuntu", "Server"),
            ("RedHatEnterpriseLinux", "Server"),
            ("Else", "Else"),
            ("", None),
        ],
    )
    async def test_a_server_is_told_as_one(
        self, lab: DefenderLab, defender: Defender, platform: str, kind: str | None
    ) -> None:
        lab.add_machine("ws-17", platform=platform)
        assert (await defender.find_device("ws-17")).kind == kind

    @pytest.mark.parametrize(
        "name", ["", " ", "10.1.2.3", "a b", "a\x00b", "a\nb", "x" * 254, "\u202ea", "fe80::1"[4:]]
    )
    async def test_what_is_no_host_name_is_not_asked_for(self, lab: DefenderLab, defender: Defender, name: str) -> None:
        with pytest.raises(NotFound):
            await defender.find_device(name)
        assert lab.faults.requests == []

    async def test_a_quote_stays_a_quote(self, lab: DefenderLab, defender: Defender) -> None:
        lab.add_machine("ws-17")
        evil = "x'or'a'eq'a"
        with pytest.raises(NotFound):
            await defender.find_device(evil)
        made = lab.add_machine(evil)
        assert (await defender.find_device(evil)).id == made.id

    async def test_pages_are_followed(self, lab: DefenderLab, defender: Defender) -> None:
        lab.page = 2
        made = lab.add_machine("ws-17", addresses=("1", "2", "3"))
        lab.add_machine("ws-17")
        with pytest.raises(Ambiguous):
            await defender.find_device("ws-17")
        del lab.machines[made.id]
        await defender.find_device("ws-17")


@given(st.text())
def test_any_text_is_one_odata_string(text: str) -> None:
    test = parse(f"computerDnsName eq {_literal(text)}", ("computerDnsName",))
    assert test({"computerDnsName": text})
    assert not test({"computerDnsName": text + "x"})


@given(st.text())
def test_a_host_name_has_nothing_unprintable(text: str) -> None:
    try:
        name = _host_name(text)
    except NotFound:
        return
    assert name.isprintable()
    assert " " not in name


class TestQuarantine:
    async def test_from_asked_to_in_force(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", reads=2)
        seen = await defender.find_device("ws-17")
        written = await defender.quarantine(ref(made))
        assert (written.changed, written.before) == (True, {"status": seen.containment})
        first = await defender.read_back(ref(made))
        assert (first.in_force, first.pending) == (False, True)
        last = await settled(defender, ref(made))
        assert last.in_force
        assert made.isolated
        (action,) = lab.actions
        assert (action["requestorComment"], action["scope"]) == ("Holdpoint HP-1", "Full")
        assert (await defender.find_device("ws-17")).containment == "isolated"

    @pytest.mark.parametrize("status", ["Pending", "InProgress"])
    async def test_a_pending_isolation_is_adopted(self, lab: DefenderLab, defender: Defender, status: str) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.add_action(made, "Isolate", status)
        seen = await defender.find_device("ws-17")
        written = await defender.quarantine(ref(made))
        assert (written.changed, written.before) == (False, {"status": seen.containment})
        assert seen.containment == "isolation_pending"
        assert posts(lab, "isolate") == 0

    async def test_an_isolated_host_is_left_as_it_is(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.add_action(made, "Isolate", "Succeeded")
        assert not (await defender.quarantine(ref(made))).changed
        assert posts(lab, "isolate") == 0

    @pytest.mark.parametrize("kind", ["reset", "truncated", "empty", "500", "html503"])
    async def test_a_lost_answer_makes_no_second_action(self, lab: DefenderLab, defender: Defender, kind: str) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.faults.add(kind, match="/isolate", after_effect=True)
        with pytest.raises((Unreachable, BadAnswer, Busy)):
            await defender.quarantine(ref(made))
        assert not (await defender.quarantine(ref(made))).changed
        assert len(lab.actions) == 1

    async def test_an_isolation_that_came_in_between_is_adopted(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.faults.add("slow", match="machineactions", seconds=0.2, after_effect=True)
        task = asyncio.create_task(defender.quarantine(ref(made)))
        while not lab.faults.count("machineactions"):
            await asyncio.sleep(0)
        lab.add_action(made, "Isolate")
        assert not (await task).changed
        assert posts(lab, "isolate") == 1
        assert len(lab.actions) == 1

    async def test_an_unknown_action_in_progress_is_waited_for(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        body = b'{"error":{"code":"ActiveRequestAlreadyExists","message":"Action is already in progress"}}'
        lab.faults.add("400", match="/isolate", body=body)
        with pytest.raises(NotYet):
            await defender.quarantine(ref(made))
        assert (await defender.quarantine(ref(made))).changed

    async def test_a_release_on_its_way_is_waited_for(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.add_action(made, "Isolate", "Succeeded")
        lab.add_action(made, "Unisolate")
        with pytest.raises(NotYet):
            await defender.quarantine(ref(made))
        seen = await defender.read_back(ref(made))
        assert (seen.in_force, seen.pending) == (False, True)
        assert posts(lab, "isolate") == 0

    @pytest.mark.parametrize("ending", ["Failed", "TimeOut", "Cancelled"])
    async def test_how_it_ended_is_told_and_it_may_be_asked_again(
        self, lab: DefenderLab, defender: Defender, ending: str
    ) -> None:
        made = lab.add_machine("ws-17", ends_as=ending, reads=0)
        await defender.quarantine(ref(made))
        seen = await settled(defender, ref(made))
        assert not seen.in_force
        assert ending in seen.detail
        made.ends_as = "Succeeded"
        assert (await defender.quarantine(ref(made))).changed
        assert (await settled(defender, ref(made))).in_force

    async def test_a_selective_isolation_is_not_enough(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        action = lab.add_action(made, "Isolate", "InProgress", scope="Selective")
        made.online = False
        with pytest.raises(NotYet, match="selective"):
            await defender.quarantine(ref(made))
        lab.finish(action)
        assert not (await defender.read_back(ref(made))).in_force
        assert (await defender.quarantine(ref(made))).changed
        made.online = True
        assert (await settled(defender, ref(made))).in_force

    async def test_an_isolation_that_lands_after_a_release_counts(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.add_action(made, "Isolate", "Succeeded")
        late = lab.add_action(made, "Isolate")
        lab.add_action(made, "Unisolate", "Succeeded")
        lab.finish(late)
        assert made.isolated
        assert (await defender.read_back(ref(made))).in_force

    async def test_other_actions_and_machines_do_not_count(self, lab: DefenderLab, defender: Defender) -> None:
        made, other = lab.add_machine("ws-17"), lab.add_machine("ws-18")
        lab.add_action(other, "Isolate", "Succeeded")
        lab.add_action(made, "RunAntiVirusScan", "Pending")
        assert (await defender.read_back(ref(made))).detail == "not isolated"

    async def test_a_machine_of_another_name_is_not_touched(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        with pytest.raises(Ambiguous, match="ws-17 now"):
            await defender.quarantine(DeviceRef(id=made.id, hostname="ws-18"))
        with pytest.raises(NotFound):
            await defender.quarantine(DeviceRef(id="f" * 40, hostname="ws-18"))
        with pytest.raises(NotFound, match="not the id"):
            await defender.read_back(DeviceRef(id="../x' or 'a' eq 'a", hostname="ws-18"))
        assert lab.actions == []

    async def test_an_answer_about_another_machine_is_none(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.faults.add("201", match="/isolate", body=b'{"id":"1","type":"Isolate","machineId":"0"}')
        with pytest.raises(BadAnswer):
            await defender.quarantine(ref(made))

    async def test_a_success_without_a_time_proves_nothing(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.add_action(made, "Isolate", "Succeeded", creationDateTimeUtc=None, lastUpdateDateTimeUtc="soon")
        with pytest.raises(BadAnswer, match="no time"):
            await defender.read_back(ref(made))


class TestLift:
    async def test_there_and_back(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        await defender.quarantine(ref(made))
        assert (await settled(defender, ref(made))).in_force
        written = await defender.lift(ref(made))
        assert (written.changed, written.before) == (True, {"status": "isolated"})
        assert not (await defender.lift(ref(made))).changed
        assert not (await settled(defender, ref(made))).in_force
        assert not made.isolated
        assert (await defender.lift(ref(made))).detail == "was not isolated"
        assert posts(lab, "unisolate") == 1

    async def test_what_is_pending_is_cancelled_first(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.add_action(made, "Isolate", "Succeeded")
        late = lab.add_action(made, "Isolate")
        await defender.lift(ref(made))
        assert late["status"] == "Cancelled"
        order = [path.rpartition("/")[2] for method, path in lab.faults.requests if method == "POST"]
        assert order == ["token", "cancel", "unisolate"]
        made.online = True
        assert not (await settled(defender, ref(made))).in_force

    async def test_a_request_that_has_not_come_through_is_taken_back(
        self, lab: DefenderLab, defender: Defender
    ) -> None:
        made = lab.add_machine("ws-17", online=False)
        await defender.quarantine(ref(made))
        written = await defender.lift(ref(made))
        assert (written.changed, written.before) == (True, {"status": "isolation_pending"})
        assert posts(lab, "unisolate") == 0

    async def test_one_that_cannot_be_cancelled_is_waited_for(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17", online=False)
        lab.add_action(made, "Isolate")
        body = b'{"error":{"code":"BadRequest","message":"The action cannot be cancelled"}}'
        lab.faults.add("400", match="/cancel", body=body)
        with pytest.raises(NotYet, match="after the release"):
            await defender.lift(ref(made))
        assert posts(lab, "unisolate") == 0


class TestFaults:
    async def test_one_login_for_all_and_one_more_when_it_is_worn(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        await asyncio.gather(*(defender.read_back(ref(made)) for _ in range(5)))
        assert lab.logins == 1
        lab.revoke_tokens()
        await asyncio.gather(*(defender.read_back(ref(made)) for _ in range(5)))
        assert lab.logins == 2

    @pytest.mark.parametrize(("life", "renewed"), [(3599, 3299), (60, 30)])
    async def test_a_token_is_renewed_before_its_end(
        self, lab: DefenderLab, defender: Defender, life: int, renewed: int
    ) -> None:
        lab.token_seconds = life
        started = time.monotonic()
        await defender._api.log_in()
        assert started + renewed <= defender._api._login._renew_at < started + life
        defender._api._login._renew_at = started
        await defender.read_back(ref(lab.add_machine("ws-17")))
        assert lab.logins == 2

    async def test_a_token_that_is_never_taken_is_told(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.faults.add("401", match="machineactions", times=9)
        with pytest.raises(Misconfigured):
            await defender.read_back(ref(made))
        assert lab.logins == 2

    async def test_no_secret_is_told(self, lab: DefenderLab, connect: Make) -> None:
        defender = await connect(client_secret="wr0ng-s3cret")
        with pytest.raises(Misconfigured, match="AADSTS7000215") as caught:
            await defender.find_device("ws-17")
        assert "wr0ng-s3cret" not in str(caught.value) + repr(caught.value.__context__) + repr(defender)
        (line,) = await defender.check()
        assert not line.ok
        assert "wr0ng-s3cret" not in line.detail

    @pytest.mark.parametrize(
        ("kind", "body", "error"),
        [
            ("429", None, Busy),
            ("500", None, Busy),
            ("html503", None, Busy),
            ("html200", None, BadAnswer),
            ("html404", None, Misconfigured),
            ("error200", None, BadAnswer),
            ("empty", None, BadAnswer),
            ("truncated", None, BadAnswer),
            ("cut", None, Unreachable),
            ("reset", None, Unreachable),
            ("302", None, Misconfigured),
            ("403", b'{"error":{"code":"Forbidden","message":"no"}}', Refused),
            ("403", b'{"error":{"code":"DisabledFeature","message":"no"}}', Misconfigured),
        ],
    )
    async def test_each_failure_has_one_name(
        self, lab: DefenderLab, defender: Defender, kind: str, body: bytes | None, error: type[IntegrationError]
    ) -> None:
        made = lab.add_machine("ws-17")
        lab.faults.add(kind, match="/api/", body=body)
        with pytest.raises(error):
            await defender.read_back(ref(made))

    async def test_retry_after_is_seconds(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.faults.add("429", match="/api/", seconds=17)
        with pytest.raises(Busy) as caught:
            await defender.read_back(ref(made))
        assert caught.value.retry_after == timedelta(seconds=17)

    async def test_a_missing_permission_is_told(self, lab: DefenderLab, defender: Defender) -> None:
        made = lab.add_machine("ws-17")
        lab.roles = {"Machine.Read.All"}
        with pytest.raises(Refused, match=r"Machine\.Isolate"):
            await defender.quarantine(ref(made))

    @pytest.mark.parametrize("tenant", ["", "a/b", "a b", "../x"])
    def test_a_tenant_is_no_path(self, tenant: str) -> None:
        with pytest.raises(Misconfigured):
            DefenderApi("http://127.0.0.1:1", "http://127.0.0.1:1", tenant, "id", "secret")

    def test_government_clouds_have_tokens_of_their_own(self) -> None:
        assert _scope("https://api-gov.securitycenter.microsoft.us") == (
            "https://api-gov.securitycenter.microsoft.us/.default"
        )
        assert _scope("https://eu.api.security.microsoft.com") == "https://api.securitycenter.microsoft.com/.default"


class TestCheck:
    async def test_all_is_well(self, lab: DefenderLab, defender: Defender) -> None:
        checks = await defender.check()
        assert [check.ok for check in checks] == [True] * 4
        assert {method for method, path in lab.faults.requests if "/token" not in path} == {"GET"}

    async def test_missing_permissions_show_in_the_token(self, lab: DefenderLab, defender: Defender) -> None:
        lab.roles = set()
        checks = await defender.check()
        assert [check.name for check in checks if not check.ok] == [
            "Microsoft Defender: Machine.Read.All",
            "Microsoft Defender: Machine.Isolate",
        ]

    async def test_an_opaque_token_says_nothing(self, lab: DefenderLab, defender: Defender) -> None:
        lab.readable_token = False
        last = (await defender.check())[-1]
        assert last.ok
        assert last.detail.startswith("not checked")


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("2026-01-02T03:04:05.1234567Z", 123456), ("2026-01-02T03:04:05Z", 0), ("2026-01-02T03:04:05.5", 500000)],
)
def test_times_may_have_seven_digits(text: str, microseconds: int) -> None:
    assert _time(text) == datetime(2026, 1, 2, 3, 4, 5, microseconds, tzinfo=UTC)
    assert _time("soon") is None
