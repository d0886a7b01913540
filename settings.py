"""Typed settings, one section an integration.

``holdpoint.toml`` (its path in ``HOLDPOINT_CONFIG``), overridden key by key by ``HOLDPOINT_<SECTION>__<KEY>``, secrets
from the environment or from one file a key in ``HOLDPOINT_SECRETS_DIR``. All faults are told at once, before anything
connects. Every key is explained in ``holdpoint.example.toml``.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from temporalio.envconfig import ClientConfig

from incident.policy import CasePolicy, GuardrailPolicy, Mode, Tier
from incident.queues import CASES, Integration
from incident.triage import ActionName
from settings_bridge import BridgeSettings, ChatSettings, DeskSettings
from settings_sections import (
    DirectorySettings,
    EndpointSettings,
    GuardrailSettings,
    IdentitySettings,
    MailSettings,
    PolicySettings,
    QueueSettings,
    RecordSettings,
    SecuronixSettings,
    TicketingSettings,
    TierSettings,
    WorkerSettings,
    distinct,
    sections_of,
)
from settings_values import is_loopback

Alone = TypeVar("Alone", bound=BaseModel)

CONFIG_VARIABLE = "HOLDPOINT_CONFIG"
SECRETS_VARIABLE = "HOLDPOINT_SECRETS_DIR"
DEFAULT_CONFIG = Path("holdpoint.toml")
_LOOKS_APART = timedelta(seconds=30)
_NAMED = re.compile(r"[a-z_]+: ")
_ADDRESS = re.compile(r"(https?|ldaps?)://", re.IGNORECASE)
_COMMON_NAME = re.compile(r"(?:cn|uid)\s*=\s*((?:\\.|[^,+\\])+)", re.IGNORECASE)
_DOMAIN_PART = re.compile(r"(?:^|,)\s*dc\s*=\s*([^,+\\]+)", re.IGNORECASE)
_ESCAPED = re.compile(r"((?:\\[0-9a-f]{2})+)|\\(.)", re.IGNORECASE)

_LIMITS: dict[str, dict[Integration, int]] = {"defender": {Integration.ENDPOINT: 40}}
"""Steps a minute that hold without being named, by vendor. Defender takes 100 calls a minute, and a case makes about
ten of them in four steps."""


class SettingsRefused(ValueError):
    """The settings are missing or contradictory; ``faults`` names each by its key."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


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
    identity: IdentitySettings = IdentitySettings()
    record: RecordSettings = RecordSettings()
    desk: DeskSettings = DeskSettings()
    bridge: BridgeSettings = BridgeSettings()
    chat: ChatSettings = ChatSettings()
    queues: QueueSettings = QueueSettings()
    worker: WorkerSettings = WorkerSettings()
    tiers: Annotated[tuple[TierSettings, ...], Field(min_length=1), AfterValidator(distinct)]

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

    @model_validator(mode="after")
    def _served_are_there(self) -> Self:
        for name in self.worker.queues:
            if name != CASES and name not in self.own_queues():
                raise ValueError(f"worker.queues: {name} has no queue of its own; name it in queues.own")
        return self

    def own_queues(self) -> dict[Integration, int | None]:
        """The integrations with a task queue of their own; each one's most steps a minute, if there is a limit."""
        limits = {**_LIMITS.get(self.endpoint.provider, {}), **self.queues.per_minute}
        own = {name for name in Integration if limits.get(name) or name in self.queues.own}
        return {name: limits.get(name) or None for name in Integration if name in own}

    def case_policy(self) -> CasePolicy:
        """The snapshot that a new case carries. Of the machine it knows the host name, and Temporal's address."""
        return case_policy(self, machine=socket.gethostname(), temporal=_temporal_address())


def case_policy(settings: Settings, *, machine: str = "", temporal: str | None = None) -> CasePolicy:
    """The part of the settings that steers a case; it holds no secret.

    ``machine`` is this machine's host name, ``temporal`` the configured address of Temporal: both are Holdpoint's own.
    """
    return CasePolicy(
        **dict(settings.policy),
        tiers=tuple(Tier(**dict(tier)) for tier in settings.tiers),
        guardrails=_guardrails(settings, machine, temporal),
        attach_record=settings.record.attach,
        revoke_sign_ins=settings.identity.provider is not None,
        ask_directory=True,
        renew_questions=True,
        publish_together=True,
        tell_answered=True,
        chat=settings.chat.provider is not None,
        comment_incident=settings.securonix.write_back,
        fold_alerts=True,
        looks_apart=_LOOKS_APART,
        tell_apart=True,
        hurry=True,
        own_queues=tuple(settings.own_queues()),
    )


def _guardrails(settings: Settings, machine: str, temporal: str | None) -> GuardrailPolicy:
    given = dict(settings.guardrails)
    # Whoever answers cases is not contained without a person, named or in a group.
    groups = (*given.pop("protected_groups"), *filter(None, (tier.analysts_group for tier in settings.tiers)))
    by_action: dict[ActionName, Mode | None] = {action: given.pop(action.value) for action in ActionName}
    return GuardrailPolicy(
        **given,
        modes={action: mode for action, mode in by_action.items() if mode},
        ledger=True,
        protected_groups=_without_repeats(iter(groups)),
        responders=_without_repeats(mail for tier in settings.tiers for mail in (*tier.analysts, *tier.recipients)),
        own_accounts=_without_repeats(_own_accounts(settings)),
        own_hosts=_without_repeats(_own_hosts(settings, machine, temporal)),
    )


def _own_accounts(settings: Settings) -> Iterator[str]:
    """Every account that Holdpoint itself logs in with or sends as, in the forms that a person's account may have."""
    now, jira, crowdsec = settings.ticketing.servicenow, settings.ticketing.jira, settings.endpoint.crowdsec
    logins = (
        settings.directory.bind_user,
        settings.securonix.username,
        now.username if now else None,
        jira.username if jira else None,
        crowdsec.machine if crowdsec else None,
        settings.mail.username,
    )
    for login in filter(None, logins):
        yield login
        name = _COMMON_NAME.match(login)
        if name:
            yield _ESCAPED.sub(_unescaped, name[1])
        elif "@" in login:
            yield login.partition("@")[0]
    yield settings.mail.sender


def _unescaped(found: re.Match[str]) -> str:
    """A character of a distinguished name that is written as it must be there (RFC 4514 2.4)."""
    octets = found[1]
    return bytes.fromhex(octets.replace("\\", "")).decode("utf-8", "replace") if octets else found[2]


def _own_hosts(settings: Settings, machine: str, temporal: str | None) -> Iterator[str]:
    """The host of every configured address, and this machine; what stays on this machine names nobody.

    This machine, and what is in the directory's domain, is named without its domain too: a SIEM may leave that out.
    """
    named = [*_addresses(settings), f"//{settings.mail.host}", f"//{machine}", f"//{temporal or ''}"]
    domain = ".".join(part.strip() for part in _DOMAIN_PART.findall(settings.directory.base_dn)).lower()
    for host in map(_host, named):
        if host and not is_loopback(host):
            yield host
            label, dot, rest = host.rstrip(".").partition(".")
            if dot and (host == machine.lower() or (domain and f".{rest}".endswith(f".{domain}"))):
                yield label


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _addresses(section: BaseModel) -> Iterator[str]:
    for _, value in section:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                yield from _addresses(part)
            elif isinstance(part, str) and _ADDRESS.match(part):
                yield part


def _temporal_address() -> str | None:
    """Where Temporal's own configuration says that it is. A configuration that cannot be read is told on connecting."""
    try:
        return ClientConfig.load_client_connect_config().get("target_host")
    except (OSError, RuntimeError, ValueError):
        return None


def _without_repeats(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


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


def load_settings(*, secrets_needed: bool = True, secrets_of: Collection[str] | None = None) -> Settings:
    """All settings. A process that connects to no vendor does without the secrets (``secrets_needed=False``).

    With ``secrets_of`` only those of these sections are needed.

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
    needed = (Settings.model_fields if secrets_needed else ()) if secrets_of is None else secrets_of
    given = _merged(tree, _Environment(Settings)())
    _excuse_secrets(tree, {name: section for name, section in given.items() if name not in needed})
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


def record_settings() -> RecordSettings:
    """The section ``[record]`` alone: whoever verifies a record may have its key and no other setting.

    Raises:
        SettingsRefused: it is faulty, or holds the key in the file.
    """
    return _alone("record", RecordSettings)


def worker_section() -> WorkerSettings:
    """The section ``[worker]`` alone. Raises SettingsRefused where it is faulty."""
    return _alone("worker", WorkerSettings)


def _alone(name: str, model: type[Alone]) -> Alone:
    tree = {name: read_config().get(name, {})}
    for key in _secrets_in(tree):
        raise SettingsRefused([f"{key}: is a secret; give it as {_variable(key)} or in {SECRETS_VARIABLE}"])
    secrets = os.environ.get(SECRETS_VARIABLE)
    if secrets and not Path(secrets).is_dir():
        raise SettingsRefused([f"{SECRETS_VARIABLE}: there is no directory {secrets}"])
    given = _merged(_merged(tree, _MountedSecrets(Settings)()), _Environment(Settings)())
    try:
        return model.model_validate(given[name])
    except ValidationError as error:
        told = [_fault(e) for e in error.errors(include_url=False, include_context=False, include_input=False)]
        raise SettingsRefused([f"{name}.{fault}" for fault in told]) from None


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
            for kind in sections_of(field.annotation):
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
            for kind in sections_of(field.annotation):
                yield from _secrets_in(value, kind, f"{prefix}{name}.")


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
