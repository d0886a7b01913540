"""A file is one thing, a function can be seen at once, and everything public says what it means."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.layers import ROOT, sources

MAX_FILE, MAX_FUNCTION = 450, 60
HOUSE = [path for path in sources(ROOT) if path.parts[0] != "tests"]

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def long(path: Path, text: str) -> list[str]:
    """What is longer than it may be."""
    told = []
    if len(text.splitlines()) > MAX_FILE:
        told.append(f"{path}: has {len(text.splitlines())} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                told.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return told


def _public(body: list[ast.stmt]) -> Iterator[Named]:
    for node in body:
        if isinstance(node, Named) and not node.name.startswith("_") and not _repeats(node):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _repeats(node: Named) -> bool:
    """An overload or a property's setter: its first definition says what it means."""
    told = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(name.endswith(("overload", "override", ".setter", ".deleter")) for name in told)


def silent(path: Path, text: str) -> list[str]:
    """What is public and says nothing."""
    tree = ast.parse(text)
    told = [] if ast.get_docstring(tree) or not text.strip() else [f"{path}: the module"]
    return told + [f"{path}:{n.lineno}: {n.name}" for n in _public(tree.body) if not ast.get_docstring(n)]


def test_no_file_and_no_function_is_long() -> None:
    assert [fault for path in HOUSE for fault in long(path, (ROOT / path).read_text(encoding="utf-8"))] == []


def test_everything_public_says_what_it_means() -> None:
    assert [fault for path in HOUSE for fault in silent(path, (ROOT / path).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('"""M."""\n' * MAX_FILE, []),
        ('"""M."""\n' + "\n" * MAX_FILE, [f"a.py: has {MAX_FILE + 1} lines"]),
        ("def f():\n" + "    x\n" * 59, []),
        ("def f():\n" + "    x\n" * 60, ["a.py:1: f has 61 lines"]),
        ("class A:\n    async def f(self):\n" + "        x\n" * 60, ["a.py:2: f has 61 lines"]),
    ],
)
def test_length_is_measured(text: str, told: list[str]) -> None:
    assert long(Path("a.py"), text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", []),
        ("x = 1", ["a.py: the module"]),
        ('"""M."""\ndef _f(): ...\nclass A:\n    """A."""\n    def __init__(self): ...\n    def _g(self): ...\n', []),
        ('"""M."""\ndef f(): ...\n', ["a.py:2: f"]),
        ('"""M."""\nclass A:\n    """A."""\n    async def g(self): ...\n', ["a.py:4: g"]),
        ('"""M."""\nclass A:\n    """A."""\n    @x.setter\n    def x(self, v): ...\n', []),
        ('"""M."""\nclass _A:\n    def g(self): ...\n', []),
    ],
)
def test_silence_is_heard(text: str, told: list[str]) -> None:
    assert silent(Path("a.py"), text) == told
