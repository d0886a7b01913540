"""The ticket system's steps."""

from __future__ import annotations

from temporalio import activity

from activities.failures import told_to_temporal
from incident.requests import Ticket, TicketDraft, TicketNote
from integrations.interfaces import Ticketing


class TicketingActivities:
    """Opens and annotates tickets in one ticket system."""

    def __init__(self, ticketing: Ticketing) -> None:
        self._ticketing = ticketing

    @activity.defn(name="ticketing.open_ticket")
    async def open_ticket(self, draft: TicketDraft) -> Ticket:
        """Open the ticket, or find the one that an earlier attempt opened."""
        with told_to_temporal():
            return await self._ticketing.open_ticket(draft)

    @activity.defn(name="ticketing.add_note")
    async def add_note(self, note: TicketNote) -> bool:
        """Add the note, unless it is there."""
        with told_to_temporal():
            return await self._ticketing.add_note(note.ticket, note.text, note.marker)
