"""Mail through a real relay into real inboxes: what people get, and what the case says when they get none."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from incident.policy import Tier
from incident.requests import Delivery
from integrations.errors import Busy, Misconfigured, Rejected
from integrations.interfaces import Mail
from integrations.smtp import Smtp
from lab.certificates import make_certificates
from tests.real.exim_dovecot import DOMAIN, FILTERED, PASSWORD, SENDER, SIZE_LIMIT, UNFILTERED, USERNAME, Post, post
from tests.real.packages import need
from tests.workflows.world import ANALYST, Scene, World, alert, policy, working

# Every test writes to boxes of its own, so that what is in a box is what the test sent.
BOXES = (
    "soc",
    "ann",
    "oncall",
    "lead",
    "left",
    "right",
    "one",
    "two",
    "half",
    "sam",
    "eve",
    "kim",
    "gina",
    "greta",
    "tim",
)
GREYLISTED = ("gina", "greta", "tim")
GONE = f"gone@{DOMAIN}"
FALSE_ALARM = {"decision": "false_positive", "analyst": ANALYST, "reason": "a backup"}
SHOUT = '<script>alert(1)</script> & "quoted" \r\nBcc: eve@acme.example\r\n\r\n. <img src=x onerror=alert(2)>'
NAME = "Zoë Größenwahn-Łukasz 李雷 🔒 O'Néill"
TITLE = "Head of " + "very" * 80 + " long titles"


def address(box: str) -> str:
    return f"{box}@{DOMAIN}"


@pytest.fixture(scope="module")
async def standing() -> AsyncIterator[Post]:
    need("Exim and Dovecot")
    async with post(BOXES, greylisted=GREYLISTED) as servers:
        yield servers


class Relayed(World):
    """The world in memory, with a mail relay that is none."""

    def __init__(self, mailer: Smtp) -> None:
        super().__init__()
        self.mailer = mailer
        self.sightings = 0

    async def send(self, mail: Any) -> Delivery:
        await super().send(mail)
        return await self.mailer.send(mail)


def tiers(*recipients: tuple[str, ...]) -> tuple[Tier, ...]:
    names = ("analyst", "on-call", "soc-lead")
    return tuple(
        Tier(name=name, recipients=boxes, analysts=(ANALYST,), wait=timedelta(minutes=30))
        for name, boxes in zip(names, recipients, strict=False)
    )


def mail(*boxes: str, **changes: Any) -> Mail:
    given: dict[str, Any] = {
        "subject": "[Holdpoint c1] Decision needed",
        "text": "Who is it? Würst\n.\n..\nFrom here on\n" + "x" * 3000 + "\n",
        "html": "<p>Who is it? Würst</p>\n",
        "recipients": tuple(address(box) for box in boxes),
        "message_id": f"{uuid.uuid4()}@{DOMAIN}",
    }
    return Mail(**{**given, **changes})


class Seen(HTMLParser):
    """A page as a reader sees it: its words, and whatever in it could act."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.acting: list[str] = []
        self._hidden = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "title")
        if tag in ("script", "img", "iframe", "form", "object", "link") or any(n.startswith("on") for n, _ in attrs):
            self.acting.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return blanks("".join(self.words))


def blanks(text: str) -> str:
    return " ".join(text.split())


def body(received: EmailMessage, subtype: str) -> str:
    part = received.get_body((subtype,))
    assert part is not None
    return str(part.get_content())


def check_headers(received: EmailMessage, box: str, to: tuple[str, ...]) -> None:
    """Exactly the headers that the client sets, between those of the relay."""
    ours = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress"}
    thread = {"In-Reply-To", "References"} if received["In-Reply-To"] else set()
    assert sorted(received.keys()) == sorted(
        ours | thread | {"MIME-Version", "Content-Type", "Received", "Envelope-to"}
    )
    assert (received["From"], received["To"]) == (SENDER, ", ".join(to))
    assert received["Envelope-to"] == address(box)
    assert parsedate_to_datetime(received["Date"]).utcoffset() == timedelta(0)
    assert re.fullmatch(rf"<[0-9a-f]{{32}}@{re.escape(DOMAIN)}>", received["Message-ID"])
    assert (received["Auto-Submitted"], received["X-Auto-Response-Suppress"]) == ("auto-generated", "All")
    # RFC 3848: extended SMTP, secured by STARTTLS, and authenticated.
    assert "with esmtpsa" in received["Received"]
    assert received.defects == []


async def test_a_case_that_nobody_answers_is_one_thread_through_the_tiers(
    standing: Post, skipping_server: WorkflowEnvironment
) -> None:
    world, queue = Relayed(standing.client()), f"q-{uuid.uuid4()}"
    world.host = 'FIN-<b onmouseover="x">LT</b>-042'
    world.person = world.person.model_copy(
        update={"display_name": NAME, "title": TITLE, "department": "R&D\u202e\r\nX-Injected: 1"}
    )
    given = alert(rule=SHOUT, source_host="=?utf-8?q?evil?=\r\nX-Injected: 1")
    asked = (("soc", "ann"), ("oncall",), ("lead",))
    steering = policy(tiers=tiers(*(tuple(address(box) for box in boxes) for boxes in asked)))
    async with working(skipping_server.client, world, queue):
        scene = Scene(skipping_server.client, world, queue)
        started = await scene.start(given, steering)
        state = await scene.end(started)
        told = await scene.handle(started).query("timeline")
    assert state["outcome"] == "unanswered"

    boxes = {box: await standing.mails(box) for tier in asked for box in tier}
    assert [len(mails) for mails in boxes.values()] == [2, 2, 2, 2]
    assert await standing.mails("eve") == []
    for tier in asked:
        for box in tier:
            for received in boxes[box]:
                check_headers(received, box, tuple(address(b) for b in tier))
    # Each of a tier got the same mails, and the case is one thread from its first mail on.
    assert [m["Message-ID"] for m in boxes["soc"]] == [m["Message-ID"] for m in boxes["ann"]]
    thread = [*boxes["soc"], *boxes["oncall"], *boxes["lead"]]
    first, *later = (str(m["Message-ID"]) for m in thread)
    assert len({first, *later}) == 6
    assert thread[0]["In-Reply-To"] is None
    assert {(m["In-Reply-To"], m["References"]) for m in thread[1:]} == {(first, first)}

    subjects = [str(received["Subject"]) for received in thread]
    kinds = (
        "Decision needed",
        "Reminder: decision",
        "Escalated to on-call",
        "Reminder",
        "Escalated to soc-lead",
        "Reminder",
    )
    for subject, kind in zip(subjects, kinds, strict=True):
        assert subject.startswith(f"[Holdpoint {state['reference']}] {kind}")
        for secret in ("FIN", "jdoe", NAME.split(maxsplit=1)[0], "script", given.destination_ip, "web01", "evil"):
            assert secret not in subject
    for received in thread:
        check_same_facts(received, state)
    assert told.count("sent") >= 6


def check_same_facts(received: EmailMessage, state: dict[str, Any]) -> None:
    """Text and HTML tell the same, every fact of the case among it, and what was hostile is words."""
    page = Seen(body(received, "html"))
    text = blanks(body(received, "plain"))
    assert page.acting == []
    facts = [
        'FIN-<b onmouseover="x">LT</b>-042',
        SHOUT.partition(" \r")[0],
        "Bcc: eve@acme.example",
        "<img src=x onerror=alert(2)>",
        "=?utf-8?q?evil?= X-Injected: 1",
        NAME,
        TITLE,
        "R&D X-Injected: 1",
        "score 50",
        state["case_id"],
        f"{state['reference']}-Q1",
        "700 MiB",
    ]
    due = re.search(r"ANSWER BY (\S+ \S+ UTC)", text)
    then = re.search(r"If nobody answers: (.+?)\. ", text)
    assert due
    assert then
    facts += [due[1], then[1], "python starter.py decide", "temporal workflow signal"]
    for fact in facts:
        assert fact in text, fact
        assert fact in page.text, fact
    assert "\u202e" not in text + page.text
    # Word by word the two differ in headings and marks only.
    assert set(re.findall(r"\d\S+", text)) == set(re.findall(r"\d\S+", page.text))


async def test_a_refused_recipient_is_told_by_the_case_and_the_others_get_the_mail(
    standing: Post, dev_server: WorkflowEnvironment
) -> None:
    world, queue = Relayed(standing.client()), f"q-{uuid.uuid4()}"
    async with working(dev_server.client, world, queue):
        scene = Scene(dev_server.client, world, queue)
        started = await scene.start(alert(), policy(tiers=tiers((address("left"), GONE, address("right")))))
        state = await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
        told = await scene.handle(started).query("timeline")
        await scene.handle(started).execute_update("decide", FALSE_ALARM)
        closed = await scene.end(started)
    (asked,) = state["question"]["asked"]
    assert asked["refused"] == {GONE: "550 5.1.1 no such user here"}
    assert asked["failed"] is None
    assert f"mail (ask) to analyst: FAILED: {GONE} refused: 550 5.1.1 no such user here" in told
    assert closed["outcome"] == "false_positive"
    for box in ("left", "right"):
        (received,) = await standing.mails(box)
        check_headers(received, box, (address("left"), GONE, address("right")))


async def test_a_tier_that_the_relay_takes_no_mail_for_is_told_and_the_next_one_is_asked(
    standing: Post, skipping_server: WorkflowEnvironment
) -> None:
    world, queue = Relayed(standing.client()), f"q-{uuid.uuid4()}"
    async with working(skipping_server.client, world, queue):
        scene = Scene(skipping_server.client, world, queue)
        started = await scene.start(alert(), policy(tiers=tiers((GONE,), (address("kim"),))))
        await scene.end(started)
        told = await scene.handle(started).query("timeline")
    why = rf"mail \(ask\) to analyst: FAILED: mail server .* takes none of the recipients: {GONE}: 550 5.1.1"
    assert re.search(why, told)
    assert "mail (escalate) to on-call: sent" in told
    received = (await standing.mails("kim"))[0]
    assert str(received["Subject"]).partition("] ")[2].startswith("Escalated to on-call")


async def test_a_relay_that_says_later_gets_the_mail_again_and_delivers_it_once(
    standing: Post, dev_server: WorkflowEnvironment
) -> None:
    world, queue = Relayed(standing.client()), f"q-{uuid.uuid4()}"
    before = standing.log()
    async with working(dev_server.client, world, queue):
        scene = Scene(dev_server.client, world, queue)
        started = await scene.start(alert(), policy(tiers=tiers((address("gina"),))))
        state = await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
        told = await scene.handle(started).query("timeline")
        await scene.handle(started).execute_update("decide", FALSE_ALARM)
        await scene.end(started)
    (deferred,) = await standing.logged("temporarily rejected RCPT", after=before)
    assert address("gina") in deferred
    assert (state["question"]["asked"][0]["refused"], state["question"]["asked"][0]["failed"]) == ({}, None)
    assert "mail (ask) to analyst: sent" in told
    (received,) = await standing.mails("gina")
    check_headers(received, "gina", (address("gina"),))


async def test_a_mail_that_the_content_filter_refuses_is_told(standing: Post, dev_server: WorkflowEnvironment) -> None:
    world, queue = Relayed(standing.client()), f"q-{uuid.uuid4()}"
    async with working(dev_server.client, world, queue):
        scene = Scene(dev_server.client, world, queue)
        started = await scene.start(alert(rule=FILTERED), policy(tiers=tiers((address("sam"),))))
        state = await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
        await scene.handle(started).execute_update("decide", FALSE_ALARM)
        await scene.end(started)
    assert "554 5.7.1 the content filter refuses this" in state["question"]["asked"][0]["failed"]
    assert await standing.mails("sam") == []


async def test_a_greylisted_recipient_is_busy_and_the_next_try_delivers_the_same_mail(standing: Post) -> None:
    client, sent = standing.client(), mail("greta")
    with pytest.raises(Busy, match="greylisted, try again later") as caught:
        await client.send(sent)
    assert caught.value.retryable
    assert (await client.send(sent)).accepted == sent.recipients
    (received,) = await standing.mails("greta")
    assert received["Message-ID"] == f"<{sent.message_id}>"
    assert body(received, "plain").replace("\r\n", "\n") == sent.text
    assert body(received, "html").replace("\r\n", "\n") == sent.html


async def test_a_message_that_is_not_taken_now_is_busy(standing: Post) -> None:
    with pytest.raises(Busy, match="to the message") as caught:
        await standing.client().send(mail("half", text=f"{UNFILTERED}\n"))
    assert caught.value.retryable
    assert await standing.mails("half") == []


async def test_some_taken_some_not_some_later(standing: Post) -> None:
    sent = mail("one", "gone", "tim", "two", recipients=tuple(map(address, ("one", "gone", "tim", "two", "one"))))
    delivery = await standing.client().send(sent)
    assert delivery.accepted == (address("one"), address("two"))
    assert delivery.refused == {
        GONE: "550 5.1.1 no such user here",
        address("tim"): "451 4.7.1 greylisted, try again later (temporary)",
    }
    assert [len(await standing.mails(box)) for box in ("one", "two", "tim")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"recipients": (GONE,)}, Rejected, "550 5.1.1 no such user here"),
        ({"recipients": (GONE, "x@other.example")}, Rejected, "x@other.example: 550 5.7.1 relaying denied"),
        ({"text": f"{FILTERED}\n"}, Rejected, "554 5.7.1 the content filter"),
        ({"text": ("x" * 70 + "\n") * (SIZE_LIMIT // 70)}, Rejected, "552"),
    ],
)
async def test_what_the_relay_will_never_take_is_not_tried_again(
    standing: Post, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = standing.log()
    with pytest.raises(error, match=re.escape(words)) as caught:
        await standing.client().send(mail("half", **changes))
    assert isinstance(caught.value, Rejected)
    assert not caught.value.retryable
    assert await standing.mails("half") == []
    # It has taken its leave: broken connections are what relays ban for.
    await standing.logged("closed by QUIT", after=before)
    assert "TLS error" not in standing.log()[len(before) :]


def _faults(standing: Post, folder: Path) -> Iterator[tuple[Smtp, str, str]]:
    """Each wrong setting, the doctor's line that is bad then, and all that the relay heard."""
    yield standing.client(port=standing.clear_port), "does not offer STARTTLS", "C=EHLO"
    other = make_certificates(folder / "other")
    yield standing.client(ca_file=other.ca_file), "the certificate is not trusted", "C=EHLO,STARTTLS"
    yield standing.client(host="localhost"), "not valid for 'localhost'", "C=EHLO,STARTTLS"
    yield standing.client(ca_file=None), "the certificate is not trusted", "C=EHLO,STARTTLS"
    yield standing.client(password="wr0ng"), "does not accept the credentials (535)", "C=EHLO,STARTTLS,EHLO,AUTH,QUIT"
    # AUTH is offered after STARTTLS only, so a client without it gets nowhere, and says nothing.
    yield standing.client(starttls=False), "offers no login that is known here", "C=EHLO,QUIT"


async def test_each_wrong_setting_has_its_words_and_nothing_is_said_in_clear(standing: Post, tmp_path: Path) -> None:
    for client, words, heard in _faults(standing, tmp_path):
        before = standing.log()
        with pytest.raises(Misconfigured, match=re.escape(words)) as caught:
            await client.send(mail("half"))
        assert not caught.value.retryable
        checks = await client.check()
        assert [check.ok for check in checks] == [True] * (len(checks) - 1) + [False]
        assert words in checks[-1].detail
        for line in await standing.logged("no MAIL in SMTP connection", after=before, count=2):
            assert line.endswith(heard), line
        for told in (str(caught.value), repr(caught.value), str(checks), standing.log()):
            assert PASSWORD not in told
            assert "wr0ng" not in told
    assert await standing.mails("half") == []


async def test_no_login_where_one_is_wanted(standing: Post) -> None:
    with pytest.raises(Misconfigured, match=r"530 .* authentication required"):
        await standing.client(username=None, password=None).send(mail("half"))


async def test_the_doctor_finds_all_well_and_sends_nothing(standing: Post) -> None:
    before = standing.log()
    checks = await standing.client().check()
    assert [check.ok for check in checks] == [True] * 4
    assert f"logged in as {USERNAME}" in checks[2].detail
    await standing.logged("closed by QUIT", after=before)
    assert "<=" not in standing.log()[len(before) :]
