"""The stylesheet and the script: legible in light and dark, small, and of nowhere else."""

from __future__ import annotations

import re
from itertools import product

import pytest

from bridge.desk import clock
from bridge.desk.rendering import FOLDER, now

CSS = (FOLDER / "static" / "desk.css").read_text(encoding="utf-8")
SCRIPT = (FOLDER / "static" / "desk.js").read_text(encoding="utf-8")


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", css))


LIGHT = _colours(CSS.partition("@media")[0])
DARK = LIGHT | _colours(CSS.partition("prefers-color-scheme: dark")[2].partition("* {")[0])


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(letter * 2 for letter in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, 1.4.3."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(scheme: dict[str, str]) -> None:
    papers = ("paper", "faint", "bad-paper", "warn-paper", "good-paper")
    for ink, paper in product(("ink", "link"), papers):
        assert contrast(scheme[ink], scheme[paper]) >= 4.5, (ink, paper)
    assert contrast(scheme["soft"], scheme["paper"]) >= 4.5
    assert contrast(scheme["bad"], scheme["paper"]) >= 4.5
    assert contrast(scheme["on-act"], scheme["act"]) >= 4.5
    for badge in ("low", "medium", "high", "critical"):
        assert contrast(scheme["on-badge"], scheme[badge]) >= 4.5
    # What shows where a field is, and where the focus is.
    assert contrast(scheme["line"], scheme["paper"]) >= 3
    assert contrast(scheme["link"], scheme["paper"]) >= 3


def test_contrast_is_measured_right() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_nothing_is_of_elsewhere_and_all_of_it_is_small() -> None:
    for text in (CSS, SCRIPT):
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", text)
        assert "@import" not in text
        assert "eval" not in text
        assert len(text) < 9000
    assert "innerHTML" not in SCRIPT
    assert "prefers-color-scheme: dark" in CSS
    assert ":focus-visible" in CSS


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 min"),
        (12 * 60 + 59, "12 min"),
        (3600, "1 h 00 min"),
        (25 * 3600, "1 d 1 h"),
    ],
)
def test_a_length_of_time_is_told(seconds: float, told: str) -> None:
    assert clock.length(seconds) == told


def test_a_time_that_is_none_is_nothing() -> None:
    for value in (None, "", "soon", 7):
        assert clock.exact(value, now()) == clock.left(value, now()) == clock.ago(value, now()) == ""
