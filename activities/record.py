"""The record's step: seal it where the key is, and put it on the ticket."""

from __future__ import annotations

import json

from temporalio import activity

from activities.failures import told_to_temporal
from activities.record_page import page
from incident.requests import AttachRecord
from incident.sealing import seal
from integrations.interfaces import Attachment, Ticketing


class RecordActivities:
    """Seals and attaches records. ``key`` seals them; without it they are chained alone."""

    def __init__(self, ticketing: Ticketing, key: str | None) -> None:
        self._ticketing = ticketing
        self._key = key

    @activity.defn(name="record.attach")
    async def attach(self, request: AttachRecord) -> list[str]:
        """Attach the record as JSON and as a page, each once; returns the names of those that were not there."""
        sealed = seal(request.record, self._key)
        files = (
            Attachment(name=f"{request.name}.json", media_type="application/json", content=written(sealed)),
            Attachment(name=f"{request.name}.html", media_type="text/html", content=page(sealed).encode()),
        )
        with told_to_temporal():
            return [file.name for file in files if await self._ticketing.attach(request.ticket, file)]


def written(sealed: object) -> bytes:
    """A sealed record as a file. Its layout proves nothing: what is sealed is the canonical form."""
    return json.dumps(sealed, indent=1, ensure_ascii=False).encode()
