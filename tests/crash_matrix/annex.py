"""What a house needs beside the lab's systems for a case to take every step, and the settings that switch it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from lab.chat import SlackLab
from lab.directory import DirectoryLab
from lab.environment import Environment
from lab.graph import GraphLab
from lab.serving import Served
from tests.crash_matrix.cells import POLLED_RULE


class Annex:
    """A second server of the directory, a cloud directory and a channel."""

    def __init__(self) -> None:
        self.graph, self.chat = GraphLab(), SlackLab()

    @asynccontextmanager
    async def standing(self, lab: Environment) -> AsyncIterator[Annex]:
        """Serve them, with their secrets among the lab's."""
        second = DirectoryLab(lab.certificates, tree=lab.directory.tree)
        tls: dict[str, Any] = {"certificate": lab.certificates.cert_file, "key": lab.certificates.key_file}
        async with AsyncExitStack() as opening:
            self._graph = await opening.enter_async_context(Served(self.graph.app, **tls))
            self._chat = await opening.enter_async_context(Served(self.chat.app, **tls))
            second.start()
            opening.push_async_callback(asyncio.to_thread, second.stop)
            self._second = second.url
            lab._write_secrets(
                {
                    "identity__entra__client_secret": self.graph.client_secret,
                    "chat__slack__webhook": self._chat.url + self.chat.path,
                }
            )
            yield self

    def switch_on(self, settings: Path, lab: Environment) -> None:
        """Name them in a settings file of the lab."""
        text = settings.read_text(encoding="utf-8")
        first = f'servers = ["{lab.directory.url}"'
        assert first in text
        text = text.replace(first, f'{first}, "{self._second}"')
        tenant = "[securonix]\n"
        assert tenant in text
        text = text.replace(tenant, f'{tenant}poll_every = "1h"\npoll_policies = ["{POLLED_RULE}"]\n')
        ca = f'ca_file = "{lab.certificates.ca_file}"'
        more = f"""
[identity]
provider = "entra"
[identity.entra]
tenant_id = "{self.graph.tenant}"
client_id = "{self.graph.client_id}"
base_url = "{self._graph.url}"
login_url = "{self._graph.url}"
{ca}

[chat]
provider = "slack"
[chat.slack]
{ca}

[record]
attach = true
"""
        settings.write_text(text + more, encoding="utf-8")
