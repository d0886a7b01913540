"""Exporting a case's record from a shell, and finding out whether it was changed."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from incident.sealing import key_id, seal
from starter import Started
from tests import processes
from tests.cli.desk import Desk
from tests.workflows.world import ANALYST, alert, policy

KEY = "a-key-of-the-tests-that-is-long-enough"


@pytest.fixture
async def closed(desk: Desk) -> Started:
    """A case that was asked about, answered and closed, on a desk that has a key."""
    desk.env["HOLDPOINT_RECORD__KEY"] = KEY
    started = await desk.held()
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    await desk.handle(started).execute_update("decide", answer)
    await desk.end(started)
    return started


def file_of(desk: Desk, sealed: Any, name: str = "changed.json") -> str:
    path = desk.folder / name
    path.write_text(sealed if isinstance(sealed, str) else json.dumps(sealed), encoding="utf-8")
    return str(path)


async def test_a_record_is_exported_and_verified(desk: Desk, closed: Started) -> None:
    json_file, html_file = desk.folder / "record.json", desk.folder / "record.html"
    ran = await desk.starter("record", closed.case_id, "--out", str(json_file), "--html", str(html_file))
    assert (ran.code, ran.err) == (0, "")
    sealed = json.loads(json_file.read_bytes())
    assert ran.out == f"{sealed['record']['entries']} entries of {closed.case_id}, head {sealed['head']}\n"
    assert (sealed["case_id"], sealed["outcome"], sealed["key_id"]) == (closed.case_id, "contained", key_id(KEY))
    assert sealed["head"] in html_file.read_text(encoding="utf-8")

    told, again, words = await asyncio.gather(
        desk.json("verify-record", str(json_file)),
        desk.json("record", closed.case_id),
        desk.starter("verify-record", str(json_file)),
    )
    assert again == sealed
    assert (told["valid"], told["keyed"], told["seals_checked"], told["history_checked"]) == (True, True, True, True)
    assert "the case's result" in told["head_is_in"]
    assert words.code == 0
    assert words.out.splitlines()[-1].startswith("nothing was changed: ")


async def test_what_was_changed_is_told_with_its_place(desk: Desk, closed: Started) -> None:
    sealed = await desk.json("record", closed.case_id)
    changed = copy.deepcopy(sealed)
    changed["events"][3]["text"] = "nothing happened"
    changed["decision"]["analyst"] = "mallory@acme.example"
    ran, offline = await asyncio.gather(
        desk.starter("verify-record", file_of(desk, changed)),
        desk.starter("verify-record", file_of(desk, changed), "--offline", "--json"),
    )
    assert ran.code == 1
    assert "CHANGED entry 3: it does not fit its digest" in ran.out
    assert "CHANGED decision: " in ran.out
    assert ran.out.splitlines()[-1].startswith("NOT valid: ")
    assert offline.code == 1
    assert [one["where"] for one in json.loads(offline.out)["findings"]] == ["entry 3", "decision"]


async def test_a_forger_who_has_the_key_is_found_by_the_history_alone(desk: Desk, closed: Started) -> None:
    told = await desk.client.get_workflow_handle(closed.case_id).query("record")
    told["decision"]["reason"] = "the chief wanted it"
    forged = file_of(desk, seal(told, KEY))
    offline, held = await asyncio.gather(
        desk.starter("verify-record", forged, "--offline"), desk.starter("verify-record", forged, "--json")
    )
    assert offline.code == 0
    assert "not held against Temporal's history" in offline.out
    assert held.code == 1
    assert [one["where"] for one in json.loads(held.out)["findings"]] == ["decision"]


async def test_without_a_key_both_commands_say_so(desk: Desk, closed: Started) -> None:
    del desk.env["HOLDPOINT_RECORD__KEY"]
    out = str(desk.folder / "bare.json")
    ran = await desk.starter("record", closed.case_id, "--out", out)
    assert ran.code == 0
    assert "not sealed, so anybody could have written it" in ran.err
    bare = await desk.starter("verify-record", out)
    assert bare.code == 0
    assert "chained, and not sealed with a key, held against Temporal's history" in bare.out
    desk.env["HOLDPOINT_RECORD__KEY"] = KEY
    keyed = await desk.starter("verify-record", out)
    assert keyed.code == 1
    assert "there are none with a key" in keyed.out


async def test_a_wrong_key_and_none_are_told_from_a_change(desk: Desk, closed: Started) -> None:
    sealed = file_of(desk, await desk.json("record", closed.case_id))
    for key, words in (("another-key-that-is-long-enough", "a wrong key"), ("", "no key was given")):
        desk.env["HOLDPOINT_RECORD__KEY"] = key
        told = await desk.starter("verify-record", sealed, "--json")
        assert told.code == 1
        assert json.loads(told.out)["findings"] == []
        assert words in json.loads(told.out)["unchecked"][0]


async def test_it_needs_no_settings_and_no_temporal(desk: Desk, closed: Started, tmp_path: Path) -> None:
    sealed = file_of(desk, await desk.json("record", closed.case_id))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "record__key").write_text(KEY + "\n", encoding="utf-8")
    env = processes.variables(tmp_path, HOLDPOINT_SECRETS_DIR=str(secrets), TEMPORAL_ADDRESS="127.0.0.1:1")
    env["HOLDPOINT_CONFIG"] = ""
    offline, online = await asyncio.gather(
        processes.starter("verify-record", sealed, "--offline", env=env),
        processes.starter("verify-record", sealed, env=env),
    )
    assert (offline.code, offline.err) == (0, "")
    assert online.code == 1
    assert "NOT CHECKED Temporal's history: no Temporal server answers" in online.out


async def test_an_open_case_is_held_against_itself(desk: Desk) -> None:
    desk.env["HOLDPOINT_RECORD__KEY"] = KEY
    started = await desk.held()
    sealed = await desk.json("record", started.case_id)
    told = await desk.json("verify-record", file_of(desk, sealed))
    assert told["head_is_in"] == ["the case itself"]
    other = await desk.starter("verify-record", file_of(desk, sealed), "--case", "sua-acme-192.0.2.1")
    assert other.code == 1
    assert "CHANGED case_id: it names another case" in other.out


async def test_what_the_release_undid_is_in_the_record(desk: Desk, closed: Started) -> None:
    await desk.json("release", closed.case_id, "--analyst", ANALYST, "--reason", "the new backup")
    page = desk.folder / "record.html"
    sealed = await desk.json("record", closed.case_id)
    assert {undo["state"] for undo in sealed["undo"]["actions"]} == {"verified"}
    told = await desk.json("record", closed.case_id, "--html", str(page))
    assert told == {**sealed["record"], "key_id": key_id(KEY), "out": None, "html": str(page)}
    assert "the new backup" in page.read_text(encoding="utf-8")
    assert (await desk.json("verify-record", file_of(desk, sealed)))["valid"]


async def test_bad_input_has_its_own_exit_code(desk: Desk) -> None:
    for text, words in (
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "it is no JSON object"),
        ('{"format": "holdpoint-record/2"}', "its format is not holdpoint-record/1"),
        ('{"format": "holdpoint-record/1", "format": "holdpoint-record/1"}', "format stands twice in one object"),
        ('{"format": "holdpoint-record/1", "head": NaN}', "NaN is no number of JSON"),
    ):
        ran = await desk.starter("verify-record", file_of(desk, text))
        assert (ran.code, ran.out) == (2, ""), text
        assert words in ran.err
    assert (await desk.starter("verify-record", str(desk.folder / "none.json"))).code == 2
    assert (await desk.starter("verify-record", str(desk.folder))).code == 2
    desk.env["HOLDPOINT_RECORD__KEY"] = "short"
    assert (await desk.starter("verify-record", file_of(desk, "{}"))).code == 2
    del desk.env["HOLDPOINT_RECORD__KEY"]
    nobody = await desk.starter("record", "sua-acme-192.0.2.1")
    assert nobody.code == 1
    assert "there is no case" in nobody.err


async def test_a_file_that_cannot_be_written_is_said(desk: Desk, closed: Started) -> None:
    ran = await desk.starter("record", closed.case_id, "--out", str(desk.folder / "none" / "record.json"))
    assert ran.code == 1
    assert "No such file" in ran.err


async def test_the_attached_record_is_vouched_for_without_a_worker(desk: Desk) -> None:
    desk.env["HOLDPOINT_RECORD__KEY"] = KEY
    started = await desk.start(alert(), policy(attach_record=True))
    await desk.end(started)
    (content,) = [content for name, content in desk.world.attached.items() if name.endswith(".json")]
    attached = json.loads(content)
    del desk.env["HOLDPOINT_RECORD__KEY"]
    told = await desk.starter("verify-record", file_of(desk, attached), "--json")
    assert "the record that was attached" in json.loads(told.out)["head_is_in"]
    assert json.loads(told.out)["findings"] == []
