"""CrowdSec's local API as endpoint control: a ban in its decisions, enforced by a bouncer, proved by a probe.

The API's yes means that a ban is recorded. Whether a bouncer enforces it the API does not know: with a dead one it
says yes and the traffic flows on. Only a probe that stands where the data came from, and that reached the host before,
proves it. CrowdSec knows addresses and no names, so an address is what is banned, whoever has it.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path

from incident.evidence import Device
from incident.requests import DeviceRef, ReadBack, Written
from integrations.blackbox import Blackbox, Probe, Sight
from integrations.crowdsec_api import VENDOR, Address, Ban, CrowdSecApi
from integrations.errors import BadAnswer, IntegrationError, NotFound, NotYet, Rejected
from integrations.http import TOTAL_SECONDS, clock_check, quoted
from integrations.interfaces import Check

BANNED = "banned"
REACHED = "reached"
SILENT = "silent"
UNPROBED = "unprobed"
OPEN = "open"
"""``Device.containment``: a ban is recorded; or there is none, and the probe reaches the host, or does not, or does not
work, or none is configured."""

MAX_COMMENT = 1000
"""How many characters of a comment are sent."""

NAMED = 3
"""How many bans a message names."""

_FREE = (REACHED, SILENT, UNPROBED, OPEN)
_NOBODYS = ipaddress.ip_address("192.0.2.1")
_NO_PROBE = "no probe is configured, so nothing proves that it is enforced"
_UNPROVED = {
    SILENT: "the host did not answer before the ban either, so its silence proves nothing",
    UNPROBED: "the probe did not work before the ban, so the host's silence proves nothing",
}
_UNSEEN = "nobody had seen the host answer before the ban, so its silence proves nothing"


class CrowdSec:
    """The local API and the probe; satisfies ``integrations.interfaces.Endpoint``.

    Args:
        url: the local API, without ``/v1``.
        machine: the machine that may write alerts, and by that decisions.
        password: its password.
        bouncer_key: what reads decisions; Holdpoint's own, not the firewall's.
        ban_for: how long a ban stands unless it is lifted.
        probe: who can tell that a ban is enforced; without one, none is ever in force.
        ca_file: PEM bundle to trust instead of the system's, for both addresses.
        total_seconds: how long one exchange may take in all.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: the machine lacks the right. Misconfigured: address or
        credentials. Rejected: CrowdSec says that the request is wrong. NotFound: the address is none, or one that no
        host behind a firewall has; nothing is asked then.
    """

    def __init__(
        self,
        url: str,
        machine: str,
        password: str,
        bouncer_key: str,
        *,
        ban_for: timedelta,
        probe: Probe | None,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._api = CrowdSecApi(url, machine, password, bouncer_key, ca_file=ca_file, total_seconds=total_seconds)
        self._probe = Blackbox(probe, ca_file=ca_file, total_seconds=total_seconds) if probe else None
        self._ban_for = ban_for

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        """The address itself, and whether it is banned or answers now. What kind of machine it is nobody here knows.

        A probe that does not work keeps no host from being banned; it keeps the ban from being verified.

        Raises:
            NotFound: there is no address.
        """
        if ip is None:
            raise NotFound(f"{VENDOR} knows addresses, not names, and no address of {quoted(hostname)} is known")
        address = _address(ip)
        status = BANNED if await self._api.bans(address) else await self._free(address)
        return Device(id=str(address), hostname=hostname, kind=None, containment=status)

    async def quarantine(self, device: DeviceRef) -> Written:
        """Ban the address unless somebody has banned just this one. Decisions are read before and after.

        A ban of a whole range is no reason to leave it: the nftables bouncer takes a range for its first address.
        ``before`` is ``{"status": …}``, a word of ``Device.containment``; between the words for *no ban* the case's own
        read decides.

        Raises:
            Rejected: CrowdSec took the ban and does not list it (an allowlist does that).
        """
        address = _address(device.id)
        bans = await self._api.bans(address)
        exact = [ban for ban in bans if ban.exact]
        if exact:
            detail = f"was banned already by {_listed(exact)}"
            return Written(changed=False, before={"status": BANNED}, detail=detail)
        free = device.seen if device.seen in _FREE else OPEN
        await self._api.ban(address, self._ban_for, quoted(device.comment)[:MAX_COMMENT] or "Holdpoint")
        made = [ban for ban in await self._api.bans(address) if ban.exact]
        if not made:
            raise Rejected(f"{VENDOR} took the ban of {address} and does not list it: is it on an allowlist?")
        return Written(
            changed=True, before={"status": BANNED if bans else free}, detail=f"ban recorded, by {_listed(made)}"
        )

    async def read_back(self, device: DeviceRef) -> ReadBack:
        """In force is a ban that is recorded and that the probe proves; a recorded one is pending until then.

        The proof: the probe fails now, its control target answers, and the case had seen the host answer before
        (``device.seen``), or banned already.
        """
        address = _address(device.id)
        bans = await self._api.bans(address)
        if not bans:
            return ReadBack(in_force=False, detail="no ban is recorded")
        recorded = f"the ban is recorded, by {_listed(bans)}"
        if self._probe is None:
            return ReadBack(in_force=False, pending=True, detail=f"the API has recorded it; {_NO_PROBE}")
        doubt = _doubt(await self._probe.look(str(address)), device.seen)
        if doubt:
            return ReadBack(in_force=False, pending=True, detail=doubt)
        return ReadBack(in_force=True, detail=f"{recorded}; the probe does not reach the host")

    async def lift(self, device: DeviceRef) -> Written:
        """Undo ``quarantine``: end Holdpoint's own bans of the address, and nobody else's.

        Raises:
            NotYet: a ban of Holdpoint's is still listed after it was ended.
            BadAnswer: one is listed without an id.
        """
        address = _address(device.id)
        bans = await self._api.bans(address)
        before = {"status": BANNED if bans else OPEN}
        ours = [ban for ban in bans if ban.ours]
        for ban in ours:
            if not (ban.id.isascii() and ban.id.isdecimal()):
                raise BadAnswer(f"{VENDOR} lists a ban of {address} without a usable id")
            await self._api.delete(ban.id)
        left = await self._api.bans(address) if ours else bans
        if any(ban.ours for ban in left):
            raise NotYet(f"a ban of Holdpoint's on {address} is still listed")
        detail = "lifted" if ours else "no ban of Holdpoint's is recorded"
        others = f"; still banned by {_listed(left)}" if left else ""
        return Written(changed=bool(ours), before=before, detail=detail + others)

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, both credentials, clock, the probe. Raises nothing of ``errors``."""
        checks = []
        name = f"{VENDOR}: machine"
        try:
            await self._api.log_in()
        except IntegrationError as error:
            checks.append(Check(name=name, ok=False, detail=str(error)))
        else:
            checks.append(Check(name=name, ok=True, detail="logged in; that it may ban shows when a host is banned"))
        name = f"{VENDOR}: bouncer key"
        try:
            answer = await self._api.asked(_NOBODYS)
        except IntegrationError as error:
            checks.append(Check(name=name, ok=False, detail=str(error)))
        else:
            checks += [Check(name=name, ok=True, detail="decisions can be read"), clock_check(answer)]
        detail = (
            "not checked: the API does not tell whether a bouncer lives; only the probe proves that a ban is enforced"
        )
        checks.append(Check(name=f"{VENDOR}: bouncer", ok=True, detail=detail))
        if self._probe is None:
            detail = f"not checked: {_NO_PROBE}, and every quarantine ends as not verified"
            return [*checks, Check(name=f"{VENDOR}: probe", ok=True, detail=detail)]
        return [*checks, *await self._probe.check()]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()
        if self._probe:
            await self._probe.aclose()

    async def _free(self, address: Address) -> str:
        """The word for an address without a ban."""
        if self._probe is None:
            return OPEN
        return {True: REACHED, False: SILENT, None: UNPROBED}[(await self._probe.look(str(address))).reached]


def _doubt(sight: Sight, seen: str) -> str:
    """Why a recorded ban is not proved; nothing if it is."""
    if sight.reached:
        return "the probe still reaches it"
    if sight.reached is None:
        return sight.why
    return "" if seen in (REACHED, BANNED) else _UNPROVED.get(seen, _UNSEEN)


def _address(text: str) -> Address:
    """The address that ``text`` is, in its one spelling. Nothing else ever goes out.

    Raises:
        NotFound: it is none, or one that no host behind a firewall has.
    """
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise NotFound(f"{quoted(text)!r} is not an IP address; {VENDOR} was not asked") from None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise NotFound(f"{quoted(text)} is an address on one link only; {VENDOR} was not asked")
    nobodys = address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local
    if nobodys or str(address) == "255.255.255.255":
        raise NotFound(f"{address} is no host's address beyond its own link; {VENDOR} was not asked")
    return address


def _listed(bans: list[Ban]) -> str:
    more = f" and {len(bans) - NAMED} more" if len(bans) > NAMED else ""
    return ", ".join(ban.words for ban in bans[:NAMED]) + more
