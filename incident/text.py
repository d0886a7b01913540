r"""Untrusted text, made fit to be read: what an attacker named a host must not steer a terminal, a mail or a page.

``plain`` is the first step everywhere; the grammar's own quoting (HTML, Markdown, a mail header) comes after it.
"""

from __future__ import annotations

import re

LIMIT = 500
"""How many characters of one value are shown, unless the caller says otherwise."""

_ELLIPSIS = "\u2026"

# ESC [ ... letter and its one-character form: ECMA-48 control sequences. Other escapes lose their ESC and stay legible.
_CONTROL_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
_INVISIBLE = re.compile(
    "["
    "\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"  # C0 and C1 without the line breaks
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi controls and zero width
    "\U000e0000-\U000e007f"  # tag characters
    "]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"\s+")

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in r"\`*_{}[]()<>#|~&@$"})
# A list, a rule, a heading's underline or a numbered list can only begin where the value does.
_MARKDOWN_START = re.compile(r"^(\d*)([-+=.])")
_MARKDOWN_ADDRESS = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)


def plain(value: str, limit: int = LIMIT) -> str:
    """``value`` as one line of visible text, at most ``limit`` (one or more) characters long.

    Control characters, terminal escapes, bidirectional controls, zero-width characters and NULs are removed, line
    breaks and runs of blanks become one space, a lone surrogate becomes U+FFFD. A longer text ends with an ellipsis.
    """
    if value.isascii() and value.isprintable():
        text = " ".join(value.split())
    else:
        text = _CONTROL_SEQUENCE.sub("", value)
        text = _INVISIBLE.sub("", text)
        text = _SURROGATE.sub("\ufffd", text)
        text = _BLANK.sub(" ", text).strip()
    if len(text) <= limit:
        return text
    return text[: max(limit - 1, 0)].rstrip() + _ELLIPSIS


def markdown(value: str, limit: int = LIMIT) -> str:
    """``value`` as text inside Markdown: no markup, HTML, link, table cell, entity or list comes out of it.

    Rests on CommonMark 0.31 section 2.4 (any ASCII punctuation may be escaped by a backslash), and covers GitHub's
    additions. The value may stand at the start of a line or inside one. ``limit`` counts before the escaping.
    """
    text = plain(value, limit).translate(_MARKDOWN)
    # By functions: a template is an import in each call, and an import is dear in the sandbox of a workflow.
    text = _MARKDOWN_ADDRESS.sub(lambda found: f"\\{found[0]}", text)
    return _MARKDOWN_START.sub(lambda found: f"{found[1]}\\{found[2]}", text)
