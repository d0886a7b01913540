from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from starter import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("README.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAKES = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)
RUNS = re.compile(r"python -m ([a-z_.]+)")
SOURCE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.[a-z]+)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}


@each_page
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in _anchors(there), target


@each_page
def test_the_files_that_it_names_are_there(page: Path) -> None:
    for name in SOURCE.findall(page.read_text(encoding="utf-8")):
        if name != "integrations/sentinel.py":
            assert (ROOT / name).exists(), name


@each_page
def test_what_it_makes_and_runs_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(MAKES.findall(text)) <= targets
    for name in set(RUNS.findall(text)) - {"venv"}:
        assert importlib.util.find_spec(name) is not None, name


def _commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "starter.py" in words:
                    yield page.name, words[words.index("starter.py") + 1 :]


def test_each_command_of_ours_exists_with_its_options() -> None:
    group = typer.main.get_command(app)
    seen = set()
    for page, (name, *arguments) in _commands():
        command = group.commands[name]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in arguments:
            assert not word.startswith("--") or word in known, f"{page}: {name} {word}"
        seen.add(name)
    assert seen >= {"setup", "doctor", "start", "decide", "list", "status"}
