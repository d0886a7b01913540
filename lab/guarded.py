"""Acts of the demo: a domain admin as suspect, and a host that is offline. Both outlive the outage."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from incident.policy import OnUnanswered
from incident.text import plain
from incident.triage import ActionName
from lab.casework import Casework
from lab.checks import State, device_statuses, is_disabled, mails_of, tickets_of
from lab.environment import TIERS
from lab.report import CaseRun
from lab.trust_scenes import APPROVALS, DOMAIN_ADMIN, OFFLINE

_TIERS = {tier.name for tier in TIERS}
_SETTLE = "2s"
"""How long the ticket waits for the read-backs in the case of the host that is offline."""


class Guarded:
    """The two cases that are contained in half at first, each for a reason of its own."""

    def __init__(self, work: Casework) -> None:
        self._work = work
        self._deadline: str | None = None

    async def host_is_offline(self) -> None:
        """The account is disabled and the ticket opened, while the quarantine waits for the host until its deadline."""
        on = self._work.stage
        settings = on.environment.write_settings(
            "offline.toml", wait="20m", on_unanswered=OnUnanswered.HOLD, settle_within=_SETTLE
        )
        (run,) = await self._work.start([OFFLINE], settings=settings)
        if not await self._work.reaches(run, "a ticket beside a disabled account", _half_done):
            return
        self._deadline = _action(run.state, ActionName.QUARANTINE_HOST).get("pending_until")
        self._still_pending(run, run.state)
        described = [row["description"] for row in tickets_of(on.environment, run.state)]
        if len(described) != 1 or "accepted, not verified yet" not in described[0]:
            run.differences.append(f"no ticket tells that the quarantine is pending: {described}")
        on.say(f"pending {OFFLINE.name}: account disabled, ticket open, quarantine looked for until {self._deadline}")

    def _still_pending(self, run: CaseRun, state: State) -> None:
        """Half is verified; the other half waits, and keeps its deadline whatever happens."""
        environment = self._work.stage.environment
        quarantine = _action(state, ActionName.QUARANTINE_HOST)
        told = (quarantine.get("state"), _action(state, ActionName.DISABLE_ACCOUNT).get("state"), state["stage"])
        if told != ("accepted", "verified", "verifying"):
            run.differences.append(f"while its host is offline it is {told}")
        if self._deadline is None or quarantine.get("pending_until") != self._deadline:
            run.differences.append(f"its deadline is {quarantine.get('pending_until')}, not {self._deadline}")
        if device_statuses(environment, OFFLINE) != ["containment_pending"] or not is_disabled(environment, OFFLINE):
            run.differences.append(f"offline, yet {device_statuses(environment, OFFLINE)} in Falcon")

    async def one_approval(self) -> None:
        """The host is quarantined; about the account two people are asked, and one of them is not enough."""
        run, work = self._work.runs[DOMAIN_ADMIN.name], self._work
        if not await work.asked(run):
            return
        self._asks_about_the_account(run)
        self._untouched(run)
        receipt = await work.reply(run, APPROVALS[0])
        if not receipt or "second approver" not in receipt.get("waits_for", ""):
            run.differences.append(f"one approval answered {receipt}")
        refused = await work.refused(run, replace(APPROVALS[0], reason="I am still sure."))
        if "another tier" not in refused:
            run.differences.append(f"the same person could approve twice: {refused!r}")
        work.stage.say(f"refused {run.scenario.name}: {plain(refused, limit=200)}")
        await self._one_is_not_enough(run)

    def _asks_about_the_account(self, run: CaseRun) -> None:
        """About the account alone, with the reason in case and mail; the host is cut off already."""
        environment = self._work.stage.environment
        question = run.state["question"]
        if question["actions"] != [ActionName.DISABLE_ACCOUNT.value] or "Domain Admins" not in question["why"]:
            run.differences.append(f"it asks about {question['actions']}: {question['why']!r}")
        mails = [" ".join(mail.text.split()) for mail in mails_of(environment, run.state)]
        if not all("Domain Admins" in mail for mail in mails):
            run.differences.append(f"its mail does not say why it asks: {mails}")
        if _action(run.state, ActionName.QUARANTINE_HOST).get("state") != "verified":
            run.differences.append("its host was not quarantined before it asked")
        if device_statuses(environment, DOMAIN_ADMIN) != ["contained"]:
            run.differences.append(f"its host is {device_statuses(environment, DOMAIN_ADMIN)} in Falcon")

    async def _one_is_not_enough(self, run: CaseRun) -> None:
        """The question stands with its one approval, every tier knows of it, and nothing was written."""
        if not await self._work.reaches(run, "a question to every tier", _everybody_asked):
            return
        given = [approval["analyst"] for approval in run.state["question"]["approvals"]]
        if given != [APPROVALS[0].analyst]:
            run.differences.append(f"its approvals are {given}")
        self._untouched(run)

    def _untouched(self, run: CaseRun) -> None:
        if is_disabled(self._work.stage.environment, DOMAIN_ADMIN):
            run.differences.append("the domain admin was disabled without two approvals")

    async def goes_on(self) -> None:
        """After the outage: the first approval still counts, and the host comes back."""
        await asyncio.gather(self._second_approval(), self._host_returns())

    async def _second_approval(self) -> None:
        run, work = self._work.runs[DOMAIN_ADMIN.name], self._work
        if run.stuck:
            return
        await self._one_is_not_enough(run)
        if await work.reply(run, APPROVALS[1]) is None:
            return
        await work.close(run)
        approvals = _action(run.state, ActionName.DISABLE_ACCOUNT).get("approvals")
        if approvals != [reply.analyst for reply in APPROVALS]:
            run.differences.append(f"the record names as approvers {approvals}")
        work.stage.say(
            f"closed  {run.scenario.name}: {run.state.get('outcome')}, approved by {' and '.join(approvals or [])}"
        )

    async def _host_returns(self) -> None:
        run, work = self._work.runs[OFFLINE.name], self._work
        if run.stuck or not await work.reaches(run, "an answer", lambda s: bool(s["actions"])):
            return
        self._still_pending(run, run.state)
        work.stage.environment.falcon.come_online(OFFLINE.host)
        work.stage.say(f"{OFFLINE.host} is online again, {OFFLINE.name} is still within its deadline")
        await work.close(run)
        tickets = work.stage.environment.tickets
        notes = [note for row in tickets_of(work.stage.environment, run.state) for note in tickets.notes(row["sys_id"])]
        if not any(f"quarantine host {OFFLINE.host}: verified" in note for note in notes):
            run.differences.append("its ticket was not told that the quarantine is verified")
        work.stage.say(f"closed  {OFFLINE.name}: {run.state.get('outcome')}, and the ticket is told")


def _half_done(state: State) -> bool:
    return bool(state["ticket"]) and _action(state, ActionName.DISABLE_ACCOUNT).get("state") == "verified"


def _everybody_asked(state: State) -> bool:
    question = state["question"]
    return bool(state["ticket"] and question and {asked["tier"] for asked in question["asked"]} == _TIERS)


def _action(state: State, name: ActionName) -> dict[str, Any]:
    """The case's record of one action; empty if there is none."""
    return next((action for action in state["actions"] if action["action"] == name), {})
