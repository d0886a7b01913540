"""What is said when Temporal cannot be used: one line that tells what to mend, and never a secret."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

import connection
from connection import TemporalUnreachable, connect_temporal
from lab.certificates import LabCertificates, make_certificates

SECRET = "s3cret-api-key"
NAME = "temporal.acme.example"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of Temporal's but the test's own."""
    for name in ("ADDRESS", "NAMESPACE", "PROFILE", "API_KEY", "TLS"):
        monkeypatch.delenv(f"TEMPORAL_{name}", raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LabCertificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=(NAME,))


async def refusal() -> str:
    with pytest.raises(TemporalUnreachable) as caught:
        await connect_temporal()
    for chained in (caught.value.__cause__, caught.value.__context__):
        assert chained is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@asynccontextmanager
async def breaking_off(certificates: LabCertificates) -> AsyncIterator[str]:
    """A listener on loopback that speaks TLS, and then breaks every connection off."""

    async def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=speaking(certificates))
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def speaking(certificates: LabCertificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{SECRET}',  # a quote is missing
        f"api_key = {SECRET}",
        f'api_key = ["{SECRET}"]',
        f'tls = "{SECRET}"',
    ],
)
async def test_a_faulty_file_is_named_with_its_line_and_not_quoted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "temporal.toml"
    path.write_text(f"[profile.default]\n{line}\n", encoding="utf-8")
    told = await refusal()
    assert told.startswith("Temporal's configuration cannot be read: it is not TOML as wanted at line 2, column ")
    assert str(path) in told
    assert SECRET not in told


async def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "night")
    assert f"Profile 'night' not found (there is no file {tmp_path}/temporal.toml)" in await refusal()


async def test_a_certificate_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "absent.pem"))
    assert f"cannot be read: {tmp_path}/absent.pem: No such file or directory" in await refusal()


async def test_an_address_is_no_web_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "https://temporal.acme.example:7233")
    assert "a host and a port, without http://" in await refusal()


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    assert (await refusal()).endswith("start it, or set TEMPORAL_ADDRESS to where it is (Connection refused)")


async def test_a_namespace_that_is_not_there(monkeypatch: pytest.MonkeyPatch, dev_server: WorkflowEnvironment) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", dev_server.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "nowhere; rm -rf")
    told = await refusal()
    assert "has no namespace nowhere; rm -rf: set TEMPORAL_NAMESPACE" in told
    assert told.endswith("temporal operator namespace create --namespace 'nowhere; rm -rf'")


@pytest.mark.parametrize("tls", [False, True])
async def test_silence_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, certificates: LabCertificates, *, tls: bool
) -> None:
    monkeypatch.setattr(connection, "CONNECT_WITHIN", timedelta(seconds=0.3))
    if tls:
        monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", str(certificates.ca_file))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("TEMPORAL_ADDRESS", address)
        assert await refusal() == f"Temporal at {address} cannot be used: it takes the connection and says nothing"


@pytest.mark.parametrize(
    ("trusted", "named", "words"),
    [
        (False, True, "name the authority's file in TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
        (True, False, f"its certificate is for {NAME}: name one of them in TEMPORAL_TLS_SERVER_NAME"),
        (True, True, "wants a client's certificate, it seems: set TEMPORAL_TLS_CLIENT_CERT_PATH"),
    ],
)
async def test_each_tls_fault_has_its_words(
    monkeypatch: pytest.MonkeyPatch, certificates: LabCertificates, *, trusted: bool, named: bool, words: str
) -> None:
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    if trusted:
        monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", str(certificates.ca_file))
    if named:
        monkeypatch.setenv("TEMPORAL_TLS_SERVER_NAME", NAME)
    async with breaking_off(certificates) as address:
        monkeypatch.setenv("TEMPORAL_ADDRESS", address)
        assert words in await refusal()


@pytest.mark.parametrize(("tls", "words"), [("true", "it does not speak TLS"), (None, "wants TLS, it seems")])
async def test_one_speaks_tls_and_the_other_does_not(
    monkeypatch: pytest.MonkeyPatch,
    certificates: LabCertificates,
    dev_server: WorkflowEnvironment,
    tls: str | None,
    words: str,
) -> None:
    async with breaking_off(certificates) as address:
        plain = dev_server.client.service_client.config.target_host
        monkeypatch.setenv("TEMPORAL_ADDRESS", plain if tls else address)
        if tls:
            monkeypatch.setenv("TEMPORAL_TLS", tls)
        assert words in await refusal()
