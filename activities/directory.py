"""The directory's steps. Synchronous, for a thread pool of known size: the LDAP client blocks.

A cancelled step is not broken off in the middle: half a change is worse than a whole one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio import activity

from activities.failures import no_such_fact, told_to_temporal
from incident.evidence import Fact, Person
from incident.requests import AccountRef, ConfirmElsewhere, DisableAccount, EnableAccount, FindPerson, ReadBack, Written
from incident.voters import FindElectorate, Voters
from integrations.errors import Ambiguous, NotFound, NotInForce
from integrations.interfaces import Directory


class DirectoryActivities:
    """Reads and disables through one directory. ``source`` is its name in the facts."""

    def __init__(self, directory: Directory, source: str) -> None:
        self._directory = directory
        self._source = source

    @activity.defn(name="directory.find_person", no_thread_cancel_exception=True)
    def find_person(self, request: FindPerson) -> Fact[Person]:
        """The account's record; unknown when there is none, or more than one."""
        with told_to_temporal():
            try:
                person = self._directory.find_person(request.name)
            except (NotFound, Ambiguous) as error:
                return no_such_fact(error, self._source)
        return Fact[Person].of(person, self._source, datetime.now(UTC))

    @activity.defn(name="directory.find_electorate", no_thread_cancel_exception=True)
    def find_electorate(self, request: FindElectorate) -> Voters:
        """Who is in the groups of the tiers, and who may not answer because of the suspect's line."""
        with told_to_temporal():
            return self._directory.find_electorate(request)

    @activity.defn(name="directory.disable_account", no_thread_cancel_exception=True)
    def disable_account(self, request: DisableAccount) -> Written:
        """Disable the account. A retry that finds it disabled knows whose change that was by what the case had seen."""
        with told_to_temporal():
            written = self._directory.disable(request.account)
        if written.changed or activity.info().attempt == 1 or written.before == request.seen:
            return written
        return Written(changed=True, before=request.seen, detail="done by an earlier attempt whose answer was lost")

    @activity.defn(name="directory.confirm_disabled", no_thread_cancel_exception=True)
    def confirm_disabled(self, account: AccountRef) -> ReadBack:
        """Whether the account is disabled now; fails until it is."""
        with told_to_temporal():
            seen = self._directory.read_back(account)
            if not seen.in_force:
                raise NotInForce(f"account {account.account} is not disabled by the directory's word {seen.detail}")
        return seen

    @activity.defn(name="directory.confirm_elsewhere", no_thread_cancel_exception=True)
    def confirm_elsewhere(self, request: ConfirmElsewhere) -> ReadBack:
        """Whether the other servers show the account disabled too; fails until those that answer do."""
        with told_to_temporal():
            seen = self._directory.read_back_elsewhere(request.account, request.server)
            if not seen.in_force:
                raise NotInForce(f"account {request.account.account} is not disabled everywhere: {seen.detail}")
        return seen

    @activity.defn(name="directory.enable_account", no_thread_cancel_exception=True)
    def enable_account(self, request: EnableAccount) -> Written:
        """Undo ``disable_account``. A retry that finds the account enabled may have done it itself."""
        with told_to_temporal():
            written = self._directory.enable(request.account, request.before)
        if written.changed or activity.info().attempt == 1:
            return written
        told = f"{written.detail}: by an earlier attempt whose answer was lost, or by somebody else"
        return Written(changed=True, before=written.before, detail=told)

    @activity.defn(name="directory.confirm_enabled", no_thread_cancel_exception=True)
    def confirm_enabled(self, account: AccountRef) -> ReadBack:
        """What the directory says, once the account is not disabled any more; fails until then."""
        with told_to_temporal():
            seen = self._directory.read_back(account)
            if seen.in_force:
                raise NotInForce(f"account {account.account} is still disabled by the directory's word {seen.detail}")
        return seen
