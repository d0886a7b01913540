"""Debian's packages that the real systems come in. ``python -m tests.real.packages`` installs what is missing, as root.

Nothing is started by installing: a package's own services are kept down, each test brings up its own instance.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = {
    "Samba": (
        "samba",
        "samba-ad-dc",
        "samba-ad-provision",
        "samba-dsdb-modules",
        "samba-vfs-modules",
        "winbind",
        "python3-samba",
        "ldb-tools",
    ),
    "Request Tracker": ("request-tracker5", "rt5-db-sqlite", "rt5-standalone", "starman"),
    "Exim and Dovecot": ("exim4-daemon-heavy", "dovecot-imapd"),
    "Temporal over TLS": ("haproxy",),
    "CrowdSec": (
        "crowdsec",
        "crowdsec-firewall-bouncer",
        "nftables",
        "iproute2",
        "socat",
        "prometheus-blackbox-exporter",
    ),
}
_DAEMONS_STAY_DOWN = Path("/usr/sbin/policy-rc.d")
_CROWDSEC_CENTRAL = Path("/etc/crowdsec/online_api_credentials.yaml")


def missing(system: str) -> list[str]:
    """The packages of a system that are not installed here."""
    if shutil.which("dpkg-query") is None:
        return list(PACKAGES[system])
    return [name for name in PACKAGES[system] if not _installed(name)]


def need(system: str) -> None:
    """Skip, by name, unless this runs as root and the system's packages are there."""
    absent = missing(system)
    if absent:
        pytest.skip(f"{system} is not installed; as root: apt-get install {' '.join(absent)}")
    if os.geteuid() != 0:
        pytest.skip(f"{system}: its own ports, accounts and network namespaces need root")


def _installed(package: str) -> bool:
    told = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode == 0 and told.stdout.startswith("ii")


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep the packages' own services down, as a policy of a container does; a policy that is there is kept."""
    ours = not _DAEMONS_STAY_DOWN.exists()
    if ours:
        _DAEMONS_STAY_DOWN.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        _DAEMONS_STAY_DOWN.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _DAEMONS_STAY_DOWN.unlink()


def install() -> int:
    """Install what is missing. Returns apt-get's exit code, or 0 where nothing is to do or may be done."""
    absent = [name for system in PACKAGES for name in missing(system)]
    if not absent:
        print("every package is there")
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not root on a Debian: nothing is installed, and tests are skipped by name. Missing: {' '.join(absent)}")
        return 0
    if not _CROWDSEC_CENTRAL.exists():
        # Without it the package registers with the vendor's central service, and fails where that is not reached.
        _CROWDSEC_CENTRAL.parent.mkdir(parents=True, exist_ok=True)
        _CROWDSEC_CENTRAL.write_text("# no central service\n", encoding="utf-8")
    print(f"installing {' '.join(absent)}", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_started():
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *absent]):
            ran = subprocess.run(
                ["apt-get", "-qq", *command], env=env, capture_output=True, text=True, check=False, timeout=480
            )
            if ran.returncode:
                print(f"apt-get {command[0]} failed:\n{(ran.stdout + ran.stderr)[-4000:]}", file=sys.stderr)
                return ran.returncode
    return 0


if __name__ == "__main__":
    sys.exit(install())
