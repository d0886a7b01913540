"""From the settings to a channel that is told, and to incidents that hear of their case."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from clients import connect
from incident.chat import ChatKind, ChatNotice
from integrations.errors import Unreachable
from integrations.securonix import Securonix
from integrations.slack import Slack
from integrations.teams import Teams
from settings import Settings
from tests.house.layers import ROOT

WEBHOOK = "https://127.0.0.1:1/services/T0/B0/a-secret-of-the-tests"


def settings(**sections: Any) -> Settings:
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    tree["endpoint"]["crowdstrike"]["client_secret"] = "x"
    tree["securonix"] |= sections.pop("securonix", {})
    return Settings(**{**tree, **sections})


async def test_without_a_provider_nobody_is_told() -> None:
    given = settings()
    clients = connect(given)
    assert clients.chat is None
    assert isinstance(clients.incidents, Securonix)
    assert (given.case_policy().chat, given.case_policy().comment_incident) == (False, False)
    await clients.aclose()


@pytest.mark.parametrize(("provider", "kind"), [("slack", Slack), ("teams", Teams)])
async def test_the_provider_is_the_one_that_is_told(provider: str, kind: type) -> None:
    given = settings(
        chat={"provider": provider, provider: {"webhook": WEBHOOK}},
        desk={"url": "https://desk.example"},
        securonix={"write_back": True},
    )
    assert (given.case_policy().chat, given.case_policy().comment_incident) == (True, True)
    assert "a-secret" not in repr(given)
    assert "a-secret" not in given.case_policy().model_dump_json()
    clients = connect(given)
    chat = clients.chat
    assert chat is not None
    assert isinstance(chat, kind)
    with pytest.raises(Unreachable) as caught:
        await chat.post(ChatNotice(kind=ChatKind.CLOSED, case_id="x", text="y"))
    assert "a-secret" not in str(caught.value)
    (check,) = [check for check in await chat.check() if not check.ok]
    assert "a-secret" not in check.detail
    await clients.aclose()
