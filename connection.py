"""The connection to Temporal, by Temporal's own environment configuration, as the ``temporal`` CLI reads it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

import telemetry
from incident.text import plain

TASK_QUEUE = "incident-response"
DEFAULT_ADDRESS = "localhost:7233"
CONNECT_WITHIN = timedelta(seconds=10)
"""Where TLS is spoken, the SDK waits for the other side's first word without end."""

_CLIENT = "TEMPORAL_TLS_CLIENT_CERT_PATH"
_CLIENT_FILES = f"{_CLIENT} and TEMPORAL_TLS_CLIENT_KEY_PATH"
_MEANINGS = (
    # Without the connection's own error around it, it is about a file of ours.
    (
        r"Transport, InvalidCertificate|CertificateParseError",
        "a certificate's file is no PEM file as wanted: look at {client}, and {ca}",
    ),
    (r"InvalidCertificate\(NotValidForName", "its certificate is for {names}: name one of them in {server_name}"),
    (
        r"InvalidCertificate\((?:UnknownIssuer|BadSignature|CaUsedAsEndEntity)",
        "no authority that is trusted here stands behind its certificate: name the authority's file in {ca}",
    ),
    (
        r"InvalidCertificate\((?:Expired|NotValidYet)",
        "its certificate has expired or is not valid yet: renew it, or look at this machine's clock",
    ),
    (r"InvalidCertificate\((\w+)", "its certificate cannot be accepted ({0})"),
    (
        r"InvalidMessage\(InvalidContentType",
        "it does not speak TLS: leave out TEMPORAL_TLS…, or set TEMPORAL_ADDRESS to where TLS is spoken",
    ),
    (r"KeyMismatch|both client cert and private key|NoCertificatesPresented|PrivateKeyParseError", "{files}"),
    (r"received fatal alert: (\w+)", "{closed} (it says {0})"),
    (r"Unauthenticated|PermissionDenied", "it does not let us in: look at TEMPORAL_API_KEY, or {client_files}"),
    (r"Timeout ?[Ee]xpired|TimedOut", "it takes the connection and says nothing"),
    (r"connection closed|[Bb]roken ?[Pp]ipe|Connection(?:Reset|Aborted)|NotConnected|UnexpectedEof", "{closed}"),
    (r"invalid target URL", "this is not a host and a port, such as temporal.example.com:7233: set TEMPORAL_ADDRESS"),
)
"""What the SDK (temporalio 1.35, over rustls) says when it cannot connect, and what that means to who mends it."""


class TemporalUnreachable(Exception):
    """Temporal is not there, or does not let us in; the message says what to look at."""


async def connect_temporal(*, identity: str | None = None, lasting: bool = False) -> Client:
    """Connect by ``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_PROFILE`` and the like.

    ``lasting`` is for a process that lasts: its metrics are exported where metrics are wanted (see ``telemetry``).

    Raises:
        TemporalUnreachable: with the address, and what to look at.
    """
    config = _configured()
    try:
        client = await asyncio.wait_for(
            Client.connect(
                **config,
                identity=identity,
                data_converter=pydantic_data_converter,
                plugins=telemetry.plugins(),
                runtime=telemetry.runtime(lasting=lasting),
            ),
            CONNECT_WITHIN.total_seconds(),
        )
    except TimeoutError:
        fault = _told(config, "TimeoutExpired")
    except (RuntimeError, ValueError, RPCError) as error:
        fault = _told(config, str(error))
    else:
        await _require_namespace(client, config["target_host"])
        return client
    # Raised outside of the handler: what the SDK says is a page of its insides.
    raise TemporalUnreachable(fault)


def _configured() -> ClientConnectConfig:
    try:
        config = ClientConfig.load_client_connect_config()
    except OSError as error:
        fault = f"{error.filename}: {error.strerror}"
    except (RuntimeError, ValueError) as error:
        # A parser's error shows the line that it stumbled over, which may hold the API key.
        place = re.search(r"TOML parse error at (line \d+, column \d+)", str(error))
        fault = f"it is not TOML as wanted at {place[1]}" if place else plain(str(error))
        fault += _which_file()
    else:
        config.setdefault("target_host", DEFAULT_ADDRESS)
        if "://" in config["target_host"]:
            raise TemporalUnreachable(
                f"{plain(config['target_host'])} is not what TEMPORAL_ADDRESS wants: a host and a port, without http://;"
                " TEMPORAL_TLS=true switches TLS on"
            )
        return config
    raise TemporalUnreachable(f"Temporal's configuration cannot be read: {fault}")


def _which_file() -> str:
    path = os.environ.get("TEMPORAL_CONFIG_FILE")
    if not path:
        return ""
    return f" ({path})" if Path(path).exists() else f" (there is no file {path})"


def _told(config: ClientConnectConfig, error: str) -> str:
    """What to tell somebody who has to mend it."""
    address = plain(config["target_host"])
    for pattern, meaning in _MEANINGS:
        found = re.search(pattern, error)
        if found:
            return f"Temporal at {address} cannot be used: {meaning.format(*found.groups(), **_words(config, error))}"
    said = re.findall(r'(?:message|error): "([^"]+)"', error) or [error]
    told = f"no Temporal server answers at {address}: start it, or set TEMPORAL_ADDRESS to where it is"
    return f"{told} ({plain(said[-1], limit=300)})"


def _words(config: ClientConnectConfig, error: str) -> dict[str, Any]:
    tls = config.get("tls") or bool(config.get("api_key"))
    certified = isinstance(tls, TLSConfig) and tls.client_cert
    if certified:
        closed = f"it does not accept the client's certificate, it seems: look at {_CLIENT_FILES}"
    elif tls:
        closed = f"it breaks the connection off and wants a client's certificate, it seems: set {_CLIENT_FILES}"
    else:
        closed = "it breaks the connection off and wants TLS, it seems: set TEMPORAL_TLS=true, or TEMPORAL_TLS…"
    names = re.findall(r'DnsName\(\\"([^"\\]+)', error.partition("presented:")[2])
    return {
        "closed": closed,
        "client_files": _CLIENT_FILES,
        "files": f"the client's certificate and its key are not a pair of PEM files: look at {_CLIENT_FILES}",
        "names": plain(", ".join(names[:5])) or "another name",
        "server_name": "TEMPORAL_TLS_SERVER_NAME",
        "client": _CLIENT,
        "ca": "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    }


async def _require_namespace(client: Client, address: str) -> None:
    """Only a namespace that is not there is a fault here; what else is wrong, the next call tells as well."""
    asked = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        await client.workflow_service.describe_namespace(asked, timeout=CONNECT_WITHIN)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            return
    else:
        return
    name = plain(client.namespace)
    raise TemporalUnreachable(
        f"Temporal at {plain(address)} has no namespace {name}: set TEMPORAL_NAMESPACE to the one that is meant,"
        f" or create it: temporal operator namespace create --namespace {shlex.quote(name)}"
    )
