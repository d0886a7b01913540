"""The poller's schedule from a shell."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from cases import CaseRefused
from polling import remove_poller
from tests.cli.desk import Desk


@pytest.fixture
async def polled(desk: Desk) -> AsyncIterator[Desk]:
    """A desk whose settings want a poller; its schedule goes with the test."""
    desk.env["HOLDPOINT_SECURONIX__POLL_EVERY"] = "1h"
    yield desk
    with contextlib.suppress(CaseRefused):
        await remove_poller(desk.client)


async def test_install_pause_resume_status_remove(polled: Desk) -> None:
    told = await polled.json("poll", "install")
    assert told == {"schedule": "holdpoint-poll-securonix", "created": True, "every": "3600s", "overlap": "600s"}
    polled.env["HOLDPOINT_SECURONIX__POLL_EVERY"] = "2h"
    again = await polled.json("poll", "install", "--since", "12h")
    assert (again["created"], again["every"]) == (False, "7200s")
    assert await polled.json("poll", "pause", "--note", "maintenance") == {
        "schedule": "holdpoint-poll-securonix",
        "paused": True,
    }
    state = await polled.json("poll", "status")
    assert (state["paused"], state["note"], state["every"]) == (True, "maintenance", "7200s")
    shown = await polled.starter("poll", "status")
    assert (shown.code, shown.out.splitlines()[0]) == (0, "PAUSED: maintenance")
    assert (await polled.json("poll", "resume"))["paused"] is False
    assert (await polled.json("poll", "status"))["next_at"]
    assert (await polled.json("poll", "remove"))["removed"] is True
    gone = await polled.starter("poll", "status", "--json")
    assert gone.code == 1
    assert "poll install" in json.loads(gone.out)["error"]


@pytest.mark.parametrize("command", ["pause", "resume", "status", "remove"])
async def test_without_a_poller_it_says_what_to_do(desk: Desk, command: str) -> None:
    ran = await desk.starter("poll", command)
    assert ran.code == 1
    assert ran.err == "the poller is not installed: run 'python starter.py poll install'\n"


async def test_settings_that_want_none_and_bad_lengths_are_refused(desk: Desk) -> None:
    ran = await desk.starter("poll", "install")
    assert (ran.code, ran.err) == (1, "the settings want no poller: set securonix.poll_every\n")
    for since in ("soon", "-1h"):
        ran = await desk.starter("poll", "install", f"--since={since}")
        assert ran.code == 2
        assert "is not a duration" in ran.err
    desk.env["HOLDPOINT_SECURONIX__POLL_EVERY"] = "1s"
    ran = await desk.starter("poll", "install")
    assert ran.code == 2
    assert "securonix.poll_every: must be at least 10s" in ran.err
