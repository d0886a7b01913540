"""When telemetry is on, and that it costs nothing when it is not."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from telemetry import Wanted, wanted
from tests.processes import run, variables

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
BOTH, NONE = Wanted(traces=True, metrics=True), Wanted()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, NONE),
        ({"OTEL_SERVICE_NAME": "soc"}, NONE),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, NONE),
        (ENDPOINT, BOTH),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, Wanted(traces=True)),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, Wanted(metrics=True)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, Wanted(traces=True)),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, Wanted(traces=True)),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "None"}, Wanted(metrics=True)),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, NONE),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "1"}, BOTH),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, BOTH),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], expected: Wanted) -> None:
    assert wanted(environment) == expected


@pytest.mark.parametrize(
    ("environment", "expected", "told"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            NONE,
            ["OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not spoken", "OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not spoken"],
        ),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            Wanted(traces=True),
            ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: http/json is not spoken"],
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, Wanted(metrics=True), ["OTEL_TRACES_EXPORTER: zipkin is not known"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, BOTH, ["OTEL_TRACES_EXPORTER: console is not known"]),
    ],
)
def test_what_is_not_spoken_is_said(environment: dict[str, str], expected: Wanted, told: list[str]) -> None:
    asked = wanted({**ENDPOINT, **environment})
    assert (asked.traces, asked.metrics) == (expected.traces, expected.metrics)
    assert [fault[: len(words)] for fault, words in zip(asked.faults, told, strict=True)] == told


LOOK = """
import json, sys
import clients, connection, doctor, integrations.tracing, logs, starter, telemetry, worker
plugins = telemetry.plugins()
telemetry.runtime(lasting=True)
telemetry.finish()
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")
print(json.dumps({"plugins": len(plugins), "loaded": loaded}))
"""


async def _look(folder: Path, **environment: str) -> tuple[dict[str, object], str]:
    ran = await run(sys.executable, "-c", LOOK, env=variables(folder, **environment))
    assert ran.code == 0, ran.err
    told: dict[str, object] = json.loads(ran.out)
    return told, ran.err


async def test_off_means_that_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    assert await _look(tmp_path) == ({"plugins": 0, "loaded": []}, "")


async def test_switched_off_means_that_too(tmp_path: Path) -> None:
    told, _ = await _look(tmp_path, **ENDPOINT, OTEL_SDK_DISABLED="true")
    assert told == {"plugins": 0, "loaded": []}


async def test_a_protocol_that_is_not_spoken_is_said_and_nothing_is_loaded(tmp_path: Path) -> None:
    told, said = await _look(tmp_path, **ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert told == {"plugins": 0, "loaded": []}
    assert "grpc is not spoken here, only http/protobuf; no traces are exported" in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "0"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
    ],
)
async def test_a_wrong_variable_is_said_and_never_stops_a_process(tmp_path: Path, wrong: dict[str, str]) -> None:
    told, said = await _look(tmp_path, **ENDPOINT, **wrong)
    assert told["plugins"] == 0
    assert "no telemetry is exported: an OTEL_* variable is wrong" in said


async def test_on_means_one_plugin_for_the_client(tmp_path: Path) -> None:
    told, _ = await _look(tmp_path, **ENDPOINT, OTEL_METRICS_EXPORTER="none")
    assert told["plugins"] == 1


def test_this_process_exports_nothing() -> None:
    assert not logging.getLogger("opentelemetry.context").filters
