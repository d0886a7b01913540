"""The command line with telemetry on: its span is out before it exits, and a collector that is down holds nobody up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from tests import processes
from tests.cli.desk import settings_file
from tests.telemetry.collector import Collector, attributes
from tests.workflows.world import alert


@pytest.fixture
def env(dev_server: WorkflowEnvironment, tmp_path: Path) -> dict[str, str]:
    return processes.variables(
        tmp_path,
        TEMPORAL_ADDRESS=dev_server.client.service_client.config.target_host,
        HOLDPOINT_CONFIG=str(settings_file(tmp_path)),
    )


async def _start(env: dict[str, str], dev_server: WorkflowEnvironment) -> tuple[str, str]:
    given = alert().model_dump_json().encode()
    ran = await processes.starter("start", "-", "--json", env=env, given=given)
    assert ran.code == 0, ran.err
    case_id: str = json.loads(ran.out)["case_id"]
    await dev_server.client.get_workflow_handle(case_id).terminate()
    return case_id, ran.err


async def test_a_start_exports_its_span_before_it_exits(env: dict[str, str], dev_server: WorkflowEnvironment) -> None:
    async with Collector() as collector:
        case_id, _ = await _start({**env, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, dev_server)
        (span,) = collector.spans
    assert span.name == "SignalWithStartWorkflow:SuspiciousUserActivity"
    assert attributes(span.attributes)["temporalWorkflowID"] == case_id
    assert collector.metrics == {}


async def test_a_collector_that_is_down_changes_nothing(env: dict[str, str], dev_server: WorkflowEnvironment) -> None:
    case_id, _ = await _start({**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, dev_server)
    assert case_id.startswith("sua-acme-")
