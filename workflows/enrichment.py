"""Learning the facts of a case. A read that fails for good leaves its fact unknown, with the reason."""

from __future__ import annotations

import asyncio
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
    from workflows import steps
    from workflows.case import Case


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

    async def risk(self) -> Fact[Risk]:
        """The user's risk score; unknown while the user is."""
        user = self._case.record.user
        if user.value is None:
            return Fact[Risk].unknown(f"the user is not known: {user.reason}", at=self._case.now)
        request = ScoreRisk(account=user.value.account, employee_id=user.value.employee_id, mails=user.value.mails)
        return await steps.fact_or_reason(steps.score_risk(request, self._case.policy.enrich_within))

    async def corroboration(self) -> Fact[Corroboration]:
        """Further alerts and events about the host or the user, by whatever of their names is known."""
        record, policy = self._case.record, self._case.policy
        alert, host, user = record.alert, record.host.value, record.user.value
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


def _short(name: str) -> str:
    return name.strip().partition(".")[0].casefold()


def _no_person(account: Fact[str]) -> Fact[Person]:
    return Fact[Person].unknown(account.reason or "no account", source=account.source, at=account.at)


def _told(fact: Fact[Any]) -> str:
    if fact.value is None:
        return f"unknown: {fact.reason}"
    name = fact.value.account if isinstance(fact.value, Person) else fact.value.name
    return f"{name} by {fact.source}"
