"""A mail domain of its own on loopback: Exim takes mail (submission with STARTTLS and AUTH), Dovecot shows it (IMAPS).

Exim answers as a relay does that has a say: it wants a login, and offers it after STARTTLS only; it does not know
everybody (550), lets some wait at their first try (451, greylisting by its own rate limit), and reads the text (554).
"""

from __future__ import annotations

import asyncio
import imaplib
import os
import pwd
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from integrations.smtp import Smtp
from lab.certificates import LabCertificates, make_certificates
from lab.servers import Child, free_port

DOMAIN = "acme.example"
SENDER = f"holdpoint@{DOMAIN}"
USERNAME, PASSWORD = "relay-user", "re1ay-Passw0rd"
IMAP_PASSWORD = "1map-Passw0rd"
FILTERED = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
UNFILTERED = "a text that the filter fails at"
SIZE_LIMIT = 256 * 1024
SERVER_NAME = f"mail.{DOMAIN}"
"""The certificate is for this name and for 127.0.0.1, and not for localhost."""

_OWNER = "Debian-exim"
_WITHIN = 20.0
_POLL = 0.02

_EXIM = """
primary_hostname = {name}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
log_selector = +smtp_no_mail +smtp_connection
pid_file_path = {folder}/exim.pid
notifier_socket =
exim_user = {owner}
exim_group = {owner}
deliver_drop_privilege
disable_ipv6
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {clear_port}
tls_advertise_hosts = ${{if eq{{$received_port}}{{{clear_port}}}{{}}{{*}}}}
tls_certificate = {folder}/tls/server.pem
tls_privatekey = {folder}/tls/server.key
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
message_size_limit = {size}
acl_smtp_rcpt = recipient
acl_smtp_data = content

begin acl
recipient:
  deny   message = 530 5.7.0 authentication required
         !authenticated = *
  deny   message = 550 5.7.1 relaying denied
         !domains = {domain}
  deny   message = 550 5.1.1 no such user here
         !local_parts = lsearch;{folder}/mailboxes
  defer  message = 451 4.7.1 greylisted, try again later
         local_parts = lsearch;{folder}/greylisted
         !ratelimit = 1.5 / 1h / strict / per_cmd / $sender_address-$local_part
  accept
content:
  deny   message = 554 5.7.1 the content filter refuses this
         condition = ${{if match{{$message_body}}{{{filtered}}}}}
  defer  message = 451 4.7.1 the content filter is down, try again later
         condition = ${{if match{{$message_body}}{{{unfiltered}}}}}
  accept

begin routers
here:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {folder}/maildir/${{lookup{{$local_part}}lsearch{{{folder}/mailboxes}}}}
  create_directory
  envelope_to_add
  user = {owner}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_set_id = $auth2
  server_condition = ${{if and{{{{eq{{$auth2}}{{{username}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
"""

_DOVECOT = """
base_dir = {folder}/dovecot
state_dir = {folder}/dovecot
log_path = {folder}/log/dovecot
listen = 127.0.0.1
protocols = imap
first_valid_uid = 1
ssl = required
ssl_cert = <{folder}/tls/server.pem
ssl_key = <{folder}/tls/server.key
mail_location = maildir:~
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={folder}/maildir/%u
}}
"""


@dataclass(frozen=True)
class Post:
    """The two servers while they stand. A mailbox is named by the part of its address before the ``@``."""

    folder: Path
    certificates: LabCertificates
    port: int
    clear_port: int
    """Where STARTTLS is not offered."""
    imap_port: int

    def client(self, **changes: Any) -> Smtp:
        """Holdpoint's client, with the settings that are right unless changed."""
        given = {"username": USERNAME, "password": PASSWORD, "ca_file": self.certificates.ca_file, **changes}
        return Smtp(given.pop("host", "127.0.0.1"), given.pop("port", self.port), given.pop("sender", SENDER), **given)

    def log(self) -> str:
        """What Exim logged so far, connection by connection and mail by mail."""
        path = self.folder / "log" / "mainlog"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    async def logged(self, words: str, *, after: str, count: int = 1) -> list[str]:
        """Wait for lines of Exim's log with these words; ``after`` is the log as it was before."""

        def found() -> list[str]:
            return [line for line in self.log()[len(after) :].splitlines() if words in line]

        await self._until(lambda: len(found()) >= count, f"{words!r} {count} times in Exim's log")
        return found()

    async def mails(self, mailbox: str) -> list[EmailMessage]:
        """Every mail of a mailbox, in the order of arrival, as IMAP shows it.

        Exim says 250 when a mail is in its spool; a spool that is empty again has nothing more to deliver.
        """
        spool = self.folder / "spool" / "input"
        await self._until(lambda: not any(spool.rglob("*-[DHJ]")), "an empty spool")
        return await asyncio.to_thread(self._fetch, mailbox)

    def _fetch(self, mailbox: str) -> list[EmailMessage]:
        trusted = ssl.create_default_context(cafile=self.certificates.ca_file)
        with imaplib.IMAP4_SSL("127.0.0.1", self.imap_port, ssl_context=trusted, timeout=_WITHIN) as imap:
            imap.login(mailbox, IMAP_PASSWORD)
            imap.select("INBOX", readonly=True)
            _, numbers = imap.search(None, "ALL")
            return [self._one(imap, number) for number in numbers[0].split()]

    @staticmethod
    def _one(imap: imaplib.IMAP4_SSL, number: bytes) -> EmailMessage:
        _, parts = imap.fetch(number.decode(), "(RFC822)")
        answer = parts[0]
        assert isinstance(answer, tuple), answer
        return message_from_bytes(answer[1], EmailMessage, policy=policy.default)

    async def _until(self, condition: Any, awaited: str) -> None:
        deadline = time.monotonic() + _WITHIN
        while not condition():
            assert time.monotonic() < deadline, f"awaited {awaited}; Exim's last lines:\n{self.log()[-2000:]}"
            await asyncio.sleep(_POLL)


@asynccontextmanager
async def post(mailboxes: Sequence[str], *, greylisted: Sequence[str] = ()) -> AsyncIterator[Post]:
    """Both servers up; afterwards they are ended by their process ids, and their folder is gone.

    ``greylisted`` are the mailboxes of which the first try of a sender is answered 451.
    """
    # Not pytest's folder: Exim's and Dovecot's own users have to get into this one.
    folder = Path(tempfile.mkdtemp(prefix="holdpoint-mail-", dir="/tmp"))
    try:
        standing = _written(folder, mailboxes, greylisted)
        # Both drop root's rights and have to find their programs by the path alone.
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        exim = Child("Exim", ["exim4", "-C", f"{folder}/exim.conf", "-bdf"], log=folder / "exim.out", variables=clean)
        dovecot = Child(
            "Dovecot", ["dovecot", "-F", "-c", f"{folder}/dovecot.conf"], log=folder / "dovecot.out", variables=clean
        )
        try:
            for server, port in ((exim, standing.port), (dovecot, standing.imap_port)):
                await server.start()
                await server.until_ready(("127.0.0.1", port))
            yield standing
        finally:
            await exim.stop()
            await dovecot.stop()
    finally:
        shutil.rmtree(folder)


def _written(folder: Path, mailboxes: Sequence[str], greylisted: Sequence[str]) -> Post:
    folder.chmod(0o755)
    certificates = make_certificates(folder / "tls", names=("127.0.0.1", SERVER_NAME))
    made = Post(folder, certificates, free_port(0), free_port(0), free_port(0))
    common: dict[str, Any] = {"folder": folder, "owner": _OWNER}
    files = {
        "mailboxes": "".join(f"{name}: {name}\n" for name in mailboxes),
        "greylisted": "".join(f"{name}\n" for name in greylisted),
        "exim.conf": _EXIM.format(
            **common,
            name=SERVER_NAME,
            domain=DOMAIN,
            port=made.port,
            clear_port=made.clear_port,
            size=SIZE_LIMIT,
            filtered=FILTERED,
            unfiltered=UNFILTERED,
            username=USERNAME,
            password=PASSWORD,
        ),
        "dovecot.conf": _DOVECOT.format(**common, port=made.imap_port, password=IMAP_PASSWORD),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    owner = pwd.getpwnam(_OWNER)
    for name in ("spool", "log", "maildir"):
        (folder / name).mkdir()
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    os.chown(certificates.key_file, owner.pw_uid, owner.pw_gid)
    return made
