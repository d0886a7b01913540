"""What Securonix's rows prove: the host behind an address and who used it, a person's risk, and further sightings.

Each row is believed only where its own fields name the address, host or person that was asked for. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from incident.evidence import Risk, Sighting
from incident.requests import FindCorroboration, ScoreRisk, StartingAlert
from integrations.errors import Ambiguous, BadAnswer, NotFound
from integrations.http import quoted
from integrations.securonix_people import account_name, host_name, is_nobody, same_host
from integrations.securonix_shapes import Element, Row, Span, elements, in_sandbox, number, said_true, trimmed
from integrations.spotter import same_address

RESTING_SCORE = 0.01
"""What Securonix gives a user of whom nothing is known."""

STARTING_ALERT_WITHIN = timedelta(minutes=10)
SAME_MOMENT = timedelta(seconds=1)
EVENT_TIMES = ("datetime", "eventtime", "receivedtime", "collectiontimestamp", "jobstarttime")
VIOLATION_TIMES = ("datetime", "eventtime", "generationtime", "receivedtime", "jobstarttime")

_ADDRESSES = ("ipaddress", "sourceaddress", "destinationaddress")
_HOST_FIELD = re.compile(r"key_.*host(?!.*(?:id|ip|address|date|time|type|status|count|os)$).*")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def of_tenant(rows: Sequence[Row], tenant: str | None) -> list[Row]:
    """The rows of ``tenant``, where they name several: private addresses repeat from tenant to tenant.

    Rows that all name one tenant are kept whatever it is called, since the name in the settings may be another.
    """
    named = {trimmed(row.text("tenantname")) for row in rows} - {""}
    if tenant is None or len(named) < 2:
        return list(rows)
    return [row for row in rows if trimmed(row.text("tenantname")) in ("", trimmed(tenant))]


def newest_first(rows: Iterable[Row]) -> list[Row]:
    """Activity by its time; rows without one come last."""

    def latest(row: Row) -> datetime:
        span = row.when(*EVENT_TIMES)
        return span.latest if span else _LONG_AGO

    return sorted(rows, key=latest, reverse=True)


def within(rows: Iterable[Row], start: datetime, end: datetime) -> list[Row]:
    """The activity that may have been between the two; for a row without a readable time the search's word holds."""
    spans = ((row, row.when(*EVENT_TIMES)) for row in rows)
    return [row for row, span in spans if span is None or _touches(span, start, end)]


def asset_hosts(row: Row, ip: str) -> Iterator[str]:
    """The host names of an asset record that carries the address."""
    listed = re.split(r"[,;\s]+", row.text("key_ip", "key_ipaddress", "ipaddress"))
    if not any(same_address(part, ip) for part in listed):
        return
    columns = (value for name, value in sorted(row.fields.items()) if _HOST_FIELD.fullmatch(name))
    names = [name for value in columns if (name := host_name(value))]
    # Some feeds name the asset by an inventory number: its name counts only where no column holds a host.
    entity = host_name(row.text("entityname"))
    yield from names or ([entity] if entity else [])


def activity_hosts(row: Row, ip: str) -> Iterator[str]:
    """The host names that an event gives to the address. Never ``resourcename``, which is the data source's."""
    for where, what in (
        ("ipaddress", "resourcehostname"),
        ("sourceaddress", "sourcehostname"),
        ("destinationaddress", "destinationhostname"),
        ("deviceaddress", "devicehostname"),
    ):
        name = host_name(row.text(what))
        if name and same_address(row.text(where), ip):
            yield name


def activity_people(row: Row, ip: str) -> Iterator[str]:
    """The people's accounts that an event shows at the address."""
    mine = same_address(row.text("ipaddress"), ip)
    one_sided = mine and not row.text("sourceaddress") and not row.text("destinationaddress")
    for here, what in (
        (mine, "accountname"),
        (one_sided or same_address(row.text("sourceaddress"), ip), "sourceusername"),
        (same_address(row.text("destinationaddress"), ip), "destinationusername"),
    ):
        account = row.text(what)
        if here and account and not is_nobody(account):
            yield account


def user_record(asked: ScoreRisk, rows: Sequence[Row]) -> list[Row]:
    """The records of the one person, usually one; none when Securonix has none.

    Raises:
        Ambiguous: active records of several people fit.
    """
    fitting = [row for row in rows if _is_record_of(asked, row)]
    # Records of leavers stay beside the new ones; where there are only such, the account is used by one.
    fitting = [row for row in fitting if not _is_deleted(row)] or fitting
    ids = {trimmed(row.user("employeeid")) for row in fitting} - {""}
    if len(ids) < 2:
        return fitting
    mails = {trimmed(mail) for mail in asked.mails}
    wanted = trimmed(asked.employee_id or "")
    chosen = [
        row
        for row in fitting
        if wanted
        and trimmed(row.user("employeeid")) == wanted
        and (not mails or not row.user("workemail") or trimmed(row.user("workemail")) in mails)
    ]
    if not chosen:
        raise Ambiguous(f"Securonix has active records of {len(ids)} people that fit: {quoted(', '.join(sorted(ids)))}")
    return chosen


def _is_record_of(asked: ScoreRisk, row: Row) -> bool:
    if asked.employee_id and trimmed(row.user("employeeid")) == trimmed(asked.employee_id):
        return True
    if row.user("workemail") and trimmed(row.user("workemail")) in {trimmed(mail) for mail in asked.mails}:
        return True
    if not asked.account:
        return False
    logins = [row.user(name) for name in ("lanid", "networkid", "accountname") if row.user(name)]
    # The flat shape shows no login; then the record that was found by it is the only evidence.
    unseen = not logins and not asked.employee_id and not asked.mails
    return unseen or account_name(asked.account) in map(account_name, logins)


def _is_deleted(row: Row) -> bool:
    return trimmed(row.user("status")) in {"0", "inactive", "deleted", "disabled", "terminated", "false"}


def score(asked: ScoreRisk, records: Sequence[Row], documents: Sequence[Row]) -> Risk:
    """The person's risk: the highest of the documents and of the record's own number, policies in sandbox left out.

    How Securonix folds several documents into the one number that it shows is not documented.

    Raises:
        NotFound: Securonix knows no such person.
        Ambiguous: the documents are of several people.
        BadAnswer: no score can be read where there should be one.
    """
    mine = [row for row in documents if _is_document_of(asked, records, row)]
    if not records and not mine:
        raise NotFound("Securonix knows no such user")
    ids = {trimmed(row.user("employeeid")) for row in mine} - {""}
    if len(ids) > 1:
        raise Ambiguous(f"Securonix has risk documents of {len(ids)} people that fit: {quoted(', '.join(sorted(ids)))}")
    counting = [row for row in {row.fingerprint: row for row in mine}.values() if not _only_sandbox(row)]
    scores = [value for row in counting if (value := _document_score(row)) is not None]
    if counting and not scores:
        raise BadAnswer("Securonix gave risk documents without a readable score")
    own = (number(row.text("userriskscore", "u_riskscore", "u_userriskscore", "riskscore")) for row in records)
    scores += [value for value in own if value is not None]
    return Risk(score=max([RESTING_SCORE, *scores]), documents=len(counting))


def _is_document_of(asked: ScoreRisk, records: Sequence[Row], row: Row) -> bool:
    if trimmed(row.text("violator")) not in ("", "users"):
        return False
    ids = {trimmed(record.user("employeeid")) for record in records} - {""} or {trimmed(asked.employee_id or "")} - {""}
    employee = trimmed(row.user("employeeid"))
    if employee and ids:
        return employee in ids
    mails = {trimmed(mail) for mail in asked.mails}
    accounts = {account_name(asked.account or "")} - {""}
    internal = {trimmed(record.user("userid")) for record in records} - {"", "-1"}
    entity = trimmed(row.text("entityid"))
    return (
        trimmed(row.user("workemail")) in mails
        or account_name(row.user("lanid")) in accounts
        or entity in ids | mails | internal
        or account_name(entity) in accounts
    )


def _named_sandbox(row: Row) -> bool:
    return any(in_sandbox(row.text(name)) for name in ("policyname", "category", "riskthreatname"))


def _parts(row: Row) -> list[Element]:
    """The elements behind a document; none when its XML is broken.

    Then the document counts with its own number, unless its own names say sandbox: bad XML must not hide a risk.
    """
    try:
        return [part for name in ("policies", "threatmodels", "categories") for part in elements(row.text(name))]
    except ValueError:
        return []


def _only_sandbox(row: Row) -> bool:
    parts = _parts(row)
    return _named_sandbox(row) or (bool(parts) and all(part.sandbox for part in parts))


def _document_score(row: Row) -> float | None:
    parts = _parts(row)
    real = [part.score for part in parts if not part.sandbox and part.score is not None]
    if real and any(part.sandbox for part in parts):
        return max(real)
    return number(row.text("riskscore"))


@dataclass(frozen=True)
class Seen:
    """A sighting and the row's event id, by which an event and its violation are one."""

    sighting: Sighting
    event_id: str


def further_alerts(asked: FindCorroboration, rows: Iterable[Row]) -> tuple[list[Seen], set[str]]:
    """The violations that corroborate, and the event ids of those that are the starting alert itself."""
    found: dict[tuple[object, ...], Seen] = {}
    starting = set(asked.starting_alert.event_ids)
    for row in rows:
        about = _about(asked, row)
        if about is None or _named_sandbox(row) or said_true(row.text("issandbox", "sandboxpolicy")):
            continue
        if _may_be_starting(asked.starting_alert, row):
            starting.add(row.text("eventid"))
            continue
        if _is_older(row, asked.since, *VIOLATION_TIMES):
            continue
        name = row.text("policyname", "riskthreatname", "category") or "policy violation"
        key = (row.text("eventid"), trimmed(name)) if row.text("eventid") else row.fingerprint
        found.setdefault(key, _seen("alert", row, name, about, VIOLATION_TIMES))
    return list(found.values()), starting - {""}


def further_events(asked: FindCorroboration, rows: Iterable[Row], known: set[str]) -> list[Seen]:
    """The activity that corroborates: not the events in ``known``, which are counted or excluded already."""
    found: dict[object, Seen] = {}
    alert = asked.starting_alert
    for row in rows:
        about = _about(asked, row)
        if about is None or row.text("eventid") in known or _is_older(row, asked.since, *EVENT_TIMES):
            continue
        # Without event ids, the transfer that raised the alert is recognised by its place and time alone.
        if (
            not alert.event_ids
            and _at_address(row, alert.destination_ip) is not False
            and _near(row, alert, SAME_MOMENT)
        ):
            continue
        name = row.text("transactionstring1", "categorybehavior", "message") or "suspicious activity"
        found.setdefault(row.text("eventid") or row.fingerprint, _seen("event", row, name, about, EVENT_TIMES))
    return list(found.values())


def _seen(kind: str, row: Row, name: str, about: str, times: Sequence[str]) -> Seen:
    span = row.when(*times)
    at = span.latest if span and span.earliest == span.latest else None
    event_id = row.text("eventid")
    return Seen(Sighting(kind=kind, id=event_id or None, name=quoted(name), about=quoted(about), at=at), event_id)


def _about(asked: FindCorroboration, row: Row) -> str | None:
    """What the row concerns by its own fields: the host, the user or the address that was asked for."""
    if asked.account:
        wanted = account_name(asked.account)
        for account in (row.text("accountname"), row.text("sourceusername"), row.user("lanid")):
            if account and account_name(account) == wanted:
                return account
    if asked.employee_id and trimmed(row.user("employeeid")) == trimmed(asked.employee_id):
        return row.user("employeeid")
    if row.user("workemail") and trimmed(row.user("workemail")) in {trimmed(mail) for mail in asked.mails}:
        return row.user("workemail")
    if asked.host:
        for host in (row.text("resourcehostname"), row.text("sourcehostname"), row.text("destinationhostname")):
            if same_host(host, asked.host):
                return host
    return asked.ip if _at_address(row, asked.ip) else None


def _at_address(row: Row, ip: str) -> bool | None:
    """Whether the row names the address; ``None`` when it names none at all."""
    named = [row.text(name) for name in _ADDRESSES if row.text(name)]
    return any(same_address(text, ip) for text in named) if named else None


def _may_be_starting(alert: StartingAlert, row: Row) -> bool:
    """Whether the violation is the alert that started the case, or cannot be told apart from it."""
    if alert.event_ids and row.text("eventid"):
        return row.text("eventid") in alert.event_ids
    if alert.rule is not None and trimmed(row.text("policyname")) != trimmed(alert.rule):
        return False
    return _at_address(row, alert.destination_ip) is not False and _near(row, alert, STARTING_ALERT_WITHIN)


def _near(row: Row, alert: StartingAlert, distance: timedelta) -> bool:
    """Whether the row may be that close to the alert; one without a readable time may."""
    span = row.when(*VIOLATION_TIMES)
    return span is None or _touches(span, alert.occurred_at - distance, alert.occurred_at + distance)


def _touches(span: Span, start: datetime, end: datetime) -> bool:
    return span.latest >= start and span.earliest <= end


def _is_older(row: Row, since: datetime, *names: str) -> bool:
    """Whether everything that the row tells about its time lies before ``since``."""
    spans = [span for name in names if (span := row.when(name))]
    return bool(spans) and all(span.latest < since for span in spans)
