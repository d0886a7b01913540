from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser
from temporalio.testing import WorkflowEnvironment

from lab.issuer import IssuerLab, LabPerson
from lab.serving import Served
from tests.bridge.night import Night, a_night
from tests.browser.chromium import PROGRAMS, a_browser, chromium
from tests.workflows.world import ANALYST, LEAD, ON_CALL


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium; where there is none the tests that want it are skipped, each by its name."""
    if chromium() is None:
        pytest.skip(f"there is no Chromium here (looked for {', '.join(PROGRAMS)}): apt-get install chromium")
    async with a_browser() as made:
        yield made


@pytest.fixture
async def night(browser: Browser, dev_server: WorkflowEnvironment) -> AsyncIterator[Night]:
    """A desk where one can sign in, and a worker."""
    people = [LabPerson(mail, name) for mail, name in ((ANALYST, "Ana"), (ON_CALL, "Omar"), (LEAD, "Lena"))]
    issuer = IssuerLab(people, algorithm="ES256")
    served = Served(issuer.app)
    async with served:
        issuer.url = served.url
        async with a_night(dev_server.client, issuer) as made:
            yield made
