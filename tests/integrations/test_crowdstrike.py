"""The Falcon client against a stand-in over real sockets."""

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
from integrations.crowdstrike import CrowdStrike, _filters, _host_name
from integrations.errors import (
    Ambiguous,
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    NotYet,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.interfaces import Endpoint
from lab.falcon import FalconLab, LabDevice
from lab.serving import Served
from tests.integrations import swapped
from tests.integrations.swapped import Current

Make = Callable[..., Awaitable[CrowdStrike]]


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current[FalconLab]]:
    async with swapped.current(FalconLab) as serving:
        yield serving


@pytest.fixture
def lab(current: Current[FalconLab]) -> FalconLab:
    return current.renewed()


@pytest.fixture
async def connect(lab: FalconLab, current: Current[FalconLab]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(**arguments: Any) -> CrowdStrike:
            plain = {"base_url": current.url, "client_id": lab.client_id, "client_secret": lab.client_secret}
            client = CrowdStrike(**(plain | arguments))
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def falcon(connect: Make) -> CrowdStrike:
    return await connect()


def ref(device: LabDevice) -> DeviceRef:
    return DeviceRef(id=device.device_id, hostname=device.hostname)


def test_it_is_an_endpoint(falcon: CrowdStrike) -> None:
    endpoint: Endpoint = falcon
    assert endpoint is falcon


class TestFindDevice:
    async def test_the_details_are_told(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        seen = datetime(2026, 3, 14, 12, 30, tzinfo=UTC)
        made = lab.add_device("WS-1", kind="Server", status="Normal", last_seen=seen)
        device = await falcon.find_device("WS-1")
        assert (device.id, device.hostname, device.kind) == (made.device_id, "WS-1", "Server")
        assert (device.containment, device.last_seen) == ("normal", seen)

    async def test_a_name_that_only_begins_alike_is_another_host(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.add_device("WS-10")
        lab.add_device("MY-WS-1")
        with pytest.raises(NotFound):
            await falcon.find_device("WS-1")
        wanted = lab.add_device("WS-1")
        assert (await falcon.find_device("WS-1")).id == wanted.device_id

    @pytest.mark.parametrize("partial", [True, False])
    @pytest.mark.parametrize("asked", ["ws-1", "WS-1", "Ws-1", "ws-1.corp.example", "WS-1.CORP.EXAMPLE.", " ws-1 "])
    @pytest.mark.parametrize("known", ["WS-1", "ws-1"])
    async def test_case_and_domain_do_not_matter(
        self, lab: FalconLab, falcon: CrowdStrike, known: str, asked: str, partial: bool
    ) -> None:
        lab.partial = partial
        lab.add_device("WS-10")
        made = lab.add_device(known)
        assert (await falcon.find_device(asked)).id == made.device_id

    @pytest.mark.parametrize("asked", ["ws-1", "WS-1.corp.example"])
    async def test_an_agent_that_tells_its_full_name_is_found(
        self, lab: FalconLab, falcon: CrowdStrike, asked: str
    ) -> None:
        made = lab.add_device("Ws-1.Corp.Example")
        assert (await falcon.find_device(asked)).id == made.device_id

    async def test_the_same_short_name_in_another_domain_is_another_host(
        self, lab: FalconLab, falcon: CrowdStrike
    ) -> None:
        lab.add_device("web01", machine_domain="branch.example")
        lab.add_device("web01.lab.example")
        with pytest.raises(NotFound, match="other domains"):
            await falcon.find_device("web01.corp.example")
        with pytest.raises(Ambiguous):
            await falcon.find_device("web01")
        made = lab.add_device("WEB01", machine_domain="corp.example")
        assert (await falcon.find_device("web01.corp.example")).id == made.device_id

    async def test_two_agents_are_no_agent(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        old = lab.add_device("WS-1", last_seen=datetime(2026, 1, 1, tzinfo=UTC), status="contained")
        new = lab.add_device("ws-1", last_seen=datetime(2026, 3, 1, tzinfo=UTC))
        with pytest.raises(Ambiguous) as caught:
            await falcon.find_device("WS-1")
        assert all(known in str(caught.value) for known in (old.device_id, new.device_id, "2026-01-01", "2026-03-01"))

    async def test_many_agents_are_named_in_short(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        for _ in range(40):
            lab.add_device("WS-1")
        with pytest.raises(Ambiguous, match="40 agents") as caught:
            await falcon.find_device("WS-1")
        assert len(str(caught.value)) < 600

    async def test_a_name_that_is_part_of_very_many_is_still_found(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        for number in range(250):
            lab.add_device(f"ws-{number}")
        made = lab.add_device("WS")
        assert (await falcon.find_device("ws")).id == made.device_id

    @pytest.mark.parametrize("shape", ["list", "null", "absent"])
    async def test_nothing_has_three_spellings(self, lab: FalconLab, falcon: CrowdStrike, shape: Any) -> None:
        lab.empty = shape
        with pytest.raises(NotFound):
            await falcon.find_device("WS-1")

    @pytest.mark.parametrize("status", [200, 404])
    async def test_an_agent_that_vanishes_between_the_two_reads(
        self, lab: FalconLab, falcon: CrowdStrike, status: int
    ) -> None:
        lab.unknown_status = status
        made = lab.add_device("WS-1")
        gone = DeviceRef(id="f" * 32, hostname="WS-1")
        with pytest.raises(NotFound):
            await falcon.read_back(gone)
        assert (await falcon.find_device("WS-1")).id == made.device_id

    @pytest.mark.parametrize(
        "name",
        ["", " ", "a'b", "*", "ws-1'],hostname:['", "10.20.30.40", "a..b", "a b", "x" * 64, ".", "-", "büro", "a\nb"],
    )
    async def test_what_is_no_host_name_is_not_asked_for(self, lab: FalconLab, falcon: CrowdStrike, name: str) -> None:
        lab.add_device("WS-1")
        with pytest.raises(NotFound, match="not a host name"):
            await falcon.find_device(name)
        assert lab.faults.requests == []

    @given(name=st.text(max_size=40))
    def test_no_text_reaches_a_filter_that_could_mean_more_than_a_name(self, name: str) -> None:
        try:
            filters = _filters(_host_name(name))
        except NotFound:
            return
        assert all(
            f.count("'") == 2 and f.split("'")[1].replace("-", "").replace(".", "").replace("_", "").isalnum()
            for f in filters
        )


class TestQuarantine:
    async def test_requested_then_pending_then_in_force(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1", reads_until_contained=2)
        written = await falcon.quarantine(ref(made))
        assert (written.changed, written.before) == (True, {"status": "normal"})
        states = [await falcon.read_back(ref(made)) for _ in range(3)]
        assert [(s.in_force, s.pending) for s in states] == [(False, True), (False, True), (True, False)]
        assert lab.actions == [(made.device_id, "contain")]

    async def test_an_offline_host_stays_pending_until_it_checks_in(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1", online=False, reads_until_contained=0)
        await falcon.quarantine(ref(made))
        for _ in range(3):
            assert (await falcon.read_back(ref(made))).pending
        again = await falcon.quarantine(ref(made))
        assert (again.changed, again.before) == (False, {"status": "containment_pending"})
        lab.come_online("WS-1")
        assert (await falcon.read_back(ref(made))).in_force
        assert len(lab.actions) == 1

    async def test_contained_already_is_success(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1", status="Contained")
        written = await falcon.quarantine(ref(made))
        assert (written.changed, written.before) == (False, {"status": "contained"})
        assert "already" in written.detail
        assert lab.faults.count("devices-actions") == 0

    @pytest.mark.parametrize("status", [202, 409])
    async def test_contained_by_somebody_between_read_and_write(
        self, lab: FalconLab, falcon: CrowdStrike, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.conflict_status = status
        made = lab.add_device("WS-1")
        monkeypatch.setattr(made, "ask", lambda _: False)
        written = await falcon.quarantine(ref(made))
        assert (written.changed, written.before) == (False, {"status": "normal"})

    async def test_somebody_lifts_it_at_this_moment(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1", status="lift_containment_pending", online=False)
        with pytest.raises(NotYet, match="other way"):
            await falcon.quarantine(ref(made))
        back = await falcon.read_back(ref(made))
        assert (back.in_force, back.pending) == (False, True)
        assert lab.actions == []

    async def test_an_agent_that_changed_its_name_is_not_touched(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1")
        wanted = ref(made)
        made.hostname = "DC-1"
        with pytest.raises(Ambiguous, match="DC-1"):
            await falcon.quarantine(wanted)
        assert lab.actions == []

    async def test_success_beside_an_error_is_success(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.both_lists = True
        made = lab.add_device("WS-1")
        assert (await falcon.quarantine(ref(made))).changed

    @pytest.mark.parametrize(
        ("code", "kind"), [(403, Refused), (404, NotFound), (429, Busy), (503, Busy), (400, Rejected), (0, BadAnswer)]
    )
    async def test_an_error_inside_an_answer_means_what_its_code_says(
        self, lab: FalconLab, falcon: CrowdStrike, code: int, kind: type[IntegrationError]
    ) -> None:
        made = lab.add_device("WS-1")
        body = b'{"meta":{},"resources":[],"errors":[{"code":%d,"message":"device is odd"}]}' % code
        lab.faults.add("error200", match="devices-actions", body=body)
        with pytest.raises(kind, match="device is odd"):
            await falcon.quarantine(ref(made))

    async def test_a_lost_answer_is_followed_by_one_that_finds_it_done(
        self, lab: FalconLab, falcon: CrowdStrike
    ) -> None:
        made = lab.add_device("WS-1")
        lab.faults.add("reset", match="devices-actions", after_effect=True)
        with pytest.raises(Unreachable):
            await falcon.quarantine(ref(made))
        assert not (await falcon.quarantine(ref(made))).changed
        assert lab.actions == [(made.device_id, "contain")]

    async def test_lift_restores_the_network(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1", status="contained", reads_until_contained=1)
        written = await falcon.lift(ref(made))
        assert (written.changed, written.before) == (True, {"status": "contained"})
        assert (await falcon.read_back(ref(made))).pending
        back = await falcon.read_back(ref(made))
        assert not back.in_force
        assert not back.pending
        assert not (await falcon.lift(ref(made))).changed
        assert lab.actions == [(made.device_id, "lift_containment")]

    async def test_a_request_that_waits_for_an_offline_host_can_be_taken_back(
        self, lab: FalconLab, falcon: CrowdStrike
    ) -> None:
        made = lab.add_device("WS-1", online=False)
        await falcon.quarantine(ref(made))
        assert (await falcon.lift(ref(made))).before == {"status": "containment_pending"}
        assert [action for _, action in lab.actions] == ["contain", "lift_containment"]


class TestLogin:
    async def test_one_login_for_many_calls(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.add_device("WS-1")
        await asyncio.gather(*(falcon.find_device("WS-1") for _ in range(8)))
        assert lab.logins == 1

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_worn_token_is_renewed_once_for_all(self, lab: FalconLab, falcon: CrowdStrike, status: int) -> None:
        lab.expired_status = status
        made = lab.add_device("WS-1")
        await falcon.find_device("WS-1")
        lab.expire_tokens()
        found = await asyncio.gather(*(falcon.find_device("WS-1") for _ in range(8)))
        assert {device.id for device in found} == {made.device_id}
        assert lab.logins == 2

    async def test_a_token_that_never_holds_is_not_asked_for_forever(self, lab: FalconLab, connect: Make) -> None:
        lab.token_seconds = 0
        falcon = await connect()
        with pytest.raises(Misconfigured):
            await falcon.read_back(DeviceRef(id="a", hostname="WS-1"))
        assert lab.logins == 2

    async def test_a_token_is_renewed_before_its_end(self, lab: FalconLab, connect: Make) -> None:
        lab.token_seconds = 1
        lab.add_device("WS-1")
        falcon = await connect()
        await falcon.check()
        assert falcon._api._renew_at < time.monotonic() + 0.6

    async def test_a_missing_scope_is_refused_after_one_new_token(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1")
        lab.scopes = {"hosts:read"}
        with pytest.raises(Refused, match="authorization failed"):
            await falcon.quarantine(ref(made))
        assert lab.logins == 2
        assert lab.faults.count("devices-actions") == 2

    async def test_wrong_credentials(self, lab: FalconLab, connect: Make) -> None:
        falcon = await connect(client_secret="not-the-secret")
        with pytest.raises(Misconfigured, match="allow-list") as caught:
            await falcon.find_device("WS-1")
        assert "not-the-secret" not in str(caught.value)

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    async def test_a_refused_login_repeats_no_secret(self, lab: FalconLab, falcon: CrowdStrike, status: int) -> None:
        body = b'{"errors":[{"code":1,"message":"bad pair lab-client:%s"}]}' % lab.client_secret.encode()
        lab.faults.add(str(status), match="/oauth2/token", body=body)
        with pytest.raises(Misconfigured, match="bad pair") as caught:
            await falcon.find_device("WS-1")
        assert lab.client_secret not in str(caught.value)

    async def test_200_is_a_login_too(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.faults.add("error200", match="/oauth2/token", body=b'{"access_token":"abc.def","token_type":"bearer"}')
        lab.add_device("WS-1")
        await falcon.find_device("WS-1")
        assert lab.logins == 1

    @pytest.mark.parametrize("token", [b'""', b"null", b'"a\\nb"', '"ä"'.encode()])
    async def test_a_token_that_is_none(self, lab: FalconLab, falcon: CrowdStrike, token: bytes) -> None:
        lab.faults.add("error200", match="/oauth2/token", body=b'{"access_token":%s}' % token)
        with pytest.raises(BadAnswer):
            await falcon.find_device("WS-1")


class TestFailures:
    async def test_the_rate_limit_names_an_epoch(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.throttle(100, 30)
        with pytest.raises(Busy, match="rate limit") as caught:
            await falcon.find_device("WS-1")
        assert caught.value.retry_after is not None
        assert timedelta(seconds=25) < caught.value.retry_after < timedelta(seconds=31)

    @pytest.mark.parametrize(("ahead", "wait"), [(3600, 120), (-50, 0)])
    async def test_the_epoch_is_clamped(self, lab: FalconLab, falcon: CrowdStrike, ahead: float, wait: float) -> None:
        lab.throttle(100, ahead)
        with pytest.raises(Busy) as caught:
            await falcon.find_device("WS-1")
        assert caught.value.retry_after == timedelta(seconds=wait)

    async def test_without_the_epoch_retry_after_counts(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.faults.add("429", match="/devices/", times=100, seconds=7)
        with pytest.raises(Busy) as caught:
            await falcon.find_device("WS-1")
        assert caught.value.retry_after == timedelta(seconds=7)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("500", Busy),
            ("503", Busy),
            ("400", Rejected),
            ("404", Misconfigured),
            ("307", Misconfigured),
            ("html200", BadAnswer),
            ("html503", Busy),
            ("empty", BadAnswer),
            ("truncated", BadAnswer),
            ("cut", Unreachable),
            ("reset", Unreachable),
        ],
    )
    @pytest.mark.parametrize("match", ["/oauth2/token", "/devices/queries", "/devices/entities/devices/v2"])
    async def test_each_failure_has_its_name(
        self, lab: FalconLab, falcon: CrowdStrike, fault: str, kind: type[IntegrationError], match: str
    ) -> None:
        lab.add_device("WS-1")
        lab.faults.add(fault, match=match, times=100, body=b"gone" if fault == "404" else None)
        expected = Misconfigured if (fault, match) == ("400", "/oauth2/token") else kind
        with pytest.raises(expected):
            await falcon.find_device("WS-1")

    async def test_an_error_beside_a_find_may_hide_a_second_agent(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        made = lab.add_device("WS-1")
        body = b'{"resources":["%s"],"errors":[{"code":500,"message":"shard down"}]}' % made.device_id.encode()
        lab.faults.add("error200", match="/devices/queries", body=body)
        with pytest.raises(Busy, match="shard down"):
            await falcon.find_device("WS-1")

    async def test_nobody_listens(self, connect: Make) -> None:
        async with Served(FalconLab().app) as gone:
            pass
        falcon = await connect(base_url=gone.url)
        with pytest.raises(Unreachable):
            await falcon.find_device("WS-1")


class TestCheck:
    async def test_all_is_well_and_nothing_was_written(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        checks = await falcon.check()
        assert all(check.ok for check in checks)
        assert [check.name.rpartition(": ")[2] for check in checks] == ["login", "clock", "hosts:read", "hosts:write"]
        assert "us-1" in checks[0].detail
        assert [path for method, path in lab.faults.requests if method == "POST"] == ["/oauth2/token"]

    async def test_the_missing_scope_is_named(self, lab: FalconLab, falcon: CrowdStrike) -> None:
        lab.scopes = set()
        assert [check.name for check in await falcon.check() if not check.ok] == ["CrowdStrike Falcon: hosts:read"]

    async def test_it_tells_and_does_not_raise(self, lab: FalconLab, connect: Make) -> None:
        falcon = await connect(client_secret="wrong-secret")
        (check,) = await falcon.check()
        assert not check.ok
        assert "wrong-secret" not in check.detail
