"""What a case asks of Holdpoint itself and of Temporal."""

from __future__ import annotations

import re

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from incident.policy import CasePolicy
from incident.requests import EarlierCase, EarlierOutcome, SnapshotPolicy

_CASE_ID = re.compile(r"[A-Za-z0-9._:-]+")
_LATEST = 100


class CaseActivities:
    """Knows the worker's settings and asks Temporal's visibility store."""

    def __init__(self, client: Client, policy: CasePolicy) -> None:
        self._client = client
        self._policy = policy

    @activity.defn(name="case.snapshot_policy")
    async def snapshot_policy(self, request: SnapshotPolicy) -> CasePolicy:
        """The worker's settings, for a case that came without."""
        activity.logger.info("settings snapshot for %s", request.case_id)
        return self._policy

    @activity.defn(name="case.find_earlier")
    async def find_earlier(self, request: EarlierCase) -> EarlierOutcome:
        """The latest completed run of this case id that had this alert.

        The alert's id is compared here and never enters the query: it is untrusted text. A run that failed or was
        terminated answered nothing and does not count.
        """
        if not _CASE_ID.fullmatch(request.case_id):
            raise ApplicationError(f"{request.case_id!r} is no case id", type="Rejected", non_retryable=True)
        query = f"WorkflowId = '{request.case_id}' AND ExecutionStatus = 'Completed'"
        async for run in self._client.list_workflows(query, limit=_LATEST):
            alerts = next((pair.value for pair in run.typed_search_attributes if pair.key.name == "AlertIds"), ())
            if request.alert_id in alerts:
                return EarlierOutcome(run_id=run.run_id)
        return EarlierOutcome(run_id=None)
