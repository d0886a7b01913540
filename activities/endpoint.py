"""The endpoint control's steps."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio import activity

from activities.failures import no_such_fact, told_to_temporal
from incident.evidence import Device, Fact
from incident.release import FREE
from incident.requests import DeviceRef, FindDevice, LiftQuarantine, QuarantineHost, ReadBack, Written
from integrations.errors import Ambiguous, NotFound, NotInForce, NotYet, Rejected
from integrations.interfaces import Endpoint


class EndpointActivities:
    """Reads and quarantines through one endpoint control. ``source`` is its name in the facts."""

    def __init__(self, endpoint: Endpoint, source: str) -> None:
        self._endpoint = endpoint
        self._source = source

    @activity.defn(name="endpoint.find_device")
    async def find_device(self, request: FindDevice) -> Fact[Device]:
        """The host's agent; unknown when there is none, or more than one."""
        with told_to_temporal():
            try:
                device = await self._endpoint.find_device(request.hostname, request.ip)
            except (NotFound, Ambiguous) as error:
                return no_such_fact(error, self._source)
        return Fact[Device].of(device, self._source, datetime.now(UTC))

    @activity.defn(name="endpoint.quarantine_host")
    async def quarantine_host(self, request: QuarantineHost) -> Written:
        """Ask for quarantine. A retry that finds it asked for knows whose change that was by what the case had seen."""
        with told_to_temporal():
            written = await self._endpoint.quarantine(request.device)
        if written.changed or activity.info().attempt == 1 or written.before == request.seen:
            return written
        return Written(changed=True, before=request.seen, detail="done by an earlier attempt whose answer was lost")

    @activity.defn(name="endpoint.confirm_quarantined")
    async def confirm_quarantined(self, device: DeviceRef) -> ReadBack:
        """Whether the host is cut off now; fails until it is, and tells pending from not asked for."""
        with told_to_temporal():
            seen = await self._endpoint.read_back(device)
            if seen.in_force:
                return seen
            if seen.pending:
                raise NotYet(f"host {device.hostname} has not carried out its quarantine yet{_why(seen)}")
            raise NotInForce(f"host {device.hostname} is not quarantined by the vendor's word{_why(seen)}")

    @activity.defn(name="endpoint.lift_quarantine")
    async def lift_quarantine(self, request: LiftQuarantine) -> Written:
        """Undo ``quarantine_host``, only if the host was free before. A retry may find what it did itself."""
        with told_to_temporal():
            if request.before.get("status", "").casefold() not in FREE:
                raise Rejected(f"host {request.device.hostname} is not known to have been free before: left as it is")
            written = await self._endpoint.lift(request.device)
        if written.changed or activity.info().attempt == 1:
            return written
        told = f"{written.detail}: by an earlier attempt whose answer was lost, or by somebody else"
        return Written(changed=True, before=written.before, detail=told)

    @activity.defn(name="endpoint.confirm_lifted")
    async def confirm_lifted(self, device: DeviceRef) -> ReadBack:
        """What the vendor says, once the host is free; fails until then, and tells pending from not asked for."""
        with told_to_temporal():
            seen = await self._endpoint.read_back(device)
            if seen.pending:
                raise NotYet(f"host {device.hostname} is not free yet{_why(seen)}")
            if seen.in_force or (seen.status and seen.status.casefold() not in FREE):
                raise NotInForce(f"host {device.hostname} is not free by the vendor's word{_why(seen)}")
        return seen


def _why(seen: ReadBack) -> str:
    return f": {seen.detail}" if seen.detail else ""
