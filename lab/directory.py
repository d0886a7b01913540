"""A stand-in for a domain controller: LDAPS and StartTLS on loopback, state that lasts, and faults on demand.

Lives in threads of its own, so that it can stand beside any event loop. Bind errors carry Active Directory's
``data 52e`` words (MS-ADTS, MS-ERREF).
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from integrations.ldap_names import dns_domain
from lab.certificates import LabCertificates
from lab.directory_tree import DirectoryTree, DnKey, Entry, LdapFault, dn_key, escape_rdn
from lab.directory_wire import START_TLS, Listener, Operation

Fault = Literal["busy", "unavailable", "reset", "silent", "answer_lost"]
LAB_PASSWORD = "Lab-0nly-Passw0rd"


@dataclass
class _PlannedFault:
    kind: Fault
    times: int
    on: str | None


class DirectoryLab:
    """A stand-in for one domain controller.

    Use ``start`` and ``stop``, or as a context manager. ``tree`` shares the entries of another one, as a second domain
    controller does. ``bind_user``, ``bind_dn`` and ``password`` are those of a service account that may read all and
    change ``userAccountControl`` outside ``OU=Tier0``.
    """

    def __init__(
        self,
        certificates: LabCertificates,
        *,
        base_dn: str = "DC=corp,DC=example",
        netbios: str = "CORP",
        service_account: str = "svc-holdpoint",
        password: str = LAB_PASSWORD,
        tree: DirectoryTree | None = None,
    ) -> None:
        self.base_dn = base_dn
        self.password = password
        self.bind_user = f"{service_account}@{dns_domain(base_dn)}"
        self.bind_dn = f"CN={service_account},OU=Service Accounts,{base_dn}"
        self.operations: list[Operation] = []
        self.clock_offset = timedelta(0)
        self.referral_rows = True
        self.most_rows = 1000
        self.offers_start_tls = True
        self.tree = tree or DirectoryTree(base_dn, netbios)
        self._passwords: dict[str, tuple[DnKey, str, str | None]] = {}
        self._faults: list[_PlannedFault] = []
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.cert_file, certificates.key_file)
        self._listeners: list[tuple[Listener, threading.Thread]] = []
        if tree is None:
            self._furnish()
        self._allow(self.bind_dn, service_account, password)
        self.tree.delegates.add(dn_key(self.bind_dn))

    def _furnish(self) -> None:
        for ou in ("Staff", "Groups", "Service Accounts", "Tier0"):
            self.add_ou(ou)
        self.tree.add(f"CN=Users,{self.base_dn}", {"objectClass": ["top", "container"], "cn": ["Users"]})
        for name, rid in (("Domain Users", 513), ("Domain Admins", 512), ("Domain Computers", 515)):
            self.add_group(name, rid=rid, container="CN=Users")
        name = self.bind_dn.partition(",")[0].removeprefix("CN=")
        self.add_user(name, upn=self.bind_user, ou="OU=Service Accounts", password=self.password)

    def start(self) -> Self:
        """Listen on two free ports of 127.0.0.1."""
        for tls_at_once in (True, False):
            listener = Listener(self, self._context, tls_at_once=tls_at_once)
            thread = threading.Thread(target=listener.serve_forever, args=(0.02,), name="lab-directory", daemon=True)
            thread.start()
            self._listeners.append((listener, thread))
        return self

    def stop(self) -> None:
        """Cut every connection and stop listening; the entries stay, so that ``start`` may follow (on other ports)."""
        for listener, thread in self._listeners:
            listener.shutdown()
            listener.cut()
            listener.server_close()
            thread.join()
        self._listeners.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where LDAPS is spoken."""
        return self._listeners[0][0].port

    @property
    def starttls_port(self) -> int:
        """Where LDAP is spoken, and nobody may sign in before StartTLS."""
        return self._listeners[1][0].port

    @property
    def url(self) -> str:
        """The address for LDAPS."""
        return f"ldaps://127.0.0.1:{self.port}"

    @property
    def starttls_url(self) -> str:
        """The address for StartTLS."""
        return f"ldap://127.0.0.1:{self.starttls_port}"

    def add_ou(self, name: str) -> str:
        """A new organisational unit below the domain; its distinguished name."""
        dn = f"OU={escape_rdn(name)},{self.base_dn}"
        self.tree.add(dn, {"objectClass": ["top", "organizationalUnit"], "ou": [name]})
        return dn

    def add_user(
        self,
        account: str,
        *,
        mail: str | None = None,
        upn: str | None = None,
        manager: str | None = None,
        groups: Sequence[str] = (),
        uac: int = 512,
        name: str | None = None,
        ou: str = "OU=Staff",
        primary_group: int | None = 513,
        rid: int | None = None,
        password: str | None = None,
        bind_fault: str | None = None,
        classes: Sequence[str] = ("top", "person", "organizationalPerson", "user"),
        extra: Mapping[str, Iterable[str | bytes | int]] | None = None,
    ) -> str:
        """A new user; its distinguished name.

        ``manager`` and ``groups`` are account names; ``extra`` sets further attributes. ``bind_fault`` is Active
        Directory's number for why the right password does not do (``532``, ``773``, …).
        """
        dn = f"CN={escape_rdn(name or account)},{ou},{self.base_dn}"
        attributes: dict[str, Iterable[str | bytes | int]] = {
            "objectClass": classes,
            "objectCategory": [f"CN=Person,CN=Schema,CN=Configuration,{self.base_dn}"],
            "cn": [name or account],
            "sAMAccountName": [account],
            "userPrincipalName": [upn] if upn else [],
            "mail": [mail] if mail else [],
            "displayName": [name] if name else [],
            "userAccountControl": [uac],
            "primaryGroupID": [primary_group] if primary_group else [],
            "manager": [self.tree.named(manager).dn] if manager else [],
        }
        self.tree.add(dn, attributes | dict(extra or {}), rid=rid)
        for group in groups:
            self.add_members(group, account)
        if password is not None:
            self._allow(dn, account, password, bind_fault)
        return dn

    def add_group(
        self, name: str, members: Sequence[str] = (), rid: int | None = None, *, container: str = "OU=Groups"
    ) -> str:
        """A new group of accounts and groups, given by account name; its distinguished name."""
        dn = f"CN={escape_rdn(name)},{container},{self.base_dn}"
        self.tree.add(dn, {"objectClass": ["top", "group"], "cn": [name], "sAMAccountName": [name]}, rid=rid)
        self.add_members(name, *members)
        return dn

    def add_members(self, group: str, *members: str) -> None:
        """Put accounts and groups, given by account name, into a group."""
        entry = self.tree.named(group)
        entry.put("member", [*entry.values("member"), *(self.tree.named(member).dn for member in members)])

    def add_computer(self, name: str) -> str:
        """A new computer account (``NAME$``); its distinguished name."""
        classes = ("top", "person", "organizationalPerson", "user", "computer")
        return self.add_user(f"{name}$", name=name, ou="CN=Users", uac=4096, primary_group=515, classes=classes)

    def account(self, name: str) -> dict[str, list[bytes]]:
        """What the directory now holds of an account, by attribute name."""
        return {spelled: list(values) for spelled, values in self.tree.named(name).attributes.values()}

    def uac(self, name: str) -> int:
        """An account's ``userAccountControl`` now."""
        return int(self.tree.named(name).values("userAccountControl")[0])

    def put(self, name: str, attribute: str, *values: str | bytes | int) -> None:
        """Change an account behind everybody's back; no values removes the attribute."""
        self.tree.named(name).put(attribute, values)

    def fail(self, kind: Fault, times: int = 1, on: str | None = None) -> None:
        """Spoil the next ``times`` requests (of kind ``on``: ``bind``, ``search`` or ``modify``; else of any).

        ``busy`` and ``unavailable`` answer so, ``reset`` breaks off, ``silent`` never answers, ``answer_lost`` makes
        the change and breaks off instead of answering (modifications only).
        """
        with self._lock:
            self._faults.append(_PlannedFault(kind, times, "modify" if kind == "answer_lost" else on))

    def count(self, kind: str) -> int:
        """How many requests of that kind came."""
        return sum(operation.kind == kind for operation in self.operations)

    def take_fault(self, kind: str) -> Fault | None:
        """The fault that this request meets, if one is planned."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.on in (None, kind):
                    fault.times -= 1
                    return fault.kind
        return None

    def signed_in(self, name: str, password: str) -> DnKey:
        """Who signs in with that name and password. Raises LdapFault 49."""
        found = self._passwords.get(name.casefold())
        if found is None or found[1] != password:
            raise _bind_refused("525" if found is None and "=" in name else "52e")
        key, _, fault = found
        entry = self.tree.at(key)
        disabled = entry is None or int(entry.values("userAccountControl")[0]) & 2
        if fault or disabled:
            raise _bind_refused(fault or "533")
        return key

    def root_dse(self) -> Entry:
        """What the server tells everybody about itself."""
        root = Entry("")
        now = datetime.now(UTC) + self.clock_offset
        root.put("currentTime", [now.strftime("%Y%m%d%H%M%S.0Z")])
        root.put("defaultNamingContext", [self.base_dn])
        root.put("namingContexts", [self.base_dn])
        root.put("supportedLDAPVersion", ["3"])
        root.put("supportedExtension", [START_TLS])
        return root

    def _allow(self, dn: str, account: str, password: str, fault: str | None = None) -> None:
        record = (dn_key(dn), password, fault)
        upns = [f"{account}@{dns_domain(self.base_dn)}"]
        for name in (dn, f"{self.tree.netbios}\\{account}", *upns):
            self._passwords[name.casefold()] = record


def _bind_refused(number: str) -> LdapFault:
    words = f"80090308: LdapErr: DSID-0C090569, comment: AcceptSecurityContext error, data {number}, v4563"
    return LdapFault(49, words)
