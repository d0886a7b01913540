"""What is known about a case: facts, each with its source and time, or the reason why it is not known."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, model_validator

T = TypeVar("T")


class Frozen(BaseModel):
    """A value that does not change after it was read."""

    model_config = ConfigDict(frozen=True)


class Fact(Frozen, Generic[T]):
    """A value with its source and time, or the reason why there is none. Never a default, never a guess.

    ``candidates`` names what was found where it was more than one: two candidates are no candidate.
    """

    known: bool
    value: T | None = None
    source: str | None = None
    at: AwareDatetime | None = None
    reason: str | None = None
    candidates: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        complete = self.value is not None and self.source is not None and self.at is not None and self.reason is None
        absent = self.value is None and bool(self.reason)
        if not (complete if self.known else absent):
            raise ValueError("a fact has a value, a source and a time, or it has a reason")
        return self

    @classmethod
    def of(cls, value: T, source: str, at: datetime) -> Self:
        """A known fact."""
        return cls(known=True, value=value, source=source, at=at)

    @classmethod
    def unknown(
        cls, reason: str, source: str | None = None, at: datetime | None = None, candidates: tuple[str, ...] = ()
    ) -> Self:
        """An unknown fact; ``reason`` is read by the analyst."""
        return cls(known=False, reason=reason, source=source, at=at, candidates=candidates)


class Host(Frozen):
    """The machine behind the destination address."""

    name: str
    ip: str


class Located(Frozen):
    """What the SIEM says about an address: the host, and the account that was active on it (as the SIEM spells it)."""

    host: Fact[Host]
    account: Fact[str]


class Identity(Frozen):
    """The names by which a person is recognised. Compared without case."""

    account: str | None = None
    upn: str | None = None
    mails: tuple[str, ...] = ()
    display_name: str | None = None

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` (a mail address, an account name or a UPN) means this person."""
        wanted = name.strip().casefold()
        names = {n.casefold() for n in (self.account, self.upn, *self.mails) if n}
        return bool(wanted) and wanted in names


class Group(Frozen):
    """A directory group, direct, nested or primary. ``sid`` is its text form (S-1-5-…)."""

    name: str
    sid: str | None = None


class Person(Identity):
    """The suspected user's directory record.

    ``service_account`` says in words why the account looks like a service's rather than a person's, else ``None``.
    ``managers`` is the reporting line, the nearest first. ``user_account_control`` is the bit field of MS-ADTS 2.2.16.
    """

    account: str
    dn: str
    guid: str | None = None
    sid: str | None = None
    employee_id: str | None = None
    department: str | None = None
    title: str | None = None
    enabled: bool
    user_account_control: int
    service_account: str | None = None
    groups: tuple[Group, ...] = ()
    managers: tuple[Identity, ...] = ()


class Risk(Frozen):
    """The user's risk score, not bounded by 100. ``documents`` counts the documents of which it is the highest."""

    score: FiniteFloat
    documents: int


class Sighting(Frozen):
    """One further alert (a policy violation) or event (activity that matches the configured condition)."""

    kind: str
    id: str | None
    name: str
    about: str
    at: AwareDatetime | None


class Corroboration(Frozen):
    """Further alerts and events about the host or the user. ``sightings`` holds the first few, ``total`` counts all."""

    total: int
    sightings: tuple[Sighting, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return self.total > 0


class Device(Frozen):
    """The endpoint agent of a host. ``kind`` is the vendor's word for workstation, server or domain controller."""

    id: str
    hostname: str
    kind: str | None = None
    containment: str
    last_seen: AwareDatetime | None = None
