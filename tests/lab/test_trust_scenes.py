"""The demo's cases about trust: the stand-ins hold what the scenes claim, and what is expected follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from clients import connect
from incident.guardrails import Target, protection
from incident.policy import Approval, CasePolicy, OnUnanswered
from incident.quorum import tiers_of
from incident.record import DecidedBy, Outcome
from incident.requests import ActionState
from incident.triage import CONTAIN, ActionName
from lab.checks import differences, written_more_than_once
from lab.environment import Environment
from lab.report import CaseRun, DemoReport, print_table
from lab.scenarios import DISABLED, Cast, expected
from lab.trust_scenes import (
    APPROVALS,
    DOMAIN_ADMIN,
    LEAVER,
    OFFLINE,
    STORM,
    STORM_LIMIT,
    STORM_REPLIES,
    TRUST,
    WRONG,
)
from settings import Settings, load_settings


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[Environment]:
    async with Environment(tmp_path) as environment:
        Cast(environment, TRUST)
        yield environment


def loaded(world: Environment, **changes: object) -> Settings:
    policy = {"wait": "1h", "on_unanswered": OnUnanswered.HOLD, **changes}
    path = world.write_settings("some.toml", **policy)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.variables(path).items():
            patch.setenv(name, value)
        return load_settings()


async def test_the_admin_is_one_by_a_nested_group_and_two_tiers_approve(world: Environment) -> None:
    settings = loaded(world)
    policy, clients = settings.case_policy(), connect(settings)
    person = clients.directory.find_person(DOMAIN_ADMIN.account)
    other = clients.directory.find_person(LEAVER.account)
    await clients.aclose()
    why = protection(ActionName.DISABLE_ACCOUNT, Target(person=person), policy.guardrails)
    assert why is not None
    assert "Domain Admins" in why
    assert protection(ActionName.DISABLE_ACCOUNT, Target(person=other), policy.guardrails) is None
    assert policy.guardrails.protected_approval is Approval.TWO_TIERS
    assert len({tiers_of(reply.analyst, policy.tiers) for reply in APPROVALS}) == len(APPROVALS)


async def test_the_settings_of_the_acts_are_taken(world: Environment) -> None:
    policy: CasePolicy = loaded(world, max_per_hour=STORM_LIMIT, settle_within="2s").case_policy()
    assert (policy.guardrails.max_per_hour, policy.settle_within) == (STORM_LIMIT, timedelta(seconds=2))


def test_the_storm_is_larger_than_the_budget_and_each_late_case_has_an_answer() -> None:
    assert all(expected(scenario).changes == CONTAIN for scenario in STORM)
    assert STORM_LIMIT % len(CONTAIN) == 0
    assert len(STORM) - STORM_LIMIT // len(CONTAIN) == len(STORM_REPLIES)


def test_what_comes_of_a_case_over_the_budget_is_its_answer() -> None:
    contain, leave = (replace(STORM[0], over_budget=True, reply=reply) for reply in STORM_REPLIES)
    done, left = expected(contain), expected(leave)
    assert (done.outcome, done.decided_by, done.mails, done.tickets) == (Outcome.CONTAINED, DecidedBy.ANALYST, 1, 1)
    assert done.changes == CONTAIN
    assert expected(replace(contain, frozen=True)).mails == 2
    assert (left.outcome, left.tickets, left.comments, left.changes) == (Outcome.FALSE_POSITIVE, 0, 1, ())
    assert set(left.actions.values()) == {ActionState.LEFT_ALONE}


def test_only_what_is_ours_is_undone() -> None:
    ours, not_ours = expected(WRONG), expected(LEAVER)
    assert ours.undone == CONTAIN
    assert not any(ours.stands(action) for action in CONTAIN)
    assert not_ours.undone == (ActionName.QUARANTINE_HOST,)
    assert not_ours.stands(ActionName.DISABLE_ACCOUNT)
    assert not expected(OFFLINE).undone


def test_a_lift_or_a_change_too_many_is_seen(world: Environment) -> None:
    before = written_more_than_once(world, [expected(LEAVER)])
    world.falcon.actions += [("some", "contain"), ("some", "lift_containment")]
    assert sorted(set(before) - set(written_more_than_once(world, [expected(LEAVER)]))) == [
        "in all: 0 quarantines lifted, not 1",
        "in all: 0 quarantines, not 1",
    ]
    assert written_more_than_once(world, []) == [
        "in all: 1 quarantines, not 0",
        "in all: 1 quarantines lifted, not 0",
    ]


def test_a_leaver_who_can_sign_in_again_is_a_difference(world: Environment) -> None:
    state: dict[str, Any] = {
        "stage": "closed",
        "reference": "HP-0",
        "outcome": "contained",
        "priority_history": [],
        "actions": [],
        "decision": None,
        "ticket": None,
    }
    before = differences(world, LEAVER, state)
    world.directory.put(LEAVER.account, "userAccountControl", LEAVER.uac & ~DISABLED)
    (told,) = set(differences(world, LEAVER, state)) - set(before)
    assert told == f"account {LEAVER.account} is not disabled in the directory"


def test_the_table_tells_what_was_released() -> None:
    actions = [{"action": action.value, "state": "verified"} for action in CONTAIN]
    state = {"actions": actions, "decision": None, "outcome": "contained", "priority_history": []}
    undone = [
        {"action": "quarantine_host", "state": "verified"},
        {"action": "disable_account", "state": "left_alone"},
    ]
    run = CaseRun(LEAVER, "run", state=state, seconds=1.0, release={"outcome": "released", "actions": undone})
    console = Console(width=200)
    with console.capture() as shown:
        print_table(DemoReport(cases=[run]), console)
    assert "quarantine_host verified, released" in shown.get()
    assert "disable_account verified, was so before" in shown.get()
