"""The record of a whole case: exported, sealed, on the ticket, and held against Temporal's own history."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from activities.record_page import page
from incident.sealing import examine, seal
from record_history import against_history
from starter import Started
from tests.workflows.world import ANALYST, Scene, alert, policy

KEY = "a key of the tests, long enough"
HOSTILE = "<script>alert(1)</script>"


async def recorded(scene: Scene, started: Started) -> dict[str, Any]:
    told: dict[str, Any] = await scene.handle(started).query("record")
    return seal(told, KEY)


async def test_it_is_on_the_ticket_when_the_case_closes(scene: Scene) -> None:
    final = await scene.run(alert(), policy(attach_record=True))
    names = sorted(scene.world.attached)
    assert names == [f"{final['reference']}-record.html", f"{final['reference']}-record.json"]
    sealed = json.loads(scene.world.attached[names[1]])
    assert examine(sealed, KEY).valid
    assert sealed["outcome"] == "contained"
    assert (await against_history(scene.client, sealed)).findings == ()


async def test_a_record_that_cannot_be_attached_fails_no_case(fast: Scene) -> None:
    fast.world.always["attach"] = RuntimeError("no room")
    final = await fast.run(alert(), policy(attach_record=True))
    assert final["outcome"] == "contained"


async def test_history_agrees_with_what_was_not_changed(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert())
    await scene.until(started, lambda state: state["question"])
    early = await recorded(scene, started)
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    await scene.handle(started).execute_update("decide", answer)
    final = await scene.end(started)
    late = await recorded(scene, started)
    assert late["record"] == final["record"]
    for sealed in (early, late):
        held = await against_history(scene.client, sealed)
        if sealed is late:
            assert (held.findings, held.unchecked) == ((), ())
    assert any(entry["actor"] == ANALYST for entry in late["events"])


async def test_a_forger_with_the_key_is_found_by_the_history(scene: Scene) -> None:
    """Whoever has the key can seal another story; Temporal keeps its own."""
    started = await scene.start(alert())
    await scene.end(started)
    true = await scene.handle(started).query("record")
    other = alert(destination_ip=true["alert"]["destination_ip"])
    forged = seal({**true, "alert": other.model_dump(mode="json")}, KEY)
    assert examine(forged, KEY).valid
    assert [one.where for one in (await against_history(scene.client, forged)).findings] == ["alert"]
    shorter = seal({**true, "events": [e for e in true["events"] if "disable_account" not in e["text"]]}, KEY)
    assert (await against_history(scene.client, shorter)).findings
    unknown = seal({**true, "case_key": "hp-0"}, KEY)
    assert (await against_history(scene.client, unknown)).unchecked


async def test_the_page_shows_hostile_text_as_text(scene: Scene) -> None:
    scene.world.host = HOSTILE
    started = await scene.start(alert(rule=HOSTILE))
    await scene.end(started)
    shown = page(await recorded(scene, started))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "http" not in shown.replace("http-equiv", "")

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[str] = set()

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.seen.add(tag)

    tags = Tags()
    tags.feed(shown)
    assert {"svg", "table", "h2"} <= tags.seen
    assert "script" not in tags.seen
