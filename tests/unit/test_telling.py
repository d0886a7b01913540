"""A case in words: nothing untrusted steers the reader's terminal or page, and commands can be pasted as they are."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from incident.evidence import Corroboration, Fact, Group, Host, Identity, Person, Risk, Sighting
from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered
from incident.question import AnswerOption
from incident.record import ActionRecord, Asked, CaseRecord, DecidedBy, Decision, Outcome, Question, TicketRecord
from incident.requests import ActionState
from incident.telling import (
    clock,
    details,
    effect,
    fact_lines,
    headline,
    mail_context,
    options,
    related,
    size,
    summary,
    ticket_title,
    timeline,
    what_then,
    why_asked,
)
from incident.triage import CONTAIN, ActionName, RiskLevel
from tests.unit.builders import AT, HOSTILE, NAMES, alert, device, learn, person, policy, record

QUARANTINE, DISABLE = CONTAIN


def question(
    *actions: ActionName, tier: str = "analyst", why: str = "Risk is medium.", protected: bool = False
) -> Question:
    name = "HP-0A1B2C3D-Q1"
    return Question(id=name, actions=actions or CONTAIN, protected=protected, tier=tier, due_at=AT, why=why)


def known() -> CaseRecord:
    """An ordinary case of which everything is known."""
    case = record()
    case.host = Fact[Host].of(Host(name="ws-042", ip="10.20.30.40"), "Securonix", AT)
    case.user = Fact[Person].of(person(), "Active Directory", AT)
    case.device = Fact.of(device(), "CrowdStrike Falcon", AT)
    case.question = question()
    return case


def attacked(name: str) -> CaseRecord:
    """A case in which everything that somebody else may name is named this, and which still asks."""
    case = learn(record(alert(rule=name, source_host=name, id=f"A{name}")), name)
    case.join(alert(id=f"B{name}", rule=name), AT)
    case.question = question(why=name or "?")
    case.question.asked.append(Asked(tier=name, kind="ask", at=AT, recipients=("a@x.org",)))
    case.decision = Decision(
        decision="contain", by=DecidedBy.ANALYST, analyst=name, reason=name, actions=CONTAIN, question=None, at=AT
    )
    case.actions = [
        ActionRecord(action=DISABLE, target=name, state=ActionState.FAILED, by=name, at=AT, detail=name),
        ActionRecord(action=QUARANTINE, target=None, state=ActionState.FAILED, by=name, at=AT, detail=name),
    ]
    case.ticket = TicketRecord(state="open", id=name, number=name, url=name)
    case.outcome = Outcome.PARTIALLY_CONTAINED
    return case


def readable(line: str) -> bool:
    """One line in which no character steers a terminal or turns the text round."""
    return not [
        c for c in line if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in "\u202e\u2066\u2067\u200b\u200f"
    ]


@given(NAMES)
def test_terminal_and_ticket_show_text_and_nothing_else(name: str) -> None:
    case = attacked(name)
    for text in (timeline(case), "\n".join(summary(case))):
        assert all(readable(line) for line in text.split("\n"))
    assert readable(headline(case))
    assert readable(ticket_title(case))
    lines = len(timeline(attacked("ws-042")).split("\n"))
    assert len(timeline(case).split("\n")) == lines, "no name makes a line of its own"


@given(HOSTILE)
def test_reasons_for_not_knowing_show_as_text(why: str) -> None:
    case = record()
    case.host = Fact[Host].unknown(f"x{why}", source=f"x{why}", at=AT)
    case.ticket = TicketRecord(state="failed", reason=why)
    assert all(readable(line) for line in timeline(case).split("\n"))
    assert all(readable(line) for line in details(case, None).split("\n"))


def _tokens(source: str) -> list[Token]:
    reader = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    flat = []
    for token in reader.parse(source):
        flat += [token, *(token.children or [])]
    return flat


_OURS = {
    *("paragraph_open", "paragraph_close", "inline", "text", "softbreak", "strong_open", "strong_close"),
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close", "heading_open", "heading_close"),
    *("em_open", "em_close", "fence"),
}


@given(NAMES)
def test_the_page_shows_text_and_our_own_markup_only(name: str) -> None:
    case = attacked(name)
    tokens = _tokens(details(case, policy()))
    assert {token.type for token in tokens} <= _OURS
    ordinary = _tokens(details(attacked("ws-042"), policy()))
    shape = [token.type for token in tokens if token.type not in {"text", "inline", "softbreak"}]
    assert shape == [token.type for token in ordinary if token.type not in {"text", "inline", "softbreak"}]


TENANTS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,30}\Z")
CASE_IDS = st.one_of(
    st.builds(lambda tenant, ip: alert(tenant=tenant, destination_ip=str(ip)).case_id, TENANTS, st.ip_addresses()),
    st.sampled_from(["sua-x\n```\n# owned", "$(id)", "'; reboot #", "`id`", "\x1b[2J", "a b", "--help"]),
)


@given(CASE_IDS, st.sampled_from([CONTAIN, (DISABLE,), (QUARANTINE,)]))
def test_nothing_breaks_out_of_the_fences(case_id: str, actions: tuple[ActionName, ...]) -> None:
    case = known()
    case.case_id, case.question = case_id, question(*actions)
    source = details(case, policy())
    fenced = [token.content.removesuffix("\n") for token in _tokens(source) if token.type == "fence"]
    expected = options(case, policy(), case.question)
    assert fenced == [command for option in expected for command in (option.command_update, option.command_signal)]
    assert all(readable(command) for command in fenced)


def _pasted(option: AnswerOption) -> list[list[str]]:
    return [shlex.split(command) for command in (option.command_update, option.command_signal, option.command_starter)]


@given(TENANTS, st.ip_addresses())
def test_commands_survive_the_shell(tenant: str, ip: object) -> None:
    opened_by = alert(tenant=tenant, destination_ip=str(ip))
    case = known()
    case.case_id = opened_by.case_id
    assert case.question
    for option, decision in zip(options(case, policy(), case.question), ("contain", "false_positive"), strict=True):
        update, signal, starter = _pasted(option)
        assert update[:4] == ["temporal", "workflow", "update", "execute"]
        assert signal[:3] == ["temporal", "workflow", "signal"]
        for words, name in ((update, "decide"), (signal, "analyst_decision")):
            flags = dict(zip(words[-6::2], words[-5::2], strict=True))
            assert flags["--workflow-id"] == opened_by.case_id
            assert flags["--name"] == name
            answer = json.loads(flags["--input"])
            assert (answer["decision"], answer["question"]) == (decision, "HP-0A1B2C3D-Q1")
            assert set(answer) == {"decision", "analyst", "reason", "question"}
        assert starter[:5] == ["python", "starter.py", "decide", opened_by.case_id, decision]


def test_commands_name_the_namespace_where_it_is_not_the_usual_one() -> None:
    case = known()
    assert case.question
    for option in options(case, policy(), case.question, "soc's"):
        update, signal, starter = _pasted(option)
        for words in (update, signal):
            assert words[words.index("--namespace") + 1] == "soc's"
            assert words[words.index("--workflow-id") + 1] == case.case_id
        assert "--namespace" not in starter
    assert "--namespace soc " in details(case, policy(), "soc")
    assert "--namespace" not in details(case, policy())
    mail = mail_context(case, policy(), tier="analyst", now=AT, namespace="soc")
    assert all("--namespace soc " in option.command_update for option in mail.options)


def test_options_say_what_each_answer_does() -> None:
    case = known()
    assert case.question
    contain, nothing = options(case, policy(), case.question)
    assert contain.effect == "quarantine host ws-042; disable account jdoe; and open a ticket"
    assert contain.actions == ("quarantine_host", "disable_account")
    assert nothing.effect == "touch nothing and close the case"
    assert nothing.actions == ()
    case.ticket = TicketRecord(state="open", number="INC1")
    assert options(case, policy(), case.question)[0].effect.endswith("and tell the ticket")


def test_a_question_about_what_is_protected_asks_about_that_alone() -> None:
    case = known()
    contain, nothing = options(case, policy(), question(DISABLE, protected=True))
    assert contain.effect == "disable account jdoe; and open a ticket"
    assert nothing.effect == "touch nothing more; what is done stays done"


def test_effects_say_what_cannot_be_done_and_what_is_protected() -> None:
    case = known()
    guarded = policy(guardrails=GuardrailPolicy(protected_accounts=("jdoe",), protected_hosts=("ws-042",)))
    for action, reason in ((QUARANTINE, "protected hosts"), (DISABLE, "protected accounts")):
        assert reason in effect(case, guarded, action, approving=False)
        assert reason not in effect(case, guarded, action, approving=True)
    case.device = Fact.unknown("two agents")
    assert effect(case, guarded, QUARANTINE, approving=False) == "cannot quarantine host: two agents"
    case.host = Fact[Host].unknown("two hosts")
    assert effect(case, guarded, QUARANTINE, approving=False) == "cannot quarantine host: two hosts"
    case.user = Fact[Person].unknown("nobody was active")
    assert effect(case, guarded, DISABLE, approving=False) == "cannot disable account: nobody was active"


@pytest.mark.parametrize(
    ("tier", "protected", "default", "told"),
    [
        ("analyst", False, OnUnanswered.HOLD, "the next tier is asked, and the priority goes up one level"),
        ("lead", False, OnUnanswered.HOLD, "a ticket is opened and the last tier is asked again until"),
        ("lead", False, OnUnanswered.CLOSE, "the case closes unanswered and nothing is touched"),
        ("lead", False, OnUnanswered.CONTAIN, "host and account are contained by the declared default"),
        ("lead", False, OnUnanswered.DISABLE_ACCOUNT, "the account is disabled by the declared default"),
        ("lead", True, OnUnanswered.CONTAIN, "it is left alone"),
        ("lead", True, OnUnanswered.HOLD, "a ticket is opened"),
        ("nobody left", False, OnUnanswered.CLOSE, "the case closes unanswered"),
    ],
)
def test_what_happens_when_nobody_answers_is_said(tier: str, protected: bool, default: OnUnanswered, told: str) -> None:
    text = what_then(policy(on_unanswered=default), question(tier=tier, protected=protected))
    assert text.startswith(told)


def test_the_page_of_an_ordinary_case() -> None:
    case = known()
    page = details(case, policy())
    assert "priority **medium**" in page
    assert r"- Host: **ws-042 \(10.20.30.40\)** (Securonix, 2026-03-14 12:34:56 UTC)" in page
    assert "- Risk: *unknown*: not looked up yet" in page
    assert "Waiting for analyst until 2026-03-14 12:34:56 UTC" in page
    assert "If nobody answers: the next tier is asked" in page
    assert case.case_id in page


def test_before_the_settings_are_there_the_page_has_no_question() -> None:
    assert "Waiting for" not in details(known(), None)


def test_the_headline_says_what_happened() -> None:
    assert headline(known()) == (
        "700 MiB went from web01 (198.51.100.2) to ws-042 (10.20.30.40) on 2026-03-14 12:34:56 UTC"
        " (Large data transfer from web server, alert SNX-200417)."
    )
    bare = record(alert(rule=None, source_host=None, source_ip=None, bytes_transferred=None))
    assert headline(bare) == (
        "an unknown amount went from a server to 10.20.30.40 (host unknown) on 2026-03-14 12:34:56 UTC"
        " (no rule named, alert SNX-200417)."
    )


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (None, "an unknown amount"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (734003200, "700 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**63 - 1, "8589934592.0 GiB"),
    ],
)
def test_sizes(count: int | None, told: str) -> None:
    assert size(count) == told


def test_clocks_show_utc_whatever_zone_a_vendor_speaks() -> None:
    tokyo = datetime(2026, 3, 14, 21, 34, 56, tzinfo=timezone(timedelta(hours=9)))
    assert clock(tokyo) == "2026-03-14 12:34:56 UTC"
    assert clock(tokyo.astimezone(UTC)) == "2026-03-14 12:34:56 UTC"


def test_each_fact_has_a_line_known_or_not() -> None:
    labels = ["Host", "Endpoint agent", "User", "Risk", "Further alerts or events"]
    lines = fact_lines(record())
    assert [line.label for line in lines] == labels
    assert all(not line.known and line.reason == "not looked up yet" for line in lines)
    lines = fact_lines(learn(record(), "web01"))
    assert [line.label for line in lines] == labels
    assert all(line.known and line.source == "web01" and line.at for line in lines)


def test_a_person_who_is_disabled_already_is_said_to_be() -> None:
    case = known()
    case.user = Fact[Person].of(person(enabled=False, title="Clerk"), "Active Directory", AT)
    assert fact_lines(case)[2].value == "jdoe (Jane Doe, Clerk) [disabled already]"


def test_a_flood_of_alerts_stays_readable() -> None:
    case = known()
    for number in range(5000):
        case.join(alert(id=f"flood-{number}"), AT)
    case.corroboration = Fact[Corroboration].of(
        Corroboration(total=9, sightings=(Sighting(kind="alert", id="1", name="exfil", about="ws-042", at=None),)),
        "s",
        AT,
    )
    lines = related(case)
    assert lines[0] == "alert flood-0 joined this case"
    assert "and 4950 more alerts joined" in lines
    assert lines[-1] == "alert exfil about ws-042"
    assert "in all 5,000 alerts joined: 1 rule, highest severity medium" in lines
    assert len(lines) == 53
    mail = mail_context(case, policy(), tier="analyst", now=AT)
    assert len(mail.model_dump_json()) + len(details(case, policy())) < 100_000


def test_the_mail_asks_or_tells() -> None:
    case = known()
    assert case.question
    case.question.asked += [
        Asked(tier="analyst", kind="ask", at=AT, recipients=("a@x.org",)),
        Asked(tier="analyst", kind="remind", at=AT, recipients=("a@x.org",)),
        Asked(tier="lead", kind="escalate", at=AT + timedelta(minutes=15), recipients=("b@x.org",)),
    ]
    asks = mail_context(case, policy(), tier="lead", now=AT + timedelta(minutes=15))
    assert asks.question_id == "HP-0A1B2C3D-Q1"
    assert asks.asked_before == (
        "analyst, asked 12:34 UTC, 15 min without an answer",
        "lead, asked 12:49 UTC, 0 s without an answer",
    )
    assert len(asks.options) == 2
    assert asks.what_changed == "Risk is medium."
    tells = mail_context(
        case, policy(), tier="lead", now=AT + timedelta(minutes=15), what_changed="The question is withdrawn."
    )
    assert (tells.question_id, tells.options, tells.due_at) == (None, (), None)
    assert tells.what_changed == "The question is withdrawn."


@given(NAMES)
def test_mails_are_json_of_any_text(name: str) -> None:
    context = mail_context(attacked(name), policy(), tier="analyst", now=AT)
    assert type(context).model_validate_json(json.dumps(context.model_dump(mode="json"))) == context


def test_a_ticket_title_names_nobody() -> None:
    title = ticket_title(attacked("jdoe"))
    assert re.fullmatch(r"Security case HP-[0-9A-F]{8} \(medium\)", title)


@given(NAMES, st.booleans())
def test_whatever_stops_an_action_is_told_as_text(name: str, on_list: bool) -> None:
    case = known()
    groups = (Group(name=name, sid="S-1-5-32-544"),)
    managers = (Identity(display_name=name),)
    case.user = Fact[Person].of(person(account=name, groups=groups, managers=managers), name, AT)
    rules: CasePolicy = policy(guardrails=GuardrailPolicy(protected_accounts=(name,) if on_list else ()))
    assert readable(effect(case, rules, DISABLE, approving=False))


def test_the_question_says_what_is_not_known() -> None:
    case = record()
    case.user = Fact[Person].unknown("two people were active")
    case.risk_level = RiskLevel.UNKNOWN
    assert why_asked(case) == "The user is not known, and so neither is the risk: two people were active."
    case.user = Fact[Person].of(person(), "Active Directory", AT)
    case.risk = Fact.unknown("the SIEM is down")
    assert why_asked(case) == "The user's risk is not known: the SIEM is down."
    case.risk, case.risk_level = Fact.of(Risk(score=50, documents=1), "Securonix", AT), RiskLevel.MEDIUM
    case.corroboration = Fact[Corroboration].unknown("no answer in the time allowed")
    assert why_asked(case) == "Risk is medium, and further alerts are not known: no answer in the time allowed."
    case.corroboration = Fact[Corroboration].of(Corroboration(total=0), "Securonix", AT)
    assert why_asked(case) == "Risk is medium, and nothing else is known about the host or the user."
