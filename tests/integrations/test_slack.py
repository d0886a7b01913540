"""Slack's webhook, against a server that takes messages as Slack does."""

from __future__ import annotations

import html
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.text import plain
from integrations.errors import (
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.slack import Slack, as_text, message
from lab.chat import SlackLab, _slack
from tests.integrations.chats import DESK, LINK, chat_fixtures, everything, failure, loud, notice
from tests.integrations.swapped import Current
from tests.unit.builders import HOSTILE

served, lab, slack = chat_fixtures(SlackLab, Slack)


async def test_a_line_and_a_link_arrive(slack: Slack, lab: SlackLab) -> None:
    await slack.post(notice("Case HP-1A2B3C4D, priority high: R&D <3 is asked."))
    (seen,) = lab.messages
    assert seen.text == seen.notification == "Case HP-1A2B3C4D, priority high: R&D <3 is asked."
    assert seen.links == [LINK]
    assert (seen.calls, seen.marked, seen.decides) == ([], [], [])


async def test_without_a_desk_there_is_no_link(lab: SlackLab, served: Current[SlackLab]) -> None:
    client = Slack(served.url + lab.path)
    await client.post(notice())
    await client.aclose()
    assert lab.messages[0].links == []


ATTACKS = st.sampled_from(
    [
        *("<!channel>", "<!here|here>", "<@U012AB3CD>", "<#C012AB3CD>", "<http://evil.example|Open the case>"),
        *("@here", "@channel", "@everyone", "*b*", "_i_", "~s~", "`c`", "```c```", "&lt;!channel&gt;", "&amp;lt;", ">"),
    ]
)


@given(st.lists(st.one_of(ATTACKS, HOSTILE), max_size=12).map("".join))
def test_text_stays_text(text: str) -> None:
    seen = _slack(message(notice(f"x{text}x"), DESK))
    assert seen.links == [LINK]
    assert (seen.calls, seen.marked, seen.decides) == ([], [], [])
    assert seen.text == plain(f"x{text}x").replace("@", "\uff20")


@given(st.text(max_size=6000))
def test_it_is_never_too_long(text: str) -> None:
    assert len(as_text("&" * 4000 + text)) <= 3000
    assert not any(unicodedata.category(c) == "Cc" for c in as_text(text))
    assert html.unescape(as_text("a" * 4000)).endswith("\u2026")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "400", "body": b"invalid_payload"}, Rejected),
        ({"kind": "400", "body": b"no_text"}, Rejected),
        ({"kind": "403", "body": b"invalid_token"}, Misconfigured),
        ({"kind": "403", "body": b"action_prohibited"}, Refused),
        ({"kind": "404", "body": b"no_service"}, Misconfigured),
        ({"kind": "404", "body": b"channel_not_found"}, Misconfigured),
        ({"kind": "410", "body": b"channel_is_archived"}, Misconfigured),
        ({"kind": "410", "body": b""}, Misconfigured),
        ({"kind": "html404"}, Misconfigured),
        ({"kind": "301"}, Misconfigured),
        ({"kind": "500", "body": b"rollup_error"}, Busy),
        ({"kind": "503"}, Busy),
        ({"kind": "html200"}, BadAnswer),
        ({"kind": "empty"}, BadAnswer),
        ({"kind": "error200", "body": b"not quite"}, BadAnswer),
        ({"kind": "reset"}, Unreachable),
        ({"kind": "cut"}, Unreachable),
        ({"kind": "slow", "seconds": 3}, Unreachable),
    ],
    ids=lambda value: value["kind"] + value.get("body", b"").decode() if isinstance(value, dict) else value.__name__,
)
async def test_each_failure_has_its_type(
    slack: Slack, lab: SlackLab, fault: dict[str, Any], kind: type[IntegrationError]
) -> None:
    lab.faults.add(**fault)
    assert type(await failure(slack)) is kind
    await slack.post(notice())


async def test_its_wish_to_wait_is_kept(slack: Slack, lab: SlackLab) -> None:
    lab.faults.add("429", seconds=30, body=b"rate_limited")
    error = await failure(slack)
    assert isinstance(error, Busy)
    assert error.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize("kind", ["404", "429", "html503", "301", "error200", "reset", "slow", "cut"])
async def test_the_address_is_told_nowhere(
    slack: Slack, lab: SlackLab, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    loud(caplog)
    secret = lab.path.rpartition("/")[2]
    lab.faults.add(kind, seconds=3, body=f"nobody at {lab.path}".encode() if kind[0] in "4e" else None)
    told = everything(await failure(slack), slack, caplog)
    await slack.post(notice())
    assert secret not in told + caplog.text
    assert "127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        *("", "not-a-secret", "https://", "https://hooks.example.com", "https://hooks.example.com/"),
        *("http://hooks.example.com/services/T/B/secretsecret", "https://u:secretsecret@hooks.example.com/services/x"),
        *("https://hooks.example.com:port/secretsecret", "https://hooks.example.com/secret secret", "https://[::1/x"),
        *(
            "ftp://hooks.example.com/secretsecret",
            "https://hooks.example.com//secretsecret",
            "https://h/secretsecret#x",
        ),
    ],
)
async def test_what_is_no_address_is_told_by_its_name_only(address: str) -> None:
    client = Slack(address)
    error = await failure(client)
    (check,) = await client.check()
    await client.aclose()
    assert isinstance(error, Misconfigured)
    assert str(error) == check.detail == "Slack: the webhook in the settings is not an https:// address with a path"


async def test_nobody_there_is_unreachable(served: Current[SlackLab]) -> None:
    client = Slack("http://127.0.0.1:1/services/T/B/secretsecret")
    error = await failure(client)
    await client.aclose()
    assert isinstance(error, Unreachable)
    assert "secret" not in str(error)


async def test_the_doctor_sees_a_webhook_and_posts_nothing(slack: Slack, lab: SlackLab) -> None:
    webhook, clock = await slack.check()
    assert (webhook.name, webhook.ok) == ("Slack: webhook", True)
    assert clock.ok
    assert lab.messages == []
    lab.state = "channel_is_archived"
    (gone,) = await slack.check()
    assert not gone.ok
    assert "make a new one" in gone.detail
    lab.state = ""
    lab.faults.add("error200", body=b"ok")
    (odd,) = await slack.check()
    assert not odd.ok
