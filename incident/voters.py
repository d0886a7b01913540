"""Who may answer, by the directory's word: what the case asks it for, and what it gets back."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from incident.evidence import Frozen
from incident.requests import AccountRef


class FindElectorate(Frozen):
    """Who of ``addresses`` is in the suspect's line, and who is in the groups (by the name of their tier)?

    With ``members_too`` the members of the groups are looked at like the addresses. Without a suspect nobody is
    recused.
    """

    suspect: AccountRef | None
    addresses: tuple[str, ...]
    groups: dict[str, str] = Field(default={})
    members_too: bool = True


class Voters(Frozen):
    """The directory's word. Addresses are mail addresses in lower case.

    ``members`` are those of each tier's group; a tier is missing there whose group could not be read. ``recused`` may
    not answer, with the reason. ``accounts`` tells whose account an address is, so that one person is not taken for
    two. ``unresolved`` are addresses that the directory does not know, which stay as they are configured. ``faults``
    say what could not be read. ``at`` is when the directory was asked, ``None`` in an answer just come in.
    """

    members: dict[str, tuple[str, ...]] = Field(default={})
    recused: dict[str, str] = Field(default={})
    accounts: dict[str, str] = Field(default={})
    unresolved: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    at: AwareDatetime | None = None

    def updated(self, fresh: Voters, addresses: tuple[str, ...]) -> Voters:
        """This word with a fresh one on some addresses: what the fresh one does not speak of stays."""
        asked = {address.casefold() for address in addresses}
        return fresh.model_copy(
            update={
                "members": {**self.members, **fresh.members},
                "recused": {**{a: why for a, why in self.recused.items() if a not in asked}, **fresh.recused},
                "accounts": {**self.accounts, **fresh.accounts},
                "unresolved": tuple(sorted({*self.unresolved} - asked | {*fresh.unresolved})),
            }
        )
