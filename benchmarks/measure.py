"""What a figure is made of: order statistics, the processes' share of the machine, and the machine itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.servers import TEMPORAL

_TICKS = os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "greatest": round(max(values), digits),
    }


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of times in seconds, told in milliseconds; ``n`` is how many there are."""
    if not seconds:
        return {"n": 0}
    told = {f"p{share}": round(percentile(seconds, share / 100) * 1e3, 1) for share in (50, 95, 99)}
    return {"n": len(seconds), **told, "greatest": round(max(seconds) * 1e3, 1)}


def processor_seconds(pid: int | None) -> float:
    """Processor time that a process has used so far, where the system tells it in ``/proc``; else 0."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int | None) -> float:
    """Memory of a process in megabytes (10^6), where the system tells it; else 0."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmRSS")), "0")
    return round(int(kilobytes) * 1024 / 1e6, 1)


@dataclass(frozen=True)
class Used:
    """Processor time of some processes up to a moment."""

    at: float
    by: dict[str, float]

    @classmethod
    def now(cls, pids: dict[str, int | None]) -> Used:
        """Up to now."""
        return cls(time.monotonic(), {name: processor_seconds(pid) for name, pid in pids.items()})

    def until(self, later: Used, per: int) -> dict[str, float]:
        """Milliseconds of processor time for each of ``per`` cases between the two moments."""
        return {name: round((later.by[name] - self.by[name]) / per * 1e3, 1) for name in self.by}


def loop_ms() -> float:
    """How fast this machine is just now: milliseconds for a million turns of an empty loop."""
    begun = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return round((time.perf_counter() - begun) * 1e3, 1)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    told = subprocess.run([TEMPORAL, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "temporalio": importlib.metadata.version("temporalio"),
        "temporal": told,
        "load": [round(load, 2) for load in os.getloadavg()],
        "loop_ms": loop_ms(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
