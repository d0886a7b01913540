"""``python -m benchmarks [PART …] [--quick | --full]``: measure, and write the results as JSON and as a picture."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import floor, paused, plain, rows, storm, tuning
from benchmarks.as_shipped import forget_surroundings
from benchmarks.figures import placed
from benchmarks.measure import loop_ms, machine
from benchmarks.picture import drawn
from lab.servers import ROOT

RESULTS = ROOT / "benchmarks" / "results.json"
PICTURE = ROOT / "docs" / "performance.svg"
PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    turn: int
    singly: int
    paused: int
    every: timedelta
    watch: float
    alerts: int
    flood: int
    burst: float
    tuned: int
    resumed: bool = False


QUICK = Size(1, 16, 4, 40, timedelta(seconds=20), 20, 200, 200, 5, 16)
DEFAULT = Size(2, 60, 15, 1_000, timedelta(seconds=90), 90, 10_000, 20_000, 20, 60)
FULL = Size(5, 150, 40, 10_000, timedelta(minutes=10), 300, 10_000, 20_000, 30, 120, resumed=True)

PARTS: dict[str, Callable[[Size], Awaitable[dict[str, Any]]]] = {
    "rows": lambda _: rows.run(),
    "floor": lambda size: floor.run(rounds=size.rounds, total=size.turn, singly=size.singly),
    "plain": lambda size: plain.run(total=2 * size.singly),
    "paused": lambda size: paused.run(total=size.paused, every=size.every, watch=size.watch, resumed=size.resumed),
    "storm": lambda size: storm.run(alerts=size.alerts, hosts=50, flood=size.flood, how=storm.Storming(size.burst)),
    "tuning": lambda size: tuning.run(total=size.tuned, singly=size.singly),
}
BY_DEFAULT = ("rows", "floor", "plain", "paused", "storm")


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; without any, all but tuning")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="only to see that it runs: the figures mean nothing")
    size.add_argument("--full", action="store_true", help="with 10,000 paused cases; takes an hour or two")
    parser.add_argument("--paused", type=int, metavar="N", help="so many paused cases")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="how often each of them looks")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where the results go, as JSON")
    parser.add_argument("--picture", type=Path, default=PICTURE, metavar="FILE", help="where the picture goes, as SVG")
    told = parser.parse_args(given)
    unknown = [part for part in told.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return told


async def _measure(parts: list[str], size: Size, keep: Callable[[dict[str, Any]], None]) -> None:
    for part in parts:
        begun, speed = time.monotonic(), loop_ms()
        print(f"{part} …", file=sys.stderr, flush=True)
        measured = await PARTS[part](size)
        about = {"seconds": round(time.monotonic() - begun, 1), "loop_ms": [speed, loop_ms()]}
        told = {part: {**measured, "measured": about}}
        print(json.dumps(told, indent=1), flush=True)
        keep(told)


def main(given: list[str]) -> int:
    """Measure the parts that are named, each kept as soon as it is there; the others keep what they have."""
    told = _arguments(given)
    forget_surroundings()
    size = QUICK if told.quick else FULL if told.full else DEFAULT
    if told.paused:
        size = replace(size, paused=told.paused)
    if told.every:
        size = replace(size, every=timedelta(seconds=told.every), watch=told.every)
    about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}

    def keep(part: dict[str, Any]) -> None:
        kept = json.loads(told.results.read_text(encoding="utf-8")) if told.results.exists() else {}
        results = {**kept, **about, **part}
        told.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        told.picture.write_text(drawn(results), encoding="utf-8")
        if told.results == RESULTS:
            PAGE.write_text(placed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")

    # Ended gently, it ends its processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(_measure(told.parts or list(BY_DEFAULT), size, keep))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # The SDK's threads can crash an interpreter that tears itself down.
    os._exit(code)
