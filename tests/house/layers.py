"""Who may import whom, read from the source: nothing is run, and what hides in a function or a string is seen too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "incident": {"incident"},
    "integrations": {"incident", "integrations"},
    "activities": {"incident", "integrations", "activities"},
    "workflows": {"incident", "workflows"},
    "bridge": {
        "bridge",
        "cases",
        "connection",
        "incident",
        "integrations",
        "logs",
        "settings",
        "settings_bridge",
        "telemetry",
    },
}
"""Of our own code, what a package may import."""

MODULES = {
    "settings": {"incident", "settings_bridge", "settings_sections", "settings_values"},
    "settings_bridge": {"incident", "settings_mapping", "settings_sections", "settings_values"},
    "settings_mapping": {"settings_sections", "settings_values"},
    "settings_sections": {"incident", "settings_values"},
    "settings_values": set[str](),
}
"""Of our own code, what a module at the top may import. Any other one may import all but the lab and the tests."""

RESERVED = {
    "activities": {"activities", "record_commands", "worker", "lab", "tests"},
    "lab": {"lab", "benchmarks", "tests"},
    "tests": {"tests"},
}
"""Who alone may import these."""

PURE = {
    *(
        "__future__",
        "base64",
        "binascii",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "hmac",
    ),
    *("ipaddress", "itertools", "json", "math", "operator", "re", "shlex", "string", "types", "typing", "unicodedata"),
    *("pydantic", "rfc8785"),
}
"""All that ``incident`` may import from elsewhere: nothing here does I/O; the clock of ``datetime`` is a rule below."""

_WIRE = {"aiosmtplib", "httpx", "ldap3", "smtplib", "socket", "ssl", "urllib", "http"}
BANNED = {
    "integrations": {"temporalio"},
    "activities": _WIRE,
    "workflows": _WIRE | {"os", "random", "secrets", "subprocess", "threading", "time", "uuid", "pathlib"},
}
"""From elsewhere, what a package may not import."""

TIMELESS = {"incident", "workflows"}
"""Times are handed in: the machine's clock differs between a run and its replay."""


@dataclass(frozen=True)
class Import:
    """A name that a module imports, and where."""

    name: str
    line: int

    @property
    def top(self) -> str:
        """Its first part."""
        return self.name.partition(".")[0]


def sources(root: Path) -> list[Path]:
    """The project's Python files: hidden folders, built things and installed packages are none."""
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(p for p in found if not any(part.startswith(".") or part in {"build", "venv"} for part in p.parts))


def imports(tree: ast.AST, path: Path) -> Iterator[Import]:
    """Everything that a file imports, wherever in it and however."""
    package = list(path.parts[:-1])
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (Import(alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=module, level=0):
                yield Import(module or "", node.lineno)
            case ast.ImportFrom(module=module, level=level, names=names):
                base = package[: len(package) - level + 1]
                for parts in [[module]] if module else [[alias.name] for alias in names]:
                    yield Import(".".join([*base, *parts]), node.lineno)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _imports_by_name(func):
                yield Import(name, node.lineno)


def _imports_by_name(func: ast.expr) -> bool:
    match func:
        case ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module" | "__import__"):
            return True
    return False


def _reads_clock(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr="now" | "utcnow" | "today", value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in {"datetime", "date"}
    return False


def _objections(who: str, what: Import, ours: set[str]) -> Iterator[str]:
    if what.top in RESERVED and who not in RESERVED[what.top]:
        yield f"imports {what.name}"
    elif what.top in ours:
        may = PACKAGES.get(who, MODULES.get(who))
        if may is not None and what.top not in may:
            yield f"imports {what.name}"
    elif what.top in BANNED.get(who, ()) or (who == "incident" and what.top not in PURE):
        yield f"imports {what.name}"


def faults(root: Path) -> list[str]:
    """Each import that runs the wrong way and each look at the clock, as ``file:line: what``."""
    files = sources(root)
    ours = {path.parts[0].removesuffix(".py") for path in files}
    told = []
    for path in files:
        who = path.parts[0].removesuffix(".py")
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        for what in imports(tree, path):
            told += [f"{path}:{what.line}: {objection}" for objection in _objections(who, what, ours)]
        if who in TIMELESS:
            told += [f"{path}:{node.lineno}: reads the clock" for node in ast.walk(tree) if _reads_clock(node)]  # type: ignore[attr-defined]
    return told
