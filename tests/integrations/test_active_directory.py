"""The Active Directory client against a directory server over real sockets and real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from ldap3 import Connection, Server

from incident.evidence import Person
from incident.requests import AccountRef
from integrations.active_directory import ActiveDirectory
from integrations.directory_person import LONGEST_LINE, MOST_GROUPS
from integrations.errors import (
    Ambiguous,
    BadAnswer,
    Busy,
    Changed,
    IntegrationError,
    Misconfigured,
    NotFound,
    Refused,
    Rejected,
    Unreachable,
)
from integrations.interfaces import Directory
from integrations.ldap_errors import raise_for_result
from lab.certificates import LabCertificates, make_certificates
from lab.directory import DirectoryLab, Fault

Connect = Callable[..., ActiveDirectory]


@pytest.fixture
def lab(certificates: LabCertificates) -> Iterator[DirectoryLab]:
    with DirectoryLab(certificates) as running:
        running.add_user("boss", name="Bo Ss", mail="bo.ss@corp.example", upn="boss@corp.example")
        running.add_group("Crown-Jewels")
        running.add_group("ERP-Access")
        running.add_group("Finance-Users")
        running.add_members("Crown-Jewels", "ERP-Access")
        running.add_members("ERP-Access", "Finance-Users")
        running.add_user(
            "jdoe",
            name="John Doe",
            mail="john.doe@corp.example",
            upn="jdoe@corp.example",
            manager="boss",
            groups=["Finance-Users"],
            extra={
                "employeeID": ["E-77"],
                "department": ["Finance"],
                "title": ["Clerk"],
                "proxyAddresses": ["SMTP:john.doe@corp.example", "smtp:jd@corp.example", "x400:c=us"],
            },
        )
        yield running


@pytest.fixture
def connect(lab: DirectoryLab, certificates: LabCertificates) -> Connect:
    def make(*servers: str, user: str | None = None, password: str | None = None, **more: object) -> ActiveDirectory:
        options: dict[str, object] = {"ca_file": certificates.ca_file}
        return ActiveDirectory(
            servers or (lab.url,),
            user if user is not None else lab.bind_user,
            password if password is not None else lab.password,
            str(more.pop("base_dn", lab.base_dn)),
            **(options | more),  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def directory(connect: Connect) -> ActiveDirectory:
    return connect()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A port of ours that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"ldaps://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def mute_url() -> Iterator[str]:
    """Takes the connection and says nothing, not even a handshake."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        yield f"ldaps://127.0.0.1:{mute.getsockname()[1]}"


def ref(person: Person) -> AccountRef:
    return AccountRef(dn=person.dn, guid=person.guid, account=person.account)


def names(person: Person) -> set[str]:
    return {group.name for group in person.groups}


def test_it_is_a_directory(directory: ActiveDirectory) -> None:
    wanted: Directory = directory
    assert wanted is directory


# --- TLS and bind


def test_ldaps_and_start_tls_by_address_and_by_name(connect: Connect, lab: DirectoryLab) -> None:
    by_name = [url.replace("127.0.0.1", "localhost") for url in (lab.url, lab.starttls_url)]
    for url in (lab.url, lab.starttls_url, *by_name):
        assert connect(url).find_person("jdoe").account == "jdoe"
    assert connect(lab.url, user=lab.bind_dn).find_person("jdoe").account == "jdoe"


def test_nothing_is_sent_before_start_tls(connect: Connect, lab: DirectoryLab) -> None:
    lab.offers_start_tls = False
    with pytest.raises(Misconfigured, match="does not offer StartTLS"):
        connect(lab.starttls_url).find_person("jdoe")
    assert [operation.kind for operation in lab.operations if operation.kind != "unbind"] == ["extended"]


def test_another_authority_is_not_trusted(connect: Connect, lab: DirectoryLab, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path)
    for url in (lab.url, lab.starttls_url):
        with pytest.raises(Misconfigured, match="certificate is not trusted"):
            connect(url, ca_file=stranger.ca_file).find_person("jdoe")
    assert lab.count("bind") == 0


@pytest.mark.parametrize("others", [("dc1.corp.example",), ("127.0.0.2", "dc1.corp.example")])
def test_a_certificate_for_another_name_is_not_trusted(others: tuple[str, ...], tmp_path: Path) -> None:
    elsewhere = make_certificates(tmp_path, names=others)
    with DirectoryLab(elsewhere) as lab:
        for url in (lab.url, lab.starttls_url):
            for address in (url, url.replace("127.0.0.1", "localhost")):
                client = ActiveDirectory([address], lab.bind_user, lab.password, lab.base_dn, ca_file=elsewhere.ca_file)
                with pytest.raises(Misconfigured, match="certificate is not trusted"):
                    client.find_person("jdoe")
        assert lab.count("bind") == 0


def test_ldaps_to_a_port_that_speaks_no_tls(connect: Connect, lab: DirectoryLab) -> None:
    with pytest.raises((Misconfigured, Unreachable)):
        connect(lab.starttls_url.replace("ldap:", "ldaps:"), receive_timeout=1).find_person("jdoe")
    assert lab.count("bind") == 0


def test_a_ca_file_that_is_none(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ca_file"):
        connect(ca_file=tmp_path / "absent.pem").find_person("jdoe")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(Misconfigured, match="ca_file"):
        connect(ca_file=tmp_path / "empty.pem").find_person("jdoe")


@pytest.mark.parametrize("url", ["https://dc1", "ldaps://", "dc1.corp.example", "ldaps://dc1:99999"])
def test_an_address_that_is_none(connect: Connect, url: str) -> None:
    with pytest.raises(Misconfigured, match="neither ldaps"):
        connect(url).find_person("jdoe")


def test_no_server_at_all(lab: DirectoryLab) -> None:
    client = ActiveDirectory([], lab.bind_user, lab.password, lab.base_dn)
    with pytest.raises(Misconfigured):
        client.find_person("jdoe")
    assert [check.ok for check in client.check()] == [False]


def test_a_wrong_password_is_told_in_words_and_not_shown(
    connect: Connect, lab: DirectoryLab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(Misconfigured, match="password is wrong") as caught:
        connect(password="n0t-the-0ne").find_person("jdoe")
    told = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert "n0t-the-0ne" not in told
    assert lab.bind_user in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("525", "no such account"),
        ("532", "password has expired"),
        ("533", "disabled"),
        ("701", "account has expired"),
        ("773", "must be changed"),
        ("775", "locked"),
        ("80090346", "not accepted"),
    ],
)
def test_why_the_bind_was_refused(connect: Connect, lab: DirectoryLab, fault: str, words: str) -> None:
    lab.add_user("svc-other", password="Right-0ne", bind_fault=fault)
    with pytest.raises(Misconfigured, match=words):
        connect(user="svc-other@corp.example", password="Right-0ne").find_person("jdoe")


def test_nobody_signs_in_without_a_password(connect: Connect, lab: DirectoryLab) -> None:
    for options in ({"password": ""}, {"user": ""}):
        with pytest.raises(Misconfigured, match="no password"):
            connect(**options).find_person("jdoe")
    assert lab.operations == []


# --- the servers in order


def test_a_dead_first_server_is_passed_over(connect: Connect, lab: DirectoryLab, dead_url: str, mute_url: str) -> None:
    client = connect(dead_url, mute_url, lab.url, receive_timeout=1)
    person = client.find_person("jdoe")
    assert client.disable(ref(person)).changed
    assert lab.uac("jdoe") == 514


def test_no_server_answers(connect: Connect, dead_url: str, mute_url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        connect(dead_url, mute_url, receive_timeout=1).find_person("jdoe")
    assert dead_url in str(caught.value)
    assert mute_url in str(caught.value)


def test_a_name_that_does_not_resolve(connect: Connect) -> None:
    with pytest.raises(Unreachable, match="cannot be resolved"):
        connect("ldaps://dc1.invalid").find_person("jdoe")


@pytest.mark.parametrize("fault", ["busy", "unavailable"])
def test_a_busy_server_is_passed_over(
    connect: Connect, lab: DirectoryLab, certificates: LabCertificates, fault: Fault
) -> None:
    with DirectoryLab(certificates, tree=lab.tree) as second:
        lab.fail(fault, on="bind")
        assert connect(lab.url, second.url).find_person("jdoe").account == "jdoe"
        assert (lab.count("search"), second.count("bind")) == (0, 1)
    lab.fail(fault)
    with pytest.raises(Busy):
        connect(lab.url).find_person("jdoe")


def test_one_untrusted_server_beside_a_good_one(
    connect: Connect, lab: DirectoryLab, dead_url: str, tmp_path: Path
) -> None:
    with DirectoryLab(make_certificates(tmp_path)) as stranger:
        assert connect(stranger.url, lab.url).find_person("jdoe").account == "jdoe"
        with pytest.raises(Misconfigured, match="certificate"):
            connect(stranger.url, dead_url).find_person("jdoe")


@pytest.mark.parametrize("fault", ["reset", "silent"])
@pytest.mark.parametrize("on", ["bind", "search"])
def test_a_server_that_fails_while_reading_is_passed_over(
    connect: Connect, lab: DirectoryLab, certificates: LabCertificates, fault: Fault, on: str
) -> None:
    lab.fail(fault, on=on)
    with pytest.raises(Unreachable):
        connect(lab.url, receive_timeout=1).find_person("jdoe")
    with DirectoryLab(certificates, tree=lab.tree) as second:
        lab.fail(fault, on=on)
        assert connect(lab.url, second.url, receive_timeout=1).find_person("jdoe").account == "jdoe"


@pytest.mark.parametrize("fault", ["reset", "silent", "answer_lost"])
def test_a_change_without_an_answer_is_not_made_twice(
    connect: Connect, lab: DirectoryLab, certificates: LabCertificates, fault: Fault
) -> None:
    with DirectoryLab(certificates, tree=lab.tree) as second:
        client = connect(lab.url, second.url, receive_timeout=1)
        person = client.find_person("jdoe")
        lab.fail(fault, on="modify")
        with pytest.raises(Unreachable):
            client.disable(ref(person))
        assert second.count("modify") == 0
        assert lab.uac("jdoe") == (514 if fault == "answer_lost" else 512)
        assert client.read_back(ref(person)).in_force == (fault == "answer_lost")
        assert client.disable(ref(person)).changed == (fault != "answer_lost")
        assert lab.uac("jdoe") == 514


def test_a_busy_answer_to_a_change_is_not_taken_elsewhere(
    connect: Connect, lab: DirectoryLab, certificates: LabCertificates
) -> None:
    with DirectoryLab(certificates, tree=lab.tree) as second:
        client = connect(lab.url, second.url)
        person = client.find_person("jdoe")
        lab.fail("busy", on="modify")
        with pytest.raises(Busy):
            client.disable(ref(person))
        assert second.count("modify") == 0


# --- who is it


@pytest.mark.parametrize(
    "name",
    [
        "jdoe",
        "JDOE",
        "CORP\\jdoe",
        "corp.example\\jdoe",
        "jdoe@corp.example",
        "JDoe@CORP.EXAMPLE",
        "john.doe@corp.example",
        "CORP\\john.doe@corp.example",
        " jdoe ",
    ],
)
def test_one_person_however_spelled(directory: ActiveDirectory, name: str) -> None:
    person = directory.find_person(name)
    assert person.account == "jdoe"
    assert person.upn == "jdoe@corp.example"
    assert person.mails == ("john.doe@corp.example", "jd@corp.example")
    assert person.display_name == "John Doe"
    assert (person.employee_id, person.department, person.title) == ("E-77", "Finance", "Clerk")
    assert (person.enabled, person.user_account_control, person.service_account) == (True, 512, None)


def test_ids_are_text(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    person = directory.find_person("jdoe")
    assert person.sid is not None
    assert person.sid.startswith("S-1-5-21-")
    lab.put("jdoe", "objectSid", person.sid)
    lab.put("jdoe", "objectGUID", f"{{{(person.guid or '').upper()}}}")
    again = directory.find_person("jdoe")
    assert (again.sid, again.guid) == (person.sid, person.guid)


def test_a_sparse_entry(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("bare", primary_group=None, extra={"employeeNumber": ["42"]})
    for attribute in ("objectSid", "objectGUID"):
        lab.put("bare", attribute)
    person = directory.find_person("bare")
    assert (person.sid, person.guid, person.upn, person.mails, person.groups, person.managers) == (
        None, None, None, (), (), (),
    )  # fmt: skip
    assert person.employee_id == "42"


def test_an_implicit_upn_of_our_domain_only(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("mmoe", upn="m.moe@acme.example")
    assert directory.find_person("mmoe@corp.example").account == "mmoe"
    assert directory.find_person("mmoe@CORP").account == "mmoe"
    with pytest.raises(NotFound):
        directory.find_person("mmoe@elsewhere.example")


def test_a_local_account_of_a_machine_is_not_the_domains(directory: ActiveDirectory) -> None:
    with pytest.raises(NotFound, match="WEB01"):
        directory.find_person("WEB01\\jdoe")


def test_the_forest_knows_the_short_name_where_the_account_does_not_tell_it(
    directory: ActiveDirectory, lab: DirectoryLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.tree.netbios = ""
    assert directory.find_person("WEB01\\jdoe").account == "jdoe"
    forest, partitions = f"CN=Configuration,{lab.base_dn}", f"CN=Partitions,CN=Configuration,{lab.base_dn}"
    root = lab.root_dse()
    root.put("configurationNamingContext", [forest])
    monkeypatch.setattr(lab, "root_dse", lambda: root)
    assert directory.find_person("WEB01\\jdoe").account == "jdoe"
    lab.tree.add(partitions, {"objectClass": ["crossRefContainer"]})
    lab.tree.add(f"CN=Enterprise,{partitions}", {"objectClass": ["crossRef"], "dnsRoot": ["corp.example"]})
    own = {"objectClass": ["crossRef"], "dnsRoot": ["corp.example"], "nETBIOSName": ["ACME"]}
    lab.tree.add(f"CN=ACME,{partitions}", own)
    assert directory.find_person("acme\\jdoe").account == "jdoe"
    with pytest.raises(NotFound, match="ACME"):
        directory.find_person("WEB01\\jdoe")


def test_two_candidates_are_no_candidate(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    other = lab.add_user("other", mail="jdoe")
    with pytest.raises(Ambiguous) as caught:
        directory.find_person("jdoe")
    assert other in str(caught.value)
    assert "John Doe" in str(caught.value)


def test_very_many_candidates_are_no_candidate(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    for number in range(15):
        lab.add_user(f"shared{number}", mail="shared@corp.example")
    with pytest.raises(Ambiguous):
        directory.find_person("shared@corp.example")


@pytest.mark.parametrize(
    "name",
    ["nobody", "*", "jd*", "jdoe)(objectClass=*", "jdoe\\2a", 'j"doe', "(jdoe)", "jdoe|", "josé", "jdoe@", "&", "a=b"],
)
def test_nobody(directory: ActiveDirectory, lab: DirectoryLab, name: str) -> None:
    lab.add_user("jose")
    with pytest.raises(NotFound):
        directory.find_person(name)


@pytest.mark.parametrize("name", ["", "CORP\\", "jd\x00oe", "jdoe\r\n", "x" * 5000])
def test_impossible_names_are_not_asked_for(directory: ActiveDirectory, lab: DirectoryLab, name: str) -> None:
    with pytest.raises(NotFound):
        directory.find_person(name)
    assert lab.operations == []


@pytest.mark.parametrize("account", ["o*brien", "a(b)c", 'q"uote', "o'neil", "back,slash", "Zoë", "sp ace"])
def test_odd_names_are_found_as_they_are(directory: ActiveDirectory, lab: DirectoryLab, account: str) -> None:
    lab.add_user("decoy")
    lab.add_user(account, name=f'{account}, "x" \\ (y)*', groups=["Finance-Users"])
    person = directory.find_person(account)
    assert person.account == account
    assert "Crown-Jewels" in names(person)
    assert directory.disable(ref(person)).changed
    assert lab.uac(account) == 514


def test_the_directory_takes_one_name_for_another_and_we_do_not(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("jose")
    with pytest.raises(NotFound):
        directory.find_person("josé")
    lab.add_user("other", mail="josé")
    assert directory.find_person("josé").account == "other"


def test_a_computer_is_not_a_person(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_computer("WS01")
    with pytest.raises(NotFound, match="computer"):
        directory.find_person("CORP\\WS01$")


@pytest.mark.parametrize("kind", ["msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount"])
def test_a_managed_service_account(directory: ActiveDirectory, lab: DirectoryLab, kind: str) -> None:
    lab.add_user("gmsa$", uac=4096, classes=["top", "person", "organizationalPerson", "user", "computer", kind])
    assert "managed service account" in (directory.find_person("gmsa$").service_account or "")


def test_an_account_with_a_service_principal_name(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("backup", extra={"servicePrincipalName": ["MSSQLSvc/db01:1433"]})
    lab.add_user("svc-only-by-name")
    assert "MSSQLSvc/db01" in (directory.find_person("backup").service_account or "")
    assert directory.find_person("svc-only-by-name").service_account is None


def test_the_reporting_line(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("chief", name="Chief", mail="chief@corp.example")
    lab.put("boss", "manager", lab.tree.named("chief").dn)
    line = directory.find_person("jdoe").managers
    assert [manager.account for manager in line] == ["boss", "chief"]
    assert line[0].answers_to("BO.SS@corp.example")
    lab.put("chief", "manager", lab.tree.named("jdoe").dn)
    assert [manager.account for manager in directory.find_person("jdoe").managers] == ["boss", "chief"]


def test_a_reporting_line_that_cannot_be_read_ends_there(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.put("boss", "manager", "CN=Gone,OU=Staff,DC=corp,DC=example")
    assert [manager.account for manager in directory.find_person("jdoe").managers] == ["boss"]
    lab.put("boss", "manager", "CN=Chief,DC=other,DC=example")
    assert [manager.account for manager in directory.find_person("jdoe").managers] == ["boss"]


def test_a_very_long_reporting_line(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("m0")
    for number in range(1, 15):
        lab.add_user(f"m{number}", manager=f"m{number - 1}")
    assert len(directory.find_person("m14").managers) == LONGEST_LINE


def test_missing_facts_are_not_made_up(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.put("jdoe", "userAccountControl")
    with pytest.raises(BadAnswer, match="userAccountControl"):
        directory.find_person("jdoe")


def test_a_base_that_belongs_elsewhere(connect: Connect) -> None:
    with pytest.raises(Misconfigured, match="base_dn"):
        connect(base_dn="DC=other,DC=example").find_person("jdoe")
    with pytest.raises(Misconfigured, match="base_dn"):
        connect(base_dn="OU=Nowhere,DC=corp,DC=example").find_person("jdoe")


# --- groups


@pytest.mark.parametrize("rule", ["on", "silent", "refused"])
def test_nested_groups_by_rule_and_by_walking(directory: ActiveDirectory, lab: DirectoryLab, rule: str) -> None:
    lab.tree.in_chain = rule  # type: ignore[assignment]
    person = directory.find_person("jdoe")
    assert names(person) == {"Finance-Users", "ERP-Access", "Crown-Jewels", "Domain Users"}
    sids = {group.name: group.sid for group in person.groups}
    assert (sids["Domain Users"] or "").endswith("-513")
    assert all(sid and sid.startswith("S-1-5-21-") for sid in sids.values())


@pytest.mark.parametrize("rule", ["on", "silent"])
def test_groups_in_a_circle(directory: ActiveDirectory, lab: DirectoryLab, rule: str) -> None:
    lab.tree.in_chain = rule  # type: ignore[assignment]
    lab.add_members("Finance-Users", "Crown-Jewels")
    assert names(directory.find_person("jdoe")) == {"Finance-Users", "ERP-Access", "Crown-Jewels", "Domain Users"}


@pytest.mark.parametrize("rule", ["on", "silent"])
def test_the_primary_group_counts_with_what_it_is_nested_in(
    directory: ActiveDirectory, lab: DirectoryLab, rule: str
) -> None:
    lab.tree.in_chain = rule  # type: ignore[assignment]
    lab.add_user("quiet", primary_group=512)
    lab.add_members("Crown-Jewels", "Domain Admins")
    assert names(directory.find_person("quiet")) == {"Domain Admins", "Crown-Jewels"}


def test_a_primary_group_that_cannot_be_read(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("lost", primary_group=9999)
    (group,) = directory.find_person("lost").groups
    assert group.name == "primary group 9999"
    assert (group.sid or "").endswith("-9999")
    lab.put("lost", "objectSid")
    (group,) = directory.find_person("lost").groups
    assert (group.name, group.sid) == ("primary group 9999", None)


def test_a_group_is_known_by_each_of_its_names(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.put("Finance-Users", "cn", "Money")
    assert {"Money", "Finance-Users"} <= names(directory.find_person("jdoe"))


def test_more_groups_than_can_be_looked_at(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    for number in range(MOST_GROUPS + 1):
        lab.add_group(f"g{number}", ["boss"])
    assert len(directory.find_person("boss").groups) == MOST_GROUPS + 2
    lab.tree.in_chain = "silent"
    with pytest.raises(Rejected, match="groups"):
        directory.find_person("boss")


# --- disabling and undoing


@pytest.mark.parametrize(("before", "after"), [(512, 514), (66048, 66050), (262656, 262658)])
def test_disable_sets_one_bit_and_enable_clears_it(
    directory: ActiveDirectory, lab: DirectoryLab, before: int, after: int
) -> None:
    lab.put("jdoe", "userAccountControl", before)
    account = ref(directory.find_person("jdoe"))
    written = directory.disable(account)
    assert (written.changed, written.before) == (True, {"userAccountControl": str(before)})
    assert lab.uac("jdoe") == after
    assert directory.read_back(account).in_force
    assert not directory.find_person("jdoe").enabled
    assert directory.enable(account, written.before).changed
    assert lab.uac("jdoe") == before
    assert not directory.read_back(account).in_force


def test_disabled_already_is_success_and_writes_nothing(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.put("jdoe", "userAccountControl", 514)
    written = directory.disable(ref(directory.find_person("jdoe")))
    assert (written.changed, written.before) == (False, {"userAccountControl": "514"})
    assert "already" in written.detail
    assert lab.count("modify") == 0


def test_a_change_in_between_is_not_overwritten(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.before_modify = lambda: lab.put("jdoe", "userAccountControl", 66048)
    with pytest.raises(Changed):
        directory.disable(account)
    assert lab.uac("jdoe") == 66048
    assert directory.disable(account).before == {"userAccountControl": "66048"}
    lab.tree.before_modify = lambda: lab.put("jdoe", "userAccountControl", 514)
    with pytest.raises(Changed):
        directory.enable(account, {"userAccountControl": "66048"})
    assert lab.uac("jdoe") == 514


def test_somebody_else_was_faster(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.before_modify = lambda: lab.put("jdoe", "userAccountControl", 66050)
    written = directory.disable(account)
    assert (written.changed, written.before) == (False, {"userAccountControl": "66050"})
    assert "somebody else" in written.detail
    lab.tree.before_modify = lambda: lab.put("jdoe", "userAccountControl", 512)
    assert not directory.enable(account, {"userAccountControl": "512"}).changed


def test_a_server_that_calls_an_equal_value_success(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.equal_is_success = True
    lab.tree.before_modify = lambda: lab.put("jdoe", "userAccountControl", 514)
    directory.disable(account)
    assert lab.uac("jdoe") == 514
    assert directory.read_back(account).in_force


def test_many_at_once_disable_once(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: directory.disable(account), range(16)))
    assert sum(one.changed for one in written) == 1
    assert lab.uac("jdoe") == 514


def test_a_protected_account_is_refused(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.add_user("ada", ou="OU=Tier0")
    with pytest.raises(Refused):
        directory.disable(ref(directory.find_person("ada")))
    assert lab.uac("ada") == 512


def test_without_delegation_everything_is_refused(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.tree.delegates.clear()
    with pytest.raises(Refused):
        directory.disable(ref(directory.find_person("jdoe")))


def test_an_account_that_was_moved_is_followed(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.move(account.dn, "CN=John Doe,OU=Groups,DC=corp,DC=example")
    assert directory.disable(account).changed
    assert lab.uac("jdoe") == 514
    with pytest.raises(NotFound):
        directory.disable(account.model_copy(update={"guid": None}))


def test_an_account_that_was_moved_and_renamed_is_followed(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.put("jdoe", "sAMAccountName", "jsmith")
    lab.tree.move(account.dn, "CN=John Smith,OU=Groups,DC=corp,DC=example")
    assert directory.disable(account).changed
    assert lab.uac("jsmith") == 514


def test_an_account_that_is_moved_at_that_moment_is_to_be_looked_for_again(
    directory: ActiveDirectory, lab: DirectoryLab
) -> None:
    account, elsewhere = ref(directory.find_person("jdoe")), "CN=John Doe,OU=Groups,DC=corp,DC=example"

    def there() -> None:
        lab.tree.move(account.dn, elsewhere)

    def back() -> None:
        lab.tree.move(elsewhere, account.dn)

    def away() -> None:
        lab.tree.remove(account.dn)

    lab.tree.before_modify = there
    with pytest.raises(Changed):
        directory.disable(account)
    assert lab.uac("jdoe") == 512
    before = directory.disable(account).before
    lab.tree.before_modify = back
    with pytest.raises(Changed):
        directory.enable(account, before)
    lab.tree.before_modify = away
    with pytest.raises(NotFound):
        directory.enable(account, before)


def test_another_object_of_the_same_name_is_left_alone(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.remove(account.dn)
    lab.add_user("jdoe", name="John Doe")
    for call in (directory.disable, directory.read_back):
        with pytest.raises(NotFound):
            call(account)
    with pytest.raises(NotFound):
        directory.enable(account, {"userAccountControl": "512"})
    with pytest.raises(NotFound):
        directory.disable(AccountRef(dn=account.dn, guid=None, account="somebody"))
    assert lab.uac("jdoe") == 512


def test_an_account_that_is_gone(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    lab.tree.remove(account.dn)
    with pytest.raises(NotFound):
        directory.disable(account)


def test_without_a_guid_the_account_name_must_be_right(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe")).model_copy(update={"guid": None})
    assert directory.disable(account).changed


def test_undo_keeps_what_others_changed_since(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    account = ref(directory.find_person("jdoe"))
    before = directory.disable(account).before
    lab.put("jdoe", "userAccountControl", 66050)
    directory.enable(account, before)
    assert lab.uac("jdoe") == 66048
    assert not directory.enable(account, before).changed


def test_undo_leaves_disabled_what_was_disabled_before(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    lab.put("jdoe", "userAccountControl", 514)
    account = ref(directory.find_person("jdoe"))
    assert not directory.enable(account, directory.disable(account).before).changed
    assert lab.uac("jdoe") == 514


@pytest.mark.parametrize("before", [{}, {"userAccountControl": ""}, {"userAccountControl": "abc"}, {"other": "512"}])
def test_undo_without_a_state_before_changes_nothing(
    directory: ActiveDirectory, lab: DirectoryLab, before: dict[str, str]
) -> None:
    account = ref(directory.find_person("jdoe"))
    directory.disable(account)
    with pytest.raises(Rejected):
        directory.enable(account, before)
    assert lab.uac("jdoe") == 514


@pytest.fixture
def lagging(lab: DirectoryLab, certificates: LabCertificates) -> Iterator[DirectoryLab]:
    """A second server of the same directory, to which changes come only by hand."""
    with DirectoryLab(certificates) as other:
        other.tree._entries = {
            key: type(entry)(entry.dn, dict(entry.attributes)) for key, entry in lab.tree._entries.items()
        }
        yield other


def test_the_other_servers_have_to_say_so_too(
    connect: Connect, lab: DirectoryLab, lagging: DirectoryLab, dead_url: str
) -> None:
    client = connect(lab.url, lagging.url, dead_url)
    account = ref(client.find_person("jdoe"))
    client.disable(account)
    first = client.read_back(account)
    assert (first.in_force, first.server, first.others) == (True, lab.url, 2)
    told = client.read_back_elsewhere(account, first.server)
    assert not told.in_force
    assert lagging.url in told.detail
    lagging.put("jdoe", "userAccountControl", 514)
    told = client.read_back_elsewhere(account, first.server)
    assert told.in_force
    assert dead_url in told.detail


def test_other_servers_that_do_not_answer_say_nothing(connect: Connect, lab: DirectoryLab, dead_url: str) -> None:
    client = connect(lab.url, dead_url)
    account = ref(client.find_person("jdoe"))
    client.disable(account)
    assert client.read_back(account).in_force
    with pytest.raises(Unreachable):
        client.read_back_elsewhere(account, lab.url)


def test_groups_that_the_directory_does_not_know(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    known = directory.find_person("jdoe").groups[0]
    assert known.sid
    hostile = "*)(objectClass=*"
    names = ["Crown-Jewels", "CORP\\erp-access", known.sid, "No-Such", "S-1-5-21-1-2-3-999", hostile]
    assert directory.unknown_groups(names) == ["No-Such", "S-1-5-21-1-2-3-999", hostile]
    assert directory.unknown_groups(["CROWN-JEWELS", known.sid.lower()]) == []
    assert directory.unknown_groups([]) == []


def test_a_group_that_a_guardrail_would_not_find_by_that_spelling_is_unknown(
    directory: ActiveDirectory, lab: DirectoryLab
) -> None:
    """A server takes accents and forms of one SID for equal; what is compared as text later does not."""
    lab.add_group("Prüfer")
    sid, user = directory.find_person("jdoe").groups[0].sid, directory.find_person("jdoe").sid
    assert sid
    assert user
    names = ["Prufer", "S-1-0x000000000005" + sid.removeprefix("S-1-5"), "S-1-05" + sid.removeprefix("S-1-5"), user]
    assert directory.unknown_groups([*names, "prüfer"]) == names


# --- result codes


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, BadAnswer), (2, Rejected), (3, Busy), (4, Ambiguous), (7, Misconfigured), (8, Misconfigured),
        (10, Misconfigured), (11, Rejected), (12, Rejected), (13, Misconfigured), (16, Changed), (17, Rejected),
        (19, Rejected), (20, Changed), (21, Rejected), (32, NotFound), (34, Rejected), (49, Misconfigured),
        (50, Refused), (51, Busy), (52, Busy), (53, Rejected), (65, Rejected), (68, Changed), (80, BadAnswer),
        (None, BadAnswer), (4711, BadAnswer),
    ],
)  # fmt: skip
def test_each_result_code_has_one_type(code: int | None, kind: type[IntegrationError]) -> None:
    with pytest.raises(IntegrationError) as caught:
        raise_for_result({"result": code, "description": "d", "message": "a\x00b\nc"}, "ldaps://dc1")
    assert type(caught.value) is kind
    assert "a b c" in str(caught.value)


# --- the doctor


def test_check_of_a_healthy_directory(connect: Connect, lab: DirectoryLab) -> None:
    checks = connect(lab.url, lab.starttls_url).check()
    assert all(check.ok for check in checks)
    assert len(checks) == 7
    assert checks[-1].name == "right to disable"
    assert "on 3 of 3" in checks[-1].detail
    assert lab.count("modify") == 0


def test_check_tells_each_fault(connect: Connect, lab: DirectoryLab, dead_url: str) -> None:
    lab.clock_offset = timedelta(minutes=-9)
    lab.tree.delegates.clear()
    told = {check.name: check for check in connect(dead_url, lab.url, base_dn="OU=Nowhere,DC=corp,DC=example").check()}
    assert not told[dead_url].ok
    assert not told[f"{lab.url} base_dn"].ok
    assert not told[f"{lab.url} clock"].ok
    assert "behind" in told[f"{lab.url} clock"].detail
    assert told["right to disable"].ok
    assert "unknown" in told["right to disable"].detail


def test_check_of_a_wrong_password(connect: Connect) -> None:
    (check,) = connect(password="wr0ng").check()
    assert not check.ok
    assert "password is wrong" in check.detail
    assert "wr0ng" not in check.detail


def test_check_tells_missing_rights(connect: Connect, lab: DirectoryLab) -> None:
    lab.tree.protected_ous += ["OU=Staff"]
    rights = connect().check()[-1]
    assert rights.name == "right to disable"
    assert "unknown" in rights.detail or "on 1 of" in rights.detail


def test_check_of_an_account_that_may_write_nothing_at_all(connect: Connect, lab: DirectoryLab) -> None:
    lab.tree.delegates.clear()
    for name in ("boss", "jdoe", lab.bind_user.partition("@")[0]):
        lab.put(name, "allowedAttributes", "userAccountControl")
    rights = connect().check()[-1]
    assert (rights.name, rights.ok) == ("right to disable", False)
    assert "on 0 of" in rights.detail


# --- the stand-in


def test_the_stand_in_can_be_started_again(certificates: LabCertificates) -> None:
    lab = DirectoryLab(certificates)
    lab.add_user("jdoe")
    for _ in range(3):
        with lab:
            client = ActiveDirectory([lab.url], lab.bind_user, lab.password, lab.base_dn, ca_file=certificates.ca_file)
            assert client.find_person("jdoe").account == "jdoe"


async def test_the_stand_in_lives_beside_an_event_loop(directory: ActiveDirectory, lab: DirectoryLab) -> None:
    assert (await asyncio.to_thread(directory.find_person, "jdoe")).account == "jdoe"


def test_a_bind_in_clear_is_refused(lab: DirectoryLab) -> None:
    server = Server("127.0.0.1", port=lab.starttls_port, get_info="NO_INFO")
    connection = Connection(server, user=lab.bind_user, password=lab.password)
    with contextlib.closing(connection.strategy):
        connection.bind()
        assert connection.result["result"] == 8
