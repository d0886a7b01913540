"""Screenshots small enough for the docs: the same picture with a palette, packed as tightly as zlib can."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
_PALETTE = 256


def packed(png: bytes) -> bytes:
    """The picture (8 bits a channel, as a browser takes it) with the 256 colours that it has most, or the nearest."""
    width, height, kind = struct.unpack(">IIxB", png[16:26])
    rows = list(_rows(png, width, height, _CHANNELS[kind]))
    counts = Counter(pixel for row in rows for pixel in row)
    palette = [colour for colour, _ in counts.most_common(_PALETTE)]
    place = {colour: number for number, colour in enumerate(palette)}
    for colour in counts.keys() - place.keys():
        place[colour] = min(range(len(palette)), key=lambda number: _far(palette[number], colour))
    data = b"".join(b"\0" + bytes(place[pixel] for pixel in row) for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = b"".join(bytes(colour) for colour in palette)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, body) for name, body in chunks)


def _far(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _rows(png: bytes, width: int, height: int, channels: int) -> Iterator[list[tuple[int, ...]]]:
    """The rows of pixels, their filters undone (PNG specification, section 9)."""
    data = zlib.decompress(b"".join(body for name, body in _chunks(png) if name == b"IDAT"))
    length = width * channels
    above = bytearray(length)
    for number in range(height):
        start = number * (length + 1)
        row = bytearray(data[start + 1 : start + 1 + length])
        for at in range(length):
            left, up = (row[at - channels], above[at - channels]) if at >= channels else (0, 0)
            row[at] = (row[at] + _predicted(data[start], left, above[at], up)) & 255
        yield [tuple(row[at : at + 3]) for at in range(0, length, channels)]
        above = row


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    if kind < 3:
        return (0, left, above)[kind]
    if kind == 3:
        return (left + above) // 2
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12
