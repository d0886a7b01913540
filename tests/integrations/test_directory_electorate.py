"""Who may answer, by a directory over real sockets: groups, reporting lines, circles, and addresses of two people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from incident.requests import AccountRef
from incident.voters import FindElectorate, Voters
from integrations import directory_electorate
from integrations.active_directory import ActiveDirectory
from integrations.directory_electorate import MOST_MEMBERS
from integrations.directory_person import LONGEST_LINE
from integrations.errors import Busy, Unreachable
from integrations.ldap_names import sid_text
from lab.certificates import LabCertificates
from lab.directory import DirectoryLab

SELF, ABOVE, BELOW = (
    "the person under suspicion does not decide",
    "those above the person under suspicion do not decide",
    "those whom the person under suspicion manages do not decide",
)


@pytest.fixture
def lab(certificates: LabCertificates) -> Iterator[DirectoryLab]:
    """``chief`` > ``boss`` > ``jdoe`` > ``team`` > ``clerk``; ``ana`` and ``lea`` are elsewhere, under ``chief``."""
    with DirectoryLab(certificates) as running:
        line = (("chief", None), ("boss", "chief"), ("jdoe", "boss"), ("team", "jdoe"), ("clerk", "team"))
        for account, manager in (*line, ("ana", "chief"), ("lea", None)):
            running.add_user(account, mail=f"{account}@acme.example", manager=manager)
        yield running


@pytest.fixture
def directory(lab: DirectoryLab, certificates: LabCertificates) -> ActiveDirectory:
    return client(lab, certificates.ca_file)


def client(lab: DirectoryLab, ca_file: Path, *urls: str) -> ActiveDirectory:
    return ActiveDirectory(urls or (lab.url,), lab.bind_user, lab.password, lab.base_dn, ca_file=ca_file)


def suspect(directory: ActiveDirectory, account: str = "jdoe") -> AccountRef:
    person = directory.find_person(account)
    return AccountRef(dn=person.dn, guid=person.guid, account=person.account)


def ask(
    directory: ActiveDirectory, *accounts: str, about: AccountRef | None = None, groups: dict[str, str] | None = None
) -> Voters:
    addresses = tuple(account if "@" in account else f"{account}@acme.example" for account in accounts)
    request = FindElectorate(suspect=about or suspect(directory), addresses=addresses, groups=groups or {})
    return directory.find_electorate(request)


def recused(voters: Voters) -> dict[str, str]:
    return {address.partition("@")[0]: why for address, why in voters.recused.items()}


def test_the_suspect_and_those_above_and_below_at_any_distance(directory: ActiveDirectory) -> None:
    voters = ask(directory, "jdoe", "boss", "chief", "team", "clerk", "ana", "lea", "nobody")
    assert recused(voters) == {"jdoe": SELF, "boss": ABOVE, "chief": ABOVE, "team": BELOW, "clerk": BELOW}
    assert voters.unresolved == ("nobody@acme.example",)
    assert set(voters.accounts) == {
        f"{a}@acme.example" for a in ("jdoe", "boss", "chief", "team", "clerk", "ana", "lea")
    }
    assert voters.faults == ()


def test_the_head_of_everybody_is_not_asked_for_their_reports(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    for number in range(30):
        lab.add_user(f"staff{number}", mail=f"staff{number}@acme.example", manager="chief")
    about = suspect(directory, "chief")
    lab.operations.clear()
    voters = ask(directory, "ana", "lea", about=about)
    assert recused(voters) == {"ana": BELOW}
    assert lab.count("search") < 10
    assert not any("manager=" in operation.detail for operation in lab.operations)


@pytest.mark.parametrize("circle", [("boss", "jdoe"), ("chief", "clerk"), ("jdoe", "jdoe"), ("ana", "ana")])
def test_circles_end(directory: ActiveDirectory, lab: DirectoryLab, circle: tuple[str, str]) -> None:
    lab.put(circle[0], "manager", lab.tree.named(circle[1]).dn)
    voters = ask(directory, "jdoe", "boss", "clerk", "ana", "lea")
    assert {"jdoe", "clerk"} <= set(recused(voters))
    assert "lea" not in recused(voters)
    assert "lea@acme.example" in voters.accounts


def test_a_line_without_end_is_followed_so_far(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    above = "jdoe"
    for number in range(LONGEST_LINE + 3):
        lab.add_user(f"deep{number}", mail=f"deep{number}@acme.example", manager=above)
        above = f"deep{number}"
    voters = ask(directory, f"deep{LONGEST_LINE - 1}", f"deep{LONGEST_LINE + 2}")
    assert recused(voters) == {f"deep{LONGEST_LINE - 1}": BELOW}


def test_names_are_compared_as_names_and_not_as_text(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("under", mail="under@acme.example")
    lab.put("under", "manager", lab.tree.named("jdoe").dn.upper().replace(",", ", "))
    assert recused(ask(directory, "under")) == {"under": BELOW}


def test_a_manager_who_cannot_be_read_still_counts_by_name(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    about = suspect(directory)
    gone = lab.tree.named("boss").dn
    lab.tree.remove(gone)
    lab.add_user("orphan", mail="orphan@acme.example", manager=None)
    lab.put("orphan", "manager", gone)
    assert recused(ask(directory, "orphan", "chief", about=about)) == {}
    lab.add_user("boss", mail="boss@acme.example")
    assert recused(ask(directory, "boss", about=about)) == {"boss": ABOVE}


def test_a_suspect_who_was_moved_is_the_same_person(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    about = suspect(directory)
    lab.tree.move(about.dn, f"CN=Doe\\, J.,OU=Groups,{lab.base_dn}")
    assert recused(ask(directory, "jdoe", "boss", "ana", about=about)) == {"jdoe": SELF, "boss": ABOVE}


def test_a_suspect_who_is_gone_recuses_nobody_and_it_is_said(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    about = suspect(directory)
    lab.tree.remove(about.dn)
    voters = ask(directory, "boss", about=about)
    assert voters.recused == {}
    assert voters.faults == ("account jdoe is not in the directory, so its line is not known",)


def test_without_a_suspect_only_groups_and_accounts_are_read(directory: ActiveDirectory) -> None:
    request = FindElectorate(suspect=None, addresses=("jdoe@acme.example",))
    voters = directory.find_electorate(request)
    assert (voters.recused, voters.faults) == ({}, ())


def test_of_two_candidates_one_in_the_line_is_one_too_many(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    for account, manager in (("twin1", "jdoe"), ("twin2", None), ("pair1", None), ("pair2", None)):
        lab.add_user(account, mail=f"{account[:4]}@acme.example", manager=manager)
    voters = ask(directory, "twin", "pair")
    assert recused(voters) == {"twin": BELOW}
    assert voters.accounts == {}
    assert voters.unresolved == ()
    assert [fault.partition(":")[0] for fault in voters.faults] == [
        f"several accounts have {pair}@acme.example" for pair in ("twin", "pair")
    ]


def test_an_address_may_be_an_alias_or_a_upn(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user(
        "ali",
        mail="a.li@acme.example",
        upn="ali@corp.example",
        manager="jdoe",
        extra={
            "proxyAddresses": ["SMTP:a.li@acme.example", "smtp:Ali.As@acme.example"],
        },
    )
    voters = ask(directory, "ali.as@acme.example", "ALI@corp.example", "a.li@acme.example", "ali@acme.example")
    assert voters.recused == dict.fromkeys(("ali.as@acme.example", "ali@corp.example", "a.li@acme.example"), BELOW)
    assert voters.unresolved == ("ali@acme.example",)


@pytest.mark.parametrize("hostile", ["*@acme.example", "x)(mail=*@acme.example", "\\2a", "a\x00b@c.example", "a*"])
def test_an_address_stays_text_in_the_filter(directory: ActiveDirectory, hostile: str) -> None:
    assert directory.find_electorate(FindElectorate(suspect=suspect(directory), addresses=(hostile,))).recused == {}


# --- groups


@pytest.fixture
def soc(lab: DirectoryLab) -> DirectoryLab:
    """``SOC`` holds ``ana`` and ``SOC-Night``, which holds ``lea``, ``clerk`` and ``SOC`` itself."""
    lab.add_group("SOC", members=["ana"])
    lab.add_group("SOC-Night", members=["lea", "clerk", "SOC"])
    lab.add_members("SOC", "SOC-Night")
    return lab


@pytest.mark.parametrize("in_chain", ["on", "silent", "refused"])
def test_members_at_any_depth_and_in_circles(directory: ActiveDirectory, soc: DirectoryLab, in_chain: str) -> None:
    soc.tree.in_chain = in_chain  # type: ignore[assignment]
    voters = ask(directory, groups={"analyst": "SOC"})
    assert voters.members == {"analyst": ("ana@acme.example", "clerk@acme.example", "lea@acme.example")}
    assert recused(voters) == {"clerk": BELOW}
    assert set(voters.accounts) == set(voters.members["analyst"])


def test_a_group_by_its_sid_its_domain_and_without_case(directory: ActiveDirectory, soc: DirectoryLab) -> None:
    sid = sid_text(soc.tree.named("SOC").values("objectSid")[0]) or ""
    for name in (sid, "CORP\\SOC", "soc"):
        assert len(ask(directory, groups={"analyst": name}).members["analyst"]) == 3


def test_whose_primary_group_it_is_and_who_left(directory: ActiveDirectory, soc: DirectoryLab) -> None:
    soc.add_group("SOC-Primary", rid=4711)
    soc.add_user("prim", mail="prim@acme.example", primary_group=4711)
    soc.add_user("gone", mail="gone@acme.example", uac=514, groups=["SOC-Primary"])
    soc.add_user("mute", groups=["SOC-Primary"])
    voters = ask(directory, groups={"analyst": "SOC-Primary"})
    assert voters.members == {"analyst": ("prim@acme.example",)}
    assert voters.faults == ("mute of group 'SOC-Primary' has no mail address",)


def test_members_are_not_judged_where_that_was_not_asked(directory: ActiveDirectory, soc: DirectoryLab) -> None:
    request = FindElectorate(
        suspect=suspect(directory), addresses=("lea@acme.example",), groups={"a": "SOC"}, members_too=False
    )
    voters = directory.find_electorate(request)
    assert len(voters.members["a"]) == 3
    assert voters.recused == {}


def test_a_group_that_is_not_there_or_twice_is_a_fault_and_the_rest_is_told(
    directory: ActiveDirectory, soc: DirectoryLab
) -> None:
    soc.add_group("Twice")
    soc.tree.add(
        f"CN=Twice,OU=Staff,{soc.base_dn}", {"objectClass": ["group"], "cn": ["Twice"], "sAMAccountName": ["Twice2"]}
    )
    voters = ask(directory, "boss", groups={"a": "No-Such", "b": "Twice", "c": "SOC"})
    assert set(voters.members) == {"c"}
    assert voters.faults == ("there is no group called 'No-Such'", "there are several groups called 'Twice'")
    assert recused(voters) == {"boss": ABOVE, "clerk": BELOW}


def test_a_group_of_everybody_is_none_of_analysts(
    directory: ActiveDirectory, soc: DirectoryLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_MEMBERS > 100
    monkeypatch.setattr(directory_electorate, "MOST_MEMBERS", 2)
    voters = ask(directory, groups={"a": "SOC"})
    assert voters.members == {"a": ()}
    assert voters.faults == ("group 'SOC' has more than 2 members: nobody may answer by it",)


# --- the directory as a whole


def test_a_server_that_is_down_is_passed_over(lab: DirectoryLab, certificates: LabCertificates) -> None:
    both = client(lab, certificates.ca_file, "ldaps://127.0.0.1:1", lab.url)
    assert recused(ask(both, "boss")) == {"boss": ABOVE}


@pytest.mark.parametrize(("fault", "error"), [("busy", Busy), ("reset", Unreachable)])
def test_a_directory_that_does_not_tell_says_so(
    directory: ActiveDirectory, lab: DirectoryLab, fault: str, error: type[Exception]
) -> None:
    about = suspect(directory)
    lab.fail(fault, times=20, on="search")  # type: ignore[arg-type]
    with pytest.raises(error):
        ask(directory, "boss", about=about)
