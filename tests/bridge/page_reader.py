"""What a program sees of a page: its links, its forms with everything in them, its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import product
from urllib.parse import urljoin

_WORD = re.compile(r"[^\s,;:()<>\"'“”„!?\[\]{}|]+")
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_MAIL = re.compile(r"[^\s@]+@[^\s@]+")
_TEXT = {"text", "search", "email", "tel", "url", "password", "textarea", ""}
_SILENT = {"style", "script"}


@dataclass
class Field:
    """One field of a form. ``label`` is what stands for it: its label, legend, placeholder and name."""

    name: str
    kind: str
    value: str = ""
    label: str = ""
    options: list[str] = field(default_factory=list)
    required: bool = False


@dataclass
class Form:
    """A form with its fields in their order. ``action`` is an absolute address."""

    method: str
    action: str
    fields: list[Field] = field(default_factory=list)

    def fillings(self, words: list[str], *, required_only: bool = False) -> Iterator[list[tuple[str, str]]]:
        """Every way to fill it in: each radio, boxes ticked and not, and each word in turn in its text fields.

        With ``required_only`` what need not be filled in is not.
        """
        radios: dict[str, list[str]] = {}
        for one in self.fields:
            if one.kind in ("radio", "select"):
                radios.setdefault(one.name, []).extend(one.options or [one.value])
        buttons = [[(one.name, one.value)] for one in self.fields if one.kind == "submit" and one.name] or [[]]
        choices = [[(name, value) for value in values] for name, values in radios.items()]
        for word, ticked in product(words or [""], (False, True)):
            hidden = [(one.name, one.value) for one in self.fields if one.kind == "hidden"]
            boxes = [(one.name, one.value or "on") for one in self.fields if one.kind == "checkbox" and ticked]
            wanted = [one for one in self.fields if one.kind in _TEXT and (one.required or not required_only)]
            typed = [(one.name, one.value or plausible(one, word)) for one in wanted]
            numbers = [(one.name, one.value or "1") for one in self.fields if one.kind in ("number", "range")]
            for button, *chosen in product(buttons, *([[one] for one in choice] for choice in choices)):
                yield [*hidden, *(pair for picked in chosen for pair in picked), *boxes, *typed, *numbers, *button]


def plausible(one: Field, word: str) -> str:
    """What a program types into a text field, by what the field says about itself."""
    told = f"{one.label} {one.name}".casefold()
    if one.kind == "textarea" or any(sign in told for sign in ("reason", "comment", "message", "why")):
        return "Automated security scan of this page"
    if one.kind == "email" and "@" not in word:
        return "scanner@example.com"
    return word


@dataclass
class Page:
    """What was read of a page at an address."""

    address: str
    links: list[str] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    text: str = ""
    labels: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """Every word once: what looks like a host first, then what looks like a mail address, then the rest."""
        return in_turn(self.text)


def in_turn(text: str) -> list[str]:
    """Every word of a text once: what looks like a host first, then what looks like a mail address, then the rest."""
    found = list(dict.fromkeys(word.strip(".") for word in _WORD.findall(text)))
    hosts = [word for word in found if _HOST.fullmatch(word)]
    mails = [word for word in found if _MAIL.fullmatch(word)]
    return [word for word in dict.fromkeys((*hosts, *mails, *found)) if word]


class _Reader(HTMLParser):
    def __init__(self, address: str) -> None:
        super().__init__()
        self.page = Page(address)
        self._form: Form | None = None
        self._labels: dict[str, str] = {}
        self._ids: dict[str, Field] = {}
        self._label: str | None = None
        self._select: Field | None = None
        self._area: Field | None = None
        self._silent = 0
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag in _SILENT:
            self._silent += 1
        for name in ("href", "src"):
            if told.get(name):
                self.page.links.append(urljoin(self.page.address, told[name]))
        match tag:
            case "form":
                action = urljoin(self.page.address, told.get("action", "") or self.page.address)
                self._form = Form(told.get("method", "get").lower(), action)
                self.page.forms.append(self._form)
            case "label":
                self._label = told.get("for", "")
            case "option" if self._select:
                self._select.options.append(told.get("value", ""))
            case "input" | "button" | "select" | "textarea" if self._form:
                self._add(tag, told)

    def _add(self, tag: str, told: dict[str, str]) -> None:
        kind = {"select": "select", "textarea": "textarea"}.get(tag) or told.get("type", "").lower()
        if tag == "button":
            kind = kind or "submit"
        made = Field(told.get("name", ""), kind, told.get("value", ""), told.get("placeholder", ""))
        made.required = "required" in told
        if made.name or kind == "submit":
            self._form.fields.append(made)  # type: ignore[union-attr]
        if told.get("id"):
            self._ids[told["id"]] = made
        self._select = made if tag == "select" else self._select
        self._area = made if tag == "textarea" else self._area

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "form":
                self._form = None
            case "label":
                self._label = None
            case "select":
                self._select = None
            case "textarea":
                self._area = None
            case "style" | "script":
                self._silent -= 1

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self._text.append(data)
        if self._label is not None:
            self._labels[self._label] = self._labels.get(self._label, "") + data
        if self._area is not None:
            self._area.value += data

    def done(self) -> Page:
        for name, text in self._labels.items():
            if name in self._ids:
                self._ids[name].label += text
        self.page.text = " ".join(" ".join(self._text).split())
        self.page.labels = [" ".join(text.split()) for text in self._labels.values()]
        return self.page


def read_page(address: str, html: str) -> Page:
    """What a page holds."""
    reader = _Reader(address)
    reader.feed(html)
    reader.close()
    return reader.done()
