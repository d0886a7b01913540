"""Bad input: one line a fault, the right exit code, and nothing started."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

import starter
from tests import processes
from tests.cli.desk import SETTINGS, Desk, settings_file
from tests.conftest import temporal_cli
from tests.workflows.world import ANALYST, alert

GOOD = {"id": "bad-1", "destination_ip": "10.66.6.6", "occurred_at": "2026-03-14T12:34:56Z", "tenant": "bad"}
NO_SERVER = "127.0.0.1:1"


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key not in keys}


FAULTY: list[tuple[Any, list[str]]] = [
    (without("id"), ["id: is missing"]),
    ({**GOOD, "id": " "}, ["id: is empty"]),
    ({**GOOD, "id": None}, ["id: is missing"]),
    (without("destination_ip"), ["destination_ip: is missing"]),
    ({**GOOD, "destination_ip": "10.0.0.300"}, ["destination_ip: '10.0.0.300' is not an IP address"]),
    ({**GOOD, "destination_ip": "web01"}, ["destination_ip: 'web01' is not an IP address"]),
    ({**GOOD, "destination_ip": 10}, ["destination_ip: "]),
    ({**GOOD, "source_ip": "nowhere"}, ["source_ip: 'nowhere' is not an IP address"]),
    (without("occurred_at"), ["occurred_at: is missing"]),
    ({**GOOD, "occurred_at": "yesterday"}, ["occurred_at: is not an ISO 8601 time"]),
    ({**GOOD, "occurred_at": 1773491696}, ["occurred_at: is not an ISO 8601 time"]),
    ({**GOOD, "occurred_at": "2026-03-14T12:34:56"}, ["occurred_at: has no time zone"]),
    ({**GOOD, "occurred_at": "2026-02-30T12:00:00Z"}, ["occurred_at: is not an ISO 8601 time"]),
    ({**GOOD, "occurred_at": "0001-01-01T00:00:00+14:00"}, ["occurred_at: is not a time between"]),
    ({**GOOD, "severity": "urgent"}, ["severity: must be one of low, medium, high, critical"]),
    ({**GOOD, "tenant": "a/b"}, ["tenant: may hold letters"]),
    ({**GOOD, "bytes_transferred": -1}, ["bytes_transferred: "]),
    ({}, ["id: is missing", "destination_ip: is missing", "occurred_at: is missing"]),
    ([GOOD], ["the alert is not a JSON object"]),
    ("{", ["the alert is not JSON"]),
    ("", ["the alert is not JSON"]),
    (b"\xff\xfe\x00", ["the alert is not JSON"]),
    ("[" * 100_000, ["the alert is nested"]),
    ("x" * 300_000, ["the alert is larger than 256 KiB"]),
]


@pytest.mark.parametrize(("given", "faults"), FAULTY, ids=lambda value: str(value)[:40])
def test_a_faulty_alert(
    given: Any,
    faults: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: it never comes as far as a connection, which this address would refuse with exit code 1."""
    monkeypatch.setenv("HOLDPOINT_CONFIG", str(settings_file(tmp_path)))
    monkeypatch.setenv("TEMPORAL_ADDRESS", NO_SERVER)
    path = tmp_path / "alert.json"
    raw = given if isinstance(given, bytes) else (given if isinstance(given, str) else json.dumps(given)).encode()
    path.write_bytes(raw)
    assert starter.main(["start", str(path)]) == 2
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line[: len(fault)] for line, fault in zip(lines, faults, strict=True)] == faults
    assert told.out == ""


async def test_nothing_is_started_by_a_faulty_alert(desk: Desk) -> None:
    bad = desk.file({"id": "", "destination_ip": "10.0.0.300", "occurred_at": "x", "tenant": "bad"})
    ran, told = await asyncio.gather(desk.starter("start", bad), desk.starter("start", bad, "--json"))
    assert (ran.code, ran.out, told.code) == (2, "", 2)
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == ["id", "destination_ip", "occurred_at"]
    assert json.loads(told.out)["faults"] == ran.err.splitlines()
    assert not [row for row in await starter.list_cases(desk.client, everything=True) if "-bad-" in row["case_id"]]


FAULTY_SETTINGS = (
    SETTINGS.replace("http://127.0.0.1:1/Snypr", "http://siem.example/Snypr")
    .replace('bind_user = "nobody@corp.example"\n', "")
    .replace('recheck_every = "7d"', 'recheck_every = "soon"\nmedium_at = 80')
    .replace('name = "on-call"', 'name = "on-call"\ncolour = "red"')
    + "[mial]\nport = 25\n[ticketing.servicenow.more]\nkey = 1\n"
)


async def test_every_fault_of_the_settings_is_told_by_its_key_before_anything_connects(tmp_path: Path) -> None:
    env = processes.variables(
        tmp_path,
        TEMPORAL_ADDRESS=NO_SERVER,
        HOLDPOINT_CONFIG=str(settings_file(tmp_path, FAULTY_SETTINGS)),
        HOLDPOINT_MAIL__PORT="zero",
    )
    path = tmp_path / "alert.json"
    path.write_text(alert().model_dump_json(), encoding="utf-8")
    started, worked, examined = await asyncio.gather(
        processes.starter("start", str(path), "--json", env=env),
        processes.run(sys.executable, processes.WORKER, env=env),
        processes.starter("doctor", env=env),
    )
    keys = {
        "securonix.url",
        "directory.bind_user",
        "mail.port",
        "policy.recheck_every",
        "tiers.1.colour",
        "mial",
        "ticketing.servicenow.more",
    }
    secrets = {"securonix.password", "directory.password", "endpoint.crowdstrike.client_secret"}
    assert {fault.partition(":")[0] for fault in json.loads(started.out)["faults"]} == keys
    assert started.code == worked.code == examined.code == 2
    for key in keys | secrets:
        assert f"{key}: " in worked.err
        assert f"{key}: " in examined.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "HOLDPOINT_CONFIG: "),
        ("[securonix", "is not TOML"),
        (SETTINGS.replace('username = "nobody"\ntenant', 'password = "x"\nusername = "nobody"\ntenant'), "is a secret"),
        (SETTINGS.replace('wait = "20m"', 'wait = "0s"'), "tiers.1.wait: "),
        (SETTINGS.partition("[[tiers]]")[0], "tiers: is missing"),
        (SETTINGS.replace('sender = "holdpoint@acme.example"', 'sender = "a@b.example\\nBcc: x"'), "mail.sender: "),
    ],
)
def test_settings_that_do_not_do(
    text: str | None,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "nowhere.toml" if text is None else settings_file(tmp_path, text)
    monkeypatch.setenv("HOLDPOINT_CONFIG", str(path))
    monkeypatch.setenv("TEMPORAL_ADDRESS", NO_SERVER)
    given = tmp_path / "alert.json"
    given.write_text(alert().model_dump_json(), encoding="utf-8")
    assert starter.main(["start", str(given)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


async def test_without_a_server_it_says_what_to_do(tmp_path: Path) -> None:
    settings = str(settings_file(tmp_path))
    env = processes.variables(tmp_path, TEMPORAL_ADDRESS=NO_SERVER, HOLDPOINT_CONFIG=settings)
    odd = {**env, "TEMPORAL_PROFILE": "nowhere"}
    listed, set_up, odd_one = await asyncio.gather(
        processes.starter("list", env=env),
        processes.starter("setup", "--json", env=env),
        processes.starter("list", env=odd),
    )
    assert (listed.code, listed.out, set_up.code, odd_one.code) == (1, "", 1, 1)
    assert f"no Temporal server answers at {NO_SERVER}: start it, or set TEMPORAL_ADDRESS" in listed.err
    assert "TEMPORAL_ADDRESS" in json.loads(set_up.out)["error"]
    assert "nowhere" in odd_one.err


async def test_setup_on_a_new_server_and_again(tmp_path: Path) -> None:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
    ) as server:
        address = server.client.service_client.config.target_host
        settings = str(settings_file(tmp_path))
        env = processes.variables(tmp_path, TEMPORAL_ADDRESS=address, HOLDPOINT_CONFIG=settings)
        given = tmp_path / "alert.json"
        given.write_text(alert().model_dump_json(), encoding="utf-8")

        too_early = await processes.starter("start", str(given), env=env)
        assert too_early.code == 1
        assert "'python starter.py setup' registers them" in too_early.err

        first = json.loads((await processes.starter("setup", "--json", env=env)).out)
        assert (len(first["created"]), first["present"]) == (8, [])
        again = await processes.starter("setup", env=env)
        assert (again.code, again.out) == (0, f"created: none; present: {', '.join(first['created'])}\n")
        assert (await processes.starter("start", str(given), env=env)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "Usage: "),
        (["decide", "--help"], 0, "contain|false_positive"),
        ([], 2, "Usage: "),
        (["--loud"], 2, "No such option: --loud"),
        (["contain"], 2, "No such command 'contain'"),
        (["start"], 2, "Missing argument 'ALERT'"),
        (["start", "/nowhere/alert.json"], 2, "/nowhere/alert.json: No such file or directory"),
        (["start", "/"], 2, "/: Is a directory"),
        (["decide", "x", "contain"], 2, "Missing option '--analyst'"),
        (["decide", "x", "maybe", "--analyst", ANALYST, "--reason", "y"], 2, "must be one of contain, false_positive"),
        (["decide", "x", "contain", "--analyst", ANALYST, "--reason", " "], 2, "reason: is missing"),
        (
            ["decide", "x", "contain", "--analyst", ANALYST, "--reason", "y", "--action", "burn"],
            2,
            "must be among quarantine_host, disable_account",
        ),
    ],
)
def test_how_it_is_called(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDPOINT_CONFIG", str(settings_file(tmp_path)))
    monkeypatch.setenv("TEMPORAL_ADDRESS", NO_SERVER)
    assert starter.main(arguments) == code
    said = capsys.readouterr()
    assert told in (said.err if "Usage" not in told and code else said.out)


async def test_the_process_gives_the_code(tmp_path: Path) -> None:
    called_badly = await processes.starter("--loud", env=processes.variables(tmp_path))
    assert (called_badly.code, called_badly.out) == (2, "")
