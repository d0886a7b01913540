"""The demo's scenarios: the stand-ins' data give the rows that the scenarios claim, and the checks see a difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import pytest_asyncio

from clients import Clients, connect
from incident.alert import Alert, parse_alert
from incident.evidence import Fact
from incident.policy import OnUnanswered
from incident.requests import ActionState, FindCorroboration, LocateHost, ScoreRisk, StartingAlert
from incident.triage import Corroborated, RiskLevel, decide
from integrations.errors import Ambiguous, Busy, NotFound
from lab.checks import differences, written_more_than_once
from lab.environment import Environment
from lab.scenarios import SCENARIOS, Cast, Scenario, Way, expected
from lab.trust_scenes import ALL
from settings import Settings, load_settings


class Set:
    """The environment with the scenarios' data in it, and the clients that the settings make."""

    def __init__(self, environment: Environment, cast: Cast, settings: Settings) -> None:
        self.environment = environment
        self.cast = cast
        self.settings = settings
        self.clients: Clients = connect(settings)


@pytest_asyncio.fixture(scope="module")
async def stage_set(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Set]:
    async with Environment(tmp_path_factory.mktemp("lab")) as environment:
        path = environment.write_settings("holdpoint.toml", wait="1h", on_unanswered=OnUnanswered.HOLD)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.variables(path).items():
                patch.setenv(name, value)
            settings = load_settings()
        made = Set(environment, Cast(environment, ALL), settings)
        yield made
        await made.clients.aclose()


def test_every_row_of_the_table_is_played() -> None:
    rows = {(scenario.risk, scenario.corroborated) for scenario in SCENARIOS}
    known = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)
    assert rows >= set(product(known, Corroborated))
    assert RiskLevel.UNKNOWN in {risk for risk, _ in rows}


def test_every_way_to_end_a_question_is_played() -> None:
    holding = [scenario for scenario in SCENARIOS if scenario.verdict.holds]
    assert {scenario.reply.way for scenario in holding if scenario.reply} == set(Way)
    assert any(scenario.withdrawn for scenario in holding)
    assert any(scenario.reply is None and not scenario.withdrawn for scenario in holding)


def test_no_two_scenarios_share_anything() -> None:
    for name in ("name", "ip", "host", "account", "employee_id", "case_id", "alert_id", "incident_id"):
        assert len({getattr(scenario, name) for scenario in ALL}) == len(ALL), name


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_what_is_expected_is_the_tables_word(scenario: Scenario) -> None:
    wanted, row = expected(scenario), decide(scenario.severity, scenario.risk, scenario.corroborated)
    assert wanted.priority_history[0] is scenario.severity
    assert [p.rank for p in wanted.priority_history] == sorted({p.rank for p in wanted.priority_history})
    if row.holds:
        assert row.priority in wanted.priority_history
        assert wanted.mails >= 1
    else:
        assert wanted.priority_history[-1] is row.priority
        assert set(wanted.actions) == set(row.actions)
    assert bool(wanted.tickets) == bool(wanted.actions)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
async def test_the_stand_ins_give_the_facts_of_the_row(stage_set: Set, scenario: Scenario) -> None:
    alert = parse_alert(stage_set.cast.alert(scenario))
    siem = stage_set.clients.siem
    located = await siem.locate(LocateHost(ip=alert.destination_ip, at=alert.occurred_at))
    assert located.host.value is not None
    assert located.host.value.name == scenario.host
    assert located.account.known is (scenario.people == 1)
    if located.account.value:
        person = stage_set.clients.directory.find_person(located.account.value)
        assert (person.account, person.employee_id, person.mails) == (
            scenario.account,
            scenario.employee_id,
            (scenario.mail,),
        )
        assert await _level(stage_set, scenario) is scenario.risk
    assert await _corroborated(stage_set, scenario, alert) is scenario.corroborated
    if scenario.agents == 1:
        assert (await stage_set.clients.endpoint.find_device(scenario.host)).containment == "normal"
    else:
        with pytest.raises(Ambiguous):
            await stage_set.clients.endpoint.find_device(scenario.host)


async def _level(on: Set, scenario: Scenario) -> RiskLevel:
    asked = ScoreRisk(account=scenario.account, employee_id=scenario.employee_id, mails=(scenario.mail,))
    try:
        risk = await on.clients.siem.risk(asked)
    except NotFound as error:
        return on.settings.case_policy().level(Fact[Any].unknown(str(error)))
    return on.settings.case_policy().level(Fact[Any].of(risk, "Securonix", datetime.now(UTC)))


async def _corroborated(on: Set, scenario: Scenario, alert: Alert) -> Corroborated:
    known = scenario.people == 1
    request = FindCorroboration(
        starting_alert=StartingAlert(
            event_ids=alert.event_ids,
            rule=alert.rule,
            destination_ip=alert.destination_ip,
            occurred_at=alert.occurred_at,
        ),
        ip=alert.destination_ip,
        host=scenario.host,
        account=scenario.account if known else None,
        employee_id=scenario.employee_id if known else None,
        mails=(scenario.mail,) if known else (),
        since=alert.occurred_at - timedelta(days=7),
    )
    try:
        found = await on.clients.siem.corroboration(request)
    except Busy:
        return Corroborated.UNKNOWN
    return Corroborated.YES if found.found else Corroborated.NO


def _state_as_expected(scenario: Scenario) -> dict[str, Any]:
    wanted = expected(scenario)
    return {
        "stage": "closed",
        "reference": f"HP-{scenario.number:08X}",
        "outcome": wanted.outcome.value,
        "priority_history": [{"priority": priority.value} for priority in wanted.priority_history],
        "actions": [{"action": a.value, "state": state.value} for a, state in wanted.actions.items()],
        "decision": {"by": wanted.decided_by.value},
        "ticket": None,
    }


def test_a_case_that_only_says_so_is_a_difference(stage_set: Set) -> None:
    contained = next(s for s in SCENARIOS if set(expected(s).actions.values()) == {ActionState.VERIFIED})
    found = differences(stage_set.environment, contained, _state_as_expected(contained))
    assert any("not disabled in the directory" in text for text in found)
    assert any("normal in Falcon" in text for text in found)
    assert "0 tickets, not 1" in found
    assert written_more_than_once(stage_set.environment, [expected(contained)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("outcome", "contained_maybe"),
        ("priority_history", [{"priority": "low"}]),
        ("actions", [{"action": "disable_account", "state": "requested"}]),
        ("decision", None),
        ("stage", "verifying"),
    ],
)
def test_each_part_of_a_case_is_held_against_the_table(stage_set: Set, key: str, value: Any) -> None:
    untouched = next(s for s in SCENARIOS if not expected(s).actions)
    right = _state_as_expected(untouched)
    before = len(differences(stage_set.environment, untouched, right))
    assert len(differences(stage_set.environment, untouched, right | {key: value})) == before + 1
