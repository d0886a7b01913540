"""The link in a mail: looking decides nothing, and a person who knows whom it is about answers by it."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from bridge.desk.guard import TRIES, TRIES_WITHIN
from incident.policy import Approval
from starter import Started
from tests.bridge.house import OLD_KEY, Desk, form_of, has_form, link, page_of, serving
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, alert, policy

ANSWER = {"decision": "contain", "reason": "seen it at the proxy", "target": "FIN-LT-042"}


async def ask(scene: Scene, steering: Any = None) -> Started:
    """A case that has asked, and whose mail is out."""
    started = await scene.start(alert(), steering)
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    return started


async def status(scene: Scene, started: Started) -> dict[str, Any]:
    told: dict[str, Any] = await scene.handle(started).query("status")
    return told


@pytest.mark.parametrize("target", ["FIN-LT-042", " fin-lt-042 ", "fin-lt-042.corp.example", "jdoe", "JDOE"])
async def test_a_person_answers_by_a_link(scene: Scene, desk: Desk, target: str) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        answer = await browser.answer(path, **ANSWER | {"target": target})
        assert answer.status_code == 303, page_of(answer).text
        shown = await browser.read(answer.headers["location"])
    assert "Your answer was taken: contain" in shown.text
    assert f"by {ANALYST}" in shown.text
    result = await scene.end(started)
    assert (result["decision"]["analyst"], result["outcome"]) == (ANALYST, "contained")
    assert result["decision"]["reason"] == ANSWER["reason"]


async def test_a_narrowed_answer_does_only_that(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        answer = await browser.answer(await desk.link(started, ANALYST), **ANSWER, actions="disable_account")
        assert answer.status_code == 303
    assert (await scene.end(started))["outcome"] == "account_disabled"
    assert scene.world.writes == ["disable"]


async def test_false_positive_touches_nothing(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        answer = await browser.answer(await desk.link(started, ANALYST), **ANSWER | {"decision": "false_positive"})
        assert answer.status_code == 303
    assert (await scene.end(started))["outcome"] == "false_positive"
    assert not scene.world.writes


async def test_looking_decides_nothing_and_is_noted_once(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        assert (await browser.head(path)).status_code == 200
        assert (await status(scene, started))["question"]["seen"] == []
        for query in ("", "?answer=contain", "?decision=contain&reason=x&target=FIN-LT-042"):
            await browser.read(path + query)
    state = await scene.until(started, lambda s: s["question"]["seen"])
    assert [one["analyst"] for one in state["question"]["seen"]] == [ANALYST]
    assert (state["stage"], state["decision"]) == ("awaiting_decision", None)
    events = (await scene.handle(started).query("record"))["events"]
    assert sum("has opened" in event["text"] for event in events) == 1


@pytest.mark.parametrize("hint", ["", "?answer=contain", "?answer=false_positive", "?answer=<b>"])
async def test_nothing_is_chosen_and_no_name_is_in_the_form(scene: Scene, desk: Desk, hint: str) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        text = (await browser.get(await desk.link(started, ANALYST) + hint)).text
    form = text[text.index('<form method="post" action="/answer/') : text.rindex("</form>")]
    assert "checked" not in form
    first = re.search(r'value="(contain|false_positive)"', form)
    assert first
    assert first[1] == ("false_positive" if "false" in hint else "contain")
    target = form[form.index('<label for="target"') : form.index('<button type="submit">')]
    assert "fin-lt-042" not in target.casefold()
    assert "jdoe" not in target.casefold()
    for attribute in re.findall(r'(?:value|placeholder|aria-[a-z]+|title|list)="([^"]*)"', form):
        assert "fin-lt" not in attribute.casefold()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"decision": ""}, "decision"),
        ({"decision": "close"}, "decision"),
        ({"reason": "  "}, "reason"),
        ({"target": ""}, "target"),
        ({"target": "FIN-LT-043"}, "target"),
        ({"target": "fin-lt-042.other\u200b"}, None),
        ({"target": "10.1.1.1"}, "target"),
        ({"decision": "false_positive", "actions": "disable_account"}, "actions"),
        ({"actions": "open_ticket"}, "actions"),
    ],
)
async def test_a_form_that_lacks_something_is_shown_again(
    scene: Scene, desk: Desk, changes: dict[str, str], field: str | None
) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        answer = await browser.answer(await desk.link(started, ANALYST), **ANSWER | {"reason": "my reason"} | changes)
    if field is None:
        assert answer.status_code == 303
        return
    assert answer.status_code == 422
    assert f'id="{field}-fault"' in answer.text
    assert re.search(rf'aria-describedby="[^"]*{field}-fault', answer.text)
    if "reason" not in changes:
        assert ">my reason</textarea>" in answer.text
    assert (await status(scene, started))["decision"] is None


async def test_a_form_of_elsewhere_is_not_taken(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path, other = await desk.link(started, ANALYST), await desk.link(started, ON_CALL)
    async with desk.browser() as browser, desk.browser() as thief:
        form = form_of(await browser.read(path))
        foreign = await thief.fill(form, **ANSWER)
        assert foreign.status_code == 403
        assert "Nothing was done" in foreign.text
        assert ">seen it at the proxy</textarea>" in foreign.text
        # The form that it is answered with is good: nobody types everything anew.
        own = form_of(await thief.read(other))
        own.action = form.action
        assert (await thief.fill(own, **ANSWER)).status_code == 403
        assert (await browser.post(path, data=ANSWER)).status_code == 403
        headers = {"sec-fetch-site": "cross-site"}
        hidden = {one.name: one.value for one in form.fields if one.kind == "hidden"}
        assert (await browser.post(path, data=hidden | ANSWER, headers=headers)).status_code == 403
        assert (await status(scene, started))["decision"] is None
        assert (await browser.fill(form, **ANSWER)).status_code == 303


async def test_nobody_guesses_names(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        form = form_of(await browser.read(path))
        wrong = [browser.fill(form, **ANSWER | {"target": f"guess-{n}"}) for n in range(20)]
        statuses = [answer.status_code for answer in await asyncio.gather(*wrong)]
        assert statuses.count(422) == TRIES - 1
        assert statuses.count(429) == 20 - TRIES + 1
        right = await browser.fill(form, **ANSWER)
        assert right.status_code == 429
        assert 0 < int(right.headers["retry-after"]) <= TRIES_WITHIN
        assert (await browser.answer(await desk.link(started, ON_CALL), **ANSWER)).status_code == 303


async def test_words_that_scanners_try_lock_nobody_out(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        page = await browser.read(path)
        form = form_of(page)
        hidden = {one.name: one.value for one in form.fields if one.kind == "hidden"}
        for word in (
            "FIN-LT-042",
            "jdoe",
            "contain",
            "false positive FIN-LT-042",
            "containFIN-LT-042",
            *page.words[:20],
        ):
            sent = {**hidden, **ANSWER, "target": word}
            answer = await browser.post(path, data=sent)
            assert answer.status_code == 422, word
        assert (await status(scene, started))["decision"] is None
        assert (await browser.fill(form, **ANSWER)).status_code == 303


async def test_the_same_answer_twice_is_one(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        form = form_of(await browser.read(path))
        answers = await asyncio.gather(*(browser.fill(form, **ANSWER) for _ in range(3)))
        assert [answer.status_code for answer in answers] == [303, 303, 303]
        again = await browser.fill(form, **ANSWER)
        assert again.status_code in (303, 409)
        assert "Your answer was taken" in (await browser.read(path)).text
    result = await scene.end(started)
    assert not result["dissent"]
    assert scene.world.writes.count("disable") == 1


async def test_the_second_sees_who_decided_and_may_disagree(scene: Scene, desk: Desk) -> None:
    scene.world.gates["quarantine"] = asyncio.Event()
    started = await ask(scene)
    mine, theirs = await desk.link(started, ANALYST), await desk.link(started, LEAD)
    async with desk.browser() as first, desk.browser() as second:
        late = form_of(await second.read(theirs))
        assert (await first.answer(mine, **ANSWER)).status_code == 303
        own = await first.read(mine)
        assert not has_form(own)
        shown = await second.read(theirs)
        assert f"by {ANALYST}" in shown.text
        assert ANSWER["reason"] in shown.text
        assert "changes nothing" in shown.text
        # An agreeing one, of a form that was open before, adds nothing.
        agreed = await second.fill(late, **ANSWER)
        assert agreed.status_code == 303
        assert "decided the same before" in (await second.read(theirs)).text
        assert not (await status(scene, started))["dissent"]
        kept = await second.answer(theirs, **ANSWER | {"decision": "false_positive", "reason": "it was the backup"})
        assert kept.status_code == 303, page_of(kept).text
        await scene.until(started, lambda s: s["dissent"])
        told = await second.read(theirs)
        assert "It changes nothing" in told.text
        assert "it was the backup" in told.text
    scene.world.gates["quarantine"].set()
    result = await scene.end(started)
    assert result["outcome"] == "contained"
    assert [one["analyst"] for one in result["dissent"]] == [LEAD]
    async with desk.browser() as second:
        over = await second.until(theirs, "The case is closed")
        assert not has_form(over)


async def test_a_closed_case_takes_no_dissent(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, LEAD)
    async with desk.browser() as browser, desk.browser() as other:
        form = form_of(await browser.read(path))
        await other.answer(await desk.link(started, ANALYST), **ANSWER)
        await scene.end(started)
        refused = await browser.fill(form, **ANSWER | {"decision": "false_positive"})
        assert refused.status_code == 409
        assert "The answer was not taken" in refused.text
        assert "nothing can be added" in refused.text


@pytest.mark.parametrize("place", [0, 5, -1])
async def test_an_altered_link_says_nothing(scene: Scene, desk: Desk, place: int) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    token = list(path.removeprefix("/answer/"))
    token[place] = "A" if token[place] != "A" else "B"
    foreign = link(started, "HP-1", "d", ANALYST, key="another key, and as long as that")
    async with desk.browser() as browser:
        for wrong in (f"/answer/{''.join(token)}", foreign, "/answer/x", "/answer/x.y", f"/answer/{'a' * 5000}"):
            answer = await browser.get(wrong)
            assert answer.status_code == 404
            assert (await browser.post(wrong, data=ANSWER)).status_code == 404
            assert started.case_id not in answer.text
            assert "FIN-LT" not in answer.text
            assert "Traceback" not in answer.text


async def test_an_expired_link_says_so(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with desk.browser() as browser:
        answer = await browser.get(path)
        assert answer.status_code == 410
        assert "FIN-LT" not in answer.text
        assert (await browser.post(path, data=ANSWER)).status_code == 410


async def test_the_key_before_still_opens_its_links(scene: Scene, dev_server: WorkflowEnvironment) -> None:
    started = await ask(scene)
    async with serving(dev_server.client, previous_key=OLD_KEY) as desk, desk.browser() as browser:
        old = await desk.link(started, ANALYST, key=OLD_KEY)
        assert has_form(await browser.read(old))
        assert (await browser.answer(old, **ANSWER)).status_code == 303
    async with serving(dev_server.client) as desk, desk.browser() as browser:
        await browser.read(old, 404)


async def test_a_link_of_no_case_is_told_as_none(scene: Scene, desk: Desk) -> None:
    gone = Started(case_id="sua-acme-192.0.2.1", run_id="00000000-0000-4000-8000-000000000000", joined=False)
    odd = Started(case_id="sua-acme-192.0.2.1", run_id="no run", joined=False)
    async with desk.browser() as browser:
        for started in (gone, odd):
            await browser.read(link(started, "HP-1-Q1", "", ANALYST), 404)


async def test_who_may_not_answer_any_more_sees_nothing(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    state = await status(scene, started)
    async with desk.browser() as browser:
        for who in ("john.doe@acme.example", "boss@acme.example", "nobody@acme.example"):
            path = link(started, state["question"]["id"], state["question"]["digest"], who)
            answer = await browser.get(path)
            assert answer.status_code == 403
            assert "FIN-LT" not in answer.text
            assert (await browser.post(path, data=ANSWER)).status_code == 403
    assert (await status(scene, started))["question"]["seen"] == []


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("x" * 20_000, "application/x-www-form-urlencoded", 413),
        ("{}", "application/json", 415),
        ("x", "multipart/form-data; boundary=x", 415),
        ("&".join(f"a{n}=1" for n in range(100)), "application/x-www-form-urlencoded", 400),
        ("decision=%ff%fe&reason=%00", "application/x-www-form-urlencoded", 403),
    ],
)
async def test_what_is_no_form_of_ours(scene: Scene, desk: Desk, body: str, kind: str, expected: int) -> None:
    started = await ask(scene)
    async with desk.browser() as browser:
        answer = await browser.post(await desk.link(started, ANALYST), content=body, headers={"content-type": kind})
    assert answer.status_code == expected
    assert "<h1>" in answer.text


async def test_other_methods_are_refused_plainly(scene: Scene, desk: Desk) -> None:
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await browser.request(method, path)
            assert answer.status_code == 405
            assert "<h1>" in answer.text


async def test_two_tiers_approve_a_protected_target(scene: Scene, desk: Desk) -> None:
    guardrails = policy().guardrails.model_copy(
        update={"protected_accounts": ("jdoe",), "protected_approval": Approval.TWO_TIERS}
    )
    started = await ask(scene, policy(guardrails=guardrails))
    async with desk.browser() as browser:
        await browser.answer(await desk.link(started, ANALYST), **ANSWER)
    await scene.until(started, lambda s: s["question"] and s["question"]["quorum"] == 2)
    mine, theirs = await desk.link(started, ANALYST), await desk.link(started, LEAD)
    async with desk.browser() as first, desk.browser() as second:
        form = form_of(await first.read(mine))
        for _ in range(2):
            one = await first.fill(form, **ANSWER | {"target": "jdoe"})
            assert one.status_code == 303
        shown = await first.read(mine)
        assert "You have approved this" in shown.text
        assert "Approved so far" in (await second.read(theirs)).text
        refused = await first.answer(mine, **ANSWER | {"target": "jdoe", "reason": "once more"})
        assert refused.status_code == 409
        assert "approved" in page_of(refused).text
        assert ">once more</textarea>" in refused.text
        assert (await second.answer(theirs, **ANSWER | {"target": "FIN-LT-042"})).status_code == 422
        assert (await second.answer(theirs, **ANSWER | {"target": "jdoe"})).status_code == 303
    assert (await scene.end(started))["outcome"] == "contained"


async def test_no_link_and_no_answer_is_kept_anywhere(
    scene: Scene, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    started = await ask(scene)
    path = await desk.link(started, ANALYST)
    async with desk.browser() as browser:
        answer = await browser.answer(path, **ANSWER)
        seen = [answer, await browser.get(path), await browser.get("/nothing-here"), await browser.get("/answer/x")]
    for one in seen:
        assert one.headers["cache-control"] == "no-store"
        assert one.headers["referrer-policy"] == "no-referrer"
        assert one.headers["x-content-type-options"] == "nosniff"
        policies = one.headers["content-security-policy"]
        assert "default-src 'none'" in policies
        assert "unsafe" not in policies
        assert not re.search(r"<script(?![^>]+src=)|<style| style=| on[a-z]+=", one.text)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', one.text)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("holdpoint", "uvicorn"))]
    assert any(f"answer of {ANALYST}" in line for line in ours)
    assert not any(path.removeprefix("/answer/")[:40] in line for line in ours)
    cookies = [value for one in seen for value in one.headers.get_list("set-cookie")]
    assert cookies
    assert all("httponly" in value.lower() and "samesite=strict" in value.lower() for value in cookies)


async def test_hostile_names_stay_text(scene: Scene, desk: Desk) -> None:
    hostile = '<script>alert(1)</script>"onload=x'
    scene.world.host = hostile
    started = await scene.start(alert(rule=hostile))
    await scene.until(started, lambda s: s["question"])
    async with desk.browser() as browser:
        page = await browser.get(await desk.link(started, ANALYST))
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text
        answer = await browser.answer(str(page.url.path), **ANSWER | {"target": hostile, "reason": hostile})
        assert answer.status_code in (303, 422)
        shown = await browser.get(str(page.url.path))
        assert "<script>alert" not in shown.text
