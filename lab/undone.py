"""The last act of the demo: containments are released, and the record of one proves what happened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from incident.requests import ActionState
from lab.casework import Casework
from lab.checks import State, device_statuses, tickets_of
from lab.report import CaseRun
from lab.scenarios import DISABLED, expected
from lab.servers import LabFailed
from lab.trust_scenes import LEAVER, RELEASE_REASON, RELEASED_BY, WRONG

_FORGED = "Never touched anybody."
_SENSITIVE = 0x100000
"""The bit of ``userAccountControl`` that somebody else sets while the account is disabled; it stays."""


class Undone:
    """The releases, each held against the state that the stand-ins had before the case."""

    def __init__(self, work: Casework) -> None:
        self._work = work
        self._stage = work.stage
        self._shown: dict[str, Any] = {}
        work.report.shown["releases"] = self._shown

    async def play(self) -> None:
        """Release both, then export the record of the one and have it checked."""
        wrong, leaver = self._work.runs[WRONG.name], self._work.runs[LEAVER.name]
        await asyncio.gather(self._told(wrong, self._release(wrong)), self._told(leaver, self._release(leaver)))
        await self._told(wrong, self._prove(wrong))

    async def _told(self, run: CaseRun, work: Coroutine[Any, Any, None]) -> None:
        """A command that fails is a difference of its case, and the other acts go on."""
        try:
            await work
        except LabFailed as error:
            run.differences.append(str(error))

    async def _release(self, run: CaseRun) -> None:
        await self._work.close(run)
        if run.seconds is None:
            return
        directory, scenario = self._stage.environment.directory, run.scenario
        self._contained(run)
        directory.put(scenario.account, "userAccountControl", directory.uac(scenario.account) | _SENSITIVE)
        line = ("release", run.case_id, "--analyst", RELEASED_BY, "--reason", RELEASE_REASON)
        told = await self._stage.starter_json(*line)
        run.release = told
        self._shown[scenario.name] = told
        states = ", ".join(f"{undo['action']} {undo['state']}" for undo in told["actions"])
        self._stage.say(f"'python starter.py release' {scenario.name}: {told['outcome']} ({states})")
        self._restored(run, told)
        if scenario is WRONG and await self._stage.starter_json(*line) != told:
            run.differences.append("the same release once more answered otherwise")

    def _contained(self, run: CaseRun) -> None:
        """Before the release all of it is in force."""
        uac, statuses = self._uac(run), device_statuses(self._stage.environment, run.scenario)
        if uac != run.scenario.uac | DISABLED or statuses != ["contained"]:
            run.differences.append(f"before its release the account has {uac}, the host is {statuses}")

    def _restored(self, run: CaseRun, told: State) -> None:
        """What was ours is as it was; what was not is as somebody else has left it, and said to be."""
        environment, wanted = self._stage.environment, expected(run.scenario)
        states = {undo["action"]: (undo["state"], undo["why"]) for undo in told["actions"]}
        verified, not_ours = (ActionState.VERIFIED.value, None), (ActionState.LEFT_ALONE.value, "not_ours")
        right = {a.value: verified if a in wanted.undone else not_ours for a in wanted.actions}
        if states != right or told["outcome"] != "released":
            run.differences.append(f"its release is {told['outcome']} with {states}, not {right}")
        if self._uac(run) != run.scenario.uac | _SENSITIVE:
            run.differences.append(f"after its release the account has {self._uac(run)}")
        if device_statuses(environment, run.scenario) != ["normal"]:
            run.differences.append(f"after its release the host is {device_statuses(environment, run.scenario)}")
        rows = tickets_of(environment, run.state)
        notes = [note for row in rows for note in environment.tickets.notes(row["sys_id"]) if RELEASE_REASON in note]
        if len(notes) != 1 or notes[0].count("verified") != len(wanted.undone):
            run.differences.append(f"{len(notes)} notes of the ticket tell of its release: {notes}")

    def _uac(self, run: CaseRun) -> int:
        return self._stage.environment.directory.uac(run.scenario.account)

    async def _prove(self, run: CaseRun) -> None:
        """The record is exported and found unchanged; a copy in which one word is another is found out."""
        if run.seconds is None:
            return
        folder = self._stage.folder / "records"
        folder.mkdir()
        file, page = folder / "record.json", folder / "record.html"
        await self._stage.starter_json("record", run.case_id, "--out", str(file), "--html", str(page))
        forged, where = _forge(file)
        told, refused = await asyncio.gather(self._verified(file), self._verified(forged))
        self._work.report.shown["record"] = {"file": str(file), "verified": told, "forged": refused}
        if not (told["valid"] and told["keyed"] and told["seals_checked"] and told["history_checked"]):
            run.differences.append(f"its record is not proven: {told}")
        found = list(dict.fromkeys(finding["where"] for finding in refused["findings"]))
        if refused["valid"] or where not in found:
            run.differences.append(f"a forged record was not found out at {where}: {refused}")
        self._stage.say(
            f"'python starter.py verify-record' {file.name}: nothing was changed in {told['entries']} entries"
        )
        self._stage.say(f"'python starter.py verify-record' {forged.name}: CHANGED at {', '.join(found)}")

    async def _verified(self, file: Path) -> State:
        ran = await self._stage.starter("verify-record", str(file), "--json")
        told: State = json.loads(ran.out)
        if told["valid"] is not (ran.code == 0):
            self._work.report.differences.append(f"verify-record {file.name} ended with {ran.code} and told {told}")
        return told


def _forge(file: Path) -> tuple[Path, str]:
    """A copy in which the text of the decision is another; where it is, and which entry."""
    sealed = json.loads(file.read_text(encoding="utf-8"))
    entry = next(entry for entry in sealed["events"] if entry["source"] == "decision")
    entry["text"] = _FORGED
    forged = file.with_name("forged.json")
    forged.write_text(json.dumps(sealed), encoding="utf-8")
    return forged, f"entry {entry['seq']}"
