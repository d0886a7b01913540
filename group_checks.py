"""Whether the directory knows the groups that the settings name: a mistyped one protects nobody, or nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from integrations.errors import IntegrationError
from integrations.interfaces import Check, Directory
from settings import Settings

KEY = "guardrails.protected_groups"

WITHIN = timedelta(seconds=20)
"""How long the directory may take for all of them."""

_NAME = "Guardrails: groups"


@dataclass(frozen=True)
class GroupsFound:
    """What came of asking about the names: which of them are unknown, or why the directory did not tell.

    ``patterns`` are the names with ``*`` or ``?``, which nobody looks up: they may match nothing for now.
    ``voiceless`` are unknown groups of analysts.
    """

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    voiceless: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    untold: str | None = None

    @property
    def faults(self) -> list[str]:
        """The unknown names as faults of the settings, each by its key."""
        return [
            f"{KEY}: the directory knows no group {name!r} below base_dn; name one from elsewhere with a * or ? in it"
            for name in self.unknown
        ] + [
            f"tiers: the directory knows no analysts_group {name!r} below base_dn: nobody of it could answer"
            for name in self.voiceless
        ]

    @property
    def warning(self) -> str | None:
        """That nobody could say whether the groups are there, and why."""
        if self.untold is None:
            return None
        return f"{KEY}: the directory could not be asked whether it knows these groups: {self.untold}"


async def look_up(
    directory: Directory,
    names: Sequence[str],
    *,
    analysts: Sequence[str] = (),
    executor: Executor | None = None,
    within: timedelta = WITHIN,
) -> GroupsFound:
    """Ask about protected groups (``names``) and groups of analysts, in a thread of ``executor``.

    A failure is told in the answer, never raised.
    """
    patterns = tuple(name for name in names if "*" in name or "?" in name)
    protected = tuple(dict.fromkeys(name for name in names if name not in patterns))
    plain = tuple(dict.fromkeys((*protected, *analysts)))
    if not plain:
        return GroupsFound(patterns=patterns)
    asking = asyncio.get_running_loop().run_in_executor(executor, directory.unknown_groups, plain)
    try:
        unknown = tuple(await asyncio.wait_for(asking, within.total_seconds()))
    except IntegrationError as error:
        return GroupsFound(patterns=patterns, untold=str(error))
    except TimeoutError:
        return GroupsFound(patterns=patterns, untold=f"no answer within {within.total_seconds():.0f} s")
    return GroupsFound(
        known=tuple(name for name in plain if name not in unknown),
        unknown=tuple(name for name in protected if name in unknown),
        voiceless=tuple(name for name in dict.fromkeys(analysts) if name in unknown),
        patterns=patterns,
    )


def analysts_groups(settings: Settings) -> tuple[str, ...]:
    """The groups whose members are analysts of a tier."""
    return tuple(tier.analysts_group for tier in settings.tiers if tier.analysts_group)


async def examine_groups(
    directory: Directory, names: Sequence[str], *, analysts: Sequence[str] = (), within: timedelta = WITHIN
) -> list[Check]:
    """The doctor's line about them."""
    found = await look_up(directory, names, analysts=analysts, within=within)
    if found.faults:
        return [Check(name=_NAME, ok=False, detail="; ".join(found.faults))]
    if found.warning:
        return [Check(name=_NAME, ok=False, detail=f"{found.warning}; a worker starts all the same")]
    told = [f"{len(found.known)} known to the directory"] if found.known else []
    told += [f"{len(found.patterns)} with * or ?, which are not looked up"] if found.patterns else []
    return [Check(name=_NAME, ok=True, detail=", ".join(told) or "none is named")]
