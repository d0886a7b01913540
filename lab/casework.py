"""The demo's cases from their start to their close: started, waited for, answered. What differs is collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from incident.text import plain
from lab.checks import State, touched
from lab.report import CaseRun, DemoReport
from lab.scenarios import Cast, Reply, Scenario, Way
from lab.servers import LabFailed
from lab.stage import Stage

PAUSES_WITHIN = 30.0
CLOSES_WITHIN = 45.0
_STARTS_AT_ONCE = 3


class Casework:
    """The cases of one demo. ``runs`` has them by their scenario's name, ``alerts`` the alert of each as a file."""

    def __init__(self, on: Stage, report: DemoReport, scenarios: Sequence[Scenario]) -> None:
        self.stage = on
        self.report = report
        self.cast = Cast(on.environment, scenarios)
        self.runs: dict[str, CaseRun] = {}
        self.alerts = {s.name: on.alert_file(s.name, self.cast.alert(s)) for s in scenarios}
        self._gate = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def start(self, scenarios: Sequence[Scenario], settings: Path | None = None) -> list[CaseRun]:
        """Start the cases of these scenarios, with other settings if need be."""

        async def one(scenario: Scenario) -> CaseRun:
            async with self._gate:
                alert = str(self.alerts[scenario.name])
                started = await self.stage.starter_json("start", alert, settings=settings)
            run = self.keep(scenario, started["run_id"])
            if started["joined"] or started["case_id"] != scenario.case_id:
                run.differences.append(f"its start answered {started}")
            return run

        started = await asyncio.gather(*(one(scenario) for scenario in scenarios))
        self.stage.say(f"started {len(scenarios)} alerts with 'python starter.py start FILE --json'")
        return started

    def keep(self, scenario: Scenario, run_id: str) -> CaseRun:
        """Take a case that was started among those of the demo."""
        run = self.runs[scenario.name] = CaseRun(scenario, run_id)
        self.report.cases = [self.runs[name] for name in self.alerts if name in self.runs]
        return run

    async def settle(self, scenario: Scenario) -> None:
        """Wait until a case has paused, or closed where the table contains at once."""
        run = self.runs[scenario.name]
        if not scenario.verdict.holds:
            await self.close(run)
            self.stage.say(f"closed  {scenario.name}: {run.state.get('outcome')}")
        elif await self.asked(run):
            run.differences += touched(self.stage.environment, run.scenario, run.state)

    async def asked(self, run: CaseRun) -> bool:
        """Wait for the first mail of a case, and for the case to know that it went out; tells whether it came."""
        mailbox = self.stage.environment.mailbox
        try:
            await mailbox.wait_for(lambda mail: run.case_id in mail.text, PAUSES_WITHIN)
            run.state = await self.until(run, has_asked)
        except (TimeoutError, RPCError) as error:
            await self.stuck(run, f"did not ask within {PAUSES_WITHIN:.0f} s", error)
            return False
        self.stage.say(f"paused  {run.scenario.name}: {plain(run.state['question']['why'], limit=140)}")
        return True

    async def until(self, run: CaseRun, condition: Callable[[State], bool]) -> State:
        """Wait until the case's status is so; returns it.

        Raises:
            TimeoutError: it was not within ``PAUSES_WITHIN``.
            RPCError: the case does not answer.
        """
        async with asyncio.timeout(PAUSES_WITHIN):
            while True:
                state = await self.stage.status(run.case_id, run.run_id)
                if condition(state):
                    return state
                await asyncio.sleep(0.1)

    async def reaches(self, run: CaseRun, what: str, condition: Callable[[State], bool]) -> bool:
        """Wait until the case's status is so, and keep it. A case that does not come on is a difference."""
        try:
            run.state = await self.until(run, condition)
        except (TimeoutError, RPCError) as error:
            await self.stuck(run, f"{what} did not come within {PAUSES_WITHIN:.0f} s", error)
            return False
        return True

    async def close(self, run: CaseRun) -> None:
        """Wait until a case has closed; one that does not is a difference."""
        if run.seconds is not None or run.stuck:
            return
        handle = self.stage.handle(run.case_id, run.run_id)
        try:
            run.state = await asyncio.wait_for(handle.result(), CLOSES_WITHIN)
        except (TimeoutError, RPCError) as error:
            await self.stuck(run, f"did not close within {CLOSES_WITHIN:.0f} s", error)
            return
        except WorkflowFailureError as error:
            run.differences.append(f"its workflow failed: {error.cause}")
            return
        described = await handle.describe()
        if described.close_time:
            run.seconds = round((described.close_time - described.start_time).total_seconds(), 2)

    async def stuck(self, run: CaseRun, what: str, error: Exception) -> None:
        """A case that does not come on is a difference, told with where it is; the other cases go on."""
        try:
            run.state = await self.stage.status(run.case_id, run.run_id)
            told = f"{run.state['stage']}, risk {run.state['risk'].get('value')}, outcome {run.state['outcome']}"
        except RPCError as refused:
            told = f"no answer to a query: {refused.message}"
        run.stuck = True
        run.differences.append(f"{what} ({told}{f'; {error}' if str(error) else ''})")

    async def reply(self, run: CaseRun, reply: Reply | None = None) -> State | None:
        """Give an answer, the scenario's own if no other, in its way; returns its receipt, if its way has one."""
        scenario, question = run.scenario, run.state.get("question")
        reply = reply or scenario.reply
        if reply is None or question is None:
            return None
        payload = json.dumps(reply.payload(question["id"]))
        try:
            receipt = await _give(self.stage, scenario, reply, payload)
        except LabFailed as error:
            run.differences.append(f"its answer was not taken: {error}")
            return None
        no_worker = "" if self.stage.worker.pid else ", while no worker runs"
        who = reply.analyst.partition("@")[0]
        self.stage.say(f"answered {scenario.name} by {reply.way}: {reply.decision} by {who}{no_worker}")
        return receipt

    async def refused(self, run: CaseRun, reply: Reply) -> str:
        """Give an answer that must not count; returns why it is refused, empty if it was taken."""
        try:
            await _give(self.stage, run.scenario, reply, json.dumps(reply.payload(run.state["question"]["id"])))
        except LabFailed as error:
            return str(error).rpartition(" ended with ")[2].partition(": ")[2]
        return ""


def has_asked(state: State) -> bool:
    """Whether a question stands and its mail went out."""
    return bool(state["question"] and state["question"]["asked"])


async def _give(on: Stage, scenario: Scenario, reply: Reply, payload: str) -> State | None:
    """Give an answer; returns its receipt where there is one. Raises LabFailed when it is not taken."""
    given = ("--workflow-id", scenario.case_id, "--input", payload)
    receipt: State | None = None
    if reply.way is Way.SIGNAL:
        await on.cli("workflow", "signal", "--name", "analyst_decision", *given)
    elif reply.way is Way.UPDATE:
        ran = await on.cli("workflow", "update", "execute", "--name", "decide", *given, "--output", "json")
        receipt = json.loads(ran.out)["result"]
    else:
        narrowed = [part for action in reply.actions or () for part in ("--action", action.value)]
        who = ("--analyst", reply.analyst, "--reason", reply.reason)
        receipt = await on.starter_json("decide", scenario.case_id, reply.decision.value, *who, *narrowed)
    return receipt
