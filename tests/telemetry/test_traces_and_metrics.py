"""What a process exports of two cases, one answered by an analyst and one decided by the table, over wired systems."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from temporalio.testing import WorkflowEnvironment

from tests.processes import run, variables
from tests.telemetry.collector import Collector, attributes
from tests.telemetry.traced_process import REASON, TOKEN
from tests.workflows.world import ANALYST, World

START = "SignalWithStartWorkflow:SuspiciousUserActivity"
RUN = "RunWorkflow:SuspiciousUserActivity"


@dataclass
class Exported:
    collector: Collector
    told: dict[str, Any]
    log: list[str]

    def trace(self, case: str) -> list[Span]:
        """The spans of the trace that began with the start of that case."""
        (start,) = [s for s in self.collector.named(START) if attributes(s.attributes)["temporalWorkflowID"] == case]
        return [span for span in self.collector.spans if span.trace_id == start.trace_id]


@pytest.fixture(scope="module")
async def exported(
    dev_server: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Exported]:
    async with Collector() as collector:
        env = variables(
            tmp_path_factory.mktemp("traced"),
            TEMPORAL_ADDRESS=dev_server.client.service_client.config.target_host,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=soc",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
        ran = await run(sys.executable, "-m", "tests.telemetry.traced_process", env=env, within=120)
        assert ran.code == 0, ran.err
        yield Exported(collector, json.loads(ran.out), ran.err.splitlines())


def test_one_trace_from_the_start_to_each_exchange(exported: Exported) -> None:
    spans = exported.collector.by_id()
    for case in (exported.told["answered"], exported.told["contained"]):
        trace = exported.trace(case)
        (root,) = [span for span in trace if not span.parent_span_id]
        assert root.name == START
        for span in trace:
            ancestors = _ancestors(span, spans)
            assert span is root or ancestors[-1] == START
            if span.name.startswith(("HTTP", "LDAP", "SMTP")):
                assert span.kind == Span.SPAN_KIND_CLIENT
                assert ancestors[0].startswith("RunActivity:")
                assert ancestors[1].startswith("StartActivity:")
                assert ancestors[2] == RUN


def _ancestors(span: Span, spans: dict[bytes, Span]) -> list[str]:
    names = []
    while span.parent_span_id:
        span = spans[span.parent_span_id]
        names.append(span.name)
    return names


def test_every_exchange_has_its_span_once_although_every_task_replays(exported: Exported) -> None:
    names = Counter(span.name for span in exported.trace(exported.told["answered"]))
    assert names[RUN] == 1
    assert (names["HTTP POST"], names["LDAP modify"], names["SMTP send"]) == (1, 1, 1)
    assert names["LDAP bind"] == 2
    assert names["RunActivity:directory.disable_account"] == names["StartActivity:directory.disable_account"] == 1


def test_spans_say_whom_and_how_it_ended(exported: Exported) -> None:
    (http,) = [s for s in exported.trace(exported.told["contained"]) if s.name == "HTTP POST"]
    told = attributes(http.attributes)
    assert set(told) == {"peer.service", "server.address", "server.port", "http.response.status_code"}
    assert (told["peer.service"], told["server.address"], told["http.response.status_code"]) == (
        "Securonix",
        "127.0.0.1",
        200,
    )
    (modify,) = exported.collector.named("LDAP modify")
    assert attributes(modify.attributes)["ldap.result_code"] == 0


def test_a_failed_step_is_known_by_its_type_alone(exported: Exported) -> None:
    failed = [s for s in exported.collector.spans if s.status.code == Status.STATUS_CODE_ERROR]
    assert [(s.name, attributes(s.attributes)["error.type"]) for s in failed] == [
        ("RunActivity:endpoint.quarantine_host", "Busy")
    ]
    assert all(not span.events and not span.status.message for span in exported.collector.spans)


def test_a_run_lasts_as_long_as_the_case(exported: Exported) -> None:
    for run_span in exported.collector.named(RUN):
        inside = [s for s in exported.collector.spans if s.parent_span_id == run_span.span_id]
        assert run_span.end_time_unix_nano > max(s.end_time_unix_nano for s in inside)
        assert run_span.start_time_unix_nano < min(s.start_time_unix_nano for s in inside)


@pytest.mark.parametrize(
    "words",
    [
        *(TOKEN, REASON, ANALYST, World().host, World().person.account, World().person.display_name),
        *("DC=corp", "CN=", "(objectC", "index=asset", "/ws/find", "Falcon is busy", "is to blame", "Large data"),
        *("Lab-0nly", "Traceback", "soc@acme"),
    ],
)
def test_no_name_and_no_secret_leaves_the_process(exported: Exported, words: str) -> None:
    assert exported.collector.raw
    assert not exported.collector.said(words)


def test_the_environment_is_obeyed(exported: Exported) -> None:
    resource = attributes(exported.collector.resources[0].attributes)
    assert resource["service.name"] == "holdpoint"
    assert resource["deployment.environment.name"] == "test"
    assert all(headers["x-tenant"] == "soc" for headers in exported.collector.headers)


def test_nothing_is_sent_from_where_it_is_recorded(exported: Exported) -> None:
    assert exported.told["sending"] == ["OtelBatchSpanRecordProcessor"]


def test_the_metrics_of_the_cases(exported: Exported) -> None:
    total = exported.collector.total
    assert total("holdpoint_decisions", decision="contain", by="analyst") == 1
    assert total("holdpoint_decisions", decision="contain", by="table") == 1
    assert total("holdpoint_decisions") == 2
    assert total("holdpoint_actions", action="disable_account", state="verified") == 2
    assert total("holdpoint_actions", action="quarantine_host", state="verified") == 2
    assert total("holdpoint_actions") == 4
    assert total("holdpoint_cases_closed", outcome="contained") == 2
    assert total("holdpoint_integration_errors", integration="endpoint", error_type="Busy") == 1
    assert total("holdpoint_integration_errors") == 1


def test_the_times_of_the_cases_are_in_seconds(exported: Exported) -> None:
    assert exported.collector.total("holdpoint_human_wait", ending="answered") == 1
    for stage, times in {"triaging": 2, "awaiting_decision": 1, "containing": 2, "verifying": 2, "closed": 2}.items():
        assert exported.collector.total("holdpoint_time_to_stage", stage=stage) == times
    latest = exported.collector.metrics["holdpoint_time_to_stage"][-1]
    assert latest.unit == "s"
    by_stage = {attributes(p.attributes)["stage"]: p for p in latest.histogram.data_points}
    assert 0 < by_stage["triaging"].sum < by_stage["containing"].sum < by_stage["closed"].sum
    assert by_stage["closed"].explicit_bounds[-1] == 604800


def test_temporals_own_metrics_go_the_same_way(exported: Exported) -> None:
    assert exported.collector.total("temporal_workflow_completed") == 2
    assert exported.collector.total("temporal_activity_execution_failed") == 1
    assert exported.collector.total("temporal_request") > 10


def test_the_log_is_one_object_a_line_with_the_case(exported: Exported) -> None:
    lines = [json.loads(line) for line in exported.log]
    of_the_case = [line for line in lines if line.get("case_id") == exported.told["contained"]]
    assert [line["message"] for line in of_the_case if line["message"].startswith("case ")][1:] == [
        "case closed: contained"
    ]
    (failed,) = [line for line in lines if line["level"] == "warning"]
    assert (failed["activity"], failed["attempt"]) == ("endpoint.quarantine_host", 1)
    assert "Busy: Falcon is busy" in failed["message"]
    assert "exception" not in failed
    trace_id = exported.trace(exported.told["contained"])[0].trace_id.hex()
    assert of_the_case[0]["trace_id"] == trace_id
