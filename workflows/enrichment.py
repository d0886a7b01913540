"""Learning the facts of a case. A read that fails for good leaves its fact unknown, with the reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.evidence import Corroboration, Fact, Host, Located, Person, Risk
    from incident.requests import (
        FindCorroboration,
        FindDevice,
        FindPerson,
        LocateHost,
        ScoreRisk,
        StartingAlert,
    )
    from incident.triage import ActionName
    from workflows import steps
    from workflows.case import Case


@dataclass(frozen=True)
class Targets:
    """Whom and what a case is about, as a look just now found it."""

    host: Fact[Host]
    user: Fact[Person]
    device: Fact[Any]


class Enrichment:
    """What is known about a case's host and user. Reads that do not depend on each other run side by side."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._device: asyncio.Task[None] | None = None

    async def look_up(self) -> None:
        """Learn the host and the user, the ones already known excepted. The endpoint agent is looked up beside."""
        record, alert = self._case.record, self._case.record.alert
        if record.host.known and record.user.known:
            return
        locating = asyncio.create_task(self._locate())
        self._device = asyncio.create_task(self._find_device(locating))
        if alert.user_account:
            user, _ = await asyncio.gather(self._find_person(alert.user_account), asyncio.shield(locating))
        else:
            account = (await asyncio.shield(locating)).account
            user = await self._find_person(account.value) if account.value else _no_person(account)
        if not record.user.known:
            record.user = user
        self._case.publish()

    async def device_known(self) -> None:
        """Wait until the endpoint agent was looked up."""
        if self._device is not None:
            await asyncio.shield(self._device)

    async def refresh_device(self) -> None:
        """Look the endpoint agent up again: hours may lie between the question and the answer."""
        record = self._case.record
        if record.host.value:
            record.device = await self._agent_of(record.host.value)
            self._case.publish()

    async def targets(self, actions: tuple[ActionName, ...]) -> Targets:
        """Read again what these actions are about, and change nothing. A read that fails does not unlearn anything.

        What the other action is about stays as it is: it may be under way.
        """
        record, alert = self._case.record, self._case.record.alert
        request = LocateHost(ip=alert.destination_ip, at=alert.occurred_at)
        located: Located | None
        try:
            located = await steps.locate_host(request, self._case.policy.enrich_within)
        except ActivityError:
            located = None
        reads_host, reads_user = ActionName.QUARANTINE_HOST in actions, ActionName.DISABLE_ACCOUNT in actions
        host = self._host_again(record.host, located) if reads_host else record.host
        reading = asyncio.create_task(self._device_again(host, record.device)) if reads_host else None
        user = await self._user_again(record.user, located) if reads_user else record.user
        return Targets(host=host, user=user, device=await reading if reading else record.device)

    def take(self, found: Targets) -> None:
        """Take in what ``targets`` found."""
        record = self._case.record
        if not same_host(record.host, found.host):
            self._case.note(f"host: {_told(found.host)}", source=found.host.source or "siem")
        if not same_person(record.user, found.user):
            self._case.note(f"user: {_told(found.user)}", source=found.user.source or "directory")
        record.host, record.user, record.device = found.host, found.user, found.device

    async def risk(self, of: Fact[Person] | None = None) -> Fact[Risk]:
        """The user's risk score; unknown while the user is."""
        user = of or self._case.record.user
        if user.value is None:
            return Fact[Risk].unknown(f"the user is not known: {user.reason}", at=self._case.now)
        request = ScoreRisk(account=user.value.account, employee_id=user.value.employee_id, mails=user.value.mails)
        return await steps.fact_or_reason(steps.score_risk(request, self._case.policy.enrich_within))

    async def corroboration(
        self, about: Fact[Host] | None = None, of: Fact[Person] | None = None
    ) -> Fact[Corroboration]:
        """Further alerts and events about the host or the user, by whatever of their names is known."""
        record, policy = self._case.record, self._case.policy
        alert, host, user = record.alert, (about or record.host).value, (of or record.user).value
        request = FindCorroboration(
            starting_alert=StartingAlert(
                event_ids=alert.event_ids,
                rule=alert.rule,
                destination_ip=alert.destination_ip,
                occurred_at=alert.occurred_at,
            ),
            ip=alert.destination_ip,
            host=host.name if host else None,
            account=user.account if user else None,
            employee_id=user.employee_id if user else None,
            mails=user.mails if user else (),
            since=alert.occurred_at - policy.lookback,
            event_condition=policy.event_condition,
        )
        return await steps.fact_or_reason(steps.find_corroboration(request, policy.enrich_within))

    async def _locate(self) -> Located:
        case, alert = self._case, self._case.record.alert
        request = LocateHost(ip=alert.destination_ip, at=alert.occurred_at)
        try:
            located = await steps.locate_host(request, case.policy.enrich_within)
        except ActivityError as error:
            why = steps.reason_of(error)
            located = Located(host=Fact[Host].unknown(why, at=case.now), account=Fact[str].unknown(why, at=case.now))
        if not case.record.host.known:
            case.record.host = _by_the_alert(located.host, case)
        case.note(f"host: {_told(case.record.host)}", source=case.record.host.source or "siem")
        case.publish()
        return located

    async def _find_person(self, name: str) -> Fact[Person]:
        request = FindPerson(name=name)
        user = await steps.fact_or_reason(steps.find_person(request, self._case.policy.enrich_within))
        self._case.note(f"user: {_told(user)}", source=user.source or "directory")
        return user

    async def _find_device(self, locating: asyncio.Task[Located]) -> None:
        await asyncio.shield(locating)
        host = self._case.record.host
        self._case.record.device = (
            await self._agent_of(host.value)
            if host.value
            else Fact[Any].unknown(f"the host is not known: {host.reason}", at=self._case.now)
        )
        self._case.publish()

    def _host_again(self, known: Fact[Host], located: Located | None) -> Fact[Host]:
        if located is None:
            return known
        found = _by_the_alert(located.host, self._case)
        if not known.known or (found.value is None and found.candidates):
            return found
        if found.value is None:
            return known
        return found.model_copy(update={"value": known.value}) if same_host(known, found) else found

    async def _device_again(self, host: Fact[Host], known: Fact[Any]) -> Fact[Any]:
        if host.value is None:
            return Fact[Any].unknown(f"the host is not known: {host.reason}", at=self._case.now)
        found = await self._agent_of(host.value)
        other = not same_host(self._case.record.host, host)
        return found if found.known or other or found.source or not known.known else known

    async def _user_again(self, known: Fact[Person], located: Located | None) -> Fact[Person]:
        """The alert's word goes before the SIEM's; of two candidates the SIEM names none, whoever it named before."""
        named = self._case.record.alert.user_account
        if not named and located and located.account.value is None and located.account.candidates:
            return _no_person(located.account)
        name = named or (located.account.value if located else None) or (known.value.account if known.value else None)
        if not name:
            return _no_person(located.account) if located else known
        request = FindPerson(name=name)
        found = await steps.fact_or_reason(steps.find_person(request, self._case.policy.enrich_within))
        return found if found.known or found.source or not known.known else known

    async def _agent_of(self, host: Host) -> Fact[Any]:
        request = FindDevice(hostname=host.name, ip=host.ip)
        return await steps.fact_or_reason(steps.find_device(request, self._case.policy.enrich_within))


def _by_the_alert(found: Fact[Host], case: Case) -> Fact[Host]:
    """The SIEM's word on the host, held against the name in the alert: two different names are no name."""
    alert = case.record.alert
    if not alert.destination_host:
        return found
    if found.value is None:
        if found.candidates:
            return found
        host = Host(name=alert.destination_host, ip=alert.destination_ip)
        return Fact[Host].of(host, "alert", case.now)
    if _short(found.value.name) != _short(alert.destination_host):
        return Fact[Host].unknown(
            f"two candidates: the alert names {alert.destination_host}, {found.source} names {found.value.name}",
            at=case.now,
            candidates=(alert.destination_host, found.value.name),
        )
    return found


def same_host(one: Fact[Host], other: Fact[Host]) -> bool:
    """Whether two facts name one host, with or without its domain; unknown is only the same as unknown."""
    if one.value is None or other.value is None:
        return one.value is other.value
    mine, theirs = one.value.name.casefold(), other.value.name.casefold()
    without_domain = "." not in mine or "." not in theirs
    named = _short(mine) == _short(theirs) if without_domain else mine == theirs
    return named and one.value.ip == other.value.ip


def same_person(one: Fact[Person], other: Fact[Person]) -> bool:
    """Whether two facts name one account; unknown is only the same as unknown."""
    if one.value is None or other.value is None:
        return one.value is other.value
    mine, theirs = one.value, other.value
    if mine.guid and theirs.guid:
        return mine.guid.casefold() == theirs.guid.casefold()
    return mine.account.casefold() == theirs.account.casefold() and mine.dn.casefold() == theirs.dn.casefold()


def _short(name: str) -> str:
    return name.strip().partition(".")[0].casefold()


def _no_person(account: Fact[str]) -> Fact[Person]:
    return Fact[Person].unknown(account.reason or "no account", source=account.source, at=account.at)


def _told(fact: Fact[Any]) -> str:
    if fact.value is None:
        return f"unknown: {fact.reason}"
    name = fact.value.account if isinstance(fact.value, Person) else fact.value.name
    return f"{name} by {fact.source}"
