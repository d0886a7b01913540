"""The connection to Temporal, by Temporal's own environment configuration, as the ``temporal`` CLI reads it."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

import telemetry

TASK_QUEUE = "incident-response"
DEFAULT_ADDRESS = "localhost:7233"


class TemporalUnreachable(Exception):
    """There is no Temporal server at the address."""


async def connect_temporal(*, identity: str | None = None, lasting: bool = False) -> Client:
    """Connect by ``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_PROFILE`` and the like.

    ``lasting`` is for a process that lasts: its metrics are exported where metrics are wanted (see ``telemetry``).

    Raises:
        TemporalUnreachable: with the address, and what to look at.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError) as error:
        raise TemporalUnreachable(f"Temporal's configuration cannot be read: {error}") from None
    config.setdefault("target_host", DEFAULT_ADDRESS)
    try:
        return await Client.connect(
            **config,
            identity=identity,
            data_converter=pydantic_data_converter,
            plugins=telemetry.plugins(),
            runtime=telemetry.runtime(lasting=lasting),
        )
    except (RuntimeError, ValueError, RPCError) as error:
        told = (
            f"no Temporal server answers at {config['target_host']}: start it, or set TEMPORAL_ADDRESS to where it is"
        )
        raise TemporalUnreachable(f"{told} ({error})") from None
