"""A CrowdSec of its own in the router's namespace: the local API, an nftables bouncer, and a blackbox exporter.

Nothing of it reaches the outside, and the packages' own configuration is not read.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from lab.certificates import LabCertificates, make_certificates
from tests.real.netlab import MGMT, ROUTER, NetLab, Relay

MACHINE, PASSWORD = "holdpoint", "Mach1ne-Passw0rd"
READY_WITHIN = 20.0
_LAPI = ("127.0.0.1", 8080)
_EXPORTER = ("127.0.0.1", 9115)

_RULES = f"""
table ip crowdsec {{
  set hosts {{ type ipv4_addr; flags timeout; }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    ip saddr @hosts ip daddr {MGMT} accept
    ip saddr {MGMT} ip daddr @hosts accept
    ip saddr @hosts drop
    ip daddr @hosts drop
  }}
}}
"""
"""No rule for established connections stands before the drop: they have to die as well."""

_MODULES = """
modules:
  icmp: { prober: icmp, timeout: 250ms }
  tcp_connect: { prober: tcp, timeout: 250ms }
"""


class Daemon:
    """A program that lasts, its output in a file; started, killed by its id, and started again."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._begins = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. That it is ready has to be seen otherwise."""
        with self._log.open("ab") as log:
            self._begins = log.tell()
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it has ended; nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def ready(self, what: str, seen: Callable[[], bool], within: float = READY_WITHIN) -> None:
        """Wait until ``seen``. Raises AssertionError with the last lines of its output."""
        limit = time.monotonic() + within
        while not seen():
            assert self._process is not None, f"{self.name} does not run"
            code = self._process.poll()
            assert code is None, f"{self.name} ended with {code} before {what}:\n{self.tail()}"
            assert time.monotonic() < limit, f"{self.name}: {what} did not come in {within} s:\n{self.tail()}"
            time.sleep(0.05)

    def said(self, words: str) -> bool:
        """Whether it has printed that since it was started."""
        return words.encode() in self._log.read_bytes()[self._begins :]

    def tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


class CrowdSecLab:
    """All of it, while it is entered, over a network that is up.

    ``url`` and ``probe_url`` lead to the local API and the exporter from this machine; ``ca_file`` is to be trusted
    for the API, whose machine is ``MACHINE``; ``key`` is Holdpoint's own bouncer key.
    """

    def __init__(self, net: NetLab, folder: Path) -> None:
        self.net = net
        self._folder = folder
        self._open = ExitStack()
        self._certificates: LabCertificates = make_certificates(folder / "certificates")
        self.ca_file = self._certificates.ca_file
        self.key = ""
        self.lapi = self._daemon("lapi", ROUTER, "crowdsec", "-no-cs", "-c", folder / "config.yaml")
        self.bouncer = self._daemon("bouncer", ROUTER, "crowdsec-firewall-bouncer", "-c", folder / "bouncer.yaml")
        self.exporter = self._daemon(
            "exporter",
            "web",
            "prometheus-blackbox-exporter",
            f"--config.file={folder / 'modules.yaml'}",
            f"--web.listen-address={_EXPORTER[0]}:{_EXPORTER[1]}",
        )

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._configure()
            for daemon in (self.lapi, self.bouncer, self.exporter):
                opening.callback(daemon.kill)
            self._api = opening.enter_context(Relay(self.net, ROUTER, *_LAPI))
            self._probes = opening.enter_context(Relay(self.net, "web", *_EXPORTER))
            self.start_lapi()
            self.start_exporter()
            self.start_bouncer()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        """The local API."""
        return f"https://127.0.0.1:{self._api.port}"

    @property
    def probe_url(self) -> str:
        """The exporter in the web server's place."""
        return f"http://127.0.0.1:{self._probes.port}/probe"

    def start_bouncer(self) -> None:
        """Start it, and wait until it has asked the API for the first time."""
        self.bouncer.start()
        self.bouncer.ready("its first look", lambda: self.bouncer.said("Processing new and deleted decisions"))

    def start_lapi(self) -> None:
        """Start it, and wait until it takes connections. The tokens that an earlier one gave out are worth nothing."""
        self.lapi.start()
        self.lapi.ready("its port", lambda: self.net.reaches(ROUTER, *_LAPI))

    def start_exporter(self) -> None:
        """Start it, and wait until it takes connections."""
        self.exporter.start()
        self.exporter.ready("its port", lambda: self.net.reaches("web", *_EXPORTER))

    def mend(self) -> None:
        """Start whatever was killed."""
        for daemon, start in (
            (self.lapi, self.start_lapi),
            (self.exporter, self.start_exporter),
            (self.bouncer, self.start_bouncer),
        ):
            if not daemon.running:
                start()

    def until(self, what: str, seen: Callable[[], bool]) -> None:
        """Wait for something that the bouncer brings about. Raises AssertionError with what the set holds."""
        limit = time.monotonic() + READY_WITHIN
        while not seen():
            assert time.monotonic() < limit, f"{what} did not come: {self.enforced()}\n{self.bouncer.tail()}"
            time.sleep(0.05)

    @contextmanager
    def deaf(self, host: str) -> Iterator[None]:
        """While it lasts, that host answers no ping."""
        self.net.run(host, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
        try:
            yield
        finally:
            self.net.run(host, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")

    def cscli(self, *arguments: str) -> str:
        """What an administrator types."""
        return self.net.run(ROUTER, "cscli", "-c", self._folder / "config.yaml", *arguments)

    def enforced(self) -> str:
        """What the router's set holds, as nft prints it."""
        return self.net.run(ROUTER, "nft", "list", "set", "ip", "crowdsec", "hosts")

    def _daemon(self, name: str, host: str, *command: str | Path) -> Daemon:
        return Daemon(name, self.net.within(host, *command), self._folder / f"{name}.log")

    def _configure(self) -> None:
        folder = self._folder
        for inner in ("data", "hub", "plugins", "notifications"):
            (folder / inner).mkdir()
        texts = {
            "config.yaml": self._config(),
            "simulation.yaml": "simulation: off\n",
            "hub/.index.json": "{}",
            "acquis.yaml": "",
            "console.yaml": "share_manual_decisions: false\n",
            "profiles.yaml": 'name: none\nfilters: ["false"]\ndecisions: []\n',
            "modules.yaml": _MODULES,
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        self.net.run(ROUTER, "nft", "-f", "-", given=_RULES)
        self.cscli("machines", "add", MACHINE, "--password", PASSWORD, "-f", str(folder / "machine.yaml"))
        (folder / "machine.yaml").write_text(
            f"url: https://{_LAPI[0]}:{_LAPI[1]}/\nlogin: {MACHINE}\npassword: {PASSWORD}\n"
            f"ca_cert_path: {self.ca_file}\n"
        )
        self.key = self.cscli("bouncers", "add", "holdpoint", "-o", "raw").strip()
        firewall = self.cscli("bouncers", "add", "firewall", "-o", "raw").strip()
        (folder / "bouncer.yaml").write_text(self._bouncer(firewall), encoding="utf-8")

    def _config(self) -> str:
        folder, certificates = self._folder, self._certificates
        return f"""
common: {{ daemonize: false, log_media: stdout, log_level: info, working_dir: {folder} }}
config_paths:
  config_dir: {folder}
  data_dir: {folder}/data
  simulation_path: {folder}/simulation.yaml
  hub_dir: {folder}/hub
  index_path: {folder}/hub/.index.json
  notification_dir: {folder}/notifications
  plugin_dir: {folder}/plugins
crowdsec_service: {{ enable: false, acquisition_path: {folder}/acquis.yaml, parser_routines: 1 }}
cscli: {{ output: human }}
db_config: {{ log_level: info, type: sqlite, db_path: {folder}/data/crowdsec.db, use_wal: true }}
api:
  client: {{ insecure_skip_verify: false, credentials_path: {folder}/machine.yaml }}
  server:
    enable: true
    log_level: info
    listen_uri: {_LAPI[0]}:{_LAPI[1]}
    profiles_path: {folder}/profiles.yaml
    console_path: {folder}/console.yaml
    tls: {{ cert_file: {certificates.cert_file}, key_file: {certificates.key_file} }}
prometheus: {{ enabled: false }}
"""

    def _bouncer(self, key: str) -> str:
        return f"""
mode: nftables
pid_dir: {self._folder}
update_frequency: 250ms
daemonize: false
log_mode: stdout
log_level: info
api_url: https://{_LAPI[0]}:{_LAPI[1]}/
api_key: {key}
ca_cert_path: {self.ca_file}
disable_ipv6: true
deny_action: DROP
supported_decisions_types: [ban]
blacklists_ipv4: hosts
nftables:
  ipv4: {{ enabled: true, set-only: true, table: crowdsec, chain: forward }}
  ipv6: {{ enabled: false, set-only: true, table: crowdsec6, chain: forward }}
prometheus: {{ enabled: false }}
"""
