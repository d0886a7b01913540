import html
import re
import unicodedata
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.mail_text import MAX_LINES, WIDTH, Addressed, compose
from incident.question import AnswerOption, FactLine, MailContext
from incident.requests import AnswerLinks, MailKind, Notice
from incident.text import plain
from integrations.errors import Rejected
from integrations.interfaces import Mail
from integrations.smtp import build_message

ASKS = [MailKind.ASK, MailKind.REMIND, MailKind.ESCALATE]
TELLS = [MailKind.WITHDRAWN, MailKind.ANSWERED, MailKind.NOTICE]
CASE = "sua-acme-10.20.30.40"
UPDATE = (
    f"temporal workflow update execute --workflow-id {CASE} --name decide --input "
    """'{"decision":"contain","analyst":"YOU@corp.example","reason":"WHY"}'"""
)

CONTEXT = MailContext(
    headline="700 MB went from web01 to 10.20.30.40, and it is not known how risky the user is.",
    case_id=CASE,
    question_id="question-7",
    tier="on-call",
    asked_before=("analyst: asked at 12:40 UTC, 15 minutes, no answer",),
    due_at="2026-03-14 13:10 UTC",
    due_in="30 min",
    quorum=2,
    approvers=("bob@corp.example (analyst)",),
    approvals=("bob@corp.example (analyst) at 12:45 UTC: called him",),
    on_no_answer="the SOC lead is asked",
    priority="high",
    priority_history=("medium at 12:36 UTC: the alert's severity", "high at 12:55 UTC: nobody answered"),
    facts=(
        FactLine(label="Host", value="fin-ws-017", source="Securonix", at="2026-03-14 12:35 UTC"),
        FactLine(label="User", value="jdoe <script>alert(1)</script>", source="Active Directory", at="12:36 UTC"),
        FactLine(label="Risk", reason="Securonix did not answer within 2 minutes", source="Securonix", at="12:38 UTC"),
        FactLine(label="Further alerts"),
    ),
    related=("Violation 4711: odd login on fin-ws-017",),
    options=(
        AnswerOption(
            decision="contain",
            actions=("quarantine_host", "disable_account"),
            effect="fin-ws-017 is cut off from the network, the account jdoe is disabled, a ticket is opened.",
            button="Contain fin-ws-017 and jdoe",
            command_update=UPDATE,
            command_signal=UPDATE.replace("update execute", "signal").replace("decide", "analyst_decision"),
            command_starter=f"python starter.py decide {CASE} contain --analyst YOU@corp.example --reason WHY",
        ),
        AnswerOption(
            decision="false_positive",
            effect="The case is closed; nothing is touched.",
            command_update=UPDATE.replace("contain", "false_positive"),
            command_signal="temporal workflow signal false_positive",
            command_starter=f"python starter.py decide {CASE} false_positive --analyst YOU@corp.example --reason WHY",
        ),
    ),
    what_changed="Two further alerts about the host came in.",
    ui_url=f"https://temporal.corp.example/namespaces/soc/workflows/{CASE}?a=1&b=2",
)


def notice(kind: MailKind = MailKind.ASK, **changes: Any) -> Notice:
    given_: dict[str, Any] = {
        "key": f"{CASE}/ask/1",
        "thread": None,
        "case_ref": "case-1a2b",
        "recipients": ("ann@corp.example",),
        "context": CONTEXT.model_dump(mode="json"),
        **changes,
    }
    return Notice(kind=kind, **given_)


PAGE = f"https://desk.corp.example/cases/{CASE}"
ANSWER = "https://desk.corp.example/answer/eyJx.c2ln"
MAY = Addressed("ann@corp.example", case_page=PAGE, answer=ANSWER)
MAY_NOT = Addressed("soc@corp.example", case_page=PAGE)


LINK = AnswerLinks(case_id=CASE, run_id="r", question="question-7", digest="d", analysts=("ann@corp.example",))


def composed(kind: MailKind = MailKind.ASK, to: Addressed | None = None, **changes: Any) -> Mail:
    return compose(notice(kind, **changes), sender_domain="corp.example", to=to)


def with_context(kind: MailKind = MailKind.ASK, **changes: Any) -> Mail:
    return composed(kind, context=CONTEXT.model_copy(update=changes).model_dump(mode="json"))


class Page(HTMLParser):
    """The HTML body as a reader sees it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._parts: list[str] = []
        self._hidden = False
        self.links: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._hidden = tag in ("style", "title") or "display: none" in (dict(attrs).get("style") or "")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data)

    @property
    def text(self) -> str:
        return squeezed("".join(self._parts))


def squeezed(text: str) -> str:
    return " ".join(text.split())


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in strings(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("to", [None, MAY, MAY_NOT], ids=["no desk", "may answer", "may not"])
@pytest.mark.parametrize("kind", list(MailKind))
def test_both_bodies_hold_the_same(kind: MailKind, to: Addressed | None) -> None:
    mail = composed(kind, to, link=LINK)
    page = Page(mail.html)
    text, shown = squeezed(mail.text), f"{page.text} {' '.join(page.links)}"
    left_out = ("options", "due_at", "due_in", "approvers", "on_no_answer") if kind in TELLS else ()
    context = {k: v for k, v in CONTEXT.model_dump(mode="json").items() if k not in left_out}
    for option in context.get("options", []):
        # The effect says what the actions do.
        for name in ("actions", *(("decision", "command_signal") if to is MAY else ("button",))):
            option.pop(name)
    wanted = [value for value in strings(context) if value]
    assert len(wanted) > 15
    for value in wanted:
        assert squeezed(value) in text
        assert squeezed(value) in shown
    assert sorted(set(re.findall(r"\w+", text.casefold()))) == sorted(set(re.findall(r"\w+", shown.casefold())))


@pytest.mark.parametrize("kind", ASKS)
def test_a_question_says_what_each_answer_does_and_how_to_give_it(kind: MailKind) -> None:
    lines = composed(kind).text.splitlines()
    for option in CONTEXT.options:
        assert option.command_update in lines
        assert option.command_signal in lines
        assert option.command_starter in lines
    text = squeezed(composed(kind).text)
    assert "contain: fin-ws-017 is cut off from the network" in text
    assert "ANSWER BY 2026-03-14 13:10 UTC" in text
    assert "If nobody answers: the SOC lead is asked" in text


@pytest.mark.parametrize("kind", TELLS)
def test_a_mail_that_asks_nothing_shows_no_command(kind: MailKind) -> None:
    mail = composed(kind)
    for body in (mail.text, html.unescape(mail.html)):
        assert "starter.py" not in body
        assert "temporal workflow" not in body
        assert "/answer/" not in body
        assert "Two further alerts about the host came in." in squeezed(body)


@pytest.mark.parametrize("kind", list(MailKind))
def test_the_first_line_is_the_sentence(kind: MailKind) -> None:
    assert squeezed(composed(kind).text).startswith(CONTEXT.headline)
    assert Page(composed(kind).html).text.startswith(CONTEXT.headline)


def test_unknown_facts_are_said_with_their_reason() -> None:
    mail = composed()
    for body in (squeezed(mail.text), Page(mail.html).text):
        assert "Risk: NOT KNOWN. Why: Securonix did not answer within 2 minutes (Securonix, 12:38 UTC)" in body
        assert "Further alerts: NOT KNOWN. Why: no reason was given" in body
        assert "Host: fin-ws-017 (Securonix, 2026-03-14 12:35 UTC)" in body
        assert "Host: NOT KNOWN" not in body


def test_text_is_wrapped_except_for_commands_and_addresses() -> None:
    commands = {c for o in CONTEXT.options for c in (o.command_update, o.command_signal, o.command_starter)}
    mail = with_context(headline="word " * 60, related=("a " * 200,))
    long = [line for line in mail.text.splitlines() if len(line) > WIDTH]
    assert {line for line in long if "https://" not in line} <= commands


def test_html_is_escaped_and_loads_nothing() -> None:
    mail = composed()
    page = Page(mail.html)
    assert "script" not in page.tags
    assert not {"img", "link", "iframe", "form", "button", "input"} & set(page.tags)
    assert page.tags.count("a") == 1
    assert ("href", CONTEXT.ui_url) in page.attributes
    assert not [name for name, _ in page.attributes if name == "src" or name.startswith("on")]
    assert "url(" not in mail.html
    assert "@import" not in mail.html
    assert ("content", "light dark") in page.attributes
    assert "width=device-width" in mail.html


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", 'https://x/" onclick="alert(1)', "ftp://x"])
def test_only_a_web_address_becomes_a_link(url: str) -> None:
    page = Page(with_context(ui_url=url).html)
    assert "a" not in page.tags
    assert url in page.text


HOSTILE = st.lists(
    st.sampled_from(["<b>", "</p>", "<script>", '"', "'", "&lt;", "{{ 7*7 }}", "{% raw %}", "=?utf-8?q?=0ABcc:_x@e?="])
    | st.sampled_from(
        ["\n", "\r\nBcc: x@evil.example\r\n\r\n", "\u2028", "\x85", "\x1b[31m", "\x00", "\u202e", "\ud800"]
    )
    | st.sampled_from(["-->", "]]>", "\\", "`", "w\u00fcrst", "\n.\n"])
    | st.text(max_size=6),
    max_size=8,
).map("".join)
MAYBE = st.none() | HOSTILE
LINES = st.lists(HOSTILE, max_size=3).map(tuple)
FACTS = st.builds(FactLine, label=HOSTILE, value=MAYBE, reason=MAYBE, source=MAYBE, at=MAYBE)
OPTIONS = st.builds(
    AnswerOption,
    decision=HOSTILE,
    actions=LINES,
    effect=HOSTILE,
    command_update=HOSTILE,
    command_signal=HOSTILE,
    command_starter=HOSTILE,
)
CONTEXTS = st.builds(
    MailContext,
    headline=HOSTILE,
    case_id=HOSTILE,
    question_id=MAYBE,
    tier=MAYBE,
    asked_before=LINES,
    due_at=MAYBE,
    on_no_answer=MAYBE,
    priority=HOSTILE,
    priority_history=LINES,
    facts=st.lists(FACTS, max_size=3).map(tuple),
    related=LINES,
    options=st.lists(OPTIONS, max_size=2).map(tuple),
    what_changed=MAYBE,
    ui_url=MAYBE,
)


@settings(deadline=None)
@given(st.sampled_from(list(MailKind)), CONTEXTS, HOSTILE, HOSTILE, HOSTILE)
def test_no_value_leaves_its_place(kind: MailKind, context: MailContext, ref: str, key: str, thread: str) -> None:
    request = Notice(
        kind=kind,
        key=key,
        thread=thread,
        case_ref=ref,
        recipients=("ann@corp.example",),
        context=context.model_dump(),
    )
    mail = compose(request, sender_domain="corp.example")
    controls = {"Cc", "Cs", "Zl", "Zp"}
    assert not [c for c in mail.text + mail.html if unicodedata.category(c) in controls and c != "\n"]
    assert "\u202e" not in mail.text + mail.html
    page = Page(mail.html)
    assert not {"script", "b"} & set(page.tags)
    assert plain(context.headline) in page.text or not plain(context.headline)
    raw = build_message(mail, "holdpoint@corp.example", mail.recipients, datetime.now(UTC))
    message = message_from_bytes(raw, EmailMessage, policy=policy.default)
    allowed = {"From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version"}
    assert set(message.keys()) <= allowed | {"Content-Type", "Auto-Submitted", "X-Auto-Response-Suppress"}
    assert message["Subject"].split() == mail.subject.split()
    assert re.fullmatch(r"\[Holdpoint [\w.@:/-]{1,80}\] [\w .,:/-]{1,150}", mail.subject)


@pytest.mark.parametrize("kind", list(MailKind))
def test_the_subject_tips_nobody_off(kind: MailKind) -> None:
    subject = composed(kind).subject
    assert subject.startswith("[Holdpoint case-1a2b] ")
    for told in ("fin-ws-017", "jdoe", "web01", "10.20.30.40", "4711", "700 MB"):
        assert told not in subject


def test_subjects_are_fixed_texts() -> None:
    subjects = {kind: composed(kind).subject.removeprefix("[Holdpoint case-1a2b] ") for kind in MailKind}
    assert subjects[MailKind.ASK] == "Decision needed by 2026-03-14 13:10 UTC"
    assert subjects[MailKind.ESCALATE] == "Escalated to on-call: decision needed by 2026-03-14 13:10 UTC"
    assert len(set(subjects.values())) == len(MailKind)
    assert with_context(due_at=None, tier=None).subject == "[Holdpoint case-1a2b] Decision needed"


def test_the_same_step_is_the_same_mail() -> None:
    assert composed() == composed()
    assert composed().message_id == composed(MailKind.REMIND).message_id
    assert composed(key="other").message_id != composed().message_id
    assert re.fullmatch(r"[0-9a-f]{32}@corp\.example", composed().message_id)


def test_follow_ups_point_at_the_first_mail() -> None:
    first = composed()
    assert first.in_reply_to is None
    assert composed(MailKind.REMIND, key="b", thread=notice().key).in_reply_to == first.message_id
    assert composed(thread=notice().key).in_reply_to is None


def test_a_long_list_is_cut_and_counted() -> None:
    mail = with_context(related=tuple(f"violation {i}." for i in range(MAX_LINES + 7)))
    for body in (mail.text, mail.html):
        assert f"violation {MAX_LINES - 1}." in body
        assert f"violation {MAX_LINES}." not in body
        assert "and 7 more" in body


def test_a_context_that_lacks_something_is_refused_by_name() -> None:
    context = CONTEXT.model_dump(mode="json")
    del context["headline"]
    with pytest.raises(Rejected, match="headline"):
        composed(context=context)


@pytest.mark.parametrize("kind", ASKS)
def test_who_may_answer_has_a_link_to_each_answer_of_their_own(kind: MailKind) -> None:
    mail = composed(kind, MAY)
    wanted = [f"{ANSWER}?answer=contain", f"{ANSWER}?answer=false_positive"]
    assert [line for line in mail.text.splitlines() if "/answer/" in line] == wanted
    assert [link for link in Page(mail.html).links if "/answer/" in link] == wanted
    assert "Opening a link decides nothing." in mail.text
    assert mail.recipients == ("ann@corp.example",)


@pytest.mark.parametrize("kind", ASKS)
def test_who_may_not_answer_has_the_page_to_sign_in_at(kind: MailKind) -> None:
    mail = composed(kind, MAY_NOT, link=LINK)
    assert "/answer/" not in mail.text + mail.html
    assert f"Nobody can answer from this mailbox. Who may answer signs in:\n{PAGE}\n" in mail.text
    assert PAGE in Page(mail.html).links


def test_a_question_that_the_desk_cannot_take_the_answer_to_says_where_the_answer_goes() -> None:
    for to in (None, MAY_NOT):
        text = composed(to=to).text
        assert "How to answer from a shell stands at the end of this mail." in text
        assert "Nobody can answer" not in text
        assert (f"The case: {PAGE}" in text) is (to is not None)


@pytest.mark.parametrize("kind", TELLS)
def test_what_asks_nothing_leads_to_the_case(kind: MailKind) -> None:
    for to in (MAY, MAY_NOT):
        mail = composed(kind, to)
        assert f"The case: {PAGE}" in mail.text
        assert "/answer/" not in mail.text + mail.html


def test_beside_buttons_there_is_one_command_less() -> None:
    contain = CONTEXT.options[0]
    assert contain.command_signal in composed(to=MAY_NOT).text
    lines = composed(to=MAY).text.splitlines()
    assert contain.command_signal not in lines
    assert contain.command_starter in lines
    assert contain.command_update in lines


def test_before_the_details_is_one_screen() -> None:
    facts = (*CONTEXT.facts[:3], FactLine(label="Endpoint agent", value="Workstation, normal", source="Falcon"))
    context = CONTEXT.model_copy(update={"facts": facts, "quorum": 1})
    text = composed(to=MAY, context=context.model_dump(mode="json")).text
    screen = text.partition("\nDETAILS\n")[0].splitlines()
    assert len(screen) <= 30
    assert max(len(line) for line in screen if "https://" not in line) <= WIDTH
    buttons = [number for number, line in enumerate(screen) if "?answer=" in line]
    assert buttons[-1] <= 20
    assert text.index("FROM A SHELL") > text.index("DETAILS")


@pytest.mark.parametrize("kind", [MailKind.REMIND, MailKind.ESCALATE])
def test_who_was_asked_and_for_how_long_comes_before_the_deadline(kind: MailKind) -> None:
    for body in (composed(kind).text, Page(composed(kind).html).text):
        asked = body.index("Asked before: analyst: asked at 12:40 UTC, 15 minutes, no answer")
        assert asked < body.index("ANSWER BY")
    assert composed(MailKind.ASK).text.index("Asked before:") > composed(MailKind.ASK).text.index("DETAILS")


def test_two_approvers_are_said_to_be_needed_and_who_has_approved() -> None:
    for body in (squeezed(composed().text), Page(composed().html).text):
        told = "Contain needs two people of different tiers, false positive needs one. Approved so far: "
        assert f"{told}bob@corp.example (analyst)." in body
        assert "Approved by bob@corp.example (analyst) at 12:45 UTC: called him" in body
    assert "Approved so far: by nobody." in squeezed(with_context(approvers=(), approvals=()).text)
    assert "different tiers" not in with_context(quorum=1).text


def test_each_recipient_has_ids_of_their_own_and_the_same_ones_each_time() -> None:
    ann = composed(MailKind.REMIND, MAY, key="b", thread="a")
    again = composed(MailKind.REMIND, Addressed("Ann@corp.example", case_page=PAGE, answer=ANSWER), key="b", thread="a")
    soc = composed(MailKind.REMIND, MAY_NOT, key="b", thread="a")
    assert (ann.message_id, ann.in_reply_to) == (again.message_id, again.in_reply_to)
    assert len({ann.message_id, soc.message_id, composed(key="b").message_id}) == 3
    assert ann.in_reply_to == composed(MailKind.ASK, MAY, key="a").message_id
    assert composed(MailKind.ASK, MAY, key="a", thread="a").in_reply_to is None


def test_a_link_is_in_no_repr() -> None:
    assert "answer" not in repr(MAY)


def test_the_first_that_a_preview_shows_tips_nobody_off() -> None:
    for kind in MailKind:
        raw = composed(kind, MAY).html
        first = re.sub(r"<(title|style)>.*?</\1>|<[^>]+>", "", raw, flags=re.DOTALL).strip()
        shown = html.unescape(first)[:160]
        for told in ("fin-ws-017", "jdoe", "web01", "10.20.30.40", "700 MB"):
            assert told not in shown
