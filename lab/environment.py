"""The whole lab in one event loop: every stand-in under one throwaway authority, and settings that point at them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from incident.policy import OnUnanswered
from lab.certificates import make_certificates
from lab.directory import DirectoryLab
from lab.falcon import FalconLab
from lab.issuer import IssuerLab, LabPerson
from lab.mailbox import MailboxLab
from lab.securonix import SecuronixLab
from lab.servicenow import ServiceNowLab
from lab.serving import Served

TENANT = "acme"
MEDIUM_AT, HIGH_AT = 30.0, 70.0
"""The risk thresholds that the lab's settings name."""

SENDER = "holdpoint@acme.example"
MAIL_USER = "holdpoint-relay"
MAIL_PASSWORD = "lab-mail-password"
RECORD_KEY = "lab-record-key-of-32-characters!"


@dataclass(frozen=True)
class LabTier:
    """A tier of the lab's settings: who gets the mail, who may answer."""

    name: str
    recipient: str
    analyst: str


TIERS = (
    LabTier("analyst", "soc@acme.example", "ana.lopez@acme.example"),
    LabTier("on-call", "oncall@acme.example", "omar.haddad@acme.example"),
    LabTier("soc-lead", "soc-lead@acme.example", "lena.fischer@acme.example"),
)
ANALYST = TIERS[0].analyst

DESK_KEY = "lab-desk-key-of-this-run-alone"
INTAKE_KEY = "lab-intake-key-that-a-sender-signs-with"
INTAKE_TOKEN = "lab-intake-token-of-another-sender"
"""The two ways in which alerts may be handed to the bridge."""

OUTSIDER = LabPerson("nils.berg@acme.example", "Nils Berg (no analyst)")
PEOPLE = (
    LabPerson(TIERS[0].analyst, "Ana Lopez"),
    LabPerson(TIERS[1].analyst, "Omar Haddad"),
    LabPerson(TIERS[2].analyst, "Lena Fischer"),
    OUTSIDER,
)
"""Who can sign in at the desk."""


class Environment:
    """Stand-ins for every system that Holdpoint talks to, over TLS on loopback. An asynchronous context manager.

    ``folder`` takes the certificates, the secrets and the settings files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = make_certificates(folder / "certificates")
        self.siem = SecuronixLab(tenant=TENANT)
        self.directory = DirectoryLab(self.certificates)
        self.falcon = FalconLab()
        self.tickets = ServiceNowLab()
        self.mailbox = MailboxLab(self.certificates, username=MAIL_USER, password=MAIL_PASSWORD)
        self.issuer = IssuerLab(list(PEOPLE))
        self._web = {
            name: Served(app, certificate=self.certificates.cert_file, key=self.certificates.key_file)
            for name, app in (
                ("siem", self.siem.app),
                ("falcon", self.falcon.app),
                ("tickets", self.tickets.app),
            )
        }
        # In clear, as loopback may be: a person's browser does not know the lab's authority.
        self._sign_in_page = Served(self.issuer.app)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for server in (*self._web.values(), self._sign_in_page):
                await opening.enter_async_context(server)
            await opening.enter_async_context(self.mailbox)
            self.directory.start()
            opening.push_async_callback(asyncio.to_thread, self.directory.stop)
            self._open = opening.pop_all()
        self.issuer.url = self._sign_in_page.url
        self._write_secrets(self._all_but_the_desks())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @property
    def secrets(self) -> Path:
        """The directory with one secret a file, as Docker and Kubernetes mount them."""
        return self.folder / "secrets"

    def write_settings(
        self,
        name: str,
        *,
        wait: str,
        on_unanswered: OnUnanswered,
        enrich_within: str = "14s",
        recheck_every: str = "1h",
        desk_port: int | None = None,
        settle_within: str = "30s",
        max_per_hour: int = 100,
    ) -> Path:
        """Write a settings file under that name; returns where. Each tier waits for ``wait``; lengths are ``30s``.

        With ``desk_port`` there is a desk, for the bridge to serve there, and each analyst gets their own mail: a
        link is one person's.
        """
        path = self.folder / name
        policy = (
            f'[policy]\nmedium_at = {MEDIUM_AT}\nhigh_at = {HIGH_AT}\nrecheck_every = "{recheck_every}"\n'
            f'enrich_within = "{enrich_within}"\non_unanswered = "{on_unanswered}"\n'
            f'settle_within = "{settle_within}"\n\n[guardrails]\nmax_per_hour = {max_per_hour}\n'
        )
        own = [f', "{tier.analyst}"' if desk_port else "" for tier in TIERS]
        tiers = [
            f'[[tiers]]\nname = "{tier.name}"\nrecipients = ["{tier.recipient}"{more}]\nanalysts = ["{tier.analyst}"]\n'
            for tier, more in zip(TIERS, own, strict=True)
        ]
        desk = [self._desk(desk_port)] if desk_port else []
        sections = [self._systems(), policy, *desk, *(f'{tier}wait = "{wait}"\n' for tier in tiers)]
        path.write_text("\n".join(sections), encoding="utf-8")
        return path

    def variables(self, settings: Path) -> dict[str, str]:
        """The environment variables that make a process use the lab."""
        return {"HOLDPOINT_CONFIG": str(settings), "HOLDPOINT_SECRETS_DIR": str(self.secrets)}

    def _systems(self) -> str:
        ca = f'ca_file = "{self.certificates.ca_file}"'
        return f"""# The lab's settings, made anew at each start. holdpoint.example.toml explains every key.
[securonix]
url = "{self._web["siem"].url}/Snypr"
username = "{self.siem.username}"
tenant = "{TENANT}"
{ca}

[directory]
servers = ["{self.directory.url}"]
bind_user = "{self.directory.bind_user}"
base_dn = "{self.directory.base_dn}"
{ca}

[endpoint]
provider = "crowdstrike"
[endpoint.crowdstrike]
base_url = "{self._web["falcon"].url}"
client_id = "{self.falcon.client_id}"
{ca}

[ticketing]
provider = "servicenow"
[ticketing.servicenow]
url = "{self._web["tickets"].url}"
username = "{self.tickets.username}"
{ca}

[mail]
host = "127.0.0.1"
port = {self.mailbox.port}
starttls = true
username = "{MAIL_USER}"
sender = "{SENDER}"
{ca}
"""

    def _desk(self, port: int) -> str:
        url = f"http://127.0.0.1:{port}"
        self.issuer.redirects.add(f"{url}/sign-in/callback")
        self._write_secrets({"desk__key": DESK_KEY, "desk__oidc__client_secret": self.issuer.client_secret})
        return f"""[desk]
url = "{url}"
provider = "oidc"
[desk.oidc]
issuer = "{self.issuer.url}"
client_id = "{self.issuer.client_id}"

[bridge]
port = {port}
"""

    def _all_but_the_desks(self) -> Mapping[str, str]:
        return {
            "securonix__password": self.siem.password,
            "directory__password": self.directory.password,
            "endpoint__crowdstrike__client_secret": self.falcon.client_secret,
            "ticketing__servicenow__password": self.tickets.password,
            "mail__password": MAIL_PASSWORD,
            "record__key": RECORD_KEY,
            "bridge__hmac_key": INTAKE_KEY,
            "bridge__token": INTAKE_TOKEN,
        }

    def _write_secrets(self, secrets: Mapping[str, str]) -> None:
        self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in secrets.items():
            path = self.secrets / name
            path.touch(mode=0o600)
            path.write_text(value, encoding="utf-8")
