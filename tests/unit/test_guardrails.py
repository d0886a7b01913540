"""Whoever is privileged or protected is never contained without a person, by whatever name the settings call them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident.evidence import Device, Group, Host, Person
from incident.guardrails import Context, Ruling, Target, evaluate
from incident.policy import Approval, GuardrailPolicy, Mode
from incident.requests import Reservation
from incident.triage import ActionName
from tests.unit.builders import DOMAIN, HOSTILE, device, person

DISABLE, QUARANTINE = ActionName.DISABLE_ACCOUNT, ActionName.QUARANTINE_HOST
HOST = Host(name="ws-042.corp.example.com", ip="10.20.30.40")
PRIVILEGED_RIDS = [512, 516, 517, 518, 519, 520, 521, 526, 527]
BUILTIN = ["S-1-5-32-544", "S-1-5-32-548", "S-1-5-32-549", "S-1-5-32-550", "S-1-5-32-551", "S-1-5-32-552"]


def account_ruling(about: Person, policy: GuardrailPolicy | None = None, *, answered: bool = False) -> Ruling:
    return evaluate(DISABLE, Target(person=about), Context(policy=policy or GuardrailPolicy(), answered=answered))


def host_ruling(
    host: Host, agent: Device | None, policy: GuardrailPolicy | None = None, *, answered: bool = False
) -> Ruling:
    context = Context(policy=policy or GuardrailPolicy(), answered=answered)
    return evaluate(QUARANTINE, Target(host=host, device=agent), context)


def asks_about_account(policy: GuardrailPolicy | None = None, **changed: Any) -> bool:
    ruling = account_ruling(person(**changed), policy)
    assert ruling.reason
    return not ruling.allows


def asks_about_host(policy: GuardrailPolicy | None = None, host: Host = HOST, **changed: Any) -> bool:
    ruling = evaluate(
        QUARANTINE,
        Target(host=host, device=device(**changed) if changed else None),
        Context(policy=policy or GuardrailPolicy()),
    )
    assert ruling.reason
    return not ruling.allows


def test_an_ordinary_employee_on_an_ordinary_workstation_is_contained() -> None:
    assert not asks_about_account()
    assert not asks_about_host(kind="Workstation")
    assert not asks_about_host()


@pytest.mark.parametrize("rid", [500, 501, 502])
def test_built_in_accounts(rid: int) -> None:
    assert asks_about_account(sid=f"{DOMAIN}-{rid}", account="renamed")


@pytest.mark.parametrize("sid", [f"{DOMAIN}-1500", f"{DOMAIN}-5000", "S-1-5-500", "S-1-5-21", "S-1-5-21-500x", ""])
def test_other_accounts_are_none_of_them(sid: str) -> None:
    assert not asks_about_account(sid=sid)


@pytest.mark.parametrize("name", ["Administrator", "GUEST", "krbtgt"])
def test_built_in_accounts_are_known_by_name_where_the_directory_shows_no_sid(name: str) -> None:
    assert asks_about_account(account=name, sid=None)
    assert not asks_about_account(account=name, sid=f"{DOMAIN}-1104")


@pytest.mark.parametrize("sid", [f"{DOMAIN}-{rid}" for rid in PRIVILEGED_RIDS] + BUILTIN)
def test_privileged_groups_are_known_by_sid_in_any_language(sid: str) -> None:
    groups = (Group(name="Domain Users", sid=f"{DOMAIN}-513"), Group(name="Dom\u00e4nen-Admins", sid=sid))
    assert asks_about_account(groups=groups)
    assert asks_about_account(groups=groups[::-1])


@pytest.mark.parametrize("name", ["Domain Admins", "ENTERPRISE ADMINS", "administrators", "Backup Operators"])
def test_privileged_groups_are_known_by_name_where_there_is_no_sid(name: str) -> None:
    assert asks_about_account(groups=(Group(name=name),))
    assert not asks_about_account(groups=(Group(name=name, sid=f"{DOMAIN}-9000"),))


@given(
    st.lists(st.builds(Group, name=HOSTILE, sid=st.none() | st.integers(1000, 9999).map(lambda n: f"{DOMAIN}-{n}"))),
    st.sampled_from([f"{DOMAIN}-{rid}" for rid in PRIVILEGED_RIDS] + BUILTIN),
    HOSTILE,
    st.data(),
)
def test_nobody_in_a_privileged_group_is_ever_allowed(
    groups: list[Group], sid: str, name: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(groups)))
    member = (*groups[:place], Group(name=name, sid=sid), *groups[place:])
    policy = data.draw(st.sampled_from([GuardrailPolicy(mode=mode) for mode in Mode]))
    assert asks_about_account(policy, groups=member)


@given(HOSTILE.filter(bool))
def test_no_service_account_is_ever_allowed(why: str) -> None:
    assert asks_about_account(service_account=why)


def test_a_service_account_says_why() -> None:
    ruling = account_ruling(person(service_account="has the service principal name 'HTTP/x'"))
    assert "HTTP/x" in ruling.reason
    assert "jdoe" in ruling.reason


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("jdoe", True),
        ("JDOE", True),
        ("j*", True),
        ("?doe", True),
        ("CORP\\jdoe", True),
        ("jane.doe@corp.example.com", True),
        ("Jane.Doe@example.com", True),
        ("*@example.com", True),
        ("*", True),
        ("doe", False),
        ("jdo", False),
        ("j[d]oe", False),
        ("jdoe2", False),
    ],
)
def test_protected_accounts_by_any_of_their_names(pattern: str, asked: bool) -> None:
    assert asks_about_account(GuardrailPolicy(protected_accounts=("other", pattern))) is asked


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("Board [EU]", True),
        ("board [eu]", True),
        ("Board*", True),
        ("CORP\\Board [EU]", True),
        (f"{DOMAIN}-2000", True),
        (f"{DOMAIN.lower()}-2000", True),
        ("Board", False),
        ("Board E", False),
        (f"{DOMAIN}-200", False),
    ],
)
def test_protected_groups_by_name_or_sid(pattern: str, asked: bool) -> None:
    groups = (Group(name="Domain Users"), Group(name="Board [EU]", sid=f"{DOMAIN}-2000"))
    assert asks_about_account(GuardrailPolicy(protected_groups=("other", pattern)), groups=groups) is asked


@pytest.mark.parametrize(
    ("name", "pattern", "asked"),
    [
        ("ws-042", "ws-042", True),
        ("WS-042", "ws-042", True),
        ("ws-042", "WS-*", True),
        ("ws-042.corp.example.com", "ws-042", True),
        ("ws-042.corp.example.com", "ws-04?", True),
        ("ws-042.corp.example.com", "ws-042.corp.example.com", True),
        ("ws-042.corp.example.com", "*.corp.example.com", True),
        ("ws-042", "ws-042.corp.example.com", True),
        ("ws-042", "10.20.30.40", True),
        ("ws-042", "10.20.30.*", True),
        ("ws-042", "ws-04", False),
        ("ws-042", "ws-04.corp.example.com", False),
        ("ws-042", "*.dmz.example.com", False),
        ("ws-042.corp.example.com", "ws-042.dmz.example.com", False),
        ("ws-042", "10.20.30.4", False),
        ("ws-042", "ws-[0]42", False),
    ],
)
def test_protected_hosts_by_name_or_address_with_or_without_domain(name: str, pattern: str, asked: bool) -> None:
    policy = GuardrailPolicy(protected_hosts=("other", pattern))
    assert asks_about_host(policy, Host(name=name, ip="10.20.30.40")) is asked


def test_protected_hosts_by_the_name_that_the_agent_has() -> None:
    policy = GuardrailPolicy(protected_hosts=("web01",))
    assert asks_about_host(policy, hostname="WEB01.corp.example.com")


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("Domain Controller", True),
        ("domain controller", True),
        ("Server", True),
        ("SERVER", True),
        ("Workstation", False),
        ("Mobile", False),
        (None, False),
    ],
)
def test_servers_are_protected(kind: str | None, asked: bool) -> None:
    assert asks_about_host(kind=kind) is asked


@pytest.mark.parametrize("mode", Mode)
def test_only_act_contains_without_a_person(mode: Mode) -> None:
    policy = GuardrailPolicy(mode=mode)
    asked = mode is not Mode.ACT
    assert asks_about_account(policy) is asked
    assert asks_about_host(policy) is asked
    assert (f"in {mode} mode" in account_ruling(person(), policy).reason) is asked


@pytest.mark.parametrize("mode", Mode)
def test_an_analysts_word_satisfies_the_mode_and_protects_nobody_less(mode: Mode) -> None:
    policy = GuardrailPolicy(mode=mode, protected_hosts=("web01",))
    observed = mode is Mode.OBSERVE
    assert account_ruling(person(), policy, answered=True).allows is not observed
    assert host_ruling(HOST, device(), policy, answered=True).allows is not observed
    assert not account_ruling(person(sid=f"{DOMAIN}-500"), policy, answered=True).allows
    assert not host_ruling(HOST, device(hostname="web01"), policy, answered=True).allows


@given(HOSTILE.filter(bool), st.sampled_from(["accounts", "groups", "hosts"]))
def test_a_pattern_of_any_text_can_be_held_against_any_name(text: str, what: str) -> None:
    policy = GuardrailPolicy(**{f"protected_{what}": (text,)})
    assert asks_about_account(policy, account=text, groups=(Group(name=text, sid=text),)) or what == "hosts"
    assert asks_about_host(policy, Host(name=text, ip=text)) or what != "hosts"


@given(
    st.builds(
        GuardrailPolicy,
        mode=st.sampled_from(Mode),
        modes=st.dictionaries(st.sampled_from(ActionName), st.sampled_from(Mode)),
        protected_approval=st.sampled_from(Approval),
        protected_accounts=st.sampled_from([(), ("jdoe",)]),
        responders=st.sampled_from([(), ("jane.doe@example.com",)]),
        own_accounts=st.sampled_from([(), ("CORP\\jdoe",)]),
    ),
    st.booleans(),
    st.booleans(),
    st.none() | st.builds(Reservation, granted=st.booleans(), frozen=st.booleans(), reason=st.just("the ledger")),
)
def test_nothing_protected_frozen_or_observed_is_ever_allowed(
    policy: GuardrailPolicy, answered: bool, approved: bool, told: Reservation | None
) -> None:
    target = Target(person=person())
    context = Context(policy=policy, answered=answered, approved=approved, reservation=told)
    ruling = evaluate(DISABLE, target, context)
    protected = policy.protected_accounts or policy.responders or policy.own_accounts
    may_approve = policy.protected_approval is not Approval.NEVER
    assert not (ruling.allows and protected and not (approved and may_approve))
    assert not (ruling.allows and told and told.frozen and not told.granted)
    assert not (ruling.allows and policy.mode_of(DISABLE) is Mode.OBSERVE)
    assert not (ruling.allows and policy.mode_of(DISABLE) is not Mode.ACT and not answered)
    assert not (ruling.allows and told and not told.granted and not answered)
    assert ruling.reason


@pytest.mark.parametrize("name", ["FIN-LT-042$", "gmsa-backup$"])
def test_machines_and_managed_service_accounts(name: str) -> None:
    assert asks_about_account(account=name)


def test_those_who_answer_and_what_holdpoint_uses() -> None:
    assert asks_about_account(GuardrailPolicy(responders=("Jane.Doe@example.com",)))
    assert asks_about_account(GuardrailPolicy(own_accounts=("jdoe@x.example", "CORP\\jdoe")))
    assert not asks_about_account(GuardrailPolicy(responders=("other@example.com",), own_accounts=("svc",)))
    assert asks_about_host(GuardrailPolicy(own_hosts=("ws-042.corp.example.com",)))


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ("CN=Jane Doe,OU=People,DC=corp,DC=example,DC=com", True),
        ("cn=JANE doe, ou=people , dc = corp,DC=example,DC=com ", True),
        ("CN=Jane Doe,OU=Services,DC=corp,DC=example,DC=com", False),
        ("CN=Jane Doe", False),
        ("CN=*,OU=People,DC=corp,DC=example,DC=com", False),
    ],
)
def test_what_holdpoint_uses_is_known_by_its_distinguished_name(own: str, asked: bool) -> None:
    """Its common name need not be its account name."""
    assert asks_about_account(GuardrailPolicy(own_accounts=("svc", own))) is asked


def test_a_comma_in_a_name_is_part_of_it() -> None:
    one, other = "CN=Doe\\, Jane,DC=x", "CN=Doe\\,Jane,DC=x"
    assert asks_about_account(GuardrailPolicy(own_accounts=(one,)), dn=one)
    assert not asks_about_account(GuardrailPolicy(own_accounts=(one,)), dn=other)


@pytest.mark.parametrize(
    ("own", "name", "asked"),
    [
        ("api.example.com", "api.example.com", True),
        ("api.example.com", "API.Example.Com.", True),
        ("api.example.com.", "api.example.com", True),
        ("api.example.com", "api", False),
        ("api.example.com", "api.corp.local", False),
        ("api.example.com", "api.example.com.evil.example", False),
        ("soc-7", "soc-7", True),
        ("soc-7", "SOC-7.corp.example.com", True),
        ("soc-7", "soc-70", False),
        ("corp", "soc-7.corp", False),
        ("10.20.30.40", "anything", True),
        ("10.20.30.4", "anything", False),
        ("*", "anything", False),
    ],
)
def test_own_hosts_are_meant_by_the_whole_name_or_by_one_without_a_domain(own: str, name: str, asked: bool) -> None:
    host = Host(name=name, ip="10.20.30.40")
    assert asks_about_host(GuardrailPolicy(own_hosts=("other", own)), host) is asked
    assert asks_about_host(GuardrailPolicy(own_hosts=(own,)), Host(name="x", ip="10.20.30.40"), hostname=name) is asked


LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
FQDNS = st.lists(LABELS, min_size=2, max_size=4).map(".".join)


@given(FQDNS, FQDNS, st.booleans())
def test_no_other_host_is_own_for_sharing_a_label_with_a_full_name(own: str, other: str, upper: bool) -> None:
    """Neither more nor less: the host itself is found in any case, its namesakes in other domains and short are not."""
    policy, label = GuardrailPolicy(own_hosts=(own,)), own.partition(".")[0]
    assert asks_about_host(policy, Host(name=own.upper() if upper else own, ip="10.0.0.1"))
    assert not asks_about_host(policy, Host(name=label, ip="10.0.0.1"))
    namesake = f"{label}.{other}"
    assert asks_about_host(policy, Host(name=namesake, ip="10.0.0.1")) is (namesake == own)


@given(LABELS, st.lists(LABELS, max_size=3))
def test_an_own_name_without_a_domain_is_meant_in_each(own: str, domain: list[str]) -> None:
    assert asks_about_host(GuardrailPolicy(own_hosts=(own,)), Host(name=".".join([own, *domain]), ip="10.0.0.1"))
