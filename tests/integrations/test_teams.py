"""A Teams workflow's webhook, against a server that takes cards as one does."""

from __future__ import annotations

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
from integrations.teams import Teams, message
from lab.chat import TeamsLab, _card
from tests.integrations.chats import DESK, LINK, chat_fixtures, everything, failure, loud, notice
from tests.integrations.swapped import Current
from tests.unit.builders import HOSTILE

served, lab, teams = chat_fixtures(TeamsLab, Teams)


async def test_a_card_and_a_link_arrive(teams: Teams, lab: TeamsLab) -> None:
    await teams.post(notice("Case HP-1A2B3C4D, priority high: *R&D* [3] is asked."))
    (seen,) = lab.messages
    assert seen.text == "Case HP-1A2B3C4D, priority high: *R&D* [3] is asked."
    assert seen.links == [LINK]
    assert (seen.marked, seen.decides) == ([], [])
    # The signature goes out as it was given, and not encoded a second time.
    assert lab.faults.requests == [("POST", lab.path)]


async def test_without_a_desk_there_is_no_link(lab: TeamsLab, served: Current[TeamsLab]) -> None:
    client = Teams(served.url + lab.path)
    await client.post(notice())
    await client.aclose()
    assert lab.messages[0].links == []


ATTACKS = st.sampled_from(
    [
        *("[Open the case](http://evil.example)", "**b**", "_i_", "- x", "1. x", "# h", "<at>Everyone</at>"),
        *("{{DATE(2026-03-14T12:34:56Z,SHORT)}}", "{{", "}}", "{", "}", "${x}", "&lt;at&gt;", "\n\n"),
    ]
)


@given(st.lists(st.one_of(ATTACKS, HOSTILE), max_size=12).map("".join))
def test_text_stays_text(text: str) -> None:
    seen = _card(message(notice(f"x{text}x"), DESK))
    assert seen.links == [LINK]
    assert (seen.marked, seen.decides) == ([], [])
    assert seen.text.replace(" ", "") == plain(f"x{text}x").replace(" ", "")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "400", "body": b'{"error":{"code":"TriggerInputSchemaMismatch"}}'}, Rejected),
        ({"kind": "400", "body": b'{"error":{"code":"WorkflowTriggerIsNotEnabled"}}'}, Misconfigured),
        ({"kind": "413"}, Rejected),
        ({"kind": "401"}, Misconfigured),
        ({"kind": "403"}, Refused),
        ({"kind": "404"}, Misconfigured),
        ({"kind": "html404"}, Misconfigured),
        ({"kind": "410"}, Misconfigured),
        ({"kind": "302"}, Misconfigured),
        ({"kind": "500"}, Busy),
        ({"kind": "html502"}, Busy),
        ({"kind": "html200"}, BadAnswer),
        ({"kind": "reset"}, Unreachable),
        ({"kind": "slow", "seconds": 3}, Unreachable),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else value.__name__,
)
async def test_each_failure_has_its_type(
    teams: Teams, lab: TeamsLab, fault: dict[str, Any], kind: type[IntegrationError]
) -> None:
    lab.faults.add(**fault)
    assert type(await failure(teams)) is kind
    await teams.post(notice())


async def test_its_wish_to_wait_is_kept(teams: Teams, lab: TeamsLab) -> None:
    lab.faults.add("429", seconds=17)
    error = await failure(teams)
    assert isinstance(error, Busy)
    assert error.retry_after == timedelta(seconds=17)


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ("Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with id", Busy),
        (
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413 with id",
            Rejected,
        ),
        ("Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 502", BadAnswer),
        ("Webhook message delivery failed", BadAnswer),
    ],
)
async def test_a_connector_tells_its_failures_at_200(
    teams: Teams, lab: TeamsLab, says: str, kind: type[IntegrationError]
) -> None:
    lab.connector = True
    lab.connector_says = says
    assert type(await failure(teams)) is kind
    lab.connector_says = "1"
    await teams.post(notice())
    assert len(lab.messages) == 1


async def test_a_workflow_that_is_off_and_a_signature_that_is_cut(
    teams: Teams, lab: TeamsLab, served: Current[TeamsLab]
) -> None:
    lab.enabled = False
    assert isinstance(await failure(teams), Misconfigured)
    cut = Teams(served.url + lab.path.partition("&sig=")[0])
    error = await failure(cut)
    await cut.aclose()
    assert isinstance(error, Misconfigured)


@pytest.mark.parametrize("kind", ["401", "404", "429", "html503", "reset", "slow"])
async def test_the_address_is_told_nowhere(
    teams: Teams, lab: TeamsLab, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    loud(caplog)
    lab.faults.add(kind, seconds=3, body=f'{{"at": "{lab.path}"}}'.encode() if kind[0] == "4" else None)
    told = everything(await failure(teams), teams, caplog)
    await teams.post(notice())
    assert lab.path.rpartition("sig=")[2] not in told + caplog.text
    assert "0123456789abcdef" not in told + caplog.text


async def test_the_doctor_does_not_start_the_workflow(teams: Teams, lab: TeamsLab) -> None:
    checks = await teams.check()
    assert [check.ok for check in checks] == [True, True]
    assert lab.messages == []
    assert lab.faults.requests == [("GET", "/")]
    lab.faults.add("reset")
    (check,) = await teams.check()
    assert not check.ok
