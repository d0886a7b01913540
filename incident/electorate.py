"""Who may answer a case: the tiers' analysts and groups, without the suspect and those above and below them."""

from __future__ import annotations

from collections.abc import Iterable

from incident.decision import Electorate
from incident.policy import CasePolicy, Tier
from incident.record import CaseRecord
from incident.requests import AccountRef
from incident.voters import FindElectorate, Voters


def tiers_of_case(record: CaseRecord, policy: CasePolicy) -> tuple[Tier, ...]:
    """The tiers, each with the members of its group among its analysts as far as the directory told them."""
    return with_members(policy.tiers, record.voters)


def with_members(tiers: Iterable[Tier], voters: Voters | None) -> tuple[Tier, ...]:
    """Tiers whose groups' members stand among their analysts."""
    members = voters.members if voters else {}
    return tuple(
        tier.model_copy(update={"analysts": tuple(dict.fromkeys((*tier.analysts, *members.get(tier.name, ()))))})
        for tier in tiers
    )


def electorate_of(record: CaseRecord, policy: CasePolicy) -> Electorate:
    """Who may answer, by what the directory knows just now."""
    user, voters = record.user.value, record.voters
    read = voters.members if voters else {}
    given = Electorate.of(tiers_of_case(record, policy), user, user.managers if user else ())
    return given.model_copy(
        update={
            "recused": voters.recused if voters else {},
            "accounts": voters.accounts if voters else {},
            "undetermined": tuple(t.name for t in policy.tiers if t.analysts_group and t.name not in read),
        }
    )


def request_for(record: CaseRecord, policy: CasePolicy, only: str | None = None) -> FindElectorate:
    """What the directory is asked: about everybody who is written to or may answer, or about ``only`` one address."""
    user = record.user.value
    everybody = (address for tier in policy.tiers for address in (*tier.analysts, *tier.recipients))
    return FindElectorate(
        suspect=AccountRef(dn=user.dn, guid=user.guid, account=user.account) if user else None,
        addresses=(only.strip().casefold(),) if only else tuple(dict.fromkeys(a.casefold() for a in everybody)),
        groups={tier.name: tier.analysts_group for tier in policy.tiers if tier.analysts_group},
        members_too=only is None,
    )
