"""The README's decision table is the function's: they cannot differ."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from incident.table import table_markdown
from tests.house.layers import ROOT

README = ROOT / "README.md"
_BETWEEN = re.compile(r"^<!-- decision table -->\n(.*?)^<!-- /decision table -->$", re.DOTALL | re.MULTILINE)
HOW = "put what `python -m incident.table` prints between <!-- decision table --> and <!-- /decision table -->"


def test_the_readme_holds_the_table_as_it_is_decided() -> None:
    if not README.is_file():
        pytest.fail(f"there is no README.md; in it, {HOW}")
    found = _BETWEEN.findall(README.read_text(encoding="utf-8"))
    assert len(found) == 1, f"README.md has {len(found)} decision tables: {HOW}"
    assert found[0].strip() == table_markdown().strip(), f"README.md tells another decision table: {HOW}"


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "incident.table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout == table_markdown()
