"""A mail scanner opens every link and sends every form, as best it can. After it the case is undecided, always."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from temporalio.testing import WorkflowEnvironment

from incident.decision import DecisionName
from incident.desk import name_after, names_target
from tests.bridge.night import Night, a_night, links_in
from tests.bridge.page_reader import read_page
from tests.bridge.robots import PlainRobot
from tests.workflows.world import ANALYST


@pytest.fixture
async def night(dev_server: WorkflowEnvironment) -> AsyncIterator[Night]:
    async with a_night(dev_server.client) as made:
        yield made


def _mails_first(words: list[str]) -> list[str]:
    return sorted(words, key=lambda word: "@" not in word)


def _last_first(words: list[str]) -> list[str]:
    return words[::-1]


@dataclass(frozen=True)
class Kind:
    """One kind of scanner."""

    name: str
    order: Callable[[list[str]], list[str]] = list
    remembers: bool = True
    required_only: bool = False
    submits: bool = True


KINDS = (
    Kind("opens links only, as most do", submits=False),
    Kind("sends forms, host names first"),
    Kind("sends what is required, host names first", required_only=True),
    Kind("sends what is required, mail addresses first", required_only=True, order=_mails_first),
    Kind("sends what is required, the last word first", required_only=True, order=_last_first),
    Kind("keeps no cookies", remembers=False, required_only=True),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_no_scanner_answers(night: Night, kind: Kind) -> None:
    started = await night.ask()
    mail = night.mails_to(ANALYST)[-1]
    for number in range(2):
        robot = PlainRobot(
            address=f"127.0.0.{10 + number}",
            order=kind.order,
            remembers=kind.remembers,
            required_only=kind.required_only,
            submits=kind.submits,
        )
        trail = await robot.run(links_in(mail), mail.text)
        assert (trail.count("POST") >= 5) == kind.submits
        await night.undecided(started)
    state = await night.scene.until(started, lambda state: state["question"]["seen"])
    assert [one["analyst"] for one in state["question"]["seen"]] == [ANALYST]
    # And the person is not locked out by what the robots did.
    async with night.person() as person:
        assert await night.answers(person, "contain")
    assert (await night.scene.end(started))["decision"]["analyst"] == ANALYST


async def test_no_word_of_the_page_is_an_answer(night: Night) -> None:
    """A scanner tries every word of page and mail, and every label, and does not use up the person's tries."""
    started = await night.ask()
    mail = night.mails_to(ANALYST)[-1]
    trail = await PlainRobot(required_only=True, most=120).run([night.link_of()], mail.text)
    assert trail.statuses("POST") == {422}
    assert trail.count("POST") >= 120
    await night.undecided(started)
    async with night.person() as person:
        assert await night.answers(person, "contain")


async def test_nothing_that_can_be_copied_is_an_answer(night: Night) -> None:
    """Not even some words that stand beside each other: on the page, in the mail, in either's labels."""
    started = await night.ask()
    mail = night.mails_to(ANALYST)[-1]
    targets = (await night.scene.handle(started).query("desk"))["targets"]
    assert _answers(f"contain {night.world.host}", targets)
    async with night.person() as person:
        pages = [
            read_page(night.url, (await person.get(night.link_of() + hint)).text) for hint in ("", "?answer=contain")
        ]
    for text in (*(page.text for page in pages), mail.text, read_page(night.url, mail.html).text):
        words = text.split()
        copied = {" ".join(words[at : at + length]) for at in range(len(words)) for length in range(1, 7)}
        assert not [one for one in copied if _answers(one, targets)]


def _answers(typed: str, targets: dict[str, list[str]]) -> bool:
    names = [name_after(typed, decision) for decision in DecisionName]
    return any(name is not None and names_target(name, targets) for name in names)
