"""Times of other people's alerts: read as they are meant, or refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.refusal import FormatRefused
from bridge.formats.times import by_pattern, read_time
from settings_mapping import CefMapping, SecuronixMapping

THEN = datetime(2026, 3, 14, 12, 34, 56, tzinfo=UTC)
MILLIS = THEN + timedelta(milliseconds=789)
CEF, SECURONIX = CefMapping().time_formats, SecuronixMapping().time_formats


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1773491696, THEN),
        (1773491696.0, THEN),
        (1773491696789, MILLIS),
        ("1773491696", THEN),
        ("1773491696789", MILLIS),
        ("1773491696.789", MILLIS),
        (" 1773491696789 ", MILLIS),
        (100_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        ("2026-03-14T12:34:56Z", THEN),
        ("2026-03-14 13:34:56+01:00", THEN),
        ("2026-03-14T08:34:56.789-0400", MILLIS),
        ("2026-03-14T12:34:56.789000Z", MILLIS),
        ("Mar 14 2026 12:34:56 UTC", THEN),
        ("Mar 14 2026 12:34:56 GMT+00:00", THEN),
        ("mar 14 2026 13:34:56.789 +0100", MILLIS),
        ("Mar 14 2026 12:34:56.789 Z", MILLIS),
        ("Mar 14 2026 08:34:56 America/New_York", THEN),
        ("March 14 2026 08:34:56 GMT-04:00", THEN),
        ("Mar  14 2026 12:34:56 UTC", THEN),
    ],
)
def test_a_time_that_tells_its_zone(value: object, told: datetime) -> None:
    assert read_time(value, patterns=CEF) == told


@pytest.mark.parametrize(
    ("value", "patterns", "zone", "told"),
    [
        ("Mar 14 2026 13:34:56", CEF, "Europe/Berlin", THEN),
        ("Mar 14 2026 13:34:56.789", CEF, "Europe/Berlin", MILLIS),
        ("Jul 14 2026 14:34:56", CEF, "Europe/Berlin", THEN.replace(month=7)),
        ("2026-03-14T12:34:56", (), "UTC", THEN),
        ("2026-03-14T13:34:56+01:00", (), "Asia/Tokyo", THEN),
        ("03/14/2026 07:34:56", SECURONIX, "America/Chicago", THEN),
        ("Sat, 14 Mar 2026 @ 12:34:56 PM", SECURONIX, "UTC", THEN),
        ("Mar 14, 2026 8:34:56 AM", SECURONIX, "America/New_York", THEN),
        ("Mar 14, 2026 12:04:05 AM", SECURONIX, "UTC", THEN.replace(hour=0, minute=4, second=5)),
        ("20260314123456", ("yyyyMMddHHmmss",), "UTC", THEN),
        ("20260314-123456", ("yyyyMMdd-HHmmss",), "UTC", THEN),
        ("2026-14-03T12:34:56", ("yyyy-dd-MM'T'HH:mm:ss",), "UTC", THEN),
        ("14/Mar/2026:12:34:56 +0000", ("dd/MMM/yyyy:HH:mm:ss Z",), None, THEN),
        ("Sat Mar 14 12:34:56 UTC 2026", ("EEE MMM dd HH:mm:ss zzz yyyy",), None, THEN),
        ("12 o'clock, 14.03.2026", ("HH 'o'''clock', dd.MM.yyyy",), "UTC", None),
    ],
)
def test_patterns_and_a_zone_from_the_settings(
    value: str, patterns: tuple[str, ...], zone: str | None, told: datetime | None
) -> None:
    if told is None:
        with pytest.raises(FormatRefused):
            read_time(value, patterns=patterns, zone=zone)
    else:
        assert read_time(value, patterns=patterns, zone=zone) == told


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("Mar 14 2026 12:34:56", "has no time zone"),
        ("2026-03-14T12:34:56", "has no time zone"),
        ("Mar 14 12:34:56", "not a time that can be read"),
        ("Mar 14 12:34:56 UTC", "not a time that can be read"),
        ("Mar 14 2026 12:34:56 CST", "not a time that can be read"),
        ("Mar 14 2026 12:34:56 IST", "not a time that can be read"),
        ("Mar 14 2026 12:34:56 ../../etc/passwd", "not a time that can be read"),
        ("Mar 14 2026 12:34:56 +99:00", "not a time that can be read"),
        ("Feb 30 2026 12:34:56 UTC", "not a time that can be read"),
        ("Mrz 14 2026 12:34:56 UTC", "not a time that can be read"),
        ("Mar 14 26 12:34:56 UTC", "not a time that can be read"),
        ("Mar 14 2026 12:34:56 UTC and more", "not a time that can be read"),
        ("2026-03-14", "not a time that can be read"),
        ("2026-03-14T25:00:00Z", "not a time that can be read"),
        ("yesterday", "not a time that can be read"),
        ("20260314", "neither seconds nor milliseconds"),
        ("20260314123456", "neither seconds nor milliseconds"),
        (20260314, "neither seconds nor milliseconds"),
        (0, "neither seconds nor milliseconds"),
        (1773491696789000, "neither seconds nor milliseconds"),
        (float("nan"), "neither seconds nor milliseconds"),
        (float("inf"), "neither seconds nor milliseconds"),
        (-1773491696, "neither seconds nor milliseconds"),
        ("", "is no time"),
        ("1" * 65, "is no time"),
        (None, "is no time"),
        (True, "is no time"),
        ([1773491696], "is no time"),
        ("0001-01-01T00:00:00+14:00", "out of all years"),
    ],
)
def test_a_time_that_is_not_certain_is_refused(value: object, fault: str) -> None:
    with pytest.raises(FormatRefused, match=fault):
        read_time(value, patterns=CEF)


@pytest.mark.parametrize("pattern", ["yyyy-ww-dd", "'open", "KK:mm", "y" * 70])
def test_a_pattern_that_is_not_known_is_refused(pattern: str) -> None:
    with pytest.raises(FormatRefused, match="pattern"):
        by_pattern("2026", pattern)


@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2190, 1, 1)),  # noqa: DTZ001 - the zone comes below
    st.integers(-14 * 60, 14 * 60),
)
def test_what_cef_writes_is_read_back(naive: datetime, minutes: int) -> None:
    then = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=timezone(timedelta(minutes=minutes)))
    text = f"{then:%b %d %Y %H:%M:%S}.{then.microsecond // 1000:03} {then:%z}"
    assert read_time(text, patterns=CEF) == then
    assert read_time(round(then.timestamp() * 1000), patterns=CEF) == then


@given(st.text(max_size=80), st.text(max_size=40))
def test_whatever_comes_is_read_or_refused(text: str, pattern: str) -> None:
    for patterns in ((pattern,) if pattern else (), CEF, SECURONIX):
        try:
            read_time(text, patterns=patterns, zone="UTC")
        except FormatRefused:
            continue
