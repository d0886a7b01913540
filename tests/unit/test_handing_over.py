"""What travels together: each alert once and in its order, within the bounds of a signal; and what becomes of each."""

from __future__ import annotations

import json
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cases import Started, start_incidents, together
from handing_over import MOST_BYTES, MOST_TOGETHER
from incident.alert import Alert, AlertRefused
from tests.bridge.sending import Cases
from tests.unit.builders import alert

FIRST = alert()


def made(sizes: list[int]) -> list[Alert]:
    return [FIRST.model_copy(update={"id": str(n), "rule": "x" * size}) for n, size in enumerate(sizes)]


@given(st.lists(st.one_of(st.integers(1, 50), st.integers(1, 200_000)), max_size=30), st.integers(0, 450))
@settings(deadline=None, max_examples=40)
def test_none_is_left_out_and_none_doubled(sizes: list[int], many: int) -> None:
    alerts = made([*sizes, *[1] * many])
    parts = list(together(alerts))
    assert [one.id for part in parts for one in part] == [one.id for one in alerts]
    for part in parts:
        assert 1 <= len(part) <= MOST_TOGETHER
        told = len(json.dumps([one.model_dump(mode="json", exclude_defaults=True) for one in part]))
        assert len(part) == 1 or told <= MOST_BYTES + 4 * len(part)
    assert len(parts) <= 1 + len(alerts) // MOST_TOGETHER + 2 * sum(map(len, (one.rule or "" for one in alerts))) // (
        MOST_BYTES
    )


async def told(cases: Cases, given: list[Any]) -> list[Any]:
    return list(await start_incidents(cast("Client", cases), given))


async def test_each_is_answered_in_its_place() -> None:
    cases = Cases()
    raw = {"id": "R", "destination_ip": "10.0.0.9", "occurred_at": "2026-03-14T12:34:56Z"}
    outcomes = await told(cases, [alert(id="A"), {"id": "x"}, raw, json.dumps({**raw, "id": "S"}), alert(id="B")])
    assert [type(one) for one in outcomes] == [Started, AlertRefused, Started, Started, Started]
    assert [one.joined for one in outcomes if isinstance(one, Started)] == [False, False, True, True]
    assert sorted(cases.signals) == [2, 2]


async def test_one_that_is_refused_for_good_takes_no_other_along() -> None:
    cases = Cases(failing={"2": RPCError("invalid argument", RPCStatusCode.INVALID_ARGUMENT, b"")})
    outcomes = await told(cases, made([1] * 5))
    assert [isinstance(one, Started) for one in outcomes] == [True, True, False, True, True]
    assert [one["id"] for one in cases.started] == ["0", "1", "3", "4"]


async def test_what_passes_is_not_tried_for_the_rest_of_its_case() -> None:
    cases = Cases(down=True)
    outcomes = await told(cases, made([1] * (3 * MOST_TOGETHER)))
    assert {type(one) for one in outcomes} == {RPCError}
    assert cases.signals == [MOST_TOGETHER]


async def test_one_alone_travels_as_ever() -> None:
    cases = Cases()
    await told(cases, [alert()])
    assert cases.signals == [1]
    assert cases.started[0]["user_account"] is None, "with all its keys"
