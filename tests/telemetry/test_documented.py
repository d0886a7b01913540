"""The page about telemetry names what is measured and what is traced, and its line is one that the worker writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
SOURCES = [
    path.read_text(encoding="utf-8")
    for folder in ("workflows", "activities", "integrations")
    for path in sorted((ROOT / folder).glob("*.py"))
]


def _named(pattern: str) -> set[str]:
    return {name for source in SOURCES for name in re.findall(pattern, source)}


@pytest.mark.parametrize("pattern", [r'"(holdpoint_[a-z_]+)"', r'"((?:LDAP|SMTP) [a-z]+)"'])
def test_the_page_names_what_the_code_names(pattern: str) -> None:
    names = _named(pattern)
    assert names
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_the_page_names_no_metric_that_is_not_there() -> None:
    assert set(re.findall(r"`(holdpoint_[a-z_]+)`", PAGE)) == _named(r'"(holdpoint_[a-z_]+)"')


def test_the_line_has_the_keys_that_the_page_explains() -> None:
    (printed,) = re.findall(r"```json\n(.*)\n```", PAGE)
    for key in json.loads(printed):
        assert f"`{key}`" in PAGE
