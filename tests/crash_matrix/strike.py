"""One blow: many cases stand each at its own point, one process is killed and started again, all have to end well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.service import RPCError

from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from lab.environment import ANALYST
from lab.servers import LabFailed
from starter import start_incident
from tests.crash_matrix.annex import Annex
from tests.crash_matrix.cells import ASKS_FIRST, SPENT, STEPS, Cell, Course, Moment, Victim, Wait, cells, control
from tests.crash_matrix.errands import Errands
from tests.crash_matrix.gated_worker import GatedWorker
from tests.crash_matrix.gates import Gates
from tests.crash_matrix.holds import REQUESTS, Holds
from tests.crash_matrix.story import WORLD, Story, differences, forgiven, mails, story, world
from tests.crashes.house import Case, House, house

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds; a mail's attempt is given up after 45, everything else sooner."""

_SOON, _LATER, _SHORT, _LONG = 16.0, 40.0, 6.0, 3600.0
"""How long a tier has, in seconds: into the outage, past it, in any other case that nobody answers, and elsewhere."""

_OUTAGE = {Moment.BEFORE: 12.0, Moment.DURING: 12.0, Moment.AFTER: 50.0}
"""How long the server is gone at least, in seconds: longer than a step may go unheard, or than its attempt may take."""

_BRIEF = ("chat.post", "directory.find_electorate")
"""Steps with half a minute in all."""

_PATIENT = ("case.open_next", "siem.take_incidents")
"""Steps that ask nobody outside, and have minutes."""

_LINES = 2
"""What a channel hears of a case that nobody was asked about: the decision and the end."""

_POLL = 0.05
_CRASHES = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
)


@dataclass
class Struck:
    """What came of a case: where it is not as if nothing had happened, and what the nature of mail excuses."""

    cell: Cell
    victim: Victim
    moment: Moment
    differences: list[str] = field(default_factory=list)
    excused: str = ""


async def strike(folder: Path, victim: Victim, moment: Moment) -> list[Struck]:
    """One blow, in a house of its own."""
    annex = Annex()
    async with (
        house(folder, (), GatedWorker, annex=annex, settle_within="5m") as standing,
        _blow(standing, annex, victim, moment) as blow,
    ):
        return await blow.play()


@asynccontextmanager
async def _blow(standing: House, annex: Annex, victim: Victim, moment: Moment) -> AsyncIterator[Blow]:
    blow = Blow(standing, annex, victim, moment)
    try:
        yield blow
    finally:
        blow.gates.open()
        blow.holds.release()


class Blow:
    """The cases of one house, and what strikes them."""

    def __init__(self, standing: House, annex: Annex, victim: Victim, moment: Moment) -> None:
        self.house, self.annex, self.victim, self.moment = standing, annex, victim, moment
        self.errands = Errands(standing)
        self.gates = Gates(cast(GatedWorker, standing.worker).gates)
        self.holds = Holds(standing.lab, annex)
        self._began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        self._cases: dict[Cell, Case] = {}
        self._answered: set[Cell] = set()
        self._due: dict[Cell, datetime] = {}
        self._closed: dict[Cell, dict[str, Any]] = {}
        self._stages: dict[Cell, str] = {}
        self._back_at = self._began

    async def play(self) -> list[Struck]:
        """Line the cases up, strike, and see each to its end."""
        struck = cells(self.victim, self.moment)
        controls = {course: control(course) for course in Course if any(cell.course is course for cell in struck)}
        for cell in (*struck, *controls.values()):
            self._seed(cell)
        # These may not stand for long before their time is up, and the last ones least of all.
        last = [cell for cell in struck if set(cell.held) & set(_BRIEF)]
        hurried = [cell for cell in struck if cell.wait or set(cell.held) - set(REQUESTS) - set(_PATIENT)]
        await asyncio.gather(*(self._undisturbed(cell) for cell in controls.values()))
        stories = {course: await self._told(cell) for course, cell in controls.items()}
        await asyncio.gather(*(self._brought(cell) for cell in struck if cell not in (*hurried, *last)))
        await asyncio.gather(*(self._brought(cell) for cell in hurried))
        await asyncio.gather(*(self._brought(cell) for cell in last))
        for cell in (cell for cell in struck if cell.stage):
            self._stages[cell] = (await self._asks(self._cases[cell], "status"))["stage"]
        await self._strike(struck)
        return list(await asyncio.gather(*(self._outcome(cell, stories[cell.course]) for cell in struck)))

    def _seed(self, cell: Cell) -> None:
        lab, at, mail = self.house.lab, self._began, f"{cell.account}@acme.example"
        who: dict[str, Any] = {"employeeid": cell.employee_id, "workemail": mail, "accountname": cell.account}
        lab.siem.add_host(cell.ip, cell.host, cell.account, at=at - timedelta(minutes=40))
        lab.siem.add_violation(cell.rule, cell.ip, at=at, **who)
        if WORLD[cell.course][0] == "contained":
            lab.siem.add_violation("Upload to a file sharing site", "10.99.0.7", at=at - timedelta(hours=3), **who)
        lab.siem.add_user(cell.employee_id, mail, account=cell.account, score=90.0)
        lab.siem.add_risk(cell.employee_id, mail, 90.0)
        if cell.course is not Course.POLLED:
            lab.siem.add_incident(cell.incident_id)
        self.annex.graph.add_user(f"id-of-{cell.account}", f"{cell.account}@corp.example", mail)
        extra = {"employeeID": [cell.employee_id]}
        lab.directory.add_user(cell.account, mail=mail, upn=f"{cell.account}@corp.example", extra=extra)
        lab.falcon.add_device(cell.host, reads_until_contained=0)

    async def _start(self, cell: Cell) -> Case:
        if cell.course is Course.POLLED:
            return await self.errands.polled(cell)
        given = None if cell.configured else policy(cell)
        started = await start_incident(self.house.client, self._alert(cell), policy=given)
        return self.house.client.get_workflow_handle(started.case_id, run_id=started.run_id, result_type=dict[str, Any])

    def _alert(self, cell: Cell) -> dict[str, Any]:
        return {
            "id": f"CM-{cell.number:04}",
            "rule": cell.rule,
            "occurred_at": self._began.isoformat(),
            "severity": "medium",
            "destination_ip": cell.ip,
            "tenant": "acme",
            "siem_incident_id": cell.incident_id,
        }

    async def _undisturbed(self, cell: Cell) -> None:
        self._cases[cell] = await self._start(cell)
        if cell.needs_answer:
            await self._answer(cell)
        await self._result(cell)
        if cell.course is Course.RELEASED:
            await self.errands.release(cell)

    async def _brought(self, cell: Cell) -> None:
        """Bring a case to where the blow is to find it, but for the request that is held at its system."""
        for step in cell.held:
            self.gates.close(cell.case_id, step, cell.point)
            if step not in REQUESTS:
                self.gates.close(cell.case_id, step, self.moment)
        self._cases[cell] = await self._start(cell)
        if cell.course is Course.RELEASED:
            await self._result(cell)
            await self.errands.release(cell)
        if cell.needs_answer and cell.held and not set(cell.held) & set(ASKS_FIRST):
            await self._answer(cell)
        if cell.wait:
            self._due[cell] = datetime.fromisoformat((await self._asked(cell))["due_at"])
        for step in cell.held:
            await self._until(lambda: self.gates.reached(cell.case_id, step, cell.point), cell, step)  # noqa: B023
        if cell.point is Moment.AFTER:
            await self._heard_of(cell)
        if not cell.held and not cell.wait:
            self._closed[cell] = await self._result(cell)

    async def _heard_of(self, cell: Cell) -> None:
        """Wait until the server has what the step put into its heartbeat."""
        while True:
            pending = (await self._cases[cell].describe()).raw_description.pending_activities
            if any(step.heartbeat_details.payloads for step in pending):
                return
            await asyncio.sleep(_POLL)

    async def _strike(self, struck: list[Cell]) -> None:
        if self.moment is not Moment.BEFORE:
            await self._let_them_ask(struck)
        fallen = self.house.worker if self.victim is Victim.WORKER else self.house.server
        await fallen.kill()
        # What a dead worker asked for and a system had not begun never happens; a living one's request goes on.
        self.holds.release(cut=self.victim is Victim.WORKER)
        self.gates.open()
        for cell in struck:
            if cell.wait is Wait.ANSWER_MEANWHILE:
                await self._signal(cell)
        until = [due for cell, due in self._due.items() if cell.wait is Wait.DUE_MEANWHILE]
        if self.victim is Victim.SERVER:
            until.append(datetime.now(UTC) + timedelta(seconds=_OUTAGE[self.moment]))
        for passed in until:
            await asyncio.sleep(max(0.0, (passed - datetime.now(UTC)).total_seconds()))
        await (self.house.worker.start() if self.victim is Victim.WORKER else self.house.server_restarted())
        self._back_at = datetime.now(UTC)

    async def _let_them_ask(self, struck: list[Cell]) -> None:
        lab, held = self.house.lab, [(cell, step) for cell in struck for step in cell.held]
        for cell, step in held:
            if step in REQUESTS:
                named = "reference" in REQUESTS[step]
                reference = (await self._asks(self._cases[cell], "status"))["reference"] if named else ""
                device = lab.falcon.device(cell.host).device_id
                self.holds.place(cell, step, self.moment, device=device, reference=reference)
        self.gates.open(Moment.BEFORE)
        for hold in self.holds.placed:
            await self._until(hold.arrived.is_set, *hold.words)
        for cell, step in held:
            if step not in REQUESTS:
                await self._until(lambda: self.gates.reached(cell.case_id, step, self.moment), cell, step)  # noqa: B023

    async def _outcome(self, cell: Cell, wanted: Story) -> Struck:
        struck = Struck(cell, self.victim, self.moment)
        if cell.stage and self._stages[cell] != cell.stage:
            struck.differences.append(f"struck while {self._stages[cell]}, not while {cell.stage}")
        try:
            if cell.needs_answer and cell not in self._answered:
                await self._answer(cell)
            await self._result(cell)
            told = await self._told(cell)
        except (TimeoutError, LabFailed):
            state = await self._asks(self._cases[cell], "timeline")
            struck.differences.append(f"did not come to its end: {state}")
            return struck
        struck.excused = SPENT.get((cell.row, self.victim, self.moment), "")
        if struck.excused:
            told, wanted = forgiven(told), forgiven(wanted)
        if told["state"]["outcome"] != WORLD[cell.course][0]:
            struck.differences.append(f"the outcome is {told['state']['outcome']}")
        struck.differences += differences(told, wanted)
        struck.differences += self._wrong_in_the_world(cell)
        struck.differences += [line async for line in self._wrong_in_the_history(cell)]
        struck.differences += self._wrong_timers(cell)
        if cell in self._closed:
            struck.differences += await self._wrong_after_the_end(cell)
        letters = mails(self.house.lab, cell)
        again = len(letters) - self._world(cell)["mails"]
        if len({(mail.message["Message-ID"], mail.text) for mail in letters}) != len(letters) - again:
            struck.differences.append("a mail came again with another text")
        if again:
            struck.excused = f"one question, {again + 1} deliveries with one Message-ID"
        if "chat.post" in cell.held:
            await self._heard(struck)
        return struck

    async def _heard(self, struck: Struck) -> None:
        """Each line has to be in the channel; a webhook cannot be asked for one, so one may be there twice."""
        reference = (await self._asks(self._cases[struck.cell], "status"))["reference"]
        lines = [line.text for line in self.annex.chat.messages if reference in line.text]
        again = len(lines) - len(set(lines))
        if len(set(lines)) != _LINES:
            struck.differences.append(f"the channel heard {lines}")
        if again and (self.victim, self.moment) == (Victim.WORKER, Moment.AFTER):
            struck.excused = f"one line, {again + 1} posts"
        elif again and not struck.excused:
            struck.differences.append(f"the channel heard {again} lines once more")

    def _world(self, cell: Cell) -> dict[str, int]:
        return world(self.house.lab, self.annex, self.holds.changes, cell)

    def _wrong_in_the_world(self, cell: Cell) -> list[str]:
        seen = self._world(cell)
        wanted = dict.fromkeys(seen, 0) | WORLD[cell.course][1]
        return [f"{what}: {seen[what]}, not {wanted[what]}" for what in seen if seen[what] != wanted[what]]

    async def _wrong_in_the_history(self, cell: Cell) -> AsyncIterator[str]:
        """A blow that was none, or a workflow that crashed."""
        scheduled: dict[int, str] = {}
        attempts: dict[str, int] = {}
        async for event in self.errands.histories(cell, self._cases[cell]):
            if event.event_id == 1:
                scheduled = {}
            scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
            begun = event.activity_task_started_event_attributes
            if begun.attempt:
                step = scheduled[begun.scheduled_event_id]
                attempts[step] = max(attempts.get(step, 0), begun.attempt)
            if event.workflow_task_failed_event_attributes.cause in _CRASHES:
                yield f"the workflow crashed: {event}"
        for step in cell.held:
            if self.victim is Victim.WORKER and attempts.get(step, 0) < 2:
                yield f"{step} did not have to be tried again: the blow missed it"

    def _wrong_timers(self, cell: Cell) -> list[str]:
        due = self._due.get(cell)
        if due is None or cell.course is not Course.UNANSWERED:
            return []
        wrong = [f"asked {mail.recipients} at {mail.at}, before {due}" for mail in self._second_tier(cell, before=due)]
        if (cell.wait is Wait.DUE_MEANWHILE) != (due < self._back_at):
            wrong.append(f"the timer was due at {due}, and the outage ended at {self._back_at}")
        return wrong

    def _second_tier(self, cell: Cell, *, before: datetime) -> list[Any]:
        return [m for m in mails(self.house.lab, cell) if cell.tiers[1] in m.recipients and m.at < before]

    async def _wrong_after_the_end(self, cell: Cell) -> list[str]:
        """A closed case stays as it was, and its alert begins nothing anew."""
        wrong = []
        if await self._asks(self._cases[cell], "status") != self._closed[cell]:
            wrong.append("the closed case is not what it was")
        again = await self._start(cell)
        async with asyncio.timeout(PATIENCE):
            if (outcome := (await again.result())["outcome"]) != "duplicate":
                wrong.append(f"its alert came again, and that was {outcome}")
        return wrong + self._wrong_in_the_world(cell)

    async def _told(self, cell: Cell) -> Story:
        case = self._cases[cell]
        async with asyncio.timeout(PATIENCE):
            errand = await self.errands.ended(cell, case)
        state, timeline = await self._asks(case, "status"), await self._asks(case, "timeline")
        return story(self.house.lab, cell, state, timeline, errand)

    async def _result(self, cell: Cell) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            if cell.course is Course.POLLED:
                self._cases[cell] = await self.errands.opened(cell)
            return await self._cases[cell].result()

    async def _answer(self, cell: Cell) -> None:
        await self._asked(cell)
        await self._signal(cell)

    async def _signal(self, cell: Cell) -> None:
        self._answered.add(cell)
        if cell.course is Course.FOLLOWED:
            other = {**self._alert(cell), "id": cell.other_alert, "user_account": "somebody.else"}
            await self._cases[cell].signal("alert", other)
        decision = "contain" if cell.course is Course.PROTECTED else "false_positive"
        answer = {"decision": decision, "analyst": ANALYST, "reason": "looked into it"}
        await self._cases[cell].signal("analyst_decision", answer)

    async def _asked(self, cell: Cell) -> dict[str, Any]:
        """The case's question, once its mail is out."""
        until = time.monotonic() + PATIENCE
        while True:
            question = (await self._asks(self._cases[cell], "status"))["question"]
            if question and question["asked"]:
                return dict(question)
            if time.monotonic() > until:
                raise LabFailed(f"{cell.row} has not asked: {await self._asks(self._cases[cell], 'timeline')}")
            await asyncio.sleep(_POLL)

    async def _asks(self, case: Case, query: str) -> Any:
        """A query; while a worker is on its way back, it is put again."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return await case.query(query)
            except RPCError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_POLL)

    async def _until(self, condition: Callable[[], bool], *about: object) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise LabFailed(f"never came: {about}")
            await asyncio.sleep(_POLL / 5)


def policy(cell: Cell) -> CasePolicy:
    """A case's settings: long budgets, and tiers of its own."""
    first = {Wait.DUE_MEANWHILE: _SOON, Wait.DUE_AFTER: _LATER}.get(cast(Wait, cell.wait), _SHORT)
    waits = (first, 4 * _SHORT if cell.wait else _SHORT) if cell.course is Course.UNANSWERED else (_LONG, _LONG)
    return CasePolicy(
        medium_at=30,
        high_at=70,
        lookback=timedelta(days=7),
        recheck_every=timedelta(hours=1),
        on_unanswered=OnUnanswered.CLOSE,
        enrich_within=timedelta(minutes=2),
        contain_within=timedelta(minutes=5),
        verify_within=timedelta(minutes=5),
        ticket_within=timedelta(minutes=5),
        ask_directory=cell.course is Course.ELECTED,
        tell_apart=cell.course is Course.FOLLOWED,
        tiers=tuple(
            Tier(name=name, recipients=(mail,), analysts=(ANALYST,), wait=timedelta(seconds=wait))
            for name, mail, wait in zip("ab", cell.tiers, waits, strict=True)
        ),
        guardrails=GuardrailPolicy(
            max_per_hour=10**6, protected_hosts=(cell.host,) if cell.course is Course.PROTECTED else ()
        ),
    )


async def strike_all(folder: Path, blows: Iterable[tuple[Victim, Moment]], *, at_once: int = 3) -> list[Struck]:
    """Every blow, some of them side by side: most of the time they wait for what died to be missed."""
    room = asyncio.Semaphore(at_once)

    async def one(victim: Victim, moment: Moment) -> list[Struck]:
        async with room:
            return await strike(folder / f"{victim}-{moment}", victim, moment)

    return [struck for some in await asyncio.gather(*(one(*blow) for blow in blows)) for struck in some]


BLOWS = tuple((victim, moment) for victim in Victim for moment in Moment)
assert set(STEPS) >= set(REQUESTS)
