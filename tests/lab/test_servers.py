"""The demo's processes: what is left behind is ended, what is foreign is not, and a child that ends is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.servers import Child, LabFailed, ProcessList, free_port, run_command
from lab.stage import clear, sole_use

WAITS = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]


def child(folder: Path, command: list[str]) -> Child:
    return Child("a child", command, log=folder / "child.log", variables=dict(os.environ))


async def test_what_a_killed_run_left_behind_is_ended(tmp_path: Path) -> None:
    one = child(tmp_path, WAITS)
    await one.start()
    await one.until_ready("up")
    assert one.pid is not None
    ProcessList(tmp_path / "processes.json").keep(one)
    assert clear(tmp_path) == [one.pid]
    with pytest.raises(LabFailed, match=f"code -{int(signal.SIGKILL)}"):
        await one.until_ready("a line that it never writes")
    await one.stop()


def test_a_foreign_process_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    with subprocess.Popen(WAITS, stdout=subprocess.PIPE) as foreign:
        assert foreign.stdout is not None
        foreign.stdout.readline()
        path.write_text(json.dumps([{"pid": foreign.pid, "command": [sys.executable, "worker.py"]}]))
        assert ProcessList(path).end_leftovers() == []
        assert foreign.poll() is None
        foreign.kill()


def test_an_unreadable_list_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    path.write_text('{"pid": 1}')
    assert ProcessList(path).end_leftovers() == []


async def test_a_child_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    one = child(tmp_path, [sys.executable, "-c", "raise SystemExit('no settings')"])
    await one.start()
    with pytest.raises(LabFailed, match="no settings"):
        await one.until_ready("worker ready")
    await one.stop()


async def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(LabFailed, match="no end"):
        await run_command(WAITS, dict(os.environ), within=0.2)


def test_only_one_demo_has_the_run_directory(tmp_path: Path) -> None:
    with sole_use(tmp_path), pytest.raises(LabFailed, match="another demo"), sole_use(tmp_path):
        pass


def test_a_taken_port_is_avoided() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(0)


def test_clearing_keeps_what_is_not_the_demos(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "old").write_text("gone")
    clear(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not (tmp_path / "secrets").exists()
