"""What a mail says: a notice in, both bodies and a fixed subject out. Pure: no clock, nothing is sent.

The subject tips nobody off: it names the case's reference, the tier and the time, never a user, a host or a rule.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from activities.answer_links import address_part
from incident.question import MailContext
from incident.requests import MailKind, Notice
from incident.text import plain
from integrations.errors import Rejected
from integrations.interfaces import Mail

WIDTH = 76
"""Columns of the plain text; commands are longer where they are."""

COMMAND_LIMIT = 4000
"""A command cut short would be a wrong command, so only an absurd one is."""

MAX_LINES = 50
"""How many lines of one list are shown; the rest is counted."""

_REFERENCE_LIMIT = 80
_WORDS_LIMIT = 40
_ASKS = frozenset({MailKind.ASK, MailKind.REMIND, MailKind.ESCALATE})
_SUBJECTS = {
    MailKind.ASK: "Decision needed{by}",
    MailKind.REMIND: "Reminder: decision still needed{by}",
    MailKind.ESCALATE: "Escalated{to}: decision needed{by}",
    MailKind.WITHDRAWN: "Question withdrawn, no answer needed",
    MailKind.ANSWERED: "Question answered, no answer needed",
    MailKind.NOTICE: "Case update",
}


@dataclass(frozen=True)
class Addressed:
    """The one person a mail is for: where the case is at the desk, and their own link to its question, if they may."""

    recipient: str
    case_page: str
    answer: str | None = field(default=None, repr=False)


def compose(notice: Notice, *, sender_domain: str, to: Addressed | None = None) -> Mail:
    """The mail for a notice, to all its recipients or to one. The same notice makes the same mail, Message-ID included.

    ``notice.context`` is an ``incident.question.MailContext`` as a dictionary. Its strings are untrusted: they are
    made one line of visible text each and are escaped in the HTML.

    Raises:
        Rejected: the context lacks what a mail needs.
    """
    try:
        context = MailContext.model_validate(notice.context)
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in fault["loc"]) for fault in error.errors()})
        raise Rejected(f"the {notice.kind.value} mail cannot be written; its context is wrong at: {places}") from None
    shown = _readable(context.model_dump())
    subject = _subject(notice, context)
    asks = notice.kind in _ASKS
    # Who was asked before is news where nobody answered, and a detail elsewhere.
    unanswered = notice.kind in (MailKind.REMIND, MailKind.ESCALATE)
    values = {
        "early": shown["asked_before"] if unanswered else [],
        "late": [] if unanswered else shown["asked_before"],
        "m": shown,
        "subject": subject,
        "asks": asks,
        "buttons": _buttons(to, shown["options"]) if asks else [],
        "page": to.case_page if to else None,
        "signs_in": asks and to is not None and to.answer is None and notice.link is not None,
        "sent_to": [plain(address) for address in dict.fromkeys(notice.recipients)] if to else [],
    }
    whose = to.recipient if to else ""
    thread = notice.thread if notice.thread != notice.key else None
    return Mail(
        subject=subject,
        text=_render(_TEXT, notice.kind, {**values, "layout": "base.txt.j2"}),
        html=_render(_HTML, notice.kind, {**values, "layout": "base.html.j2"}),
        recipients=(to.recipient,) if to else notice.recipients,
        message_id=message_id(notice.key, sender_domain, whose),
        in_reply_to=message_id(thread, sender_domain, whose) if thread is not None else None,
    )


def message_id(key: str, domain: str, recipient: str = "") -> str:
    """The Message-ID, without its angle brackets, of a notice's mail to all its recipients or to one."""
    whose = f"{key}\0{recipient.casefold()}" if recipient else key
    digest = hashlib.sha256(whose.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{digest}@{re.sub(r'[^A-Za-z0-9.-]', '', domain) or 'holdpoint.invalid'}"


def _buttons(to: Addressed | None, options: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each answer as a link to the question's page with that answer filled in; the page alone decides."""
    if to is None or to.answer is None:
        return []
    return [
        {
            **option,
            "label": option["button"] or option["decision"].replace("_", " ").capitalize(),
            "link": f"{to.answer}?answer={address_part(option['decision'])}",
        }
        for option in options
    ]


def _subject(notice: Notice, context: MailContext) -> str:
    reference = re.sub(r"[^\w.@:/-]", "", notice.case_ref, flags=re.ASCII)[:_REFERENCE_LIMIT]
    by = f" by {due}" if (due := _words(context.due_at)) else ""
    to = f" to {tier}" if (tier := _words(context.tier)) else ""
    return f"[Holdpoint {reference or 'case'}] " + _SUBJECTS[notice.kind].format(by=by, to=to)


def _words(value: str | None) -> str:
    return re.sub(r"[^\w .:/-]", "", plain(value or "")).strip()[:_WORDS_LIMIT]


def _readable(value: Any, key: str = "") -> Any:
    """Every string made plain before a template sees it, so that no template can forget."""
    if isinstance(value, str):
        return plain(value, COMMAND_LIMIT) if key.startswith("command_") else plain(value)
    if isinstance(value, dict):
        return {name: _readable(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        lines = [_readable(item, key) for item in value[:MAX_LINES]]
        return lines if len(value) <= MAX_LINES or key == "facts" else [*lines, f"and {len(value) - MAX_LINES} more"]
    return value


def _wrap(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _is_web_address(value: str) -> bool:
    return value.startswith(("https://", "http://")) and " " not in value


def _origin(fact: dict[str, str | None]) -> str:
    told = ", ".join(part for part in (fact["source"], fact["at"]) if part)
    return f" ({told})" if told else ""


def _commands(option: dict[str, str], buttons: list[Any]) -> list[str]:
    """The commands to show for an option; beside buttons, the signal is one way too many."""
    names = ("command_starter", "command_update") + (() if buttons else ("command_signal",))
    return [option[name] for name in names if option[name]]


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,  # noqa: S701 - plain text has nothing to escape; the HTML has it on
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["wrap"] = _wrap
    environment.filters["commands"] = _commands
    environment.tests["web_address"] = _is_web_address
    environment.globals["origin"] = _origin
    return environment


_TEXT = _environment(autoescape=False)
_HTML = _environment(autoescape=True)


def _render(environment: Environment, kind: MailKind, values: dict[str, Any]) -> str:
    rendered = environment.get_template(f"{kind.value}.j2").render(values)
    return re.sub(r"\n{3,}", "\n\n", rendered).strip() + "\n"
