"""Who may answer, by Samba as a domain controller: lines, circles and nested groups, as a real directory tells them."""

from __future__ import annotations

import pytest

from incident.requests import AccountRef
from incident.voters import FindElectorate, Voters
from integrations.active_directory import ActiveDirectory
from tests.real.samba import BASE_DN, Domain, ref

pytest_plugins = ["tests.real.samba_fixtures"]

ABOVE, BELOW = (
    "those above the person under suspicion do not decide",
    "those whom the person under suspicion manages do not decide",
)


def mail(account: str) -> str:
    return f"{account}@acme.example"


@pytest.fixture(scope="module")
def line(domain: Domain) -> dict[str, str]:
    """``vchief`` > ``vboss`` (with a comma) > ``vsus`` > ``vteam`` > ``vclerk``; ``vana`` is under ``vchief`` too."""
    found: dict[str, str] = {}
    for account, manager in (
        ("vchief", None),
        ("vboss", "vchief"),
        ("vsus", "vboss"),
        ("vteam", "vsus"),
        ("vclerk", "vteam"),
        ("vana", "vchief"),
        ("vlea", None),
    ):
        above = {"manager": found[manager]} if manager else {}
        cn = "Boss\\, V. (\\#1)" if account == "vboss" else None
        found[account] = domain.add_user(account, cn=cn, mail=mail(account), **above)
    return found


@pytest.fixture
def suspect(directory: ActiveDirectory, line: dict[str, str]) -> AccountRef:
    return ref(directory.find_person("vsus"))


def ask(directory: ActiveDirectory, suspect: AccountRef, *accounts: str, **groups: str) -> Voters:
    addresses = tuple(mail(account) for account in accounts)
    return directory.find_electorate(FindElectorate(suspect=suspect, addresses=addresses, groups=groups))


def test_the_line_above_and_below(directory: ActiveDirectory, suspect: AccountRef) -> None:
    voters = ask(directory, suspect, "vsus", "vboss", "vchief", "vteam", "vclerk", "vana", "vlea", "vnobody")
    assert {address.partition("@")[0]: why for address, why in voters.recused.items()} == {
        "vsus": "the person under suspicion does not decide",
        **dict.fromkeys(("vboss", "vchief"), ABOVE),
        **dict.fromkeys(("vteam", "vclerk"), BELOW),
    }
    assert voters.unresolved == (mail("vnobody"),)
    assert len(set(voters.accounts.values())) == 7
    assert voters.faults == ()


def test_a_circle_and_an_alias(directory: ActiveDirectory, domain: Domain, suspect: AccountRef) -> None:
    one = domain.add_user("vround1", mail=mail("vround1"), proxyAddresses=[f"smtp:{mail('vround.alias')}"])
    other = domain.add_user("vround2", mail=mail("vround2"), manager=one)
    domain.put(one, manager=other)
    assert ask(directory, suspect, "vround1", "vround.alias").recused == {}
    domain.put(one, manager=suspect.dn)
    assert ask(directory, suspect, "VROUND.ALIAS", "vround2").recused == dict.fromkeys(
        (mail("vround.alias"), mail("vround2")), BELOW
    )


def test_a_group_in_a_group_and_whose_primary_group_it_is(
    directory: ActiveDirectory, domain: Domain, line: dict[str, str], suspect: AccountRef
) -> None:
    inner = domain.add_group("VSOC (EU) #1", line["vana"], line["vclerk"])
    outer = domain.add_group("VSOC", inner, line["vlea"])
    domain.join(inner, outer)
    gone = domain.add_user("vgone", mail=mail("vgone"), userAccountControl=514)
    prime = domain.add_user("vprime", mail=mail("vprime"))
    for member in (gone, prime):
        domain.join(outer, member)
    rid = int.from_bytes((domain.read(outer, "objectSid") or b"")[-4:], "little")
    domain.put(prime, primaryGroupID=rid)
    assert domain.read(prime, "memberOf") != outer.encode()
    voters = ask(directory, suspect, analyst="VSOC", night="CORP\\VSOC (EU) #1")
    everybody = tuple(sorted(map(mail, ("vana", "vclerk", "vlea", "vprime"))))
    assert voters.members["analyst"] == everybody
    assert set(voters.members["night"]) >= {mail("vana"), mail("vclerk"), mail("vlea")}
    assert voters.recused == {mail("vclerk"): BELOW}


def test_a_group_that_is_not_there(directory: ActiveDirectory, suspect: AccountRef) -> None:
    voters = ask(directory, suspect, "vana", analyst="No-Such", lead=f"CN=Domain Admins,CN=Users,{BASE_DN}")
    assert voters.members == {}
    assert len(voters.faults) == 2


def test_a_suspect_who_was_moved(
    directory: ActiveDirectory, domain: Domain, line: dict[str, str], suspect: AccountRef
) -> None:
    domain.move(line["vsus"], "Moved\\, V.")
    assert set(ask(directory, suspect, "vboss", "vteam", "vlea").recused) == {mail("vboss"), mail("vteam")}
