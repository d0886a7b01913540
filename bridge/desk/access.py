"""Who may see what. Where it cannot be told just now, nothing is shown that could tip a suspect off."""

from __future__ import annotations

from bridge.desk.reading import Sighting
from settings import Settings


def is_analyst(settings: Settings, mail: str) -> bool:
    """Whether somebody may be an analyst of any tier, by the settings: who cannot be sees no page of the desk at all.

    Who is in a directory's group only the directory knows: then each case says for itself who may see it.
    """
    if any(tier.analysts_group for tier in settings.tiers):
        return True
    return mail.casefold() in {analyst.casefold() for tier in settings.tiers for analyst in tier.analysts}


def may_see(found: Sighting, mail: str) -> bool | None:
    """Whether somebody may see a case and answer it; ``None`` where only a worker could say and none answers.

    The suspect and their reporting line may not, and are told just what they would be told of a case that is not there.
    """
    if found.electorate is not None:
        return found.electorate.objection(mail) is None
    if found.view is not None:  # it has only just begun: nobody is suspected so far
        return True
    return None
