"""The mail client against a real relay on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import BadAnswer, Busy, IntegrationError, Misconfigured, Rejected, Unreachable
from integrations.interfaces import Mail
from integrations.smtp import Smtp, build_message
from lab.certificates import LabCertificates, make_certificates
from lab.mailbox import DROP, SILENT, MailboxLab, Received
from tests.integrations.mailing import ANN, BOB, SENDER, relaying, smtp

HEADERS = [
    "Auto-Submitted",
    "Content-Type",
    "Date",
    "From",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
    "X-Auto-Response-Suppress",
]


@pytest.fixture
def client(relay: MailboxLab, certificates: LabCertificates) -> Smtp:
    return smtp(relay, certificates)


def mail(**changes: Any) -> Mail:
    return Mail(
        **{
            "subject": "[Holdpoint c1] Decision needed",
            "text": "Who is it?\n.\nFrom here on: w\u00fcrst\n" + "temporal " + "x" * 2000 + "\n",
            "html": "<p>Who is it? w\u00fcrst</p>\n",
            "recipients": (ANN,),
            "message_id": "a1@corp.example",
            **changes,
        }
    )


async def test_a_mail_arrives_whole_after_starttls_and_login(relay: MailboxLab, client: Smtp) -> None:
    delivery = await client.send(mail(recipients=(ANN, BOB)))
    assert delivery.accepted == (ANN, BOB)
    assert delivery.refused == {}
    assert delivery.message_id == "a1@corp.example"
    (got,) = relay.messages
    assert (got.sender, got.recipients, got.login) == (SENDER, (ANN, BOB), "holdpoint")
    assert got.text.replace("\r\n", "\n") == mail().text
    assert got.html.replace("\r\n", "\n") == mail().html
    assert sorted(got.message.keys()) == HEADERS
    assert got.message["To"] == f"{ANN}, {BOB}"
    assert got.message["Message-ID"] == "<a1@corp.example>"
    assert got.message["Auto-Submitted"] == "auto-generated"
    assert got.message["X-Auto-Response-Suppress"] == "All"
    assert [part.get_content_type() for part in got.message.iter_parts()] == ["text/plain", "text/html"]
    verbs = [command.split(" ")[0] for command in relay.commands]
    assert verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"]


async def test_the_bytes_pass_any_server(relay: MailboxLab, client: Smtp) -> None:
    await client.send(mail())
    raw = relay.messages[0].raw
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


async def test_follow_ups_join_the_thread(relay: MailboxLab, client: Smtp) -> None:
    await client.send(mail(message_id="b2@corp.example", in_reply_to="a1@corp.example"))
    message = relay.messages[0].message
    assert message["In-Reply-To"] == message["References"] == "<a1@corp.example>"
    assert message["Message-ID"] == "<b2@corp.example>"


async def test_one_connection_a_mail(relay: MailboxLab, client: Smtp) -> None:
    await client.send(mail())
    await client.send(mail())
    assert relay.sessions == 2


async def test_a_waiting_reader_is_woken(relay: MailboxLab, client: Smtp) -> None:
    def wanted(received: Received) -> bool:
        return str(received.message["Message-ID"]) == "<b2@corp.example>"

    waiting = asyncio.create_task(relay.wait_for(wanted))
    await client.send(mail())
    await client.send(mail(message_id="b2@corp.example"))
    assert (await waiting).recipients == (ANN,)
    with pytest.raises(TimeoutError):
        await relay.wait_for(lambda received: False, timeout=0.01)


async def test_a_refused_recipient_does_not_keep_the_others_from_it(relay: MailboxLab, client: Smtp) -> None:
    relay.refused.add(BOB)
    delivery = await client.send(mail(recipients=(BOB, ANN)))
    assert delivery.accepted == (ANN,)
    assert delivery.refused == {BOB: "550 5.1.1 no such user here"}
    assert relay.messages[0].recipients == (ANN,)


async def test_a_deferred_recipient_beside_others_is_told_as_temporary(relay: MailboxLab, client: Smtp) -> None:
    relay.deferred.add(BOB)
    delivery = await client.send(mail(recipients=(ANN, BOB)))
    assert delivery.accepted == (ANN,)
    assert delivery.refused[BOB].startswith("451 4.7.1")
    assert "temporary" in delivery.refused[BOB]


@pytest.mark.parametrize(
    ("refused", "deferred", "error"),
    [({ANN, BOB}, set(), Rejected), (set(), {ANN, BOB}, Busy), ({ANN}, {BOB}, Busy)],
)
async def test_nobody_is_taken(
    relay: MailboxLab, client: Smtp, refused: set[str], deferred: set[str], error: type[IntegrationError]
) -> None:
    relay.refused |= refused
    relay.deferred |= deferred
    with pytest.raises(error) as caught:
        await client.send(mail(recipients=(ANN, BOB)))
    assert type(caught.value) is error
    assert ANN in str(caught.value)
    assert relay.messages == []


@pytest.mark.parametrize(("step", "reply"), [("auth", "535 5.7.8 no"), ("rcpt", "550 5.1.1 no"), ("data", "554 no")])
async def test_it_takes_its_leave_after_a_no_too(relay: MailboxLab, client: Smtp, step: str, reply: str) -> None:
    relay.fail(step, reply)
    with pytest.raises(IntegrationError):
        await client.send(mail())
    assert relay.commands[-1] == "QUIT"
    if step == "auth":
        relay.fail(step, reply)
        assert [line.ok for line in await client.check()] == [True, True, False]
        assert relay.commands[-2:] == ["AUTH PLAIN", "QUIT"]


async def test_an_address_that_is_none_is_told_and_the_others_get_it(relay: MailboxLab, client: Smtp) -> None:
    bad = [
        "a@b\r\nRCPT TO:<x@evil.example>",
        "Ann <ann@corp.example>",
        "=?utf-8?q?x?=@corp.example",
        "j\u00f6rg@corp",
        "",
    ]
    delivery = await client.send(mail(recipients=(*bad, ANN, ANN)))
    assert delivery.accepted == (ANN,)
    assert set(delivery.refused) == set(bad)
    assert [command for command in relay.commands if command.startswith("RCPT")] == [f"RCPT TO:<{ANN}>"]
    assert sorted(relay.messages[0].message.keys()) == HEADERS


async def test_no_recipient_at_all(relay: MailboxLab, client: Smtp) -> None:
    with pytest.raises(Rejected):
        await client.send(mail(recipients=()))
    assert relay.sessions == 0


@pytest.mark.parametrize(
    ("step", "reply", "error"),
    [
        ("connect", "421 4.3.2 too many connections", Busy),
        ("connect", "554 5.3.2 no mail service here", Rejected),
        ("connect", "HTTP/1.1 400 Bad Request", BadAnswer),
        ("connect", DROP, Unreachable),
        ("starttls", "454 4.7.0 TLS not available", Busy),
        ("starttls", "502 5.5.1 not here", Misconfigured),
        ("auth", "454 4.7.0 temporary authentication failure", Busy),
        ("auth", "535 5.7.8 no", Misconfigured),
        ("auth", "530 5.7.0 no", Misconfigured),
        ("mail", "451 4.3.0 later", Busy),
        ("mail", "421 4.3.0 going down", Busy),
        ("mail", "550 5.7.1 not you", Rejected),
        ("mail", "530 5.7.0 Authentication required", Misconfigured),
        ("mail", DROP, Unreachable),
        ("rcpt", DROP, Unreachable),
        ("data", "451 4.3.0 later", Busy),
        ("data", "452 4.3.1 disk full", Busy),
        ("data", "554 5.7.1 content refused", Rejected),
    ],
)
async def test_each_failure_has_one_type(
    relay: MailboxLab, client: Smtp, step: str, reply: str, error: type[IntegrationError]
) -> None:
    relay.fail(step, reply)
    with pytest.raises(IntegrationError) as caught:
        await client.send(mail())
    assert type(caught.value) is error
    assert relay.messages == []
    assert (await client.send(mail())).accepted == (ANN,)


async def test_a_lost_answer_is_unreachable_and_the_repeat_is_the_same_mail(relay: MailboxLab, client: Smtp) -> None:
    relay.fail("data", DROP)
    with pytest.raises(Unreachable):
        await client.send(mail())
    await client.send(mail())
    assert [got.message["Message-ID"] for got in relay.messages] == ["<a1@corp.example>"] * 2


async def test_silence_times_out(relay: MailboxLab, certificates: LabCertificates) -> None:
    relay.fail("connect", SILENT)
    with pytest.raises(Unreachable):
        await smtp(relay, certificates, timeout=0.2).send(mail())


async def test_nobody_listens(certificates: LabCertificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable):
        await Smtp("127.0.0.1", port, SENDER, ca_file=certificates.ca_file).send(mail())


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1"])
async def test_a_wrong_address(host: str, certificates: LabCertificates) -> None:
    with pytest.raises(Unreachable):
        await Smtp(host, 1, SENDER, ca_file=certificates.ca_file).send(mail())


async def test_a_certificate_of_another_authority(relay: MailboxLab, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    for changes in ({"ca_file": other.ca_file}, {"ca_file": None}):
        with pytest.raises(Misconfigured, match="certificate is not trusted"):
            await smtp(relay, other, **changes).send(mail())
    assert not [command for command in relay.commands if not command.startswith(("EHLO", "STARTTLS"))]


async def test_a_certificate_for_another_host(tmp_path: Path) -> None:
    elsewhere = make_certificates(tmp_path, names=("mail.corp.example",))
    async with MailboxLab(elsewhere) as relay:
        with pytest.raises(Misconfigured, match="certificate is not trusted"):
            await smtp(relay, elsewhere, username=None).send(mail())


async def test_a_ca_file_that_is_none(relay: MailboxLab, certificates: LabCertificates, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for ca_file in (empty, tmp_path / "absent.pem"):
        with pytest.raises(Misconfigured, match="ca_file"):
            await smtp(relay, certificates, ca_file=ca_file).send(mail())


async def test_without_starttls_nothing_is_said_in_clear(relay: MailboxLab, client: Smtp) -> None:
    relay.offers_starttls = False
    with pytest.raises(Misconfigured, match="STARTTLS"):
        await client.send(mail())
    assert relay.commands == ["EHLO"]


async def test_clear_text_is_for_this_machine_only(relay: MailboxLab, certificates: LabCertificates) -> None:
    with pytest.raises(Misconfigured, match="on this machine"):
        await smtp(relay, certificates, host="192.0.2.1", starttls=False).send(mail())
    async with relaying(None) as local:
        delivery = await smtp(local, certificates, starttls=False).send(mail())
    assert delivery.accepted == (ANN,)
    assert "STARTTLS" not in local.commands


async def test_the_password_stays_out_of_sight(
    relay: MailboxLab, certificates: LabCertificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    wrong = "wr0ng-battery"
    client = smtp(relay, certificates, password=wrong)
    with pytest.raises(Misconfigured) as caught:
        await client.send(mail())
    relay.fail("auth", f"500 what is AUTH PLAIN {wrong}?")
    with pytest.raises(Misconfigured) as echoed:
        await client.send(mail())
    for error in (caught.value, echoed.value):
        assert error.__cause__ is None
        assert error.__context__ is None
        assert wrong not in f"{error!r}{client!r}{caplog.text}"
    assert relay.commands.count("AUTH PLAIN") == 2


async def test_no_credentials_where_they_are_wanted(relay: MailboxLab, certificates: LabCertificates) -> None:
    with pytest.raises(Misconfigured):
        await smtp(relay, certificates, username=None, password=None).send(mail())


async def test_cancelling_leaves_no_connection(relay: MailboxLab, certificates: LabCertificates) -> None:
    relay.fail("connect", SILENT)
    sending = asyncio.create_task(smtp(relay, certificates).send(mail()))
    while not relay.sessions:
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await relay.stop()


async def test_check_sends_nothing(relay: MailboxLab, client: Smtp) -> None:
    lines = await client.check()
    assert all(line.ok for line in lines)
    assert len(lines) == 4
    assert relay.messages == []
    assert "DATA" not in relay.commands
    assert relay.commands[-2:] == ["RSET", "QUIT"]


@asynccontextmanager
async def _broken(how: str, certificates: LabCertificates) -> AsyncIterator[Smtp]:
    async with relaying(certificates) as relay:
        changes: dict[str, Any] = {}
        if how == "connection":
            relay.fail("connect", DROP)
        elif how == "STARTTLS":
            relay.offers_starttls = False
        elif how == "certificate":
            changes = {"ca_file": None}
        elif how == "credentials":
            changes = {"password": "wrong"}
        elif how == "sender":
            relay.fail("mail", "550 5.7.1 not you")
        yield smtp(relay, certificates, **changes)


@pytest.mark.parametrize("how", ["connection", "STARTTLS", "certificate", "credentials", "sender"])
async def test_check_names_what_is_wrong(how: str, certificates: LabCertificates) -> None:
    async with _broken(how, certificates) as client:
        lines = await client.check()
    assert [line.ok for line in lines] == [True] * (len(lines) - 1) + [False]
    assert how in lines[-1].name


HOSTILE = st.lists(
    st.sampled_from(
        ["=?UTF-8?Q?=0ABcc:_x@evil.example?=", "=?", "?=", "\n", "\r\nBcc: x@evil.example", "\u2028", "\x85"]
    )
    | st.sampled_from(
        ["\x0b", "\x00", "\ud800", "\u00f6" * 60, "x" * 90, " ", ",", "<a@evil.example>", '"', ";", "\n\n"]
    )
    | st.text(max_size=8),
    max_size=10,
).map("".join)


def _parsed(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, EmailMessage, policy=policy.default)


@given(HOSTILE)
def test_a_subject_brings_no_header_along(subject: str) -> None:
    message = _parsed(build_message(mail(subject=subject), SENDER, (ANN,), datetime.now(UTC)))
    assert sorted(message.keys()) == HEADERS
    assert message["To"] == ANN
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == mail().text


@given(HOSTILE)
def test_a_body_brings_no_header_along(body: str) -> None:
    try:
        raw = build_message(mail(text=body, html=body), SENDER, (ANN,), datetime.now(UTC))
    except Rejected:
        assert "\ud800" in body or any("\ud800" <= c <= "\udfff" for c in body)
        return
    message = _parsed(raw)
    assert sorted(message.keys()) == HEADERS
    assert len(list(message.iter_parts())) == 2


@given(HOSTILE)
def test_an_id_brings_no_header_along(value: str) -> None:
    for change in ({"message_id": value}, {"in_reply_to": f"{value}@corp.example"}):
        try:
            raw = build_message(mail(**change), SENDER, (ANN,), datetime.now(UTC))
        except Rejected:
            continue
        assert set(_parsed(raw).keys()) <= {*HEADERS, "In-Reply-To", "References"}


def test_long_ids_and_subjects_come_through() -> None:
    domain = "notifications.security-operations." + "long-" * 20 + "corp.example"
    subject = "Freigabe n\u00f6tig " * 10
    changed = mail(subject=subject, message_id=f"{'a' * 32}@{domain}", in_reply_to=f"{'b' * 32}@{domain}")
    raw = build_message(changed, SENDER, tuple(f"user{i}@{domain}" for i in range(60)), datetime.now(UTC))
    message = _parsed(raw)
    assert message["Message-ID"] == f"<{'a' * 32}@{domain}>"
    assert message["References"] == f"<{'b' * 32}@{domain}>"
    assert message["Subject"].split() == subject.split()
    assert len(message["To"].addresses) == 60
