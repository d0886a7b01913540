from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from settings import CONFIG_VARIABLE, SECRETS_VARIABLE, Settings, load_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "holdpoint.example.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
SECTION = re.compile(r"\[{1,2}([a-z.]+)\]{1,2}")
KEY = re.compile(r"(# )?([a-z_]+) = ")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Each key of the settings: its path, its field, and whether it is a secret."""
    for name, field in model.model_fields.items():
        sections = list(_models(field.annotation))
        if sections:
            yield from _keys(sections[0], f"{prefix}{name}.")
        else:
            yield prefix + name, field, "SecretStr" in str(field.annotation)


def _shown() -> dict[str, bool]:
    """Each key that the example shows, by its path, and whether it stands in a comment."""
    section, shown = "", {}
    for line in TEXT.splitlines():
        if header := SECTION.match(line):
            section = header[1]
        elif key := KEY.match(line):
            shown[f"{section}.{key[2]}"] = bool(key[1])
    return shown


SECRETS = [path for path, _, secret in _keys() if secret]
PLAIN = {path: field for path, field, secret in _keys() if not secret}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv(CONFIG_VARIABLE, str(EXAMPLE))
    monkeypatch.delenv(SECRETS_VARIABLE, raising=False)
    for path in SECRETS:
        if path != "mail.password":
            monkeypatch.setenv(_variable(path), "not-a-secret")
    return load_settings()


def _variable(path: str) -> str:
    return "HOLDPOINT_" + path.upper().replace(".", "__")


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value[0] if isinstance(value, tuple) else value, name)
    return value


def test_it_loads_and_says_what_the_code_does_by_default(example: Settings) -> None:
    differing = {
        path: (_at(example, path), field.get_default(call_default_factory=True))
        for path, field in PLAIN.items()
        if not field.is_required() and _at(example, path) != field.get_default(call_default_factory=True)
    }
    assert differing == {}


def test_it_shows_every_key_and_no_other() -> None:
    shown = _shown()
    assert set(shown) == set(PLAIN)
    assert len(PLAIN) > 30
    optional = {path for path, commented in shown.items() if commented}
    assert optional == {path for path, field in PLAIN.items() if not field.is_required() and field.default is None}


def test_it_loads_with_its_optional_keys_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    uncommented = "\n".join(line.removeprefix("# ") if KEY.match(line) else line for line in TEXT.splitlines())
    uncommented = re.sub(r'ca_file = ".*"', f'ca_file = "{authority}"', uncommented)
    written = tmp_path / "holdpoint.toml"
    written.write_text(uncommented, encoding="utf-8")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for path in SECRETS:
        (secrets / path.replace(".", "__")).write_text("not-a-secret\n", encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(written))
    monkeypatch.setenv(SECRETS_VARIABLE, str(secrets))
    settings = load_settings()
    assert [_at(settings, path).get_secret_value() for path in SECRETS] == ["not-a-secret"] * len(SECRETS)
    assert settings.mail.ca_file == authority


@pytest.mark.parametrize("path", SECRETS)
def test_each_secret_is_named_as_variable_and_as_file_and_is_not_there(path: str) -> None:
    section, _, name = path.rpartition(".")
    assert f"# {name}: {_variable(path)}, or the file {path.replace('.', '__')}\n" in TEXT
    tree = tomllib.loads(TEXT)
    for part in section.split("."):
        tree = tree[part]
    assert name not in tree
