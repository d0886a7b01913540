"""The figures of the last run as Markdown, between two marks of ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BEGIN, END = "<!-- figures: make bench writes what stands here -->", "<!-- end of figures -->"


def placed(page: str, results: dict[str, Any]) -> str:
    """The page with these figures between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = "\n".join(written(results))
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"


def written(results: dict[str, Any]) -> Iterator[str]:
    """The figures, part by part."""
    yield from _machine(results)
    for name, part in (
        ("floor", _floor),
        ("plain", _plain),
        ("rows", _rows),
        ("paused", _paused),
        ("storm", _storm),
        ("tuning", _tuning),
    ):
        if name in results:
            yield from part(results[name])


def _machine(results: dict[str, Any]) -> Iterator[str]:
    told = results["machine"]
    yield (
        f"Measured {results['at'][:10]} on {told['cores']} cores ({told['processor']}), {told['memory_gb']} GB; "
        f"Python {told['python']}, temporalio {told['temporalio']}, {told['temporal']}. "
        f"Load when it began: {told['load'][0]}."
    )
    yield ""


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---'] + ['--:'] * (len(head) - 1))} |"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _ratio(told: dict[str, float]) -> str:
    return f"{told['median']:.2f} ({told['least']:.2f} to {told['greatest']:.2f})"


def _floor(told: dict[str, Any]) -> Iterator[str]:
    yield "### Against the floor"
    yield ""
    case, bare = told["case"], told["floor"]
    yield from _table(
        ("a case of row 1", "Holdpoint", "floor", "ratio (least to greatest block)"),
        [
            (
                f"cases a second, {told['in_flight']} in flight",
                case["per_second"]["median"],
                bare["per_second"]["median"],
                _ratio(told["ratio"]["throughput"]),
            ),
            *(
                (words, case[key]["p50"], bare[key]["p50"], _ratio(told["ratio"][f"p50_{key[:-3]}"]))
                for words, key in (("ms to the first write, idle, p50", "to_write_ms"), ("ms to the end", "to_end_ms"))
            ),
            ("p95 to the first write", case["to_write_ms"]["p95"], bare["to_write_ms"]["p95"], ""),
            (
                "processor ms a case, server and worker",
                *(round(sum(side["processor_ms"].values())) for side in (case, bare)),
                _ratio(told["ratio"]["processor"]),
            ),
        ],
    )


def _plain(told: dict[str, Any]) -> Iterator[str]:
    yield "### Against a script without durability"
    yield ""
    ours, theirs = told["holdpoint"], told["script"]
    yield (
        f"The script takes {theirs['to_end_ms']['p50']} ms a case, {theirs['processor_ms']['script']} ms of processor,"
        f" Holdpoint {ours['to_end_ms']['p50']} ms and {round(sum(ours['processor_ms'].values()))} ms:"
        f" durability costs {told['durability_ms']} ms a case, beside vendors that take seconds."
    )
    yield ""


def _rows(told: dict[str, Any]) -> Iterator[str]:
    yield "### What a case leaves in Temporal"
    yield ""
    names = ("events", "bytes", "workflow_tasks", "activities", "upserts", "timers", "actions")
    yield from _table(
        ("row", *(name.replace("_", " ") for name in names)),
        [
            (name.replace("_", " ") + (", asked" if row["asked"] else ""), *(row[key] for key in names))
            for name, row in told.items()
            if name != "measured"
        ],
    )


def _paused(told: dict[str, Any]) -> Iterator[str]:
    yield f"### {told['cases']:,} cases that wait at once"
    yield ""
    memory, answering, timers, restart = told["memory"], told["answering"], told["timers"], told["restart"]
    yield from _table(
        ("", "figure"),
        [
            ("each looks again every", f"{told['looks_every_s']:.0f} s, as much as {told['as_much_as']}"),
            (
                "started a second, as they go on after a long wait"
                if told["started"].get("resumed")
                else "cases a second until each had asked",
                told["started"]["per_second"],
            ),
            (
                "looks a second, and due",
                f"{told['watched']['looks_per_second']}, {told['watched']['looks_due_per_second']}",
            ),
            ("worker MB idle, all paused, after looking", _memory(memory)),
            ("disk MB", told["disk_mb"]),
            ("ms from an answer to its receipt, p50 and p95", _late(answering["receipt_ms"], "p95")),
            ("answers without a receipt in time", answering.get("without_receipt", 0)),
            ("ms from an answer to the first write, p50 and p95", _late(answering["write_ms"], "p95")),
            ("answers without a first write within a minute after", answering.get("without_write", 0)),
            ("ms a timer fires after it is due, p50 and p99", _late(timers["fired_late_ms"])),
            ("ms until its first step begins, p50 and p99", _late(timers["looked_late_ms"])),
            (
                f"after {restart['down_seconds']} s without worker and server: s until both are back",
                restart["worker_ready_after_s"],
            ),
            (f"s until the {restart['overdue']} looks that were overdue are done", restart["overdue_served_after_s"]),
            (
                f"s until every case has looked again{_but(restart.get('not_looked_again', 0))}",
                restart["all_looked_again_after_s"],
            ),
        ],
    )


def _but(left: int) -> str:
    return f" but {left:,}, which had not when it was waited for no longer" if left else ""


def _memory(memory: dict[str, float]) -> str:
    return ", ".join(str(memory[f"worker_{when}_mb"]) for when in ("idle", "paused", "watched"))


def _late(told: dict[str, float], beside: str = "p99") -> str:
    return f"{told.get('p50')}, {told.get(beside)}"


def _storm(told: dict[str, Any]) -> Iterator[str]:
    yield "### A storm"
    yield ""
    many, one, down = told["many_hosts"], told["one_host"], told["worker_down"]
    rows: list[tuple[Any, ...]] = [
        (words, many[key], one[key])
        for words, key in (
            ("alerts offered", "offered"),
            ("taken", "taken"),
            ("a second", "taken_per_second"),
            ("cases opened", "cases_opened"),
            ("mails", "questions_sent"),
            ("lost", "lost"),
            ("s until nobody called a vendor any more", "drained_after_s"),
        )
    ]
    rows += [
        ("vendor calls", sum(many["vendor_calls"].values()), sum(one["vendor_calls"].values())),
        ("could not be told", sum(many["not_told"].values()), sum(one["not_told"].values())),
        (
            "critical alert, ms to the first write: idle",
            many["critical_ms"]["idle_p50"],
            one["critical_ms"]["idle_p50"],
        ),
        ("in the storm", many["critical_ms"]["in_the_storm"], one["critical_ms"]["in_the_storm"]),
        ("events of the first case", many["one_case"]["events"], one["one_case"]["events"]),
    ]
    yield from _table(("", f"{many['hosts']} hosts", "one host"), rows)
    asked = f"asked after {down['asked_after_s']} s" if down["asked_after_s"] else "had not asked within a minute"
    yield (
        f"{down['taken']:,} alerts for one host while no worker ran: once one ran, the case {asked},"
        f" and after {down.get('kept_after_s')} s it had read {down['kept']:,} of them."
    )
    yield ""


def _tuning(told: dict[str, Any]) -> Iterator[str]:
    yield "### The worker's settings"
    yield ""
    yield from _table(
        ("changed to", "cases a second", "p50 to the first write", "processor time a case"),
        [
            (name, _ratio(change["throughput"]), f"{change['p50_to_write']:.2f}", f"{change['processor']:.2f}")
            for name, change in told.items()
            if name != "measured"
        ],
    )
