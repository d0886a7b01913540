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


async def connect_temporal(*, identity: str | None = None) -> Client:
    """Connect by ``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_PROFILE`` and the like.

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
            runtime=telemetry.runtime(),
        )
    except (RuntimeError, RPCError) as error:
        address = config["target_host"]
        raise TemporalUnreachable(f"no Temporal server answers at {address} (TEMPORAL_ADDRESS): {error}") from None
