"""CrowdStrike Falcon: which agent a host has, and cutting that host off from the network.

The Hosts service, as CrowdStrike's own SDKs (falconpy, gofalcon) call it. The API client needs the scopes
``hosts:read`` and ``hosts:write``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from incident.evidence import Device
from incident.requests import DeviceRef, ReadBack, Written
from integrations.errors import Ambiguous, BadAnswer, IntegrationError, NotFound, NotYet
from integrations.falcon_api import VENDOR, FalconApi, Reply
from integrations.http import TOTAL_SECONDS, clock_check, quoted
from integrations.interfaces import Check

QUERY_PATH = "/devices/queries/devices/v1"
DETAILS_PATH = "/devices/entities/devices/v2"
ACTIONS_PATH = "/devices/entities/devices-actions/v2"

WIDE = 200
"""How many agents one search may list. A plain search that lists more says nothing about one host."""

NAMED = 5
"""How many candidates a message names."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True)
class _Change:
    """A containment action and the states around it. ``opposite`` is on its way to the contrary."""

    action: str
    done: str
    pending: str
    opposite: str | None


CONTAIN = _Change("contain", "contained", "containment_pending", "lift_containment_pending")
# A host that is offline stays pending until it checks in, so a request that has not come through can be taken back.
LIFT = _Change("lift_containment", "normal", "lift_containment_pending", None)


class CrowdStrike:
    """The endpoint agent's console; satisfies ``integrations.interfaces.Endpoint``.

    Args:
        base_url: the customer's region, such as ``https://api.eu-1.crowdstrike.com``. Regions are never guessed and
            redirects never followed.
        client_id: the API client.
        client_secret: its secret.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.
        clock: seconds since the epoch, for ``X-RateLimit-RetryAfter``.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: a scope is missing. Misconfigured: address or credentials.
        Rejected: Falcon says that the request is wrong.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = FalconApi(
            base_url, client_id, client_secret, ca_file=ca_file, total_seconds=total_seconds, clock=clock
        )

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        """The one agent of that host.

        The ``hostname`` filter is partial in one form and exact to the letter in the other, and its sources differ
        about both. So every form is asked, side by side, and the names in the details decide: without case, and a
        short name equals the full name of which it is the first label.

        Raises:
            NotFound: no agent has that name, or it is not a host name (and is then not asked for).
            Ambiguous: more than one agent has it (a re-installed agent leaves its older self behind).
        """
        name = _host_name(hostname)
        answers = await asyncio.gather(*map(self._ids, _filters(name)), return_exceptions=True)
        ids: dict[str, None] = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            ids.update(dict.fromkeys(answer))
        found = await self._details(ids)
        devices = [device for device in found if _same_host(name, device)]
        if not devices:
            raise NotFound(f"{VENDOR} knows no agent on a host named {name}{_elsewhere(name, found)}")
        if len(devices) > 1:
            raise Ambiguous(f"{VENDOR} knows {len(devices)} agents named {name}: {_named(devices)}")
        return _device(devices[0])

    async def quarantine(self, device: DeviceRef) -> Written:
        """Ask for network containment unless it is there or on its way. Safe to repeat: the status is read first.

        Falcon's yes means that the request is queued; only ``read_back`` proves it. ``before`` is ``{"status": …}``.

        Raises:
            NotFound: there is no such agent any more.
            Ambiguous: the agent now goes by another host name.
            NotYet: somebody is lifting the containment at this moment.
        """
        return await self._change(device, CONTAIN)

    async def lift(self, device: DeviceRef) -> Written:
        """Undo ``quarantine``; a request that has not reached its host yet is taken back. Raises what that raises."""
        return await self._change(device, LIFT)

    async def read_back(self, device: DeviceRef) -> ReadBack:
        """Whether the host is cut off. While somebody lifts it, it is neither sure to be cut off nor free: pending.

        Raises:
            NotFound: there is no such agent any more.
            Ambiguous: the agent now goes by another host name.
        """
        status = _status(await self._still(device))
        if status == CONTAIN.done:
            return ReadBack(in_force=True, detail="contained", status=status)
        if status == CONTAIN.pending:
            told = "containment is asked for; an offline host waits"
            return ReadBack(in_force=False, pending=True, detail=told, status=status)
        if status == LIFT.pending:
            return ReadBack(in_force=False, pending=True, detail="containment is being lifted", status=status)
        return ReadBack(in_force=False, detail=f"status is {status}", status=status)

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, credentials, ``hosts:read``, clock. Raises nothing of ``errors``."""
        try:
            login = await self._api.log_in()
        except IntegrationError as error:
            return [Check(name=f"{VENDOR}: login", ok=False, detail=str(error))]
        region = quoted(login.headers.get("X-Cs-Region", "")) or "not told"
        checks = [Check(name=f"{VENDOR}: login", ok=True, detail=f"token granted; region {region}"), clock_check(login)]
        try:
            self._resources(await self._api.call("GET", QUERY_PATH, params={"limit": "1"}))
        except IntegrationError as error:
            checks.append(Check(name=f"{VENDOR}: hosts:read", ok=False, detail=str(error)))
        else:
            checks.append(Check(name=f"{VENDOR}: hosts:read", ok=True, detail="hosts can be searched"))
        write = "not checked: it shows only when a host is contained; the API client must have this scope"
        return [*checks, Check(name=f"{VENDOR}: hosts:write", ok=True, detail=write)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()

    async def _ids(self, fql: str) -> list[str]:
        reply = await self._api.call("GET", QUERY_PATH, params={"filter": fql, "limit": str(WIDE)})
        ids = [entry for entry in self._resources(reply) if isinstance(entry, str) and entry]
        return ids if "[" in fql or len(ids) < WIDE else []

    async def _details(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """The devices of those ids, each once; an id that Falcon has forgotten meanwhile is left out."""
        wanted = list(ids)
        if not wanted:
            return []
        reply = await self._api.call("POST", DETAILS_PATH, json={"ids": wanted}, tolerated=(404,))
        found: dict[str, dict[str, Any]] = {}
        for entry in self._resources(reply):
            identity = entry.get("device_id") if isinstance(entry, dict) else None
            if identity in wanted:
                found[identity] = entry
        return list(found.values())

    async def _still(self, device: DeviceRef) -> dict[str, Any]:
        """The agent's details now, if it is still the agent that was decided about."""
        name = _host_name(device.hostname)
        found = await self._details([device.id])
        if not found:
            raise NotFound(f"{VENDOR} has no agent {quoted(device.id)} any more")
        if not _same_host(name, found[0]):
            now = quoted(found[0].get("hostname")) or "nameless"
            raise Ambiguous(f"agent {quoted(device.id)} is {now} now and was {name}; not touched")
        return found[0]

    async def _change(self, device: DeviceRef, change: _Change) -> Written:
        status = _status(await self._still(device))
        before = {"status": status}
        if status == change.done:
            return Written(changed=False, before=before, detail=f"was {status} already")
        if status == change.pending:
            return Written(changed=False, before=before, detail=f"was already asked for ({status})")
        if status == change.opposite:
            raise NotYet(f"somebody is changing {device.hostname} the other way at this moment ({status})")
        reply = await self._api.call(
            "POST", ACTIONS_PATH, params={"action_name": change.action}, json={"ids": [device.id]}, tolerated=(409,)
        )
        if not self._queued(reply, device.id):
            return Written(changed=False, before=before, detail=f"{VENDOR} says that it is in that state already")
        return Written(changed=True, before=before, detail=f"{change.action} requested")

    def _queued(self, reply: Reply, device_id: str) -> bool:
        """Whether the action was taken; ``False`` if the device is in the wanted state already (code 409)."""
        ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in reply.resources]
        if device_id in ids:
            return True
        if reply.answer.status == 409 or any(code == 409 for code, _ in reply.errors):
            return False
        for code, _ in reply.errors:
            self._api.raise_inner(reply, code)
        if any(ids):
            raise BadAnswer(f"{VENDOR} answered for other agents than the one that was asked for")
        return True

    def _resources(self, reply: Reply) -> list[Any]:
        """What a read found. An error beside it may hide a candidate, so it counts; an unknown id does not."""
        for code, _ in reply.errors:
            if code != 404:
                self._api.raise_inner(reply, code)
        return reply.resources


def _host_name(text: str) -> str:
    """The host name that ``text`` is. Nothing else is ever put into a filter, so no quoting is needed."""
    name = text.strip().removesuffix(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name) or not name.strip("0123456789._-"):
        raise NotFound(f"{quoted(text)!r} is not a host name; {VENDOR} was not asked")
    return name


def _filters(name: str) -> list[str]:
    """The exact form, letter for letter in every usual spelling, and the plain one, partial or not."""
    short = name.partition(".")[0]
    exact = [f"hostname:['{value}']" for form in (name, short) for value in (form, form.lower(), form.upper())]
    plain = [f"hostname:'{value}'" for value in (short, short.lower(), short.upper())]
    return list(dict.fromkeys(exact + plain))


def _same_host(name: str, device: Mapping[str, Any]) -> bool:
    """Whether a device is that host: without case, and by the first label where either name is short.

    A short name that says its DNS domain (``machine_domain`` with a dot) is compared in full.
    """
    theirs, domain = str(device.get("hostname") or ""), str(device.get("machine_domain") or "")
    if "." not in theirs and "." in domain:
        theirs = f"{theirs}.{domain}"
    ours, theirs = name.casefold(), theirs.casefold().removesuffix(".")
    if "." in ours and "." in theirs:
        return ours == theirs
    return bool(theirs) and ours.partition(".")[0] == theirs.partition(".")[0]


def _elsewhere(name: str, found: list[dict[str, Any]]) -> str:
    """What to tell of agents that share the first label alone."""
    short = name.partition(".")[0].casefold()
    near = [d for d in found if str(d.get("hostname") or "").casefold().partition(".")[0] == short]
    return f"; agents of that short name in other domains: {_named(near)}" if near else ""


def _status(device: Mapping[str, Any]) -> str:
    return quoted(device.get("status")).lower() or "unknown"


def _last_seen(device: Mapping[str, Any]) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(device.get("last_seen")))
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _named(devices: list[dict[str, Any]]) -> str:
    """A few candidates, the one that was seen last first."""
    ordered = sorted(devices, key=lambda device: str(device.get("last_seen") or ""), reverse=True)
    words = [f"{quoted(d['device_id'])} (last seen {quoted(d.get('last_seen')) or 'never'})" for d in ordered[:NAMED]]
    return ", ".join(words) + (f" and {len(devices) - NAMED} more" if len(devices) > NAMED else "")


def _device(device: Mapping[str, Any]) -> Device:
    return Device(
        id=device["device_id"],
        hostname=str(device["hostname"]),
        kind=quoted(device.get("product_type_desc")) or None,
        containment=_status(device),
        last_seen=_last_seen(device),
    )
