"""What a guardrail or a host that is offline holds back, over real protocols; the other half is done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from incident.triage import CONTAIN
from lab.checks import device_statuses, differences, is_disabled, tickets_of
from lab.environment import TIERS
from lab.trust_scenes import DOMAIN_ADMIN, LEAVER, OFFLINE
from starter import CaseRefused, case_status, decide_case, release_case, released
from tests.end_to_end.test_wire import PATIENCE, Lab, lab

__all__ = ["lab"]


def states(told: dict[str, Any]) -> list[str]:
    return [action["state"] for action in told["actions"]]


async def test_a_domain_admin_is_left_alone_when_the_second_tier_refuses(lab: Lab) -> None:
    started = await lab.start(DOMAIN_ADMIN)
    state = await lab.paused(DOMAIN_ADMIN)
    assert (state["question"]["actions"], state["question"]["quorum"]) == (["disable_account"], 2)
    assert device_statuses(lab.environment, DOMAIN_ADMIN) == ["contained"]
    approval = {"decision": "contain", "analyst": TIERS[0].analyst, "reason": "He did it."}
    receipt = await decide_case(lab.client, DOMAIN_ADMIN.case_id, approval)
    assert "second approver" in receipt["waits_for"]
    with pytest.raises(CaseRefused, match="another tier"):
        await decide_case(lab.client, DOMAIN_ADMIN.case_id, {**approval, "reason": "He did, I am sure."})
    assert not is_disabled(lab.environment, DOMAIN_ADMIN)
    refusal = {"decision": "false_positive", "analyst": TIERS[1].analyst, "reason": "It was the backup."}
    await decide_case(lab.client, DOMAIN_ADMIN.case_id, refusal)
    closed = await lab.closed(started)
    assert (closed["outcome"], states(closed)) == ("partially_contained", ["verified", "left_alone"])
    assert not is_disabled(lab.environment, DOMAIN_ADMIN)


async def test_the_ticket_is_told_when_a_host_comes_back(lab: Lab) -> None:
    started = await lab.start(OFFLINE, settle_within=timedelta(seconds=1))
    async with asyncio.timeout(PATIENCE):
        while not (state := await case_status(lab.client, OFFLINE.case_id))["ticket"]:
            await asyncio.sleep(0.05)
    assert states(state)[0] == "accepted"
    assert state["actions"][0]["pending_until"]
    assert device_statuses(lab.environment, OFFLINE) == ["containment_pending"]
    (ticket,) = tickets_of(lab.environment, state)
    assert "accepted, not verified yet" in ticket["description"]
    lab.environment.falcon.come_online(OFFLINE.host)
    assert differences(lab.environment, OFFLINE, await lab.closed(started)) == []
    notes = lab.environment.tickets.notes(ticket["sys_id"])
    assert any(f"quarantine host {OFFLINE.host}: verified" in note for note in notes)


async def test_an_account_that_was_disabled_before_stays_so(lab: Lab) -> None:
    state = await lab.closed(await lab.start(LEAVER))
    assert [action["changed"] for action in state["actions"]] == [True, False]
    why = {"analyst": TIERS[0].analyst, "reason": "Cleared."}
    receipt = await release_case(lab.client, LEAVER.case_id, **why)
    told = await asyncio.wait_for(released(lab.client, receipt), PATIENCE)
    assert dict(zip(CONTAIN, states(told), strict=True)) == dict(zip(CONTAIN, ("verified", "left_alone"), strict=True))
    assert differences(lab.environment, LEAVER, state) == []
