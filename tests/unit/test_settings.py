"""Settings are whole, or refused with every fault at once, each named by its key and none of them telling a secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from incident.evidence import Person
from incident.guardrails import Target, protection
from incident.policy import Approval, CasePolicy, GuardrailPolicy, Mode, OnUnanswered
from incident.triage import ActionName
from settings import Settings, SettingsRefused, load_settings

Write = Callable[[str], Path]

SECRETS = {
    "HOLDPOINT_SECURONIX__PASSWORD": "s3cret-securonix",
    "HOLDPOINT_DIRECTORY__PASSWORD": "s3cret-directory",
    "HOLDPOINT_ENDPOINT__CROWDSTRIKE__CLIENT_SECRET": "s3cret-falcon",
    "HOLDPOINT_TICKETING__SERVICENOW__PASSWORD": "s3cret-servicenow",
}

TREE: dict[str, Any] = {
    "securonix": {"url": "https://siem.example.com/Snypr", "username": "svc", "tenant": "acme"},
    "directory": {"servers": ["ldaps://dc1.example.com"], "bind_user": "svc@example.com", "base_dn": "DC=example"},
    "endpoint": {"crowdstrike": {"base_url": "https://api.example.com", "client_id": "id"}},
    "ticketing": {"servicenow": {"url": "https://now.example.com", "username": "svc"}},
    "mail": {"host": "mail.example.com", "sender": "holdpoint@example.com"},
    "tiers": [
        {"name": "analyst", "recipients": ["soc@example.com"], "analysts": ["ann@example.com"], "wait": "15m"},
        {"name": "lead", "recipients": ["lea@example.com"], "analysts": ["lea@example.com"], "wait": "1h"},
    ],
}


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case _:
            return str(value)


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {}) if isinstance(tree, dict) else tree[int(section)]
    if value is ...:
        tree.pop(name, None)
    else:
        tree[name] = value


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("HOLDPOINT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a settings file and name it in the environment."""

    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("HOLDPOINT_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def configure(write: Write, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Good settings with the secrets beside them, changed by dotted keys; ``...`` takes a key away."""

    def configure(changed: dict[str, Any] | None = None, *, secrets: bool = True) -> None:
        tree = _copy(TREE)
        for key, value in (changed or {}).items():
            _set(tree, key, value)
        write("\n".join(f"{key} = {_toml(value)}" for key, value in tree.items()))
        for name, value in SECRETS.items() if secrets else ():
            monkeypatch.setenv(name, value)

    return configure


Configure = Callable[..., None]


def faults(**options: Any) -> list[str]:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(**options)
    told = refused.value.faults
    assert not [line for line in told if "s3cret" in line or "\n" in line]
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return told


def keys(told: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in told}


# What is good


def test_good_settings_are_read(configure: Configure) -> None:
    configure()
    settings = load_settings()
    assert settings.securonix.url == "https://siem.example.com/Snypr"
    assert settings.securonix.password.get_secret_value() == "s3cret-securonix"
    assert settings.endpoint.crowdstrike
    assert settings.endpoint.crowdstrike.client_secret.get_secret_value() == "s3cret-falcon"
    assert [(tier.name, tier.wait) for tier in settings.tiers] == [
        ("analyst", timedelta(minutes=15)),
        ("lead", timedelta(hours=1)),
    ]


def test_defaults_are_those_that_are_documented(configure: Configure) -> None:
    configure()
    settings = load_settings()
    policy = settings.case_policy()
    assert (policy.enrich_within, policy.contain_within) == (timedelta(minutes=2), timedelta(minutes=15))
    assert policy.on_unanswered is OnUnanswered.HOLD
    assert (settings.guardrails.mode.value, settings.guardrails.max_per_hour) == ("act", 100)
    assert (settings.mail.port, settings.mail.starttls) == (587, True)
    assert settings.ticketing.servicenow
    assert settings.ticketing.servicenow.table == "incident"


def test_the_file_here_is_found_without_being_named(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    Path("settings.toml").rename("holdpoint.toml")
    monkeypatch.delenv("HOLDPOINT_CONFIG")
    assert load_settings().securonix.username == "svc"


def test_the_snapshot_of_a_case_is_json_and_holds_no_secret(configure: Configure) -> None:
    configure({"guardrails": {"protected_accounts": ["ceo"]}, "policy": {"event_condition": 'category = "x"'}})
    policy = load_settings().case_policy()
    text = policy.model_dump_json()
    assert CasePolicy.model_validate_json(text) == policy
    assert "s3cret" not in text
    assert policy.guardrails.protected_accounts == ("ceo",)


def test_no_secret_shows(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure({"mail.username": "svc"})
    monkeypatch.setenv("HOLDPOINT_MAIL__PASSWORD", "s3cret-mail")
    settings = load_settings()
    assert settings.mail.password
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json() + str(settings.model_dump())
    for section in (settings.securonix, settings.mail, settings.endpoint.crowdstrike):
        assert "s3cret" not in f"{section!r} {section}"


# The environment and mounted secrets


@pytest.mark.parametrize(
    ("variable", "value", "read", "expected"),
    [
        (
            "HOLDPOINT_SECURONIX__URL",
            "https://other.example.com",
            lambda s: s.securonix.url,
            "https://other.example.com",
        ),
        ("HOLDPOINT_MAIL__PORT", "25", lambda s: s.mail.port, 25),
        ("HOLDPOINT_POLICY__HIGH_AT", "90", lambda s: s.policy.high_at, 90),
        ("HOLDPOINT_POLICY__RECHECK_EVERY", "5m", lambda s: s.policy.recheck_every, timedelta(minutes=5)),
        ("HOLDPOINT_POLICY__ON_UNANSWERED", "close", lambda s: s.policy.on_unanswered.value, "close"),
        ("HOLDPOINT_GUARDRAILS__MODE", "ask", lambda s: s.guardrails.mode.value, "ask"),
        ("HOLDPOINT_GUARDRAILS__PROTECTED_HOSTS", '["web*"]', lambda s: s.guardrails.protected_hosts, ("web*",)),
        ("HOLDPOINT_ENDPOINT__CROWDSTRIKE__CLIENT_ID", "x", lambda s: s.endpoint.crowdstrike.client_id, "x"),
        ("holdpoint_ticketing__servicenow__table", "u_t", lambda s: s.ticketing.servicenow.table, "u_t"),
        ("HOLDPOINT_DIRECTORY__SERVERS", '["ldap://a", "ldaps://b"]', lambda s: len(s.directory.servers), 2),
    ],
)
def test_the_environment_overrides_each_key_and_leaves_its_neighbours(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    read: Callable[[Settings], Any],
    expected: Any,
) -> None:
    configure()
    monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert read(settings) == expected
    assert settings.securonix.username == "svc"
    assert settings.directory.base_dn == "DC=example"


def test_the_tiers_may_come_as_json(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    only = '[{"name": "x", "recipients": ["a@x.org"], "analysts": ["a@x.org"], "wait": "2h"}]'
    monkeypatch.setenv("HOLDPOINT_TIERS", only)
    (tier,) = load_settings().tiers
    assert (tier.name, tier.wait) == ("x", timedelta(hours=2))


def test_an_empty_variable_overrides_nothing(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    monkeypatch.setenv("HOLDPOINT_SECURONIX__URL", "")
    assert load_settings().securonix.url == "https://siem.example.com/Snypr"


def test_all_of_it_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {
        "SECURONIX__URL": "https://siem.example.com",
        "SECURONIX__USERNAME": "svc",
        "DIRECTORY__SERVERS": '["ldaps://dc1"]',
        "DIRECTORY__BIND_USER": "svc",
        "DIRECTORY__BASE_DN": "DC=x",
        "ENDPOINT__CROWDSTRIKE__BASE_URL": "https://api.example.com",
        "ENDPOINT__CROWDSTRIKE__CLIENT_ID": "id",
        "TICKETING__SERVICENOW__URL": "https://now.example.com",
        "TICKETING__SERVICENOW__USERNAME": "svc",
        "MAIL__HOST": "mail",
        "MAIL__USERNAME": "svc",
        "MAIL__SENDER": "a@x.org",
        "TIERS": '[{"name": "x", "recipients": ["a@x.org"], "analysts": ["a@x.org"], "wait": "2h"}]',
    }
    for name, value in flat.items():
        monkeypatch.setenv(f"HOLDPOINT_{name}", value)
    assert load_settings(secrets_needed=False).mail.host == "mail"
    for name, value in {**SECRETS, "HOLDPOINT_MAIL__PASSWORD": "x"}.items():
        monkeypatch.setenv(name, value)
    assert load_settings().mail.host == "mail"


@pytest.mark.parametrize(
    "name",
    [
        "securonix__password",
        "holdpoint_securonix__password",
        "HOLDPOINT_SECURONIX__PASSWORD",
        "securonix.password",
    ],
)
def test_secrets_are_mounted_one_file_a_key(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    configure()
    monkeypatch.delenv("HOLDPOINT_SECURONIX__PASSWORD")
    mounted = tmp_path / "secrets"
    mounted.mkdir()
    (mounted / name).write_text("  s3cret mounted \r\n")
    (mounted / "..data").mkdir()
    (mounted / ".hidden__x").write_text("x")
    (mounted / "temporal_api_key").write_text("another program's")
    (mounted / "mail").write_text("another program's")
    (mounted / "other__thing").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("HOLDPOINT_SECRETS_DIR", str(mounted))
    assert load_settings().securonix.password.get_secret_value() == "  s3cret mounted "


def test_nested_secrets_are_mounted_too_and_the_environment_goes_before_them(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(secrets=False)
    for name in SECRETS:
        (tmp_path / name.removeprefix("HOLDPOINT_").lower()).write_text("mounted")
    monkeypatch.setenv("HOLDPOINT_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("HOLDPOINT_DIRECTORY__PASSWORD", "environment")
    settings = load_settings()
    assert settings.endpoint.crowdstrike
    assert settings.endpoint.crowdstrike.client_secret.get_secret_value() == "mounted"
    assert settings.directory.password.get_secret_value() == "environment"


def test_an_empty_mounted_secret_is_missing(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    monkeypatch.delenv("HOLDPOINT_SECURONIX__PASSWORD")
    (tmp_path / "securonix__password").write_text("\n")
    monkeypatch.setenv("HOLDPOINT_SECRETS_DIR", str(tmp_path))
    assert faults() == ["securonix.password: is missing"]


def test_a_mounted_secret_that_is_no_text_is_refused(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    (tmp_path / "securonix__password").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("HOLDPOINT_SECRETS_DIR", str(tmp_path))
    (line,) = faults()
    assert line.startswith("HOLDPOINT_SECRETS_DIR: ")
    assert line.endswith("securonix__password: is not UTF-8 text")


def test_a_missing_secrets_directory_is_named(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    monkeypatch.setenv("HOLDPOINT_SECRETS_DIR", "/nowhere")
    assert faults() == ["HOLDPOINT_SECRETS_DIR: there is no directory /nowhere"]


# What is refused


def test_every_fault_is_told_at_once_by_its_key(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(
        {
            "securonix.url": "http://siem.example.com",
            "securonix.username": "",
            "directory.servers": [],
            "directory.base_dn": ...,
            "directory.nonsense": 1,
            "endpoint.provider": "nobody",
            "endpoint.crowdstrike": ...,
            "ticketing.servicenow": ...,
            "mail.starttls": False,
            "mail.ca_file": "/nowhere/ca.pem",
            "policy": {"medium_at": 80, "high_at": 70, "lookback": "1w", "recheck_every": 5},
            "guardrails": {"max_per_hour": -1, "mode": "panic", "disable_account": "maybe", "max_per_department": -1},
            "tiers.0.wait": "soon",
            "tiers.1.analysts": ["nobody"],
            "nonsense": {"a": 1},
        }
    )
    monkeypatch.setenv("HOLDPOINT_MISTYPED__PASSWORD", "s3cret")
    told = faults()
    assert keys(told) >= {
        "HOLDPOINT_MISTYPED__PASSWORD",
        "directory.base_dn",
        "directory.nonsense",
        "directory.servers",
        "endpoint.provider",
        "guardrails.disable_account",
        "guardrails.max_per_department",
        "guardrails.max_per_hour",
        "guardrails.mode",
        "mail.ca_file",
        "nonsense",
        "policy.lookback",
        "policy.recheck_every",
        "securonix.url",
        "securonix.username",
        "ticketing.servicenow.url",
        "tiers.0.wait",
        "tiers.1.analysts.0",
    }


def test_every_missing_section_is_told(write: Write) -> None:
    write("")
    assert faults() == [
        f"{section}: is missing" for section in ("securonix", "directory", "endpoint", "ticketing", "mail", "tiers")
    ]


def test_every_missing_secret_is_told_by_its_key(configure: Configure) -> None:
    configure(secrets=False)
    assert faults() == [
        "securonix.password: is missing",
        "directory.password: is missing",
        "endpoint.crowdstrike.client_secret: is missing",
        "ticketing.servicenow.password: is missing",
    ]


def test_a_secret_in_the_file_is_a_fault_beside_the_others(configure: Configure) -> None:
    falcon = "endpoint.crowdstrike.client_secret"
    configure(
        {
            "securonix.password": "s3cret in the file",
            falcon: "s3cret in the file",
            "mail.password": "s3cret in the file",
            "mail.username": "svc",
            "directory.base_dn": ...,
        }
    )
    assert faults() == [
        "securonix.password: is a secret; give it as HOLDPOINT_SECURONIX__PASSWORD or in HOLDPOINT_SECRETS_DIR",
        f"{falcon}: is a secret; give it as HOLDPOINT_ENDPOINT__CROWDSTRIKE__CLIENT_SECRET or in HOLDPOINT_SECRETS_DIR",
        "mail.password: is a secret; give it as HOLDPOINT_MAIL__PASSWORD or in HOLDPOINT_SECRETS_DIR",
        "directory.base_dn: is missing",
    ]


def test_a_secret_in_the_file_is_a_fault_also_where_none_is_needed(configure: Configure) -> None:
    configure({"securonix.password": "s3cret"}, secrets=False)
    assert keys(faults(secrets_needed=False)) == {"securonix.password"}


def test_who_connects_to_no_vendor_needs_no_secret(configure: Configure) -> None:
    configure({"mail.username": "svc"}, secrets=False)
    settings = load_settings(secrets_needed=False)
    assert settings.securonix.tenant == "acme"
    assert settings.case_policy().tiers[0].name == "analyst"


def test_who_needs_no_secret_still_hears_of_every_other_fault(configure: Configure) -> None:
    configure({"securonix.url": "x", "directory": ...}, secrets=False)
    assert faults(secrets_needed=False) == ["securonix.url: is not an https:// address", "directory: is missing"]


def test_no_settings_at_all_say_where_they_were_looked_for() -> None:
    told = faults()
    assert told[0] == "HOLDPOINT_CONFIG: is not set, and there is no holdpoint.toml here"
    assert "securonix: is missing" in told


def test_a_named_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDPOINT_CONFIG", "/nowhere/holdpoint.toml")
    assert faults() == ["HOLDPOINT_CONFIG: /nowhere/holdpoint.toml: No such file or directory"]


@pytest.mark.parametrize("text", ["[securonix", "a = ", "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(write: Write, text: str) -> None:
    path = write(text)
    (line,) = faults()
    assert line.startswith(f"{path}: is not TOML: ")


def test_a_file_of_another_encoding_is_refused(write: Write) -> None:
    write("").write_bytes(b"[mail]\nhost = '\xff'\n")
    assert "is not TOML" in faults()[0]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        (" 7d ", timedelta(7)),
    ],
)
def test_durations(configure: Configure, text: str, length: timedelta) -> None:
    configure({"policy": {"lookback": text}})
    assert load_settings().policy.lookback == length


@pytest.mark.parametrize(
    "text", ["", "7", "7 d", "1.5h", "-1m", "0s", "1h30m", "7D", "d", "9999999999999d", "3651d", 7, True]
)
def test_what_is_no_duration_is_refused(configure: Configure, text: object) -> None:
    configure({"policy": {"lookback": text}})
    assert keys(faults()) == {"policy.lookback"}


LOOPBACK = ["127.0.0.1", "127.8.9.10", "localhost", "LocalHost", "[::1]"]
ELSEWHERE = [
    *(
        "siem.example.com",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "[::]",
        "notlocalhost",
    ),
    *("localhost@evil.com", "2130706433", "[::2]", "128.0.0.1"),
]


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("key", ["securonix.url", "endpoint.crowdstrike.base_url", "ticketing.servicenow.url"])
def test_plain_http_stays_on_this_machine(configure: Configure, host: str, key: str) -> None:
    configure({key: f"http://{host}:8080/"})
    assert load_settings()


@pytest.mark.parametrize("host", ELSEWHERE)
@pytest.mark.parametrize("key", ["securonix.url", "endpoint.crowdstrike.base_url", "ticketing.servicenow.url"])
def test_plain_http_goes_nowhere_else(configure: Configure, host: str, key: str) -> None:
    configure({key: f"http://{host}"})
    assert keys(faults()) == {key}


@pytest.mark.parametrize(
    "url",
    [
        *("siem.example.com", "ftp://siem.example.com", "https://", "//siem.example.com", "https://u:s3cret@h", ""),
        *("https://h?x=1", "https://h#x", "https://[::1", "https://h:99999", "https://h:0", "https://h:port"),
    ],
)
def test_what_is_no_web_address_is_refused_and_its_secrets_not_told(configure: Configure, url: str) -> None:
    configure({"securonix.url": url})
    assert keys(faults()) == {"securonix.url"}


@pytest.mark.parametrize(
    "server", ["ldaps://dc1", "ldap://dc1.example.com:389", "ldaps://[2001:db8::1]:636", "LDAPS://dc1/"]
)
def test_directory_servers(configure: Configure, server: str) -> None:
    configure({"directory.servers": [server]})
    assert load_settings().directory.servers == (server.rstrip("/"),)


@pytest.mark.parametrize(
    "server",
    ["dc1.example.com", "https://dc1", "ldaps://", "", "ldaps://u:s3cret@dc1", "https://u:s3cret@dc1", "ldap://h:x"],
)
def test_what_is_no_directory_server_is_refused(configure: Configure, server: str) -> None:
    configure({"directory.servers": ["ldaps://dc1", server]})
    assert keys(faults()) == {"directory.servers.1"}


@pytest.mark.parametrize("host", [host.strip("[]") for host in LOOPBACK])
def test_mail_without_encryption_stays_on_this_machine(configure: Configure, host: str) -> None:
    configure({"mail.starttls": False, "mail.host": host})
    assert load_settings()


@pytest.mark.parametrize("host", [host.strip("[]") for host in ELSEWHERE])
def test_mail_without_encryption_goes_nowhere_else(configure: Configure, host: str) -> None:
    configure({"mail.starttls": False, "mail.host": host})
    assert faults() == ["mail.starttls: may be false for loopback addresses only"]


@pytest.mark.parametrize("section", ["endpoint", "ticketing"])
def test_the_section_of_the_chosen_vendor_must_be_there(configure: Configure, section: str) -> None:
    vendor = {"endpoint": "crowdstrike", "ticketing": "servicenow"}[section]
    configure({section: {"provider": vendor}}, secrets=False)
    assert f"{section}.{vendor}: is missing, and provider names it" in faults()
    assert faults(secrets_needed=False) == [f"{section}.{vendor}: is missing, and provider names it"]


@pytest.mark.parametrize(
    ("medium", "high", "good"),
    [
        (30, 70, True),
        (0.02, 0.03, True),
        (500, 4000, True),
        (70, 70, False),
        (80, 70, False),
        (0.01, 70, False),
        (0, 1, False),
    ],
)
def test_thresholds_are_in_order_and_above_the_resting_score(
    configure: Configure, medium: float, high: float, good: bool
) -> None:
    configure({"policy": {"medium_at": medium, "high_at": high}})
    if good:
        assert load_settings().policy.high_at == high
    else:
        assert faults() == ["policy: medium_at and high_at: want 0.01 < medium_at < high_at"]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_thresholds_are_numbers(configure: Configure, value: str) -> None:
    configure({"policy": {"high_at": float(value)}})
    assert keys(faults()) == {"policy.high_at"}


@pytest.mark.parametrize("mode", ["observe", "recommend", "ask", "act"])
def test_a_mode_for_all_and_modes_for_each_action(configure: Configure, mode: str) -> None:
    configure({"guardrails": {"mode": mode, "disable_account": "observe"}})
    guardrails = load_settings().case_policy().guardrails
    assert guardrails.mode_of(ActionName.QUARANTINE_HOST) == mode
    assert guardrails.mode_of(ActionName.DISABLE_ACCOUNT) is Mode.OBSERVE


def test_the_guardrails_of_a_new_case(configure: Configure) -> None:
    configure({"guardrails": {"max_per_hour": 0, "max_per_department": 2, "protected_approval": "never"}})
    guardrails = load_settings().case_policy().guardrails
    assert (guardrails.ledger, guardrails.modes) == (True, {})
    assert (guardrails.max_per_hour, guardrails.max_per_department) == (0, 2)
    assert guardrails.protected_approval is Approval.NEVER
    assert guardrails.responders == ("ann@example.com", "soc@example.com", "lea@example.com")


def test_what_is_protected_needs_two_tiers_unless_it_is_said_otherwise(configure: Configure) -> None:
    configure()
    policy = load_settings().case_policy()
    assert policy.guardrails.protected_approval is Approval.TWO_TIERS
    assert (policy.guardrails.max_per_department, policy.lease, policy.revoke_sign_ins) == (None, None, False)
    assert policy.settle_within == timedelta(seconds=30)


def test_every_account_that_holdpoint_uses_is_its_own(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    jira = {"url": "https://a.atlassian.net", "username": "svc-jira@example.com", "project": "IR"}
    configure({"ticketing.jira": jira, "mail.username": "svc-mail", "securonix.username": "ACME\\svc-siem"})
    monkeypatch.setenv("HOLDPOINT_MAIL__PASSWORD", "s3cret")
    monkeypatch.setenv("HOLDPOINT_TICKETING__JIRA__API_TOKEN", "s3cret")
    own = load_settings().case_policy().guardrails.own_accounts
    assert set(own) == {
        *("svc@example.com", "svc", "ACME\\svc-siem", "svc-jira@example.com", "svc-jira", "svc-mail"),
        "holdpoint@example.com",
    }


@pytest.mark.parametrize(
    ("bind_user", "account"),
    [
        ("CN=svc-holdpoint,OU=Services,DC=example", "svc-holdpoint"),
        ("cn = Holdpoint\\, the robot+employeeID=7,DC=example", "Holdpoint, the robot"),
        ("CN=Andr\\C3\\A9,DC=example", "André"),
        ("uid=svc,dc=example", "svc"),
        ("svc-holdpoint@example", "svc-holdpoint"),
        ("ACME\\svc-holdpoint", "ACME\\svc-holdpoint"),
    ],
)
def test_a_bind_user_is_told_as_an_account(configure: Configure, bind_user: str, account: str) -> None:
    configure({"directory.bind_user": bind_user})
    own = load_settings().case_policy().guardrails.own_accounts
    assert own[0] == bind_user
    assert account in own
    person = Person(account=account.rpartition("\\")[2], dn="CN=x", enabled=True, user_account_control=512)
    policy = GuardrailPolicy(own_accounts=own)
    assert "itself uses" in (protection(ActionName.DISABLE_ACCOUNT, Target(person=person), policy) or "")


def test_every_host_that_holdpoint_uses_is_its_own(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example.com:7233")
    monkeypatch.setattr("socket.gethostname", lambda: "soc-7")
    configure({"directory.servers": ["ldaps://dc1.example.com", "ldaps://10.0.0.9:636"], "mail.host": "Mail"})
    assert set(load_settings().case_policy().guardrails.own_hosts) == {
        *("siem.example.com", "dc1.example.com", "10.0.0.9", "api.example.com", "now.example.com", "mail"),
        *("temporal.example.com", "soc-7"),
    }


def test_what_is_in_the_directorys_domain_and_this_machine_are_own_by_their_short_names_too(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIEM may leave the domain out; a vendor's host elsewhere says nothing about a short name of ours."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.eu.corp.example.com:7233")
    monkeypatch.setattr("socket.gethostname", lambda: "SOC-7.lab.example.org")
    configure(
        {
            "directory.base_dn": "OU=All,DC=Corp, dc = example,DC=com",
            "directory.servers": [
                "ldaps://dc1.corp.example.com.",
                "ldaps://dc2.notcorp.example.com",
                "ldaps://10.0.0.9",
            ],
        }
    )
    assert set(load_settings().case_policy().guardrails.own_hosts) == {
        *("siem.example.com", "api.example.com", "now.example.com", "mail.example.com", "10.0.0.9"),
        *("dc1.corp.example.com.", "dc1", "dc2.notcorp.example.com"),
        *("temporal.eu.corp.example.com", "temporal", "soc-7.lab.example.org", "soc-7"),
    }


def test_an_address_of_this_machine_names_nobody(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "localhost:7233")
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    configure(
        {
            "securonix.url": "http://127.0.0.1:8080/Snypr",
            "directory.servers": ["ldap://[::1]:389"],
            "endpoint.crowdstrike.base_url": "http://localhost:1",
            "ticketing.servicenow.url": "http://127.8.8.8",
            "mail.host": "[",
        }
    )
    assert load_settings().case_policy().guardrails.own_hosts == ()


SIDS = ["S-1-5-32-544", "s-1-5-21-1-2-4294967295-512", "S-1-5-21-*-512", "S-1-5-*", "S-1-0x0123456789ab-1", "S-1x"]
NO_SIDS = [
    *("S-1-", "S-1-5", "S-1-5-", "S-1-5-21-x", "S-1-5-21-1-2-3-512 ", "S-1-5--544", "S-1-5-4294967296", "s-1-a-*"),
    "S-1-5" + "-1" * 16,
]


@pytest.mark.parametrize("group", [*SIDS, "Domain Admins", "S-12", "Sales"])
def test_a_protected_group_is_a_name_or_a_sid(configure: Configure, group: str) -> None:
    configure({"guardrails": {"protected_groups": [group]}})
    assert load_settings().case_policy().guardrails.protected_groups == (group,)


@pytest.mark.parametrize("group", NO_SIDS)
def test_a_malformed_sid_is_refused(configure: Configure, group: str) -> None:
    configure({"guardrails": {"protected_groups": ["Sales", group]}})
    assert faults() == [f"guardrails.protected_groups.1: {group!r} starts like a SID and is none"]


def test_half_a_login_is_none(configure: Configure) -> None:
    configure({"mail.username": "svc"})
    assert faults() == ["mail: username and password: give both or neither"]


@pytest.mark.parametrize("second", ["analyst", "ANALYST"])
def test_tiers_are_told_apart_by_name(configure: Configure, second: str) -> None:
    configure({"tiers.1.name": second})
    assert faults() == ["tiers: two tiers have the same name"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tiers": []}, "tiers: needs at least one"),
        ({"tiers": ...}, "tiers: is missing"),
        ({"tiers.0.recipients": []}, "tiers.0.recipients: needs at least one"),
        ({"tiers.0.analysts": []}, "tiers.0.analysts: needs at least one"),
        ({"tiers.0.wait": ...}, "tiers.0.wait: is missing"),
        ({"tiers.0.name": ""}, "tiers.0.name: is empty"),
        ({"tiers.0.extra": 1}, "tiers.0.extra: there is no such key"),
        (
            {"directory.servers": "ldaps://dc1"},
            "directory.servers: must be a list; in the environment a JSON one, [...]",
        ),
    ],
)
def test_faults_in_words(configure: Configure, changed: dict[str, Any], told: str) -> None:
    configure(changed)
    assert faults() == [told]


@pytest.mark.parametrize(
    "mail", ["ann", "ann@", "@x.org", "a b@x.org", "<a@x.org>", "a@x.org\nBcc: b@x.org", "a@x.org,b@x.org", "a@b@c"]
)
def test_what_is_no_mail_address_is_refused(configure: Configure, monkeypatch: pytest.MonkeyPatch, mail: str) -> None:
    configure()
    monkeypatch.setenv("HOLDPOINT_MAIL__SENDER", mail)
    assert keys(faults()) == {"mail.sender"}


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("HOLDPOINT_TIERS", "[{", "tiers"),
        ("HOLDPOINT_TIERS", "s3cret", "tiers"),
        ("HOLDPOINT_DIRECTORY__SERVERS", "ldaps://dc1", "directory.servers"),
        ("HOLDPOINT_MAIL", "s3cret", "mail"),
        ("HOLDPOINT_MAIL__PORT", "smtp", "mail.port"),
        ("HOLDPOINT_MAIL__POTR", "25", "mail.potr"),
        ("HOLDPOINT_SECURONX__PASSWORD", "s3cret", "HOLDPOINT_SECURONX__PASSWORD"),
    ],
)
def test_faults_of_the_environment_are_told_with_the_others(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, key: str
) -> None:
    configure({"securonix.url": "x"})
    monkeypatch.setenv(variable, value)
    assert keys(faults()) == {"securonix.url", key}


@pytest.mark.parametrize("value", ["x", 3, [], True])
def test_a_section_is_a_table(configure: Configure, value: object) -> None:
    configure({"mail": value, "securonix.url": "x"})
    assert keys(faults()) == {"mail", "securonix.url"}
    assert keys(faults(secrets_needed=False)) == {"mail", "securonix.url"}


def test_settings_do_not_change(configure: Configure) -> None:
    configure()
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.mail.host = "evil"  # type: ignore[misc]


# A second vendor

SECOND = [
    ("endpoint", "defender", {"tenant_id": "t", "client_id": "c"}, "client_secret"),
    ("ticketing", "jira", {"url": "https://a.atlassian.net", "username": "a@b.example", "project": "IR"}, "api_token"),
]


@pytest.mark.parametrize(("section", "vendor", "table", "secret"), SECOND)
def test_a_second_vendor_is_chosen_by_its_name(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, section: str, vendor: str, table: dict[str, str], secret: str
) -> None:
    configure({f"{section}.provider": vendor, f"{section}.{vendor}": table})
    assert faults() == [f"{section}.{vendor}.{secret}: is missing"]
    monkeypatch.setenv(f"HOLDPOINT_{section}__{vendor}__{secret}".upper(), "s3cret")
    chosen = getattr(load_settings(), section)
    assert chosen.provider == vendor
    assert getattr(getattr(chosen, vendor), secret).get_secret_value() == "s3cret"


@pytest.mark.parametrize(("section", "vendor", "table", "secret"), SECOND)
def test_a_vendor_that_is_not_chosen_needs_no_secret(
    configure: Configure, section: str, vendor: str, table: dict[str, str], secret: str
) -> None:
    configure({f"{section}.{vendor}": table})
    assert getattr(getattr(load_settings(), section), vendor) is None
    configure({f"{section}.{vendor}": {**table, secret: "s3cret"}})
    assert f"{section}.{vendor}.{secret}" in keys(faults())
