"""Disabling and undoing against Samba as a domain controller; each test looks at the directory itself afterwards."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.directory import DirectoryActivities
from incident.evidence import Person
from incident.requests import DisableAccount, FindPerson
from integrations.active_directory import ActiveDirectory
from integrations.errors import Changed, NotFound, Refused, Unreachable
from tests.real.ldap_relay import LdapRelay, Loss, Request
from tests.real.samba import BASE_DN, Connect, Controllers, Domain, ref

pytest_plugins = ["tests.real.samba_fixtures"]

UAC = "userAccountControl"


# --- one bit


@pytest.mark.parametrize(
    ("account", "before"),
    [
        ("bits-plain", 512),
        ("bits-never-expires", 66048),
        ("bits-smartcard", 262656),
        ("bits-not-delegated", 1114624),
        ("bits-no-preauth", 4260352),
    ],
)
def test_one_bit_is_set_and_the_same_one_cleared(
    directory: ActiveDirectory, domain: Domain, account: str, before: int
) -> None:
    dn = domain.add_user(account)
    domain.put(dn, userAccountControl=before)
    assert domain.uac(dn) == before
    person = directory.find_person(account)
    written = directory.disable(ref(person))
    assert (written.changed, written.before) == (True, {UAC: str(before)})
    assert domain.uac(dn) == before | 2
    assert directory.read_back(ref(person)).in_force
    assert not directory.find_person(account).enabled
    assert directory.enable(ref(person), written.before).changed
    assert domain.uac(dn) == before
    assert not directory.read_back(ref(person)).in_force


def test_nothing_else_of_the_account_changes(directory: ActiveDirectory, domain: Domain) -> None:
    dn = domain.add_user("quiet", mail="quiet@corp.example", title="Clerk")
    kept = ("mail", "title", "pwdLastSet", "memberOf", "accountExpires", "userPrincipalName", "distinguishedName")
    before = [domain.read(dn, attribute) for attribute in kept]
    account = ref(directory.find_person("quiet"))
    directory.enable(account, directory.disable(account).before)
    assert [domain.read(dn, attribute) for attribute in kept] == before


def test_whoever_is_disabled_is_not_let_in_and_is_again_afterwards(
    directory: ActiveDirectory, connect: Connect, domain: Domain
) -> None:
    domain.add_user("door")
    account = ref(directory.find_person("door"))
    written = directory.disable(account)
    assert "disabled (data 533)" in connect(user="door").check()[0].detail
    directory.enable(account, written.before)
    assert connect(user="door").check()[0].ok


def test_disabled_already_is_success_and_nothing_is_written(directory: ActiveDirectory, domain: Domain) -> None:
    dn = domain.add_user("done", userAccountControl="66050")
    version = domain.number(dn, "uSNChanged")
    account = ref(directory.find_person("done"))
    written = directory.disable(account)
    assert (written.changed, written.before) == (False, {UAC: "66050"})
    assert not directory.enable(account, written.before).changed
    assert domain.uac(dn) == 66050
    assert domain.number(dn, "uSNChanged") == version


def test_undo_keeps_what_others_changed_since(directory: ActiveDirectory, domain: Domain) -> None:
    dn = domain.add_user("since")
    account = ref(directory.find_person("since"))
    before = directory.disable(account).before
    domain.put(dn, userAccountControl=66050)
    assert directory.enable(account, before).changed
    assert domain.uac(dn) == 66048
    assert not directory.enable(account, before).changed


# --- rights


def test_protected_accounts_are_refused_by_the_directory_itself(directory: ActiveDirectory, domain: Domain) -> None:
    ada = domain.add_user("adm-ada", unit="Tier0")
    for account in ("adm-ada", "Administrator", "krbtgt"):
        person = directory.find_person(account)
        was = domain.uac(person.dn)
        call = directory.disable if person.enabled else lambda one: directory.enable(one, {UAC: "512"})
        with pytest.raises(Refused, match="lacks the right"):
            call(ref(person))
        assert domain.uac(person.dn) == was
    domain.move(ada, "adm-ada", "Staff")
    assert directory.disable(ref(directory.find_person("adm-ada"))).changed


def test_without_delegation_everything_is_refused(connect: Connect, domain: Domain) -> None:
    domain.add_user("svc-none", unit="Services")
    dn = domain.add_user("untouched")
    client = connect(user="svc-none")
    with pytest.raises(Refused):
        client.disable(ref(client.find_person("untouched")))
    assert domain.uac(dn) == 512


# --- others write too


@pytest.fixture
def relay(controllers: Controllers) -> LdapRelay:
    return LdapRelay(controllers.first.address, controllers.tls)


def test_a_change_in_between_is_kept_and_the_next_attempt_adds_to_it(
    relay: LdapRelay, connect: Connect, domain: Domain
) -> None:
    dn = domain.add_user("race")
    with relay:
        client = connect(relay.url)
        account = ref(client.find_person("race"))
        relay.before(Request.MODIFY, lambda: domain.put(dn, userAccountControl=66048))
        with pytest.raises(Changed):
            client.disable(account)
        assert domain.uac(dn) == 66048
        written = client.disable(account)
        assert (written.changed, written.before) == (True, {UAC: "66048"})
        assert domain.uac(dn) == 66050
        relay.before(Request.MODIFY, lambda: domain.put(dn, userAccountControl=514))
        with pytest.raises(Changed):
            client.enable(account, written.before)
        assert domain.uac(dn) == 514
        assert client.enable(account, written.before).changed
    assert domain.uac(dn) == 512


def test_somebody_else_disables_it_at_that_moment(relay: LdapRelay, connect: Connect, domain: Domain) -> None:
    """To the very value that we would write Samba says success (another server: no such value); either way it holds."""
    one, other = domain.add_user("faster1"), domain.add_user("faster2")
    with relay:
        client = connect(relay.url)
        relay.before(Request.MODIFY, lambda: domain.put(one, userAccountControl=514))
        client.disable(ref(client.find_person("faster1")))
        relay.before(Request.MODIFY, lambda: domain.put(other, userAccountControl=66050))
        written = client.disable(ref(client.find_person("faster2")))
    assert (written.changed, written.before) == (False, {UAC: "66050"})
    assert "somebody else" in written.detail
    assert (domain.uac(one), domain.uac(other)) == (514, 66050)


def test_many_writers_at_once(connect: Connect, domain: Domain) -> None:
    dn = domain.add_user("crowded", userAccountControl="66048")
    start = Barrier(6)

    def one(client: ActiveDirectory) -> bool:
        account = ref(client.find_person("crowded"))
        start.wait()
        return client.disable(account).before[UAC] in ("66048", "66050")

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, [connect() for _ in range(6)]))
    assert domain.uac(dn) == 66050


# --- the object that is meant


def test_an_account_that_was_moved_is_followed(directory: ActiveDirectory, domain: Domain) -> None:
    domain.add_user("mover")
    account = ref(directory.find_person("mover"))
    moved = domain.move(account.dn, "Somebody\\, Else")
    assert directory.disable(account).changed
    assert domain.uac(moved) == 514
    assert directory.read_back(account).in_force


def test_an_account_that_was_moved_and_renamed_is_followed(directory: ActiveDirectory, domain: Domain) -> None:
    domain.add_user("maiden")
    account = ref(directory.find_person("maiden"))
    moved = domain.move(account.dn, "Married Name")
    domain.put(moved, sAMAccountName="married", userPrincipalName="married@corp.example")
    written = directory.disable(account)
    assert domain.uac(moved) == 514
    assert directory.read_back(account).in_force
    assert directory.enable(account, written.before).changed
    assert domain.uac(moved) == 512


def test_an_account_that_is_moved_between_our_read_and_our_write(
    relay: LdapRelay, connect: Connect, domain: Domain
) -> None:
    dn = domain.add_user("slippery")
    with relay:
        client = connect(relay.url)
        account = ref(client.find_person("slippery"))
        relay.before(Request.MODIFY, lambda: domain.move(dn, "Slippery Two"))
        with pytest.raises(Changed, match="moved"):
            client.disable(account)
        assert client.disable(account).changed
    assert domain.uac(f"CN=Slippery Two,OU=Staff,{BASE_DN}") == 514


def test_another_account_in_its_place_is_left_alone(directory: ActiveDirectory, domain: Domain) -> None:
    """The same DN, account name and UPN, another object: somebody new."""
    dn = domain.add_user("place")
    account = ref(directory.find_person("place"))
    domain.remove(dn)
    with pytest.raises(NotFound):
        directory.disable(account)
    domain.add_user("place")
    for call in (directory.disable, directory.read_back, lambda one: directory.enable(one, {UAC: "512"})):
        with pytest.raises(NotFound):
            call(account)
    assert domain.uac(dn) == 512


# --- no answer


@pytest.mark.parametrize("how", ["silence", "reset"])
def test_the_answer_lost_after_the_change_was_made(
    relay: LdapRelay, connect: Connect, controllers: Controllers, domain: Domain, how: Loss
) -> None:
    dn = domain.add_user(f"lost-{how}", userAccountControl="66048")
    with relay:
        client = connect(relay.url, controllers.second.url, receive_timeout=1)
        direct = connect()
        account = ref(direct.find_person(f"lost-{how}"))
        relay.lose_answer(Request.MODIFY, how)
        with pytest.raises(Unreachable):
            client.disable(account)
        assert relay.seen[Request.MODIFY] == 1
        assert domain.uac(dn) == 66050
        version = domain.number(dn, "uSNChanged")
        again = connect(relay.url).disable(account)
        assert (again.changed, again.before) == (False, {UAC: "66050"})
        assert direct.read_back(account).in_force
        assert domain.number(dn, "uSNChanged") == version
        relay.lose_answer(Request.MODIFY, how)
        with pytest.raises(Unreachable):
            client.enable(account, {UAC: "66048"})
    assert domain.uac(dn) == 66048


def test_a_controller_that_dies_before_the_change_is_not_replaced_in_the_middle(
    controllers: Controllers, connect: Connect, domain: Domain
) -> None:
    first, second = controllers.first, controllers.second
    dn = f"CN=both,OU=Staff,{BASE_DN}"
    with LdapRelay(second.address, controllers.tls) as dying:
        client = connect(dying.url, first.url)
        account = ref(client.find_person("both"))
        dying.before(Request.MODIFY, second.kill)
        try:
            with pytest.raises(Unreachable):
                client.disable(account)
            assert domain.uac(dn) == 512
            assert client.disable(account).changed
            assert domain.uac(dn) == 514
            assert client.read_back(account).in_force
        finally:
            second.start()
    told = connect(first.url, second.url).read_back_elsewhere(account, first.url)
    assert (told.in_force, told.pending) == (False, True)
    assert connect().enable(account, {UAC: "512"}).changed


def test_a_change_that_was_acknowledged_survives_a_power_cut(controllers: Controllers, connect: Connect) -> None:
    client = connect(controllers.second.url)
    account = ref(client.find_person("both"))
    written = client.disable(account)
    controllers.second.kill()
    controllers.second.start()
    assert client.read_back(account).in_force
    client.enable(account, written.before)
    assert client.find_person("both").enabled


# --- as the case does it


def test_the_steps_of_a_case_when_the_first_answer_is_lost(relay: LdapRelay, connect: Connect, domain: Domain) -> None:
    dn = domain.add_user("insider", mail="insider@corp.example")
    env = ActivityEnvironment()
    with relay:
        steps = DirectoryActivities(connect(relay.url, receive_timeout=1), "the directory")
        person = env.run(steps.find_person, FindPerson(name="CORP\\insider")).value
        assert isinstance(person, Person)
        assert person.dn == dn
        request = DisableAccount(account=ref(person), seen={UAC: str(person.user_account_control)})
        relay.lose_answer(Request.MODIFY, "reset")
        with pytest.raises(ApplicationError) as caught:
            env.run(steps.disable_account, request)
        assert not caught.value.non_retryable
        assert domain.uac(dn) == 514
        env.info = dataclasses.replace(env.info, attempt=2)
        written = env.run(steps.disable_account, request)
        assert (written.changed, written.before) == (True, {UAC: "512"})
        assert env.run(steps.confirm_disabled, request.account).in_force
        unknown = env.run(steps.find_person, FindPerson(name="insider)(objectClass=*"))
    assert unknown.value is None
