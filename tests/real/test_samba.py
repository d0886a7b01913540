"""The Active Directory client against Samba as a domain controller: who is meant, who is let in, who answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations.active_directory import ActiveDirectory
from integrations.errors import Ambiguous, Misconfigured, NotFound, Unreachable
from lab.certificates import make_certificates
from tests.real.ldap_relay import LdapRelay, Request
from tests.real.samba import (
    BASE_DN,
    LOCKED_AFTER,
    PASSWORD,
    SERVICE_ACCOUNT,
    Connect,
    Controllers,
    Domain,
    ref,
)

pytest_plugins = ["tests.real.samba_fixtures"]


@pytest.fixture(scope="module")
def jdoe(domain: Domain) -> str:
    """John Doe's DN. He is in Finance, which is in ERP, which is in Crown Jewels; his boss has a boss."""
    top = domain.add_user("crossi", cn="Carla Rossi", mail="carla.rossi@corp.example", displayName="Carla Rossi")
    boss = domain.add_user("nkhan", cn="Khan\\, Nadia (\\#1)", mail="nadia.khan@corp.example", manager=top)
    dn = domain.add_user(
        "jdoe",
        cn="John Doe",
        mail="John.Doe@corp.example",
        displayName="John Doe",
        manager=boss,
        proxyAddresses=["SMTP:John.Doe@corp.example", "smtp:jd@corp.example"],
        employeeID="E-77",
        department="Finance",
        title="Clerk",
    )
    domain.add_group("Crown-Jewels", domain.add_group("ERP-Access", domain.add_group("Finance (EU) #1", dn)))
    return dn


# --- who it is


@pytest.mark.parametrize(
    "name",
    [
        "jdoe",
        "JDOE",
        "CORP\\jdoe",
        "corp\\JDoe",
        "corp.example\\jdoe",
        "jdoe@corp.example",
        "JDoe@CORP.EXAMPLE",
        "jdoe@CORP",
        "john.doe@corp.example",
        "CORP\\john.doe@corp.example",
    ],
)
def test_one_person_however_spelled(directory: ActiveDirectory, jdoe: str, name: str) -> None:
    assert directory.find_person(name).dn == jdoe


def test_the_whole_record(directory: ActiveDirectory, domain: Domain, jdoe: str) -> None:
    person = directory.find_person("jdoe")
    assert (person.account, person.upn, person.display_name) == ("jdoe", "jdoe@corp.example", "John Doe")
    assert person.mails == ("John.Doe@corp.example", "jd@corp.example")
    assert (person.employee_id, person.department, person.title) == ("E-77", "Finance", "Clerk")
    assert (person.enabled, person.user_account_control, person.service_account) == (True, 512, None)
    guid, sid = domain.read(jdoe, "objectGUID") or b"", person.sid or ""
    assert bytes.fromhex((person.guid or "").replace("-", ""))[8:] == guid[8:]
    assert sid.startswith("S-1-5-21-")
    assert int(sid.rpartition("-")[2]) == int.from_bytes((domain.read(jdoe, "objectSid") or b"")[-4:], "little")


def test_nested_groups_and_the_primary_group(directory: ActiveDirectory, jdoe: str) -> None:
    groups = {group.name: group.sid or "" for group in directory.find_person("jdoe").groups}
    assert {"Finance (EU) #1", "ERP-Access", "Crown-Jewels", "Domain Users", "Users"} <= set(groups)
    assert groups["Domain Users"].endswith("-513")
    assert groups["Users"] == "S-1-5-32-545"


def test_a_primary_group_that_makes_an_administrator(directory: ActiveDirectory, domain: Domain) -> None:
    dn = domain.add_user("sneaky")
    domain.join(f"CN=Domain Admins,CN=Users,{BASE_DN}", dn)
    domain.put(dn, primaryGroupID=512)
    assert domain.read(dn, "memberOf") != f"CN=Domain Admins,CN=Users,{BASE_DN}".encode()
    groups = {group.name: group.sid or "" for group in directory.find_person("sneaky").groups}
    assert groups["Domain Admins"].endswith("-512")
    assert groups["Administrators"] == "S-1-5-32-544"


def test_the_reporting_line(directory: ActiveDirectory, jdoe: str) -> None:
    line = [manager.account for manager in directory.find_person("jdoe").managers]
    assert line == ["nkhan", "crossi"]


def test_a_reporting_line_in_a_circle(directory: ActiveDirectory, domain: Domain) -> None:
    one = domain.add_user("circle1")
    other = domain.add_user("circle2", manager=one)
    domain.put(one, manager=other)
    assert [manager.account for manager in directory.find_person("circle1").managers] == ["circle2"]


@pytest.mark.parametrize(
    ("account", "cn"),
    [
        ("odd-comma", "Doe\\, Jane"),
        ("odd-parens", "Jane (temp) \\*"),
        ("odd-backslash", "a\\\\b"),
        ("odd-hash", "\\#1 Jane"),
        ("odd-plus", "A\\+B\\;C\\=D"),
        ("odd-quotes", 'Jane \\"JD\\" \\<x\\>'),
        ("odd-umlaut", "Zoë O'Neil / 東京"),
        ("José", "Jose with an accent"),
        ("o'neil", "apostrophe"),
    ],
)
def test_odd_names_are_found_and_their_groups_too(
    directory: ActiveDirectory, domain: Domain, account: str, cn: str
) -> None:
    inner = domain.add_group(f"in-{account}", domain.add_user(account, cn=cn))
    outer = domain.add_group(f"out-{account}", inner)
    person = directory.find_person(account)
    assert person.account == account
    assert {f"in-{account}", f"out-{account}"} <= {group.name for group in person.groups}
    assert domain.uac(person.dn) == 512
    domain.remove(outer)


def test_the_directory_takes_one_name_for_another_and_we_do_not(directory: ActiveDirectory, domain: Domain) -> None:
    domain.add_user("rene")
    with pytest.raises(NotFound):
        directory.find_person("rené")


def test_two_with_one_mail_address_are_no_candidate(directory: ActiveDirectory, domain: Domain) -> None:
    domain.add_user("twin1", mail="twin@corp.example")
    domain.add_user("twin2", mail="twin@corp.example")
    with pytest.raises(Ambiguous, match=r"twin1.*twin2|twin2.*twin1"):
        directory.find_person("twin@corp.example")


def test_more_than_a_search_may_give(directory: ActiveDirectory, domain: Domain) -> None:
    for number in range(12):
        domain.add_user(f"crowd{number}", mail="crowd@corp.example")
    with pytest.raises(Ambiguous):
        directory.find_person("crowd@corp.example")


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "*",
        "jdoe*",
        "jdoe)(objectClass=*",
        "*)(|(objectClass=*",
        "jdoe\\2a",
        "nobody@corp.example",
        "jdoe\x00",
    ],
)
def test_nobody_is_called_that(directory: ActiveDirectory, jdoe: str, name: str) -> None:
    with pytest.raises(NotFound):
        directory.find_person(name)


@pytest.mark.parametrize("name", ["WEB01\\jdoe", "OTHER\\jdoe", "OTHER\\jdoe@corp.example", "other.example\\jdoe"])
def test_an_account_of_a_machine_or_of_another_domain_is_not_the_domains(
    directory: ActiveDirectory, jdoe: str, name: str
) -> None:
    with pytest.raises(NotFound):
        directory.find_person(name)


def test_a_computer_is_not_a_person(directory: ActiveDirectory) -> None:
    with pytest.raises(NotFound, match="computer"):
        directory.find_person("DC1$")


def test_a_service_account_is_told(directory: ActiveDirectory, domain: Domain) -> None:
    domain.add_user("sqlsvc", unit="Services", servicePrincipalName="MSSQLSvc/db1.corp.example")
    assert "MSSQLSvc" in (directory.find_person("sqlsvc").service_account or "")


# --- who is let in


def test_a_distinguished_name_signs_in_and_so_does_start_tls(
    connect: Connect, controllers: Controllers, jdoe: str
) -> None:
    by_dn = connect(user=f"CN={SERVICE_ACCOUNT},OU=Services,{BASE_DN}")
    assert by_dn.find_person("jdoe").dn == jdoe
    assert connect(f"ldap://{controllers.first.address}").find_person("jdoe").dn == jdoe


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_another_authority_is_not_trusted(
    connect: Connect, controllers: Controllers, tmp_path: Path, scheme: str
) -> None:
    client = connect(f"{scheme}://{controllers.first.address}", ca_file=make_certificates(tmp_path).ca_file)
    with pytest.raises(Misconfigured, match="not trusted"):
        client.find_person("jdoe")


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_an_address_that_is_not_in_the_certificate(connect: Connect, controllers: Controllers, scheme: str) -> None:
    client = connect(f"{scheme}://{controllers.first.unnamed}")
    with pytest.raises(Misconfigured, match=controllers.first.unnamed):
        client.find_person("jdoe")
    assert "not trusted" in client.check()[0].detail


@pytest.mark.parametrize(
    ("state", "number", "words"),
    [
        ({}, "52e", "password is wrong"),
        ({"userAccountControl": "514"}, "533", "disabled"),
        ({"pwdLastSet": "0"}, "773", "must be changed"),
        ({"accountExpires": "116444736000000000"}, "701", "expired"),
        ({"logonHours": bytes(21)}, "530", "at this time"),
        ({"userWorkstations": "ELSEWHERE"}, "531", "from this machine"),
    ],
)
def test_why_the_service_account_is_not_let_in(
    connect: Connect, domain: Domain, state: dict[str, str], number: str, words: str
) -> None:
    domain.add_user(f"svc-{number}", unit="Services", **state)
    password = PASSWORD if state else "An0ther-Passw0rd!"
    client = connect(user=f"svc-{number}", password=password)
    with pytest.raises(Misconfigured, match=words) as caught:
        client.find_person("jdoe")
    (check,) = client.check()
    for told in (str(caught.value), check.detail):
        assert f"svc-{number}@corp.example" in told
        assert words in told
        assert f"data {number}" in told
        assert password not in told
    assert not check.ok


def test_a_locked_service_account(connect: Connect, domain: Domain) -> None:
    _lock(connect, domain, "svc-775", "Services")
    client = connect(user="svc-775")
    with pytest.raises(Misconfigured, match=r"locked \(data 775\)"):
        client.find_person("jdoe")
    assert "the account is locked" in client.check()[0].detail


def test_an_account_name_that_is_wrong_is_not_told_to_be_a_password(connect: Connect) -> None:
    with pytest.raises(Misconfigured, match="the account name or the password is wrong"):
        connect(user="svc-nobody").find_person("jdoe")


def _lock(connect: Connect, domain: Domain, account: str, unit: str) -> str:
    dn = domain.add_user(account, unit=unit)
    for _ in range(LOCKED_AFTER):
        with pytest.raises(Misconfigured):
            connect(user=account, password="wr0ng-Passw0rd!").find_person("jdoe")
    assert domain.number(dn, "lockoutTime")
    return dn


def test_a_locked_person_is_known_and_disabled_all_the_same(
    directory: ActiveDirectory, connect: Connect, domain: Domain
) -> None:
    dn = _lock(connect, domain, "locked", "Staff")
    person = directory.find_person("locked")
    assert (person.enabled, person.user_account_control) == (True, 512)
    assert directory.disable(ref(person)).changed
    assert domain.uac(dn) == 514


# --- who answers


def test_a_hanging_controller_is_passed_over(connect: Connect, controllers: Controllers) -> None:
    controllers.second.freeze()
    try:
        with pytest.raises(Unreachable):
            connect(controllers.second.url, connect_timeout=1, receive_timeout=1).find_person("both")
        client = connect(controllers.second.url, controllers.first.url, connect_timeout=1, receive_timeout=1)
        assert client.find_person("both").account == "both"
    finally:
        controllers.second.thaw()


@pytest.mark.parametrize("request_kind", [Request.BIND, Request.SEARCH])
def test_a_controller_that_dies_in_the_middle(
    connect: Connect, controllers: Controllers, request_kind: Request
) -> None:
    second = controllers.second
    with LdapRelay(second.address, controllers.tls) as relay:
        relay.before(request_kind, second.kill)
        try:
            assert connect(relay.url, controllers.first.url).find_person("both").account == "both"
            with pytest.raises(Unreachable):
                connect(second.url).find_person("both")
        finally:
            second.start()
        assert relay.seen[request_kind] <= 1
        assert connect(relay.url).find_person("both").account == "both"


def test_no_controller_answers(connect: Connect, controllers: Controllers) -> None:
    controllers.second.kill()
    try:
        client = connect(controllers.second.url, "ldaps://127.83.0.9")
        with pytest.raises(Unreachable) as caught:
            client.find_person("both")
        assert controllers.second.url in str(caught.value)
        assert "127.83.0.9" in str(caught.value)
        assert [check.ok for check in client.check()] == [False, False]
    finally:
        controllers.second.start()


# --- what the doctor sees


def test_the_doctor_of_a_healthy_domain(directory: ActiveDirectory, connect: Connect, controllers: Controllers) -> None:
    checks = connect(controllers.first.url, controllers.second.url).check()
    assert all(check.ok for check in checks), checks
    assert sum("clock" in check.name for check in checks) == 2
    assert "userAccountControl may be written on" in checks[-1].detail


def test_the_doctor_of_an_account_without_the_right(connect: Connect, domain: Domain) -> None:
    domain.add_user("svc-reader", unit="Services")
    rights = connect(user="svc-reader").check()[-1]
    assert (rights.name, rights.ok) == ("right to disable", False), rights


def test_the_doctor_of_a_base_that_is_not_there(connect: Connect) -> None:
    client = connect(base_dn="DC=other,DC=example")
    with pytest.raises(Misconfigured):
        client.find_person("jdoe")
    assert not all(check.ok for check in client.check())
