"""Typed settings, one section an integration.

``holdpoint.toml`` (its path in ``HOLDPOINT_CONFIG``), overridden key by key by ``HOLDPOINT_<SECTION>__<KEY>``, secrets
from the environment or from one file a key in ``HOLDPOINT_SECRETS_DIR``. All faults are told at once, before anything
connects. Every key is explained in ``holdpoint.example.toml``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from incident.policy import CasePolicy, GuardrailPolicy, Mode, OnUnanswered, Tier
from settings_values import DirectoryAddress, Duration, MailAddress, Text, WebAddress, is_loopback

CONFIG_VARIABLE = "HOLDPOINT_CONFIG"
SECRETS_VARIABLE = "HOLDPOINT_SECRETS_DIR"
DEFAULT_CONFIG = Path("holdpoint.toml")
_NAMED = re.compile(r"[a-z_]+: ")


class SettingsRefused(ValueError):
    """The settings are missing or contradictory; ``faults`` names each by its key."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _built(value: Mode) -> Mode:
    if value is Mode.OBSERVE:
        raise ValueError("observe is not built yet; ask leaves every write to a person")
    return value


class Section(BaseModel):
    """A table of the file. An unknown key is a fault: it is a mistyped one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WithCa(Section):
    """A section with an address: ``ca_file`` is a PEM bundle to trust instead of the system's."""

    ca_file: Path | None = None

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value


class SecuronixSettings(WithCa):
    """The SIEM. ``tenant`` is the default tenant of alerts and is sent with each search of a multi-tenant system."""

    url: WebAddress
    username: Text
    password: SecretStr
    tenant: str | None = None


class DirectorySettings(WithCa):
    """Active Directory, tried server by server. ``bind_user`` is a UPN or a DN."""

    servers: Annotated[tuple[DirectoryAddress, ...], Field(min_length=1)]
    bind_user: Text
    password: SecretStr
    base_dn: Text


class CrowdstrikeSettings(WithCa):
    """CrowdStrike Falcon. ``base_url`` is the region's address."""

    base_url: WebAddress
    client_id: Text
    client_secret: SecretStr


class DefenderSettings(WithCa):
    """Microsoft Defender for Endpoint. ``base_url`` may be a region's; ``login_url`` gives the tokens."""

    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    client_id: Text
    client_secret: SecretStr
    base_url: WebAddress = "https://api.securitycenter.microsoft.com"
    login_url: WebAddress = "https://login.microsoftonline.com"


class WithProvider(Section):
    """A section that names its vendor in ``provider``; the vendor's own table must be there.

    Another vendor's table may stay there without its secret, as it does in a copy of the example.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_the_unused(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        chosen = value.get("provider", cls.model_fields["provider"].default)
        fields = {name: field for name, field in cls.model_fields.items() if name != chosen}
        unused = {name for name in value if name in fields and _lacks_secret(fields[name], value[name])}
        return {name: table for name, table in value.items() if name not in unused}

    @model_validator(mode="after")
    def _chosen(self) -> Self:
        provider = getattr(self, "provider", None)
        if provider and getattr(self, provider) is None:
            raise ValueError(f"{provider}: is missing, and provider names it")
        return self


def _lacks_secret(field: FieldInfo, table: Any) -> bool:
    secrets = {
        name
        for kind in _sections_of(field.annotation)
        for name, key in kind.model_fields.items()
        if "SecretStr" in str(key.annotation)
    }
    return isinstance(table, dict) and bool(secrets - table.keys())


class EndpointSettings(WithProvider):
    """What cuts hosts off."""

    provider: Literal["crowdstrike", "defender"] = "crowdstrike"
    crowdstrike: CrowdstrikeSettings | None = None
    defender: DefenderSettings | None = None


class ServiceNowSettings(WithCa):
    """ServiceNow. ``table`` is ``incident`` or ``sn_si_incident``."""

    url: WebAddress
    username: Text
    password: SecretStr
    table: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "incident"


class JiraSettings(WithCa):
    """Jira Cloud. ``username`` is the account's mail address, ``project`` the project's key."""

    url: WebAddress
    username: Text
    api_token: SecretStr
    project: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    issue_type: Text = "Task"


class TicketingSettings(WithProvider):
    """Where tickets are opened."""

    provider: Literal["servicenow", "jira"] = "servicenow"
    servicenow: ServiceNowSettings | None = None
    jira: JiraSettings | None = None


class MailSettings(WithCa):
    """The mail relay. Without ``starttls`` it must be on this machine."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    starttls: bool = True
    username: str | None = None
    password: SecretStr | None = None
    sender: MailAddress

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not self.starttls and not is_loopback(self.host):
            raise ValueError("starttls: may be false for loopback addresses only")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password: give both or neither")
        return self


class PolicySettings(Section):
    """What steers a case; see ``incident.policy.CasePolicy``. The thresholds are this organisation's own."""

    medium_at: FiniteFloat = 30.0
    high_at: FiniteFloat = 70.0
    lookback: Duration = timedelta(days=7)
    event_condition: str | None = None
    recheck_every: Duration = timedelta(minutes=10)
    on_unanswered: OnUnanswered = OnUnanswered.HOLD
    enrich_within: Duration = timedelta(minutes=2)
    contain_within: Duration = timedelta(minutes=15)
    verify_within: Duration = timedelta(minutes=15)
    ticket_within: Duration = timedelta(hours=4)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0.01 < self.medium_at < self.high_at:
            raise ValueError("medium_at and high_at: want 0.01 < medium_at < high_at")
        return self


class GuardrailSettings(Section):
    """Who and what is never contained without a person."""

    mode: Annotated[Mode, AfterValidator(_built)] = Mode.ACT
    max_per_hour: Annotated[int, Field(ge=0)] = 100
    protected_accounts: tuple[Text, ...] = ()
    protected_groups: tuple[Text, ...] = ()
    protected_hosts: tuple[Text, ...] = ()


class TierSettings(Section):
    """Who is asked, and for how long."""

    name: Text
    recipients: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    analysts: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    wait: Duration


def _distinct(tiers: tuple[TierSettings, ...]) -> tuple[TierSettings, ...]:
    names = [tier.name.casefold() for tier in tiers]
    if len(set(names)) < len(names):
        raise ValueError("two tiers have the same name")
    return tiers


class Settings(BaseSettings):
    """Everything, by section. Use ``load_settings``."""

    model_config = SettingsConfigDict(
        env_prefix="HOLDPOINT_", env_nested_delimiter="__", extra="ignore", frozen=True, env_ignore_empty=True
    )

    securonix: SecuronixSettings
    directory: DirectorySettings
    endpoint: EndpointSettings
    ticketing: TicketingSettings
    mail: MailSettings
    policy: PolicySettings = PolicySettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    tiers: Annotated[tuple[TierSettings, ...], Field(min_length=1), AfterValidator(_distinct)]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the mounted secrets, and both before the file."""
        return _Environment(settings_cls), _MountedSecrets(settings_cls), init_settings

    def case_policy(self) -> CasePolicy:
        """The snapshot that a new case carries."""
        return case_policy(self.policy, self.guardrails, self.tiers)


def case_policy(policy: PolicySettings, guardrails: GuardrailSettings, tiers: tuple[TierSettings, ...]) -> CasePolicy:
    """The part of the settings that steers a case; it holds no secret."""
    return CasePolicy(
        **dict(policy),
        tiers=tuple(Tier(**dict(tier)) for tier in tiers),
        guardrails=GuardrailPolicy(**dict(guardrails)),
    )


class _Environment(EnvSettingsSource):
    """The environment; a list or table that is not JSON stays text, so that its fault is told with all the others."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _MountedSecrets(PydanticBaseSettingsSource):
    """One file a key, as Docker and Kubernetes mount them: ``securonix__password``, with or without ``holdpoint_``."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        directory = os.environ.get(SECRETS_VARIABLE)
        if not directory:
            return {}
        tree: dict[str, Any] = {}
        for path in sorted(Path(directory).iterdir()):
            section, *keys = path.name.lower().removeprefix("holdpoint_").replace(".", "__").split("__")
            # Other programs' secrets may be mounted beside ours.
            if keys and section in Settings.model_fields and path.is_file():
                _put(tree, [section, *keys], _secret(path))
        return tree


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsRefused([f"{SECRETS_VARIABLE}: {path}: {why}"]) from None


def _put(tree: dict[str, Any], keys: list[str], value: str) -> None:
    """Put a value where its keys say. An empty one is none, as in the environment."""
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    if value:
        tree[keys[-1]] = value


def config_path() -> Path | None:
    """The settings file: what ``HOLDPOINT_CONFIG`` names, else ``holdpoint.toml`` here if there is one."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def read_config() -> dict[str, Any]:
    """The settings file as it stands, or nothing where there is none.

    Raises:
        SettingsRefused: it cannot be read, is not TOML, or holds a secret.
    """
    path = config_path()
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            tree = tomllib.load(file)
    except OSError as error:
        raise SettingsRefused([f"{CONFIG_VARIABLE}: {path}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsRefused([f"{path}: is not TOML: {error}"]) from None
    return tree


def load_settings(*, secrets_needed: bool = True) -> Settings:
    """All settings. A process that connects to no vendor does without the secrets (``secrets_needed=False``).

    Raises:
        SettingsRefused: with every fault at once, each named by its key.
    """
    tree = read_config()
    faults = [f"{key}: is a secret; give it as {_variable(key)} or in {SECRETS_VARIABLE}" for key in _secrets_in(tree)]
    secrets = os.environ.get(SECRETS_VARIABLE)
    if secrets and not Path(secrets).is_dir():
        raise SettingsRefused([*faults, f"{SECRETS_VARIABLE}: there is no directory {secrets}"])
    faults += [f"{key}: there is no such section" for key in tree if key not in Settings.model_fields]
    faults += [f"{name}: there is no such section" for name in _stray_variables()]
    if not secrets_needed:
        _excuse_secrets(tree, _merged(tree, _Environment(Settings)()))
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        told = [_fault(e) for e in error.errors(include_url=False, include_context=False, include_input=False)]
        if config_path() is None:
            told.insert(0, f"{CONFIG_VARIABLE}: is not set, and there is no {DEFAULT_CONFIG} here")
        raise SettingsRefused(faults + told) from None
    if faults:
        raise SettingsRefused(faults)
    return settings


def _stray_variables() -> list[str]:
    """Variables that name a key of a section that is not there: mistyped ones, which would be ignored in silence."""
    ours = [name for name in os.environ if name.upper().startswith("HOLDPOINT_") and "__" in name]
    return [name for name in ours if name[len("HOLDPOINT_") :].lower().split("__")[0] not in Settings.model_fields]


def _merged(under: Any, over: Any) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: _merged(under.get(key), value) for key, value in over.items()}}


def _excuse_secrets(tree: dict[str, Any], given: dict[str, Any], model: type[BaseModel] = Settings) -> None:
    """Fill in what may be left out: the secrets of each section that is there, in the file or in the environment."""
    for name, field in model.model_fields.items():
        if "SecretStr" in str(field.annotation):
            if field.is_required() or given.get("username"):
                tree.setdefault(name, "")
        elif isinstance(given.get(name), dict) and isinstance(tree.setdefault(name, {}), dict):
            for kind in _sections_of(field.annotation):
                _excuse_secrets(tree[name], given[name], kind)


def _variable(key: str) -> str:
    return "HOLDPOINT_" + key.upper().replace(".", "__")


def _secrets_in(tree: dict[str, Any], model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = tree.get(name)
        if value is None:
            continue
        if "SecretStr" in str(field.annotation):
            yield prefix + name
        elif isinstance(value, dict):
            for kind in _sections_of(field.annotation):
                yield from _secrets_in(value, kind, f"{prefix}{name}.")


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    candidates = getattr(annotation, "__args__", (annotation,))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _fault(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    match error["type"]:
        case "missing":
            text = "is missing"
        case "extra_forbidden":
            text = "there is no such key"
        case "string_too_short":
            text = "is empty"
        case "too_short":
            text = "needs at least one"
        case "tuple_type":
            text = "must be a list; in the environment a JSON one, [...]"
        case _:
            text = message
    if error["type"] == "value_error" and _NAMED.match(text):
        return f"{key}.{text}"
    return f"{key}: {text}" if key else text
