"""Undo after every row of the decision table: exactly the state before comes back, and where nothing was done, nothing.

The account has a bit besides the one that a case sets, so that a value written back whole would be seen.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from incident.evidence import Group
from incident.policy import Approval, GuardrailPolicy, Mode, OnUnanswered
from incident.requests import Reservation, Written
from integrations.errors import NotFound, Refused, Unreachable
from starter import Started, release_case, released
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, World, alert, policy, working

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
NO = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}
HOST, ACCOUNT = "quarantine_host", "disable_account"
BOTH = frozenset({HOST, ACCOUNT})
BEFORE = (66048, "normal")
"""An account whose password does not expire (MS-ADTS 2.2.16), and a host that is free."""

DISABLED, DONT_EXPIRE = 0x2, 0x10000


class Kept(World):
    """A world that keeps the bits of the account and the status of the host."""

    def __init__(self) -> None:
        self.uac, self.status = BEFORE
        super().__init__()
        self.person = self.person.model_copy(update={"user_account_control": self.uac})

    @property
    def disabled(self) -> bool:
        return bool(self.uac & DISABLED)

    @disabled.setter
    def disabled(self, value: bool) -> None:
        self.uac = self.uac | DISABLED if value else self.uac & ~DISABLED

    @property
    def contained(self) -> bool:
        return self.status == "contained"

    @contained.setter
    def contained(self, value: bool) -> None:
        self.status = "contained" if value else "normal"

    @property
    def state(self) -> tuple[int, str]:
        return self.uac, self.status

    def disable(self, account: Any) -> Written:
        before = {"userAccountControl": str(self.uac)}
        return super().disable(account).model_copy(update={"before": before})

    def enable(self, account: Any, before: dict[str, str]) -> Written:
        assert before == {"userAccountControl": str(BEFORE[0])}, "the undo is told the state that the write found"
        return super().enable(account, before)


def known(**changes: Any) -> Callable[[World], None]:
    """The world with these changes."""

    def prepare(world: World) -> None:
        for name, value in changes.items():
            setattr(world, name, value)

    return prepare


def failing(**errors: BaseException) -> Callable[[World], None]:
    """The world in which these steps fail for good."""
    return lambda world: world.always.update(errors)


def privileged(world: World) -> None:
    groups = (Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),)
    world.person = world.person.model_copy(update={"groups": groups})


@dataclass(frozen=True)
class Row:
    """A row of the table, how it is answered, and which actions it takes."""

    score: float | None = 50.0
    sightings: int | None = 1
    severity: str = "medium"
    answers: tuple[dict[str, Any], ...] = ()
    done: frozenset[str] = BOTH
    steering: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[World], None] | None = None

    async def play(self, scene: Scene) -> Started:
        """Run the case to its end."""
        scene.world.score = self.score
        if self.sightings is None:
            scene.world.always["corroboration"] = Refused("the account may not search")
        scene.world.sightings = self.sightings or 0
        if self.prepare:
            self.prepare(scene.world)
        started = await scene.start(alert(severity=self.severity), policy(**self.steering))
        for answer in self.answers:
            await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
            await scene.handle(started).execute_update("decide", answer)
        await scene.end(started)
        return started


LOW, MEDIUM, HIGH = 0.01, 50.0, 90.0
TWO_TIERS = {"guardrails": GuardrailPolicy(protected_approval=Approval.TWO_TIERS)}
FAILS_SOON = {"contain_within": timedelta(seconds=4), "verify_within": timedelta(seconds=1)}

HOLDS = [
    *((score, sightings) for score in (LOW, MEDIUM, HIGH, None) for sightings in (0, None)),
    (None, 1),
]
"""Every row that stops at the hold point: risk, and whether there is more (``None`` where that is not known)."""

CONTAINS = {
    **{f"{s}-corroborated": Row(score, severity=s) for s, score in (("low", HIGH), ("medium", MEDIUM))},
    **{f"critical-{score}": Row(score, severity="critical") for score in (MEDIUM, HIGH)},
    "low-risk": Row(LOW, done=frozenset({ACCOUNT})),
    "low-risk-critical": Row(LOW, severity="critical", done=frozenset({ACCOUNT})),
    **{f"held-{score}-{seen}": Row(score, seen, answers=(CONTAIN,)) for score, seen in HOLDS},
    **{
        f"narrowed-to-{action}": Row(sightings=0, answers=({**CONTAIN, "actions": [action]},), done=frozenset({action}))
        for action in (HOST, ACCOUNT)
    },
    "protected-approved-by-one": Row(prepare=privileged, answers=(CONTAIN,)),
    "protected-approved-by-two-tiers": Row(
        prepare=privileged, steering=TWO_TIERS, answers=(CONTAIN, {**CONTAIN, "analyst": ON_CALL})
    ),
    "protected-left-alone": Row(prepare=privileged, answers=(NO,), done=frozenset({HOST})),
    "protected-host-approved": Row(prepare=known(device_kind="Server"), answers=(CONTAIN,)),
    "over-the-budget-approved": Row(
        prepare=known(reservation=Reservation(granted=False, reason="used up")),
        steering={"guardrails": GuardrailPolicy(ledger=True)},
        answers=(CONTAIN,),
    ),
    "ask-mode": Row(steering={"guardrails": GuardrailPolicy(mode=Mode.ASK)}, answers=(CONTAIN,)),
}
"""Every way in which a case comes to contain, all of which it can be undone from."""

DEFAULTS = {
    "contain": Row(sightings=0, steering={"on_unanswered": OnUnanswered.CONTAIN}),
    "disable-account": Row(
        sightings=0, steering={"on_unanswered": OnUnanswered.DISABLE_ACCOUNT}, done=frozenset({ACCOUNT})
    ),
}

PARTLY = {
    "host-refused": Row(prepare=failing(quarantine=Refused("403")), done=frozenset({ACCOUNT}), steering=FAILS_SOON),
    "host-unknown": Row(prepare=known(host=None), done=frozenset({ACCOUNT})),
    "agent-unknown": Row(prepare=failing(find_device=NotFound("no agent")), done=frozenset({ACCOUNT})),
    "account-refused": Row(prepare=failing(disable=Refused("no right")), done=frozenset({HOST}), steering=FAILS_SOON),
}
"""One half is done; the other fails or has no target."""

TOUCHES_NOTHING = {
    **{f"false-positive-{score}-{seen}": Row(score, seen, answers=(NO,)) for score, seen in HOLDS},
    "observed": Row(steering={"guardrails": GuardrailPolicy(mode=Mode.OBSERVE)}),
    "observed-and-answered": Row(
        sightings=0, steering={"guardrails": GuardrailPolicy(mode=Mode.OBSERVE)}, answers=(CONTAIN,)
    ),
    "asked-and-left-alone": Row(steering={"guardrails": GuardrailPolicy(mode=Mode.ASK)}, answers=(NO,)),
    "protected-for-good": Row(
        LOW, prepare=privileged, steering={"guardrails": GuardrailPolicy(protected_approval=Approval.NEVER)}
    ),
    "both-failed": Row(prepare=failing(quarantine=Refused("403"), disable=Refused("no right")), steering=FAILS_SOON),
}


@pytest.fixture
async def kept(dev_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    world, queue = Kept(), f"q-{uuid.uuid4()}"
    async with working(dev_server.client, world, queue):
        yield Scene(dev_server.client, world, queue)


@pytest.fixture
async def kept_fast(skipping_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    world, queue = Kept(), f"q-{uuid.uuid4()}"
    async with working(skipping_server.client, world, queue):
        yield Scene(skipping_server.client, world, queue)


async def release(scene: Scene, started: Started) -> dict[str, Any]:
    async with asyncio.timeout(30):
        receipt = await release_case(
            scene.client, started.case_id, analyst=LEAD, reason="he had a ticket for it", task_queue=scene.queue
        )
        return await released(scene.client, receipt)


def world_of(scene: Scene) -> Kept:
    assert isinstance(scene.world, Kept)
    return scene.world


async def undone(scene: Scene, row: Row) -> dict[str, Any]:
    """Play the row, see what it did, release it, and see that everything is as it was, by one write for each action."""
    world = world_of(scene)
    started = await row.play(scene)
    assert world.state == (
        BEFORE[0] | (DISABLED if ACCOUNT in row.done else 0),
        "contained" if HOST in row.done else "normal",
    )
    writes = len(world.writes)
    told = await release(scene, started)
    assert world.state == BEFORE
    names = {HOST: "lift", ACCOUNT: "enable"}
    assert sorted(world.writes[writes:]) == sorted(names[action] for action in row.done)
    assert {u["action"] for u in told["actions"] if u["state"] == "verified"} == row.done
    return told


@pytest.mark.parametrize("row", CONTAINS.values(), ids=CONTAINS)
async def test_after_every_row_that_contains(kept: Scene, row: Row) -> None:
    told = await undone(kept, row)
    assert told["outcome"] == "released"
    assert "he had a ticket for it" in kept.world.notes[-1]


@pytest.mark.parametrize("row", DEFAULTS.values(), ids=DEFAULTS)
async def test_after_the_declared_default(kept_fast: Scene, row: Row) -> None:
    assert (await undone(kept_fast, row))["outcome"] == "released"


@pytest.mark.parametrize("row", PARTLY.values(), ids=PARTLY)
async def test_after_a_half_that_failed(kept: Scene, row: Row) -> None:
    told = await undone(kept, row)
    (other,) = [u for u in told["actions"] if u["action"] not in row.done]
    assert (told["outcome"], other["state"], other["why"]) == ("partially_released", "left_alone", "before_unknown")
    assert "nothing is changed" in other["detail"]
    assert other["detail"] in kept.world.notes[-1]


@pytest.mark.parametrize("row", TOUCHES_NOTHING.values(), ids=TOUCHES_NOTHING)
async def test_after_every_row_that_touches_nothing(kept: Scene, row: Row) -> None:
    world = world_of(kept)
    started = await row.play(kept)
    assert (world.state, world.writes) == (BEFORE, [])
    told = await release(kept, started)
    assert (told["outcome"], world.state, world.writes) == ("nothing_to_release", BEFORE, [])
    assert {undo["state"] for undo in told["actions"]} <= {"left_alone"}
    assert all(undo["detail"] for undo in told["actions"])


async def test_after_nobody_answered(kept_fast: Scene) -> None:
    row = Row(sightings=0, steering={"on_unanswered": OnUnanswered.CLOSE})
    started = await row.play(kept_fast)
    told = await release(kept_fast, started)
    assert (told["outcome"], told["actions"]) == ("nothing_to_release", [])
    assert (world_of(kept_fast).state, kept_fast.world.writes) == (BEFORE, [])


async def test_a_change_that_may_be_somebody_elses_is_left_to_people(kept: Scene) -> None:
    """The write was never answered, and the account is disabled: by it, or by an analyst who did not wait for it."""
    world = world_of(kept)
    world.disabled, world.always["disable"] = True, Unreachable("the answer was lost")
    started = await Row(LOW, steering={"contain_within": timedelta(milliseconds=700)}).play(kept)
    (action,) = (await kept.end(started))["actions"]
    assert (action["state"], action["changed"]) == ("verified", False)
    assert action["before"] == {"userAccountControl": str(BEFORE[0])}
    told = await release(kept, started)
    assert (told["outcome"], told["actions"][0]["why"]) == ("nothing_to_release", "before_unknown")
    assert told["actions"][0]["detail"] == "whose change it was is not known: nothing is changed"
    assert world.disabled
    assert len(kept.world.mails) == 1, "what needs hands is told to the tier"
