"""JSON told apart by its marks, and every format's fields as our alert's."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.body import Reader, TooMany, WrongType
from bridge.formats.lines import MAX_LINE
from bridge.formats.mapping import MAX_EVIDENCE
from bridge.formats.refusal import FormatRefused
from bridge.intake import places_of
from incident.alert import Alert
from incident.triage import Priority
from settings_bridge import BridgeSettings

OURS = {"id": "SNX-1", "destination_ip": "10.20.30.40", "occurred_at": "2026-03-14T12:34:56Z"}
THEN = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
MILLIS = 1773491696000

INCIDENT: dict[str, Any] = {
    "incidentId": "200417",
    "incidentStatus": "Open",
    "incidentType": "Policy",
    "priority": "High",
    "riskscore": 7.5,
    "violatorText": "10.20.30.40",
    "violatorId": "10.20.30.40",
    "entity": "Activityip",
    "reason": [
        "Resource: HR-PROXY-01",
        "PolicyType: DIRECTIVE",
        {"Policies": ["Large data transfer"]},
        "Threat Model: Egress",
    ],
    "casecreatetime": MILLIS + 60_000,
    "caseEventStartTime": MILLIS - 60_000,
    "caseEventEndTime": MILLIS,
    "lastUpdateDate": MILLIS + 90_000,
    "tenantInfo": {"tenantid": 3, "tenantname": "acme"},
    "statusCompleted": False,
    "sandBoxPolicy": False,
}
VIOLATION: dict[str, Any] = {
    "eventid": "11111111-2222-4333-8444-555555555555",
    "policyname": "Large data transfer",
    "ipaddress": "10.20.30.40",
    "sourceaddress": "198.51.100.2",
    "sourcehostname": "web01",
    "accountname": "JDOE",
    "datetime": str(MILLIS),
    "generationtime": "03/14/2026 07:34:56",
    "filesize": "734003200",
    "id": "-1",
    "userid": "-1",
    "tenantname": "acme",
    "violator": "Activityip",
}
FINDING: dict[str, Any] = {
    "class_uid": 2004,
    "category_uid": 2,
    "activity_id": 1,
    "severity_id": 4,
    "status_id": 1,
    "time": MILLIS,
    "metadata": {"version": "1.5.0", "product": {"name": "Guard"}, "uid": "event-1"},
    "finding_info": {"uid": "finding-1", "title": "Large transfer", "analytic": {"name": "Rule 7"}},
    "evidences": [
        {
            "src_endpoint": {"ip": "198.51.100.2", "hostname": "web01"},
            "dst_endpoint": {"ip": "10.20.30.40", "hostname": "HR-LT-0042"},
            "actor": {"user": {"name": "svc-web"}},
        }
    ],
}
CEF = "CEF:0|Acme|Guard|4.1|1001|Large transfer|8|src=198.51.100.2 dst=10.20.30.40 shost=web01"
CEF += f" dhost=HR-LT-0042 duser=jdoe suser=svc-web in=12 out=734003200 rt={MILLIS} externalId=4711"
LEEF = "LEEF:2.0|Acme|Guard|4.1|1001|^|src=198.51.100.2^dst=10.20.30.40^usrName=jdoe^sev=5^srcBytes=734003200"
LEEF += "^devTime=2026-14-03 12:34:56 +0000^devTimeFormat=yyyy-dd-MM HH:mm:ss Z"


def reader(most: int = 500, **mapping: Any) -> Reader:
    return Reader(places_of(BridgeSettings.model_validate({"mapping": mapping})), "acme", most)


def read(body: Any, kind: str = "application/json", **mapping: Any) -> list[Alert | str]:
    text = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return reader(**mapping).read(kind, text)


def one(body: Any, kind: str = "application/json", **mapping: Any) -> Alert:
    (alert,) = read(body, kind, **mapping)
    assert isinstance(alert, Alert), alert
    return alert


def fault(body: Any, kind: str = "application/json", **mapping: Any) -> str:
    (told,) = read(body, kind, **mapping)
    assert isinstance(told, str), told
    return told


def test_an_alert_of_ours_is_taken_as_it_stands() -> None:
    alert = one({**OURS, "severity": "High", "colour": "red"})
    assert (alert.id, alert.destination_ip, alert.occurred_at) == ("SNX-1", "10.20.30.40", THEN)
    assert (alert.severity, alert.tenant) == (Priority.HIGH, "acme")
    assert alert.model_extra == {"colour": "red"}


def test_a_securonix_incident() -> None:
    alert = one(INCIDENT)
    assert (alert.id, alert.siem_incident_id) == ("SNX-200417", "200417")
    assert (alert.destination_ip, alert.occurred_at, alert.tenant) == ("10.20.30.40", THEN, "acme")
    assert (alert.rule, alert.severity, alert.user_account) == ("Large data transfer", Priority.HIGH, None)
    assert alert.model_extra == {"evidence": {"format": "securonix", "fields": INCIDENT}}


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        (["Policy: Large: transfer"], "Large: transfer"),
        ([{"Policies": {"stage1": {"s1": ["Large transfer"]}}}, "Policy: Large transfer"], "Large transfer"),
        ([{"Policies": {"stage1": {"s1": ["one", "two"]}}}], None),
        (["Threat Model: Egress", "PolicyType: DIRECTIVE"], None),
        ("Policy: alone", "alone"),
        (None, None),
    ],
)
def test_the_rule_of_an_incident_is_its_one_policy(reason: Any, rule: str | None) -> None:
    assert one({**INCIDENT, "reason": reason}).rule == rule


@pytest.mark.parametrize("priority", ["low", "Low", "Medium", "HIGH", "Critical", "None", "custom", None])
def test_a_priority_that_is_not_known_is_medium(priority: str | None) -> None:
    expected = {"custom": "medium", None: "medium", "None": "low"}.get(priority, str(priority).lower())
    assert one({**INCIDENT, "priority": priority}).severity.value == expected


def test_an_incident_about_a_person_names_no_address() -> None:
    told = fault({**INCIDENT, "entity": "Users", "violatorText": "Jane Roe", "violatorSubText": "4711"})
    assert told == "destination_ip: is missing; looked at destinationaddress, derived.violator_ip, ipaddress"


@pytest.mark.parametrize("entity", ["Resources", "Users", "", None, 7])
def test_only_an_address_that_is_the_violator_is_taken_for_one(entity: Any) -> None:
    assert fault({**INCIDENT, "entity": entity}).startswith("destination_ip: is missing")
    assert one({**INCIDENT, "entity": "ActivityIP"}).destination_ip == "10.20.30.40"


@pytest.mark.parametrize(
    ("key", "value"), [("statusCompleted", True), ("statusCompleted", "true"), ("sandBoxPolicy", True)]
)
def test_an_incident_that_is_over_starts_nothing(key: str, value: object) -> None:
    assert fault({**INCIDENT, key: value}).startswith(f"{key}: ")


def test_a_securonix_violation() -> None:
    alert = one(VIOLATION)
    assert (alert.id, alert.event_ids) == (VIOLATION["eventid"], (VIOLATION["eventid"],))
    assert (alert.destination_ip, alert.source_ip, alert.source_host) == ("10.20.30.40", "198.51.100.2", "web01")
    assert (alert.occurred_at, alert.rule, alert.bytes_transferred) == (THEN, "Large data transfer", 734003200)
    assert (alert.user_account, alert.siem_incident_id) == (None, None)


def test_a_violation_in_the_older_shape_and_with_its_own_zone() -> None:
    pairs = [{"key": key, "value": value} for key, value in VIOLATION.items() if key != "datetime"]
    folded = {"hour": "0", "tenantid": "1", "tenantname": "outer", "result": {"entry": pairs}}
    alert = one(folded, securonix={"zone": "America/Chicago"})
    assert (alert.occurred_at, alert.destination_ip, alert.tenant) == (THEN, "10.20.30.40", "acme")
    assert "has no time zone" in fault(folded)


def test_where_the_data_went_goes_before_whose_address_it_is_about() -> None:
    assert one({**VIOLATION, "destinationaddress": "10.20.30.99"}).destination_ip == "10.20.30.99"


@pytest.mark.parametrize("class_uid", [2004, "2004", 2006])
def test_an_ocsf_finding(class_uid: Any) -> None:
    alert = one({**FINDING, "class_uid": class_uid})
    assert (alert.id, alert.destination_ip, alert.destination_host) == ("finding-1", "10.20.30.40", "HR-LT-0042")
    assert (alert.source_ip, alert.source_host, alert.occurred_at) == ("198.51.100.2", "web01", THEN)
    assert (alert.severity, alert.rule, alert.user_account) == (Priority.HIGH, None, None)


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        (0, "medium"),
        (1, "low"),
        (2, "low"),
        (3, "medium"),
        (4, "high"),
        (5, "critical"),
        (6, "critical"),
        (99, "medium"),
    ],
)
def test_ocsf_severities(severity: int, told: str) -> None:
    assert one({**FINDING, "severity_id": severity}).severity.value == told
    assert one({**FINDING, "severity_id": 99, "severity": "Critical"}).severity is Priority.CRITICAL


def test_two_destinations_are_none() -> None:
    other = copy.deepcopy(FINDING)
    other["evidences"].append({"dst_endpoint": {"ip": "10.20.30.41"}})
    assert fault(other) == "destination_ip: two candidates: '10.20.30.40', '10.20.30.41'"
    assert one({**other, "dst_endpoint": {"ip": "10.20.30.40"}}).destination_ip == "10.20.30.40"


def test_two_of_what_can_be_missing_are_left_out_and_told() -> None:
    other = copy.deepcopy(FINDING)
    other["evidences"].append({"src_endpoint": {"ip": "198.51.100.3"}, "dst_endpoint": {"ip": "10.20.30.40"}})
    other["evidences"][0]["dst_endpoint"]["hostname"] = ""
    alert = one(other)
    assert (alert.source_ip, alert.destination_host) == (None, None)
    assert (alert.model_extra or {})["evidence"]["unclear"] == [
        "source_ip: two candidates: '198.51.100.2', '198.51.100.3'"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"class_uid": 2005}, "class_uid"),
        ({"class_uid": None}, "class_uid"),
        ({"activity_id": 3}, "activity_id"),
        ({"status_id": 4}, "status_id"),
        ({"status_id": "3"}, "status_id"),
        ({"finding_info": {}, "metadata": {}}, "id: is missing"),
        ({"time": "soon"}, "occurred_at: "),
        ({"time": None}, "occurred_at: is missing"),
    ],
)
def test_findings_that_start_nothing(change: dict[str, Any], told: str) -> None:
    assert fault({**FINDING, **change}).startswith(told)


def test_a_cef_line() -> None:
    alert = one(CEF, "text/plain")
    assert (alert.id, alert.destination_ip, alert.destination_host) == ("Guard-4711", "10.20.30.40", "HR-LT-0042")
    assert (alert.source_ip, alert.source_host, alert.user_account) == ("198.51.100.2", "web01", "jdoe")
    assert (alert.occurred_at, alert.severity, alert.bytes_transferred) == (THEN, Priority.HIGH, 734003200)
    assert (alert.siem_incident_id, alert.event_ids, alert.rule) == (None, (), None)


def test_a_leef_line_with_its_own_format_of_time() -> None:
    alert = one(LEEF, "text/plain")
    assert (alert.destination_ip, alert.source_ip, alert.user_account) == ("10.20.30.40", "198.51.100.2", "jdoe")
    assert (alert.occurred_at, alert.severity, alert.bytes_transferred) == (THEN, Priority.MEDIUM, 734003200)
    assert alert.id.startswith("LEEF-")
    assert one("<13>Jan 18 11:07:53 host " + LEEF, "text/plain").id == alert.id


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        *((str(number), "low") for number in range(4)),
        *((str(number), "medium") for number in range(4, 7)),
        *((str(number), "high") for number in range(7, 9)),
        *((str(number), "critical") for number in range(9, 11)),
        ("Low", "low"),
        ("Very-High", "critical"),
        ("Unknown", "medium"),
        ("11", "medium"),
        ("", "medium"),
        ("8.0", "high"),
    ],
)
def test_severities_out_of_ten_and_in_words(severity: str, told: str) -> None:
    assert one(CEF.replace("|8|", f"|{severity}|"), "text/plain").severity.value == told


def test_the_places_are_settings() -> None:
    mapping = {
        "id": ["labels.Case Number", "externalId"],
        "user_account": ["duser2", "suser"],
        "rule": ["header.name"],
        "tenant": ["T-{header.vendor}-{header.signature_id}"],
        "source_host": [],
    }
    line = CEF + " cs1Label=Case Number cs1=C-17"
    alert = one(line, "text/plain", cef=mapping)
    assert (alert.id, alert.user_account, alert.rule, alert.tenant) == (
        "C-17",
        "svc-web",
        "Large transfer",
        "T-Acme-1001",
    )
    assert (alert.source_host, alert.destination_host) == (None, "HR-LT-0042")


@pytest.mark.parametrize("place", ["", "{", "}", "a{b", "{}", "a}b"])
def test_a_place_that_is_none_is_refused_by_the_settings(place: str) -> None:
    with pytest.raises(ValueError, match=r"mapping\.cef\.id"):
        BridgeSettings.model_validate({"mapping": {"cef": {"id": [place]}}})


def test_what_cannot_be_missing_and_is_bad_is_a_fault() -> None:
    assert "'web01' is not an IP address" in fault(CEF.replace("dst=10.20.30.40", "dst=web01"), "text/plain")
    assert fault(CEF.replace(f"rt={MILLIS}", "rt=Mar 14 2026 12:34:56"), "text/plain").startswith(
        "occurred_at: 'Mar 14"
    )
    assert fault({**VIOLATION, "tenantname": "Acme Corp"}).startswith("tenant: ")


def test_what_can_be_missing_and_is_bad_is_left_out() -> None:
    alert = one(CEF.replace("src=198.51.100.2", "src=web01").replace("out=734003200", "out=much"), "text/plain")
    assert (alert.source_ip, alert.bytes_transferred) == (None, 12)


def test_evidence_that_is_long_is_left_out() -> None:
    alert = one(CEF + " msg=" + "x" * MAX_EVIDENCE, "text/plain")
    assert (alert.model_extra or {})["evidence"] == {"format": "cef", "omitted": "16 KiB"}


@pytest.mark.parametrize(
    "body",
    [
        [OURS, INCIDENT],
        {"alerts": [OURS, INCIDENT]},
        {"status": "OK", "result": {"data": {"totalIncidents": 2.0, "incidentItems": [OURS, INCIDENT]}}},
        {"totalDocuments": 2, "events": [OURS, INCIDENT]},
    ],
)
def test_bodies_that_hold_several(body: Any) -> None:
    assert [alert.id for alert in read(body) if isinstance(alert, Alert)] == ["SNX-1", "SNX-200417"]


@pytest.mark.parametrize("alert", [OURS, INCIDENT, FINDING])
def test_an_alert_with_a_list_of_its_own_is_one_alert(alert: dict[str, Any]) -> None:
    assert one({**alert, "events": [1, 2], "alerts": []}).id


def test_a_mixed_body_is_read_alert_by_alert() -> None:
    told = read([OURS, 7, INCIDENT, None, {"id": "x"}, [], VIOLATION, FINDING])
    kinds = ["alert" if isinstance(alert, Alert) else alert for alert in told]
    nothing = "the alert is not a JSON object"
    missing = "destination_ip: is missing; occurred_at: is missing"
    assert kinds == ["alert", nothing, "alert", nothing, missing, nothing, "alert", "alert"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "a key stands twice in one object"),
        ('{"x": {"a": 1, "a": 1}}', "a key stands twice in one object"),
        ('{"x": NaN}', "NaN is no number that JSON has"),
        ('{"x": [-Infinity]}', "-Infinity is no number that JSON has"),
        ('{"x": 1e999}', "1e999 is no number that JSON has"),
        ('{"x": ' + "9" * 5000 + "}", "9" * 40 + " is no number that JSON has"),
        ('{"x": ' + "[" * 40 + "1" + "]" * 40 + "}", "it is nested more than 32 deep"),
    ],
)
def test_what_two_readers_could_read_differently_costs_one_alert(text: str, told: str) -> None:
    first, second = read(f"[{text}, {json.dumps(OURS)}]")
    assert first == told
    assert isinstance(second, Alert)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 200_000, "nested more than 32 deep"),
    ],
)
def test_what_is_no_json_at_all_is_refused_whole(body: bytes, told: str) -> None:
    with pytest.raises(FormatRefused, match=told):
        read(body)


def test_lines_are_read_one_by_one() -> None:
    body = "\r\n".join(["", CEF, "nonsense", "   ", LEEF, "CEF:0|" + "x" * MAX_LINE, ""])
    kinds = ["alert" if isinstance(alert, Alert) else alert for alert in read(body, "application/x-cef; charset=UTF-8")]
    assert kinds == ["alert", "the line is neither CEF nor LEEF", "alert", "the line is longer than 64 KiB"]


def test_ndjson_is_read_line_by_line() -> None:
    long = json.dumps({**OURS, "note": "x" * MAX_LINE})
    body = "\n".join([json.dumps(OURS), "{", long, json.dumps(FINDING), ""])
    first, second, third, fourth = read(body, "application/x-ndjson")
    assert isinstance(first, Alert)
    assert str(second).startswith("it is not JSON")
    assert third == "the line is longer than 64 KiB"
    assert isinstance(fourth, Alert)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", json.dumps([OURS] * 3)), ("application/x-ndjson", "{}\n{}\n{}"), ("text/plain", "a\nb\n\nc")],
)
def test_more_than_there_may_be(kind: str, body: str) -> None:
    with pytest.raises(TooMany):
        reader(2).read(kind, body.encode())
    assert len(reader(3).read(kind, body.encode())) == 3


@pytest.mark.parametrize(
    "kind", ["", "text/html", "application/xml", "text/plain; charset=latin-1", "application/jsonx"]
)
def test_types_that_are_not_taken(kind: str) -> None:
    with pytest.raises(WrongType):
        read(OURS, kind)


KEYS = (
    *("reason", "entity", "violatorText", "tenantInfo", "time", "evidences", "finding_info", "result", "class_uid"),
    *("incidentId", "datetime", "destination_ip", "severity_id", "priority", "dst_endpoint", "derived", "id", "alerts"),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


@given(
    base=st.sampled_from([INCIDENT, VIOLATION, FINDING, OURS, {}]),
    key=st.sampled_from(KEYS),
    value=VALUES,
)
def test_whatever_a_field_holds_the_alert_is_read_or_refused(base: dict[str, Any], key: str, value: Any) -> None:
    text = json.dumps({**base, key: value})
    for told in read(text):
        assert isinstance(told, Alert | str)


@given(st.text(max_size=60))
def test_text_stays_text(text: str) -> None:
    told = one({**FINDING, "dst_endpoint": {"ip": "10.20.30.40", "hostname": text}})
    expected = text.replace("\x00", "").strip()
    assert told.destination_host == (expected or "HR-LT-0042")
