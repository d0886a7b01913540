"""Names that an attacker chose reach a terminal as visible text only."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

import starter
from tests.cli.desk import Desk, settings_file
from tests.workflows.world import ANALYST, World, alert

EVIL = "FIN'\"*\\\n\r<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07\x9b31m\u202e[red]%s$(id)\u200b"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys rather than shows; a line feed ends a line that is ours."""

LITERAL = ("FIN'\"*\\", "<script>alert(1)</script>", "[red]%s$(id)")


def hostile(world: World) -> None:
    world.host = world.account = EVIL
    changes = {"account": EVIL, "display_name": EVIL, "title": EVIL}
    world.person = world.person.model_copy(update=changes)


async def test_names_of_a_paused_case(desk: Desk) -> None:
    hostile(desk.world)
    desk.world.sightings = 0
    given = alert(id=EVIL, rule=EVIL, source_host=EVIL, user_account=EVIL, extra=EVIL)
    started = await desk.starter("start", desk.file(given))
    await desk.mailed(1)
    case = given.case_id
    said = [
        started,
        *await asyncio.gather(
            desk.starter("status", case),
            desk.starter("status", case, "--json"),
            desk.starter("list"),
            desk.starter("decide", case, "contain", "--analyst", EVIL, "--reason", EVIL),
        ),
    ]
    for ran in said:
        assert not STEERING.search(ran.out + ran.err), (ran.out, ran.err)
    assert [ran.code for ran in said] == [0, 0, 0, 0, 1]
    for literal in LITERAL:
        assert literal in said[1].out
    assert json.loads(said[2].out)["user"]["value"] == EVIL


@pytest.mark.parametrize(
    "arguments",
    [
        ("decide", "x", EVIL, "--analyst", ANALYST, "--reason", "x"),
        ("start", EVIL),
        ("start", EVIL, "--json"),
        (f"--{EVIL}",),
        (EVIL,),
    ],
)
def test_words_of_a_command(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDPOINT_CONFIG", str(settings_file(tmp_path)))
    assert starter.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err
    assert not STEERING.search(said.out + said.err)


async def test_names_of_a_case_that_is_watched(desk: Desk) -> None:
    hostile(desk.world)
    given = alert(rule=EVIL)
    ran = await desk.starter("start", "--wait", desk.file(given))
    assert ran.code == 0
    assert not STEERING.search(ran.out + ran.err)
    assert desk.world.writes


async def test_text_that_is_not_unicode(desk: Desk) -> None:
    case = (await desk.held()).case_id
    torn = "\udcff"
    given = alert().model_dump(mode="json") | {"rule": "\ud800", "more": {"\ud800": ["\ud800"]}}
    ran = await asyncio.gather(
        desk.starter("status", torn),
        desk.starter("decide", case, "contain", "--analyst", torn, "--reason", torn),
        desk.starter("start", desk.file(given)),
    )
    assert [one.code for one in ran] == [1, 1, 0]
    assert all(len(one.err.splitlines()) <= 1 for one in ran)
