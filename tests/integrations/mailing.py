"""What the tests of mail share: a relay that wants a login, and a client that has it."""

from __future__ import annotations

from typing import Any

from integrations.smtp import Smtp
from lab.certificates import LabCertificates
from lab.mailbox import MailboxLab

SENDER = "holdpoint@corp.example"
ANN, BOB = "ann@corp.example", "bob@corp.example"
USER, PASSWORD = "holdpoint", "corr3ct-h0rse"


def relaying(certificates: LabCertificates | None) -> MailboxLab:
    """The relay; without certificates it speaks in clear."""
    return MailboxLab(certificates, username=USER, password=PASSWORD)


def smtp(relay: MailboxLab, certificates: LabCertificates, client: type[Smtp] = Smtp, **changes: Any) -> Smtp:
    settings = {"username": USER, "password": PASSWORD, "ca_file": certificates.ca_file, **changes}
    return client(settings.pop("host", "127.0.0.1"), relay.port, settings.pop("sender", SENDER), **settings)
