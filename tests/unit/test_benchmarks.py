"""The benchmarks' own arithmetic and stand-ins; what they measure is told by ``make bench`` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import PollerBehaviorSimpleMaximum

from benchmarks.__main__ import BY_DEFAULT, PAGE, PARTS, PICTURE, RESULTS
from benchmarks.as_shipped import bench_alert, shipped_policy
from benchmarks.counting import counted, shape
from benchmarks.figures import placed
from benchmarks.floor import Round, ratios
from benchmarks.instant import Row, about, instant_clients
from benchmarks.marks import Marks, Read
from benchmarks.measure import milliseconds, percentile, processor_seconds, resident_mb
from benchmarks.picture import drawn
from benchmarks.plain import contain
from benchmarks.process import knobs
from tests.house.layers import ROOT


def _history(name: str) -> Any:
    text = (ROOT / "tests" / "histories" / f"{name}.json").read_text(encoding="utf-8")
    return WorkflowHistory.from_json(name, text).events


def test_a_history_is_counted_by_what_it_says() -> None:
    raw = json.loads((ROOT / "tests" / "histories" / "answered.json").read_text(encoding="utf-8"))["events"]
    kinds = [event["eventType"] for event in raw]
    count = counted(_history("answered"), 1234)
    assert (count.events, count.bytes) == (len(raw), 1234)
    assert count.activities == kinds.count("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")
    assert count.workflow_tasks == kinds.count("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
    one_each = (
        "WORKFLOW_EXECUTION_STARTED",
        "TIMER_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
        "ACTIVITY_TASK_STARTED",
    )
    assert count.actions == sum(kinds.count(f"EVENT_TYPE_{kind}") for kind in one_each)


def test_the_shape_is_what_runs_side_by_side() -> None:
    form = shape(_history("contained"), "x")
    assert form.batches[:2] == [2, 2]
    assert form.batches[form.writes] == 2


async def test_the_script_contains_what_the_table_says(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks", all_calls=True)
    clients = instant_clients(marks)
    alert = bench_alert(Row.HIGH_CORROBORATED, 300, "one")
    assert await contain(clients, alert, shipped_policy())
    with pytest.raises(LookupError):
        await contain(clients, bench_alert(Row.HIGH_ALONE, 1, "two"), shipped_policy())
    marks.close()
    read = Read(tmp_path / "marks").refresh()
    name = about(alert.destination_ip)
    for kind in ("locate", "find_person", "find_device", "risk", "corroboration", "quarantine", "disable"):
        assert len(read.times[kind][name]) == 1, kind
    assert read.first(name, "disable", "quarantine") == min(
        read.times["disable"][name] + read.times["quarantine"][name]
    )
    assert read.count("open_ticket") == 1


def test_marks_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    read = Read(path)
    assert read.refresh().first("a", "write") is None
    marks = Marks(path, all_calls=False)
    marks.write("write", "a")
    marks.call("risk", "a")
    assert read.refresh().count("write") == 1
    with path.open("a", encoding="ascii") as file:
        file.write("write b 1.")
        file.flush()
        assert read.refresh().count("write") == 1, "half a line is none"
        file.write("5\n")
    assert read.refresh().first("b", "write", "risk") == 1.5
    assert read.count("risk") == 0
    marks.close()


def test_percentiles_and_ratios() -> None:
    assert [percentile([5, 1, 3, 2, 4], share) for share in (0, 0.5, 0.99)] == [1, 3, 5]
    assert milliseconds([0.1, 0.2]) == {"n": 2, "p50": 200.0, "p95": 200.0, "p99": 200.0, "greatest": 200.0}
    assert milliseconds([]) == {"n": 0}
    ours = [Round(4.0, {"worker": 30.0}, [0.3], [0.6])]
    bare = [Round(5.0, {"worker": 20.0}, [0.2], [0.4])]
    told = ratios([(ours, bare)])
    assert told["throughput"]["median"] == 0.8
    assert told["processor"]["median"] == told["p50_to_write"]["median"] == told["p50_to_end"]["median"] == 1.5


def test_processes_that_are_not_there_use_nothing() -> None:
    assert processor_seconds(None) == resident_mb(None) == 0.0


def test_knobs_are_arguments_of_the_worker() -> None:
    told = knobs(["workflow_task_poller_behavior=7", "max_cached_workflows=0", "disable_eager_activity_execution=True"])
    assert told["workflow_task_poller_behavior"] == PollerBehaviorSimpleMaximum(7)
    assert (told["max_cached_workflows"], told["disable_eager_activity_execution"]) == (0, True)


def test_the_last_results_make_picture_and_page() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert set(BY_DEFAULT) <= set(results) <= {*PARTS, "at", "machine"}
    picture = ET.fromstring(drawn(results))
    page = PAGE.read_text(encoding="utf-8")
    assert placed(page, results) == page
    assert PICTURE.read_text(encoding="utf-8") == drawn(results)
    words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert f"{results['floor']['ratio']['throughput']['median']:.2f}" in words
