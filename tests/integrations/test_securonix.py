from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from incident.evidence import Corroboration, Located
from incident.requests import FindCorroboration, LocateHost, ScoreRisk, StartingAlert
from integrations import securonix_search
from integrations.errors import Ambiguous, BadAnswer, Busy, Misconfigured, NotFound, Rejected
from integrations.securonix import Securonix
from lab.securonix import SecuronixLab
from lab.serving import Served

IP = "10.20.30.40"
RULE = "Large data transfer from web server"
AT = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
NOW = AT + timedelta(hours=2)
JANE = ScoreRisk(account="jroe", employee_id="4711", mails=("Jane.Roe@acme.example",))
MAIL = "jane.roe@acme.example"


class Stage:
    """One server for all tests of this file; each test puts its own stand-in behind it."""

    lab: SecuronixLab

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.lab.app(scope, receive, send)


@pytest_asyncio.fixture(scope="module")
async def stage() -> AsyncIterator[tuple[Stage, Served]]:
    stage = Stage()
    async with Served(stage) as server:
        yield stage, server


@pytest.fixture
def served(stage: tuple[Stage, Served]) -> Served:
    return stage[1]


@pytest.fixture
def lab(stage: tuple[Stage, Served]) -> SecuronixLab:
    stage[0].lab = SecuronixLab(clock=lambda: NOW)
    return stage[0].lab


@pytest_asyncio.fixture
async def siem(lab: SecuronixLab, served: Served) -> AsyncIterator[Securonix]:
    client = Securonix(served.url, lab.username, lab.password, clock=lambda: NOW)
    yield client
    await client.aclose()


async def located(siem: Securonix) -> Located:
    return await siem.locate(LocateHost(ip=IP, at=AT))


def asked(**changes: object) -> FindCorroboration:
    alert = StartingAlert(rule=RULE, destination_ip=IP, occurred_at=AT)
    known: dict[str, object] = {
        "starting_alert": alert,
        "ip": IP,
        "host": "HR-LT-0042",
        "account": "jroe",
        "employee_id": "4711",
        "mails": (MAIL,),
        "since": AT - timedelta(days=7),
    }
    return FindCorroboration.model_validate({**known, **changes})


def names(found: Corroboration) -> list[str]:
    return [sighting.name for sighting in found.sightings]


# Whose host, whose account.


@pytest.mark.parametrize("zone", ["UTC", "CST6CDT", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("honoured", [True, False])
async def test_the_host_and_person_are_found_in_any_zone(
    siem: Securonix, lab: SecuronixLab, zone: str, *, honoured: bool
) -> None:
    lab.application_tz, lab.quirks.honours_tz = zone, honoured
    lab.add_host(IP, "HR-LT-0042", "JROE", at=AT - timedelta(hours=23))
    lab.add_host(IP, "EARLIER-HOST", "EARLIER", at=AT - timedelta(hours=25))
    lab.add_host(IP, "LATER-HOST", "LATER", at=AT + timedelta(minutes=16))
    lab.add_host("10.20.30.41", "OTHER-HOST", "OTHER", at=AT)
    found = await located(siem)
    assert found.host.value is not None
    assert found.host.value.name == "HR-LT-0042"
    assert found.host.source == "Securonix activity"
    assert found.account.value == "JROE"


async def test_the_data_source_is_not_the_host(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_activity(IP, at=AT, resourcename="EDGE-FW-01", resourcehostname=IP, devicehostname="COLLECTOR")
    found = await located(siem)
    assert not found.host.known
    assert not found.account.known


async def test_each_side_of_an_event_names_its_own_host(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_activity(
        IP,
        at=AT,
        sourceaddress="198.51.100.2",
        sourcehostname="web01",
        sourceusername="www-data",
        destinationaddress=IP,
        destinationhostname="hr-lt-0042.corp.acme.example",
        destinationusername="ACME\\jroe",
        devicehostname="fw01",
        deviceaddress="10.0.0.1",
    )
    found = await located(siem)
    assert found.host.value is not None
    assert found.host.value.name == "hr-lt-0042.corp.acme.example"
    assert found.account.value == "ACME\\jroe"


async def test_the_asset_record_names_the_host(siem: Securonix, lab: SecuronixLab) -> None:
    lab.quirks.single_as_object = True
    lab.add_asset(IP, "HR-LT-0042", key_host_id="77", key_last_host_scan_date="2026-01-01")
    lab.add_asset("10.20.30.4", "OTHER-HOST")
    lab.asset[0]["entityname"] = "SCANNER|77_77"
    found = await located(siem)
    assert found.host.value is not None
    assert found.host.value.name == "HR-LT-0042"
    assert found.host.source == "Securonix asset"


@pytest.mark.parametrize(("one", "other"), [("HR-LT-0042", "HR-LT-0043"), ("pc1.a.example", "PC1.b.example")])
async def test_two_hosts_are_no_host(siem: Securonix, lab: SecuronixLab, one: str, other: str) -> None:
    lab.add_asset(IP, one)
    lab.add_host(IP, other, at=AT)
    found = await located(siem)
    assert not found.host.known
    assert set(found.host.candidates) == {one, other}
    assert one in str(found.host.reason)


async def test_a_short_and_a_full_name_are_one_host(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_host(IP, "HR-LT-0042", at=AT)
    lab.add_host(IP, "hr-lt-0042.corp.acme.example", at=AT - timedelta(hours=1))
    found = await located(siem)
    assert found.host.value is not None
    assert found.host.value.name == "hr-lt-0042.corp.acme.example"


NOBODIES = ("HR-LT-0042$", "SYSTEM", "NT AUTHORITY\\SYSTEM", "Local Service", "NETWORK SERVICE", "ANONYMOUS LOGON")


@pytest.mark.parametrize("nobody", [*NOBODIES, "Window Manager\\DWM-2", "UMFD-0", "-", "-1", "ACME\\HR-LT-0042$"])
async def test_machines_and_the_system_are_not_people(siem: Securonix, lab: SecuronixLab, nobody: str) -> None:
    lab.add_host(IP, "HR-LT-0042", nobody, at=AT)
    assert not (await located(siem)).account.known
    lab.add_host(IP, "HR-LT-0042", "jroe", at=AT - timedelta(hours=1))
    assert (await located(siem)).account.value == "jroe"


async def test_the_newest_spelling_of_one_person_is_kept(siem: Securonix, lab: SecuronixLab) -> None:
    for hours, account in enumerate(("ACME\\JRoe", "jroe@acme.example", "JROE")):
        lab.add_host(IP, "HR-LT-0042", account, at=AT - timedelta(hours=hours))
    assert (await located(siem)).account.value == "ACME\\JRoe"


@pytest.mark.parametrize(("one", "other"), [("jroe", "mbaker"), ("ACME\\jroe", "PLANT\\jroe")])
async def test_two_people_are_nobody(siem: Securonix, lab: SecuronixLab, one: str, other: str) -> None:
    lab.add_host(IP, "HR-LT-0042", one, at=AT)
    lab.add_host(IP, "HR-LT-0042", other, at=AT - timedelta(hours=1))
    found = await located(siem)
    assert found.host.known
    assert not found.account.known
    assert set(found.account.candidates) == {one, other}


async def test_rows_that_answer_another_question_are_not_believed(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("error200", match="index=", times=2, body=_canned("10.9.9.9"))
    found = await located(siem)
    assert not found.host.known
    assert not found.account.known
    lab.faults.add("error200", match="index=", times=2, body=_canned(IP))
    found = await located(siem)
    assert found.host.known
    assert found.account.known


def _canned(ip: str) -> bytes:
    """The same rows whatever the question was."""
    row = (
        f'{{"ipaddress": "{ip}", "key_ip": "{ip}", "resourcehostname": "SOME-HOST", "entityname": "SOME-HOST",'
        f' "accountname": "somebody", "policyname": "Some\\u0000thing", "datetime": "{AT.timestamp() * 1000:.0f}"}}'
    )
    return f'{{"totalDocuments": 1, "error": "false", "applicationTz": "UTC", "events": [{row}]}}'.encode()


@pytest.mark.parametrize("shape", ["flat", "old", "object"])
async def test_both_shapes_give_the_same(siem: Securonix, lab: SecuronixLab, shape: str) -> None:
    lab.quirks.old_shape = set() if shape == "flat" else {"activity", "users", "asset", "riskscore", "violation"}
    lab.quirks.single_as_object = shape == "object"
    lab.add_host(IP, "HR-LT-0042", "JROE", at=AT)
    lab.add_user("4711", MAIL, account="jroe")
    lab.add_risk("4711", MAIL, 42.5)
    lab.add_violation("Upload to paste site", IP, at=AT - timedelta(days=1))
    found = await located(siem)
    assert (found.host.value is not None, found.account.value) == (True, "JROE")
    assert (await siem.risk(JANE)).score == 42.5
    assert names(await siem.corroboration(asked())) == ["Upload to paste site"]


async def test_tenants_with_the_same_addresses_are_told_apart(lab: SecuronixLab, served: Served) -> None:
    lab.add_host(IP, "HR-LT-0042", "jroe", at=AT)
    lab.tenant = "globex"
    lab.add_host(IP, "GLOBEX-1", "mbaker", at=AT)
    clients = {
        tenant: Securonix(served.url, lab.username, lab.password, tenant=tenant) for tenant in ("ACME", "globex", None)
    }
    found = {tenant: await located(client) for tenant, client in clients.items()}
    for client in clients.values():
        await client.aclose()
    assert [f.host.value and f.host.value.name for f in found.values()] == ["HR-LT-0042", "GLOBEX-1", None]
    assert [f.account.value for f in found.values()] == ["jroe", "mbaker", None]


async def test_a_limit_on_the_window_is_kept_to(siem: Securonix, lab: SecuronixLab) -> None:
    lab.quirks.activity_hours = 24
    lab.add_host(IP, "HR-LT-0042", at=AT - timedelta(hours=23))
    assert (await located(siem)).host.known


@pytest.mark.parametrize("cursor", [True, False])
async def test_every_page_is_read(siem: Securonix, lab: SecuronixLab, *, cursor: bool) -> None:
    lab.quirks.page_size, lab.quirks.needs_cursor = 2, cursor
    for hour in range(5):
        lab.add_host(IP, "HR-LT-0042", "jroe", at=AT - timedelta(hours=hour))
    lab.add_host(IP, "HR-LT-0042", "mbaker", at=AT - timedelta(hours=6))
    assert set((await located(siem)).account.candidates) == {"jroe", "mbaker"}
    assert lab.faults.count("index=activity") == 3


async def test_where_there_is_too_much_activity_the_last_hour_is_read(
    siem: Securonix, lab: SecuronixLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(securonix_search, "MOST_ROWS", 10)
    lab.quirks.page_size = 5
    for minute in range(0, 600, 10):
        lab.add_host(IP, "HR-LT-0042", "jroe", at=AT - timedelta(minutes=minute))
    assert (await located(siem)).account.value == "jroe"
    for second in range(20):
        lab.add_host(IP, "HR-LT-0042", "jroe", at=AT - timedelta(seconds=second))
    found = await located(siem)
    assert not found.account.known
    assert "more activity" in str(found.account.reason)
    assert not found.host.known


async def test_what_an_attribute_was_earlier_does_not_count(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_asset(IP, "HR-LT-0042", **{"key_hostname|1654885125882_u": "OLD-NAME"})
    found = await located(siem)
    assert found.host.value is not None
    assert found.host.value.name == "HR-LT-0042"


async def test_a_missing_asset_feed_is_no_fault(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_host(IP, "HR-LT-0042", at=AT)
    lab.faults.add("error200", match="index=asset", body=b'{"error":"true","errorMessage":"[SYNTAX_ERROR] no index"}')
    assert (await located(siem)).host.known


async def test_what_is_no_address_is_not_searched_for(siem: Securonix, lab: SecuronixLab) -> None:
    with pytest.raises(Rejected):
        await siem.locate(LocateHost(ip='10.0.0.1" OR index=users', at=AT))
    assert lab.faults.requests == []


# How risky.


async def test_the_highest_document_is_the_score(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4711", MAIL, account="jroe", score=12.5)
    lab.add_risk("4711", MAIL, 42.5)
    lab.add_risk("4711", MAIL, 140.48)
    lab.add_risk("4712", "mbaker@acme.example", 500)
    risk = await siem.risk(JANE)
    assert (risk.score, risk.documents) == (140.48, 2)


async def test_the_record_of_the_user_may_know_more(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4711", MAIL, account="jroe", score=88)
    lab.add_risk("4711", MAIL, 42.5)
    assert (await siem.risk(JANE)).score == 88


@pytest.mark.parametrize("who", [JANE, ScoreRisk(account="ACME\\JROE"), ScoreRisk(mails=(MAIL,))])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("mark", ["", "ï»¿"])
async def test_any_name_of_the_person_will_do(
    siem: Securonix, lab: SecuronixLab, who: ScoreRisk, mark: str, *, old: bool
) -> None:
    lab.quirks.old_shape = {"users", "riskscore"} if old else set()
    lab.add_user(f"{mark}4711", MAIL, account="jroe")
    lab.add_risk(f"{mark}4711", "", 42.5)
    assert (await siem.risk(who)).score == 42.5


async def test_a_user_at_rest_is_known(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4711", MAIL, account="jroe")
    risk = await siem.risk(JANE)
    assert (risk.score, risk.documents) == (0.01, 0)


async def test_an_unknown_user_is_not_found(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4712", "mbaker@acme.example")
    lab.add_risk("4712", "mbaker@acme.example", 99)
    with pytest.raises(NotFound):
        await siem.risk(JANE)


async def test_documents_of_somebody_else_are_not_believed(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4711", MAIL, account="jroe", score=5)
    rows = (
        {"violator": "Users", "entityid": "4712", "employeeid": "4712", "workemail": MAIL, "riskscore": "99"},
        {"violator": "Activityaccount", "entityid": "jroe", "riskscore": "98"},
        {"violator": "Users", "entityid": "4799", "riskscore": "97"},
        {"violator": "Users", "entityid": "4711", "riskscore": "6"},
    )
    body = json.dumps({"totalDocuments": 4, "events": rows}).encode()
    lab.faults.add("error200", match="index=riskscore", times=99, body=body)
    risk = await siem.risk(JANE)
    assert (risk.score, risk.documents) == (6, 1)


async def test_documents_without_a_record_make_a_user_known(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_risk("4711", MAIL, 77)
    assert (await siem.risk(JANE)).score == 77


@pytest.mark.parametrize("how", ["element", "category", "policy"])
async def test_sandbox_does_not_count(siem: Securonix, lab: SecuronixLab, how: str) -> None:
    lab.add_user("4711", MAIL, account="jroe")
    lab.add_risk("4711", MAIL, 95, sandbox=how == "element", category="SANDBOX-X" if how == "category" else "X")
    if how == "policy":
        lab.riskscore[0]["policyname"] = "SANDBOX-Upload"
    risk = await siem.risk(JANE)
    assert (risk.score, risk.documents) == (0.01, 0)
    lab.add_risk("4711", MAIL, 31)
    assert (await siem.risk(JANE)).score == 31


async def test_of_a_mixed_document_the_real_part_counts(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_risk("4711", MAIL, 95)
    lab.riskscore[0]["categories"] = (
        "<categories><category><name>A</name><score>90</score><isSandBox>true</isSandBox></category>"
        "<category><name>B</name><score>33.5</score><isSandBox>false</isSandBox></category></categories>"
    )
    assert (await siem.risk(JANE)).score == 33.5


@pytest.mark.parametrize("xml", ["<categories><cat", '<!DOCTYPE x [<!ENTITY a "b">]><x><y>&a;</y></x>'])
async def test_bad_xml_does_not_hide_a_risk(siem: Securonix, lab: SecuronixLab, xml: str) -> None:
    lab.add_risk("4711", MAIL, 95)
    lab.riskscore[0]["categories"] = xml
    assert (await siem.risk(JANE)).score == 95


async def test_a_leavers_record_beside_the_new_one_is_passed_over(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("900150983cd24fb0", MAIL, account="jroe", score=99, status="0")
    lab.add_risk("900150983cd24fb0", MAIL, 99)
    lab.add_user("4711", MAIL, account="jroe", score=5)
    assert (await siem.risk(ScoreRisk(mails=(MAIL,)))).score == 5


async def test_two_people_with_one_mail_are_told_apart_by_their_id_or_not_at_all(
    siem: Securonix, lab: SecuronixLab
) -> None:
    lab.add_user("4711", MAIL, score=5)
    lab.add_user("4712", MAIL, score=80)
    assert (await siem.risk(ScoreRisk(mails=(MAIL,), employee_id="4712"))).score == 80
    with pytest.raises(Ambiguous):
        await siem.risk(ScoreRisk(mails=(MAIL,)))


async def test_an_id_of_one_person_and_the_mail_of_another_are_nobody(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4711", "mbaker@acme.example", score=80)
    lab.add_user("4799", MAIL, score=5)
    with pytest.raises(Ambiguous):
        await siem.risk(JANE)


async def test_a_score_that_cannot_be_read_is_no_score(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_risk("4711", MAIL, 95)
    lab.riskscore[0]["riskscore"] = "n/a"
    with pytest.raises(BadAnswer):
        await siem.risk(JANE)


async def test_a_score_needs_somebody(siem: Securonix) -> None:
    with pytest.raises(Rejected):
        await siem.risk(ScoreRisk())


# What else was seen.


@pytest.mark.parametrize("zone", ["UTC", "CST6CDT", "Pacific/Kiritimati"])
@pytest.mark.parametrize("honoured", [True, False])
async def test_the_starting_alert_does_not_corroborate_itself(
    siem: Securonix, lab: SecuronixLab, zone: str, *, honoured: bool
) -> None:
    lab.application_tz, lab.quirks.honours_tz = zone, honoured
    lab.add_violation(f" {RULE.upper()} ", IP, at=AT + timedelta(minutes=9), generated=AT + timedelta(minutes=40))
    assert not (await siem.corroboration(asked())).found
    lab.add_violation(RULE, IP, at=AT - timedelta(minutes=11))
    assert names(await siem.corroboration(asked())) == [RULE]
    lab.add_violation("Upload to paste site", IP, at=AT)
    found = await siem.corroboration(asked())
    assert (names(found), found.total) == (["Upload to paste site", RULE], 2)
    assert found.sightings[0].at == AT


async def test_of_the_same_policy_elsewhere_counts(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_violation(RULE, "10.20.30.77", at=AT, accountname="jroe")
    assert names(await siem.corroboration(asked())) == [RULE]


async def test_an_undated_violation_of_the_same_policy_does_not_count(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("error200", match="index=violation AND ipaddress", times=2, body=_undated(RULE))
    assert not (await siem.corroboration(asked())).found
    lab.faults.clear()
    lab.faults.add("error200", match="index=violation AND ipaddress", body=_undated("Another"))
    assert names(await siem.corroboration(asked())) == ["Another"]


def _undated(policy: str) -> bytes:
    row = f'{{"ipaddress": "{IP}", "policyname": "{policy}", "generationtime": "yesterday"}}'
    return f'{{"totalDocuments": 1, "error": false, "events": [{row}]}}'.encode()


async def test_with_event_ids_only_those_are_the_starting_alert(siem: Securonix, lab: SecuronixLab) -> None:
    first = lab.add_violation("Renamed rule", IP, at=AT)
    alert = StartingAlert(event_ids=(first,), rule=RULE, destination_ip=IP, occurred_at=AT)
    assert not (await siem.corroboration(asked(starting_alert=alert))).found
    lab.add_violation(RULE, IP, at=AT)
    assert names(await siem.corroboration(asked(starting_alert=alert))) == [RULE]


async def test_without_rule_and_ids_nothing_close_by_counts(siem: Securonix, lab: SecuronixLab) -> None:
    alert = StartingAlert(destination_ip=IP, occurred_at=AT)
    lab.add_violation("Anything", IP, at=AT)
    assert not (await siem.corroboration(asked(starting_alert=alert))).found
    lab.add_violation("Earlier", IP, at=AT - timedelta(hours=1))
    assert names(await siem.corroboration(asked(starting_alert=alert))) == ["Earlier"]


@pytest.mark.parametrize(
    "fields",
    [
        {"accountname": "ACME\\JROE", "resourcehostname": "hr-lt-0042"},
        {"accountname": "JROE"},
        {"u_employeeid": "4711"},
        {"u_workemail": MAIL},
        {"resourcehostname": "HR-LT-0042"},
    ],
)
async def test_violations_of_host_or_user_count(siem: Securonix, lab: SecuronixLab, fields: dict[str, str]) -> None:
    lab.add_violation("Upload to paste site", "10.99.0.1", at=AT - timedelta(days=2), generated=None, **fields)
    assert (await siem.corroboration(asked())).total == 1


async def test_what_concerns_somebody_else_does_not_count(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_violation("Upload", "10.99.0.1", at=AT, accountname="mbaker", resourcehostname="HR-LT-0001")
    lab.add_violation("SANDBOX-Upload", IP, at=AT)
    lab.add_violation("Upload", IP, at=AT, category="SANDBOX-ALERT")
    lab.add_violation("Upload", IP, at=AT - timedelta(days=8))
    assert not (await siem.corroboration(asked())).found
    lab.faults.add("error200", match="index=violation", times=99, body=_canned("10.9.9.9"))
    assert not (await siem.corroboration(asked())).found
    lab.faults.clear()
    lab.faults.add("error200", match="index=violation", times=99, body=_canned(IP))
    assert names(await siem.corroboration(asked())) == ["Something"]


async def test_one_violation_found_twice_is_one(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_violation("Upload", IP, at=AT, accountname="jroe", resourcehostname="HR-LT-0042", u_employeeid="4711")
    assert (await siem.corroboration(asked())).total == 1
    for day in range(12):
        lab.add_violation(f"Policy {day:02}", IP, at=AT - timedelta(hours=day, minutes=30))
    found = await siem.corroboration(asked())
    assert (found.total, len(found.sightings), names(found)[:2]) == (13, 10, ["Upload", "Policy 00"])


async def test_activity_counts_only_by_the_condition(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_activity(IP, at=AT - timedelta(hours=1), categorybehavior="Archive", bytesout="5")
    assert not (await siem.corroboration(asked())).found
    condition = 'categorybehavior = "Archive" OR categorybehavior = "Exfil"'
    found = await siem.corroboration(asked(event_condition=condition))
    assert [(s.kind, s.name) for s in found.sightings] == [("event", "Archive")]
    assert not (await siem.corroboration(asked(event_condition='bytesout > "6"'))).found


async def test_the_event_behind_the_starting_alert_does_not_count(siem: Securonix, lab: SecuronixLab) -> None:
    event = lab.add_activity(IP, at=AT - timedelta(minutes=2), message="transfer")
    lab.add_violation(RULE, IP, at=AT - timedelta(minutes=2), eventid=event)
    lab.add_activity(IP, at=AT, message="transfer")
    condition = asked(event_condition='message="transfer"')
    assert not (await siem.corroboration(condition)).found
    lab.faults.add("503", match="index=violation AND ipaddress")
    with pytest.raises(Busy):
        await siem.corroboration(condition)


@pytest.mark.parametrize("condition", ["a=1 | stats b", "a=1) OR index=users", "(a=1"])
async def test_a_bad_condition_is_a_fault_of_the_settings(siem: Securonix, condition: str) -> None:
    with pytest.raises(Misconfigured, match="event_condition"):
        await siem.corroboration(asked(event_condition=condition))


async def test_that_nothing_was_found_needs_every_row(
    siem: Securonix, lab: SecuronixLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(securonix_search, "MOST_ROWS", 4)
    lab.quirks.page_size = 2
    for _ in range(9):
        lab.add_violation("SANDBOX-Noise", IP, at=AT)
    with pytest.raises(BadAnswer, match="not sure"):
        await siem.corroboration(asked())
    lab.violation.insert(0, dict(lab.violation[0], policyname="Upload"))
    assert (await siem.corroboration(asked())).found


async def test_what_was_found_is_told_although_a_search_failed(siem: Securonix, lab: SecuronixLab) -> None:
    lab.faults.add("500", match="employeeid", times=9)
    with pytest.raises(Exception, match="500"):
        await siem.corroboration(asked())
    lab.add_violation("Upload", IP, at=AT)
    assert (await siem.corroboration(asked())).found


async def test_hostile_names_stay_names(siem: Securonix, lab: SecuronixLab) -> None:
    lab.add_user("4712", "mbaker@acme.example")
    lab.add_violation("Upload", "10.99.0.1", at=AT, accountname="mbaker")
    hostile = 'x" OR accountname="mbaker'
    found = await siem.corroboration(asked(host='*" OR index=users', account=hostile, employee_id="*", mails=("*@*",)))
    assert not found.found
    with pytest.raises(NotFound):
        await siem.risk(ScoreRisk(account=hostile, employee_id="4?12", mails=("*",)))
