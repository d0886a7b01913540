"""What the tests of the chats share: a notice, and a webhook's address that stays out of everything."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest

from incident.chat import ChatKind, ChatNotice
from integrations.errors import IntegrationError
from integrations.interfaces import Chat
from integrations.slack import Slack
from integrations.teams import Teams
from lab.chat import SlackLab, TeamsLab
from tests.integrations.swapped import Current, current

CASE = "sua-acme-10.20.30.40"
DESK = "https://holdpoint.corp.example.com"
LINK = f"{DESK}/cases/{CASE}"

Lab = TypeVar("Lab", SlackLab, TeamsLab)


def chat_fixtures(make: type[Lab], chat: type[Slack | Teams]) -> tuple[Any, Any, Any]:
    """The fixtures of a vendor's tests: its server, a fresh stand-in behind it, and a client that knows the desk.

    The first two are to be named ``served`` and ``lab``.
    """

    @pytest.fixture(scope="module")
    async def serving() -> AsyncIterator[Current[Lab]]:
        async with current(make) as app:
            yield app

    @pytest.fixture
    def fresh(served: Current[Lab]) -> Lab:
        return served.renewed()

    @pytest.fixture
    async def client(lab: Lab, served: Current[Lab]) -> AsyncIterator[Slack | Teams]:
        made = chat(served.url + lab.path, desk_url=DESK, total_seconds=1)
        yield made
        await made.aclose()

    return serving, fresh, client


def notice(text: str = "Case HP-1A2B3C4D, priority high: analyst is asked.") -> ChatNotice:
    return ChatNotice(kind=ChatKind.ASKED, case_id=CASE, text=text)


async def failure(chat: Chat, given: ChatNotice | None = None) -> IntegrationError:
    """Why it could not be posted."""
    with pytest.raises(IntegrationError) as caught:
        await chat.post(given or notice())
    return caught.value


def everything(error: BaseException, chat: Chat, logged: pytest.LogCaptureFixture) -> str:
    """All that a program could write down of a failure."""
    told = [repr(error), "".join(traceback.format_exception(error)), repr(chat), repr(vars(chat))]
    chain: BaseException | None = error
    while chain is not None:
        told.append(repr(chain) + repr(chain.args))
        chain = chain.__context__ or chain.__cause__
    return "\n".join([*told, *(record.getMessage() for record in logged.records), logged.text])


def loud(logged: pytest.LogCaptureFixture) -> None:
    """Log whatever there is."""
    logged.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        logged.set_level(logging.DEBUG, logger=name)
