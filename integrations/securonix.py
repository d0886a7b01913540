"""Securonix SNYPR / Next-Gen SIEM: whose host, whose account, how risky, what else, and a comment on its incident.

Rests on the web services below ``/Snypr/ws``: ``token``, ``spotter/index/search`` and ``incident``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from incident.evidence import Corroboration, Fact, Host, Located, Risk
from incident.polling import SiemIncident, SiemIncidents
from incident.requests import FindCorroboration, LocateHost, ScoreRisk
from integrations import securonix_evidence as evidence
from integrations import securonix_incidents, spotter
from integrations.errors import BadAnswer, IntegrationError, Misconfigured, NotFound, Rejected
from integrations.http import clock_check, quoted
from integrations.interfaces import Check
from integrations.securonix_people import bare_account, distinct_hosts, distinct_people
from integrations.securonix_search import PATH, Found, Search, all_of, found_all, side_by_side, together
from integrations.securonix_session import SEARCH_SECONDS, VENDOR, Session
from integrations.securonix_shapes import Row, json_object, page_of, said_true, trimmed

LOOK_BACK = timedelta(hours=24)
LOOK_AHEAD = timedelta(minutes=15)
BUSY_LOOK_BACK = timedelta(hours=1)
MOST_NAMED = 5
MOST_SIGHTINGS = 10
LONGEST_COMMENT = 2000
LONGEST_ENCODED = 6000
"""A comment travels in the address of the request, which servers take up to some 8 KiB."""

_INCIDENT = re.compile(r"[\w.-]{1,64}", re.ASCII)


class Securonix:
    """Satisfies ``integrations.interfaces.Siem`` and ``IncidentSource``.

    Args:
        url: the host, ``…/Snypr`` or ``…/Snypr/ws``.
        username: an account with the right to use web services.
        password: its password; it travels in a header of the login only.
        tenant: the tenant of a multi-tenant system; told at the login, and rows that name another are left out.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.
        transport: for tests.
        clock: the present time in UTC.

    Raises:
        Misconfigured: ``url`` or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        tenant: str | None = None,
        ca_file: Path | None = None,
        total_seconds: float = SEARCH_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session = Session(
            url, username, password, tenant=tenant, ca_file=ca_file, total_seconds=total_seconds, transport=transport
        )
        self._search = Search(self._session)
        self._tenant = tenant
        self._clock = clock

    async def locate(self, request: LocateHost) -> Located:
        """The host behind an address and the person active on it, in the day before ``request.at``.

        Raises:
            Rejected: ``request.ip`` is no address. Else the errors of ``Session.call``.
        """
        ip = _address(request.ip)
        assets, activity = await side_by_side(
            self._search.rows("asset", spotter.equals("key_ip", ip)),
            self._activity_at(ip, request.at),
        )
        if isinstance(assets, IntegrationError) and not assets.retryable:
            # Many systems have no asset feed, so that it is refused says nothing.
            assets = Found((), complete=True)
        assets, activity = found_all([assets, activity])
        rows = evidence.newest_first(self._own(activity.rows))
        recorded = [name for row in self._own(assets.rows) for name in evidence.asset_hosts(row, ip)]
        seen = [name for row in rows for name in evidence.activity_hosts(row, ip)]
        people = [name for row in rows for name in evidence.activity_people(row, ip)]
        whole = activity.complete
        return Located(host=self._host(ip, recorded, seen, whole=whole), account=self._account(ip, people, whole=whole))

    async def risk(self, request: ScoreRisk) -> Risk:
        """The highest of the user's risk documents and of the number in the user's record, sandbox left out.

        Raises:
            NotFound: Securonix knows no such user. Ambiguous: several people fit.
            Rejected: the request names nobody. Else the errors of ``Session.call``.
        """
        ids, mails, accounts = _spellings(request.employee_id), _mails(request.mails), _accounts(request.account)
        users = [*_equal("employeeid", ids), *_equal("workemail", mails), *_equal("lanid", accounts)]
        documents = [
            *_equal("employeeid", ids),
            *_equal("workemail", mails),
            *_equal("entityid", [*ids, *accounts]),
        ]
        if not users:
            raise Rejected(f"{VENDOR}: no user to score")
        found, scored = found_all(
            await side_by_side(
                all_of(*(self._search.rows("users", term) for term in users)),
                self._documents(documents),
            )
        )
        records = evidence.user_record(request, self._own(found.rows))
        # Their id as it is spelled there, with whatever an import left in front of it.
        more = [t for t in _equal("employeeid", [r.user("employeeid") for r in records]) if t not in documents]
        scored = together([scored, await self._documents(more)])
        if not scored.complete:
            raise BadAnswer(f"{VENDOR} has more risk documents of the user than can be read")
        return evidence.score(request, records, self._own(scored.rows))

    async def corroboration(self, request: FindCorroboration) -> Corroboration:
        """Violations, and events that meet the configured condition, about host or user since ``request.since``.

        What was found is told although another of the searches failed; that nothing was found, only if all went well.

        Raises:
            Misconfigured: ``request.event_condition`` is no condition. Rejected: ``request.ip`` is no address.
            Else the errors of ``Session.call``.
        """
        ip = _address(request.ip)
        asked = request.model_copy(update={"ip": ip})
        hosts, accounts = _host_forms(request.host), _accounts(request.account)
        terms = [*_equal("ipaddress", [ip]), *_equal("resourcehostname", hosts), *_equal("accountname", accounts)]
        filters = [(term, _condition(request.event_condition)) for term in terms] if request.event_condition else []
        terms += [*_equal("employeeid", _spellings(request.employee_id)), *_equal("workemail", _mails(request.mails))]
        since = request.since
        until = max(self._clock(), request.starting_alert.occurred_at) + LOOK_AHEAD
        results = await side_by_side(
            *(self._search.between("violation", term, start=since, end=until) for term in terms),
            *(self._search.between("activity", *pair, start=since, end=until) for pair in filters),
        )
        violations = together(r for r in results[: len(terms)] if isinstance(r, Found))
        activity = together(r for r in results[len(terms) :] if isinstance(r, Found))
        alerts, starting = evidence.further_alerts(asked, self._own(violations.rows))
        known = starting | {alert.event_id for alert in alerts if alert.event_id}
        events = evidence.further_events(asked, self._own(activity.rows), known)
        seen = [*alerts, *events]
        # An event alone is told only when all violations are known: it may be the one behind the starting alert.
        if not alerts:
            found_all(results[: len(terms)] if events else results)
            if not violations.complete or not (events or activity.complete):
                raise BadAnswer(f"{VENDOR} has more rows than can be read, so that nothing else was seen is not sure")
        sightings = sorted((s.sighting for s in seen), key=lambda s: (s.at is not None, s.at), reverse=True)
        return Corroboration(total=len(seen), sightings=tuple(sightings[:MOST_SIGHTINGS]))

    async def comment(self, incident_id: str, text: str, marker: str) -> bool:
        """Comment the incident unless its activity stream holds ``marker`` already; tells whether it was written.

        Raises:
            Rejected: Securonix does not take the comment. NotFound: there is no such service.
            BadAnswer: it failed, and may have taken it. Else the errors of ``Session.call``.
        """
        if not _INCIDENT.fullmatch(incident_id):
            raise Rejected(f"{VENDOR}: {quoted(incident_id)} is no incident id")
        if await self._is_commented(incident_id, marker):
            return False
        params = {"actionName": "comment", "incidentId": incident_id, "comment": _fitting(text, marker)}
        answer = json_object(await self._session.call("POST", "incident/actions", params))
        messages = quoted(" ".join(map(str, _texts(answer.get("messages")))))
        error = quoted(" ".join(map(str, _texts(answer.get("error")))))
        done = said_true(answer.get("result")) or str(answer.get("status")).strip().lower() == "ok"
        if said_true(answer.get("error")):
            # As of a search that failed: it tells of the system, not of the comment, and the marker makes a retry safe.
            reason = quoted(answer.get("errorMessage")) or messages or "no reason given"
            raise BadAnswer(f"{VENDOR} could not comment the incident: {reason}")
        refused = answer.get("result") is False or str(answer.get("result")).lower() == "false"
        if error.lower() not in ("", "false", "true") or "invalid" in messages.lower():
            raise Rejected(f"{VENDOR} did not take the comment: {error or messages}")
        if refused or not done:
            raise Rejected(f"{VENDOR} did not take the comment: {messages or 'no reason given'}")
        return True

    async def incidents(self, since: datetime, until: datetime, offset: int) -> SiemIncidents:
        """One page of the incidents that were opened in a window; see ``securonix_incidents.opened``."""
        return await securonix_incidents.opened(self._session, since, until, offset, self._tenant)

    async def with_address(self, incident: SiemIncident, policies: Iterable[str]) -> SiemIncident:
        """The incident with what its violations tell of its address; see ``securonix_incidents.with_address``."""
        return await securonix_incidents.with_address(self._search, incident, policies, self._clock())

    async def check(self) -> list[Check]:
        """Sign-in, search and clock, by reads alone; what fails is told, not raised."""
        name = f"{VENDOR}: sign-in"
        checks = []
        try:
            valid = await self._session.call("GET", "token/validate")
        except NotFound:
            checks.append(Check(name=name, ok=True, detail="a token was given; this version cannot say if it is valid"))
        except IntegrationError as error:
            return [Check(name=name, ok=False, detail=str(error))]
        else:
            told = quoted(valid.text.strip().strip('"'))
            checks.append(Check(name=name, ok=told.lower() == "valid", detail=f"the token is {told.lower() or 'mute'}"))
            checks.append(clock_check(valid))
        if self._session.root.startswith("https://"):
            checks.append(Check(name=f"{VENDOR}: certificate", ok=True, detail="trusted"))
        return [*checks, await self._search_check()]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def _activity_at(self, ip: str, at: datetime) -> Found:
        """The activity at an address; where there is too much of it, that of the last hour."""
        term, end = spotter.equals("ipaddress", ip), at + LOOK_AHEAD
        for start in (at - LOOK_BACK, at - BUSY_LOOK_BACK):
            found = await self._search.between("activity", term, start=start, end=end)
            found = Found(tuple(evidence.within(found.rows, start, end)), found.complete)
            if found.complete:
                break
        return found

    async def _documents(self, terms: Iterable[str]) -> Found:
        users = spotter.equals("violator", "Users")
        return await all_of(*(self._search.rows("riskscore", users, term) for term in terms))

    async def _is_commented(self, incident_id: str, marker: str) -> bool:
        params = {"type": "activityStreamInfo", "incidentId": incident_id}
        try:
            answer = await self._session.call("GET", "incident/get", params)
        except (NotFound, Rejected):
            # An incident without a stream, or a version without the service, can still be commented.
            return False
        return any(marker in text for text in _texts(json_object(answer).get("result")))

    def _own(self, rows: Iterable[Row]) -> list[Row]:
        return evidence.of_tenant(list(rows), self._tenant)

    def _host(self, ip: str, recorded: list[str], seen: list[str], *, whole: bool) -> Fact[Host]:
        names = distinct_hosts([*seen, *recorded])
        now = self._clock()
        if not names:
            return Fact[Host].unknown(f"{VENDOR} names no host for {ip}", VENDOR, now)
        if len(names) > 1:
            return Fact[Host].unknown(f"several hosts had {ip}: {_named(names)}", VENDOR, now, _some(names))
        if not whole and not recorded:
            return Fact[Host].unknown(f"{VENDOR} has more activity at {ip} than can be read", VENDOR, now)
        return Fact[Host].of(Host(name=names[0], ip=ip), f"{VENDOR} {'activity' if seen else 'asset'}", now)

    def _account(self, ip: str, seen: list[str], *, whole: bool) -> Fact[str]:
        people = distinct_people(seen)
        now = self._clock()
        if not people:
            return Fact[str].unknown(f"{VENDOR} saw nobody at {ip}", VENDOR, now)
        if len(people) > 1:
            return Fact[str].unknown(f"several people were at {ip}: {_named(people)}", VENDOR, now, _some(people))
        if not whole:
            return Fact[str].unknown(f"{VENDOR} has more activity at {ip} than can be read", VENDOR, now)
        return Fact[str].of(people[0], f"{VENDOR} activity", now)

    async def _search_check(self) -> Check:
        name = f"{VENDOR}: search"
        try:
            answer = await self._session.call("GET", PATH, {"query": spotter.search("violation"), "max": "300"})
            rows = page_of(answer).rows
        except IntegrationError as error:
            return Check(name=name, ok=False, detail=str(error))
        tenants = {trimmed(row.text("tenantname")): row.text("tenantname") for row in rows if row.text("tenantname")}
        if self._tenant and tenants and trimmed(self._tenant) not in tenants:
            told = _named(list(tenants.values()))
            return Check(name=name, ok=False, detail=f"the settings name tenant {self._tenant}, its rows name {told}")
        return Check(name=name, ok=True, detail="violations can be searched")


def _address(text: str) -> str:
    try:
        return spotter.address(text)
    except ValueError:
        raise Rejected(f"{VENDOR}: {quoted(text)} is no IP address") from None


def _condition(text: str) -> str:
    try:
        return spotter.condition(text)
    except ValueError as error:
        raise Misconfigured(f"event_condition {error}") from None


def _equal(field: str, values: Iterable[str]) -> list[str]:
    """A term for each value; one that cannot be quoted is in no index either."""
    terms = []
    for value in values:
        try:
            terms.append(spotter.equals(field, value))
        except spotter.NotQuotable:
            continue
    return list(dict.fromkeys(terms))


def _spellings(*names: str | None) -> list[str]:
    """Each name as given, and in capital and small letters: whether ``=`` minds the case is not documented."""
    given = [name.strip() for name in names if name and name.strip()]
    return list(dict.fromkeys(form for name in given for form in (name, name.upper(), name.lower())))


def _host_forms(host: str | None) -> list[str]:
    return list(dict.fromkeys((host, host.partition(".")[0]))) if host else []


def _accounts(account: str | None) -> list[str]:
    return _spellings(account, bare_account(account)) if account else []


def _mails(mails: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(form for mail in mails for form in (mail.strip(), mail.strip().lower())))


def _named(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return quoted(", ".join(names[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def _some(names: list[str]) -> tuple[str, ...]:
    return tuple(quoted(name) for name in names[:MOST_NAMED])


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _fitting(text: str, marker: str) -> str:
    """``text`` cut to what the request's address can carry, with ``marker`` in it all the same."""
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    tail, kept = "", text
    while kept and (len(kept) + len(tail) > LONGEST_COMMENT or len(quote(kept + tail)) > LONGEST_ENCODED):
        tail = f"… {marker}"
        kept = kept[: max(0, min(len(kept) - 50, LONGEST_COMMENT - len(tail)))]
    return kept + tail
