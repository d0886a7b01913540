from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lab.certificates import LabCertificates, make_certificates
from lab.mailbox import MailboxLab
from tests.integrations.mailing import relaying


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LabCertificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def relay(certificates: LabCertificates) -> AsyncIterator[MailboxLab]:
    """A mail relay that wants a login."""
    async with relaying(certificates) as lab:
        yield lab
