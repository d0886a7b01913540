"""The one error of this package."""

from __future__ import annotations


class FormatRefused(ValueError):
    """What was given cannot be read; the message says why, in words for whoever sent it."""
