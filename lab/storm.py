"""An act of the demo: more corroborated alerts at once than the budget allows, and the freeze switch amid them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from incident.policy import OnUnanswered
from incident.requests import ActionState
from incident.text import plain
from lab.casework import Casework, has_asked
from lab.checks import State, device_statuses, is_disabled, touched
from lab.report import CaseRun
from lab.scenarios import Expected
from lab.trust_scenes import FREEZER, STORM, STORM_LIMIT, STORM_REPLIES

_DRILL = "drill: who can stop it at night?"
_WHOLE = 2
"""Actions of a whole containment: a case gets places for all of its actions, or for none."""


class Storm:
    """The storm's cases. Which of them come too late nobody knows before: they are the ones that ask."""

    def __init__(self, work: Casework) -> None:
        self._work = work
        self._shown: dict[str, Any] = {"limit": STORM_LIMIT}
        work.report.shown["storm"] = self._shown

    async def play(self) -> None:
        """All at once, then what is over the budget is answered. Nothing else may be contained meanwhile."""
        on = self._work.stage
        settings = on.environment.write_settings(
            "storm.toml", wait="20m", on_unanswered=OnUnanswered.HOLD, max_per_hour=STORM_LIMIT
        )
        runs = await self._work.start(STORM, settings=settings)
        await asyncio.gather(*(self._rest(run) for run in runs))
        late = [run for run in runs if run.state.get("question")]
        on.say(f"{len(runs)} alerts at once, {STORM_LIMIT} places an hour: {len(late)} cases ask instead")
        self._told_why(late)
        for run, reply in zip(late, STORM_REPLIES, strict=False):
            run.scenario = replace(run.scenario, over_budget=True, reply=reply)
        if late:
            await self._frozen(late[0])
            await asyncio.gather(*(self._answer(run) for run in late))
        in_time = [run for run in runs if run not in late]
        await asyncio.gather(self._counted(late), *(self._work.close(run) for run in in_time))
        self._as_many_as_allowed(in_time)

    async def count(self, wanted: Sequence[Expected]) -> None:
        """At the demo's end the ledger knows each containment that was done, once."""
        ledger = await self._work.stage.starter_json("ledger")
        self._shown["ledger_at_the_end"] = ledger
        done = sum(len([a for a in case.actions if case.actions[a] is ActionState.VERIFIED]) for case in wanted)
        if ledger["used"] != done:
            self._differs(f"the ledger counts {ledger['used']} containments, {done} were done")

    async def _rest(self, run: CaseRun) -> None:
        """Wait until the case acts or asks."""
        begun = await self._work.reaches(run, "an action or a question", lambda s: has_asked(s) or _acts(s))
        if begun and run.state["question"]:
            run.differences += touched(self._work.stage.environment, run.scenario, run.state)
            self._work.stage.say(f"paused  {run.scenario.name}: {plain(run.state['question']['why'], limit=160)}")

    def _told_why(self, late: Sequence[CaseRun]) -> None:
        if len(late) != len(STORM) - STORM_LIMIT // _WHOLE:
            self._differs(f"{len(late)} of {len(STORM)} cases ask")
        reason = f"{STORM_LIMIT} of {STORM_LIMIT} automatic containments"
        for run in late:
            why = run.state["question"]["why"]
            if reason not in why or not any(reason in mail for mail in self._mails(run)):
                run.differences.append(f"case and mail do not say that {reason} are used up: {why!r}")

    def _as_many_as_allowed(self, in_time: Sequence[CaseRun]) -> None:
        """As many automatic actions as the limit says; that the others were not touched was looked at before."""
        environment = self._work.stage.environment
        disabled = sum(is_disabled(environment, run.scenario) for run in in_time)
        cut_off = sum(device_statuses(environment, run.scenario) == ["contained"] for run in in_time)
        if disabled + cut_off != STORM_LIMIT:
            self._differs(f"{disabled + cut_off} automatic actions in the stand-ins, not {STORM_LIMIT}")

    def _mails(self, run: CaseRun) -> list[str]:
        return [
            " ".join(m.text.split()) for m in self._work.stage.environment.mailbox.messages if run.case_id in m.text
        ]

    async def _frozen(self, run: CaseRun) -> None:
        """Somebody freezes, and an approval changes nothing until somebody thaws."""
        on = self._work.stage
        turn = ("--by", FREEZER, "--reason", _DRILL)
        frozen = await on.starter_json("freeze", *turn)
        on.say(f"'python starter.py freeze' by {frozen['freeze']['by']}: {frozen['freeze']['reason']}")
        run.scenario = replace(run.scenario, frozen=True)
        before = (run.state["question"] or {}).get("id")
        await self._work.reply(run)
        came = await self._work.reaches(
            run, "a second question", lambda s: has_asked(s) and s["question"]["id"] != before
        )
        if came:
            run.differences += touched(on.environment, run.scenario, run.state)
            if _DRILL not in run.state["question"]["why"]:
                run.differences.append(f"it does not say that it is frozen: {run.state['question']['why']!r}")
            on.say(f"frozen  {run.scenario.name}: {plain(run.state['question']['why'], limit=160)}")
        thawed = await on.starter_json("thaw", *turn)
        if not frozen["frozen"] or thawed["frozen"]:
            self._differs(f"freeze answered {frozen}, thaw {thawed}")
        on.say("'python starter.py thaw': containments go on")

    async def _answer(self, run: CaseRun) -> None:
        run.differences += touched(self._work.stage.environment, run.scenario, run.state)
        await self._work.reply(run)
        await self._work.reaches(run, "what was answered", lambda s: s["stage"] == "closed" or _acts(s))

    async def _counted(self, late: Sequence[CaseRun]) -> None:
        """What a person approved is done though the budget is spent, and counts."""
        ledger = await self._work.stage.starter_json("ledger")
        self._shown["ledger"] = ledger
        approved = sum(len(run.scenario.reply.chosen) for run in late if run.scenario.reply)
        right = {"used": STORM_LIMIT + approved, "approved": approved, "refused": len(late), "frozen": False}
        seen = {name: ledger[name] for name in right}
        if seen != right:
            self._differs(f"the ledger tells {seen}, not {right}")
        used = f"{ledger['used']} of {ledger['limits']['max_per_hour']} containments within the hour"
        self._work.stage.say(f"'python starter.py ledger': {used}, {ledger['approved']} of them approved by people")

    def _differs(self, what: str) -> None:
        self._work.report.differences.append(f"storm: {what}")


def _acts(state: State) -> bool:
    """Whether a write was let through."""
    return any(action["state"] != "left_alone" for action in state["actions"])
