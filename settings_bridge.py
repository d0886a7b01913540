"""The sections for what people and programs reach over HTTP: the desk, the bridge, and the chat that tells of a case.

Every key is explained in ``holdpoint.example.toml``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, SecretStr, field_validator, model_validator

from settings_mapping import MappingSettings
from settings_sections import Section, WithCa, WithProvider, long_enough
from settings_values import Duration, Text, WebAddress, is_loopback


class OidcSettings(WithCa):
    """OpenID Connect: who signs in at ``issuer`` is the analyst whose mail address the claim ``mail_claim`` names.

    ``last`` is how long a session lasts.
    """

    issuer: WebAddress
    client_id: Text
    client_secret: SecretStr
    mail_claim: Text = "email"
    last: Duration = timedelta(hours=8)


class DeskSettings(WithProvider):
    """The analysts' desk. ``url`` is the address that links in mails begin with; without ``key`` there are no links.

    ``provider`` is how people sign in; without one there are the links alone.

    ``previous_key`` is the key before: its links are good until they expire. ``links_last`` is how long they are.
    """

    url: WebAddress | None = None
    key: SecretStr | None = None
    previous_key: SecretStr | None = None
    links_last: Duration = timedelta(hours=24)
    provider: Literal["oidc"] | None = None
    oidc: OidcSettings | None = None

    _long = field_validator("key", "previous_key")(long_enough)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a link may be signed with, today's first."""
        return tuple(key.get_secret_value() for key in (self.key, self.previous_key) if key is not None)


class BridgeSettings(Section):
    """The HTTP process. It speaks TLS with ``certificate`` and ``private_key``, or stands behind a proxy that does.

    Alerts are taken from whoever signs with ``hmac_key`` or shows ``token``; the previous ones are good too, while
    senders change over. Without any of them no alert is taken. A request holds at most ``max_alerts`` alerts and
    ``max_bytes`` bytes, which arrive within ``body_within``; each credential may send ``alerts_per_second`` on the long
    run and ``burst`` at once. A signature is good for ``replay_window`` around its time, once.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8088
    certificate: Path | None = None
    private_key: Path | None = None
    behind_proxy: bool = False
    hmac_key: SecretStr | None = None
    previous_hmac_key: SecretStr | None = None
    token: SecretStr | None = None
    previous_token: SecretStr | None = None
    replay_window: Duration = timedelta(minutes=5)
    max_alerts: Annotated[int, Field(ge=1, le=10_000)] = 500
    max_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 1024 * 1024
    body_within: Duration = timedelta(seconds=10)
    alerts_per_second: Annotated[FiniteFloat, Field(gt=0)] = 200.0
    burst: Annotated[int, Field(ge=1)] = 2000
    mapping: MappingSettings = MappingSettings()

    _long = field_validator("hmac_key", "previous_hmac_key", "token", "previous_token")(long_enough)

    @property
    def hmac_keys(self) -> dict[str, str]:
        """The keys that a request may be signed with, by name."""
        return _given(hmac_key=self.hmac_key, previous_hmac_key=self.previous_hmac_key)

    @property
    def tokens(self) -> dict[str, str]:
        """The bearer tokens, by name."""
        return _given(token=self.token, previous_token=self.previous_token)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.burst < self.max_alerts:
            raise ValueError("burst: must be at least max_alerts, or a full request could never be taken")
        return self

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key: give both or neither")
        if not is_loopback(self.host) and self.certificate is None and not self.behind_proxy:
            raise ValueError("host: on more than loopback give certificate and private_key, or behind_proxy = true")
        return self


def _given(**secrets: SecretStr | None) -> dict[str, str]:
    return {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}


class SlackSettings(WithCa):
    """A Slack-shaped incoming webhook. Its address is a secret: whoever has it may write there."""

    webhook: SecretStr


class TeamsSettings(WithCa):
    """A Teams-shaped incoming webhook (a workflow that takes adaptive cards). Its address is a secret."""

    webhook: SecretStr


class ChatSettings(WithProvider):
    """Where a channel is told of cases; nowhere without ``provider``. It tells and links; nobody answers there."""

    provider: Literal["slack", "teams"] | None = None
    slack: SlackSettings | None = None
    teams: TeamsSettings | None = None
