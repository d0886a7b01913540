"""Who may answer a case, asked of the directory: when a question is put, and again when it is answered."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from incident.decision import Electorate
    from incident.electorate import electorate_of, request_for, tiers_of_case
    from incident.policy import Tier
    from incident.telling import clock
    from incident.voters import Voters
    from workflows import policies, steps
    from workflows.case import Case


class Electing:
    """The electorate of one case. A directory that does not answer leaves the last word that is known standing."""

    def __init__(self, case: Case) -> None:
        self._case = case

    @property
    def asks(self) -> bool:
        """Whether the directory has a say: there is a group to read, or somebody to keep out."""
        return self._case.policy.ask_directory and (self.grouped or self._case.record.user.known)

    @property
    def grouped(self) -> bool:
        """Whether the directory says who some of the analysts are."""
        policy = self._case.policy
        return policy.ask_directory and any(tier.analysts_group for tier in policy.tiers)

    def electorate(self) -> Electorate:
        """Who may answer, by what is known just now."""
        return electorate_of(self._case.record, self._case.policy)

    def tiers(self) -> tuple[Tier, ...]:
        """The configured tiers, with the members of their groups as far as they are known."""
        return tiers_of_case(self._case.record, self._case.policy)

    async def read(self, only: str | None = None, within: timedelta = policies.ELECTORATE_BUDGET) -> None:
        """Ask the directory about everybody who is written to or may answer, or about ``only`` one address."""
        if not self.asks:
            return
        case = self._case
        request = request_for(case.record, case.policy, only)
        known = case.record.voters
        try:
            found = await steps.find_electorate(request, within)
        except ActivityError as error:
            told = f"as known at {clock(known.at)}" if known and known.at else "as configured"
            case.note(f"who may answer stays {told}: {steps.reason_of(error)}", source="directory")
            return
        fresh = known.updated(found, request.addresses) if known and only else found
        if known and not only:
            fresh = fresh.model_copy(update={"members": {**known.members, **fresh.members}})
        case.record.voters = fresh.model_copy(update={"at": case.now})
        self._tell(known, fresh)
        case.publish()

    def _tell(self, known: Voters | None, fresh: Voters) -> None:
        before = known or Voters()
        recused = sorted(set(fresh.recused.items()) - set(before.recused.items()))
        if recused:
            said = "; ".join(f"{address} ({why})" for address, why in recused)
            self._case.note(f"may not answer, by the directory: {said}", source="directory")
        for address in sorted(set(before.recused) - set(fresh.recused)):
            self._case.note(f"{address} may answer, by the directory", source="directory")
        unresolved = sorted(set(fresh.unresolved) - set(before.unresolved))
        if unresolved:
            said = ", ".join(unresolved)
            self._case.note(f"not in the directory, and so as configured: {said}", source="directory")
        for fault in fresh.faults:
            if fault not in before.faults:
                self._case.note(f"who may answer: {fault}", source="directory")
