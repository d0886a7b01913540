"""One mail a recipient, over real SMTP: who gets which link, and who is written to again when something breaks."""

from __future__ import annotations

import dataclasses
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiosmtpd.smtp import Envelope
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.answer_links import LinkMaker
from activities.notification import NotificationActivities
from incident.links import read
from incident.question import AnswerOption, MailContext
from incident.requests import AnswerLinks, Delivery, MailKind, Notice
from integrations.smtp import Smtp
from lab.certificates import LabCertificates
from lab.mailbox import DROP, MailboxLab, Received
from tests.integrations.mailing import ANN, BOB, smtp

SOC = "soc@corp.example"
KEY = "k" * 40
CASE = "sua-acme-10.20.30.40"
CONTEXT = MailContext(
    headline="700 MiB went from web01 to ws-042.",
    case_id=CASE,
    question_id="HP-1-Q1",
    tier="analyst",
    priority="high",
    options=tuple(
        AnswerOption(decision=word, effect="x", command_update="u", command_signal="s", command_starter="p")
        for word in ("contain", "false_positive")
    ),
)
LINK = AnswerLinks(case_id=CASE, run_id="run-1", question="HP-1-Q1", digest="d1", analysts=(ANN, BOB))


@pytest.fixture
def steps(relay: MailboxLab, certificates: LabCertificates) -> NotificationActivities:
    return worker(relay, certificates)


def worker(
    relay: MailboxLab,
    certificates: LabCertificates,
    *,
    desk: bool = True,
    client: type[Smtp] = Smtp,
    **changes: Any,
) -> NotificationActivities:
    """What one worker process has."""
    links = LinkMaker("https://desk.corp.example", KEY, timedelta(hours=24)) if desk else None
    return NotificationActivities(smtp(relay, certificates, client, **changes), "corp.example", links)


def notice(*recipients: str, **changes: Any) -> Notice:
    given: dict[str, Any] = {
        "kind": MailKind.ASK,
        "key": "hp-1",
        "thread": None,
        "case_ref": "HP-1",
        "recipients": recipients or (ANN, BOB, SOC),
        "context": CONTEXT.model_dump(mode="json"),
        "link": LINK,
        **changes,
    }
    return Notice(**given)


class Attempts:
    """The attempts of one step; what one leaves in its heartbeat the next one finds."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.number = 0

    async def __call__(self, steps: NotificationActivities, given: Notice) -> Delivery:
        self.number += 1
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, attempt=self.number, heartbeat_details=self.heard[-1:])
        environment.on_heartbeat = self.heard.append
        return cast(Delivery, await environment.run(steps.notify, given))


def tokens(mail: Received) -> set[str]:
    return set(re.findall(r"https://desk\.corp\.example/answer/([\w.-]+)\?answer=", mail.text))


def to(relay: MailboxLab) -> list[str]:
    """Who was written to, in order."""
    assert all(len(mail.recipients) == 1 for mail in relay.messages)
    return [mail.recipients[0] for mail in relay.messages]


async def test_each_gets_a_mail_with_a_link_of_their_own(relay: MailboxLab, steps: NotificationActivities) -> None:
    before = datetime.now(UTC)
    delivery = await Attempts()(steps, notice())
    assert (delivery.accepted, delivery.refused, delivery.deferred) == ((ANN, BOB, SOC), {}, {})
    assert to(relay) == [ANN, BOB, SOC]
    assert [str(mail.message["To"]) for mail in relay.messages] == [ANN, BOB, SOC]
    for mail, who in zip(relay.messages[:2], (ANN, BOB), strict=True):
        (token,) = tokens(mail)
        claim = read([KEY], token, datetime.now(UTC))
        assert (claim.analyst, claim.question, claim.digest, claim.run_id) == (who, "HP-1-Q1", "d1", "run-1")
        assert timedelta(hours=23, minutes=59) < claim.expires_at - before < timedelta(hours=24, minutes=1)
        assert token in mail.html
    assert tokens(relay.messages[2]) == set()
    assert f"https://desk.corp.example/cases/{CASE}" in relay.messages[2].text


async def test_each_has_a_thread_of_their_own(relay: MailboxLab, steps: NotificationActivities) -> None:
    await Attempts()(steps, notice())
    await Attempts()(steps, notice(ANN, BOB, kind=MailKind.REMIND, key="hp-1-2", thread="hp-1"))
    first, second = relay.messages[:3], relay.messages[3:]
    assert len({str(mail.message["Message-ID"]) for mail in relay.messages}) == 5
    for asked, reminded in zip(first[:2], second, strict=True):
        assert reminded.message["In-Reply-To"] == reminded.message["References"] == asked.message["Message-ID"]


async def test_without_a_desk_it_is_one_mail_to_all(relay: MailboxLab, certificates: LabCertificates) -> None:
    delivery = await Attempts()(worker(relay, certificates, desk=False), notice())
    (mail,) = relay.messages
    assert mail.recipients == delivery.accepted == (ANN, BOB, SOC)
    assert "https://" not in mail.text


async def test_who_is_refused_for_good_does_not_keep_the_others_from_theirs(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    relay.refused.add(ANN)
    delivery = await Attempts()(steps, notice(ANN, "no mailbox", BOB))
    assert delivery.accepted == (BOB,)
    assert "550 5.1.1" in delivery.refused[ANN]
    assert set(delivery.refused) == {ANN, "no mailbox"}
    assert delivery.deferred == {}


async def test_who_is_put_off_is_told_apart_and_the_others_do_not_wait(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    relay.deferred.add(ANN)
    delivery = await Attempts()(steps, notice())
    assert (delivery.accepted, delivery.refused) == ((BOB, SOC), {})
    assert "451 4.7.1" in delivery.deferred[ANN]
    relay.deferred.clear()
    rest = await Attempts()(steps, notice(*delivery.deferred))
    assert (rest.accepted, rest.deferred) == ((ANN,), {})
    assert to(relay) == [BOB, SOC, ANN]


async def test_when_all_are_put_off_the_attempt_has_failed_and_the_next_one_mails(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    relay.deferred |= {ANN, BOB}
    attempt = Attempts()
    with pytest.raises(ApplicationError) as failure:
        await attempt(steps, notice(ANN, BOB))
    assert (failure.value.type, failure.value.non_retryable) == ("Busy", False)
    assert ANN in str(failure.value)
    assert BOB in str(failure.value)
    relay.deferred.clear()
    assert (await attempt(steps, notice(ANN, BOB))).accepted == (ANN, BOB)


async def test_when_all_are_refused_for_good_it_has_failed_for_good(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    relay.refused |= {ANN, BOB}
    with pytest.raises(ApplicationError) as failure:
        await Attempts()(steps, notice(ANN, BOB))
    assert (failure.value.type, failure.value.non_retryable) == ("Rejected", True)


async def test_a_wrong_password_is_tried_once_and_not_once_a_recipient(
    relay: MailboxLab, certificates: LabCertificates
) -> None:
    with pytest.raises(ApplicationError) as failure:
        await Attempts()(worker(relay, certificates, password="wrong"), notice())
    assert failure.value.type == "Misconfigured"
    assert [command for command in relay.commands if command.startswith("AUTH")] == ["AUTH PLAIN"]


async def test_a_relay_that_dies_in_the_middle_is_not_asked_for_the_rest(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    async def around(moment: str, envelope: Envelope) -> bool:
        return moment == "after" or envelope.rcpt_tos != [BOB]

    relay.around = around
    attempt = Attempts()
    delivery = await attempt(steps, notice())
    assert delivery.accepted == (ANN,)
    assert set(delivery.deferred) == {BOB, SOC}
    assert relay.sessions == 2


async def test_after_a_crash_only_the_rest_is_mailed(relay: MailboxLab, certificates: LabCertificates) -> None:
    attempt = Attempts()

    class Dying(Smtp):
        async def send(self, mail: Any) -> Delivery:
            if mail.recipients == (BOB,):
                raise RuntimeError("the worker's end")
            return await super().send(mail)

    with pytest.raises(RuntimeError):
        await attempt(worker(relay, certificates, client=Dying), notice())
    assert to(relay) == [ANN]
    delivery = await attempt(worker(relay, certificates), notice())
    assert to(relay) == [ANN, BOB, SOC]
    assert set(delivery.accepted) == {ANN, BOB, SOC}
    assert await attempt(worker(relay, certificates), notice()) == delivery
    assert len(relay.messages) == 3


async def test_a_lost_answer_repeats_that_mail_alone_with_the_same_id(
    relay: MailboxLab, steps: NotificationActivities
) -> None:
    relay.fail("data", DROP)
    attempt = Attempts()
    with pytest.raises(ApplicationError, match=r"broke off|cannot be reached"):
        await attempt(steps, notice(ANN, BOB))
    await attempt(steps, notice(ANN, BOB))
    assert to(relay) == [ANN, ANN, BOB]
    one, again, other = (str(mail.message["Message-ID"]) for mail in relay.messages)
    assert one == again != other


async def test_no_token_is_in_a_log_a_heartbeat_a_result_or_a_failure(
    relay: MailboxLab, steps: NotificationActivities, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    attempt = Attempts()
    relay.deferred.add(BOB)
    delivery = await attempt(steps, notice(ANN, BOB))
    (token,) = tokens(relay.messages[0])
    with pytest.raises(ApplicationError) as failure:
        await Attempts()(steps, notice(BOB))
    told = f"{caplog.text} {attempt.heard} {delivery!r} {failure.value!r} {failure.value.__context__!r} {vars(steps)!r}"
    assert token not in told
    assert KEY not in told
    assert "/answer/" not in told
