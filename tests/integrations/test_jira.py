"""The Jira client against a stand-in over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
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
from integrations.jira import MAX_TEXT, MAX_TITLE, Jira, document, jql_string, plain_text
from lab.jira import JiraLab, _is_document, _parse
from tests.integrations import swapped
from tests.integrations.swapped import Current

Make = Callable[..., Awaitable[Jira]]
KEY = "hp-5f0c0e7a1b2c3d4e5f60"
MARKER = f"[{KEY}/1]"
FILE = Attachment(name="HP-1A2B3C4D-record.html", media_type="text/html", content="<p>\u00fc</p>\r\n".encode())
DRAFT = TicketDraft(
    key=KEY, title="Insider threat", description="What was\nseen\n\nand when", priority=Priority.CRITICAL
)


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current[JiraLab]]:
    async with swapped.current(JiraLab) as serving:
        yield serving


@pytest.fixture
def lab(current: Current[JiraLab]) -> JiraLab:
    return current.renewed()


@pytest.fixture
async def connect(lab: JiraLab, current: Current[JiraLab]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(**arguments: Any) -> Jira:
            plain: dict[str, Any] = {
                "url": current.url,
                "username": lab.username,
                "api_token": lab.api_token,
                "project": lab.project,
                "search_again": (0.0, 0.0),
            }
            client = Jira(**(plain | arguments))
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def desk(connect: Make) -> Jira:
    return await connect()


def creations(lab: JiraLab) -> int:
    return sum(method == "POST" and path == "/rest/api/3/issue" for method, path in lab.faults.requests)


def test_it_is_ticketing(desk: Jira) -> None:
    ticketing: Ticketing = desk
    assert ticketing is desk


class TestOpenTicket:
    async def test_the_issue_says_what_it_should(self, lab: JiraLab, desk: Jira, current: Current[JiraLab]) -> None:
        ticket = await desk.open_ticket(DRAFT)
        (issue,) = lab.issues
        assert (ticket.id, ticket.number) == (issue.id, issue.key)
        assert ticket.url == f"{current.url}/browse/{issue.key}"
        assert issue.fields["summary"] == DRAFT.title
        assert plain_text(issue.fields["description"]) == "What was\nseen\nand when"
        assert (issue.fields["labels"], issue.fields["priority"]) == ([KEY], {"name": "Highest"})
        assert issue.fields["issuetype"] == {"name": "Task"}

    async def test_the_second_call_finds_the_first_ones_issue(self, lab: JiraLab, desk: Jira) -> None:
        first = await desk.open_ticket(DRAFT)
        assert await desk.open_ticket(DRAFT.model_copy(update={"title": "another"})) == first
        assert len(lab.issues) == 1

    @pytest.mark.parametrize("lag", [0, 1, 2])
    @pytest.mark.parametrize("kind", ["reset", "truncated", "empty", "500"])
    async def test_a_lost_answer_makes_no_second_issue(self, lab: JiraLab, desk: Jira, kind: str, lag: int) -> None:
        lab.lag = lag
        lab.faults.add(kind, match="POST /rest/api/3/issue", after_effect=True)
        with pytest.raises((Unreachable, BadAnswer, Busy)):
            await desk.open_ticket(DRAFT)
        assert (await desk.open_ticket(DRAFT)).number == lab.issues[0].key
        assert len(lab.issues) == 1

    async def test_an_issue_that_stays_unfound_is_opened_twice_and_the_oldest_is_taken(
        self, lab: JiraLab, desk: Jira
    ) -> None:
        lab.lag = 3
        first = await desk.open_ticket(DRAFT)
        assert first.id == lab.issues[0].id
        lab.lag = 0
        assert (await desk.open_ticket(DRAFT)).id == first.id
        lab.issues[0].hidden_for = 3
        assert (await desk.open_ticket(DRAFT)).id == first.id
        assert len(lab.issues) == 2

    async def test_the_searches_are_spaced(self, lab: JiraLab, connect: Make) -> None:
        desk = await connect(search_again=(3600.0,))
        task = asyncio.create_task(desk.open_ticket(DRAFT))
        while not lab.faults.count("search/jql"):
            await asyncio.sleep(0.01)
        assert creations(lab) == 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_failed_search_creates_nothing(self, lab: JiraLab, desk: Jira) -> None:
        lab.faults.add("500", match="search")
        with pytest.raises(Busy):
            await desk.open_ticket(DRAFT)
        assert creations(lab) == 0

    @pytest.mark.parametrize("kind", ["500", "404", "html200", "reset", "truncated"])
    async def test_what_was_created_counts_though_it_cannot_be_read(self, lab: JiraLab, desk: Jira, kind: str) -> None:
        lab.faults.add(kind, match="GET")
        assert (await desk.open_ticket(DRAFT)).id == lab.issues[0].id

    async def test_a_label_that_only_looks_alike_is_another_case(self, lab: JiraLab, desk: Jira) -> None:
        lab.add_issue(KEY.upper())
        assert (await desk.open_ticket(DRAFT)).id == lab.issues[1].id

    async def test_of_several_the_oldest_is_taken_over_pages(self, lab: JiraLab, desk: Jira) -> None:
        lab.page = 1
        lab.add_issue("something-else")
        made = [lab.add_issue(KEY, "more") for _ in range(3)]
        lab.issues.reverse()
        assert (await desk.open_ticket(DRAFT)).id == made[0].id

    async def test_issues_without_their_labels_are_no_answer(self, lab: JiraLab, desk: Jira) -> None:
        lab.add_issue(KEY)
        lab.bare = True
        with pytest.raises(BadAnswer, match="labels"):
            await desk.open_ticket(DRAFT)
        assert creations(lab) == 0

    async def test_a_search_without_end_is_no_answer(self, lab: JiraLab, desk: Jira) -> None:
        lab.faults.add("200", match="search", times=99, body=b'{"issues":[],"nextPageToken":"again"}')
        with pytest.raises(BadAnswer):
            await desk.open_ticket(DRAFT)
        assert creations(lab) == 0

    async def test_priority_may_be_missing_on_the_screen(self, lab: JiraLab, desk: Jira) -> None:
        lab.screen.discard("priority")
        await desk.open_ticket(DRAFT)
        (issue,) = lab.issues
        assert "priority" not in issue.fields

    @pytest.mark.parametrize("field", ["labels", "issuetype"])
    async def test_other_fields_may_not(self, lab: JiraLab, desk: Jira, field: str) -> None:
        lab.screen.discard(field)
        with pytest.raises(Misconfigured, match="create screen"):
            await desk.open_ticket(DRAFT)
        assert lab.issues == []

    async def test_a_wrong_project_or_type_is_told(self, lab: JiraLab, connect: Make) -> None:
        for wrong in ({"project": "NONE"}, {"issue_type": "Nothing"}):
            with pytest.raises(Misconfigured, match=next(iter(wrong.values()))):
                await (await connect(**wrong)).open_ticket(DRAFT)
        assert lab.issues == []

    @pytest.mark.parametrize("key", ["", "short", 'hp-" OR key = "IR-1', "hp 12345678", "hp-\x0012345678", "x" * 65])
    async def test_a_key_is_a_label_or_nothing(self, lab: JiraLab, desk: Jira, key: str) -> None:
        with pytest.raises(Rejected):
            await desk.open_ticket(DRAFT.model_copy(update={"key": key}))
        assert lab.faults.requests == []

    async def test_long_and_odd_text_is_made_fit(self, lab: JiraLab, desk: Jira) -> None:
        odd = DRAFT.model_copy(update={"title": "t\n" * 300, "description": "\x00\ud800{code}*b*" + "d" * 99_999})
        await desk.open_ticket(odd)
        (issue,) = lab.issues
        assert len(issue.fields["summary"]) == MAX_TITLE
        assert len(plain_text(issue.fields["description"])) == MAX_TEXT
        empty = DRAFT.model_copy(update={"key": KEY + "-2", "title": "", "description": " \n\n"})
        await desk.open_ticket(empty)
        assert lab.issues[1].fields["summary"] == KEY + "-2"


class TestAddNote:
    async def test_a_note_is_written_once_and_internal(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        assert await desk.add_note(ticket, f"Closed.\n\n{MARKER}", MARKER)
        assert not await desk.add_note(ticket, f"Closed.\n\n{MARKER}", MARKER)
        assert await desk.add_note(ticket, "Another.", f"[{KEY}/2]")
        first, second = lab.issues[0].comments
        assert plain_text(first["body"]) == f"Closed.\n{MARKER}"
        assert plain_text(second["body"]) == f"Another.\n[{KEY}/2]"
        assert first["properties"] == [{"key": "sd.public.comment", "value": {"internal": True}}]

    @pytest.mark.parametrize("kind", ["reset", "truncated", "500", "html503"])
    async def test_a_lost_answer_writes_no_second_note(self, lab: JiraLab, desk: Jira, kind: str) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add(kind, match=f"POST /rest/api/3/issue/{ticket.id}/comment", after_effect=True)
        with pytest.raises((Unreachable, BadAnswer, Busy)):
            await desk.add_note(ticket, MARKER, MARKER)
        assert not await desk.add_note(ticket, MARKER, MARKER)
        assert len(lab.issues[0].comments) == 1

    async def test_the_marker_is_found_on_any_page(self, lab: JiraLab, desk: Jira) -> None:
        lab.page = 2
        ticket = await desk.open_ticket(DRAFT)
        lab.add_comment(lab.issues[0], document(MARKER))
        for number in range(5):
            lab.add_comment(lab.issues[0], document(f"talk {number}"))
        assert not await desk.add_note(ticket, MARKER, MARKER)

    async def test_a_long_note_keeps_its_marker(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        await desk.add_note(ticket, "n" * 99_999 + MARKER, MARKER)
        assert plain_text(lab.issues[0].comments[0]["body"]).endswith(MARKER)
        assert not await desk.add_note(ticket, "n" * 99_999 + MARKER, MARKER)

    async def test_an_issue_that_cannot_be_seen(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.blind = True
        with pytest.raises(NotFound, match="may not see"):
            await desk.add_note(ticket, MARKER, MARKER)
        with pytest.raises(NotFound, match="not the id"):
            await desk.add_note(Ticket(id="../1", number="IR-1"), MARKER, MARKER)

    async def test_comments_that_say_how_many_and_do_not_come(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add("200", match="GET", body=b'{"startAt":0,"maxResults":100,"total":0}')
        with pytest.raises(BadAnswer):
            await desk.add_note(ticket, MARKER, MARKER)


class TestFaults:
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("401", Misconfigured),
            ("403", Refused),
            ("404", Misconfigured),
            ("302", Misconfigured),
            ("410", Rejected),
            ("429", Busy),
            ("503", Busy),
            ("html503", Busy),
            ("html200", BadAnswer),
            ("error200", BadAnswer),
            ("empty", BadAnswer),
            ("truncated", BadAnswer),
            ("cut", Unreachable),
            ("reset", Unreachable),
        ],
    )
    async def test_each_failure_has_one_name(
        self, lab: JiraLab, desk: Jira, kind: str, error: type[IntegrationError]
    ) -> None:
        lab.faults.add(kind, match="search")
        with pytest.raises(error):
            await desk.open_ticket(DRAFT)
        assert lab.issues == []

    @pytest.mark.parametrize("kind", ["429", "503"])
    async def test_retry_after_is_seconds(self, lab: JiraLab, desk: Jira, kind: str) -> None:
        lab.faults.add(kind, seconds=11)
        with pytest.raises(Busy) as caught:
            await desk.open_ticket(DRAFT)
        assert caught.value.retry_after == timedelta(seconds=11)

    async def test_writes_that_are_forbidden(self, lab: JiraLab, desk: Jira) -> None:
        lab.readonly = True
        with pytest.raises(Refused, match="permission"):
            await desk.open_ticket(DRAFT)

    async def test_no_secret_is_told(self, lab: JiraLab, connect: Make) -> None:
        desk = await connect(api_token="wr0ng-t0ken")
        body = b'{"errorMessages":["not wr0ng-t0ken"],"errors":{}}'
        lab.faults.add("401", match="search", body=body)
        with pytest.raises(Misconfigured) as caught:
            await desk.open_ticket(DRAFT)
        assert "wr0ng-t0ken" not in str(caught.value) + repr(desk)
        (line,) = await desk.check()
        assert not line.ok
        assert "credentials" in line.detail

    @pytest.mark.parametrize("project", ["", "A B", 'X" OR project = "Y', "1A"])
    def test_a_project_is_a_key(self, project: str) -> None:
        with pytest.raises(Misconfigured):
            Jira("http://127.0.0.1:1", "u", "t", project)


async def test_the_doctor_reads_only(lab: JiraLab, desk: Jira) -> None:
    checks = await desk.check()
    assert [check.ok for check in checks] == [True] * 3
    assert {path for _, path in lab.faults.requests} == {"/rest/api/3/search/jql"}
    assert lab.issues == []


@given(st.text())
def test_any_text_is_one_jql_string_or_none(text: str) -> None:
    try:
        quoted = jql_string(text)
    except Rejected:
        assert not text or not text.isprintable()
        return
    assert _parse(f'project = "IR" AND labels = {quoted}') == {"project": "IR", "labels": text}


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n \t"))))
def test_any_text_is_a_document_of_full_texts(text: str) -> None:
    made = document(text)
    assert _is_document(made)
    assert "".join(plain_text(made).split()) == "".join(text.split())


def test_documents_of_other_editors_are_read() -> None:
    text = {"type": "text", "text": "a", "marks": [{"type": "strong"}]}
    rows = {
        "type": "bulletList",
        "content": [{"type": "listItem", "content": [{"type": "paragraph", "content": [text]}]}],
    }
    assert plain_text(
        {"type": "doc", "content": [rows, {"type": "rule"}, {"type": "paragraph", "content": [text]}]}
    ) == ("a\na")
    assert plain_text(None) == ""
    assert plain_text("plain") == "plain"


class TestAttach:
    async def test_the_file_is_there_as_it_is_and_once(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        assert await desk.attach(ticket, FILE) is True
        assert await desk.attach(ticket, FILE) is False
        assert lab.issues[0].files == [(FILE.name, FILE.media_type, FILE.content)]

    async def test_a_lost_answer_makes_no_second_file(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add("reset", match="/attachments", after_effect=True)
        with pytest.raises(Unreachable):
            await desk.attach(ticket, FILE)
        assert await desk.attach(ticket, FILE) is False
        assert len(lab.issues[0].files) == 1

    async def test_others_files_are_not_ours(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.issues[0].files.append(("other.html", "text/html", b"x"))
        lab.add_issue().files.append((FILE.name, "text/html", b"x"))
        assert await desk.attach(ticket, FILE) is True

    async def test_attachments_that_are_disabled(self, lab: JiraLab, desk: Jira) -> None:
        lab.no_files = True
        with pytest.raises(NotFound):
            await desk.attach(await desk.open_ticket(DRAFT), FILE)

    async def test_no_right(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.readonly = True
        with pytest.raises(Refused):
            await desk.attach(ticket, FILE)

    async def test_no_such_issue(self, lab: JiraLab, desk: Jira) -> None:
        for identity in ("99999", "IR-1/../../x", ""):
            with pytest.raises(NotFound):
                await desk.attach(Ticket(id=identity, number="IR-1"), FILE)

    @pytest.mark.parametrize(
        ("kind", "error"), [("413", Rejected), ("503", Busy), ("401", Misconfigured), ("html200", BadAnswer)]
    )
    async def test_failures_have_their_types(
        self, lab: JiraLab, desk: Jira, kind: str, error: type[IntegrationError]
    ) -> None:
        ticket = await desk.open_ticket(DRAFT)
        lab.faults.add(kind, match="/attachments")
        with pytest.raises(error):
            await desk.attach(ticket, FILE)

    async def test_an_answer_that_names_no_file(self, lab: JiraLab, desk: Jira) -> None:
        ticket = await desk.open_ticket(DRAFT)
        for body in (b"[]", b"{}", b"[1]"):
            lab.faults.add("error200", match="/attachments", body=body)
            with pytest.raises(BadAnswer):
                await desk.attach(ticket, FILE)
