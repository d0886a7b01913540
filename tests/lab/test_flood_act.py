"""The demo's flood: what is sent is what a bridge takes, and an answer or a case that is otherwise is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.__main__ import SECRETS
from bridge.limits import Rates
from incident.alert import parse_alert
from incident.joined import Joined, mark_of
from incident.policy import OnUnanswered
from incident.whose import LATER
from lab.environment import INTAKE_KEY, INTAKE_TOKEN, Environment
from lab.flood import ALERTS, IN_A_REQUEST, TWICE, counted_otherwise, flood, otherwise, requests_of
from lab.forwarder import Alert, Delivered, deliver, signed, with_token
from lab.scenarios import Cast
from lab.trust_scenes import FLOODED, URGENT
from settings import load_settings
from tests.bridge.sending import Cases, bridge

RUN = f"run-of-{FLOODED.case_id}"
"""As the Temporal of the tests names it."""

QUESTION = {"id": "HP-0-Q1", "tier": "analyst", "due_at": "2026-03-14T12:54:56Z", "asked": [{"tier": "analyst"}]}


@pytest.fixture
def alerts(tmp_path: Path) -> tuple[Alert, Alert]:
    """The alert of the case that is flooded, and the urgent one."""
    cast = Cast(Environment(tmp_path), (FLOODED, URGENT))
    return cast.alert(FLOODED), cast.alert(URGENT)


@asynccontextmanager
async def waiting(first: Alert, **changes: Any) -> AsyncIterator[tuple[str, Cases]]:
    """A bridge with the lab's credentials, before a Temporal in which the case is open."""
    temporal = Cases(started=[{"case": FLOODED.case_id, **first}])
    given = {"hmac_key": INTAKE_KEY, "token": INTAKE_TOKEN, **changes}
    async with bridge(temporal, **given) as sender:
        yield sender.url, temporal


async def test_the_bridge_of_the_lab_has_the_keys_of_the_senders_and_the_port_of_the_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Environment(tmp_path) as environment:
        path = environment.write_settings("some.toml", wait="1h", on_unanswered=OnUnanswered.HOLD)
        for name, value in {**environment.variables(path), "HOLDPOINT_BRIDGE__PORT": "8099"}.items():
            monkeypatch.setenv(name, value)
        settings = load_settings(secrets_of=SECRETS)
    assert list(settings.bridge.hmac_keys.values()) == [INTAKE_KEY]
    assert list(settings.bridge.tokens.values()) == [INTAKE_TOKEN]
    assert settings.bridge.port == 8099
    assert settings.bridge.max_alerts > IN_A_REQUEST


def test_the_flood_is_about_the_host_of_the_case_and_raises_nothing(alerts: tuple[Alert, Alert]) -> None:
    first, read = parse_alert(alerts[0]), [parse_alert(alert) for alert in flood(alerts[0])]
    assert len({alert.id for alert in (first, *read)}) == ALERTS + 1
    assert {alert.case_id for alert in read} == {FLOODED.case_id}
    assert all(alert.severity.rank < first.severity.rank for alert in read)
    assert all(abs(alert.occurred_at - first.occurred_at) < LATER for alert in read)
    assert {alert.siem_incident_id for alert in read} == {None}


def test_the_urgent_alert_is_in_the_midst_and_comes_once(alerts: tuple[Alert, Alert]) -> None:
    first, urgent = alerts
    requests = requests_of(flood(first), urgent)
    assert [len(some) for some in requests].count(IN_A_REQUEST) == len(requests) - 1
    (found,) = [number for number, some in enumerate(requests) if urgent in some]
    assert TWICE <= found < len(requests) - 1
    assert 0 < requests[found].index(urgent) < IN_A_REQUEST


async def test_a_bridge_takes_it_all_and_again_what_comes_twice(alerts: tuple[Alert, Alert]) -> None:
    first, urgent = alerts
    requests = requests_of(flood(first), urgent)
    async with waiting(first) as (url, temporal):
        told = await deliver(url, [*((some, signed) for some in requests), (requests[0], with_token)])
    assert [text for answer in told for text in otherwise(answer, RUN)] == []
    assert len(temporal.started) == 1 + ALERTS + 1 + IN_A_REQUEST


async def test_what_is_over_the_rate_is_sent_again(
    alerts: tuple[Alert, Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([0.1, 0.0])
    monkeypatch.setattr(Rates, "take", lambda *_: next(refused, 0.0))
    async with waiting(alerts[0]) as (url, _):
        (told,) = await deliver(url, [(flood(alerts[0])[:3], signed)])
    assert otherwise(told, RUN) == []
    assert told.waits == 1


async def test_a_sender_who_is_not_known_and_a_bridge_that_is_not_there_are_told(alerts: tuple[Alert, Alert]) -> None:
    some = flood(alerts[0])[:2]
    async with waiting(alerts[0], hmac_key="the key of somebody else, long enough") as (url, temporal):
        (refused,) = await deliver(url, [(some, signed)])
        assert len(temporal.started) == 1
    (alone,) = await deliver(url, [(some, signed)])
    assert otherwise(refused, RUN) == ["a request of 2 alerts was answered 401"]
    assert otherwise(alone, RUN) == ["a request of 2 alerts was answered by nobody"]


@pytest.mark.parametrize("change", [{"run_id": "another"}, {"joined": False}, {"case_id": "sua-b"}, {"alert_id": "x"}])
def test_a_line_that_is_otherwise_is_told(alerts: tuple[Alert, Alert], change: dict[str, Any]) -> None:
    some = flood(alerts[0])[:2]
    right = {"case_id": FLOODED.case_id, "run_id": RUN, "joined": True}
    lines = [{"index": index, "alert_id": alert["id"], **right} for index, alert in enumerate(some)]
    answer = Delivered(some, 202, lines)
    assert otherwise(answer, RUN) == []
    assert len(otherwise(replace(answer, lines=[lines[0], lines[1] | change]), RUN)) == 1
    assert len(otherwise(replace(answer, lines=lines[:1]), RUN)) == 1
    assert len(otherwise(replace(answer, status=207), RUN)) == 1


def test_an_urgent_alert_that_joined_is_told(alerts: tuple[Alert, Alert]) -> None:
    line = {"alert_id": URGENT.alert_id, "case_id": URGENT.case_id, "run_id": "its own", "joined": False}
    assert otherwise(Delivered([alerts[1]], 202, [line]), RUN) == []
    assert len(otherwise(Delivered([alerts[1]], 202, [line | {"joined": True}]), RUN)) == 1


@pytest.fixture
def state(alerts: tuple[Alert, Alert]) -> dict[str, Any]:
    """The status of a case that has all of it."""
    joined = Joined()
    for alert in map(parse_alert, [alerts[0], *flood(alerts[0])]):
        joined.mark(mark_of("hp-0", alert.id))
        if alert.id != FLOODED.alert_id:
            joined.add(alert)
    return {**joined.view(), "question": QUESTION, "superseded": []}


@pytest.mark.parametrize(
    "change",
    [
        {"alerts_total": ALERTS},
        {"others_total": 1},
        {"superseded": [QUESTION]},
        *({"question": {**QUESTION, name: "another"}} for name in QUESTION),
        {"question": None},
    ],
    ids="-".join,
)
def test_a_case_that_counts_or_asks_otherwise_is_told(state: dict[str, Any], change: dict[str, Any]) -> None:
    assert counted_otherwise(state, QUESTION) == []
    assert counted_otherwise(state | change, QUESTION)


def test_an_alert_that_is_counted_twice_is_told(state: dict[str, Any], alerts: tuple[Alert, Alert]) -> None:
    joined = Joined()
    for alert in map(parse_alert, flood(alerts[0])):
        joined.add(alert)
    joined.add(parse_alert(flood(alerts[0])[0]))
    twice = {**state, "joined_alerts": joined.view()["joined_alerts"]}
    assert len(counted_otherwise(twice, QUESTION)) == 2
