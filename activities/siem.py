"""The SIEM's steps."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio import activity

from activities.failures import no_such_fact, told_to_temporal
from incident.evidence import Corroboration, Fact, Located, Risk
from incident.requests import CommentIncident, FindCorroboration, LocateHost, ScoreRisk
from integrations.errors import Ambiguous, NotFound
from integrations.interfaces import Siem


class SiemActivities:
    """Reads and comments through one SIEM. ``source`` is its name in the facts."""

    def __init__(self, siem: Siem, source: str) -> None:
        self._siem = siem
        self._source = source

    @activity.defn(name="siem.locate_host")
    async def locate_host(self, request: LocateHost) -> Located:
        """The host behind an address, and the account active on it."""
        with told_to_temporal():
            return await self._siem.locate(request)

    @activity.defn(name="siem.score_risk")
    async def score_risk(self, request: ScoreRisk) -> Fact[Risk]:
        """The user's risk score; unknown for a user whom the SIEM does not know."""
        with told_to_temporal():
            try:
                risk = await self._siem.risk(request)
            except (NotFound, Ambiguous) as error:
                return no_such_fact(error, self._source)
        return Fact[Risk].of(risk, self._source, datetime.now(UTC))

    @activity.defn(name="siem.find_corroboration")
    async def find_corroboration(self, request: FindCorroboration) -> Fact[Corroboration]:
        """Further alerts and events about the host or the user."""
        with told_to_temporal():
            found = await self._siem.corroboration(request)
        return Fact[Corroboration].of(found, self._source, datetime.now(UTC))

    @activity.defn(name="siem.comment_incident")
    async def comment_incident(self, request: CommentIncident) -> bool:
        """Comment the SIEM's own incident, unless it has the comment."""
        with told_to_temporal():
            return await self._siem.comment(request.incident_id, request.text, request.marker)
