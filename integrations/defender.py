"""Microsoft Defender for Endpoint: which machine a host is, and isolating it from the network.

Defender has no flag that says whether a machine is isolated: it follows from the machine's actions. A second isolation
may hang and land after a release, so none is ever posted without reading the actions first. (Microsoft's pages
get-machines, isolate-machine, unisolate-machine, machineaction, get-machineaction-object.) The application needs
``Machine.Read.All`` and ``Machine.Isolate``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from incident.evidence import Device
from incident.requests import DeviceRef, ReadBack, Written
from integrations.defender_api import VENDOR, ActionInProgress, DefenderApi
from integrations.errors import Ambiguous, BadAnswer, IntegrationError, NotFound, NotYet, Rejected
from integrations.http import TOTAL_SECONDS, clock_check, quoted
from integrations.interfaces import Check

BASE_URL = "https://api.securitycenter.microsoft.com"
LOGIN_URL = "https://login.microsoftonline.com"
MACHINES_PATH = "/api/machines"
ACTIONS_PATH = "/api/machineactions"

MAX_COMMENT = 1000
"""How many characters of a comment are sent."""

NAMED = 5
"""How many candidates a message names."""

ISOLATED = "isolated"
SELECTIVE = "isolated_selectively"
ISOLATING = "isolation_pending"
RELEASING = "release_pending"
FREE = "not_isolated"

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_PENDING = ("pending", "inprogress")
_SERVERS = ("server", "linux", "ubuntu", "debian", "centos", "suse", "sles", "fedora", "rocky", "mariner")
_WORKSTATIONS = re.compile(r"windows(7|8|8\.1|10|11|10wvd)|macos", re.IGNORECASE)


@dataclass(frozen=True)
class _Action:
    """An isolation or a release of one machine, as ``machineactions`` lists it. Times are UTC."""

    id: str
    isolates: bool
    selective: bool
    status: str
    created: datetime | None
    updated: datetime | None
    error: str

    @property
    def pending(self) -> bool:
        return self.status.lower() in _PENDING

    @property
    def settled_at(self) -> tuple[datetime, datetime]:
        """When it took effect, then when it was asked for: a late isolation lands after a younger release."""
        at = self.updated or self.created
        if at is None:
            raise BadAnswer(f"{VENDOR} tells no time of the action {quoted(self.id)}")
        return at, self.created or at


@dataclass(frozen=True)
class _Isolation:
    """What a machine's actions amount to."""

    actions: tuple[_Action, ...]

    @property
    def pending(self) -> list[_Action]:
        """The isolations that have not come to an end."""
        return [action for action in self.actions if action.isolates and action.pending]

    @property
    def status(self) -> str:
        """One word; the newest success decides, unless something is on its way."""
        if any(action.pending and not action.isolates for action in self.actions):
            return RELEASING
        done = [action for action in self.actions if action.status.lower() == "succeeded"]
        last = max(done, key=lambda action: action.settled_at, default=None)
        if last is not None and last.isolates and not last.selective:
            return ISOLATED
        if self.pending:
            return ISOLATING
        return SELECTIVE if last is not None and last.isolates else FREE

    @property
    def words(self) -> str:
        """For people: the status, and how the newest isolation ended if it did not succeed."""
        asked = [action for action in self.actions if action.isolates]
        last = max(asked, key=lambda action: action.settled_at, default=None)
        if self.status in (ISOLATED, ISOLATING, RELEASING) or last is None or last.status.lower() == "succeeded":
            return self.status.replace("_", " ")
        return f"{self.status.replace('_', ' ')}: the last isolation ended as {quoted(last.status)}{last.error}"


class Defender:
    """The endpoint agent's service; satisfies ``integrations.interfaces.Endpoint``.

    Args:
        tenant_id: the Entra tenant, by id or domain.
        client_id: the registered application.
        client_secret: its secret.
        base_url: the API, or a region's. Redirects are never followed.
        login_url: where tokens come from; GCC High and DoD have their own.
        ca_file: PEM bundle to trust instead of the system's, for both addresses.
        total_seconds: how long one exchange may take in all.

    Every method raises ``integrations.errors`` only; beside those that it names:
        Unreachable, Busy, BadAnswer: try later. Refused: a permission is missing. Misconfigured: address or
        credentials. Rejected: Defender says that the request is wrong, or that the platform cannot be isolated.
    """

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        *,
        base_url: str = BASE_URL,
        login_url: str = LOGIN_URL,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._api = DefenderApi(
            base_url, login_url, tenant_id, client_id, client_secret, ca_file=ca_file, total_seconds=total_seconds
        )

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        """The one onboarded machine of that host.

        ``computerDnsName`` may be the short or the full name, so both are asked for, in the spelling given and in
        small letters, and the names in the answers decide: without case, and a short name equals the full name of
        which it is the first label.

        Raises:
            NotFound: no onboarded machine has that name, or it is not a host name (and is then not asked for).
            Ambiguous: more than one has it; a re-installed machine leaves its older self behind, active or not.
        """
        name = _host_name(hostname)
        found = await self._named(name)
        same = [machine for machine in found if _same_host(name, machine)]
        ours = [machine for machine in same if _onboarded(machine)]
        if not ours:
            seen = f"; seen there, but not onboarded: {_listed(same)}" if same else ""
            raise NotFound(f"{VENDOR} knows no machine named {name}{seen}")
        if len(ours) > 1:
            raise Ambiguous(f"{VENDOR} knows {len(ours)} machines named {name}: {_listed(ours)}")
        machine = ours[0]
        identity = _machine_id(machine)
        return Device(
            id=identity,
            hostname=str(machine["computerDnsName"]),
            kind=_kind(machine),
            containment=(await self._isolation(identity)).status,
            last_seen=_time(machine.get("lastSeen")),
        )

    async def quarantine(self, device: DeviceRef) -> Written:
        """Ask for full isolation unless it is there or on its way. The actions are read first.

        Defender's yes means that the request is queued; only ``read_back`` proves it. ``before`` is ``{"status": …}``,
        the word that ``find_device`` tells as ``containment``.

        Raises:
            NotFound: there is no such machine any more.
            Ambiguous: the machine now goes by another name.
            NotYet: a release, a selective isolation or an action of unknown kind is on its way.
        """
        await self._still(device)
        isolation = await self._isolation(device.id)
        if adopted := _adopted(isolation, device):
            return adopted
        body = {"Comment": _comment(device), "IsolationType": "Full"}
        try:
            made = await self._api.record("POST", f"{MACHINES_PATH}/{device.id}/isolate", json=body)
        except ActionInProgress:
            if adopted := _adopted(await self._isolation(device.id), device):
                return adopted
            raise
        return _requested(made, isolation, device, "Isolate")

    async def read_back(self, device: DeviceRef) -> ReadBack:
        """Whether the host is cut off, by the newest action that succeeded. While somebody releases it: pending.

        Raises:
            NotFound: the id cannot be one of Defender's.
        """
        isolation = await self._isolation(_usable(device.id))
        pending = isolation.status in (ISOLATING, RELEASING)
        status = isolation.status
        return ReadBack(in_force=status == ISOLATED, pending=pending, detail=isolation.words, status=status)

    async def lift(self, device: DeviceRef) -> Written:
        """Undo ``quarantine``: cancel what has not reached the host yet, then release it if it is isolated.

        Raises:
            NotFound: there is no such machine any more.
            Ambiguous: the machine now goes by another name.
            NotYet: a pending isolation cannot be cancelled; it would land after the release.
        """
        await self._still(device)
        isolation = before = await self._isolation(device.id)
        for action in isolation.pending:
            await self._cancel(action, device)
        if before.pending:
            isolation = await self._isolation(device.id)
        if isolation.pending:
            raise NotYet(f"an isolation of {device.hostname} is on its way and would land after the release")
        status = {"status": before.status}
        if isolation.status == FREE:
            detail = "the pending isolation was cancelled" if before.pending else "was not isolated"
            return Written(changed=bool(before.pending), before=status, detail=detail)
        if isolation.status == RELEASING:
            return Written(changed=False, before=status, detail="the release was already asked for")
        try:
            made = await self._api.record(
                "POST", f"{MACHINES_PATH}/{device.id}/unisolate", json={"Comment": _comment(device)}
            )
        except ActionInProgress:
            if (await self._isolation(device.id)).status in (RELEASING, FREE):
                return Written(changed=False, before=status, detail="the release was already asked for")
            raise
        return _requested(made, before, device, "Unisolate")

    async def check(self) -> list[Check]:
        """Read-only: address, certificate, credentials, permissions, clock. Raises nothing of ``errors``."""
        try:
            token = await self._api.log_in()
        except IntegrationError as error:
            return [Check(name=f"{VENDOR}: login", ok=False, detail=str(error))]
        checks = [Check(name=f"{VENDOR}: login", ok=True, detail="token granted")]
        name = f"{VENDOR}: Machine.Read.All"
        try:
            answer = await self._api.first_page(MACHINES_PATH)
            await self._api.first_page(ACTIONS_PATH)
        except IntegrationError as error:
            checks.append(Check(name=name, ok=False, detail=str(error)))
        else:
            checks += [Check(name=name, ok=True, detail="machines and their actions can be read"), clock_check(answer)]
        return [*checks, _isolate_check(token)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()

    async def _named(self, name: str) -> list[dict[str, Any]]:
        """The machines that may be that host, each once: one comes several times, with an address each."""
        short = name.partition(".")[0]
        forms = dict.fromkeys((name, name.lower(), short, short.lower()))
        rows: list[dict[str, Any]] = []
        for form in forms:
            rows += await self._api.listed(MACHINES_PATH, f"computerDnsName eq {_literal(form)}")
        # Which domain a short name is in is not known. Where no function is taken in a filter, the full names are all.
        for form in forms if short == name else ():
            with suppress(Rejected):
                rows += await self._api.listed(MACHINES_PATH, f"startswith(computerDnsName,{_literal(f'{form}.')})")
        return list({_machine_id(row): row for row in rows}.values())

    async def _still(self, device: DeviceRef) -> None:
        """Make sure that the machine is still the one that was decided about."""
        rows = await self._api.listed(MACHINES_PATH, f"id eq {_literal(_usable(device.id))}")
        now = next((row for row in rows if row.get("id") == device.id), None)
        if now is None:
            raise NotFound(f"{VENDOR} has no machine {device.id} any more")
        if not _same_host(_host_name(device.hostname), now):
            other = quoted(now.get("computerDnsName")) or "nameless"
            raise Ambiguous(f"machine {device.id} is {other} now and was {quoted(device.hostname)}; not touched")

    async def _isolation(self, machine_id: str) -> _Isolation:
        rows = await self._api.listed(ACTIONS_PATH, f"machineId eq {_literal(machine_id)}")
        ours = [row for row in rows if str(row.get("machineId") or "").lower() == machine_id.lower()]
        return _Isolation(tuple(filter(None, map(_action, ours))))

    async def _cancel(self, action: _Action, device: DeviceRef) -> None:
        """Cancel; one that has come to its end meanwhile cannot be, and the next read shows it."""
        if not _ID.fullmatch(action.id):
            raise BadAnswer(f"{VENDOR} lists an action whose id is {quoted(action.id)!r}")
        try:
            await self._api.record("POST", f"{ACTIONS_PATH}/{action.id}/cancel", json={"Comment": _comment(device)})
        except (Rejected, NotFound, ActionInProgress):
            return


def _adopted(isolation: _Isolation, device: DeviceRef) -> Written | None:
    """What to tell if nothing has to be asked for; ``None`` if it has. Raises NotYet while it cannot be known."""
    status = isolation.status
    if status == ISOLATED:
        return Written(changed=False, before={"status": status}, detail="was isolated already")
    if status == RELEASING:
        raise NotYet(f"somebody is releasing {device.hostname} at this moment")
    if status == ISOLATING:
        if all(action.selective for action in isolation.pending):
            raise NotYet(f"a selective isolation of {device.hostname} is on its way")
        return Written(changed=False, before={"status": status}, detail="was already asked for")
    return None


def _requested(made: Mapping[str, Any], before: _Isolation, device: DeviceRef, kind: str) -> Written:
    """What to tell of an action that Defender has just made, if it is the one that was asked for."""
    machine, made_kind = made.get("machineId"), made.get("type")
    if str(machine or "").lower() != device.id.lower() or str(made_kind or "").lower() != kind.lower():
        raise BadAnswer(f"{VENDOR} answered with another action than the {kind} that was asked for")
    detail = f"{kind} requested, action {quoted(made.get('id')) or 'without an id'}"
    return Written(changed=True, before={"status": before.status}, detail=detail)


def _action(row: Mapping[str, Any]) -> _Action | None:
    kind = str(row.get("type") or "").lower()
    if kind not in ("isolate", "unisolate"):
        return None
    code = row.get("errorHResult")
    return _Action(
        id=str(row.get("id") or ""),
        isolates=kind == "isolate",
        selective=str(row.get("scope") or "").lower() == "selective",
        status=str(row.get("status") or "unknown"),
        created=_time(row.get("creationDateTimeUtc")),
        updated=_time(row.get("lastUpdateDateTimeUtc")),
        error=f" (error {code})" if isinstance(code, int) and code else "",
    )


def _literal(text: str) -> str:
    """An OData string; the only character with a meaning in it is the quote, and it is doubled."""
    return "'" + text.replace("'", "''") + "'"


def _host_name(text: str) -> str:
    """The host name that ``text`` is: printable, without blanks, and not just an address."""
    name = text.strip().removesuffix(".")
    if not 0 < len(name) <= 253 or not name.isprintable() or " " in name or not name.strip("0123456789._-:"):
        raise NotFound(f"{quoted(text)!r} is not a host name; {VENDOR} was not asked")
    return name


def _usable(machine_id: str) -> str:
    if not _ID.fullmatch(machine_id):
        raise NotFound(f"{quoted(machine_id)!r} is not the id of a {VENDOR} machine")
    return machine_id


def _machine_id(row: Mapping[str, Any]) -> str:
    identity = row.get("id")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise BadAnswer(f"{VENDOR} lists a machine without a usable id")
    return identity


def _same_host(name: str, machine: Mapping[str, Any]) -> bool:
    ours, theirs = name.lower(), str(machine.get("computerDnsName") or "").lower().removesuffix(".")
    if "." in ours and "." in theirs:
        return ours == theirs
    return bool(theirs) and ours.partition(".")[0] == theirs.partition(".")[0]


def _onboarded(machine: Mapping[str, Any]) -> bool:
    """A machine that was only seen on the network has no agent. Not every answer tells it."""
    return str(machine.get("onboardingStatus") or "Onboarded").lower() == "onboarded"


def _kind(machine: Mapping[str, Any]) -> str | None:
    """By the platform. Defender's agent for Linux is made for servers; domain controllers are not told apart."""
    platform = quoted(machine.get("osPlatform"))
    if any(word in platform.lower() for word in _SERVERS):
        return "Server"
    return "Workstation" if _WORKSTATIONS.fullmatch(platform) else platform or None


def _listed(machines: list[dict[str, Any]]) -> str:
    """A few candidates, the one that was seen last first."""
    ordered = sorted(machines, key=lambda machine: str(machine.get("lastSeen") or ""), reverse=True)
    words = [
        f"{_machine_id(m)} ({quoted(m.get('healthStatus')) or 'health not told'}, last seen "
        f"{quoted(m.get('lastSeen')) or 'never'})"
        for m in ordered[:NAMED]
    ]
    return ", ".join(words) + (f" and {len(machines) - NAMED} more" if len(machines) > NAMED else "")


def _time(value: object) -> datetime | None:
    """A time with up to nine digits of a second's fraction; more than six are cut. Without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _comment(device: DeviceRef) -> str:
    return quoted(device.comment)[:MAX_COMMENT] or "Holdpoint"


def _isolate_check(token: str) -> Check:
    """By the roles in the token, where it can be read; it is Microsoft's and promises nothing."""
    name = f"{VENDOR}: Machine.Isolate"
    try:
        part = token.split(".")[1]
        roles = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["roles"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError, binascii.Error):
        detail = "not checked: it shows only when a host is isolated; the application must have this permission"
        return Check(name=name, ok=True, detail=detail)
    granted = isinstance(roles, list) and "Machine.Isolate" in roles
    return Check(name=name, ok=granted, detail="granted" if granted else "the application lacks this permission")
