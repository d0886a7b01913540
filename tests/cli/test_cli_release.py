"""Undoing a containment, and renewing its lease, from a shell."""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import timedelta

from integrations.errors import Refused
from starter import Started
from tests.cli.desk import Desk
from tests.workflows.world import ANALYST, alert, policy

WHO = ("--analyst", ANALYST, "--reason", "the new backup")


async def contained(desk: Desk, lease: timedelta | None = None) -> Started:
    started = await desk.start(alert(), policy(lease=lease, verify_within=timedelta(seconds=3)))
    assert (await desk.end(started))["outcome"] == "contained"
    return started


async def test_a_case_is_released_and_released_again(desk: Desk) -> None:
    case = (await contained(desk)).case_id
    ran = await desk.starter("release", case, *WHO)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"release taken for {case} (run ")
    assert "disable_account jdoe: verified" in ran.out
    assert "quarantine_host FIN-LT-042: verified" in ran.out
    assert lines[-1] == "outcome released"
    assert (desk.world.disabled, desk.world.contained) == (False, False)
    one, other = await asyncio.gather(desk.json("release", case, *WHO), desk.json("release", case, *WHO, "--no-wait"))
    assert (one["outcome"], one["by"], one["reason"]) == ("released", ANALYST, "the new backup")
    assert other.items() <= {**one, "actions": other["actions"]}.items()
    assert sorted(desk.world.writes[2:]) == ["enable", "lift"]


async def test_one_half_alone(desk: Desk) -> None:
    case = (await contained(desk)).case_id
    told = await desk.json("release", case, *WHO, "--action", "disable_account")
    assert [(undo["action"], undo["state"]) for undo in told["actions"]] == [("disable_account", "verified")]
    assert desk.world.contained


async def test_what_is_refused_and_what_fails_says_why(desk: Desk) -> None:
    case = (await contained(desk)).case_id
    refused, nobody, bad, run = await asyncio.gather(
        desk.starter("release", case, "--analyst", "mallory@acme.example", "--reason", "x"),
        desk.starter("release", "sua-acme-192.0.2.1", *WHO, "--json"),
        desk.starter("release", case, *WHO, "--action", "burn"),
        desk.starter("release", "bell\x07", *WHO),
    )
    assert (refused.code, refused.out) == (1, "")
    assert "not named as an analyst" in refused.err
    assert nobody.code == 1
    assert "there is no case sua-acme-192.0.2.1" in json.loads(nobody.out)["error"]
    assert bad.code == 2
    assert "must be among quarantine_host, disable_account" in bad.err
    assert run.code == 1
    assert "\x07" not in run.err
    assert desk.world.disabled

    desk.world.always["enable"] = desk.world.always["lift"] = Refused("the account lacks the right")
    failed = await desk.starter("release", case, *WHO)
    assert failed.code == 1
    assert "lacks the right" in failed.out
    assert failed.out.splitlines()[-1] == "outcome release_failed"


async def test_the_commands_that_the_mail_shows_are_those_that_answer_it(desk: Desk) -> None:
    case = (await contained(desk, timedelta(seconds=1))).case_id
    await desk.mailed(1)
    lease = Started(case_id=f"release-{case}", run_id="", joined=False)
    await desk.until(lease, lambda state: state["question"] and state["question"]["asked"])
    text = desk.world.mails[-1].text
    commands = {
        word: next(line.strip() for line in text.splitlines() if f"starter.py {word}" in line)
        for word in ("renew", "release")
    }
    for word, told in (("renew", f"renewed for {case}"), ("release", "outcome released")):
        filled = commands[word].replace("YOUR-MAIL-ADDRESS", ANALYST).replace("WHY", shlex.quote("it's the backup"))
        program, script, *arguments = shlex.split(filled)
        assert (program, script) == ("python", "starter.py")
        ran = await desk.starter(*arguments)
        assert (ran.code, ran.err) == (0, "")
        assert told in ran.out
    assert not desk.world.disabled
    late = await desk.starter("renew", case, *WHO)
    assert late.code == 1
    assert "renew" in late.err
