"""An act of the demo: thousands of alerts about one host through the bridge, and an urgent one in their midst."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx
from temporalio.service import RPCError

from lab.casework import Casework
from lab.checks import State, mails_of
from lab.forwarder import Alert, Delivered, deliver, signed, with_token
from lab.report import CaseRun
from lab.servers import BridgeProcess, LabFailed, free_port
from lab.trust_scenes import FLOODED, URGENT

ALERTS = 2000
IN_A_REQUEST = 200
TWICE = 2
"""So many of the requests come a second time, from another sender."""

_PORT = 8089
_RULE = "Many files read from a share"
_MINUTES = 4


class Flood:
    """The case that is flooded while it waits, and the one whose alert comes with the flood."""

    def __init__(self, work: Casework) -> None:
        self._work = work
        self._question: dict[str, Any] = {}
        self._shown: dict[str, Any] = {}
        work.report.shown["flood"] = self._shown

    async def play(self) -> None:
        """Flood the case that asks; the bridge runs for as long as that takes."""
        on, run = self._work.stage, self._work.runs[FLOODED.name]
        self._question = run.state.get("question") or {}
        port = free_port(_PORT)
        bridge = BridgeProcess(on.folder, on.variables | {"HOLDPOINT_BRIDGE__PORT": str(port)}, port)
        try:
            await bridge.start()
            on.processes.keep(on.temporal, on.worker, bridge)
            await self._pour(bridge.url, run)
        except LabFailed as error:
            self._differs(str(error))
        finally:
            await bridge.stop()
            on.processes.keep(on.temporal, on.worker)

    async def _pour(self, url: str, run: CaseRun) -> None:
        cast, began = self._work.cast, time.monotonic()
        requests = requests_of(flood(cast.alert(FLOODED)), cast.alert(URGENT))
        answers = await deliver(
            url, [(some, signed) for some in requests] + [(some, with_token) for some in requests[:TWICE]]
        )
        took = time.monotonic() - began
        for told in dict.fromkeys(text for answer in answers for text in otherwise(answer, run.run_id)):
            self._differs(told)
        self._tell(answers, took)
        urgent = [line for answer in answers for line in answer.lines if line.get("case_id") == URGENT.case_id]
        await asyncio.gather(self._counted(run), self._contained(urgent))

    def _tell(self, answers: Sequence[Delivered], took: float) -> None:
        lines = [line for answer in answers for line in answer.lines]
        cases = {line["case_id"] for line in lines if line.get("case_id") != URGENT.case_id}
        waits = sum(answer.waits for answer in answers)
        self._shown |= {"alerts": len(lines), "requests": len(answers), "waits": waits, "seconds": round(took, 2)}
        self._work.stage.say(
            f"{len(lines):,} alerts in {len(answers)} requests to the bridge, {TWICE * IN_A_REQUEST} of them for the "
            f"second time: taken in {took:.1f} s, {len(cases)} case beside that of the one urgent alert"
        )

    async def _contained(self, urgent: Sequence[State]) -> None:
        """The urgent one does not wait for the others; what comes of it is held against the table like any case."""
        if not urgent:
            self._differs(f"the alert of {URGENT.name} has no case")
            return
        self._work.keep(URGENT, urgent[0]["run_id"])
        await self._work.settle(URGENT)

    async def _counted(self, run: CaseRun) -> None:
        """The case has read all of them."""
        try:
            run.state = await self._work.until(run, lambda state: state["alerts_total"] > ALERTS)
        except (TimeoutError, RPCError):
            self._differs(f"{FLOODED.name} did not count all of it in time")
        await self.stands("in the flood")

    async def stands(self, when: str) -> None:
        """The case counts each alert once, and asks the one question that it asked before, by the one mail."""
        run = self._work.runs[FLOODED.name]
        if run.stuck or not await self._work.reaches(run, "an answer", lambda _: True):
            return
        mails = len(mails_of(self._work.stage.environment, run.state))
        told = [*counted_otherwise(run.state, self._question), *([] if mails == 1 else [f"it wrote {mails} mails"])]
        run.differences += [f"{when} {text}" for text in told]
        total, kept = run.state["alerts_total"], (run.state["question"] or {}).get("id")
        self._shown["alerts_total"] = total
        self._work.stage.say(
            f"{when} {FLOODED.name} counts {total:,} alerts, and asks one question: {kept}, {mails} mail"
        )

    def _differs(self, what: str) -> None:
        self._work.report.differences.append(f"flood: {what}")


def flood(first: Alert) -> list[Alert]:
    """Alerts of low severity about the host of ``first``, each with an id of its own, all of the same few minutes."""
    began = datetime.fromisoformat(first["occurred_at"])
    alike = first | {"rule": _RULE, "severity": "low", "siem_incident_id": None, "event_ids": []}
    return [
        alike
        | {
            "id": f"{first['id']}-{number}",
            "occurred_at": (began + timedelta(seconds=number % (60 * _MINUTES))).isoformat(),
        }
        for number in range(1, ALERTS + 1)
    ]


def requests_of(alerts: Sequence[Alert], urgent: Alert) -> list[list[Alert]]:
    """The alerts by requests; the urgent one stands in the middle of the middle one."""
    requests = [list(alerts[at : at + IN_A_REQUEST]) for at in range(0, len(alerts), IN_A_REQUEST)]
    requests[len(requests) // 2].insert(IN_A_REQUEST // 2, urgent)
    return requests


def otherwise(answer: Delivered, run_id: str) -> list[str]:
    """Where an answer is not that Temporal has each alert, all in this run but the urgent one, whose case is new."""
    if answer.status != httpx.codes.ACCEPTED:
        return [f"a request of {len(answer.alerts)} alerts was answered {answer.status or 'by nobody'}"]
    right = [
        {"alert_id": URGENT.alert_id, "case_id": URGENT.case_id, "joined": False}
        if alert["id"] == URGENT.alert_id
        else {"alert_id": alert["id"], "case_id": FLOODED.case_id, "run_id": run_id, "joined": True}
        for alert in answer.alerts
    ]
    pairs = list(zip(answer.lines, right, strict=False))
    wrong = [(line, wanted) for line, wanted in pairs if wanted.items() - line.items()]
    if not wrong and len(answer.lines) == len(right):
        return []
    return [f"of {len(right)} alerts {len(answer.lines)} are told of, {len(wrong)} of them otherwise: {wrong[:1]}"]


def counted_otherwise(state: State, question: Mapping[str, Any]) -> list[str]:
    """Where the flooded case does not count each alert once, or asks anything but this one ``question``."""
    joined, now = state["joined_alerts"], state["question"] or {}
    told = {
        "count of alerts": (state["alerts_total"], ALERTS + 1),
        "count of those that joined, by severity,": (joined["severities"], {"low": ALERTS}),
        "count of those that joined, by rule,": (joined["rules"], {_RULE: ALERTS}),
        "count of alerts of somebody else": (state["others_total"], 0),
        "count of questions before": (len(state["superseded"]), 0),
        **{f"question's {name}": (now.get(name), question.get(name)) for name in ("id", "tier", "due_at", "asked")},
    }
    return [f"its {what} is {seen}, not {right}" for what, (seen, right) in told.items() if seen != right]
