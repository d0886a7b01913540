"""The section of the record, which whoever verifies one may have without any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import CONFIG_VARIABLE, SECRETS_VARIABLE, SettingsRefused, record_settings

KEY = "a-key-that-is-long-enough"
VARIABLE = "HOLDPOINT_RECORD__KEY"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (CONFIG_VARIABLE, SECRETS_VARIABLE, VARIABLE, "HOLDPOINT_RECORD__ATTACH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_nothing_is_needed() -> None:
    section = record_settings()
    assert (section.key, section.attach) == (None, True)


def test_the_variable_goes_before_the_file_and_the_mounted_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "holdpoint.toml").write_text("[record]\nattach = false\n[mail]\nport = -1\n", encoding="utf-8")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "record__key").write_text(f"{KEY}-mounted\n", encoding="utf-8")
    monkeypatch.setenv(SECRETS_VARIABLE, str(secrets))
    section = record_settings()
    assert section.key is not None
    assert (section.key.get_secret_value(), section.attach) == (f"{KEY}-mounted", False)
    monkeypatch.setenv(VARIABLE, KEY)
    section = record_settings()
    assert section.key is not None
    assert section.key.get_secret_value() == KEY
    assert KEY not in repr(section)


@pytest.mark.parametrize(
    ("text", "variable", "fault"),
    [
        (f'[record]\nkey = "{KEY}"\n', "", "record.key: is a secret"),
        ("[record]\nkeys = 1\n", "", "record.keys: there is no such key"),
        ("", "short", "record.key: is too short"),
        ("[record\n", "", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, variable: str, fault: str
) -> None:
    (tmp_path / "holdpoint.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, variable)
    with pytest.raises(SettingsRefused) as refused:
        record_settings()
    assert fault in str(refused.value)
    assert "'short'" not in str(refused.value)


def test_a_folder_of_secrets_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(SettingsRefused, match="there is no directory"):
        record_settings()
