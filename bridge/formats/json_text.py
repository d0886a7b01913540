"""JSON as RFC 8259 and I-JSON (RFC 7493) have it: what two readers could read differently is refused.

A duplicate key, NaN and infinities, endless numbers and nesting are found in one alert of many without losing the rest.
"""

from __future__ import annotations

import json
import math
from typing import Any

from bridge.formats.refusal import FormatRefused
from incident.alert import MAX_DEPTH

_DIGITS = 40


class _Twice(dict[str, Any]):
    """An object one of whose keys stands there twice."""


class _NoNumber(str):
    """What stood where a number belongs."""

    __slots__ = ()


def decoded(text: bytes) -> Any:
    """The JSON value of ``text``, unchecked inside: see ``sound``.

    Raises:
        FormatRefused: it is no JSON, or not UTF-8.
    """
    try:
        return json.loads(
            text.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_NoNumber,
            parse_float=_float,
            parse_int=_int,
        )
    except UnicodeDecodeError:
        raise FormatRefused("it is not UTF-8") from None
    except ValueError as error:
        raise FormatRefused(f"it is not JSON: {error}") from None
    except RecursionError:
        raise FormatRefused(f"it is nested more than {MAX_DEPTH} deep") from None


def sound(value: Any) -> None:
    """Look at everything inside a value of ``decoded``.

    Raises:
        FormatRefused: it is nested more than ``MAX_DEPTH`` deep, or holds what JSON does not have.
    """
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, _Twice):
                raise FormatRefused("a key stands twice in one object")
            if isinstance(item, _NoNumber):
                raise FormatRefused(f"{item[:_DIGITS]} is no number that JSON has")
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level, depth = below, depth + 1
        if level and depth > MAX_DEPTH:
            raise FormatRefused(f"it is nested more than {MAX_DEPTH} deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Twice(made)


def _float(text: str) -> float | _NoNumber:
    number = float(text)
    return number if math.isfinite(number) else _NoNumber(text)


def _int(text: str) -> int | _NoNumber:
    return int(text) if len(text) <= _DIGITS else _NoNumber(text)
