"""The CrowdSec client against a small scripted server, for what the real one does not show on demand."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.requests import DeviceRef
from integrations.blackbox import Probe
from integrations.crowdsec import BANNED, OPEN, REACHED, SILENT, UNPROBED, CrowdSec, _address
from integrations.errors import (
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
from lab.certificates import make_certificates
from lab.faults import App, Faults, Receive, Send
from lab.serving import Served

IP = "198.51.100.10"
HOST = DeviceRef(id=IP, hostname="FIN-LT-042", comment="Holdpoint HP-1", seen=REACHED)
PASSWORD, KEY = "s3cret-machine-pass", "s3cret-bouncer-key"
DECISIONS = f"GET /v1/decisions?ip={IP}"


class Make(Protocol):
    def __call__(self, **changes: Any) -> CrowdSec: ...


class Scripted:
    """A local API at ``/v1`` and an exporter at ``/probe``, as far as a test scripts them."""

    def __init__(self) -> None:
        self.faults = Faults(self._serve, error_body=b'{"message": "database is locked"}')
        self.tokens = 0
        self.valid: set[str] = set()
        self.rows: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.records = True
        self.deletes = True
        self.answering: set[str] = {IP}
        self.metrics = "# HELP probe_success\n# TYPE probe_success gauge\nprobe_success {}\n"
        self.probed: list[tuple[str, str, str]] = []

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        if scope["path"] == "/probe":
            status, told = self._probe(query, headers)
        else:
            status, answer = self._api(scope["method"], scope["path"], query, headers, body)
            told = json.dumps(answer)
        kind = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": status, "headers": kind})
        await send({"type": "http.response.body", "body": told.encode()})

    def _probe(self, query: dict[str, str], headers: dict[str, str]) -> tuple[int, str]:
        self.probed.append((query["target"], query["module"], headers["x-prometheus-scrape-timeout-seconds"]))
        return 200, self.metrics.format(int(query["target"] in self.answering))

    def _api(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        if path == "/v1/watchers/login":
            given = json.loads(body)
            # As the real one: what is no name/version is answered as a wrong password.
            if given["password"] != PASSWORD or headers["user-agent"].count("/") != 1:
                return 401, {"code": 401, "message": "incorrect Username or Password"}
            self.tokens += 1
            self.valid.add(f"token-{self.tokens}")
            return 200, {"code": 200, "expire": "2026-11-24T08:59:44Z", "token": f"token-{self.tokens}"}
        if method == "GET":
            return (
                (200, self.rows or None) if headers.get("x-api-key") == KEY else (403, {"message": "access forbidden"})
            )
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.valid:
            return 401, {"code": 401, "message": "Token is expired"}
        if method == "POST":
            self.alerts += json.loads(body)
            if self.records:
                self.rows += [dict(d, id=len(self.rows) + 1) for a in self.alerts[-1:] for d in a["decisions"]]
            return 201, [str(len(self.alerts))]
        gone = unquote(path.rpartition("/")[2])
        if self.deletes:
            self.rows = [row for row in self.rows if str(row["id"]) != gone]
        return 200, {"nbDeleted": "1"}


def row(**changes: Any) -> dict[str, Any]:
    plain = {"id": 7, "origin": "crowdsec", "scenario": "ssh-bf", "scope": "Ip", "type": "ban", "value": IP}
    return plain | {"duration": "3h59m59.2s"} | changes


class Current:
    """Serves whichever script the test at hand has made."""

    def __init__(self) -> None:
        self.app: App = Scripted().faults
        self.url = ""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current]:
    app = Current()
    async with Served(app) as served:
        app.url = served.url
        yield app


@pytest.fixture
def script(current: Current) -> Scripted:
    made = Scripted()
    current.app = made.faults
    return made


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing here speaks TLS; the system's own bundle would be read anew for each client."""
    return make_certificates(tmp_path_factory.mktemp("certificates")).ca_file


@pytest.fixture
async def make(script: Scripted, current: Current, ca_file: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def connect(**changes: Any) -> CrowdSec:
            plain: dict[str, Any] = {
                "url": current.url,
                "machine": "holdpoint",
                "password": PASSWORD,
                "bouncer_key": KEY,
                "ban_for": timedelta(days=30),
                "probe": Probe(f"{current.url}/probe", "icmp"),
                "ca_file": ca_file,
            }
            client = CrowdSec(**(plain | changes))
            stack.push_async_callback(client.aclose)
            return client

        yield connect


@pytest.fixture
def crowdsec(make: Make) -> CrowdSec:
    return make()


def test_it_is_an_endpoint(crowdsec: CrowdSec) -> None:
    endpoint: Endpoint = crowdsec
    assert endpoint is crowdsec


class TestAddresses:
    async def test_a_name_is_no_address(self, script: Scripted, crowdsec: CrowdSec) -> None:
        with pytest.raises(NotFound, match="no address of FIN-LT-042 is known"):
            await crowdsec.find_device("FIN-LT-042")
        assert script.faults.requests == []

    @pytest.mark.parametrize(
        "text",
        [
            *("", "::1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "169.254.3.4"),
            *("fe80::1%eth0", "::ffff:127.0.0.1", "10.0.0.0/8", "10.0.0.01", "3325256714", "FIN-LT-042"),
            *("198.51.100.10&origin=x", "198.51.100.10\r\nX: y", "198.51.100.10;DROP", "\ud800"),
        ],
    )
    async def test_what_is_refused(self, script: Scripted, crowdsec: CrowdSec, text: str) -> None:
        ref = HOST.model_copy(update={"id": text})
        calls = (crowdsec.find_device("h", text), crowdsec.quarantine(ref), crowdsec.read_back(ref), crowdsec.lift(ref))
        for call in calls:
            with pytest.raises(NotFound, match="was not asked"):
                await call
        assert script.faults.requests == []

    @given(st.text() | st.ip_addresses().map(str))
    def test_nothing_else_passes(self, text: str) -> None:
        try:
            address = _address(text)
        except NotFound:
            return
        assert ipaddress.ip_address(str(address)) == address
        assert not any((address.is_loopback, address.is_multicast, address.is_unspecified, address.is_link_local))

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (" 198.51.100.10 ", IP),
            (f"::ffff:{IP}", IP),
            ("2001:DB8:0:0::7", "2001:db8::7"),
        ],
    )
    async def test_one_spelling(self, script: Scripted, crowdsec: CrowdSec, given: str, sent: str) -> None:
        device = await crowdsec.find_device("h", given)
        assert device.id == sent
        assert script.faults.count(f"/v1/decisions?ip={sent}") == 1
        assert {target for target, _, _ in script.probed} == {sent}


class TestDecisions:
    @pytest.mark.parametrize(
        "other",
        [
            row(type="captcha"),
            row(simulated=True),
            row(value="198.51.100.11"),
            row(scope="Range", value="198.51.101.0/24"),
            row(scope="Country", value="DE"),
            row(scope="AS", value="64496"),
            row(duration="-3s"),
            row(value="junk"),
            {},
        ],
    )
    async def test_what_is_no_ban_of_it(self, script: Scripted, crowdsec: CrowdSec, other: dict[str, Any]) -> None:
        script.rows = [other]
        assert (await crowdsec.find_device("h", IP)).containment == REACHED
        assert (await crowdsec.read_back(HOST)).pending is False
        assert (await crowdsec.quarantine(HOST)).changed

    @pytest.mark.parametrize("ban", [row(), row(scope="ip", type="BAN"), row(scope="Range", value=f"{IP}/32")])
    async def test_what_is_one(self, script: Scripted, crowdsec: CrowdSec, ban: dict[str, Any]) -> None:
        script.rows = [ban]
        assert (await crowdsec.find_device("h", IP)).containment == BANNED
        written = await crowdsec.quarantine(HOST)
        assert (written.changed, written.before) == (False, {"status": BANNED})
        assert written.detail == "was banned already by crowdsec (ssh-bf), for another 3h59m59s"
        assert script.alerts == []

    async def test_a_range_gets_a_ban_of_its_own(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.rows = [row(scope="Range", value="198.51.100.0/24")]
        written = await crowdsec.quarantine(HOST)
        assert (written.changed, written.before) == (True, {"status": BANNED})

    async def test_an_empty_list_is_none_as_well(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.faults.add("error200", match=DECISIONS, body=b"[]")
        assert (await crowdsec.find_device("h", IP)).containment == REACHED

    async def test_the_ban_as_it_is_sent(self, script: Scripted, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST.model_copy(update={"comment": "Holdpoint\x00 HP-1\n"}))
        (sent,) = script.alerts
        assert sent["message"] == "Holdpoint HP-1"
        needed = {"capacity", "events", "events_count", "leakspeed", "scenario", "scenario_hash", "scenario_version"}
        assert sent.keys() >= needed | {"simulated", "source", "start_at", "stop_at", "message", "decisions"}
        (decision,) = sent["decisions"]
        assert (decision["type"], decision["scope"], decision["value"]) == ("ban", "Ip", IP)
        assert (decision["duration"], decision["scenario"]) == ("2592000s", "holdpoint/quarantine")

    async def test_one_that_is_taken_and_not_listed(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.records = False
        with pytest.raises(Rejected, match="allowlist"):
            await crowdsec.quarantine(HOST)

    async def test_an_answer_that_is_lost_does_not_ban_twice(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.faults.add("reset", match="POST /v1/alerts", after_effect=True)
        with pytest.raises(Unreachable):
            await crowdsec.quarantine(HOST)
        written = await crowdsec.quarantine(HOST)
        assert (written.changed, written.before) == (False, {"status": BANNED})
        assert len(script.alerts) == 1

    async def test_only_our_own_are_lifted(self, script: Scripted, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        ours = dict(script.rows[0])
        wide = row(id=5, scenario=ours["scenario"], origin=ours["origin"], scope="Range", value="198.51.100.0/24")
        other = ours | {"id": 6, "value": "198.51.100.11"}
        by_hand = ours | {"id": 8, "scenario": "port scan"}
        script.rows = [row(id=4), ours | {"id": 2}, ours | {"id": 3}, wide, other, by_hand]
        written = await crowdsec.lift(HOST)
        assert written.changed
        assert [left["id"] for left in script.rows] == [4, 5, 6, 8]
        assert "still banned by crowdsec (ssh-bf), for another 3h59m59s, cscli" in written.detail

    async def test_one_that_stays_is_not_lifted(self, script: Scripted, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        script.deletes = False
        with pytest.raises(NotYet):
            await crowdsec.lift(HOST)

    @pytest.mark.parametrize("status", ["404", "500"])
    async def test_one_that_is_gone_meanwhile(self, script: Scripted, crowdsec: CrowdSec, status: str) -> None:
        await crowdsec.quarantine(HOST)
        body = b'{"message": "decision with id \'1\' doesn\'t exist: unable to delete"}'
        script.faults.add(status, match="DELETE /v1/decisions/1", after_effect=True, body=body)
        assert (await crowdsec.lift(HOST)).changed

    @pytest.mark.parametrize("identity", ["1/../../watchers", "", None, "٣"])
    async def test_an_id_that_is_none(self, script: Scripted, crowdsec: CrowdSec, identity: Any) -> None:
        await crowdsec.quarantine(HOST)
        script.rows[0]["id"] = identity
        with pytest.raises(BadAnswer):
            await crowdsec.lift(HOST)
        assert script.faults.count("DELETE") == 0

    async def test_nothing_to_lift(self, script: Scripted, crowdsec: CrowdSec) -> None:
        written = await crowdsec.lift(HOST)
        assert (written.changed, written.before) == (False, {"status": OPEN})
        assert script.faults.count("DELETE") == 0


class TestErrors:
    async def test_an_expired_token_is_renewed_once(self, script: Scripted, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        script.valid.clear()
        assert (await crowdsec.lift(HOST)).changed
        assert script.tokens == 2

    async def test_a_token_that_is_never_accepted(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.faults.add("401", match="POST /v1/alerts", times=9)
        with pytest.raises(Misconfigured):
            await crowdsec.quarantine(HOST)
        assert script.faults.count("POST /v1/alerts") == 2

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ("validation failure list:\\n0.capacity in body is required", Rejected),
            ("unable to create alerts: invalid addr/range x : invalid address: unable to parse duration", Rejected),
            ("database is locked", Busy),
            ("", Busy),
        ],
    )
    async def test_a_500_is_read(
        self, script: Scripted, crowdsec: CrowdSec, message: str, expected: type[IntegrationError]
    ) -> None:
        script.faults.add("500", match="POST /v1/alerts", body=f'{{"message": "{message}"}}'.encode())
        with pytest.raises(expected):
            await crowdsec.quarantine(HOST)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("403", Misconfigured),
            ("429", Busy),
            ("503", Busy),
            ("400", Rejected),
            ("302", Misconfigured),
            ("html200", BadAnswer),
            ("html404", Misconfigured),
            ("html502", Busy),
            ("empty", BadAnswer),
            ("truncated", BadAnswer),
            ("error200", BadAnswer),
            ("reset", Unreachable),
            ("cut", Unreachable),
        ],
    )
    async def test_each_failure_has_one_name(
        self, script: Scripted, crowdsec: CrowdSec, kind: str, expected: type[IntegrationError]
    ) -> None:
        script.rows = [row()]
        script.faults.add(kind, match=DECISIONS)
        with pytest.raises(expected) as failed:
            await crowdsec.read_back(HOST)
        assert type(failed.value) is expected

    @pytest.mark.parametrize(("kind", "expected"), [("403", Refused), ("html200", BadAnswer), ("error200", BadAnswer)])
    async def test_a_write_that_fails(
        self, script: Scripted, crowdsec: CrowdSec, kind: str, expected: type[IntegrationError]
    ) -> None:
        script.faults.add(kind, match="POST /v1/alerts")
        with pytest.raises(expected):
            await crowdsec.quarantine(HOST)

    async def test_no_secret_is_told(self, script: Scripted, crowdsec: CrowdSec) -> None:
        said = f'{{"message": "{PASSWORD} {KEY} token-1"}}'.encode()
        await crowdsec.quarantine(HOST)
        for match, call in (("GET", crowdsec.read_back), ("DELETE", crowdsec.lift)):
            script.faults.add("500", match=match, body=said)
            with pytest.raises(Busy) as failed:
                await call(HOST)
            words = repr(failed.value)
            assert PASSWORD not in words
            assert KEY not in words
            assert "token-1" not in words
        assert PASSWORD not in repr(vars(crowdsec)) + repr(crowdsec)

    async def test_a_login_without_a_token(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.faults.add("error200", match="/login", body=b'{"code": 200, "token": "a b\\r\\nX: y"}')
        with pytest.raises(BadAnswer):
            await crowdsec.quarantine(HOST)


class TestProbe:
    async def test_a_silent_host_is_asked_twice_and_in_time(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.answering.clear()
        assert (await crowdsec.find_device("h", IP)).containment == SILENT
        assert script.probed == [(IP, "icmp", "3")] * 2

    async def test_one_lost_packet_is_no_proof(self, script: Scripted, crowdsec: CrowdSec) -> None:
        await crowdsec.quarantine(HOST)
        script.faults.add("error200", match="/probe", body=b"probe_success 0\n")
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending, seen.detail) == (False, True, "the probe still reaches it")

    @pytest.mark.parametrize(
        ("port", "control", "targets"),
        [
            (None, "10.0.0.1", ["2001:db8::7", "10.0.0.1"]),
            (None, "core.corp.example", ["2001:db8::7", "core.corp.example"]),
            (445, "10.0.0.1", ["[2001:db8::7]:445", "10.0.0.1:445"]),
            (445, "2001:db8::1", ["[2001:db8::7]:445", "[2001:db8::1]:445"]),
            (445, "10.0.0.1:22", ["[2001:db8::7]:445", "10.0.0.1:22"]),
        ],
    )
    async def test_targets(
        self, script: Scripted, make: Make, current: Current, port: int | None, control: str, targets: list[str]
    ) -> None:
        client = make(probe=Probe(f"{current.url}/probe", "m", port=port, control=control))
        assert (await client.find_device("h", "2001:db8::7")).containment == UNPROBED
        assert list(dict.fromkeys(target for target, _, _ in script.probed)) == targets
        script.answering.add(targets[1])
        assert (await client.find_device("h", "2001:db8::7")).containment == SILENT
        script.answering.add(targets[0])
        assert (await client.find_device("h", "2001:db8::7")).containment == REACHED

    @pytest.mark.parametrize(
        "metrics",
        ["probe_success {}.0\n", 'probe_success{{a="b"}} {}e0\r\n', "probe_success\t{}", "a 1\nprobe_success {} 17\n"],
    )
    async def test_each_spelling_of_the_metric(self, script: Scripted, crowdsec: CrowdSec, metrics: str) -> None:
        script.metrics = metrics
        assert (await crowdsec.find_device("h", IP)).containment == REACHED
        script.answering.clear()
        assert (await crowdsec.find_device("h", IP)).containment == SILENT

    @pytest.mark.parametrize("kind", ["400", "404", "500", "html200", "empty", "error200", "reset", "302"])
    async def test_a_probe_that_fails_proves_nothing(self, script: Scripted, crowdsec: CrowdSec, kind: str) -> None:
        assert (await crowdsec.quarantine(HOST)).changed
        script.answering.clear()
        assert (await crowdsec.read_back(HOST)).in_force
        script.faults.add(kind, match="/probe", times=9)
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending) == (False, True)
        assert seen.detail.startswith("the probe does not work: blackbox exporter")
        assert not (await crowdsec.check())[-1].ok

    @pytest.mark.parametrize(
        ("seen", "proved"),
        [
            (REACHED, True),
            (BANNED, True),
            (SILENT, False),
            (UNPROBED, False),
            (OPEN, False),
            ("", False),
            ("normal", False),
        ],
    )
    async def test_silence_proves_only_what_was_heard(
        self, script: Scripted, crowdsec: CrowdSec, seen: str, proved: bool
    ) -> None:
        ref = HOST.model_copy(update={"seen": seen})
        written = await crowdsec.quarantine(ref)
        assert written.before == {"status": seen if seen in (REACHED, SILENT, UNPROBED) else OPEN}
        script.answering.clear()
        told = await crowdsec.read_back(ref)
        assert (told.in_force, told.pending) == (proved, not proved)

    async def test_no_ban_is_not_in_force(self, script: Scripted, crowdsec: CrowdSec) -> None:
        script.answering.clear()
        seen = await crowdsec.read_back(HOST)
        assert (seen.in_force, seen.pending, seen.detail) == (False, False, "no ban is recorded")

    async def test_an_address_that_is_none(self, make: Make) -> None:
        with pytest.raises(Misconfigured, match="probe_url"):
            make(probe=Probe("http://[::1/probe", "icmp"))

    @pytest.mark.parametrize("path", ["", "/"])
    async def test_the_path_may_be_left_out(self, script: Scripted, make: Make, current: Current, path: str) -> None:
        client = make(probe=Probe(current.url + path, "icmp"))
        assert (await client.find_device("h", IP)).containment == REACHED
