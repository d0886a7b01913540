"""Hold what came of a case against what had to, by the case's own word and by the stand-ins' state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from incident.triage import ActionName
from lab.environment import TIERS, Environment
from lab.mailbox import Received
from lab.scenarios import DISABLED, Expected, Scenario, expected
from lab.servicenow import Row

State = dict[str, Any]


def differences(environment: Environment, scenario: Scenario, state: State) -> list[str]:
    """Where a closed case, or the world after it, is not as the table and the scenario say; one line each."""
    wanted = expected(scenario)
    return [
        *_case_differences(wanted, state),
        *_world_differences(environment, scenario, wanted, state),
    ]


def _case_differences(wanted: Expected, state: State) -> list[str]:
    decision = state["decision"] or {}
    told = {
        "outcome": (state["outcome"], wanted.outcome.value),
        "priority history": (history(state), [priority.value for priority in wanted.priority_history]),
        "actions": (
            {action["action"]: action["state"] for action in state["actions"]},
            {action.value: how.value for action, how in wanted.actions.items()},
        ),
        "decided by": (decision.get("by"), wanted.decided_by.value),
        "stage": (state["stage"], "closed"),
    }
    return [f"{what} is {seen}, not {right}" for what, (seen, right) in told.items() if seen != right]


def _world_differences(environment: Environment, scenario: Scenario, wanted: Expected, state: State) -> list[str]:
    found = []
    disabled, contained = wanted.stands(ActionName.DISABLE_ACCOUNT), wanted.stands(ActionName.QUARANTINE_HOST)
    disabled = disabled or scenario.disabled_before
    if is_disabled(environment, scenario) is not disabled:
        found.append(f"account {scenario.account} is {'not ' if disabled else ''}disabled in the directory")
    statuses = device_statuses(environment, scenario)
    if statuses != ["contained" if contained else "normal"] * scenario.agents:
        found.append(f"{scenario.host} is {', '.join(statuses)} in Falcon")
    tickets = tickets_of(environment, state)
    if len(tickets) != wanted.tickets:
        found.append(f"{len(tickets)} tickets, not {wanted.tickets}")
    numbers = [row["number"] for row in tickets]
    named = [state["ticket"]["number"]] if state["ticket"] else []
    if named != numbers:
        found.append(f"the case names the tickets {named}, ServiceNow has {numbers}")
    mails = mails_of(environment, state)
    if len(mails) != wanted.mails:
        found.append(f"{len(mails)} mails, not {wanted.mails}: {'; '.join(str(m.message['Subject']) for m in mails)}")
    if suspects := [m for m in mails if not set(m.recipients) <= {tier.recipient for tier in TIERS}]:
        found.append(f"{len(suspects)} mails went to somebody who is in no tier")
    comments = environment.siem.incidents[scenario.incident_id].comments
    if len(comments) != wanted.comments:
        found.append(f"{len(comments)} comments on Securonix's incident, not {wanted.comments}")
    return found


def touched(environment: Environment, scenario: Scenario, state: State) -> list[str]:
    """What was written although nobody has decided yet; nothing while a case holds."""
    found = []
    if is_disabled(environment, scenario):
        found.append(f"account {scenario.account} was disabled before anybody had answered")
    if set(device_statuses(environment, scenario)) != {"normal"}:
        found.append(f"host {scenario.host} was contained before anybody had answered")
    if tickets_of(environment, state):
        found.append("a ticket was opened before anybody had answered")
    return found


def written_more_than_once(environment: Environment, wanted: Iterable[Expected]) -> list[str]:
    """Each verified action is one write, each undoing another one, and each case one ticket, over the whole demo."""
    wanted = tuple(wanted)
    changes = [action for case in wanted for action in case.changes]
    undone = [action for case in wanted for action in case.undone]
    asked = [action for _, action in environment.falcon.actions]
    counts = {
        "quarantines": (asked.count("contain"), changes.count(ActionName.QUARANTINE_HOST)),
        "quarantines lifted": (asked.count("lift_containment"), undone.count(ActionName.QUARANTINE_HOST)),
        "changes in the directory": (
            environment.directory.count("modify"),
            [*changes, *undone].count(ActionName.DISABLE_ACCOUNT),
        ),
        "tickets": (len(environment.tickets.rows()), sum(case.tickets for case in wanted)),
        "mails": (len(environment.mailbox.messages), sum(case.mails for case in wanted)),
    }
    return [f"in all: {seen} {what}, not {right}" for what, (seen, right) in counts.items() if seen != right]


def history(state: State) -> list[str]:
    """The priorities of a case, the first one first."""
    return [change["priority"] for change in state["priority_history"]]


def is_disabled(environment: Environment, scenario: Scenario) -> bool:
    """What the directory says of the suspect's account now."""
    return bool(environment.directory.uac(scenario.account) & DISABLED)


def device_statuses(environment: Environment, scenario: Scenario) -> list[str]:
    """What Falcon says of each agent with the host's name now."""
    return [device.status for device in environment.falcon.devices.values() if device.hostname == scenario.host]


def tickets_of(environment: Environment, state: State) -> list[Row]:
    """The tickets with the case's correlation id. A case tells its reference, which is the beginning of its key."""
    prefix = "hp-" + str(state["reference"]).removeprefix("HP-").lower()
    return [row for row in environment.tickets.rows() if row["correlation_id"].startswith(prefix)]


def mails_of(environment: Environment, state: State) -> list[Received]:
    """The mails about the case."""
    marked = f"[Holdpoint {state['reference']}]"
    return [mail for mail in environment.mailbox.messages if marked in str(mail.message["Subject"])]
