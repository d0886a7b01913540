"""Temporal as a SOC has it: behind TLS that wants a client's certificate, and in a namespace of its own.

The dev server speaks no TLS, so HAProxy ends it in front, as a proxy or a service mesh does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from incident.policy import OnUnanswered
from lab.certificates import make_certificates
from lab.environment import Environment
from lab.servers import Child, TemporalServer, free_port
from tests import processes

NAMESPACE = "soc"
SERVER_NAME = "temporal.acme.example"
"""The one name in the server's certificate: who connects to an address has to be told it."""

_HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen temporal
  bind 127.0.0.1:{port} ssl crt {folder}/server-and-key.pem ca-file {folder}/clients/ca.pem verify required alpn h2
  server dev 127.0.0.1:{behind}
"""


class _SocServer(TemporalServer):
    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        super().__init__(folder, variables, port=0, ui_port=0)
        self._command += ["--namespace", NAMESPACE]


@dataclass(frozen=True)
class ClientCertificate:
    """PEM files: a client's certificate, its key, and the authority that the server knows clients by."""

    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class Soc:
    """What stands: the stand-ins, Temporal behind TLS, and what a process has to be told to get in."""

    folder: Path
    lab: Environment
    server: TemporalServer
    address: str
    ca_file: Path
    client: ClientCertificate
    env: dict[str, str]
    """Holdpoint's settings, and nothing about Temporal."""

    def by_variables(self, **changes: str | None) -> dict[str, str]:
        """The environment of a process that is told all by ``TEMPORAL_*``; ``None`` leaves a variable out."""
        told = {
            "TEMPORAL_ADDRESS": self.address,
            "TEMPORAL_NAMESPACE": NAMESPACE,
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(self.client.cert_file),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(self.client.key_file),
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(self.ca_file),
            "TEMPORAL_TLS_SERVER_NAME": SERVER_NAME,
        }
        wanted: dict[str, str | None] = {**told, **changes}
        return self.env | {name: value for name, value in wanted.items() if value is not None}

    def by_profile(self, **more: str) -> dict[str, str]:
        """The same, told by a profile of Temporal's configuration file."""
        path = self.folder / "profiles.toml"
        path.write_text(
            f"""[profile.default]
address = "127.0.0.1:1"

[profile.night]
address = "{self.address}"
namespace = "{NAMESPACE}"
[profile.night.tls]
client_cert_path = "{self.client.cert_file}"
client_key_path = "{self.client.key_file}"
server_ca_cert_path = "{self.ca_file}"
server_name = "{SERVER_NAME}"
""",
            encoding="utf-8",
        )
        return self.env | {"TEMPORAL_CONFIG_FILE": str(path), "TEMPORAL_PROFILE": "night"} | more


@asynccontextmanager
async def soc(folder: Path) -> AsyncIterator[Soc]:
    """Everything up but a worker, and down again by process id whatever happens."""
    (folder / "logs").mkdir(parents=True)
    async with Environment(folder) as lab:
        settings = lab.write_settings("holdpoint.toml", wait="1h", on_unanswered=OnUnanswered.CLOSE)
        env = processes.variables(folder, **lab.variables(settings))
        server = _SocServer(folder, env)
        certificates = make_certificates(folder / "temporal", names=(SERVER_NAME,))
        client = make_client_certificate(folder / "clients")
        port = free_port(0)
        both = folder / "server-and-key.pem"
        both.touch(mode=0o600)
        both.write_bytes(certificates.cert_file.read_bytes() + certificates.key_file.read_bytes())
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=port, folder=folder, behind=server.port), encoding="utf-8")
        command = ["/usr/sbin/haproxy", "-db", "-f", str(config)]
        proxy = Child("HAProxy", command, log=folder / "logs" / "haproxy.log", variables=env)
        try:
            await server.start()
            await proxy.start()
            await proxy.until_ready(("127.0.0.1", port))
            yield Soc(folder, lab, server, f"127.0.0.1:{port}", certificates.ca_file, client, env)
        finally:
            await proxy.kill()
            await server.kill()


def make_client_certificate(folder: Path, *, valid_from: timedelta = timedelta(hours=-1)) -> ClientCertificate:
    """An authority for clients and one client's certificate by it, valid for a day that begins ``valid_from`` now."""
    folder.mkdir(parents=True, exist_ok=True)
    made = ClientCertificate(folder / "ca.pem", folder / "client.pem", folder / "client.key")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority, holder = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("SOC clients", "holdpoint")
    )
    ca = (
        _unsigned(authority, authority, ca_key.public_key(), valid_from)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    client = (
        _unsigned(holder, authority, key.public_key(), valid_from)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    made.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.cert_file.write_bytes(client.public_bytes(serialization.Encoding.PEM))
    made.key_file.touch(mode=0o600)
    made.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid_from: timedelta
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) + valid_from
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
    )
