"""Imports run one way: the domain knows nobody, the runbook knows no vendor, nobody but lab and tests knows the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.layers import ROOT, faults, sources


def test_imports_run_one_way() -> None:
    assert faults(ROOT) == []


def test_the_whole_house_is_looked_at() -> None:
    rooms = {path.parts[0] for path in sources(ROOT)}
    assert {"incident", "integrations", "activities", "workflows", "lab", "tests", "worker.py", "starter.py"} <= rooms
    assert not {".venv", "build"} & rooms


GOOD = {
    "incident/__init__.py": "",
    "incident/a.py": "from __future__ import annotations\nfrom datetime import UTC, datetime\nfrom incident import b\n",
    "incident/b.py": "import re\nfrom pydantic import BaseModel\nfrom . import a\nfrom .a import x\n",
    "integrations/a.py": "import httpx\nimport incident.a\nfrom integrations.b import c\nnow = datetime.now(UTC)\n",
    "integrations/b.py": "",
    "activities/a.py": "from temporalio import activity\nfrom integrations.a import b\nfrom incident import a\n",
    "workflows/a.py": "from temporalio import workflow\nfrom incident.a import b\nnow = workflow.now()\n",
    "settings.py": "import os\nfrom incident import a\n",
    "clients.py": "from integrations import a\nfrom settings import b\n",
    "worker.py": "import activities.a\nimport workflows.a\nimport clients\n",
    "starter.py": "from workflows.a import x\nfrom integrations import a\n",
    "bridge/a.py": "import cases\n",
    "cases.py": "from workflows.a import x\n",
    "lab/a.py": "import lab.b\nfrom integrations import a\nimport socket\n",
    "lab/b.py": "",
    "tests/test_a.py": "import lab.a\nfrom tests import b\nimport activities.a\n",
    ".venv/lib/x.py": "import lab\n",
}


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_good_house_has_no_fault(tmp_path: Path) -> None:
    assert faults(build(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("incident/a.py", "import os", "imports os"),
        ("incident/a.py", "import asyncio", "imports asyncio"),
        ("incident/a.py", "import socket", "imports socket"),
        ("incident/a.py", "import temporalio.workflow", "imports temporalio.workflow"),
        ("incident/a.py", "from httpx import Client", "imports httpx"),
        ("incident/a.py", "import ldap3", "imports ldap3"),
        ("incident/a.py", "from pathlib import Path", "imports pathlib"),
        ("incident/a.py", "from integrations import a", "imports integrations"),
        ("incident/a.py", "import settings", "imports settings"),
        ("incident/a.py", "from ..workflows import a", "imports workflows"),
        ("incident/a.py", "at = datetime.now(UTC)", "reads the clock"),
        ("incident/a.py", "at = datetime.datetime.utcnow()", "reads the clock"),
        ("incident/a.py", "on = date.today()", "reads the clock"),
        ("incident/a.py", "make = datetime.now", "reads the clock"),
        ("integrations/a.py", "import temporalio", "imports temporalio"),
        ("integrations/a.py", "from activities import a", "imports activities"),
        ("integrations/a.py", "import workflows.a", "imports workflows.a"),
        ("integrations/a.py", "from settings import x", "imports settings"),
        ("integrations/a.py", "import lab.a", "imports lab.a"),
        ("integrations/a.py", "def f():\n    import worker", "imports worker"),
        ("activities/a.py", "from workflows.a import x", "imports workflows.a"),
        ("activities/a.py", "import settings", "imports settings"),
        ("activities/a.py", "import httpx", "imports httpx"),
        ("workflows/a.py", "from integrations.a import x", "imports integrations.a"),
        ("workflows/a.py", "from activities import a", "imports activities"),
        ("workflows/a.py", "import activities.a as x", "imports activities.a"),
        ("workflows/a.py", "from ..integrations import a", "imports integrations"),
        ("workflows/a.py", "import settings", "imports settings"),
        ("workflows/a.py", "import random", "imports random"),
        ("workflows/a.py", "if TYPE_CHECKING:\n    from activities import a", "imports activities"),
        ("workflows/a.py", "x = importlib.import_module('integrations.a')", "imports integrations.a"),
        ("workflows/a.py", "x = __import__('lab')", "imports lab"),
        ("workflows/a.py", "at = datetime.now(UTC)", "reads the clock"),
        ("settings.py", "import clients", "imports clients"),
        ("settings.py", "import integrations.a", "imports integrations.a"),
        ("clients.py", "import activities.a", "imports activities.a"),
        ("starter.py", "from activities import a", "imports activities"),
        ("starter.py", "from lab import a", "imports lab"),
        ("worker.py", "import lab.a", "imports lab.a"),
        ("worker.py", "import tests.test_a", "imports tests.test_a"),
        ("bridge/a.py", "import lab", "imports lab"),
        ("lab/a.py", "from tests import x", "imports tests"),
    ],
)
def test_a_fault_is_found_and_named(tmp_path: Path, path: str, line: str, fault: str) -> None:
    build(tmp_path, GOOD)
    text = GOOD[path]
    (tmp_path / path).write_text(text + line + "\n")
    number = len(text.splitlines()) + len(line.splitlines())
    assert faults(tmp_path) == [f"{path}:{number}: {fault}"]
