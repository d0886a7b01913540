"""The desk's small parts: one look for all, silence that is believed for a while, tries that are counted."""

from __future__ import annotations

import asyncio

import pytest

from bridge.desk import guard, silence
from bridge.desk.guard import TRIES, TRIES_WITHIN, Tries
from bridge.desk.shared import Shared
from bridge.desk.silence import SEVERAL, Silence


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (guard, silence):
        monkeypatch.setattr(module, "time", made)
    return made


def test_tries_are_counted_a_link_and_forgotten(clock: Clock) -> None:
    tries = Tries()
    for _ in range(TRIES):
        assert tries.wait("one") == 0
        tries.wrong("one")
        clock.now += 1
    assert 0 < tries.wait("one") <= TRIES_WITHIN
    assert tries.wait("other") == 0
    clock.now += TRIES_WITHIN
    assert tries.wait("one") == 0


def test_a_flood_of_links_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_MOST", 100)
    tries = Tries()
    for number in range(1000):
        tries.wrong(f"link {number}")
    assert len(tries._wrong) == 100


def test_one_case_that_does_not_answer_silences_no_other(clock: Clock) -> None:
    heard = Silence()
    heard.of("q", "broken")
    assert heard.holds("q", "broken")
    assert not heard.holds("q", "other")
    clock.now += silence.LASTS + 0.1
    assert not heard.holds("q", "broken")


def test_a_queue_without_a_worker_is_left_in_peace(clock: Clock) -> None:
    heard = Silence()
    for number in range(SEVERAL):
        assert not heard.holds("q", "other")
        heard.of("q", f"case {number}")
    assert heard.holds("q", "other")
    assert not heard.holds("another queue", "other")
    heard.broken("q")
    assert not heard.holds("q", "other")
    for number in range(SEVERAL):
        heard.of("q", f"case {number}")
    assert not heard.holds("q", "other"), "somebody was heard a moment ago"
    clock.now += silence.LASTS + 0.1
    for number in range(SEVERAL):
        heard.of("q", f"case {number}")
    assert heard.holds("q", "other")


async def test_all_who_ask_get_one_look() -> None:
    looks, gate = 0, asyncio.Event()

    async def look() -> int:
        nonlocal looks
        looks += 1
        await gate.wait()
        return looks

    shared: Shared[int] = Shared(60.0, 2)
    waiting = [asyncio.create_task(shared.get("key", look)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1, 1, 1]
    assert await shared.get("key", look) == 1
    shared.forget("key")
    assert await shared.get("key", look) == 2


async def test_a_failure_is_everybodys() -> None:
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        raise KeyError("gone")

    shared: Shared[int] = Shared(60.0, 2)
    for _ in range(3):
        with pytest.raises(KeyError):
            await shared.get("key", look)
    assert looks == 1


async def test_only_so_much_is_kept() -> None:
    async def look() -> int:
        return 1

    shared: Shared[int] = Shared(60.0, 3)
    for number in range(10):
        await shared.get(number, look)
    assert len(shared._looks) == 3
