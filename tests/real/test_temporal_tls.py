"""Holdpoint's programs and the ``temporal`` program, over TLS with a client's certificate, in the namespace ``soc``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from connection import TemporalUnreachable, connect_temporal
from lab.environment import ANALYST, TIERS
from lab.mailbox import Received
from lab.scenarios import Cast, Scenario
from lab.servers import ROOT, Ran
from tests import processes
from tests.real.packages import need
from tests.real.temporal_tls import NAMESPACE, SERVER_NAME, Soc, make_client_certificate, soc
from workflows import search_attributes

BY_VARIABLES = Scenario("told by variables", 1, 50.0, further=False)
BY_PROFILE = Scenario("told by a profile", 2, 50.0, further=False)
CERTIFICATE, KEY = "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_KEY_PATH"
AUTHORITY, NAME = "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_NAME"
_WITHIN = 60.0


@pytest.fixture(scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Soc]:
    need("Temporal over TLS")
    async with soc(tmp_path_factory.mktemp("soc") / "house") as house:
        ran = await processes.starter("setup", "--json", env=house.by_variables())
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["created"] == sorted(key.name for key in search_attributes.ALL)
        yield house


@pytest.fixture(scope="module")
def cast(standing: Soc) -> Cast:
    return Cast(standing.lab, (BY_VARIABLES, BY_PROFILE))


async def answered_by_starter(env: Mapping[str, str], case_id: str, mail: Received) -> Ran:
    assert case_id in mail.text.split()
    return await processes.starter(
        "decide", case_id, "contain", "--analyst", ANALYST, "--reason", "seen it", "--json", env=env
    )


async def answered_by_temporal(env: Mapping[str, str], case_id: str, mail: Received) -> Ran:
    """By the very command that stands in the mail, typed where the same environment holds."""
    command = next(
        line for line in mail.text.splitlines() if line.startswith("temporal workflow update") and '"contain"' in line
    )
    given = command.replace("YOUR-MAIL-ADDRESS", ANALYST).replace("WHY", "seen it")
    words = shlex.split(given)
    assert words[:4] == ["temporal", "workflow", "update", "execute"]
    assert words[words.index("--workflow-id") + 1] == case_id
    assert words[words.index("--namespace") + 1] == NAMESPACE
    return await processes.temporal(*shlex.split(given)[1:], env=env)


@pytest.mark.parametrize(
    ("told", "scenario", "answer"),
    [
        (Soc.by_variables, BY_VARIABLES, answered_by_starter),
        (Soc.by_profile, BY_PROFILE, answered_by_temporal),
    ],
    ids=["variables", "profile"],
)
async def test_a_case_runs_to_its_end_in_its_namespace(
    standing: Soc,
    cast: Cast,
    tmp_path: Path,
    told: Callable[[Soc], dict[str, str]],
    scenario: Scenario,
    answer: Callable[[Mapping[str, str], str, Received], Awaitable[Ran]],
) -> None:
    env = told(standing)
    worker = processes.Worker(standing.folder, env)
    await worker.start()
    try:
        assert f"namespace {NAMESPACE}" in worker.logged()
        case_id = await started(env, cast, scenario, tmp_path)
        mail = await standing.lab.mailbox.wait_for(lambda got: case_id in got.text.split(), _WITHIN)
        assert mail.recipients == (TIERS[0].recipient,)

        listed, shown, health = await asyncio.gather(
            processes.starter("list", "--json", env=env),
            processes.starter("status", case_id, env=env),
            processes.run(sys.executable, ROOT / "healthcheck.py", env=env),
        )
        assert [row["case_id"] for row in json.loads(listed.out)] == [case_id]
        assert json.loads(listed.out)[0]["stage"] == "awaiting_decision"
        assert "mail (ask)" in shown.out
        assert (health.code, health.err) == (0, "")

        given = await answer(env, case_id, mail)
        assert given.code == 0, given.err
        final = await ended(standing, case_id)
        assert final["outcome"] == "contained"
        assert final["decision"]["analyst"] == ANALYST

        doctor = await processes.starter("doctor", env=env)
        assert (doctor.code, "BAD" in doctor.out) == (0, False), doctor.out
        assert f"Temporal: reachable: namespace {NAMESPACE}" in doctor.out
        assert await worker.drain() == 0
    finally:
        await worker.kill()
    await check_nothing_elsewhere(standing)


async def started(env: Mapping[str, str], cast: Cast, scenario: Scenario, folder: Path) -> str:
    path = folder / "alert.json"
    path.write_text(json.dumps(cast.alert(scenario)), encoding="utf-8")
    ran = await processes.starter("start", str(path), "--json", env=env)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["case_id"], told["joined"]) == (scenario.case_id, False)
    return str(told["case_id"])


async def ended(standing: Soc, case_id: str) -> dict[str, Any]:
    """The case's result, from behind the proxy."""
    client = await Client.connect(standing.server.address, namespace=NAMESPACE, data_converter=pydantic_data_converter)
    async with asyncio.timeout(_WITHIN):
        result: dict[str, Any] = await client.get_workflow_handle(case_id).result()
    return result


async def check_nothing_elsewhere(standing: Soc) -> None:
    """Neither a case nor a search attribute got into ``default``."""
    env = standing.by_variables(TEMPORAL_NAMESPACE="default")
    counted = await processes.temporal("workflow", "count", "--output", "json", env=env)
    assert counted.code == 0, counted.err
    assert int(json.loads(counted.out).get("count", 0)) == 0
    listed = await processes.temporal("operator", "search-attribute", "list", "--output", "json", env=env)
    assert listed.code == 0, listed.err
    assert "IncidentStage" not in listed.out


def faults(standing: Soc, folder: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Each wrong setting: its name, the environment, and what a person has to be told."""
    stranger = make_client_certificate(folder / "stranger")
    expired = make_client_certificate(folder / "expired", valid_from=timedelta(days=-3))
    plain_text = folder / "notes.txt"
    plain_text.write_text("not a certificate\n", encoding="utf-8")
    broken = folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", encoding="utf-8")
    absent = str(folder / "absent.pem")
    by = standing.by_variables

    yield (
        "no certificate",
        by(**{CERTIFICATE: None, KEY: None}),
        f"wants a client's certificate, it seems: set {CERTIFICATE}",
    )
    for name, other in (("a stranger's", stranger), ("an expired", expired)):
        env = by(**{CERTIFICATE: str(other.cert_file), KEY: str(other.key_file)})
        yield f"{name} certificate", env, f"does not accept the client's certificate, it seems: look at {CERTIFICATE}"
    for name, changes in (
        ("no key", {KEY: None}),
        ("another's key", {KEY: str(stranger.key_file)}),
        ("a certificate that is none", {CERTIFICATE: str(plain_text)}),
        ("a key that is none", {KEY: str(plain_text)}),
        ("a certificate for a key", {KEY: str(stranger.cert_file)}),
    ):
        yield name, by(**changes), f"certificate and its key are not a pair of PEM files: look at {CERTIFICATE}"
    broken_files = by(**{CERTIFICATE: str(broken)})
    yield "a broken certificate", broken_files, f"no PEM file as wanted: look at {CERTIFICATE}"
    yield "no such file", by(**{KEY: absent}), f"{absent}: No such file or directory"
    authorities = {"another authority": str(stranger.ca_file), "a broken authority": str(broken), "no authority": None}
    for name, authority in authorities.items():
        yield name, by(**{AUTHORITY: authority}), f"name the authority's file in {AUTHORITY}"
    for name, server in (("another name", "other.acme.example"), ("no name", None)):
        yield name, by(**{NAME: server}), f"its certificate is for {SERVER_NAME}: name one of them in {NAME}"
    bare = standing.env | {"TEMPORAL_ADDRESS": standing.address}
    yield "no TLS", bare, "wants TLS, it seems: set TEMPORAL_TLS=true"
    yield "TLS where none is", by(TEMPORAL_ADDRESS=standing.server.address), "it does not speak TLS"
    yield "a web address", by(TEMPORAL_ADDRESS=f"https://{standing.address}"), "a host and a port, without http://"
    yield "no such namespace", by(TEMPORAL_NAMESPACE="nowhere"), "namespace create --namespace nowhere"
    yield "no such profile", standing.by_profile(TEMPORAL_PROFILE="day"), "Profile 'day' not found"
    nowhere = str(folder / "absent.toml")
    yield "no such profiles", standing.by_profile(TEMPORAL_CONFIG_FILE=nowhere), f"there is no file {nowhere}"


def check_told(said: str, words: str) -> None:
    """It is for people: what to mend, and nothing of the program's insides."""
    assert words in said
    for inside in ("Traceback", "Status {", "tonic", "RuntimeError", "worker ready"):
        assert inside not in said


async def test_each_wrong_setting_is_told_to_a_person(
    standing: Soc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, env, words in faults(standing, tmp_path):
        with monkeypatch.context() as alone:
            for variable in {*os.environ, *env}:
                if variable.startswith("TEMPORAL_"):
                    alone.delenv(variable, raising=False)
            for variable in env:
                if variable.startswith("TEMPORAL_"):
                    alone.setenv(variable, env[variable])
            with pytest.raises(TemporalUnreachable) as caught:
                await connect_temporal()
        check_told(str(caught.value), words)
        assert len(str(caught.value).splitlines()) == 1, name


@pytest.mark.parametrize("fault", ["no certificate", "another authority", "no such file", "no such namespace"])
async def test_every_program_tells_it_and_ends(standing: Soc, tmp_path: Path, fault: str) -> None:
    env, words = next((env, words) for name, env, words in faults(standing, tmp_path) if name == fault)
    programs = (
        processes.starter("list", env=env),
        processes.starter("doctor", env=env),
        processes.run(sys.executable, ROOT / "healthcheck.py", env=env),
        processes.run(sys.executable, processes.WORKER, env=env),
    )
    for ran in await asyncio.gather(*programs):
        check_told(ran.out + ran.err, words)
        assert ran.code == 1, ran
        # One integration's fault does not hide another's health.
        bad = [line for line in ran.out.splitlines() if line.startswith("BAD")]
        assert not ran.out or (len(bad) == 1 and bad[0].startswith("BAD Temporal: reachable")), ran
        assert len(ran.err.splitlines()) == (0 if ran.out else 1), ran


async def test_a_proxy_that_says_nothing_is_not_waited_for_without_end(standing: Soc) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        env = standing.by_variables(TEMPORAL_ADDRESS=f"127.0.0.1:{silent.getsockname()[1]}")
        ran = await processes.starter("list", env=env)
    check_told(ran.err, "it takes the connection and says nothing")
    assert ran.code == 1
