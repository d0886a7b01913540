"""What one sender may take, whose turn it is, and what is remembered: under a clock of the tests."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message
from temporalio.client import Client

from bridge.auth import Credentials, Sender, Signed, TooManySigned, Unauthenticated
from bridge.delivery import AT_ONCE, Delivery
from bridge.health import FRESH, Readiness
from bridge.limits import Bodies, Rates, TooBusy, TooLarge, Turns, seconds
from incident.alert import Alert, parse_alert
from tests.bridge.sending import KEY, OLD_KEY, TOKEN, Cases, settings, signature


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_at_its_rate_and_no_further() -> None:
    clock = Clock()
    rates = Rates(10, 50, clock=clock)
    assert rates.take("a", 50) == 0
    assert rates.take("a", 5) == pytest.approx(0.5)
    assert rates.take("a", 5) == pytest.approx(0.5)  # what is refused costs nothing
    assert rates.take("b", 50) == 0
    clock.now += 0.5
    assert rates.take("a", 5) == 0
    assert rates.take("a", 1) == pytest.approx(0.1)
    clock.now += 1000
    assert rates.take("a", 50) == 0
    assert rates.take("a", 1) > 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60)), max_size=60))
def test_no_sender_gets_more_than_its_rate(asked: list[tuple[float, int]]) -> None:
    clock = Clock()
    rates, got, start = Rates(10, 60, clock=clock), 0, clock.now
    for pause, amount in asked:
        clock.now += pause
        if rates.take("a", amount) == 0:
            got += amount
    assert got <= 60 + 10 * (clock.now - start) + 0.001


def test_names_are_forgotten_so_that_memory_is_bounded() -> None:
    clock = Clock()
    rates = Rates(1, 1, most=2, clock=clock)
    assert [rates.take(name) for name in "abc"] == [0, 0, 0]
    assert rates.take("c") > 0
    assert rates.take("a") == 0


@pytest.mark.parametrize(("wait", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (30.5, "31")])
def test_retry_after_is_in_whole_seconds(wait: float, told: str) -> None:
    assert seconds(wait) == told


async def test_turns_go_to_the_most_urgent_and_then_to_who_came_first() -> None:
    turns, order, held = Turns(1), [], asyncio.Event()

    async def one(name: str, urgency: int) -> None:
        async with turns.turn(urgency):
            order.append(name)
            await held.wait()

    async with asyncio.TaskGroup() as group:
        for name, urgency in (("first", 0), ("low", 0), ("high", 2), ("lower", 0), ("critical", 3), ("high too", 2)):
            group.create_task(one(name, urgency))
            await asyncio.sleep(0)
        held.set()
    assert order == ["first", "critical", "high", "high too", "low", "lower"]


async def test_a_turn_that_nobody_waits_for_any_more_is_not_lost() -> None:
    turns, held = Turns(1), asyncio.Event()

    async def one() -> None:
        async with turns.turn(0):
            await held.wait()

    holder, gone, last = (asyncio.create_task(one()) for _ in range(3))
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    held.set()
    await asyncio.wait_for(asyncio.gather(holder, last), 5)
    again = asyncio.create_task(one())
    late = asyncio.create_task(one())
    await asyncio.sleep(0)
    # The turn comes to ``late`` in the same moment as its cancellation.
    await asyncio.wait_for(again, 5)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    await asyncio.wait_for(one(), 5)


def arriving(*pieces: bytes, after: asyncio.Event | None = None) -> Request:
    """A request whose body comes in pieces, the last of them when ``after`` is set."""
    left = list(pieces)

    async def receive() -> Message:
        if len(left) == 1 and after:
            await after.wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def test_all_bodies_together_are_bounded() -> None:
    bodies, arrived = Bodies(100, 10, room=150), asyncio.Event()

    async def one() -> bytes:
        async with bodies.of(arriving(b"x" * 100, b"", after=arrived)) as body:
            return body

    slow = asyncio.create_task(one())
    await asyncio.sleep(0)
    with pytest.raises(TooBusy):
        async with bodies.of(arriving(b"x" * 51)):
            pass
    async with bodies.of(arriving(b"x" * 50)) as body:
        assert len(body) == 50
    arrived.set()
    assert len(await slow) == 100
    for pieces in ((b"x" * 100,), (b"x" * 60, b"x" * 60), (b"x" * 100,)):
        with pytest.raises(TooLarge) if sum(map(len, pieces)) > 100 else nullcontext():
            async with bodies.of(arriving(*pieces)) as body:
                assert body == b"".join(pieces)


def alerts(count: int, severity: str, net: int) -> dict[int, Alert]:
    return {
        n: parse_alert(
            {
                "id": f"{severity}-{n}",
                "destination_ip": f"10.{net}.{n // 200}.{n % 200}",
                "occurred_at": "2026-03-14T12:34:56Z",
                "severity": severity,
            }
        )
        for n in range(count)
    }


async def test_a_critical_alert_overtakes_the_noise_that_waits() -> None:
    cases = Cases(gate=asyncio.Event())
    assert cases.gate is not None
    delivery = Delivery(cast("Client", cases), settings().case_policy(), task_queue="q")
    noise = asyncio.create_task(delivery.deliver(alerts(400, "low", 1)))
    while cases.under_way < AT_ONCE:
        await asyncio.sleep(0)
    urgent = asyncio.create_task(delivery.deliver(alerts(1, "critical", 2)))
    for _ in range(5):
        await asyncio.sleep(0)
    cases.gate.set()
    await asyncio.gather(noise, urgent)
    ids = [one["id"] for one in cases.started]
    assert ids.index("critical-0") <= 2 * AT_ONCE
    assert len(ids) == 401


def credentials(clock: Clock, **options: Any) -> Credentials:
    return Credentials({"hmac_key": KEY, "previous_hmac_key": OLD_KEY}, {"token": TOKEN}, clock=clock, **options)


def show(credentials: Credentials, body: bytes, clock: Clock, *, ago: int = 0, key: str = KEY) -> Sender:
    shown = credentials.of(Headers(signature(body, key=key, at=clock.now - ago)))
    assert isinstance(shown, Signed)
    return credentials.verify(shown, body)


def test_a_credential_is_known_by_its_name() -> None:
    clock = Clock()
    known = credentials(clock)
    assert show(known, b"a", clock).name == "hmac_key"
    assert show(known, b"b", clock, key=OLD_KEY).name == "previous_hmac_key"
    assert known.of(Headers({"authorization": f"Bearer {TOKEN}"})) == Sender("token")
    assert known
    assert not Credentials({}, {})


def test_a_signed_request_is_remembered_for_as_long_as_its_time_is_good() -> None:
    clock = Clock()
    known = credentials(clock)
    headers = Headers(signature(b"a", at=clock.now + 299))
    shown = known.of(headers)
    assert isinstance(shown, Signed)
    known.verify(shown, b"a")
    for later in (0, 299, 299):
        clock.now += later
        again = known.of(headers)
        assert isinstance(again, Signed)
        with pytest.raises(Unauthenticated, match="taken before"):
            known.verify(again, b"a")
    clock.now += 2
    with pytest.raises(Unauthenticated, match="from our clock"):
        known.of(headers)


def test_what_is_remembered_is_bounded_and_nothing_of_it_is_forgotten_early() -> None:
    clock = Clock()
    known = credentials(clock, most=2)
    show(known, b"a", clock)
    second = show(known, b"b", clock)
    with pytest.raises(TooManySigned):
        show(known, b"c", clock)
    with pytest.raises(Unauthenticated, match="taken before"):
        show(known, b"a", clock)
    known.forget(second)
    show(known, b"c", clock)
    clock.now += 601
    assert [show(known, body, clock).name for body in (b"a", b"b")] == ["hmac_key"] * 2


@given(
    st.dictionaries(
        st.sampled_from(["X-Holdpoint-Timestamp", "X-Holdpoint-Signature", "Authorization"]),
        st.text("v1=af,\xff Bearer", max_size=90),
    )
)
def test_whatever_the_headers_hold_they_are_refused(headers: dict[str, str]) -> None:
    known = credentials(Clock())
    with pytest.raises(Unauthenticated) as refused:
        known.verify(cast("Signed", known.of(Headers(headers))), b"")
    assert TOKEN not in str(refused.value)


async def test_temporal_is_asked_once_in_a_moment() -> None:
    clock, cases = Clock(), Cases()
    ready = Readiness(cast("Client", cases), clock=clock)
    answers = await asyncio.gather(*(ready.answer(cast("Any", None)) for _ in range(5)))
    assert ([answer.status_code for answer in answers], cases.asked) == ([200] * 5, 1)
    cases.down = True
    assert (await ready.answer(cast("Any", None))).status_code == 200
    clock.now += FRESH
    assert (await ready.answer(cast("Any", None))).status_code == 503
    assert cases.asked == 2


async def test_temporal_that_does_not_answer_is_not_ready() -> None:
    cases = Cases(gate=asyncio.Event())
    ready = Readiness(cast("Client", cases), within=0.05)
    async with asyncio.timeout(5):
        assert (await ready.answer(cast("Any", None))).status_code == 503
