"""What is undone and what is left alone, and a release in words, without a workflow."""

from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident.evidence import Identity
from incident.question import MailContext
from incident.record import ActionRecord, Stage, TicketRecord
from incident.release import (
    Containment,
    Left,
    ReleaseRefused,
    ReleaseRequest,
    Undo,
    in_force,
    left_alone,
    read_lease_answer,
    read_request,
    write_key,
)
from incident.release_record import LeaseQuestion, ReleaseOutcome, ReleaseRecord
from incident.release_telling import details, facts, mail_context, note_text, options, timeline
from incident.requests import AccountRef, ActionState, DeviceRef
from incident.triage import ActionName, Priority
from tests.unit.builders import AT, HOSTILE, NAMES, policy

REQUEST = ReleaseRequest(analyst="ann@example.com", reason="cleared")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029]")


def account(name: str = "jdoe", **changes: Any) -> ActionRecord:
    whole: dict[str, Any] = {
        "action": ActionName.DISABLE_ACCOUNT,
        "target": name,
        "state": ActionState.VERIFIED,
        "account": AccountRef(dn=f"CN={name}", guid="g-1", account=name),
        "before": {"userAccountControl": "512"},
        "changed": True,
        "by": "table",
        "at": AT,
    }
    return ActionRecord(**{**whole, **changes})


def host(name: str = "ws-042", **changes: Any) -> ActionRecord:
    whole: dict[str, Any] = {
        "action": ActionName.QUARANTINE_HOST,
        "target": name,
        "state": ActionState.VERIFIED,
        "device": DeviceRef(id="a-1", hostname=name),
        "before": {"status": "normal"},
        "changed": True,
        "by": "table",
        "at": AT,
    }
    return ActionRecord(**{**whole, **changes})


def containment(*actions: ActionRecord, **changes: Any) -> Containment:
    whole: dict[str, Any] = {
        "case_id": "sua-acme-10.20.30.40",
        "run_id": "run-1",
        "key": "hp-0123456789abcdef0123",
        "reference": "HP-01234567",
        "priority": Priority.HIGH,
        "actions": actions or (host(), account()),
        "excluded": (Identity(account="jdoe"), Identity(account="boss", mails=("boss@example.com",))),
        "ticket": TicketRecord(state="open", id="1", number="INC1"),
        "policy": policy(settle_within=timedelta(minutes=1)),
    }
    return Containment(**{**whole, **changes})


def record(known: Containment | None = None) -> ReleaseRecord:
    made = ReleaseRecord(case_id="sua-acme-10.20.30.40")
    made.adopt(known or containment())
    return made


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (account(), None),
        (host(), None),
        (host(before={"status": "not_isolated"}, state=ActionState.UNREACHABLE), None),
        (host(state=ActionState.ACCEPTED), None),
        (account(state=ActionState.PARTIAL), None),
        (account(state=ActionState.FAILED), None),  # a write of ours whose read-back failed may be in force
        (account(before={"userAccountControl": "514"}), Left.NOT_OURS),
        (host(before={"status": "Contained"}), Left.NOT_OURS),
        (host(before={"status": "containment_pending"}), Left.NOT_OURS),
        (account(before={"userAccountControl": "514"}, changed=False, detail="was disabled already"), Left.NOT_OURS),
        (account(before=None), Left.BEFORE_UNKNOWN),
        (account(before={"status": "normal"}), Left.BEFORE_UNKNOWN),
        (account(before={"userAccountControl": "0"}), Left.BEFORE_UNKNOWN),
        (account(before={"userAccountControl": "-1"}), Left.BEFORE_UNKNOWN),
        (account(before={"userAccountControl": "\u0665"}, account=None), Left.BEFORE_UNKNOWN),
        (host(before={"status": "what"}), Left.BEFORE_UNKNOWN),
        (host(before={"status": ""}), Left.BEFORE_UNKNOWN),
        (host(device=None), Left.BEFORE_UNKNOWN),
        (account(changed=False), Left.BEFORE_UNKNOWN),
        (account(changed=False, before=None, state=ActionState.FAILED), Left.BEFORE_UNKNOWN),
        (account(changed=False, before=None, state=ActionState.LEFT_ALONE), Left.NOT_DONE),
        (account(changed=False, before=None, state=ActionState.OBSERVED), Left.NOT_DONE),
    ],
)
def test_what_is_undone_and_what_is_left_alone(action: ActionRecord, why: Left | None) -> None:
    left = left_alone(action, containment(action), AT)
    assert (left[0] if left else None) is why
    assert left is None or left[1]


@pytest.mark.parametrize(
    ("stage", "state", "minutes", "busy"),
    [
        (Stage.CONTAINING, ActionState.VERIFIED, 9, True),
        (Stage.VERIFYING, ActionState.ACCEPTED, 0, True),
        (Stage.VERIFYING, ActionState.ACCEPTED, 9, False),  # the case goes on without this read-back
        (Stage.VERIFYING, ActionState.VERIFIED, 0, False),
        (Stage.AWAITING_DECISION, ActionState.ACCEPTED, 0, False),
        (Stage.AWAITING_DECISION, ActionState.REQUESTED, 9, True),
    ],
)
def test_what_the_case_is_still_at_is_busy(stage: Stage, state: ActionState, minutes: int, busy: bool) -> None:
    action = host(state=state)
    now = AT + timedelta(minutes=minutes)
    left = left_alone(action, containment(action, open=True, stage=stage), now)
    assert (left is not None and left[0] is Left.BUSY) is busy
    closed = left_alone(action, containment(action, stage=stage), now)
    assert closed is None


@given(st.integers(min_value=1, max_value=2**32))
def test_the_bit_alone_says_whether_an_account_was_disabled(value: int) -> None:
    assert in_force(ActionName.DISABLE_ACCOUNT, {"userAccountControl": str(value)}) is bool(value & 2)


def test_a_later_run_that_wants_it_keeps_it() -> None:
    left = left_alone(account(), containment(later="run-2 is containing"), AT)
    assert left == (Left.WANTED, "run-2 is containing")


@pytest.mark.parametrize("raw", [None, 7, [], "release", {}, {"analyst": "a", "reason": "b", "actions": "all"}])
def test_what_is_no_request_is_refused_in_words(raw: Any) -> None:
    with pytest.raises(ReleaseRefused, match="malformed"):
        read_request(raw)
    with pytest.raises(ReleaseRefused, match="malformed"):
        read_lease_answer(raw)


@given(st.dictionaries(st.sampled_from(["analyst", "reason", "actions", "decision", "question"]), HOSTILE | st.none()))
def test_whatever_comes_is_read_or_refused(raw: dict[str, Any]) -> None:
    for read in (read_request, read_lease_answer):
        try:
            told = read(raw)
        except ReleaseRefused:
            continue
        assert not _CONTROL.search(told.analyst + told.reason)


def test_the_second_request_gets_the_first_ones_receipt() -> None:
    made = record()
    first = made.accept(REQUEST, AT, "r-1")
    assert [undo.state for undo in made.to_do] == [ActionState.REQUESTED] * 2
    assert made.accept(REQUEST.model_copy(update={"analyst": "lea@example.com"}), AT, "r-1") is first
    assert made.by == "ann@example.com"
    for undo in made.actions:
        undo.state = ActionState.FAILED
    assert made.accept(REQUEST, AT, "r-1") is not first, "what failed may be asked for again"
    assert len(made.to_do) == len(made.actions) == 2


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        ([], ReleaseOutcome.NOTHING_TO_RELEASE),
        ([ActionState.VERIFIED], ReleaseOutcome.RELEASED),
        ([(ActionState.LEFT_ALONE, Left.UNDONE), ActionState.VERIFIED], ReleaseOutcome.RELEASED),
        ([(ActionState.LEFT_ALONE, Left.NOT_OURS), ActionState.VERIFIED], ReleaseOutcome.RELEASED),
        ([(ActionState.LEFT_ALONE, Left.BEFORE_UNKNOWN), ActionState.VERIFIED], ReleaseOutcome.PARTIALLY_RELEASED),
        ([(ActionState.LEFT_ALONE, Left.GONE), ActionState.VERIFIED], ReleaseOutcome.PARTIALLY_RELEASED),
        ([ActionState.UNREACHABLE], ReleaseOutcome.PARTIALLY_RELEASED),
        ([ActionState.FAILED, ActionState.VERIFIED], ReleaseOutcome.PARTIALLY_RELEASED),
        ([ActionState.FAILED], ReleaseOutcome.RELEASE_FAILED),
        ([(ActionState.LEFT_ALONE, Left.UNDONE)], ReleaseOutcome.NOTHING_TO_RELEASE),
    ],
)
def test_the_outcome_follows_from_the_states(states: list[Any], outcome: ReleaseOutcome) -> None:
    made = record()
    for number, given_state in enumerate(states):
        state, why = given_state if isinstance(given_state, tuple) else (given_state, None)
        undo = Undo(key=str(number), action=ActionName.DISABLE_ACCOUNT, target="x", state=state, why=why, by="a", at=AT)
        made.actions.append(undo)
    assert made.result() is outcome


def test_a_later_run_joins_and_what_the_first_one_did_is_kept() -> None:
    made = record(containment(account("first")))
    found_so = account("first", changed=False, before={"userAccountControl": "514"})
    made.join(containment(host(), found_so, run_id="run-2"), timedelta(days=1), AT)
    assert made.containment is not None
    assert {write_key(action) for action in made.standing(AT)} == {"quarantine_host/a-1", "disable_account/g-1"}
    assert (made.containment.run_id, made.lease_until) == ("run-2", AT + timedelta(days=1))


def test_the_question_comes_before_the_end_and_at_most_a_day() -> None:
    made = record()
    for lease, before in ((timedelta(hours=10), timedelta(hours=1)), (timedelta(days=100), timedelta(days=1))):
        made.grant(lease, AT)
        assert made.ask_at == AT + lease - before
        made.renew("ann@example.com", AT)
        assert made.lease_until == AT + 2 * lease, "an early answer cuts nothing off"
        made.renew("ann@example.com", AT + 5 * lease)
        assert made.lease_until == AT + 6 * lease, "a late one is followed by a whole lease"


def _asking(name: str) -> ReleaseRecord:
    made = record(containment(host(name), account(name), later=None))
    made.case_id = name
    made.grant(timedelta(days=7), AT)
    made.note(AT, name)
    made.question = LeaseQuestion(id="HP-01234567-L1", posed_at=AT, tier=name, due_at=AT, why=name)
    return made


@settings(max_examples=60)
@given(NAMES, HOSTILE)
def test_hostile_names_stay_text_everywhere(name: str, reason: str) -> None:
    made = _asking(name)
    made.renewed_by = name
    context = mail_context(made, name, AT)
    assert MailContext.model_validate(context.model_dump(mode="json")) == context
    made.accept(REQUEST.model_copy(update={"reason": reason or "x"}), AT, "r-1")
    made.outcome = made.result()
    texts = [timeline(made), note_text(made, reason, "[m]"), *(line.value or "" for line in facts(made, AT))]
    for text in texts:
        assert not _CONTROL.search(text)
    shown = details(made, AT)
    fences = [line for line in shown.splitlines() if line.startswith("```")]
    assert len(fences) == 8, "a command is one line, which no name can end"
    assert not re.search(r"(?<!\\)<script", re.sub(r"```\n.*\n```", "", shown))


@given(NAMES)
def test_the_commands_are_words_of_a_shell(name: str) -> None:
    made = _asking(name)
    assert made.question is not None
    for option, word in zip(options(made, made.question, AT), ("release", "renew"), strict=True):
        assert option.decision == word
        for command in (option.command_update, option.command_signal):
            words = shlex.split(command)
            assert words[words.index("--workflow-id") + 1].startswith("release-")
            assert json.loads(words[-1])["decision"] == word
        assert shlex.split(option.command_starter)[:3] == ["python", "starter.py", word]
