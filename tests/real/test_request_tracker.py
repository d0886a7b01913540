"""The Request Tracker client against Request Tracker 5 itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.ticketing import TicketingActivities
from incident.requests import Ticket, TicketDraft, TicketNote
from incident.triage import Priority
from integrations.errors import IntegrationError, Misconfigured, NotFound, Refused
from integrations.interfaces import Attachment
from integrations.rt import MAX_TITLE, PRIORITIES, RequestTracker, ticketsql_string
from tests.real.packages import need
from tests.real.request_tracker import (
    ADMINISTRATOR,
    FIELD,
    FOREIGN,
    HIDDEN,
    KEYLESS,
    QUEUE,
    TWOFOLD,
    WATCHER,
    Tracker,
    tracker,
)
from tests.workflows.world import Scene, World, alert, working

Make = Callable[..., RequestTracker]
HOSTILE = (
    "<script>alert(1)</script> & \"quoted\" 'it''s' \\ `id` ${x} {$y} %s __Status__",
    "line\r\nX-RT-Loop: yes\nBcc: jdoe@acme.example\n\n.\n\nFrom here",
    "ü ☠ 😀 \u202egnp.exe\u202c \u2028 end\u00a0",
    "-- \nRT::Ticket { $Ticket->Delete } [acme.example #1]",
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def rt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tracker]:
    need("Request Tracker")
    async with tracker(tmp_path_factory.mktemp("rt")) as standing:
        yield standing


@pytest.fixture
async def client(rt: Tracker) -> AsyncIterator[Make]:
    """Clients, closed after the test."""
    async with AsyncExitStack() as stack:

        def make(account: str = "svc-holdpoint", **changes: Any) -> RequestTracker:
            made = rt.client(account, **changes)
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
async def desk(client: Make) -> RequestTracker:
    return client()


@pytest.fixture
async def admin(rt: Tracker) -> AsyncIterator[httpx.AsyncClient]:
    """RT's administrator, to see and to do what Holdpoint may not."""
    async with rt.web(ADMINISTRATOR) as web:
        yield web


def draft(**changes: Any) -> TicketDraft:
    plain = {
        "key": f"hp-5f0c0e7a1b2c-{next(_numbers):04}",
        "title": "Insider threat",
        "description": "What was seen",
        "priority": Priority.CRITICAL,
    }
    return TicketDraft.model_validate({**plain, **changes})


async def told(web: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await web.get(f"/REST/2.0{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def tickets(web: httpx.AsyncClient, query: str = "id > 0") -> list[str]:
    found = await told(web, "/tickets", query=query, per_page="100")
    assert found["count"] == found["total"]
    return [str(item["id"]) for item in found["items"]]


async def by_key(web: httpx.AsyncClient, key: str) -> list[str]:
    return await tickets(web, f"Queue = '{QUEUE}' AND CF.{{{FIELD}}} = '{key}'")


async def history(web: httpx.AsyncClient, number: str) -> list[str]:
    """The types of what happened to a ticket, without the mails that RT sent about it."""
    rows = (await told(web, f"/ticket/{number}/history", fields="Type", per_page="100"))["items"]
    return [row["Type"] for row in rows if row["Type"] not in {"EmailRecord", "CommentEmailRecord"}]


async def texts(web: httpx.AsyncClient, number: str) -> list[tuple[str, str]]:
    """Type and content of the texts on a ticket; those of the mails are copies."""
    rows = await told(web, f"/ticket/{number}/attachments", fields="ContentType,Content,Headers", per_page="100")
    kept = [row for row in rows["items"] if "X-RT-Interface: REST" in row["Headers"]]
    return [(row["ContentType"], row["Content"]) for row in kept]


async def made_elsewhere(web: httpx.AsyncClient, key: str) -> str:
    body = {"Queue": QUEUE, "Subject": "made elsewhere", "CustomFields": {FIELD: key}}
    answer = await web.post("/REST/2.0/ticket", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


class TestOpenTicket:
    async def test_the_ticket_says_what_it_should(self, rt: Tracker, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        ticket = await desk.open_ticket(given)
        body = await told(admin, f"/ticket/{ticket.id}")
        assert (ticket.number, ticket.url) == (str(body["id"]), f"{rt.url}/Ticket/Display.html?id={body['id']}")
        assert (body["Subject"], body["Status"], body["Type"]) == (given.title, "new", "ticket")
        assert [field["values"] for field in body["CustomFields"] if field["name"] == FIELD] == [[given.key]]
        assert body["Requestor"] == []
        assert await texts(admin, ticket.id) == [("text/plain", given.description)]

    @pytest.mark.parametrize("priority", list(Priority))
    async def test_the_priority_is_a_number(self, desk: RequestTracker, admin: Any, priority: Priority) -> None:
        ticket = await desk.open_ticket(draft(priority=priority))
        assert (await told(admin, f"/ticket/{ticket.id}"))["Priority"] == str(PRIORITIES[priority])

    async def test_the_second_call_finds_the_first_ones_ticket(self, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        first = await desk.open_ticket(given)
        assert await desk.open_ticket(given.model_copy(update={"title": "another"})) == first
        assert await by_key(admin, given.key) == [first.id]

    async def test_a_ticket_whose_answer_was_lost_is_found(self, rt: Tracker, desk: RequestTracker) -> None:
        given = draft()
        async with rt.web("svc-holdpoint") as web:
            number = await made_elsewhere(web, given.key)
            assert (await desk.open_ticket(given)).id == number
            assert await by_key(web, given.key) == [number]

    async def test_two_calls_at_once_agree(self, client: Make, admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        both_have_searched, create = asyncio.Barrier(2), RequestTracker._create

        async def create_together(self: RequestTracker, *arguments: Any) -> str:
            await both_have_searched.wait()
            return await create(self, *arguments)

        monkeypatch.setattr(RequestTracker, "_create", create_together)
        given = draft()
        async with asyncio.timeout(30):
            one, two = await asyncio.gather(client().open_ticket(given), client().open_ticket(given))
        there = await by_key(admin, given.key)
        assert len(there) == 2
        assert one == two
        assert one.id == min(there, key=int)

    async def test_the_key_is_compared_to_the_letter(self, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        other = await made_elsewhere(admin, given.key.upper())
        assert (await desk.open_ticket(given)).id != other

    async def test_a_ticket_that_was_merged_is_still_the_ticket(self, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        ticket = await desk.open_ticket(given)
        other = await made_elsewhere(admin, draft().key)
        merged = await admin.put(f"/REST/2.0/ticket/{ticket.id}", json={"MergeInto": other})
        assert (await told(admin, f"/ticket/{ticket.id}"))["id"] == int(other), merged.text
        assert await desk.open_ticket(given) == ticket
        assert await desk.add_note(ticket, f"n [{given.key}/1]", f"[{given.key}/1]")
        assert not await desk.add_note(ticket, f"n [{given.key}/1]", f"[{given.key}/1]")
        assert (await history(admin, other)).count("Comment") == 1

    async def test_a_queue_of_an_odd_name(self, client: Make, admin: Any) -> None:
        ticket = await client(queue=FOREIGN).open_ticket(draft())
        body = await told(admin, f"/ticket/{ticket.id}")
        queue = await told(admin, f"/queue/{body['Queue']['id']}")
        assert queue["Name"] == FOREIGN
        assert (await client(queue=body["Queue"]["id"]).check())[0].ok


class TestUntrustedText:
    @pytest.mark.parametrize("text", HOSTILE)
    async def test_text_arrives_as_text(self, desk: RequestTracker, admin: Any, text: str) -> None:
        given = draft(title=text, description=text)
        marker = f"[{given.key}/1]"
        ticket = await desk.open_ticket(given)
        await desk.add_note(ticket, f"{text}\n\n{marker}", marker)
        body = await told(admin, f"/ticket/{ticket.id}")
        title, lines = " ".join(text.split()), text.replace("\r\n", "\n")
        assert body["Subject"] == title
        assert await texts(admin, ticket.id) == [("text/plain", lines), ("text/plain", f"{lines}\n\n{marker}")]
        if title.isprintable():
            assert ticket.id in await tickets(admin, f"Subject = {ticketsql_string(title)}")

    async def test_the_page_shows_it_and_runs_nothing(self, rt: Tracker, desk: RequestTracker) -> None:
        ticket = await desk.open_ticket(draft(title=HOSTILE[0], description=HOSTILE[0]))
        assert ticket.url
        async with rt.web() as browser:
            login = {"user": ADMINISTRATOR, "pass": "password"}
            await browser.post("/NoAuth/Login.html", data=login)
            page = (await browser.get(ticket.url)).text
        assert page.count("&lt;script&gt;alert") >= 2, "subject and description"
        assert "<script>alert" not in page

    @pytest.mark.parametrize("key", ["x' OR id > 0 OR Subject = 'y", 'a" b', "a\\", "\\'", "100%_", "{x}", "CF", "ü☠"])
    async def test_quotes_hold(self, desk: RequestTracker, admin: Any, key: str) -> None:
        number = await made_elsewhere(admin, key)
        assert await tickets(admin, f"CF.{{{FIELD}}} = {ticketsql_string(key)}") == [number]

    async def test_what_rt_has_no_room_for_is_cut_here(self, desk: RequestTracker, admin: Any) -> None:
        ticket = await desk.open_ticket(draft(title="s" + "☠" * 300, description=""))
        body = await told(admin, f"/ticket/{ticket.id}")
        assert MAX_TITLE - 3 < len(body["Subject"].encode()) <= MAX_TITLE
        assert body["Subject"].endswith("☠…")


class TestAddNote:
    async def test_a_note_is_a_comment_and_written_once(self, rt: Tracker, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        ticket = await desk.open_ticket(given)
        markers = [f"[{given.key}/{number}]" for number in (1, 11)]
        for marker in markers:
            assert await desk.add_note(ticket, f"Closed. {marker}", marker)
        for marker in markers:
            assert not await desk.add_note(ticket, f"Closed. {marker}", marker)
        assert await history(admin, ticket.id) == ["Create", "Comment", "Comment"]

    async def test_a_note_whose_answer_was_lost_is_found(self, rt: Tracker, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        marker, ticket = f"[{given.key}/1]", await desk.open_ticket(given)
        async with rt.web("svc-holdpoint") as web:
            body = {"Content": f"Zuvor ☠\n\n{marker}", "ContentType": "text/plain"}
            answer = await web.post(f"/REST/2.0/ticket/{ticket.id}/comment", json=body)
            assert answer.status_code == 201
        assert not await desk.add_note(ticket, marker, marker)
        assert await history(admin, ticket.id) == ["Create", "Comment"]

    async def test_a_marker_is_found_behind_much_talk(self, desk: RequestTracker, admin: Any) -> None:
        given = draft()
        marker, ticket = f"[{given.key}/1]", await desk.open_ticket(given)
        await desk.add_note(ticket, marker, marker)
        for number in range(5):
            talk = {"Content": f"talk {number}", "ContentType": "text/plain"}
            await admin.post(f"/REST/2.0/ticket/{ticket.id}/comment", json=talk)
        assert not await desk.add_note(ticket, marker, marker)

    async def test_rt_mails_its_watchers_and_nobody_else(self, rt: Tracker, desk: RequestTracker) -> None:
        given = draft(title="jdoe@acme.example", description=f"suspect\n\n{HOSTILE[1]}")
        ticket = await desk.open_ticket(given)
        await desk.add_note(ticket, f"{HOSTILE[1]} [{given.key}/1]", f"[{given.key}/1]")
        recipients = {to for mail in rt.mails() for header in ("To", "Cc", "Bcc") for to in mail.get_all(header, [])}
        assert any(WATCHER in to for to in recipients)
        assert not any("jdoe" in to for to in recipients)

    async def test_a_ticket_that_is_not_there_or_may_not_be_written(self, desk: RequestTracker, client: Make) -> None:
        with pytest.raises(NotFound):
            await desk.add_note(Ticket(id="99999", number="99999"), "[x/1]", "[x/1]")
        ticket = await desk.open_ticket(draft())
        with pytest.raises(Refused, match="CommentOnTicket"):
            await client("svc-reads").add_note(ticket, "[x/1]", "[x/1]")
        with pytest.raises(Refused, match="may not see"):
            await client("svc-nobody").add_note(ticket, "[x/1]", "[x/1]")


class TestAttach:
    async def test_a_file_is_attached_once_and_is_not_mailed(
        self, rt: Tracker, desk: RequestTracker, admin: Any
    ) -> None:
        ticket = await desk.open_ticket(draft())
        file = Attachment(name="HP-1-record.json", media_type="application/json", content=b'{"a": "\xc3\xbc"}')
        assert await desk.attach(ticket, file)
        assert not await desk.attach(ticket, file)
        listed = await told(admin, f"/ticket/{ticket.id}/attachments", fields="Filename,Content", per_page="100")
        assert [row["Filename"] for row in listed["items"]].count(file.name) == 1
        assert "Correspond" not in await history(admin, ticket.id)

    async def test_a_ticket_that_is_not_there(self, desk: RequestTracker) -> None:
        with pytest.raises(NotFound):
            await desk.attach(
                Ticket(id="999999", number="999999"), Attachment(name="a.txt", media_type="text/plain", content=b"a")
            )


class TestSettings:
    """Each thing that may be wrong: its error, and the doctor's line."""

    @pytest.mark.parametrize(
        ("account", "changes", "error", "words"),
        [
            ("svc-holdpoint", {"token": "1-27-0123456789abcdef0123456789abcdef"}, Misconfigured, "credentials"),
            ("svc-holdpoint", {"token": "wr0ng-t0ken"}, Misconfigured, "credentials"),
            ("svc-holdpoint", {"ca_file": None}, Misconfigured, "certificate"),
            ("svc-holdpoint", {"queue": HIDDEN}, Refused, "SeeQueue"),
            ("svc-holdpoint", {"queue": "No such queue"}, Refused, "no queue 'No such queue'"),
            ("svc-nobody", {}, Refused, "SeeQueue"),
            ("svc-holdpoint", {"queue": KEYLESS}, Misconfigured, "no field 'Holdpoint Key'"),
            ("svc-holdpoint", {"key_field": "Severity"}, Misconfigured, "no field 'Severity'"),
            ("svc-holdpoint", {"queue": TWOFOLD}, Misconfigured, "2 fields"),
            ("svc-sees-no-field", {}, Misconfigured, "SeeCustomField"),
            ("svc-reads", {}, Refused, "lacks the right"),
        ],
    )
    async def test_it_is_told_before_a_ticket_is_created(
        self,
        client: Make,
        admin: Any,
        account: str,
        changes: dict[str, Any],
        error: type[IntegrationError],
        words: str,
    ) -> None:
        before, wrong = await tickets(admin), client(account, **changes)
        with pytest.raises(error, match=words) as caught:
            await wrong.open_ticket(draft())
        assert await tickets(admin) == before
        assert type(caught.value) is error
        assert not all(check.ok for check in await wrong.check())
        assert str(changes.get("token")) not in str(caught.value)

    async def test_an_address_where_rt_is_not(self, rt: Tracker, client: Make) -> None:
        elsewhere = client(url=f"{rt.url}/somewhere")
        with pytest.raises(Misconfigured, match="REST2"):
            await elsewhere.open_ticket(draft())
        assert [check.ok for check in await elsewhere.check()] == [False]
        assert (await client(url=f"{rt.url}/REST/2.0/").check())[0].ok

    async def test_an_update_that_answers_200_and_failed_is_noticed(self, client: Make, admin: Any) -> None:
        given, before = draft(), await tickets(admin)
        with pytest.raises(Misconfigured, match=r"SetInitialCustomField.*Permission Denied"):
            await client("svc-sets-no-field").open_ticket(given)
        keyless = set(await tickets(admin)) - set(before)
        assert len(keyless) == 1
        assert await by_key(admin, given.key) == []
        assert (await told(admin, f"/ticket/{keyless.pop()}"))["Subject"] == given.title

    async def test_a_ticket_that_its_creator_may_not_see(self, client: Make) -> None:
        with pytest.raises(Refused, match="ShowTicket"):
            await client("svc-sees-no-ticket").open_ticket(draft())


async def test_the_doctor_finds_everything_well_and_writes_nothing(desk: RequestTracker, admin: Any) -> None:
    before = await tickets(admin)
    checks = await desk.check()
    assert [check.ok for check in checks] == [True] * 5, checks
    assert await tickets(admin) == before


async def test_the_doctor_sees_that_nothing_may_be_created(client: Make) -> None:
    bad = [check for check in await client("svc-reads").check() if not check.ok]
    assert [check.name for check in bad] == ["Request Tracker: create tickets"]
    assert "CreateTicket" in bad[0].detail


class TestByActivities:
    async def test_the_activities_open_and_annotate(self, desk: RequestTracker, admin: Any) -> None:
        steps, env, given = TicketingActivities(desk), ActivityEnvironment(), draft()
        ticket = await env.run(steps.open_ticket, given)
        note = TicketNote(ticket=ticket, text=f"n [{given.key}/1]", marker=f"[{given.key}/1]")
        assert [await env.run(steps.add_note, note) for _ in range(2)] == [True, False]
        assert await history(admin, ticket.id) == ["Create", "Comment"]

    async def test_what_somebody_has_to_mend_is_not_tried_again(self, client: Make) -> None:
        steps = TicketingActivities(client(queue=KEYLESS))
        with pytest.raises(ApplicationError) as caught:
            await ActivityEnvironment().run(steps.open_ticket, draft())
        assert caught.value.non_retryable

    async def test_a_case_has_its_ticket_there(
        self, dev_server: WorkflowEnvironment, desk: RequestTracker, admin: Any
    ) -> None:
        world, queue = TicketsAreReal(desk), "q-request-tracker"
        async with working(dev_server.client, world, queue):
            state = await Scene(dev_server.client, world, queue).run(alert())
        assert (state["outcome"], state["ticket"]["state"]) == ("contained", "open")
        body = await told(admin, f"/ticket/{state['ticket']['id']}")
        assert body["Priority"] == str(PRIORITIES[Priority.CRITICAL])
        (opened, *_) = await texts(admin, str(body["id"]))
        assert "FIN-LT-042" in opened[1]


class TicketsAreReal(World):
    """The world in memory, its tickets apart."""

    def __init__(self, desk: RequestTracker) -> None:
        super().__init__()
        self._desk = desk

    async def open_ticket(self, draft: Any) -> Ticket:
        return await self._desk.open_ticket(draft)

    async def add_note(self, ticket: Any, text: str, marker: str) -> bool:
        return await self._desk.add_note(ticket, text, marker)
