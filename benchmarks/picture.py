"""The one picture of the results: the ratios against the floor, and where the processor's time of a case goes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _BAR, _ROW = 860, 300, 380, 30
_INK, _GREY, _OURS, _BARE, _LINE = "#1d2733", "#6b7785", "#1f6f8b", "#b9c4cf", "#c0392b"
_STYLE = 'font-family="system-ui, sans-serif" font-size="14"'


class _Drawing:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self.y = 20

    def text(
        self, x: float, y: float, words: str, *, colour: str = _INK, end: bool = False, bold: bool = False
    ) -> None:
        anchor = ' text-anchor="end"' if end else ""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}"{anchor}{weight}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    def heading(self, words: str) -> None:
        self.y += 14
        self.text(20, self.y + 10, words, bold=True)
        self.y += 26

    def bars(self, rows: Sequence[tuple[str, float, str, str]], greatest: float) -> None:
        """A bar each: its name, its value, its colour and the words behind it."""
        for name, value, colour, words in rows:
            self.text(_LEFT - 12, self.y + 15, name, end=True)
            self.box(_LEFT, self.y + 3, value / greatest * _BAR, 16, colour)
            self.text(_LEFT + value / greatest * _BAR + 8, self.y + 15, words, colour=_GREY)
            self.y += _ROW

    def mark(self, value: float, greatest: float, rows: int) -> None:
        """A line across the last so many bars."""
        x = _LEFT + value / greatest * _BAR
        self.box(x, self.y - rows * _ROW, 1.5, rows * _ROW - 6, _LINE)

    def whole(self) -> str:
        height = self.y + 20
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {_STYLE}>'
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>{"".join(self._parts)}</svg>\n'
        )


def _against_floor(drawing: _Drawing, floor: dict[str, Any]) -> None:
    drawing.heading("A case of row 1 against the barest workflow of its shape (the red line; goals: 0.9, and 1.1)")
    named = (
        ("cases a second", "throughput"),
        ("p50 to the first write", "p50_to_write"),
        ("p50 to the end", "p50_to_end"),
    )
    ratios = [(name, floor["ratio"][key]["median"], _OURS) for name, key in named]
    greatest = max(1.2, *(value for _, value, _ in ratios))
    drawing.bars([(name, value, colour, f"{value:.2f}") for name, value, colour in ratios], greatest)
    drawing.mark(1.0, greatest, len(ratios))


def _processor(drawing: _Drawing, results: dict[str, Any]) -> None:
    drawing.heading("Processor time of one case, milliseconds")
    floor, plain = results["floor"], results.get("plain")
    rows = [
        (f"{name}, {part}", value, _OURS if name == "Holdpoint" else _BARE, f"{value:.0f} ms")
        for name, told in (("Holdpoint", floor["case"]), ("floor", floor["floor"]))
        for part, value in told["processor_ms"].items()
    ]
    if plain:
        value = plain["script"]["processor_ms"]["script"]
        rows.append(("a script without durability", value, _BARE, f"{value:.1f} ms"))
    drawing.bars(rows, max(value for _, value, _, _ in rows))


def _critical(drawing: _Drawing, storm: dict[str, Any]) -> None:
    drawing.heading("A critical alert, from its arrival to the first write")
    rows = [("idle", storm["many_hosts"]["critical_ms"]["idle_p50"] / 1e3, _BARE)]
    for name, words in (("many_hosts", "in a storm about many hosts"), ("one_host", "in a storm about one host")):
        rows.append((words, storm[name]["critical_ms"]["in_the_storm"] / 1e3, _OURS))
    drawing.bars([(n, v, c, f"{v:.2f} s") for n, v, c in rows], max(v for _, v, _ in rows))


def _memory(drawing: _Drawing, paused: dict[str, Any]) -> None:
    memory = paused["memory"]
    drawing.heading(f"The worker's memory with {paused['cases']:,} paused cases, MB")
    kept = (
        ("idle", "worker_idle_mb"),
        ("all paused", "worker_paused_mb"),
        ("after looking again", "worker_watched_mb"),
    )
    rows = [(words, memory[key], _OURS, f"{memory[key]:.0f}") for words, key in kept]
    drawing.bars(rows, max(value for _, value, _, _ in rows))


def drawn(results: dict[str, Any]) -> str:
    """The picture as SVG, of whatever parts the results have."""
    drawing = _Drawing()
    if "floor" in results:
        _against_floor(drawing, results["floor"])
        _processor(drawing, results)
    if "storm" in results:
        _critical(drawing, results["storm"])
    if "paused" in results:
        _memory(drawing, results["paused"])
    return drawing.whole()
