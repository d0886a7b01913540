"""An alert starts a case or is refused, with one line for each thing that is wrong with it and never a traceback."""

from __future__ import annotations

import ipaddress
import json
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.alert import MAX_BYTES, MAX_DEPTH, Alert, AlertRefused, parse_alert
from tests.unit.builders import HOSTILE, fields

MINIMAL = {"id": "A-1", "destination_ip": "10.20.30.40", "occurred_at": "2026-03-14T12:34:56Z"}


def read(**changed: Any) -> Alert:
    return parse_alert({**MINIMAL, **changed})


def faults(source: Any, tenant: str | None = None) -> list[str]:
    with pytest.raises(AlertRefused) as refused:
        parse_alert(source, tenant)
    return refused.value.faults


def fault(**changed: Any) -> str:
    (line,) = faults({**MINIMAL, **changed})
    return line


def test_the_alert_of_the_contract() -> None:
    alert = parse_alert(json.dumps(fields()))
    assert alert.case_id == "sua-acme-10.20.30.40"
    assert alert.occurred_at == datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
    assert alert.severity.value == "medium"
    assert alert.bytes_transferred == 734003200
    assert alert.event_ids == ()


def test_the_three_required_fields_suffice() -> None:
    alert = read()
    assert (alert.severity.value, alert.tenant, alert.bytes_transferred) == ("medium", "default", None)


def test_every_optional_field_may_be_null() -> None:
    nulls = {key: None for key in fields() if key not in MINIMAL}
    alert = parse_alert({**MINIMAL, **nulls})
    assert alert == read()


def test_every_fault_is_told_at_once_and_by_its_key() -> None:
    told = faults(
        {
            "destination_ip": "10.20.30.400",
            "occurred_at": "2026-03-14T12:34:56",
            "severity": "urgent",
            "source_ip": "web01",
            "bytes_transferred": -1,
            "tenant": "a/b",
            "event_ids": ["1", {}],
            "rule": ["x"],
        }
    )
    keys = [line.partition(":")[0] for line in told]
    assert sorted(keys) == [
        "bytes_transferred",
        "destination_ip",
        "event_ids.1",
        "id",
        "occurred_at",
        "rule",
        "severity",
        "source_ip",
        "tenant",
    ]
    assert all("\n" not in line for line in told)


@pytest.mark.parametrize("key", MINIMAL)
@pytest.mark.parametrize("value", [None, "absent"])
def test_what_is_required_is_missed_by_name(key: str, value: str | None) -> None:
    source = {**MINIMAL, key: None} if value is None else {k: v for k, v in MINIMAL.items() if k != key}
    assert faults(source) == [f"{key}: is missing"]


@pytest.mark.parametrize("value", ["", "   ", "\t\n"])
def test_a_blank_id_is_none(value: str) -> None:
    assert fault(id=value) == "id: is empty"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("10.20.30.40", "10.20.30.40"),
        (" 10.20.30.40\n", "10.20.30.40"),
        ("::ffff:10.20.30.40", "10.20.30.40"),
        ("::FFFF:0a14:1e28", "10.20.30.40"),
        ("2001:DB8:0:0::00FF", "2001:db8::ff"),
        ("2001:db8:0000:0000:0000:0000:0000:00ff", "2001:db8::ff"),
    ],
)
def test_one_address_has_one_spelling_and_so_one_case(written: str, canonical: str) -> None:
    alert = read(destination_ip=written)
    assert alert.destination_ip == canonical
    assert alert.case_id == f"sua-default-{canonical}"


@given(st.ip_addresses())
def test_every_address_is_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    alert = read(destination_ip=str(address), source_ip=str(address))
    read_back = ipaddress.ip_address(alert.destination_ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert read_back == (mapped or address)
    assert alert.source_ip == alert.destination_ip


@pytest.mark.parametrize(
    "value",
    [
        *("010.20.30.40", "10.20.30", "10.20.30.40.50", "10.20.30.256", "10.20.30.40/32", "10.20.30.40:443"),
        *("0x0a141e28", "169090600", "host01", "", "   ", "10.20.30.40 10.20.30.41", "\uff11\uff10.20.30.40"),
        *("fe80::1%eth0", "::ffff:10.20.30.40%1", ":::", "[::1]"),
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    assert fault(destination_ip=value).startswith("destination_ip: ")


@pytest.mark.parametrize("value", [169090600, 10.2, True, ["10.20.30.40"], {"ip": "10.20.30.40"}])
def test_an_address_is_text(value: object) -> None:
    """A number would be taken for an address by Python's own reader: 169090600 is 10.20.30.40."""
    assert fault(destination_ip=value).startswith("destination_ip: ")


def test_a_long_lie_is_told_short() -> None:
    assert len(fault(destination_ip="9" * 100_000)) < 200


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2026-03-14T12:34:56Z", 12),
        ("2026-03-14t12:34:56z", 12),
        ("2026-03-14 12:34:56+00:00", 12),
        ("2026-03-14T12:34:56.789Z", 12),
        ("2026-03-14T14:34:56+02:00", 12),
        ("2026-03-14T14:34:56+0200", 12),
        ("2026-03-14T05:34:56-07:00", 12),
        (" 2026-03-14T12:34:56Z ", 12),
        ("2026-03-14T12:34Z", 12),
    ],
)
def test_times_become_utc(written: str, hour: int) -> None:
    at = read(occurred_at=written).occurred_at
    assert (at.utcoffset(), at.day, at.hour, at.minute) == (timedelta(0), 14, hour, 34)


@given(
    st.datetimes(
        min_value=datetime.fromisoformat("1971-01-01"),
        max_value=datetime.fromisoformat("2199-12-30"),
        timezones=st.integers(-12 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
    )
)
def test_every_time_is_the_same_moment_afterwards(at: datetime) -> None:
    assert read(occurred_at=at.isoformat()).occurred_at == at


@pytest.mark.parametrize("value", ["2026-03-14T12:34:56", "2026-03-14", "2026-03-14 12:34"])
def test_a_time_without_zone_is_asked_for_one(value: str) -> None:
    assert fault(occurred_at=value) == "occurred_at: has no time zone; write 2026-03-14T12:34:56Z"


@pytest.mark.parametrize(
    "value",
    [
        *(1773491696, 1773491696000, 1773491696.0, True, "1773491696", "1773491696000", "-1", "1773491696.5", "+5"),
        *("yesterday", "", "  ", "2026-13-14T12:34:56Z", "2026-02-30T12:34:56Z", "2026-03-14T25:00:00Z", "14.03.2026"),
        *("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-12:00", "0001-01-02T00:00:00Z", [], {}, ["2026"]),
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    """A bare number, also one in quotes, could be seconds or milliseconds: a guess would move the search window."""
    assert fault(occurred_at=value).startswith("occurred_at: is not a")


@pytest.mark.parametrize("value", ["high", "HIGH", "High", "  hIgH "])
def test_severity_is_read_without_case(value: str) -> None:
    assert read(severity=value).severity.value == "high"


@pytest.mark.parametrize("value", ["urgent", "", "hi gh", 3, True, ["high"], {}, "h\u0131gh"])
def test_any_other_severity_is_refused(value: object) -> None:
    assert fault(severity=value) == "severity: must be one of low, medium, high, critical"


def test_unknown_keys_are_kept_as_evidence() -> None:
    extra = {"rawevent": "CEF:0|x", "nested": {"a": [1, None, True, 1.5]}, "case_id": "mine", "model_dump": "x"}
    alert = read(**extra)
    kept = alert.model_dump(mode="json")
    assert {key: kept[key] for key in extra} == extra
    assert alert.case_id == "sua-default-10.20.30.40"


@pytest.mark.parametrize(
    ("named", "default", "tenant"),
    [
        ("acme", "other", "acme"),
        (None, "other", "other"),
        ("", "other", "other"),
        ("  ", None, "default"),
        (None, None, "default"),
        (None, "", "default"),
        (" acme ", None, "acme"),
        ("A.c_m-e9", None, "A.c_m-e9"),
    ],
)
def test_the_tenant_defaults(named: str | None, default: str | None, tenant: str) -> None:
    alert = parse_alert({**MINIMAL, "tenant": named}, default)
    assert alert.tenant == tenant
    assert alert.case_id == f"sua-{tenant}-10.20.30.40"
    assert parse_alert(MINIMAL, default).tenant == (default or "default")


@pytest.mark.parametrize(
    "value", ["a b", "a/b", "a'b", "-a", ".a", "a" * 65, "\u00fc", "a\nb", "a$(id)", "acme\x1b[2J", 5, ["acme"]]
)
def test_a_tenant_becomes_part_of_a_name_and_so_is_a_plain_word(value: object) -> None:
    assert fault(tenant=value).startswith("tenant: ")


def test_a_default_tenant_is_held_to_the_same() -> None:
    """It comes from the settings, and it becomes part of the same name."""
    assert faults(MINIMAL, "Acme Corp")[0].startswith("tenant: ")


@given(st.text(st.sampled_from(string.ascii_letters + string.digits + "._-"), min_size=1, max_size=64))
def test_case_ids_hold_nothing_that_a_shell_or_a_query_would_read(tenant: str) -> None:
    try:
        alert = read(tenant=tenant)
    except AlertRefused:
        assert tenant[0] in "._-"
    else:
        assert set(alert.case_id) <= set(string.ascii_letters + string.digits + "._-:")


def test_ids_may_be_numbers() -> None:
    alert = read(id=200417, siem_incident_id=4711, event_ids=[1, "b", 3])
    assert (alert.id, alert.siem_incident_id, alert.event_ids) == ("200417", "4711", ("1", "b", "3"))


@pytest.mark.parametrize("value", [True, 1.5, [], {}, "x" * 257])
def test_ids_may_be_nothing_else(value: object) -> None:
    assert fault(id=value).startswith("id: ")
    assert fault(event_ids=[value]).startswith("event_ids.0: ")


@pytest.mark.parametrize("value", ["abc", {"a": 1}, 5, True])
def test_event_ids_are_a_list(value: object) -> None:
    assert fault(event_ids=value).startswith("event_ids: ")


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), ("734003200", 734003200), (7e8, 700000000), (2**63 - 1, 2**63 - 1)]
)
def test_bytes_are_counted(value: object, count: int) -> None:
    assert read(bytes_transferred=value).bytes_transferred == count


@pytest.mark.parametrize("value", [-1, 1.5, "many", True, 2**63, 10**400, [], "1 GB"])
def test_what_counts_no_bytes_is_refused(value: object) -> None:
    assert fault(bytes_transferred=value).startswith("bytes_transferred: ")


@pytest.mark.parametrize(
    "source", ["", "{", "null", "[]", '"x"', "5", b"\xff\xfe", b"\x00", "nonsense", None, 5, [MINIMAL]]
)
def test_what_is_no_object_is_refused(source: object) -> None:
    (line,) = faults(source)
    assert line.startswith("the alert is not ")


def test_text_of_any_encoding_that_json_knows_is_read() -> None:
    text = json.dumps(MINIMAL)
    for source in (text, text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert parse_alert(source) == read()


def test_a_huge_alert_is_refused_as_text_and_as_an_object() -> None:
    huge = {**MINIMAL, "rawevent": "x" * MAX_BYTES}
    for source in (huge, json.dumps(huge), json.dumps(huge).encode()):
        assert faults(source) == ["the alert is larger than 256 KiB"]
    assert parse_alert({**MINIMAL, "rawevent": "x" * (MAX_BYTES // 2)})


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [MAX_DEPTH, 300])
def test_a_deep_alert_is_refused(depth: int) -> None:
    deep = {**MINIMAL, "extra": _nested(depth)}
    assert faults(deep) == [f"the alert is nested more than {MAX_DEPTH} deep"]
    assert faults(json.dumps(deep)) == [f"the alert is nested more than {MAX_DEPTH} deep"]
    assert read(extra=_nested(MAX_DEPTH - 1))


def test_a_bottomless_alert_is_refused() -> None:
    assert "deep" in faults('{"a":' * 50_000)[0]
    endless: dict[str, Any] = dict(MINIMAL)
    endless["self"] = endless
    assert "deep" in faults(endless)[0]


def test_what_json_cannot_carry_is_made_fit() -> None:
    text = json.dumps(MINIMAL)[:-1] + ', "ratio": NaN, "worst": Infinity, "name": "a\\ud800b", "list": [-Infinity]}'
    kept = parse_alert(text).model_extra
    assert kept == {"ratio": None, "worst": None, "name": "a\ufffdb", "list": [None]}
    assert read(bytes_transferred=float("nan")).bytes_transferred is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | HOSTILE
    | st.sampled_from(["\ud800", "2026-03-14T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=4),
    max_leaves=12,
)


def _read_or_faults(source: object) -> Alert | list[str]:
    try:
        return parse_alert(source)
    except AlertRefused as refused:
        return refused.faults


@given(JSON)
def test_arbitrary_values_are_refused_or_read(source: object) -> None:
    assert _read_or_faults(source)


@given(st.dictionaries(st.sampled_from(sorted(fields())), JSON), st.dictionaries(HOSTILE, JSON, max_size=3))
def test_arbitrary_fields_are_refused_or_can_be_kept(changed: dict[str, Any], extra: dict[str, Any]) -> None:
    """What is read can be written into a history and read again, and is the same alert then."""
    alert = _read_or_faults({**extra, **MINIMAL, **changed})
    if isinstance(alert, Alert):
        assert parse_alert(alert.model_dump(mode="json")) == alert
        assert parse_alert(alert.model_dump_json()) == alert
    else:
        assert alert
        assert all(line and "\x1b" not in line for line in alert)


@given(st.text() | st.binary())
def test_arbitrary_text_is_refused(source: str | bytes) -> None:
    assert faults(source)
