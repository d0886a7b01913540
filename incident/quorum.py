"""Two pairs of eyes: which actions enough people of different tiers have approved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from incident.policy import Tier
from incident.record import Approved
from incident.triage import CONTAIN, ActionName


def tiers_of(analyst: str, tiers: Iterable[Tier]) -> tuple[str, ...]:
    """The names of the tiers that name this analyst."""
    wanted = analyst.casefold()
    return tuple(tier.name for tier in tiers if wanted in map(str.casefold, tier.analysts))


def approved(approvals: Sequence[Approved]) -> tuple[ActionName, ...]:
    """The actions that two people approved who can stand for two different tiers."""
    return tuple(
        action
        for action in CONTAIN
        if any(_two_tiers(one, other) for one, other in combinations([a for a in approvals if action in a.actions], 2))
    )


def obtainable(tiers: Iterable[Tier]) -> bool:
    """Whether these tiers have two people who can stand for two different ones."""
    members = [{mail.casefold() for mail in tier.analysts} for tier in tiers]
    return any(one and other and len(one | other) > 1 for one, other in combinations(members, 2))


def _two_tiers(one: Approved, other: Approved) -> bool:
    different = any(mine != theirs for mine in one.tiers for theirs in other.tiers)
    return different and one.analyst.casefold() != other.analyst.casefold()
