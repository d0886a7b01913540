"""CrowdSec's local API (LAPI), below any one of its calls: both ways to log in, decisions, and what its errors mean.

Shapes as in CrowdSec's description of the local API (``localapi_swagger.yaml``) and as version 1.4.6 answers: a
bouncer's key reads decisions, a machine's token of an hour writes alerts; ``null`` is an empty list; nearly every
failure is a 500 whose ``message`` has to be read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from integrations.errors import BadAnswer, Misconfigured, NotFound, Refused, Rejected
from integrations.http import TOTAL_SECONDS, Answer, VendorHttp, quoted

VENDOR = "CrowdSec"

SCENARIO = "holdpoint/quarantine"
"""By this, and the origin, Holdpoint's own decisions are known again."""

ORIGIN = "cscli"
"""CrowdSec's word for what was decided by hand. With a word that it does not know, ``cscli decisions list`` leaves the
ban out; and an instance that is connected to the vendor's central service reports it there as it does with a custom
scenario's, while what was decided by hand is reported only where that was asked for."""

USER_AGENT = "holdpoint/1"
"""A login whose user agent is not ``name/version`` is answered as a wrong password would be."""

Address = IPv4Address | IPv6Address

_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]+")
_FRACTION = re.compile(r"\.[0-9]+(?=s)")
_WRONG = ("validation failure", "invalid ", "unable to parse")
_ABSENT = ("doesn't exist", "not found")


@dataclass(frozen=True)
class Ban:
    """A decision that bans an address and is not over. ``exact`` says that it names this one and no others beside."""

    id: str
    origin: str
    scenario: str
    value: str
    exact: bool
    left: str

    @property
    def ours(self) -> bool:
        """Whether Holdpoint decided it."""
        return self.exact and (self.origin, self.scenario) == (ORIGIN, SCENARIO)

    @property
    def words(self) -> str:
        """Whose it is, for people."""
        left = f", for another {self.left}" if self.left else ""
        if self.ours:
            return f"Holdpoint{left}"
        wide = "" if self.exact else f" of {quoted(self.value)}"
        return f"{quoted(self.origin) or 'nobody named'} ({quoted(self.scenario) or 'no reason told'}){wide}{left}"


class CrowdSecApi:
    """Calls with a bouncer's key, or with a machine's token that is kept while it lasts.

    Args:
        url: the local API, without ``/v1``.
        machine: the machine that may write alerts.
        password: its password.
        bouncer_key: what reads decisions. It has to be Holdpoint's own: what a firewall's bouncer gets told depends on
            when its key was used last.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.

    Raises:
        Misconfigured: the address or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        url: str,
        machine: str,
        password: str,
        bouncer_key: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._http = VendorHttp(VENDOR, url, ca_file=ca_file, total_seconds=total_seconds)
        self._login = {"machine_id": machine, "password": password, "scenarios": list[str]()}
        self._password = password
        self._key = bouncer_key
        self._one_login = asyncio.Lock()
        self._token: str | None = None

    async def bans(self, ip: Address) -> list[Ban]:
        """The bans that cover an address, whoever decided them.

        Raises:
            Misconfigured: the bouncer's key is not accepted. Unreachable, Busy, BadAnswer, Rejected: see there.
        """
        return _bans(await self.asked(ip), ip)

    async def asked(self, ip: Address) -> Answer:
        """The answer that holds them, for the doctor. Raises what ``bans`` raises."""
        answer = await self._http.send(
            "GET", "/v1/decisions", params={"ip": str(ip)}, headers=self._headers({"X-Api-Key": self._key})
        )
        if answer.status in (401, 403):
            raise Misconfigured(f"{VENDOR} answered {answer.status}: it does not accept the bouncer_key")
        self._raise_for_error(answer)
        _rows(answer)
        return answer

    async def ban(self, ip: Address, length: timedelta, words: str) -> None:
        """Decide a ban of that length, whatever is there already: the API takes the same one twice.

        Raises:
            Refused: the machine lacks the right. Misconfigured: the login is not accepted.
            Unreachable, Busy, BadAnswer, Rejected: see there.
        """
        answer = await self._as_machine("POST", "/v1/alerts", json=[_alert(ip, length, words)])
        if not isinstance(answer.json(), list):
            raise BadAnswer(f"{VENDOR} answered {answer.status} to the ban without a list of alerts")

    async def delete(self, decision_id: str) -> None:
        """End one decision; one that is not there any more is fine. Raises what ``ban`` raises."""
        try:
            answer = await self._as_machine("DELETE", f"/v1/decisions/{decision_id}")
        except NotFound:
            return
        answer.json_object()

    async def log_in(self) -> str:
        """Get a new token, whether the old one still lasts or not.

        Raises:
            Misconfigured: machine or password is not accepted. Unreachable, Busy, BadAnswer, Rejected: see there.
        """
        answer = await self._http.send("POST", "/v1/watchers/login", json=self._login, headers=self._headers({}))
        if answer.status in (401, 403):
            said = self._said(answer)
            words = f" ({said})" if said else ""
            raise Misconfigured(f"{VENDOR} answered {answer.status} to the login: check machine and password{words}")
        self._raise_for_error(answer)
        token = answer.json_object().get("token")
        if not isinstance(token, str) or not _BEARER.fullmatch(token):
            raise BadAnswer(f"{VENDOR} answered {answer.status} to the login without a usable token")
        self._token = token
        return token

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _as_machine(self, method: str, path: str, *, json: Any = None) -> Answer:
        """One call, repeated once with a new token if the answer is 401: then nothing has happened yet."""
        token = await self._bearer()
        answer = await self._send(method, path, token, json)
        if answer.status == 401:
            answer = await self._send(method, path, await self._bearer(worn=token), json)
        self._raise_for_error(answer)
        return answer

    async def _send(self, method: str, path: str, token: str, json: Any) -> Answer:
        headers = self._headers({"Authorization": f"Bearer {token}"})
        return await self._http.send(method, path, json=json, headers=headers)

    async def _bearer(self, *, worn: str | None = None) -> str:
        """A token other than ``worn``. Calls that find the same one worn share one login."""
        async with self._one_login:
            if self._token is None or self._token == worn:
                return await self.log_in()
            return self._token

    @staticmethod
    def _headers(more: Mapping[str, str]) -> dict[str, str]:
        return {"Accept": "application/json", "User-Agent": USER_AGENT, **more}

    def _said(self, answer: Answer) -> str:
        """The API's own words about a failure."""
        try:
            message = answer.json_object().get("message")
        except BadAnswer:
            return ""
        return quoted(message, secrets=(self._password, self._key, self._token or ""))

    def _raise_for_error(self, answer: Answer) -> None:
        """What a failure means: the one place where that is decided."""
        if answer.status < 300:
            return
        said = self._said(answer)
        if answer.status == 404 and not said:
            raise Misconfigured(f"{VENDOR} has nothing there: is url the address of its local API?")
        if answer.status in (404, 500) and any(word in said for word in _ABSENT):
            raise NotFound(f"{VENDOR} answered {answer.status} ({said})")
        if answer.status == 500 and any(word in said for word in _WRONG):
            raise Rejected(f"{VENDOR} answered 500 and means that the request is wrong ({said})")
        if answer.status == 403:
            raise Refused(f"{VENDOR} answered 403: the machine may not do this from here ({said or 'no reason told'})")
        answer.raise_for_status(words=said)


def _alert(ip: Address, length: timedelta, words: str) -> dict[str, Any]:
    """All that the API demands of an alert; most of it describes how an agent's scenario overflowed."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"scope": "Ip", "value": str(ip)}
    duration = f"{max(1, int(length.total_seconds()))}s"
    decision = {**about, "type": "ban", "duration": duration, "origin": ORIGIN, "scenario": SCENARIO}
    return {
        "scenario": SCENARIO,
        "scenario_hash": "",
        "scenario_version": "",
        "message": words,
        "events_count": 1,
        "events": [],
        "start_at": now,
        "stop_at": now,
        "capacity": 0,
        "leakspeed": "0",
        "simulated": False,
        "source": {**about, "ip": str(ip)},
        "decisions": [{**decision, "simulated": False}],
    }


def _rows(answer: Answer) -> list[dict[str, Any]]:
    rows = answer.json()
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswer(f"{VENDOR} answered {answer.status} without a list of decisions")
    return rows


def _bans(answer: Answer, ip: Address) -> list[Ban]:
    """The ones that cover the address by their own words; a filter that was not understood is no proof."""
    return [ban for row in _rows(answer) if (ban := _ban(row, ip))]


def _ban(row: Mapping[str, Any], ip: Address) -> Ban | None:
    identity, origin, scenario, kind, scope, value, duration = (
        str(row.get(key) or "") for key in ("id", "origin", "scenario", "type", "scope", "value", "duration")
    )
    if kind.lower() != "ban" or scope.lower() not in ("ip", "range") or row.get("simulated") is True:
        return None
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None
    if ip not in network or duration.startswith("-"):
        return None
    left = quoted(_FRACTION.sub("", duration))
    return Ban(identity, origin, scenario, str(network), exact=network.num_addresses == 1, left=left)
