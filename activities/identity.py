"""The cloud directory's step: ending the sessions of an account that is disabled."""

from __future__ import annotations

from temporalio import activity

from activities.failures import told_to_temporal
from incident.requests import RevokeSignIns, Written
from integrations.errors import Misconfigured
from integrations.interfaces import SignIns


class IdentityActivities:
    """Revokes through one cloud directory, if there is one."""

    def __init__(self, sign_ins: SignIns | None) -> None:
        self._sign_ins = sign_ins

    @activity.defn(name="identity.revoke_sign_ins")
    async def revoke_sign_ins(self, request: RevokeSignIns) -> Written:
        """End the account's sessions."""
        with told_to_temporal():
            if self._sign_ins is None:
                raise Misconfigured("the case wants sign-ins revoked, and this worker has no [identity] provider")
            return await self._sign_ins.revoke(request)
