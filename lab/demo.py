"""The demo: ``python -m lab.demo``. Every row of the table over real protocols, what guards it, a flood and an outage.

Everything lives in ``.holdpoint/``. It ends with a table and ``demo-report.json``, and with an exit code other than 0
if anything differs from the table or from what the stand-ins saw.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from temporalio.service import RPCError

from incident.policy import OnUnanswered
from incident.text import plain
from lab.casework import CLOSES_WITHIN, Casework
from lab.checks import differences, touched, written_more_than_once
from lab.flood import Flood
from lab.guarded import Guarded
from lab.report import CaseRun, DemoReport, print_table, write_report
from lab.scenarios import DECLARED_DEFAULT, Expected, Scenario, expected, named
from lab.servers import ROOT, LabFailed
from lab.stage import RUN_DIRECTORY, InUse, Stage, stage
from lab.storm import Storm
from lab.trust_scenes import ALL, DOMAIN_ADMIN, OFFLINE, STORM, URGENT, WRONG
from lab.undone import Undone

REPORT = ROOT / "demo-report.json"
SHORT_WAIT = "10s"
"""How long each tier has in the case that nobody answers."""

OUTAGE_SECONDS = 3.0
_FILE_WIDTH = 130


class Demo:
    """The acts, in order. What differs is collected, not raised, so that the table tells all of it."""

    def __init__(self, on: Stage, report: DemoReport) -> None:
        self._stage = on
        self._report = report
        self._work = work = Casework(on, report, ALL)
        self._storm = Storm(work)
        self._guarded = Guarded(work)
        self._flood = Flood(work)
        self._undone = Undone(work)

    async def play(self) -> None:
        """All acts."""
        work = self._work
        late = [scenario for scenario in ALL if _times_out(scenario)]
        asking = [scenario for scenario in ALL if scenario.verdict.holds and scenario not in late]
        asking.sort(key=lambda scenario: not scenario.search_fails)  # These take the longest.
        at_once = [s for s in ALL if not s.verdict.holds and s not in (*STORM, OFFLINE, URGENT)]
        # While the storm is counted, nothing else is contained: these only ask.
        await asyncio.gather(self._storm.play(), work.start(asking))
        await asyncio.gather(
            *(work.settle(scenario) for scenario in asking),
            work.start(at_once),
            self._guarded.host_is_offline(),
        )
        closing = [scenario for scenario in (*STORM, *at_once) if scenario is not DOMAIN_ADMIN]
        await asyncio.gather(
            *(work.settle(scenario) for scenario in closing),
            self._guarded.one_approval(),
            self._flood.play(),
        )
        await asyncio.gather(self._deliver_again_while_open(named("high-search-down")), self._ask_briefly(late))
        await self._outlive([self._runs[scenario.name] for scenario in late])
        await self._flood.stands("after the outage")
        await asyncio.gather(
            *(self._escalates(self._runs[scenario.name]) for scenario in late),
            self._answer_the_rest(),
            self._guarded.goes_on(),
        )
        others = [run for run in self._runs.values() if run.scenario is not WRONG]
        await asyncio.gather(self._undone.play(), *(work.close(run) for run in others))
        wanted = [expected(run.scenario) for run in self._runs.values()]
        await asyncio.gather(self._deliver_again_after_close(named("high-corroborated")), self._storm.count(wanted))
        self._hold_against_the_world(wanted)

    @property
    def _runs(self) -> dict[str, CaseRun]:
        return self._work.runs

    # An alert that comes twice.

    async def _deliver_again_while_open(self, scenario: Scenario) -> None:
        again = await self._stage.starter_json("start", str(self._work.alerts[scenario.name]))
        if not again["joined"] or again["run_id"] != self._runs[scenario.name].run_id:
            self._report.differences.append(f"the same alert, delivered while its case is open, did not join: {again}")
        self._report.shown["duplicate_while_open"] = again
        self._stage.say(f"the alert of {scenario.name} came again: joined {again['joined']}")

    async def _deliver_again_after_close(self, scenario: Scenario) -> None:
        again = await self._stage.starter_json("start", str(self._work.alerts[scenario.name]))
        state = await asyncio.wait_for(self._stage.handle(again["case_id"], again["run_id"]).result(), CLOSES_WITHIN)
        if again["joined"] or state["outcome"] != "duplicate" or state["actions"] or state["ticket"]:
            self._report.differences.append(f"the same alert, delivered after the close, gave {state['outcome']}")
        self._report.shown["duplicate_after_close"] = {**again, "outcome": state["outcome"]}
        self._stage.say(f"the alert of {scenario.name} came again after its close: {state['outcome']}")

    # The outage.

    async def _ask_briefly(self, late: list[Scenario]) -> None:
        environment = self._stage.environment
        brief = environment.write_settings("unanswered.toml", wait=SHORT_WAIT, on_unanswered=DECLARED_DEFAULT)
        await self._work.start(late, settings=brief)
        await asyncio.gather(*(self._work.settle(scenario) for scenario in late))

    async def _outlive(self, waiting: list[CaseRun]) -> None:
        """Kill the worker, answer one case, kill the server; start both again and look what is still there."""
        on, survivor, answered = self._stage, self._runs["high-search-down"], self._runs["high-alone"]
        before = {run.case_id: run.state.get("question") or {} for run in (survivor, *waiting)}
        for run in waiting:
            on.say(f"{run.scenario.name} escalates at {before[run.case_id].get('due_at')} unless it is answered")
        on.say(f"SIGKILL to the worker (process {on.worker.pid})")
        down_at = time.monotonic()
        await on.worker.kill()
        await self._reply(answered)
        on.say(f"SIGKILL to the Temporal server (process {on.temporal.pid})")
        await on.temporal.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        await on.start_temporal()
        await on.start_worker()
        down = time.monotonic() - down_at
        on.say(f"server and worker are back after {down:.1f} s, on the same file")
        self._report.shown["outage"] = {"seconds": round(down, 1), "questions": before}
        await self._still_there(survivor, before[survivor.case_id])

    async def _still_there(self, run: CaseRun, before: dict[str, Any]) -> None:
        try:
            state = await self._stage.status(run.case_id, run.run_id)
        except RPCError as error:
            await self._work.stuck(run, "does not answer after the outage", error)
            return
        kept = state["question"] or {}
        if (kept.get("id"), kept.get("due_at")) != (before.get("id"), before.get("due_at")):
            run.differences.append(f"after the outage its question is {kept}, not {before}")
        run.differences += touched(self._stage.environment, run.scenario, state)
        found = await self._stage.cli(
            *("workflow", "list", "--output", "json"),
            *("--query", "IncidentStage='awaiting_decision' AND ExecutionStatus='Running'"),
        )
        if run.case_id not in found.out:
            run.differences.append("after the outage 'temporal workflow list' does not find it")
        self._stage.say(f"still paused: {run.scenario.name}, question {kept.get('id')}, due {kept.get('due_at')}")

    async def _escalates(self, run: CaseRun) -> None:
        """The timer that was set before the outage fires after it."""
        first = (run.state["question"] or {}).get("tier")
        try:
            state = await self._work.until(run, lambda state: (state["question"] or {}).get("tier") != first)
        except (TimeoutError, RPCError):
            run.differences.append("its timer did not fire after the outage")
            return
        tier = (state["question"] or {}).get("tier", "nobody")
        self._stage.say(f"the timer outlived the outage: {run.scenario.name} now asks {tier}")

    # The answers.

    async def _answer_the_rest(self) -> None:
        """Answer what waits for an answer; let the search recover where that ends the question."""
        answered = "high-alone"
        asked = [self._runs[scenario.name] for scenario in ALL if scenario.verdict.holds]
        rest = [run for run in asked if run.scenario.name != answered]
        await asyncio.gather(*(self._reply(run) for run in rest if run.scenario.reply))
        await asyncio.gather(*(self._recover(run) for run in rest if run.scenario.recovers))

    async def _reply(self, run: CaseRun) -> None:
        run.differences += touched(self._stage.environment, run.scenario, run.state)
        await self._work.reply(run)

    async def _recover(self, run: CaseRun) -> None:
        """The search works again and a second alert joins: the case looks at once, and withdraws its question."""
        scenario = run.scenario
        run.differences += touched(self._stage.environment, scenario, run.state)
        self._work.cast.recover(scenario)
        second = self._stage.alert_file(f"{scenario.name}-second", self._work.cast.alert(scenario, second=True))
        joined = await self._stage.starter_json("start", str(second))
        if not joined["joined"]:
            run.differences.append(f"a second alert about the same host did not join: {joined}")
        self._stage.say(f"the search recovered and a second alert joined {scenario.name}: the case looks again")

    # What came of it.

    def _hold_against_the_world(self, wanted: Sequence[Expected]) -> None:
        for run in self._runs.values():
            if run.seconds is not None:
                run.differences += differences(self._stage.environment, run.scenario, run.state)
        self._report.differences += written_more_than_once(self._stage.environment, wanted)


def _times_out(scenario: Scenario) -> bool:
    return scenario.verdict.holds and scenario.reply is None and not scenario.withdrawn


async def prepare(on: Stage) -> None:
    """Register the search attributes, start the worker, and let the doctor look at every integration."""
    await on.starter_json("setup")
    await on.start_worker()
    on.say(f"worker ready (process {on.worker.pid}); search attributes registered")
    checks = await on.starter_json("doctor")
    on.say(f"'python starter.py doctor' found {len(checks)} things in order")


async def demo(console: Console, folder: Path = RUN_DIRECTORY, report_file: Path = REPORT) -> int:
    """Play the whole demo; returns the exit code."""
    report = DemoReport(started_at=datetime.now(UTC).isoformat(timespec="seconds"))
    began = time.monotonic()
    try:
        async with stage(folder, console, wait="20m", on_unanswered=OnUnanswered.HOLD) as on:
            report.web_ui = on.temporal.web_ui
            on.say(f"Temporal {on.temporal.address}; its Web UI, while this runs: {on.temporal.web_ui}")
            await prepare(on)
            await Demo(on, report).play()
    except InUse as error:
        console.print(Text(str(error), style="bold red"), soft_wrap=True)
        return 1
    except (LabFailed, RPCError, TimeoutError) as error:
        report.differences.append(f"the demo could not go on: {error or type(error).__name__}")
    report.seconds = time.monotonic() - began
    write_report(report, report_file)
    console.print()
    print_table(report, console)
    console.print()
    for difference in report.all_differences:
        console.print(Text(f"DIFFERS  {plain(difference, limit=1000)}", style="bold red"), soft_wrap=True)
    verdict = "as the table says" if not report.all_differences else "NOT as the table says"
    console.print(f"{len(report.cases)} cases in {report.seconds:.0f} s, {verdict}; the same in {report_file}")
    console.print(f"The Web UI was at {report.web_ui}; 'make up' leaves one running.", soft_wrap=True)
    return 1 if report.all_differences else 0


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run until it ends or a signal cancels it; everything that was started is ended either way."""

    async def watched() -> int:
        task = asyncio.create_task(work)
        got: list[int] = []

        def stop(number: int) -> None:
            got.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            return 128 + got[0] if got else 1

    return asyncio.run(watched())


def a_console() -> Console:
    """The terminal; a file or a pipe gets lines that are wide enough for the table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


if __name__ == "__main__":
    sys.exit(run(demo(a_console())))
