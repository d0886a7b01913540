"""A Request Tracker 5 of its own: SQLite, Starman with TLS on a free port of loopback, all in one folder.

Mail is not sent but kept in the folder. One queue watcher (``WATCHER``) is there, so that it shows when RT mails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx

from integrations.rt import RequestTracker
from lab.certificates import LabCertificates, make_certificates
from lab.servers import Child, free_port, run_command

QUEUE = "Incidents"
KEYLESS, TWOFOLD, HIDDEN, FOREIGN = "Keyless", "Twofold", "Hidden", "Störfälle & Co 100%"
"""Without the key's field; with two of its name; with no right for anybody; with a name to be quoted."""

FIELD = "Holdpoint Key"
WATCHER = "soc@acme.example"
ADMINISTRATOR = "root"

_SEE = ("SeeQueue", "SeeCustomField", "ShowTicket")
_NOTES = ("ShowTicketComments", "CommentOnTicket")
RIGHTS = {
    "svc-holdpoint": (*_SEE, *_NOTES, "CreateTicket", "SetInitialCustomField"),
    "svc-sets-no-field": (*_SEE, *_NOTES, "CreateTicket"),
    "svc-sees-no-field": ("SeeQueue", "ShowTicket", *_NOTES, "CreateTicket"),
    "svc-sees-no-ticket": ("SeeQueue", "SeeCustomField", "CreateTicket", "SetInitialCustomField"),
    "svc-reads": _SEE,
    "svc-nobody": (),
}
"""What each account may do on every queue but the hidden one; the first is what docs/integrations.md asks for."""

_PREFIX = Path("/usr/share/request-tracker5")
_WITHIN, _POLL = 60.0, 0.1

_CONFIG = """
Set($rtname, 'acme.example');
Set($Organization, 'acme.example');
Set($WebDomain, '127.0.0.1');
Set($WebPort, {port});
Set($WebBaseURL, 'https://127.0.0.1:{port}');
Set($DatabaseType, 'SQLite');
Set($DatabaseName, '{folder}/rt.sqlite');
Set($MasonDataDir, '{folder}/mason');
Set($MasonSessionDir, '{folder}/session');
Set($InitialdataFormatHandlers, ['perl', 'RT::Initialdata::JSON']);
Set($LogToSyslog, undef);
Set($LogToSTDERR, 'warning');
Set($BcryptCost, 10);
Set($MailCommand, 'sendmailpipe');
Set($SendmailPath, '{folder}/sendmail');
1;
"""

_KEEP_MAIL = """#!/bin/sh
exec cat > "$(mktemp '{folder}/mail/XXXXXX')"
"""

_TOKENS = """
use strict;
use warnings;
use JSON;
use RT;
RT::LoadConfig();
RT::Init();
my ($queue_name, $watcher, @names) = @ARGV;
my $queue = RT::Queue->new(RT->SystemUser);
$queue->Load($queue_name);
my ($added, $why) = $queue->AddWatcher(Type => 'AdminCc', Email => $watcher);
die $why unless $added;
my %tokens;
for my $name (@names) {
    my $user = RT::User->new(RT->SystemUser);
    $user->Load($name);
    my $auth = RT::AuthToken->new(RT->SystemUser);
    my ($made, $message, $token) = $auth->Create(Owner => $user->Id, Description => 'test');
    die $message unless $made;
    $tokens{$name} = $token;
}
print encode_json(\\%tokens);
"""


@dataclass(frozen=True)
class Tracker:
    """The Request Tracker while it stands."""

    folder: Path
    url: str
    certificates: LabCertificates
    tokens: dict[str, str]
    server: Child

    def client(self, account: str = "svc-holdpoint", **changes: Any) -> RequestTracker:
        """Holdpoint's client, with the settings that are right unless changed."""
        given = {"token": self.tokens[account], "ca_file": self.certificates.ca_file, "queue": QUEUE, **changes}
        return RequestTracker(given.pop("url", self.url), given.pop("token"), given.pop("queue"), **given)

    def web(self, account: str | None = None) -> httpx.AsyncClient:
        """A plain client: for an account's REST2, or (without) for the pages that people see."""
        headers = {"Authorization": f"token {self.tokens[account]}"} if account else {}
        trusted = ssl.create_default_context(cafile=self.certificates.ca_file)
        return httpx.AsyncClient(base_url=self.url, headers=headers, verify=trusted, trust_env=False, timeout=30)

    def mails(self) -> list[Message]:
        """What RT handed to its mail program so far."""
        return [message_from_bytes(path.read_bytes()) for path in (self.folder / "mail").iterdir()]


@asynccontextmanager
async def tracker(folder: Path) -> AsyncIterator[Tracker]:
    """The server up; afterwards it is ended by its process id. All that it writes is in the folder."""
    port = free_port(0)
    for name in ("conf.d", "mail", "mason", "session", "tmp"):
        (folder / name).mkdir()
    (folder / "RT_SiteConfig.pm").write_text(_CONFIG.format(folder=folder, port=port), encoding="utf-8")
    (folder / "sendmail").write_text(_KEEP_MAIL.format(folder=folder), encoding="utf-8")
    (folder / "sendmail").chmod(0o700)
    certificates = make_certificates(folder / "tls")
    tokens = await _filled(folder)
    command = ["plackup", "--server", "Starman", "--workers", "2", "--env", "production"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enable-ssl"]
    command += ["--ssl-cert", str(certificates.cert_file), "--ssl-key", str(certificates.key_file)]
    command += [str(_PREFIX / "libexec" / "rt-server")]
    server = Child("Request Tracker", command, log=folder / "server.log", variables=_variables(folder))
    try:
        await server.start()
        made = Tracker(folder, f"https://127.0.0.1:{port}", certificates, tokens, server)
        await _until_it_answers(made)
        yield made
    finally:
        await server.stop()


async def _filled(folder: Path) -> dict[str, str]:
    """A database with the queues, the field, the accounts and their rights; returns a token for each account."""
    data = folder / "holdpoint.json"
    data.write_text(json.dumps(_initial_data()), encoding="utf-8")
    await _run(folder, ["rt-setup-database-5", "--action", "init", "--skip-create"])
    await _run(folder, ["rt-setup-database-5", "--action", "insert", "--datafile", str(data)])
    script = folder / "tokens.pl"
    script.write_text(_TOKENS, encoding="utf-8")
    names = [*RIGHTS, ADMINISTRATOR]
    told = await _run(folder, ["perl", f"-I{_PREFIX}/lib", str(script), QUEUE, WATCHER, *names])
    tokens: dict[str, str] = json.loads(told)
    return tokens


def _initial_data() -> dict[str, Any]:
    seen = [QUEUE, KEYLESS, TWOFOLD, FOREIGN]
    of_tickets = {"Type": "FreeformSingle", "LookupType": "RT::Queue-RT::Ticket"}
    return {
        "Queues": [{"Name": name} for name in [*seen, HIDDEN]],
        "CustomFields": [
            {"Name": FIELD, **of_tickets, "Queue": [QUEUE, TWOFOLD, FOREIGN]},
            {"Name": FIELD.lower(), **of_tickets, "Queue": [TWOFOLD]},
        ],
        "Users": [{"Name": name, "EmailAddress": f"{name}@acme.example", "Privileged": 1} for name in RIGHTS],
        "ACL": [
            {"UserId": name, "Queue": queue, "Right": right}
            for name, rights in RIGHTS.items()
            for queue in seen
            for right in rights
        ],
    }


def _variables(folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LC_ALL": "C.UTF-8",
        "RT_SITE_CONFIG": str(folder / "RT_SiteConfig.pm"),
        "RT_SITE_CONFIG_DIR": str(folder / "conf.d"),
    }


async def _run(folder: Path, command: Sequence[str]) -> str:
    ran = await run_command(command, _variables(folder))
    assert ran.code == 0, f"{command[0]} ended with {ran.code}:\n{(ran.out + ran.err)[-2000:]}"
    return ran.out


async def _until_it_answers(made: Tracker) -> None:
    """It listens a little after it was started, and what is asked then waits until its workers have compiled RT."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WITHIN
    async with made.web(ADMINISTRATOR) as web:
        while True:
            made.server.check_alive()
            with contextlib.suppress(httpx.TransportError):
                if (answer := await web.get("/REST/2.0/rt")).is_success:
                    return
                raise AssertionError(f"REST2 answers {answer.status_code}; its log:\n{made.server.logged()[-2000:]}")
            assert loop.time() < deadline, f"awaited REST2 at {made.url}; its log:\n{made.server.logged()[-2000:]}"
            await asyncio.sleep(_POLL)
