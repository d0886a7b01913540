"""The Request Tracker client where the real one cannot be made to misbehave: a scripted server over real sockets.

What Request Tracker itself does is tested in tests/real.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

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
from integrations.interfaces import Ticketing
from integrations.rt import MAX_PAGES, MAX_TEXT, MAX_TITLE, RequestTracker, ticketsql_string
from lab.faults import Faults, Receive, Send
from tests.integrations import swapped
from tests.integrations.swapped import Current

Make = Callable[..., Awaitable[RequestTracker]]
TOKEN = "1-14-5ec2e7"
KEY = "hp-5f0c0e7a1b2c3d4e5f60"
MARKER = f"[{KEY}/1]"
TICKET = Ticket(id="1", number="1")
DRAFT = TicketDraft(key=KEY, title="Insider\r\nthreat", description="What was\r\nseen", priority=Priority.CRITICAL)


class Script:
    """Enough of REST2 to be asked: one queue, one field, tickets, and comments in pages."""

    def __init__(self) -> None:
        self.faults = Faults(self._serve, error_body=b'{"message": "scripted"}')
        self.queue: dict[str, Any] = {
            "id": 3,
            "Name": "Incidents",
            "Disabled": "0",
            "TicketCustomFields": [{"id": "7", "name": "Other"}, {"id": "8", "name": "holdpoint key"}],
            "_hyperlinks": [{"ref": "self"}, {"ref": "create", "type": "ticket"}],
        }
        self.keys: list[str | None] = []
        self.notes: list[list[str]] = []
        """The pages of comments; what may not be seen is missing in its page."""
        self.drops_keys = self.keeps_keys_off = self.deaf = False
        self.bare = False
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.tokens: set[str] = set()

    @property
    def app(self) -> Faults:
        return self.faults

    def count(self, method: str, path: str = "") -> int:
        return sum(asked[0] == method and asked[1].startswith(path) for asked in self.asked)

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        params = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        path = scope["raw_path"].decode().split("?")[0].removeprefix("/REST/2.0")
        given = json.loads(body) if body else None
        self.asked.append((scope["method"], path, params, given))
        self.tokens |= {value.decode() for name, value in scope["headers"] if name == b"authorization"}
        status, told = self._answer(scope["method"], path, params, given)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    def _answer(self, method: str, path: str, params: dict[str, str], given: Any) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["queue", _]:
                return 200, self.queue
            case "GET", ["tickets"]:
                return 200, self._found(params)
            case "POST", ["ticket"]:
                self.keys.append(None if self.drops_keys else given["CustomFields"]["8"])
                return 201, {"id": len(self.keys), "type": "ticket"}
            case "PUT", ["ticket", number]:
                if self.keeps_keys_off:
                    return 200, ["Kein Zugriff"]
                self.keys[int(number) - 1] = given["CustomFields"]["8"]
                return 200, []
            case "GET", ["ticket", number]:
                return 200, {"id": int(number), "_hyperlinks": [] if self.deaf else [{"ref": "comment"}]}
            case "GET", ["ticket", _, "attachments"]:
                page = int(params["page"]) - 1
                notes = self.notes[page] if page < len(self.notes) else []
                items = [{"id": "1", "type": "attachment", "Content": note} for note in notes]
                return 200, {"items": items, "count": len(items), "total": None, "pages": None}
            case "POST", ["ticket", _, "comment"]:
                if self.deaf:
                    return 400, {"message": "Zugriff verweigert"}
                self.notes.append([given["Content"]])
                return 201, ["Comments added"]
        return 404, {"message": "Not Found"}

    def _found(self, params: dict[str, str]) -> dict[str, Any]:
        """Every ticket, whatever was asked for: the client has to look itself."""
        page, size = int(params["page"]), 2
        rows: list[dict[str, Any]] = []
        for number, key in enumerate(self.keys, 1):
            fields = [{"id": 7, "values": [KEY]}, {"id": 8, "values": [key] if key else []}]
            rows.append({"id": number} if self.bare else {"id": number, "CustomFields": fields})
        items = rows[(page - 1) * size : page * size]
        return {"items": items, "count": len(items), "total": len(rows)}


@pytest.fixture(scope="module")
async def current() -> AsyncIterator[Current[Script]]:
    async with swapped.current(Script) as serving:
        yield serving


@pytest.fixture
def rt(current: Current[Script]) -> Script:
    return current.renewed()


@pytest.fixture
async def connect(rt: Script, current: Current[Script]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> RequestTracker:
            arguments = {"url": current.url, "token": TOKEN, "queue": "Incidents", **changes}
            client = RequestTracker(**arguments)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def desk(connect: Make) -> RequestTracker:
    return await connect()


def test_it_is_ticketing(desk: RequestTracker) -> None:
    ticketing: Ticketing = desk
    assert ticketing is desk


class TestOpenTicket:
    async def test_what_is_asked(self, rt: Script, desk: RequestTracker, current: Current[Script]) -> None:
        ticket = await desk.open_ticket(DRAFT)
        assert ticket == Ticket(id="1", number="1", url=f"{current.url}/Ticket/Display.html?id=1")
        assert [asked[:2] for asked in rt.asked] == [
            ("GET", "/queue/Incidents"),
            ("GET", "/tickets"),
            ("POST", "/ticket"),
            ("GET", "/tickets"),
        ]
        assert rt.asked[1][2]["query"] == f"Queue = 3 AND CF.{{8}} = '{KEY}' AND EffectiveId > 0"
        assert rt.asked[2][3] == {
            "Queue": "3",
            "Subject": "Insider threat",
            "Content": "What was\nseen",
            "ContentType": "text/plain",
            "Priority": 100,
            "CustomFields": {"8": KEY},
        }
        assert rt.tokens == {f"token {TOKEN}"}

    @pytest.mark.parametrize("kind", ["reset", "truncated", "empty", "500", "html200"])
    async def test_a_lost_answer_makes_no_second_ticket(self, rt: Script, desk: RequestTracker, kind: str) -> None:
        rt.faults.add(kind, match="POST /REST/2.0/ticket", after_effect=True)
        with pytest.raises((Unreachable, BadAnswer, Busy)):
            await desk.open_ticket(DRAFT)
        assert (await desk.open_ticket(DRAFT)).id == "1"
        assert rt.keys == [KEY]

    async def test_of_several_the_oldest_over_pages_and_others_are_not_ours(
        self, rt: Script, desk: RequestTracker
    ) -> None:
        rt.keys = [None, KEY.upper(), f"{KEY}x", KEY, KEY]
        assert (await desk.open_ticket(DRAFT)).id == "4"
        assert rt.count("POST") == 0

    async def test_a_key_that_was_left_out_is_set_afterwards(self, rt: Script, desk: RequestTracker) -> None:
        rt.drops_keys = True
        assert (await desk.open_ticket(DRAFT)).id == "1"
        assert (rt.keys, rt.count("PUT")) == ([KEY], 1)

    async def test_an_update_that_failed_with_200_is_told(self, rt: Script, desk: RequestTracker) -> None:
        rt.drops_keys = rt.keeps_keys_off = True
        with pytest.raises(Misconfigured, match=r"ticket 1 without its key.*Kein Zugriff"):
            await desk.open_ticket(DRAFT)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ([], Misconfigured),
            ([{"id": "7", "name": "Other"}], Misconfigured),
            ([{"id": "8", "name": "Holdpoint Key"}, {"id": "9", "name": "Holdpoint Key"}], Misconfigured),
            (None, BadAnswer),
            ([{"name": "Holdpoint Key"}], BadAnswer),
        ],
    )
    async def test_without_the_field_nothing_is_created(
        self, rt: Script, desk: RequestTracker, fields: Any, error: type[IntegrationError]
    ) -> None:
        rt.queue["TicketCustomFields"] = fields
        with pytest.raises(error):
            await desk.open_ticket(DRAFT)
        assert rt.count("POST") == 0

    async def test_tickets_without_their_fields_are_no_answer(self, rt: Script, desk: RequestTracker) -> None:
        rt.keys, rt.bare = [KEY], True
        with pytest.raises(BadAnswer):
            await desk.open_ticket(DRAFT)
        assert rt.count("POST") == 0

    @pytest.mark.parametrize(
        "key", ["", "short", "hp-' OR id > 0 OR id = '1", "hp 12345678", "hp-\x00123456", "x" * 65]
    )
    async def test_a_key_is_a_key_or_nothing(self, rt: Script, desk: RequestTracker, key: str) -> None:
        with pytest.raises(Rejected):
            await desk.open_ticket(DRAFT.model_copy(update={"key": key}))
        assert rt.asked == []

    async def test_long_and_odd_text_is_made_fit(self, rt: Script, desk: RequestTracker) -> None:
        odd = {"title": "\ud800" + "☠\n" * 300, "description": "\x00\ud800<b>" + "d" * 99_999}
        await desk.open_ticket(DRAFT.model_copy(update=odd))
        await desk.open_ticket(DRAFT.model_copy(update={"key": f"{KEY}-2", "title": " \n", "description": ""}))
        first, second = (asked[3] for asked in rt.asked if asked[0] == "POST")
        assert MAX_TITLE - 4 <= len(first["Subject"].encode()) <= MAX_TITLE
        assert (len(first["Content"]), first["Content"][:5]) == (MAX_TEXT, "\ufffd\ufffd<b>")
        assert second["Subject"] == f"{KEY}-2"


class TestAddNote:
    async def test_it_is_a_comment_and_written_once(self, rt: Script, desk: RequestTracker) -> None:
        assert await desk.add_note(TICKET, f"Closed.\r\n{MARKER}", MARKER)
        assert not await desk.add_note(TICKET, f"Closed.\r\n{MARKER}", MARKER)
        posted = [asked for asked in rt.asked if asked[0] == "POST"]
        body = {"Content": f"Closed.\n{MARKER}", "ContentType": "text/plain"}
        assert posted == [("POST", "/ticket/1/comment", {}, body)]

    async def test_the_marker_is_found_though_pages_are_short_or_unfiltered(
        self, rt: Script, desk: RequestTracker
    ) -> None:
        rt.notes = [["a", MARKER.upper(), f"[{KEY}/11]"], ["b"], [f"late {MARKER}"]]
        assert not await desk.add_note(TICKET, MARKER, MARKER)
        rt.notes = [["a"], ["b"]]
        assert await desk.add_note(TICKET, MARKER, MARKER)

    async def test_a_list_without_end_is_no_answer(self, rt: Script, desk: RequestTracker) -> None:
        rt.notes = [["talk"]] * (MAX_PAGES + 1)
        with pytest.raises(BadAnswer):
            await desk.add_note(TICKET, MARKER, MARKER)
        assert rt.count("POST") == 0

    @pytest.mark.parametrize("kind", ["reset", "truncated", "500", "html200"])
    async def test_a_lost_answer_writes_no_second_note(self, rt: Script, desk: RequestTracker, kind: str) -> None:
        rt.faults.add(kind, match="POST", after_effect=True)
        with pytest.raises((Unreachable, BadAnswer, Busy)):
            await desk.add_note(TICKET, MARKER, MARKER)
        assert not await desk.add_note(TICKET, MARKER, MARKER)
        assert rt.notes == [[MARKER]]

    async def test_a_long_note_keeps_its_marker(self, rt: Script, desk: RequestTracker) -> None:
        await desk.add_note(TICKET, "n" * 99_999 + MARKER, MARKER)
        ((note,),) = rt.notes
        assert len(note) == MAX_TEXT
        assert note.endswith(MARKER)

    async def test_400_is_told_apart_in_any_language(self, rt: Script, desk: RequestTracker) -> None:
        rt.deaf = True
        with pytest.raises(Refused, match="CommentOnTicket"):
            await desk.add_note(TICKET, MARKER, MARKER)
        for status, error in (("404", NotFound), ("403", Refused)):
            rt.faults.add(status, match="GET /REST/2.0/ticket/1", body=b'{"message": "Nein"}', times=2)
            rt.faults.add("400", match="POST")
            with pytest.raises(error):
                await desk.add_note(Ticket(id="1", number="1"), MARKER, MARKER)
            rt.faults.clear()

    async def test_a_comment_that_is_wrong(self, rt: Script, desk: RequestTracker) -> None:
        rt.faults.add("400", match="POST", body=b'{"message": "ContentType is a required field"}')
        with pytest.raises(Rejected, match="required field"):
            await desk.add_note(TICKET, MARKER, MARKER)

    @pytest.mark.parametrize("number", ["", "0", "x", "1/../2", "1 "])
    async def test_a_ticket_has_a_number(self, rt: Script, desk: RequestTracker, number: str) -> None:
        with pytest.raises(NotFound):
            await desk.add_note(Ticket(id=number, number=number), MARKER, MARKER)
        assert rt.asked == []


class TestFaults:
    @pytest.mark.parametrize("match", ["queue", "tickets"])
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("401", Misconfigured),
            ("403", Refused),
            ("302", Misconfigured),
            ("400", Rejected),
            ("412", Rejected),
            ("429", Busy),
            ("500", Busy),
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
        self, rt: Script, desk: RequestTracker, match: str, kind: str, error: type[IntegrationError]
    ) -> None:
        rt.faults.add(kind, match=f"GET /REST/2.0/{match}")
        with pytest.raises(error) as caught:
            await desk.open_ticket(DRAFT)
        assert type(caught.value) is error
        assert rt.count("POST") == 0

    async def test_retry_after_is_obeyed(self, rt: Script, desk: RequestTracker) -> None:
        rt.faults.add("429", seconds=11)
        with pytest.raises(Busy) as caught:
            await desk.open_ticket(DRAFT)
        assert caught.value.retry_after == timedelta(seconds=11)

    async def test_no_secret_is_told(self, rt: Script, desk: RequestTracker) -> None:
        rt.faults.add("401", times=2, body=f'{{"message": "not {TOKEN}"}}'.encode())
        with pytest.raises(Misconfigured) as caught:
            await desk.open_ticket(DRAFT)
        (line,) = await desk.check()
        assert not line.ok
        assert TOKEN not in f"{caught.value} {line} {desk!r}"

    @pytest.mark.parametrize("queue", ["", " ", ".", "..", "A/B"])
    def test_a_queue_that_no_address_can_name(self, queue: str) -> None:
        with pytest.raises(Misconfigured, match="number"):
            RequestTracker("http://127.0.0.1:1", TOKEN, queue)

    async def test_a_queue_is_quoted(self, rt: Script, connect: Make) -> None:
        await (await connect(queue="A?B#C %2F ö")).check()
        assert rt.asked[0][1] == "/queue/A%3FB%23C%20%252F%20%C3%B6"


async def test_the_doctor_reads_only(rt: Script, desk: RequestTracker) -> None:
    assert [check.ok for check in await desk.check()] == [True] * 5
    assert {asked[0] for asked in rt.asked} == {"GET"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"Disabled": "1"}, "create tickets"),
        ({"Disabled": 1}, "create tickets"),
        ({"_hyperlinks": []}, "create tickets"),
        ({"TicketCustomFields": []}, "field Holdpoint Key"),
    ],
)
async def test_the_doctor_tells(rt: Script, desk: RequestTracker, change: dict[str, Any], line: str) -> None:
    rt.queue |= change
    assert [check.name for check in await desk.check() if not check.ok] == [f"Request Tracker: {line}"]


STRING = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
"""A string between single quotes, as RT's parser delimits it."""


@given(st.one_of(st.text(), st.text(alphabet="'\"\\ CFcf.{}%_()ü☠")))
def test_any_text_is_one_ticketsql_string_or_none(text: str) -> None:
    try:
        made = ticketsql_string(text)
    except Rejected:
        assert not text or not text.isprintable() or text.lower().startswith("cf.")
        return
    assert STRING.fullmatch(made)
    assert re.sub(r"\\(.)", r"\1", made[1:-1]) == text


@pytest.mark.parametrize("text", ["CF.{Other}", "cf.Other.Content", "a\nb", "\x00", ""])
def test_what_quotes_do_not_hold_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        ticketsql_string(text)
