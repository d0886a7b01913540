"""The settings of the way in: secrets as secrets, limits that fit each other, mappings that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from settings import CONFIG_VARIABLE, SettingsRefused, load_settings
from settings_bridge import BridgeSettings

EXAMPLE = Path(__file__).parents[2] / "holdpoint.example.toml"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"token": "short"}, "token\n.*is too short"),
        ({"previous_hmac_key": "short"}, "previous_hmac_key\n.*is too short"),
        ({"burst": 10}, "burst: must be at least max_alerts"),
        ({"max_alerts": 0}, "max_alerts"),
        ({"max_bytes": 10}, "max_bytes"),
        ({"alerts_per_second": 0}, "alerts_per_second"),
        ({"alerts_per_second": float("inf")}, "alerts_per_second"),
        ({"replay_window": "soon"}, "replay_window"),
        ({"mapping": {"cef": {"zone": "Mars/Olympus"}}}, "is no time zone"),
        ({"mapping": {"cef": {"zone": "../../etc/passwd"}}}, "is no time zone"),
        ({"mapping": {"cef": {"colour": ["x"]}}}, "colour"),
        ({"mapping": {"splunk": {}}}, "splunk"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        BridgeSettings.model_validate(given)


def test_secrets_are_known_by_their_names_and_shown_by_nothing() -> None:
    told = BridgeSettings.model_validate({"hmac_key": "k" * 12, "previous_token": "t" * 12})
    assert (told.hmac_keys, told.tokens) == ({"hmac_key": "k" * 12}, {"previous_token": "t" * 12})
    assert "k" * 12 not in repr(told)


def test_the_environment_overrides_secrets_and_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(EXAMPLE))
    monkeypatch.setenv("HOLDPOINT_BRIDGE__TOKEN", "a token of the environment")
    monkeypatch.setenv("HOLDPOINT_BRIDGE__MAPPING__CEF__ID", '["labels.Case Number"]')
    monkeypatch.setenv("HOLDPOINT_BRIDGE__MAPPING__CEF__ZONE", "Europe/Berlin")
    bridge = load_settings(secrets_needed=False).bridge
    assert bridge.tokens == {"token": "a token of the environment"}
    assert (bridge.mapping.cef.id, bridge.mapping.cef.zone) == (("labels.Case Number",), "Europe/Berlin")
    assert bridge.mapping.leef.destination_ip == ("dst",)


def test_a_secret_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("\n[bridge] ", '\n[bridge]\ntoken = "a token in the file"\n#', 1)
    (tmp_path / "holdpoint.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "holdpoint.toml"))
    with pytest.raises(SettingsRefused, match=r"bridge\.token: is a secret") as refused:
        load_settings(secrets_needed=False)
    assert "in the file" not in str(refused.value)
