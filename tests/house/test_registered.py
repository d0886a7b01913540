"""What the runbook names is there: every activity, with the types it is called with, and every search attribute."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import tomllib
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
from temporalio import activity, workflow

import worker
import workflows
from clients import Clients
from connection import TASK_QUEUE
from incident.record import Outcome, Question, Stage
from incident.triage import CONTAIN, Priority, RiskLevel
from settings import Settings
from tests.house.layers import ROOT
from tests.unit.builders import AT, learn, record
from workflows import search_attributes, steps

CONTRACT = {
    "IncidentStage": "KEYWORD",
    "IncidentPriority": "KEYWORD",
    "RiskLevel": "KEYWORD",
    "IncidentOutcome": "KEYWORD",
    "AffectedUser": "KEYWORD",
    "AffectedHost": "KEYWORD",
    "AlertIds": "KEYWORD_LIST",
    "DecisionDueAt": "DATETIME",
}


def _settings() -> Settings:
    """The example's settings; nothing is connected to."""
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    tree["endpoint"]["crowdstrike"]["client_secret"] = "x"
    return Settings(**tree)


@pytest.fixture(scope="module")
def registered() -> dict[str, Callable[..., Any]]:
    """The worker's activities by name, bound to clients that are none."""
    nobody: Any = SimpleNamespace()
    clients = Clients(siem=nobody, directory=nobody, endpoint=nobody, ticketing=nobody, mailer=nobody)
    found = worker.activities(nobody, _settings(), clients)
    named = {activity._Definition.must_from_callable(step).name: step for step in found}  # type: ignore[arg-type]
    assert len(named) == len(found), "two activities have the same name"
    return named  # type: ignore[return-value]


def _modules() -> list[ModuleType]:
    return [importlib.import_module(f"workflows.{found.name}") for found in pkgutil.iter_modules(workflows.__path__)]


def test_every_activity_that_is_named_is_registered_and_no_other(registered: dict[str, Any]) -> None:
    assert set(registered) == steps.NAMES


@pytest.mark.parametrize("name", sorted(steps.NAMES))
def test_each_is_called_with_what_it_takes_and_gives_what_is_read(registered: dict[str, Any], name: str) -> None:
    (step,) = [s for s in vars(steps).values() if isinstance(s, steps.Step) and s.name == name]
    request, result = get_args(step.__orig_class__)  # type: ignore[attr-defined]
    hints = get_type_hints(registered[name])
    assert hints.pop("return") == result
    assert list(hints.values()) == [request]


def _callers(*endings: str) -> set[str]:
    """The workflow modules that call a method with such a name."""
    found = set()
    for module in _modules():
        tree = ast.parse((ROOT / "workflows" / f"{module.__name__.partition('.')[2]}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name.endswith(endings):
                    found.add(module.__name__)
    return found


def test_activities_are_called_through_the_steps_only() -> None:
    """So that the names above are all there are."""
    assert _callers("_activity", "_activity_method", "_activity_class") == {"workflows.steps"}


def _workflow_classes() -> set[type]:
    return {
        thing
        for module in _modules()
        for thing in vars(module).values()
        if isinstance(thing, type) and "__temporal_workflow_definition" in vars(thing)
    }


def test_every_workflow_is_registered() -> None:
    assert _workflow_classes() == set(worker.WORKFLOWS)


def test_the_names_of_the_runbook_are_those_of_the_contract() -> None:
    definitions = [workflow._Definition.must_from_class(found) for found in worker.WORKFLOWS]
    named = {definition.name: definition for definition in definitions}
    case, release = named["SuspiciousUserActivity"], named["ReleaseContainment"]
    assert set(case.signals) - {None} == {"alert", "alerts", "analyst_decision", "seen"}
    assert set(case.updates) == {"decide"}
    assert set(case.queries) >= {"status", "timeline"}
    assert set(release.signals) - {None} == {"analyst_decision", "contained"}
    assert set(release.updates) == {"release", "decide"}
    assert set(release.queries) == {"status", "timeline"}
    assert TASK_QUEUE == "incident-response"


def test_the_search_attributes_are_those_of_the_contract() -> None:
    assert {key.name: key.indexed_value_type.name for key in search_attributes.ALL} == CONTRACT


def test_search_attributes_have_one_home() -> None:
    makers = _callers("for_keyword", "for_keyword_list", "for_text", "for_datetime", "for_int", "for_bool", "for_float")
    assert makers == {"workflows.search_attributes"}
    assert _callers("upsert_search_attributes") == {"workflows.case", "workflows.releasing"}


def _told(case: Any) -> dict[str, Any]:
    return {update.key.name: update.value for update in search_attributes.Published().changes(case)}


def test_what_is_upserted_is_registered_and_reads_as_the_contract_says() -> None:
    case = learn(record(), "ws-042")
    case.risk_level, case.outcome, case.stage = RiskLevel.MEDIUM, Outcome.FALSE_POSITIVE, Stage.AWAITING_DECISION
    case.question = Question(id="Q1", actions=CONTAIN, tier="analyst", due_at=AT, why="x")
    assert _told(case) == {
        "IncidentStage": "awaiting_decision",
        "IncidentPriority": "medium",
        "RiskLevel": "medium",
        "IncidentOutcome": "false_positive",
        "AffectedUser": "ws-042",
        "AffectedHost": "ws-042",
        "AlertIds": ["SNX-200417"],
        "DecisionDueAt": AT,
    }


def test_what_is_unknown_is_absent() -> None:
    assert set(_told(record())) == {"IncidentStage", "IncidentPriority", "AlertIds"}


def test_only_what_changed_is_upserted_and_what_is_gone_is_unset() -> None:
    published, case = search_attributes.Published(), record()
    case.question = Question(id="Q1", actions=CONTAIN, tier="analyst", due_at=AT, why="x")
    assert published.changes(case)
    assert published.changes(case) == []
    case.question = None
    (change,) = published.changes(case)
    assert (change.key.name, change.value) == ("DecisionDueAt", None)


def test_facts_wait_for_the_next_stage_and_for_nothing_else() -> None:
    published, case = search_attributes.Published(), record()
    published.changes(case)
    learn(case, "ws-042")
    case.risk_level = RiskLevel.LOW
    for stage in (Stage.ENRICHING, Stage.TRIAGING):
        case.stage = stage
        published.changes(record().model_copy(update={"stage": stage}))
        assert published.changes(case, patient=True) == []
    case.priority = Priority.HIGH
    names = {change.key.name for change in published.changes(case, patient=True)}
    assert names == {"IncidentPriority", "RiskLevel", "AffectedUser", "AffectedHost"}
    case.stage = Stage.AWAITING_DECISION
    published.changes(case)
    learn(case, "ws-043")
    assert {change.key.name for change in published.changes(case, patient=True)} == {"AffectedUser", "AffectedHost"}


def test_a_case_is_found_before_a_worker_has_seen_it() -> None:
    pairs = {pair.key: pair.value for pair in search_attributes.at_start("A-1", "high")}
    assert {key.name: value for key, value in pairs.items()} == {
        "IncidentStage": "enriching",
        "IncidentPriority": "high",
        "AlertIds": ["A-1"],
    }
    assert set(pairs) <= set(search_attributes.ALL)


def test_a_flood_of_alerts_stays_below_the_limit() -> None:
    case = record()
    case.alerts = [f"A-{number}" for number in range(1000)]
    assert len(_told(case)["AlertIds"]) == search_attributes.MAX_ALERT_IDS
