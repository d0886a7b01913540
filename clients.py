"""The vendor clients that the settings name. A second vendor is a file in ``integrations`` and a line here."""

from __future__ import annotations

from dataclasses import dataclass

from integrations.active_directory import ActiveDirectory
from integrations.blackbox import Probe
from integrations.crowdsec import CrowdSec
from integrations.crowdstrike import CrowdStrike
from integrations.defender import Defender
from integrations.entra import Entra
from integrations.interfaces import Chat, Directory, Endpoint, IncidentSource, Mailer, Siem, SignIns, Ticketing
from integrations.jira import Jira
from integrations.rt import RequestTracker
from integrations.securonix import Securonix
from integrations.servicenow import ServiceNow
from integrations.slack import Slack
from integrations.smtp import Smtp
from integrations.teams import Teams
from settings import Settings
from settings_bridge import ChatSettings
from settings_sections import CrowdsecSettings, EndpointSettings, IdentitySettings, TicketingSettings

SOURCES = {
    "securonix": "Securonix",
    "directory": "Active Directory",
    "crowdstrike": "CrowdStrike Falcon",
    "defender": "Microsoft Defender",
    "crowdsec": "CrowdSec",
    "servicenow": "ServiceNow",
    "jira": "Jira",
    "rt": "Request Tracker",
    "mail": "mail",
    "entra": "Microsoft Entra",
    "slack": "Slack",
    "teams": "Microsoft Teams",
}
"""What people call each of them."""


@dataclass(frozen=True)
class Clients:
    """One client for each integration, for the life of a process."""

    siem: Siem
    directory: Directory
    endpoint: Endpoint
    ticketing: Ticketing
    mailer: Mailer
    sign_ins: SignIns | None = None
    chat: Chat | None = None
    incidents: IncidentSource | None = None

    async def aclose(self) -> None:
        """Close their connections."""
        await self.siem.aclose()
        await self.endpoint.aclose()
        await self.ticketing.aclose()
        if self.sign_ins:
            await self.sign_ins.aclose()
        if self.chat:
            await self.chat.aclose()


def connect(settings: Settings) -> Clients:
    """Make the clients. Nothing connects yet."""
    siem, directory, mail = settings.securonix, settings.directory, settings.mail
    securonix = Securonix(
        siem.url, siem.username, siem.password.get_secret_value(), tenant=siem.tenant, ca_file=siem.ca_file
    )
    return Clients(
        siem=securonix,
        incidents=securonix,
        directory=ActiveDirectory(
            directory.servers,
            directory.bind_user,
            directory.password.get_secret_value(),
            directory.base_dn,
            ca_file=directory.ca_file,
        ),
        endpoint=_endpoint(settings.endpoint),
        sign_ins=_sign_ins(settings.identity),
        chat=_chat(settings.chat, settings.desk.url),
        ticketing=_ticketing(settings.ticketing),
        mailer=Smtp(
            mail.host,
            mail.port,
            mail.sender,
            starttls=mail.starttls,
            username=mail.username,
            password=mail.password.get_secret_value() if mail.password else None,
            ca_file=mail.ca_file,
        ),
    )


def _chat(section: ChatSettings, desk_url: str | None) -> Chat | None:
    if section.provider == "slack" and section.slack:
        slack = section.slack
        return Slack(slack.webhook.get_secret_value(), desk_url=desk_url, ca_file=slack.ca_file)
    if section.provider == "teams" and section.teams:
        teams = section.teams
        return Teams(teams.webhook.get_secret_value(), desk_url=desk_url, ca_file=teams.ca_file)
    return None


def _sign_ins(section: IdentitySettings) -> SignIns | None:
    if section.provider is None or section.entra is None:
        return None
    entra = section.entra
    return Entra(
        entra.tenant_id,
        entra.client_id,
        entra.client_secret.get_secret_value(),
        base_url=entra.base_url,
        login_url=entra.login_url,
        ca_file=entra.ca_file,
    )


def _endpoint(section: EndpointSettings) -> Endpoint:
    if section.provider == "defender":
        defender = section.defender
        assert defender is not None, "the settings hold that the chosen provider is there"  # noqa: S101
        return Defender(
            defender.tenant_id,
            defender.client_id,
            defender.client_secret.get_secret_value(),
            base_url=defender.base_url,
            login_url=defender.login_url,
            ca_file=defender.ca_file,
        )
    if section.provider == "crowdsec":
        assert section.crowdsec is not None, "the settings hold that the chosen provider is there"  # noqa: S101
        return _crowdsec(section.crowdsec)
    falcon = section.crowdstrike
    assert falcon is not None, "the settings hold that the chosen provider is there"  # noqa: S101
    secret = falcon.client_secret.get_secret_value()
    return CrowdStrike(falcon.base_url, falcon.client_id, secret, ca_file=falcon.ca_file)


def _crowdsec(section: CrowdsecSettings) -> Endpoint:
    probe = (
        Probe(section.probe_url, section.probe_module, port=section.probe_port, control=section.probe_control)
        if section.probe_url
        else None
    )
    return CrowdSec(
        section.url,
        section.machine,
        section.password.get_secret_value(),
        section.bouncer_key.get_secret_value(),
        ban_for=section.ban_for,
        probe=probe,
        ca_file=section.ca_file,
    )


def _ticketing(section: TicketingSettings) -> Ticketing:
    if section.provider == "jira":
        jira = section.jira
        assert jira is not None, "the settings hold that the chosen provider is there"  # noqa: S101
        return Jira(
            jira.url,
            jira.username,
            jira.api_token.get_secret_value(),
            jira.project,
            issue_type=jira.issue_type,
            ca_file=jira.ca_file,
        )
    if section.provider == "rt":
        rt = section.rt
        assert rt is not None, "the settings hold that the chosen provider is there"  # noqa: S101
        token = rt.token.get_secret_value()
        return RequestTracker(rt.url, token, rt.queue, key_field=rt.key_field, ca_file=rt.ca_file)
    now = section.servicenow
    assert now is not None, "the settings hold that the chosen provider is there"  # noqa: S101
    password = now.password.get_secret_value()
    return ServiceNow(now.url, now.username, password, table=now.table, ca_file=now.ca_file)
