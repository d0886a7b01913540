from __future__ import annotations

import ast
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

import settings
import settings_sections
import worker

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
OURS = {"setup", "worker", "mail-certificate"}
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


def test_a_stop_lasts_longer_than_the_drain() -> None:
    assert timedelta(seconds=_seconds(SERVICES["worker"]["stop_grace_period"])) >= worker.DRAIN * 1.5


def test_each_mounted_secret_is_one_of_the_settings() -> None:
    mounted = SERVICES["worker"]["secrets"]
    known: dict[str, type[settings_sections.Section]] = {
        "securonix__password": settings_sections.SecuronixSettings,
        "directory__password": settings_sections.DirectorySettings,
        "endpoint__crowdstrike__client_secret": settings_sections.CrowdstrikeSettings,
        "ticketing__servicenow__password": settings_sections.ServiceNowSettings,
    }
    assert set(mounted) == set(known)
    for name, section in known.items():
        assert name.rpartition("__")[2] in section.model_fields
        assert COMPOSE["secrets"][name] == {"file": f"./secrets/{name}"}
    environment = SERVICES["worker"]["environment"]
    assert environment[settings.SECRETS_VARIABLE] == "/run/secrets"
    assert environment[settings.CONFIG_VARIABLE] == "/etc/holdpoint/holdpoint.toml"
    for name in environment:
        if name.startswith("HOLDPOINT_MAIL__"):
            assert name.rpartition("__")[2].lower() in settings_sections.MailSettings.model_fields


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
    program = "import worker, starter, doctor, healthcheck; print(worker.__file__)"
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
