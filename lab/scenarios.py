"""The demo's cases: what the stand-ins know about each host and user, the alert, and what has to come of it.

What has to come of it is computed: the row by ``incident.triage.decide``, the rest from the answer that is given and
from what can be done at all. Nothing of it is told to the code under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from incident.decision import DecisionName
from incident.policy import OnUnanswered
from incident.record import DecidedBy, Outcome
from incident.requests import ActionState
from incident.triage import CONTAIN, ActionName, Corroborated, Priority, RiskLevel, Verdict, decide, raise_for_risk
from lab.environment import ANALYST, HIGH_AT, MEDIUM_AT, TENANT, TIERS, Environment
from lab.faults import Fault

RULE = "Large data transfer from web server"
FURTHER_POLICY = "Upload to a file sharing site"
DECLARED_DEFAULT = OnUnanswered.DISABLE_ACCOUNT
"""What the settings of the cases that nobody answers declare."""

_FOR_GOOD = 10**9
_MANAGER = "kweber"
_PEOPLE = (
    ("mvoss", "Mara Voss"),
    ("tokafor", "Tunde Okafor"),
    ("jlind", "Johan Lind"),
    ("s.o'brien", "Sean O'Brien"),
    ("pnovak", "Petra Novak"),
    ("hsato", "Hana Sato"),
    ("rcosta", "Rita Costa"),
    ("dmeyer", "Dirk Meyer"),
    ("ealvarez", "Elena Alvarez"),
    ("kpatel", "Kiran Patel"),
    ("zhussein", "Zahra Hussein"),
    ("bmoreau", "Basile Moreau"),
    ("inovak-adm", "Ivo Novak"),
    ("lgreen", "Lucy Green"),
    ("tbaker", "Tom Baker"),
    ("ffischer", "Fritz Fischer"),
    ("aduran", "Ana Duran"),
    ("cwong", "Clara Wong"),
    ("gsilva", "Gil Silva"),
    ("ymori", "Yui Mori"),
    ("nsantos", "Nuno Santos"),
    ("edubois", "Elise Dubois"),
)
DISABLED = 0x2
"""The bit of ``userAccountControl`` that disables an account."""


class Way(StrEnum):
    """How an answer reaches its case."""

    SIGNAL = "temporal workflow signal"
    UPDATE = "temporal workflow update"
    STARTER = "starter.py decide"


@dataclass(frozen=True)
class Reply:
    """An analyst's answer, and how it is given. ``actions`` narrows ``contain``."""

    way: Way
    decision: DecisionName
    reason: str
    actions: tuple[ActionName, ...] | None = None
    analyst: str = ANALYST

    @property
    def chosen(self) -> tuple[ActionName, ...]:
        """The actions that it asks for."""
        if self.decision is not DecisionName.CONTAIN:
            return ()
        return CONTAIN if self.actions is None else self.actions

    def payload(self, question: str | None = None) -> dict[str, Any]:
        """The argument of the signal and of the update."""
        told: dict[str, Any] = {"decision": self.decision.value, "analyst": self.analyst, "reason": self.reason}
        if self.actions is not None:
            told["actions"] = [action.value for action in self.actions]
        return told | ({"question": question} if question else {})


@dataclass(frozen=True)
class Scenario:
    """One case: a host of its own, a user of its own, and what the stand-ins know about them.

    ``score`` is the user's risk score, ``None`` for a user whom Securonix does not know. ``further`` says whether there
    is another violation, ``search_fails`` that its search answers errors; with ``recovers`` it works again after a
    while. ``agents`` is how many endpoint agents have the host's name, ``people`` how many were active on the host.
    Without a reply nobody answers.

    ``admin_group`` is a group that makes the user a domain admin, ``uac`` the account's ``userAccountControl`` before
    the case. ``online`` says whether the host's agent can be reached, ``undone`` that the containment is released after
    the close. ``over_budget`` says that the hour's automatic containments were used up, ``frozen`` that the answer to
    that first met the freeze switch.
    """

    name: str
    number: int
    score: float | None
    further: bool
    severity: Priority = Priority.MEDIUM
    search_fails: bool = False
    recovers: bool = False
    agents: int = 1
    people: int = 1
    reply: Reply | None = None
    admin_group: str | None = None
    uac: int = 512
    online: bool = True
    undone: bool = False
    over_budget: bool = False
    frozen: bool = False

    @property
    def ip(self) -> str:
        """The destination address."""
        return f"10.20.30.{40 + self.number}"

    @property
    def host(self) -> str:
        """The host behind it."""
        return f"HR-LT-{self.number:04}"

    @property
    def account(self) -> str:
        """The suspect's account name."""
        return _PEOPLE[self.number - 1][0]

    @property
    def mail(self) -> str:
        """The suspect's mail address."""
        return f"{self.account}@acme.example"

    @property
    def employee_id(self) -> str:
        """The suspect's number in the human resources' system."""
        return f"E{4700 + self.number}"

    @property
    def case_id(self) -> str:
        """The workflow id."""
        return f"sua-{TENANT}-{self.ip}"

    @property
    def alert_id(self) -> str:
        """The id of the alert that starts the case."""
        return f"SNX-{200400 + self.number}"

    @property
    def incident_id(self) -> str:
        """Securonix's own incident."""
        return str(700 + self.number)

    @property
    def risk(self) -> RiskLevel:
        """The risk level that the stand-ins' data have by the lab's thresholds."""
        if self.score is None or self.people != 1:
            return RiskLevel.UNKNOWN
        if self.score >= HIGH_AT:
            return RiskLevel.HIGH
        return RiskLevel.MEDIUM if self.score >= MEDIUM_AT else RiskLevel.LOW

    @property
    def corroborated(self) -> Corroborated:
        """What the search for further alerts can find at first."""
        if self.search_fails:
            return Corroborated.UNKNOWN
        return Corroborated.YES if self.further else Corroborated.NO

    @property
    def verdict(self) -> Verdict:
        """The row of the table at first."""
        return decide(self.severity, self.risk, self.corroborated)

    @property
    def asks(self) -> bool:
        """Whether a person is asked: by the table, or by a guardrail."""
        return self.verdict.holds or self.admin_group is not None or self.over_budget

    @property
    def disabled_before(self) -> bool:
        """Whether the account was disabled before the case."""
        return bool(self.uac & DISABLED)

    @property
    def withdrawn(self) -> bool:
        """Whether the search recovers while the case waits, and then finds what ends the question."""
        return self.recovers and not decide(self.severity, self.risk, Corroborated.YES).holds


_ANSWERS = {
    "survivor": Reply(Way.UPDATE, DecisionName.CONTAIN, "The recipient is a private mail account."),
    "signal": Reply(Way.SIGNAL, DecisionName.CONTAIN, "Confirmed with the web team: nobody ordered this."),
    "narrowed": Reply(
        Way.STARTER, DecisionName.CONTAIN, "The host is shared, so the account only.", (ActionName.DISABLE_ACCOUNT,)
    ),
    "false": Reply(Way.STARTER, DecisionName.FALSE_POSITIVE, "The nightly backup was moved to this host."),
    "unknown": Reply(Way.UPDATE, DecisionName.FALSE_POSITIVE, "A contractor's first day, agreed with his team."),
    "half": Reply(Way.SIGNAL, DecisionName.CONTAIN, "Two people on one laptop: cut it off, then ask both."),
}
"""The replies; the names say what each is there to show."""

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("high-corroborated", 1, 88.0, further=True),
    Scenario("medium-corroborated", 2, 45.0, further=True, severity=Priority.LOW),
    Scenario("high-alone", 3, 91.5, further=False, reply=_ANSWERS["signal"]),
    Scenario("medium-unanswered", 4, 52.0, further=False),
    Scenario("high-search-down", 5, 79.0, further=False, search_fails=True, reply=_ANSWERS["survivor"]),
    Scenario("medium-search-down", 6, 44.0, further=False, search_fails=True, reply=_ANSWERS["narrowed"]),
    Scenario("low-corroborated", 7, 12.0, further=True),
    Scenario("low-alone", 8, 0.01, further=False, reply=_ANSWERS["false"]),
    Scenario("low-search-recovers", 9, 8.0, further=True, search_fails=True, recovers=True),
    Scenario("risk-unknown", 10, None, further=True, severity=Priority.HIGH, reply=_ANSWERS["unknown"]),
    Scenario("two-agents", 11, 95.0, further=True, agents=2),
    Scenario("two-people", 12, 60.0, further=False, people=2, reply=_ANSWERS["half"]),
)
"""Every row of the table, and the ways in which a containment can be done only in half."""


def named(name: str) -> Scenario:
    """The scenario of that name."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


@dataclass(frozen=True)
class Expected:
    """What has to come of a case. ``mails`` counts those about it, ``comments`` those on Securonix's own incident.

    ``changes`` are the verified actions that changed something, ``undone`` those of them that were released.
    """

    priority_history: tuple[Priority, ...]
    actions: dict[ActionName, ActionState]
    outcome: Outcome
    decided_by: DecidedBy
    tickets: int
    mails: int
    comments: int
    changes: tuple[ActionName, ...]
    undone: tuple[ActionName, ...]

    def stands(self, action: ActionName) -> bool:
        """Whether the action is in force at the end."""
        return self.actions.get(action) is ActionState.VERIFIED and action not in self.undone


def expected(scenario: Scenario) -> Expected:
    """What the table, the guardrails, the answer and the world make of a scenario."""
    history = [scenario.severity, raise_for_risk(scenario.severity, scenario.risk)]
    by, mails, verdict = DecidedBy.TABLE, 0, scenario.verdict
    wanted = chosen = verdict.actions
    if scenario.withdrawn:
        verdict = decide(scenario.severity, scenario.risk, Corroborated.YES)
        wanted = chosen = verdict.actions
        mails = 2
    elif scenario.admin_group:
        # The first tier is asked; its approval alone does not suffice, so each other tier is asked as well. In the end
        # every one of them hears who decided, but the tier of whoever did.
        by, mails = DecidedBy.ANALYST, 2 * len(TIERS) - 1
    elif scenario.asks and scenario.reply:
        chosen, by, mails = scenario.reply.chosen, DecidedBy.ANALYST, 1 + scenario.frozen
        wanted = chosen if verdict.holds else verdict.actions
    elif verdict.holds:
        wanted = chosen = (ActionName.DISABLE_ACCOUNT,)
        by, mails = DecidedBy.DEFAULT, 2 * len(TIERS)
        history.append(history[-1].raised())
    history.append(history[-1].at_least(verdict.priority))
    actions = {action: _state(scenario, action, chosen) for action in wanted}
    done = tuple(action for action, state in actions.items() if state is ActionState.VERIFIED)
    changes = tuple(a for a in done if a is not ActionName.DISABLE_ACCOUNT or not scenario.disabled_before)
    return Expected(
        priority_history=tuple(p for i, p in enumerate(history) if i == 0 or p is not history[i - 1]),
        actions=actions,
        outcome=_outcome({action: actions[action] for action in chosen}),
        decided_by=by,
        tickets=1 if chosen else 0,
        mails=mails + any(actions[action] is not ActionState.VERIFIED for action in chosen),
        comments=0 if chosen else 1,
        changes=changes,
        undone=changes if scenario.undone else (),
    )


def _state(scenario: Scenario, action: ActionName, chosen: tuple[ActionName, ...]) -> ActionState:
    if action not in chosen:
        return ActionState.LEFT_ALONE
    return ActionState.VERIFIED if _possible(scenario, action) else ActionState.FAILED


def _possible(scenario: Scenario, action: ActionName) -> bool:
    if action is ActionName.QUARANTINE_HOST:
        return scenario.agents == 1
    return scenario.people == 1


def _outcome(actions: dict[ActionName, ActionState]) -> Outcome:
    done = {action for action, state in actions.items() if state is ActionState.VERIFIED}
    if not actions:
        return Outcome.FALSE_POSITIVE
    if not done:
        return Outcome.CONTAINMENT_FAILED
    if done != set(actions):
        return Outcome.PARTIALLY_CONTAINED
    return Outcome.ACCOUNT_DISABLED if done == {ActionName.DISABLE_ACCOUNT} else Outcome.CONTAINED


class Cast:
    """The scenarios' data in the stand-ins of one environment, and their alerts."""

    def __init__(self, environment: Environment, scenarios: Sequence[Scenario] = SCENARIOS) -> None:
        self._environment = environment
        self._outages: dict[str, Fault] = {}
        self._occurred_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        self._event_ids: dict[str, str] = {}
        environment.directory.add_user(_MANAGER, mail=f"{_MANAGER}@acme.example", name="Katrin Weber")
        for scenario in scenarios:
            self._seed_siem(scenario)
            self._seed_directory(scenario)
            for _ in range(scenario.agents):
                # One that comes back takes what waits for it at once.
                reads = 1 if scenario.online else 0
                environment.falcon.add_device(scenario.host, online=scenario.online, reads_until_contained=reads)

    def alert(self, scenario: Scenario, *, second: bool = False) -> dict[str, Any]:
        """The alert that starts the case, or a ``second`` one about the same host.

        Half of them name the violation behind them, the other half leave Holdpoint to recognise it.
        """
        named_events = [self._event_ids[scenario.name]] if scenario.number % 2 else []
        return {
            "id": scenario.alert_id + ("-B" if second else ""),
            "rule": RULE,
            "occurred_at": self._occurred_at.isoformat(),
            "severity": scenario.severity.value,
            "source_ip": "198.51.100.2",
            "source_host": "web01",
            "destination_ip": scenario.ip,
            "destination_host": None,
            "user_account": None,
            "bytes_transferred": 734003200 + scenario.number,
            "tenant": TENANT,
            "siem_incident_id": scenario.incident_id,
            "event_ids": named_events,
        }

    def recover(self, scenario: Scenario) -> None:
        """Let the search for further alerts work again."""
        self._outages[scenario.name].times = 0

    def _seed_siem(self, scenario: Scenario) -> None:
        siem, at = self._environment.siem, self._occurred_at
        siem.add_host(scenario.ip, scenario.host, scenario.account, at=at - timedelta(minutes=40))
        if scenario.people > 1:
            siem.add_host(scenario.ip, scenario.host, "guest.lecturer", at=at - timedelta(minutes=10))
        who: dict[str, Any] = {
            "employeeid": scenario.employee_id,
            "workemail": scenario.mail,
            "accountname": scenario.account,
        }
        self._event_ids[scenario.name] = siem.add_violation(RULE, scenario.ip, at=at, **who)
        # What never corroborates: a policy that is only being tried out.
        siem.add_violation("SANDBOX-Rare destination", scenario.ip, at=at - timedelta(hours=2), **who)
        if scenario.further and scenario.search_fails:
            # About the address alone, so that the one search that fails is the one that would find it.
            siem.add_violation(FURTHER_POLICY, scenario.ip, at=at - timedelta(hours=3))
        elif scenario.further:
            siem.add_violation(FURTHER_POLICY, "10.99.0.7", at=at - timedelta(hours=3), **who)
        if scenario.score is not None:
            siem.add_user(scenario.employee_id, scenario.mail, account=scenario.account, score=scenario.score)
            siem.add_risk(scenario.employee_id, scenario.mail, scenario.score)
        siem.add_incident(scenario.incident_id)
        if scenario.search_fails:
            query = f'index=violation AND ipaddress="{scenario.ip}"'
            self._outages[scenario.name] = siem.faults.add("503", match=query, times=_FOR_GOOD)

    def _seed_directory(self, scenario: Scenario) -> None:
        extra = {"employeeID": [scenario.employee_id], "department": ["Human Resources"], "title": ["Recruiter"]}
        self._environment.directory.add_user(
            scenario.account,
            mail=scenario.mail,
            upn=f"{scenario.account}@corp.example",
            name=_PEOPLE[scenario.number - 1][1],
            manager=_MANAGER,
            uac=scenario.uac,
            extra=extra,
        )
        if scenario.admin_group:
            self._environment.directory.add_group(scenario.admin_group, [scenario.account])
            self._environment.directory.add_members("Domain Admins", scenario.admin_group)
