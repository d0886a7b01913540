"""Samba as an Active Directory domain controller: its own folder, its own loopback addresses, LDAP and nothing else.

The ports are Samba's own (389, 636), so that each controller has addresses of its own out of 127.83.0.0/24. It ends by
itself when the tests do, however they end: its standard input is a pipe of theirs.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldap3 import BASE, MODIFY_ADD, MODIFY_REPLACE, Connection, Server, Tls

from incident.evidence import Person
from incident.requests import AccountRef
from integrations.active_directory import ActiveDirectory
from lab.certificates import LabCertificates

BASE_DN = "DC=corp,DC=example"
DNS_DOMAIN, SHORT_DOMAIN = "corp.example", "CORP"
HOST = "dc1.corp.example"
SERVICE_ACCOUNT = "svc-holdpoint"
PASSWORD = "Us3r-Passw0rd!"
"""Everybody's, and the service account's."""
LOCKED_AFTER = 3
"""Wrong passwords until an account is locked."""

_ADMIN, _ADMIN_PASSWORD = f"Administrator@{DNS_DOMAIN}", "Adm1n-Passw0rd!"
_HALF_AN_HOUR = "-18000000000"
_SECURITY_GROUP = "-2147483646"
_USER_CLASS = "bf967aba-0de6-11d0-a285-00aa003049e2"
_USER_ACCOUNT_CONTROL = "bf967a68-0de6-11d0-a285-00aa003049e2"
_PATIENCE = 60.0
_CLAIM = 1083
"""A port that nobody serves: holding it holds the address."""

_CONF = """\
[global]
  netbios name = DC1
  realm = CORP.EXAMPLE
  workgroup = CORP
  server role = active directory domain controller
  server services = ldap
  dcerpc endpoint servers =
  interfaces = {addresses}
  bind interfaces only = yes
  disable netbios = yes
  load printers = no
  private dir = {folder}/private
  state directory = {folder}/state
  lock directory = {folder}/lock
  cache directory = {folder}/cache
  pid directory = {folder}/run
  ncalrpc dir = {folder}/ncalrpc
  binddns dir = {folder}/bind-dns
  log file = {folder}/samba.log
  tls enabled = yes
  tls certfile = {tls.cert_file}
  tls keyfile = {tls.key_file}
  tls cafile = {tls.ca_file}
[sysvol]
  path = {folder}/sysvol
[netlogon]
  path = {folder}/sysvol/scripts
"""


@contextmanager
def free_addresses(count: int) -> Iterator[list[str]]:
    """Loopback addresses on which nobody serves LDAP, kept from others that ask here meanwhile."""
    found: list[str] = []
    with ExitStack() as claims:
        for last in range(10, 250):
            claim = claims.enter_context(socket.socket())
            address = f"127.83.0.{last}"
            if _can_bind(claim, address, _CLAIM) and _has_no_directory(address):
                found.append(address)
            if len(found) == count:
                yield found
                return
    raise AssertionError("no loopback address is free in 127.83.0.0/24")


def _has_no_directory(address: str) -> bool:
    for port in (389, 636, 3268, 3269):
        with socket.socket() as probe:
            # What only lingers from an earlier run is no hindrance to Samba.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if not _can_bind(probe, address, port):
                return False
    return True


def _can_bind(one: socket.socket, address: str, port: int) -> bool:
    try:
        one.bind((address, port))
    except OSError:
        return False
    return True


@dataclass
class Controller:
    """One domain controller. ``address`` is in its certificate, ``unnamed`` is another address of it, and is not."""

    folder: Path
    tls: LabCertificates
    address: str
    unnamed: str
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"ldaps://{self.address}"

    @property
    def _conf(self) -> Path:
        return self.folder / "smb.conf"

    def configure(self) -> None:
        addresses = f"{self.address}/8 {self.unnamed}/8"
        self._conf.write_text(_CONF.format(folder=self.folder, tls=self.tls, addresses=addresses), encoding="utf-8")

    def provision(self) -> None:
        """A new domain, of which this is the only controller."""
        self.folder.mkdir()
        self.configure()
        self._samba_tool(
            "domain",
            "provision",
            "--quiet",
            f"--realm={DNS_DOMAIN.upper()}",
            f"--domain={SHORT_DOMAIN}",
            "--server-role=dc",
            "--dns-backend=NONE",
            "--host-name=dc1",
            f"--host-ip={self.address}",
            f"--adminpass={_ADMIN_PASSWORD}",
            "--function-level=2008_R2",
        )

    def delegate(self, unit: str, sid: str) -> None:
        """The holder of ``sid`` may write userAccountControl of the users in an organizational unit, nothing else."""
        right = f"(OA;CIIO;RPWP;{_USER_ACCOUNT_CONTROL};{_USER_CLASS};{sid})"
        database = self.folder / "private" / "sam.ldb"
        self._samba_tool("dsacl", "set", f"--URL={database}", f"--objectdn={unit}", f"--sddl={right}")

    def copy(self, folder: Path, address: str, unnamed: str) -> Controller:
        """Another controller with the same directory as it is now. Both are stopped; nothing is replicated later."""
        assert self._process is None, "a directory in use cannot be copied"
        subprocess.run(["cp", "--archive", self.folder, folder], check=True)
        other = Controller(folder, self.tls, address, unnamed)
        other.configure()
        return other

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        log = self.folder / "stdout.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                ["samba", f"--configfile={self._conf}", "--interactive", "--model=single", "--debug-stdout"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise AssertionError(f"Samba does not take connections on {self.address}:636; it says:\n{tail}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, 636), 1):
                return True
        except OSError:
            return False

    def kill(self, *, gently: bool = False) -> None:
        """End it: at once, as a power cut does, or with time to close its files."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM if gently else signal.SIGKILL)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """It hangs: connections come up, nothing is answered."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _samba_tool(self, *arguments: str) -> None:
        ran = subprocess.run(
            ["samba-tool", *arguments, f"--configfile={self._conf}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"samba-tool {' '.join(arguments[:2])} failed:\n{(ran.stdout + ran.stderr)[-3000:]}"


class Domain:
    """The domain as its administrator sees and changes it, on one controller, over LDAPS."""

    def __init__(self, controller: Controller) -> None:
        tls = Tls(validate=ssl.CERT_NONE)  # whether certificates are looked at is asked of the client under test
        self._connection: Any = Connection(  # most of it is untyped
            Server(controller.address, port=636, use_ssl=True, tls=tls, get_info="NO_INFO"),
            user=_ADMIN,
            password=_ADMIN_PASSWORD,
            auto_referrals=False,
            check_names=False,
            raise_exceptions=True,
            receive_timeout=20,
        )
        self._connection.bind()

    def close(self) -> None:
        self._connection.unbind()

    def add_unit(self, name: str) -> str:
        dn = f"OU={name},{BASE_DN}"
        self._connection.add(dn, ["organizationalUnit"])
        return dn

    def add_user(self, account: str, *, cn: str | None = None, unit: str = "Staff", **attributes: Any) -> str:
        """A user with a password, and ``account@corp.example`` as the UPN. ``cn`` is as a DN spells it."""
        dn = f"CN={cn or account},OU={unit},{BASE_DN}"
        given = {
            "sAMAccountName": account,
            "userPrincipalName": f"{account}@{DNS_DOMAIN}",
            "userAccountControl": "512",
            "unicodePwd": f'"{PASSWORD}"'.encode("utf-16-le"),
        }
        self._connection.add(dn, ["user"], given | attributes)
        return dn

    def add_group(self, name: str, *members: str) -> str:
        dn = f"CN={name},OU=Groups,{BASE_DN}"
        given = {"sAMAccountName": name, "groupType": _SECURITY_GROUP, "member": list(members)}
        self._connection.add(dn, ["group"], {key: value for key, value in given.items() if value})
        return dn

    def join(self, group: str, member: str) -> None:
        self._modify(group, {"member": [(MODIFY_ADD, [member])]})

    def put(self, dn: str, **attributes: str | bytes | int) -> None:
        """Set attributes, whatever they were."""
        self._modify(dn, {name: [(MODIFY_REPLACE, [value])] for name, value in attributes.items()})

    def _modify(self, dn: str, changes: dict[str, Any]) -> None:
        self._connection.modify(dn, changes)

    def move(self, dn: str, cn: str, unit: str = "Staff") -> str:
        superior = f"OU={unit},{BASE_DN}"
        self._connection.modify_dn(dn, f"CN={cn}", new_superior=superior)
        return f"CN={cn},{superior}"

    def remove(self, dn: str) -> None:
        self._connection.delete(dn)

    def read(self, dn: str, attribute: str) -> bytes | None:
        """The first value."""
        self._connection.search(dn, "(objectClass=*)", BASE, attributes=[attribute])
        values = self._connection.response[0]["raw_attributes"][attribute]
        return bytes(values[0]) if values else None

    def number(self, dn: str, attribute: str) -> int:
        return int(self.read(dn, attribute) or b"0")

    def uac(self, dn: str) -> int:
        return self.number(dn, "userAccountControl")


def seed(controller: Controller) -> None:
    """Units, the service account with its one right, and who must be known to both controllers."""
    domain = Domain(controller)
    units = {name: domain.add_unit(name) for name in ("Staff", "Leavers", "Tier0", "Services", "Groups")}
    service = domain.add_user(SERVICE_ACCOUNT, unit="Services", userAccountControl="66048")
    domain.put(
        BASE_DN,
        lockoutThreshold=LOCKED_AFTER,
        lockoutDuration=_HALF_AN_HOUR,
        lockOutObservationWindow=_HALF_AN_HOUR,
    )
    domain.add_user("both", mail="both@corp.example")
    sid = domain.read(service, "objectSid") or b""
    domain.close()
    controller.delegate(units["Staff"], _sid_text(sid))


def _sid_text(sid: bytes) -> str:
    parts = [int.from_bytes(sid[at : at + 4], "little") for at in range(8, len(sid), 4)]
    return "-".join(["S", str(sid[0]), str(int.from_bytes(sid[2:8], "big")), *map(str, parts)])


@dataclass(frozen=True)
class Controllers:
    """Two controllers that know the same people. ``second`` may be killed: a test that uses it starts it again."""

    first: Controller
    second: Controller
    tls: LabCertificates


Connect = Callable[..., ActiveDirectory]
"""Makes a client of the servers at the given URLs (by default the first controller)."""


def ref(person: Person) -> AccountRef:
    """The entry to change, as the case keeps it."""
    return AccountRef(dn=person.dn, guid=person.guid, account=person.account)
