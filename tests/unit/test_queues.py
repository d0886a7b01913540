"""Which integration a step belongs to, which queues there are, and whose secrets a process needs."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr
from temporalio import activity
from temporalio.client import Client

import worker
from clients import Clients, connect
from incident.queues import CASES, Integration, integration_of, priority_key, queue_of
from incident.triage import Priority
from serving import queue_names, served, serves_cases, worker_settings
from settings import CONFIG_VARIABLE, SECRETS_VARIABLE, Settings, SettingsRefused, worker_section
from tests.house.layers import ROOT
from workflows import steps

EXAMPLE = (ROOT / "holdpoint.example.toml").read_text(encoding="utf-8")
SECRET = {
    Integration.SIEM: "securonix__password",
    Integration.DIRECTORY: "directory__password",
    Integration.ENDPOINT: "endpoint__crowdstrike__client_secret",
    Integration.TICKETING: "ticketing__servicenow__password",
}
NOBODY: Any = SimpleNamespace()
CLIENTS = Clients(siem=NOBODY, directory=NOBODY, endpoint=NOBODY, ticketing=NOBODY, mailer=NOBODY)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's settings with a directory for secrets; returns that, and it is empty."""
    for name in [name for name in os.environ if name.upper().startswith("HOLDPOINT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "holdpoint.toml").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "holdpoint.toml"))
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def give(place: Path, *integrations: Integration) -> None:
    for name in integrations:
        (place / SECRET[name]).write_text(f"secret of {name}\n", encoding="utf-8")


def settings(**changed: Any) -> Settings:
    tree = tomllib.loads(EXAMPLE)
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    for vendor in ("crowdstrike", "defender"):
        tree["endpoint"][vendor]["client_secret"] = "x"
    tree["endpoint"]["provider"] = changed.pop("provider", "crowdstrike")
    return Settings(**{**tree, **changed})


def names(found: list[object]) -> set[str]:
    return {cast("str", activity._Definition.must_from_callable(step).name) for step in found}  # type: ignore[arg-type]


def test_every_step_is_served_by_the_process_that_has_its_credentials() -> None:
    by_integration = worker.steps_of(NOBODY, settings(), CLIENTS)
    assert set(by_integration) == set(Integration)
    for integration, found in by_integration.items():
        assert {integration_of(name) for name in names(found)} == {integration}
    rest = steps.NAMES - {name for found in by_integration.values() for name in names(found)}
    assert {integration_of(name) for name in rest} == {None}


def test_urgency_is_what_temporal_takes() -> None:
    assert {p: priority_key(p) for p in Priority} == {
        Priority.CRITICAL: 1,
        Priority.HIGH: 2,
        Priority.MEDIUM: 3,
        Priority.LOW: 4,
    }


def test_nobody_has_a_queue_of_its_own_unless_it_is_named_or_limited() -> None:
    assert settings().own_queues() == {}
    assert settings().case_policy().own_queues == ()
    given = settings(queues={"own": ["directory"], "per_minute": {"siem": 60}})
    assert given.own_queues() == {Integration.SIEM: 60, Integration.DIRECTORY: None}
    assert given.case_policy().own_queues == (Integration.SIEM, Integration.DIRECTORY)


def test_defender_has_its_limit_without_being_named() -> None:
    assert settings(provider="defender").own_queues() == {Integration.ENDPOINT: 40}
    other = settings(provider="defender", queues={"per_minute": {"endpoint": 50}})
    assert other.own_queues() == {Integration.ENDPOINT: 50}
    assert settings(provider="defender", queues={"per_minute": {"endpoint": 0}}).own_queues() == {}
    kept = settings(provider="defender", queues={"own": ["endpoint"], "per_minute": {"endpoint": 0}})
    assert kept.own_queues() == {Integration.ENDPOINT: None}


def made(monkeypatch: pytest.MonkeyPatch, given: Settings) -> dict[str, dict[str, Any]]:
    """What each queue's worker is made with."""
    monkeypatch.setattr(worker, "Worker", lambda client, **told: told)
    workers = worker.build_workers(cast("Client", NOBODY), given, CLIENTS, NOBODY)
    return cast("dict[str, dict[str, Any]]", workers)


def test_one_process_serves_every_queue_and_old_cases_on_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = made(monkeypatch, settings(queues={"own": ["directory"], "per_minute": {"siem": 90}}))
    assert set(workers) == {"incident-response", "incident-response-directory", "incident-response-siem"}
    assert {queue: told["task_queue"] for queue, told in workers.items()} == {queue: queue for queue in workers}
    assert names(workers["incident-response"]["activities"]) == steps.NAMES
    limits = {queue: told.get("max_task_queue_activities_per_second") for queue, told in workers.items()}
    assert limits == {
        "incident-response": None,
        "incident-response-directory": None,
        "incident-response-siem": 1.5,
    }
    assert "workflows" not in workers["incident-response-siem"]
    assert {integration_of(n) for n in names(workers["incident-response-siem"]["activities"])} == {Integration.SIEM}


def test_a_process_serves_only_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"own": ["directory", "siem"]}
    lone = made(monkeypatch, settings(queues=own, worker={"queues": ["directory"]}))
    assert set(lone) == {"incident-response-directory"}
    rest = made(monkeypatch, settings(queues=own, worker={"queues": ["cases", "siem"]}))
    assert set(rest) == {"incident-response", "incident-response-siem"}
    assert Integration.DIRECTORY not in {integration_of(n) for n in names(rest["incident-response"]["activities"])}
    assert {integration_of(n) for n in names(rest["incident-response"]["activities"])} >= {
        None,
        Integration.SIEM,
        Integration.MAIL,
    }


def test_a_queue_that_is_not_there_cannot_be_served() -> None:
    with pytest.raises(ValueError, match=r"worker\.queues: directory has no queue of its own"):
        settings(worker={"queues": ["directory"]})


def test_a_process_needs_the_secrets_of_what_it_serves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDPOINT_QUEUES__OWN", '["directory"]')
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", "directory")
    with pytest.raises(SettingsRefused) as refused:
        worker_settings()
    assert refused.value.faults == ["directory.password: is missing"]
    give(place, Integration.DIRECTORY)
    given = worker_settings()
    assert given.directory.password.get_secret_value() == "secret of directory"
    assert (served(given), serves_cases(given)) == ((Integration.DIRECTORY,), False)
    connect(given)


def test_the_others_need_all_but_that(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDPOINT_QUEUES__OWN", '["directory"]')
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", " cases ,")
    give(place, Integration.SIEM, Integration.TICKETING)
    with pytest.raises(SettingsRefused) as refused:
        worker_settings()
    assert refused.value.faults == ["endpoint.crowdstrike.client_secret: is missing"]
    give(place, Integration.ENDPOINT)
    assert served(worker_settings()) == tuple(name for name in Integration if name is not Integration.DIRECTORY)
    monkeypatch.delenv("HOLDPOINT_WORKER__QUEUES")
    with pytest.raises(SettingsRefused, match=r"directory.password: is missing"):
        worker_settings()


def secrets_in(section: Any) -> list[str]:
    if isinstance(section, SecretStr):
        return [section.get_secret_value()] if section.get_secret_value() else []
    fields = type(section).model_fields if hasattr(type(section), "model_fields") else ()
    parts = [getattr(section, name) for name in fields] if fields else section if isinstance(section, tuple) else ()
    return [secret for part in parts for secret in secrets_in(part)]


def test_a_process_keeps_no_other_secret(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(place, *SECRET)
    monkeypatch.setenv("HOLDPOINT_RECORD__KEY", "a key of the tests, long enough")
    monkeypatch.setenv("HOLDPOINT_DESK__KEY", "another key of the tests, long enough")
    monkeypatch.setenv("HOLDPOINT_MAIL__USERNAME", "svc")
    monkeypatch.setenv("HOLDPOINT_MAIL__PASSWORD", "mail's")
    monkeypatch.setenv("HOLDPOINT_CHAT__PROVIDER", "slack")
    monkeypatch.setenv("HOLDPOINT_CHAT__SLACK__WEBHOOK", "https://hooks.example.com/secret")
    monkeypatch.setenv("HOLDPOINT_QUEUES__OWN", '["directory", "ticketing"]')
    assert len(secrets_in(worker_settings())) == len(SECRET) + 4
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", "directory")
    given = worker_settings()
    assert secrets_in(given) == ["secret of directory"]
    connect(given)
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", "ticketing")
    assert secrets_in(worker_settings()) == ["secret of ticketing", "a key of the tests, long enough"]


def test_the_command_line_goes_before_the_settings(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", "cases")
    monkeypatch.setattr("logs.set_up", lambda: lambda: None)
    assert worker.main(["--queues", "endpoint"]) == 2
    assert "worker.queues: endpoint has no queue of its own" in caplog.text


def test_the_health_check_knows_the_queues_without_any_secret(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue_names(worker_section().queues) == ["incident-response"]
    monkeypatch.setenv("HOLDPOINT_WORKER__QUEUES", "cases,directory")
    assert queue_names(worker_section().queues) == ["incident-response", "incident-response-directory"]
    assert queue_of(Integration.DIRECTORY, "q") == "q-directory"
    assert CASES not in set(Integration)
