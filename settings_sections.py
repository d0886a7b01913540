"""The sections of the settings, one model a table of the file. Every key is explained in ``holdpoint.example.toml``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from incident.policy import Approval, Mode, OnUnanswered
from incident.queues import Integration
from settings_values import DirectoryAddress, Duration, MailAddress, Text, WebAddress, is_loopback

_SID = re.compile(r"S-1-(\d{1,10}|0x[0-9a-f]{12})(-\d{1,10}){1,15}", re.IGNORECASE)
"""The text form of MS-DTYP 2.4.2.1."""

_SID_PATTERN = re.compile(r"S-1-[\dx*?-]*[*?][\dx*?-]*", re.IGNORECASE)
_LARGEST = 0xFFFFFFFF


def _group(value: str) -> str:
    if not value.upper().startswith("S-1-") or _SID_PATTERN.fullmatch(value):
        return value
    parts = value.split("-")[3:]
    if not _SID.fullmatch(value) or any(int(part) > _LARGEST for part in parts):
        raise ValueError(f"{value!r} starts like a SID and is none")
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
    """The SIEM. ``tenant`` is the default tenant of alerts and is sent with each search of a multi-tenant system.

    With ``poll_every`` its incidents are read at that interval, ``poll_overlap`` of the time before again each time;
    ``poll_policies`` are the policies whose incidents are taken (with wildcards; none means all). ``write_back`` is
    whether an incident hears of its case.
    """

    url: WebAddress
    username: Text
    password: SecretStr
    tenant: str | None = None
    poll_every: Duration | None = None
    poll_overlap: Duration = timedelta(minutes=10)
    poll_policies: tuple[Text, ...] = ()
    write_back: bool = False

    @field_validator("poll_every")
    @classmethod
    def _not_too_often(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < timedelta(seconds=10):
            raise ValueError("must be at least 10s")
        return value


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
        for kind in sections_of(field.annotation)
        for name, key in kind.model_fields.items()
        if "SecretStr" in str(key.annotation)
    }
    return isinstance(table, dict) and bool(secrets - table.keys())


class CrowdsecSettings(WithCa):
    """CrowdSec's local API, whose decisions a bouncer enforces.

    ``machine`` may write decisions, ``bouncer_key`` reads them. ``probe_url`` is a Prometheus blackbox exporter that
    stands where the data came from: only its failing probe of a host that it reached before makes a ban verified.
    """

    url: WebAddress
    machine: Text
    password: SecretStr
    bouncer_key: SecretStr
    ban_for: Duration = timedelta(days=30)
    probe_url: WebAddress | None = None
    probe_module: Text = "icmp"
    probe_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    probe_control: Text | None = None


class EndpointSettings(WithProvider):
    """What cuts hosts off."""

    provider: Literal["crowdstrike", "defender", "crowdsec"] = "crowdstrike"
    crowdstrike: CrowdstrikeSettings | None = None
    defender: DefenderSettings | None = None
    crowdsec: CrowdsecSettings | None = None


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


class RtSettings(WithCa):
    """Request Tracker 5 over REST2. ``key_field`` is the custom field that holds a case's key."""

    url: WebAddress
    token: SecretStr
    queue: Text
    key_field: Text = "Holdpoint Key"


class TicketingSettings(WithProvider):
    """Where tickets are opened."""

    provider: Literal["servicenow", "jira", "rt"] = "servicenow"
    servicenow: ServiceNowSettings | None = None
    jira: JiraSettings | None = None
    rt: RtSettings | None = None


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
    settle_within: Duration = timedelta(seconds=30)
    lease: Duration | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0.01 < self.medium_at < self.high_at:
            raise ValueError("medium_at and high_at: want 0.01 < medium_at < high_at")
        return self


class GuardrailSettings(Section):
    """Who and what is never contained without a person; see ``incident.policy.GuardrailPolicy``.

    ``quarantine_host`` and ``disable_account`` override ``mode`` for that action.
    """

    mode: Mode = Mode.ACT
    quarantine_host: Mode | None = None
    disable_account: Mode | None = None
    max_per_hour: Annotated[int, Field(ge=0)] = 100
    max_per_department: Annotated[int, Field(ge=0)] | None = None
    protected_approval: Approval = Approval.TWO_TIERS
    protected_accounts: tuple[Text, ...] = ()
    protected_groups: tuple[Annotated[Text, AfterValidator(_group)], ...] = ()
    protected_hosts: tuple[Text, ...] = ()


class EntraSettings(WithCa):
    """Microsoft Entra ID over Graph, which ends the sessions of an account that was disabled."""

    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    client_id: Text
    client_secret: SecretStr
    base_url: WebAddress = "https://graph.microsoft.com"
    login_url: WebAddress = "https://login.microsoftonline.com"


class IdentitySettings(WithProvider):
    """Where the sessions of a disabled account are ended; nowhere without ``provider``."""

    provider: Literal["entra"] | None = None
    entra: EntraSettings | None = None


_SHORTEST_KEY = 12


def long_enough(value: SecretStr | None) -> SecretStr | None:
    """Whoever has a record or a link can try keys against it for as long as they like."""
    if value is not None and len(value.get_secret_value()) < _SHORTEST_KEY:
        raise ValueError(f"is too short: at least {_SHORTEST_KEY} characters (openssl rand -hex 32 makes one)")
    return value


class RecordSettings(Section):
    """The record of a case. Without ``key`` it is chained and not sealed: anybody could have written it."""

    key: SecretStr | None = None
    attach: bool = True

    _long = field_validator("key")(long_enough)


class QueueSettings(Section):
    """The integrations with a task queue of their own: those of ``own``, and those with a limit.

    ``per_minute`` is how many of an integration's steps Temporal lets begin in a minute, over all workers; 0 takes away
    a limit that would hold without being named.
    """

    own: tuple[Integration, ...] = ()
    per_minute: dict[Integration, Annotated[int, Field(ge=0)]] = Field(default={})


def _by_comma(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class WorkerSettings(Section):
    """What one worker process does. ``queues`` are the task queues that it serves; none means all of them."""

    queues: Annotated[tuple[Integration | Literal["cases"], ...], BeforeValidator(_by_comma)] = ()


class TierSettings(Section):
    """Who is asked, and for how long. ``analysts`` may be left out where a directory group names them."""

    name: Text
    recipients: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    analysts: tuple[MailAddress, ...]
    analysts_group: Annotated[Text, AfterValidator(_group)] | None = None
    wait: Duration

    @model_validator(mode="before")
    @classmethod
    def _by_group_alone(cls, value: Any) -> Any:
        return {"analysts": (), **value} if isinstance(value, dict) and value.get("analysts_group") else value

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.analysts and self.analysts_group is None:
            raise ValueError("analysts: needs at least one")
        return self


def distinct(tiers: tuple[TierSettings, ...]) -> tuple[TierSettings, ...]:
    """Refuse two tiers of one name."""
    names = [tier.name.casefold() for tier in tiers]
    if len(set(names)) < len(names):
        raise ValueError("two tiers have the same name")
    return tiers


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The section models that a field's annotation names."""
    candidates = getattr(annotation, "__args__", (annotation,))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
