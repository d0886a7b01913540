"""The demo: ``python -m lab.demo``. Every row of the table over real protocols, and an outage in the middle.

Everything lives in ``.holdpoint/``. It ends with a table and ``demo-report.json``, and with an exit code other than 0
if anything differs from the table or from what the stand-ins saw.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from incident.policy import OnUnanswered
from incident.text import plain
from lab.checks import State, differences, touched, written_more_than_once
from lab.report import CaseRun, DemoReport, print_table, write_report
from lab.scenarios import DECLARED_DEFAULT, SCENARIOS, Cast, Reply, Scenario, Way, expected, named
from lab.servers import ROOT, LabFailed
from lab.stage import RUN_DIRECTORY, InUse, Stage, stage

REPORT = ROOT / "demo-report.json"
SHORT_WAIT = "10s"
"""How long each tier has in the case that nobody answers."""

OUTAGE_SECONDS = 3.0
PAUSES_WITHIN = 30.0
CLOSES_WITHIN = 45.0
_STARTS_AT_ONCE = 3
_FILE_WIDTH = 130


class Demo:
    """The acts, in order. What differs is collected, not raised, so that the table tells all of it."""

    def __init__(self, on: Stage, report: DemoReport) -> None:
        self._stage = on
        self._report = report
        self._cast = Cast(on.environment)
        self._runs: dict[str, CaseRun] = {}
        self._alerts = {s.name: on.alert_file(s.name, self._cast.alert(s)) for s in SCENARIOS}

    async def play(self) -> None:
        """All acts."""
        late = [scenario for scenario in SCENARIOS if _times_out(scenario)]
        early = [scenario for scenario in SCENARIOS if not _times_out(scenario)]
        await self._start(early)
        await asyncio.gather(*(self._settle(scenario) for scenario in early))
        await self._deliver_again_while_open(named("high-search-down"))
        await self._outlive(late)
        await self._answer_the_rest()
        await asyncio.gather(*(self._close(run) for run in self._runs.values()))
        await self._deliver_again_after_close(named("high-corroborated"))
        self._hold_against_the_world()

    # The cases begin.

    async def _start(self, scenarios: list[Scenario], settings: Path | None = None) -> None:
        gate = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def one(scenario: Scenario) -> None:
            async with gate:
                alert = str(self._alerts[scenario.name])
                started = await self._stage.starter_json("start", alert, settings=settings)
            run = CaseRun(scenario, started["run_id"])
            self._runs[scenario.name] = run
            if started["joined"] or started["case_id"] != scenario.case_id:
                run.differences.append(f"its start answered {started}")

        await asyncio.gather(*(one(scenario) for scenario in scenarios))
        self._report.cases = [self._runs[s.name] for s in SCENARIOS if s.name in self._runs]
        self._stage.say(f"started {len(scenarios)} alerts with 'python starter.py start FILE --json'")

    async def _settle(self, scenario: Scenario) -> None:
        """Wait until a case has paused, or closed where the table contains at once."""
        run = self._runs[scenario.name]
        if scenario.verdict.holds:
            await self._asked(run)
            return
        await self._close(run)
        self._stage.say(f"closed  {scenario.name}: {run.state['outcome']}")

    async def _asked(self, run: CaseRun) -> None:
        """Wait for the first mail of a case, and for the case to know that it went out."""
        mailbox = self._stage.environment.mailbox
        try:
            await mailbox.wait_for(lambda mail: run.case_id in mail.text, PAUSES_WITHIN)
            run.state = await self._until(run, lambda state: bool(state["question"] and state["question"]["asked"]))
        except (TimeoutError, RPCError) as error:
            await self._stuck(run, f"did not ask within {PAUSES_WITHIN:.0f} s", error)
            return
        run.differences += touched(self._stage.environment, run.scenario, run.state)
        self._stage.say(f"paused  {run.scenario.name}: {plain(run.state['question']['why'], limit=120)}")

    async def _until(self, run: CaseRun, condition: Callable[[State], bool]) -> State:
        async with asyncio.timeout(PAUSES_WITHIN):
            while True:
                state = await self._stage.status(run.case_id, run.run_id)
                if condition(state):
                    return state
                await asyncio.sleep(0.1)

    async def _close(self, run: CaseRun) -> None:
        """Wait until a case has closed; one that does not is a difference."""
        if run.seconds is not None or run.stuck:
            return
        handle = self._stage.handle(run.case_id, run.run_id)
        try:
            run.state = await asyncio.wait_for(handle.result(), CLOSES_WITHIN)
        except (TimeoutError, RPCError) as error:
            await self._stuck(run, f"did not close within {CLOSES_WITHIN:.0f} s", error)
            return
        except WorkflowFailureError as error:
            run.differences.append(f"its workflow failed: {error.cause}")
            return
        described = await handle.describe()
        if described.close_time:
            run.seconds = round((described.close_time - described.start_time).total_seconds(), 2)

    async def _stuck(self, run: CaseRun, what: str, error: Exception) -> None:
        """A case that does not come on is a difference, told with where it is; the other cases go on."""
        try:
            run.state = await self._stage.status(run.case_id, run.run_id)
            told = f"{run.state['stage']}, risk {run.state['risk'].get('value')}, outcome {run.state['outcome']}"
        except RPCError as refused:
            told = f"no answer to a query: {refused.message}"
        run.stuck = True
        run.differences.append(f"{what} ({told}{f'; {error}' if str(error) else ''})")

    # An alert that comes twice.

    async def _deliver_again_while_open(self, scenario: Scenario) -> None:
        again = await self._stage.starter_json("start", str(self._alerts[scenario.name]))
        if not again["joined"] or again["run_id"] != self._runs[scenario.name].run_id:
            self._report.differences.append(f"the same alert, delivered while its case is open, did not join: {again}")
        self._report.shown["duplicate_while_open"] = again
        self._stage.say(f"the alert of {scenario.name} came again: joined {again['joined']}")

    async def _deliver_again_after_close(self, scenario: Scenario) -> None:
        again = await self._stage.starter_json("start", str(self._alerts[scenario.name]))
        state = await asyncio.wait_for(self._stage.handle(again["case_id"], again["run_id"]).result(), CLOSES_WITHIN)
        if again["joined"] or state["outcome"] != "duplicate" or state["actions"] or state["ticket"]:
            self._report.differences.append(f"the same alert, delivered after the close, gave {state['outcome']}")
        self._report.shown["duplicate_after_close"] = {**again, "outcome": state["outcome"]}
        self._stage.say(f"the alert of {scenario.name} came again after its close: {state['outcome']}")

    # The outage.

    async def _outlive(self, late: list[Scenario]) -> None:
        """Kill the worker, answer one case, kill the server; start both again and look what is still there."""
        on, survivor, answered = self._stage, self._runs["high-search-down"], self._runs["high-alone"]
        brief = on.environment.write_settings("unanswered.toml", wait=SHORT_WAIT, on_unanswered=DECLARED_DEFAULT)
        await self._start(late, settings=brief)
        waiting = [self._runs[scenario.name] for scenario in late]
        await asyncio.gather(*(self._asked(run) for run in waiting))
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
        for run in waiting:
            await self._escalates(run)

    async def _still_there(self, run: CaseRun, before: dict[str, Any]) -> None:
        try:
            state = await self._stage.status(run.case_id, run.run_id)
        except RPCError as error:
            await self._stuck(run, "does not answer after the outage", error)
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
            state = await self._until(run, lambda state: (state["question"] or {}).get("tier") != first)
        except (TimeoutError, RPCError):
            run.differences.append("its timer did not fire after the outage")
            return
        tier = (state["question"] or {}).get("tier", "nobody")
        self._stage.say(f"the timer outlived the outage: {run.scenario.name} now asks {tier}")

    # The answers.

    async def _answer_the_rest(self) -> None:
        """Answer what waits for an answer; let the search recover where that ends the question."""
        answered = "high-alone"
        rest = [r for r in self._runs.values() if r.scenario.verdict.holds and r.scenario.name != answered]
        await asyncio.gather(*(self._reply(run) for run in rest if run.scenario.reply))
        await asyncio.gather(*(self._recover(run) for run in rest if run.scenario.recovers))

    async def _reply(self, run: CaseRun) -> None:
        """Give the scenario's answer in the scenario's way."""
        scenario, reply, question = run.scenario, run.scenario.reply, run.state.get("question")
        if reply is None or question is None:
            return
        run.differences += touched(self._stage.environment, scenario, run.state)
        payload = json.dumps(reply.payload(question["id"]))
        try:
            await _give(self._stage, scenario, reply, payload)
        except LabFailed as error:
            run.differences.append(f"its answer was not taken: {error}")
            return
        no_worker = "" if self._stage.worker.pid else ", while no worker runs"
        self._stage.say(f"answered {scenario.name} by {reply.way}: {reply.decision}{no_worker}")

    async def _recover(self, run: CaseRun) -> None:
        """The search works again and a second alert joins: the case looks at once, and withdraws its question."""
        scenario = run.scenario
        run.differences += touched(self._stage.environment, scenario, run.state)
        self._cast.recover(scenario)
        second = self._stage.alert_file(f"{scenario.name}-second", self._cast.alert(scenario, second=True))
        joined = await self._stage.starter_json("start", str(second))
        if not joined["joined"]:
            run.differences.append(f"a second alert about the same host did not join: {joined}")
        self._stage.say(f"the search recovered and a second alert joined {scenario.name}: the case looks again")

    # What came of it.

    def _hold_against_the_world(self) -> None:
        for run in self._runs.values():
            if run.seconds is not None:
                run.differences += differences(self._stage.environment, run.scenario, run.state)
        wanted = [expected(run.scenario) for run in self._runs.values()]
        self._report.differences += written_more_than_once(self._stage.environment, wanted)


def _times_out(scenario: Scenario) -> bool:
    return scenario.verdict.holds and scenario.reply is None and not scenario.withdrawn


async def _give(on: Stage, scenario: Scenario, reply: Reply, payload: str) -> None:
    case = ("--workflow-id", scenario.case_id)
    if reply.way is Way.SIGNAL:
        await on.cli("workflow", "signal", *case, "--name", "analyst_decision", "--input", payload)
    elif reply.way is Way.UPDATE:
        await on.cli("workflow", "update", "execute", *case, "--name", "decide", "--input", payload)
    else:
        told = json.loads(payload)
        narrowed = [part for action in told.get("actions", ()) for part in ("--action", action)]
        who = ("--analyst", told["analyst"], "--reason", told["reason"])
        await on.starter_json("decide", scenario.case_id, told["decision"], *who, *narrowed)


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
