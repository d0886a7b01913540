from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.testing import WorkflowEnvironment

import bridge.__main__
import settings
import settings_bridge
import settings_sections
import worker
from lab.servers import free_port
from settings_values import is_loopback

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
FILE = ROOT / "docker-compose.temporal.yml"
TEXT = FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "configs",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "init",
    "logging",
    "network_mode",
    "networks",
    "ports",
    "profiles",
    "read_only",
    "restart",
    "secrets",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "user",
    "volumes",
}
"""The keys of the Compose Specification that this file uses; a mistyped one is none of them."""

ONE_SHOT = {"temporal-schema", "temporal-namespace", "setup", "mail-certificate"}
OURS = {"setup", "worker", "bridge", "mail-certificate"}
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?")
UNITS = {"s": 1, "m": 60, "h": 3600}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def _seconds(duration: str) -> int:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))


def _source(entry: Any) -> str:
    return str(entry["source"]) if isinstance(entry, dict) else str(entry).partition(":")[0]


def _environment(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in service.get("environment", {}).items():
        yield key, "" if value is None else str(value)


def test_only_known_keys() -> None:
    unknown = {key for key in COMPOSE if not key.startswith("x-")} - {
        "name",
        "services",
        "networks",
        "volumes",
        "configs",
        "secrets",
    }
    assert unknown == set()
    assert {key for service in SERVICES.values() for key in service} <= SERVICE_KEYS


@each_service
def test_the_image_is_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]), service["image"]
    assert ("build" in service) == (name in OURS)


@each_service
def test_it_is_watched_or_ends_by_itself(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert "healthcheck" not in service
        assert service["restart"].startswith("on-failure:")
    else:
        assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])
        assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]


@each_service
def test_what_it_names_is_there(name: str) -> None:
    service = SERVICES[name]
    for kind in ("networks", "configs", "secrets"):
        assert {_source(entry) for entry in service.get(kind, ())} <= set(COMPOSE[kind]), kind
    named = {_source(entry) for entry in service.get("volumes", ())}
    assert {volume for volume in named if not volume.startswith(("./", "/"))} <= set(COMPOSE["volumes"])
    assert ("networks" in service) != ("network_mode" in service)


@each_service
def test_it_waits_for_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ONE_SHOT
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        assert SERVICES[needed].get("profiles") in (None, SERVICES[name].get("profiles")) or not how["required"]


@each_service
def test_it_is_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@each_service
def test_no_password_is_written_here(name: str) -> None:
    for key, value in _environment(SERVICES[name]):
        if re.search(r"PASSWORD|PWD|SECRET(?!S_DIR)|TOKEN|API_KEY", key):
            assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{key} has a default"


def test_the_database_is_not_reached_from_outside() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["networks"] == ["storage"]
    assert COMPOSE["networks"]["storage"] == {"internal": True}
    assert "ports" not in postgres


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("user" in service) == (name == "mail-certificate")


@pytest.mark.parametrize(
    ("name", "drain"), [("worker", worker.DRAIN), ("bridge", timedelta(seconds=bridge.__main__.DRAIN))]
)
def test_a_stop_lasts_longer_than_the_drain(name: str, drain: timedelta) -> None:
    assert timedelta(seconds=_seconds(SERVICES[name]["stop_grace_period"])) >= drain * 1.5


SECRETS: dict[str, type[settings_sections.Section]] = {
    "securonix__password": settings_sections.SecuronixSettings,
    "directory__password": settings_sections.DirectorySettings,
    "endpoint__crowdstrike__client_secret": settings_sections.CrowdstrikeSettings,
    "ticketing__servicenow__password": settings_sections.ServiceNowSettings,
    "desk__key": settings_bridge.DeskSettings,
    "bridge__token": settings_bridge.BridgeSettings,
}


@pytest.mark.parametrize(
    ("name", "mounted"), [("worker", SECRETS.keys() - {"bridge__token"}), ("bridge", {"desk__key", "bridge__token"})]
)
def test_each_process_is_given_its_own_secrets_and_no_other(name: str, mounted: set[str]) -> None:
    service = SERVICES[name]
    assert set(service["secrets"]) == mounted
    assert service["environment"][settings.SECRETS_VARIABLE] == "/run/secrets"
    assert service["environment"][settings.CONFIG_VARIABLE] == "/etc/holdpoint/holdpoint.toml"
    assert {_source(entry): entry["target"] for entry in service["configs"]} == {
        "holdpoint": "/etc/holdpoint/holdpoint.toml"
    }


def test_each_secret_and_each_variable_is_one_of_the_settings() -> None:
    assert {name for service in SERVICES.values() for name in service.get("secrets", ())} == set(SECRETS)
    for name, model in SECRETS.items():
        assert name.rpartition("__")[2] in model.model_fields
        assert COMPOSE["secrets"][name] == {"file": f"./secrets/{name}"}
    sections: dict[str, type[settings_sections.Section]] = {
        "MAIL": settings_sections.MailSettings,
        "BRIDGE": settings_bridge.BridgeSettings,
    }
    variables = {name for service in SERVICES.values() for name in service.get("environment", ()) if "__" in name}
    assert len(variables) > 5
    for name in variables:
        _, section, key = re.split("_{1,2}", name, maxsplit=2)
        assert key.lower() in sections[section].model_fields, name


def test_what_may_be_mounted_besides_is_named_by_the_settings_and_twice() -> None:
    besides = set(re.findall(r"^ +# - (\w+)", TEXT, re.MULTILINE))
    assert besides == set(re.findall(r"^ +# (\w+): \{file: \./secrets/\1\}$", TEXT, re.MULTILINE))
    example = (ROOT / "holdpoint.example.toml").read_text(encoding="utf-8")
    assert {name for name in besides if f"or the file {name}\n" not in example} == set()


def test_the_bridge_may_listen_on_all_addresses_of_its_container() -> None:
    given = {
        key.lower().removeprefix("holdpoint_bridge__"): value
        for key, value in SERVICES["bridge"]["environment"].items()
        if key.startswith("HOLDPOINT_BRIDGE__")
    }
    assert not is_loopback(settings_bridge.BridgeSettings(**given).host)


async def test_the_bridge_runs_as_it_is_composed(dev_server: WorkflowEnvironment, tmp_path: Path) -> None:
    service, port = SERVICES["bridge"], free_port(0)
    (tmp_path / "secrets").mkdir()
    for name in service["secrets"]:
        (tmp_path / "secrets" / name).write_text("long and random, as it should be\n", encoding="utf-8")
    config = (ROOT / "holdpoint.example.toml").read_text(encoding="utf-8")
    (tmp_path / "holdpoint.toml").write_text(config, encoding="utf-8")
    composed = {key: value for key, value in service["environment"].items() if value is not None}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | composed
    environment |= {
        "TEMPORAL_ADDRESS": dev_server.client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": dev_server.client.namespace,
        settings.CONFIG_VARIABLE: str(tmp_path / "holdpoint.toml"),
        settings.SECRETS_VARIABLE: str(tmp_path / "secrets"),
        "HOLDPOINT_BRIDGE__PORT": str(port),
        # All addresses inside a container; here the loopback one.
        "HOLDPOINT_BRIDGE__HOST": "127.0.0.1",
    }
    (published,) = service["ports"]
    inside = published.rpartition(":")[2]
    assert inside == service["environment"]["HOLDPOINT_BRIDGE__PORT"]
    _, program, *arguments = service["healthcheck"]["test"]
    check = [argument.replace(f":{inside}/", f":{port}/") for argument in arguments]
    assert (program, check != arguments) == ("python", True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *service["entrypoint"][1:], cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    told = b""
    try:
        async with asyncio.timeout(60):
            while b"bridge ready" not in told:
                told += (line := await process.stderr.readline())
                assert line, told
        healthy = await asyncio.create_subprocess_exec(sys.executable, *check)
        assert await healthy.wait() == 0
    finally:
        process.terminate()
        await process.stderr.read()
        await process.wait()
    assert process.returncode == 0
    late = await asyncio.create_subprocess_exec(sys.executable, *check, stderr=asyncio.subprocess.DEVNULL)
    assert await late.wait() != 0


def test_nothing_is_needed_to_try_the_mail_but_its_profile() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == {"mailpit", "mail-certificate"}
    assert SERVICES["worker"]["depends_on"]["mail-certificate"]["required"] is False


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose is installed")
@pytest.mark.parametrize("profile", [(), ("--profile", "try")])
def test_compose_itself_takes_it(profile: tuple[str, ...]) -> None:
    command = ["docker-compose", "--file", str(FILE), *profile, "config", "--quiet"]
    complete = {**os.environ, "POSTGRES_PASSWORD": "x"}
    assert subprocess.run(command, env=complete, check=False).returncode == 0
    lacking = {key: value for key, value in os.environ.items() if key != "POSTGRES_PASSWORD"}
    assert subprocess.run(command, env=lacking, check=False, capture_output=True, cwd="/").returncode != 0


async def test_the_namespace_job_makes_the_namespace_once(dev_server: WorkflowEnvironment) -> None:
    job = SERVICES["temporal-namespace"]
    script = job["command"][0].replace("$$", "$")
    name = f"ns-{uuid.uuid4()}"
    environment = {
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "TEMPORAL_ADDRESS": dev_server.client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": name,
    }
    for _ in range(2):
        subprocess.run([*job["entrypoint"], script], env=environment, check=True, capture_output=True, timeout=60)
    told = subprocess.run(
        ["temporal", "operator", "namespace", "describe", "--namespace", name],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(r"RetentionTtl\s+(2160h|90d)", told.stdout), told.stdout


def _copied(target: Path) -> None:
    """Lay out what the Dockerfile's last stage copies from here."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    for line in re.findall(r"^COPY (?!--from)(.+)$", last, re.MULTILINE):
        *sources, place = line.split()
        for pattern in sources:
            found = list(ROOT.glob(pattern))
            assert found, pattern
            for source in found:
                if source.is_dir():
                    shutil.copytree(source, target / place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, target / place)


def test_the_image_holds_all_that_the_processes_import(tmp_path: Path) -> None:
    _copied(tmp_path)
    assert not (tmp_path / "lab").exists()
    program = "import worker, starter, doctor, healthcheck, bridge.__main__; print(worker.__file__)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / "worker.py")
    bad = subprocess.run(
        [sys.executable, "starter.py", "start", "-"],
        cwd=tmp_path,
        input="{}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 2, bad.stderr


def test_the_image_is_pinned_runs_as_nobody_special_and_installs_by_hash() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", images[0])
    assert "--require-hashes" in DOCKERFILE
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    entry = ast.literal_eval(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[0])
    assert entry == ["python", "worker.py"]
    check = ast.literal_eval(re.findall(r"^HEALTHCHECK .*CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])
    assert ["CMD", *check] == SERVICES["worker"]["healthcheck"]["test"]
    for program in (entry, check):
        assert (ROOT / program[1]).is_file()


def test_the_build_is_given_what_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "**" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert let_in == set(copied)
