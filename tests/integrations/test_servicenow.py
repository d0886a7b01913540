"""The ServiceNow client against a stand-in over real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.requests import Ticket, TicketDraft
from incident.triage import Priority
from integrations.errors import (
    BadAnswer,
    Busy,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.interfaces import Attachment, Ticketing
from integrations.servicenow import MAX_TEXT, ServiceNow, _note, _record
from lab.encoded_query import evaluate
from lab.servicenow import ServiceNowLab
from tests.integrations import swapped
from tests.integrations.swapped import Current

Make = Callable[..., Awaitable[ServiceNow]]
KEY = "sua-acme-5f0c0e7a1b"
MARKER = "[holdpoint sua-acme-5f0c0e7a1b closed]"
FILE = Attachment(name="HP-1A2B3C4D-record.json", media_type="application/json", content='{"a": "\u00fc"}\r\n'.encode())
DRAFT = TicketDraft(key=KEY, title="jdoe / WS-17", description="What was seen", priority=Priority.CRITICAL)


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current[ServiceNowLab]]:
    async with swapped.current(ServiceNowLab) as serving:
        yield serving


@pytest.fixture
def lab(current: Current[ServiceNowLab]) -> ServiceNowLab:
    return current.renewed()


@pytest.fixture
async def connect(lab: ServiceNowLab, current: Current[ServiceNowLab]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(**arguments: Any) -> ServiceNow:
            plain = {"url": current.url, "username": lab.username, "password": lab.password}
            client = ServiceNow(**(plain | arguments))
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def desk(connect: Make) -> ServiceNow:
    return await connect()


def at(seconds: int) -> str:
    return (datetime(2026, 3, 14, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


def test_it_is_ticketing(desk: ServiceNow) -> None:
    ticketing: Ticketing = desk
    assert ticketing is desk


class TestOpenTicket:
    async def test_the_ticket_says_what_it_should(
        self, lab: ServiceNowLab, desk: ServiceNow, current: Current[ServiceNowLab]
    ) -> None:
        ticket = await desk.open_ticket(DRAFT)
        (row,) = lab.rows()
        assert (ticket.id, ticket.number) == (row["sys_id"], row["number"])
        assert ticket.url == f"{current.url}/nav_to.do?uri=%2Fincident.do%3Fsys_id%3D{row['sys_id']}"
        assert row["short_description"] == DRAFT.title
        assert row["description"] == DRAFT.description
        assert (row["correlation_id"], row["correlation_display"]) == (KEY, "holdpoint")
        assert lab.notes(row["sys_id"], "comments") == []

    @pytest.mark.parametrize(("priority", "theirs"), [("critical", "1"), ("high", "2"), ("medium", "3"), ("low", "4")])
    async def test_the_lookup_rules_yield_our_priority(
        self, lab: ServiceNowLab, desk: ServiceNow, priority: str, theirs: str
    ) -> None:
        await desk.open_ticket(DRAFT.model_copy(update={"priority": Priority(priority)}))
        assert lab.rows()[0]["priority"] == theirs

    async def test_a_security_incident(self, lab: ServiceNowLab, connect: Make) -> None:
        desk = await connect(table="sn_si_incident")
        assert (await desk.open_ticket(DRAFT)).number.startswith("SIR")
        assert lab.rows("incident") == []

    async def test_the_second_call_finds_the_first_ones_ticket(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        first = await desk.open_ticket(DRAFT)
        assert await desk.open_ticket(DRAFT.model_copy(update={"title": "another"})) == first
        assert len(lab.rows()) == 1

    async def test_a_lost_answer_makes_no_second_ticket(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.faults.add("reset", match="POST", after_effect=True)
        with pytest.raises(Unreachable):
            await desk.open_ticket(DRAFT)
        assert (await desk.open_ticket(DRAFT)).number == lab.rows()[0]["number"]
        assert len(lab.rows()) == 1

    async def test_of_two_creators_both_take_the_older_ticket(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.faults.add("slow", match="GET", seconds=0.3, after_effect=True)
        late = asyncio.create_task(desk.open_ticket(DRAFT))
        while not lab.faults.requests:
            await asyncio.sleep(0)
        early = await desk.open_ticket(DRAFT)
        assert await late == early
        assert len(lab.rows()) == 2

    async def test_of_several_the_oldest_is_taken(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.add_row(correlation_id=KEY, sys_created_on=at(2), number="INC0000001")
        oldest = lab.add_row(correlation_id=KEY, sys_created_on=at(1), number="INC0000003")
        lab.add_row(correlation_id=KEY, sys_created_on=at(1), number="INC0000004")
        assert (await desk.open_ticket(DRAFT)).id == oldest["sys_id"]

    async def test_a_dropped_query_does_not_hand_over_a_strangers_ticket(
        self, lab: ServiceNowLab, desk: ServiceNow
    ) -> None:
        stranger = lab.add_row(correlation_id="somebody-elses", short_description="Printer")
        lab.add_row(correlation_id=f"{KEY}-2")
        lab.unsearchable = {"correlation_id"}
        ticket = await desk.open_ticket(DRAFT)
        assert ticket.id != stranger["sys_id"]
        assert await desk.open_ticket(DRAFT) == ticket
        assert len(lab.rows()) == 3

    async def test_the_key_is_compared_to_the_letter(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.add_row(correlation_id=KEY.upper())
        await desk.open_ticket(DRAFT)
        assert len(lab.rows()) == 2

    async def test_404_for_nothing_found(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.first_version = True
        first = await desk.open_ticket(DRAFT)
        assert await desk.open_ticket(DRAFT) == first

    @pytest.mark.parametrize(
        "key", ["", "short", "x" * 65, "javascript:gs.log(1)", "a-b-c-d-e^active=true", "ABCDEFGH", "abcdefgh\n"]
    )
    async def test_no_other_key_enters_a_query(self, lab: ServiceNowLab, desk: ServiceNow, key: str) -> None:
        with pytest.raises(Rejected):
            await desk.open_ticket(DRAFT.model_copy(update={"key": key}))
        assert lab.faults.requests == []

    async def test_a_long_title_is_cut_by_us_and_visibly(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        title, text = "host\n" * 100, "evidence " * 1000
        await desk.open_ticket(DRAFT.model_copy(update={"title": title, "description": text}))
        (row,) = lab.rows()
        assert len(row["short_description"]) == 160
        assert row["short_description"].endswith("…")
        assert "\n" not in row["short_description"]
        assert row["description"] == text

    @given(text=st.text(max_size=300))
    def test_any_text_can_be_sent(self, text: str) -> None:
        record = _record(DRAFT.model_copy(update={"title": text, "description": text}))
        assert all(value.encode() is not None and "\0" not in value for value in record.values())
        assert len(record["short_description"]) <= 160

    async def test_text_that_is_not_unicode_is_sent_without_that(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        await desk.open_ticket(DRAFT.model_copy(update={"description": "a\ud800\x00b"}))
        assert lab.rows()[0]["description"] == "a\ufffd\ufffdb"

    async def test_references_and_pairs_are_read(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        body = (
            b'{"result":{"sys_id":{"display_value":"x","value":"abc"},"number":{"link":"http://h/","value":"INC1"},'
            b'"correlation_id":{"value":"%s"},"sys_created_on":""}}' % KEY.encode()
        )
        lab.faults.add("error200", match="GET", body=body)
        ticket = await desk.open_ticket(DRAFT)
        assert (ticket.id, ticket.number) == ("abc", "INC1")

    @pytest.mark.parametrize("result", ["{}", "[]", "null", '"x"', '{"sys_id":"a"}', '{"sys_id":"../a","number":"1"}'])
    async def test_a_created_record_without_its_names(self, lab: ServiceNowLab, desk: ServiceNow, result: str) -> None:
        lab.faults.add("201", match="POST", body=b'{"result":%s}' % result.encode())
        with pytest.raises(BadAnswer):
            await desk.open_ticket(DRAFT)


class TestAddNote:
    @pytest.fixture
    async def ticket(self, desk: ServiceNow) -> Ticket:
        return await desk.open_ticket(DRAFT)

    async def test_a_note_is_private_and_written_once(
        self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket
    ) -> None:
        text = f"The host is cut off.\n{MARKER}"
        assert await desk.add_note(ticket, text, MARKER) is True
        assert await desk.add_note(ticket, text, MARKER) is False
        assert lab.notes(ticket.id) == [text]
        assert lab.notes(ticket.id, "comments") == []

    async def test_another_note_is_another(self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket) -> None:
        assert await desk.add_note(ticket, "first [a1]", "[a1]")
        assert await desk.add_note(ticket, "second [a2]", "[a2]")
        assert len(lab.notes(ticket.id)) == 2

    async def test_a_lost_answer_makes_no_second_note(
        self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket
    ) -> None:
        lab.faults.add("cut", match="PATCH", after_effect=True)
        with pytest.raises(Unreachable):
            await desk.add_note(ticket, MARKER, MARKER)
        assert await desk.add_note(ticket, MARKER, MARKER) is False
        assert len(lab.notes(ticket.id)) == 1

    async def test_the_journal_tells_what_the_record_hides(
        self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket
    ) -> None:
        other = lab.add_row(work_notes=f"{MARKER} of another ticket")
        lab.hidden_notes = True
        lab.unsearchable = {"element_id"}
        assert await desk.add_note(ticket, MARKER, MARKER) is True
        assert await desk.add_note(ticket, MARKER, MARKER) is False
        assert (len(lab.notes(ticket.id)), len(lab.notes(other["sys_id"]))) == (1, 1)

    async def test_the_record_tells_what_the_journal_hides(
        self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket
    ) -> None:
        lab.hidden_journal = True
        assert await desk.add_note(ticket, MARKER, MARKER) is True
        assert await desk.add_note(ticket, MARKER, MARKER) is False

    async def test_both_hidden(self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket) -> None:
        lab.hidden_notes = lab.hidden_journal = True
        assert await desk.add_note(ticket, MARKER, MARKER) is True

    async def test_the_marker_survives_the_cut(self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket) -> None:
        await desk.add_note(ticket, f"{'x' * MAX_TEXT}\n{MARKER}", MARKER)
        (note,) = lab.notes(ticket.id)
        assert len(note) <= MAX_TEXT
        assert note.endswith(MARKER)

    @given(text=st.text(max_size=50), code=st.sampled_from(["[code]", "[/CODE]", "[ code ]", "[Code]"]))
    def test_an_alert_cannot_draw_in_the_journal(self, text: str, code: str) -> None:
        note = _note(f"{text}{code}<b>{text}", "m-1")
        assert "[code]" not in note.lower()
        assert "[/code]" not in note.lower()
        assert "m-1" in note

    async def test_a_ticket_that_is_gone(self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket) -> None:
        lab.rows().clear()
        with pytest.raises(NotFound):
            await desk.add_note(ticket, MARKER, MARKER)

    @pytest.mark.parametrize("sys_id", ["", "..", "a/b", "a^active=true", "a?b"])
    async def test_an_id_that_is_none(self, lab: ServiceNowLab, desk: ServiceNow, sys_id: str) -> None:
        with pytest.raises(NotFound):
            await desk.add_note(Ticket(id=sys_id, number="INC1"), MARKER, MARKER)
        assert lab.faults.requests == []

    async def test_no_right_to_write(self, lab: ServiceNowLab, desk: ServiceNow, ticket: Ticket) -> None:
        lab.readonly = True
        with pytest.raises(Refused, match="ACL"):
            await desk.add_note(ticket, MARKER, MARKER)


class TestFailures:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("500", Busy),
            ("503", Busy),
            ("429", Busy),
            ("400", Rejected),
            ("403", Refused),
            ("401", Misconfigured),
            ("404", Misconfigured),
            ("302", Misconfigured),
            ("html200", BadAnswer),
            ("error200", Busy),
            ("empty", BadAnswer),
            ("truncated", BadAnswer),
            ("cut", Unreachable),
            ("reset", Unreachable),
        ],
    )
    @pytest.mark.parametrize("match", ["GET", "POST"])
    async def test_each_failure_has_its_name(
        self, lab: ServiceNowLab, desk: ServiceNow, fault: str, kind: type[IntegrationError], match: str
    ) -> None:
        lab.faults.add(fault, match=match)
        with pytest.raises(kind):
            await desk.open_ticket(DRAFT)

    async def test_an_error_beside_rows_is_a_failure(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        body = b'{"result":[],"error":{"message":"odd thing","detail":null},"status":"failure"}'
        lab.faults.add("error200", match="GET", body=body)
        with pytest.raises(BadAnswer, match="odd thing"):
            await desk.open_ticket(DRAFT)
        assert lab.rows() == []

    async def test_it_waits_as_long_as_it_is_told(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.faults.add("429", seconds=42, body=b'{"error":{"message":"Rate limit exceeded"},"status":"failure"}')
        with pytest.raises(Busy, match="Rate limit exceeded") as caught:
            await desk.open_ticket(DRAFT)
        assert caught.value.retry_after == timedelta(seconds=42)

    async def test_a_table_that_is_not_there(self, connect: Make) -> None:
        desk = await connect(table="u_cases")
        with pytest.raises(Misconfigured, match="Invalid table u_cases"):
            await desk.open_ticket(DRAFT)

    async def test_a_table_that_is_no_name(self, connect: Make) -> None:
        with pytest.raises(Misconfigured):
            await connect(table="incident/../sys_user")

    async def test_a_wrong_password_is_not_repeated(self, connect: Make) -> None:
        desk = await connect(password="wrong-password")
        with pytest.raises(Misconfigured, match="User Not Authenticated") as caught:
            await desk.open_ticket(DRAFT)
        assert "wrong-password" not in str(caught.value)

    async def test_an_echo_of_the_credentials_is_blotted_out(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        pair = base64.b64encode(f"{lab.username}:{lab.password}".encode()).decode()
        words = f'{{"error":{{"message":"bad {lab.password}","detail":"Basic {pair}"}},"status":"failure"}}'
        lab.faults.add("403", body=words.encode())
        with pytest.raises(Refused) as caught:
            await desk.open_ticket(DRAFT)
        assert lab.password not in str(caught.value)
        assert pair not in str(caught.value)


class TestCheck:
    async def test_all_is_well_and_nothing_was_written(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.add_row()
        checks = await desk.check()
        assert all(check.ok for check in checks)
        assert {method for method, _ in lab.faults.requests} == {"GET"}

    async def test_a_dropped_search_is_told(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.add_row()
        lab.unsearchable = {"correlation_id"}
        assert [check.name for check in await desk.check() if not check.ok] == ["ServiceNow: search by correlation_id"]

    async def test_it_tells_and_does_not_raise(self, connect: Make) -> None:
        desk = await connect(password="wrong-password")
        (check,) = await desk.check()
        assert not check.ok


class TestEncodedQuery:
    """The stand-in's own grammar, since the traps are in it."""

    ROWS = ({"a": "1", "b": "x^y"}, {"a": "2", "b": "z"}, {"a": "3", "b": ""})

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", "123"),
            ("a=1", "1"),
            ("a=1^ORa=2", "12"),
            ("a!=1^b=z", "2"),
            ("a=1^NQa=3", "13"),
            ("nosuch=1^a=2", "2"),
            ("nosuch=1", "123"),
            ("a~1", "123"),
            ("b=x^^y", "1"),
            ("bISEMPTY", "3"),
            ("aIN1,3^ORDERBYDESCa", "31"),
            ("a=javascript:gs.sleep(1)", "123"),
        ],
    )
    def test_what_it_does_not_understand_it_drops(self, query: str, found: str) -> None:
        assert "".join(row["a"] for row in evaluate(query, self.ROWS, {"a", "b"}).rows) == found


class TestAttach:
    def _files(self, lab: ServiceNowLab) -> list[tuple[str, str, bytes]]:
        return [(row["file_name"], row["content_type"], lab.files[row["sys_id"]]) for row in lab.rows("sys_attachment")]

    async def test_the_file_is_there_as_it_is_and_once(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        ticket = await desk.open_ticket(DRAFT)
        assert await desk.attach(ticket, FILE) is True
        assert await desk.attach(ticket, FILE) is False
        assert self._files(lab) == [(FILE.name, FILE.media_type, FILE.content)]
        (row,) = lab.rows("sys_attachment")
        assert (row["table_name"], row["table_sys_id"]) == ("incident", ticket.id)

    async def test_a_lost_answer_makes_no_second_file(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add("reset", match="POST /api/now/attachment", after_effect=True)
        with pytest.raises(Unreachable):
            await desk.attach(ticket, FILE)
        assert await desk.attach(ticket, FILE) is False
        assert len(self._files(lab)) == 1

    @pytest.mark.parametrize("dropped", [set[str](), {"file_name"}, {"table_sys_id"}, {"file_name", "table_sys_id"}])
    async def test_others_files_are_not_ours(self, lab: ServiceNowLab, desk: ServiceNow, dropped: set[str]) -> None:
        ticket, other = await desk.open_ticket(DRAFT), lab.add_row()
        lab.add_file(b"x", table_name="incident", table_sys_id=other["sys_id"], file_name=FILE.name)
        lab.add_file(b"x", table_name="incident", table_sys_id=ticket.id, file_name="other.json")
        lab.unsearchable = dropped
        assert await desk.attach(ticket, FILE) is True
        assert await desk.attach(ticket, FILE) is False
        assert len(self._files(lab)) == 3

    async def test_a_type_that_is_not_allowed(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        lab.extensions = {"pdf"}
        with pytest.raises(Rejected, match="file type"):
            await desk.attach(await desk.open_ticket(DRAFT), FILE)

    async def test_no_right(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.readonly = True
        with pytest.raises(Refused):
            await desk.attach(ticket, FILE)

    async def test_no_such_ticket(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        for sys_id in ("0" * 32, "x^ORsys_idISNOTEMPTY", ""):
            with pytest.raises(NotFound):
                await desk.attach(Ticket(id=sys_id, number="INC1"), FILE)
        assert self._files(lab) == []

    @pytest.mark.parametrize(
        ("kind", "error"), [("503", Busy), ("429", Busy), ("401", Misconfigured), ("html200", BadAnswer)]
    )
    async def test_failures_have_their_types(
        self, lab: ServiceNowLab, desk: ServiceNow, kind: str, error: type[IntegrationError]
    ) -> None:
        ticket = await desk.open_ticket(DRAFT)
        for match in ("GET /api/now/attachment", "POST /api/now/attachment"):
            lab.faults.add(kind, match=match)
            with pytest.raises(error):
                await desk.attach(ticket, FILE)

    async def test_half_a_file_is_none(self, lab: ServiceNowLab, desk: ServiceNow) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add("error200", match="POST /api/now/att", body=b'{"result": {"sys_id": "a1", "size_bytes": "3"}}')
        with pytest.raises(BadAnswer):
            await desk.attach(ticket, FILE)
