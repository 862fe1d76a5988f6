"""Somebody on a host of the mesh who dials other agents by itself, with whatever certificate it got hold of."""

import os
import socket
import sqlite3
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from certs.csr import new_key_and_csr, private_key_pem
from certs.local_ca import LocalCa
from certs.spiffe import service_id, service_sni
from nodeagent import limits
from nodeagent.lab.catalog import data_directory
from nodeagent.lab.lab import Lab
from tests.e2e.support.intruder import Session
from tests.e2e.support.unit import Unit
from tests.unit.certs.minting import mint

DATACENTER = "dc1"


class Impostor:
    """On one host; its connections and files end with its `with`."""

    def __init__(self, lab: Lab, host: str, directory: Path) -> None:
        self._lab, self._host, self._directory = lab, host, directory
        answer = lab.catalog("GET", "/v1/connect/ca/roots")
        self.domain: str = answer["TrustDomain"]
        self.roots_pem = "".join(root["RootCert"] for root in answer["Roots"])

    def __enter__(self) -> Self:
        self.unit = Unit(self._lab, self._host)
        return self

    def __exit__(self, *_: object) -> None:
        self.unit.__exit__()
        for path in self._directory.glob("impostor-*.pem"):
            path.unlink()

    def svid(self, service: str) -> Path:
        """A true certificate, as this host's own agent gets it."""
        key, csr = new_key_and_csr(service_id(self.domain, DATACENTER, service))
        token = self._lab.node_token(self._host)
        return self._write(key + self._lab.catalog("PUT", "/v1/nodeagent/sign", {"CSR": csr}, token=token)["CertPEM"])

    def forged(self, by: LocalCa | None = None, **wrong: Any) -> Path:
        """A certificate for `shop` by the mesh's own CA, or by another, that is right but for what is said.

        wrong: as `mint` takes it.
        """
        ca = by or self._stolen_ca()
        now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
        root = x509.load_pem_x509_certificate(ca.cert_pem.encode())
        (issuer,) = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        right: dict[str, Any] = {
            "uris": (str(service_id(self.domain, DATACENTER, "shop")),),
            "begins": now - timedelta(minutes=1), "ends": now + timedelta(hours=1),
            "key": key, "signer": load_pem_private_key(ca.key_pem.encode(), None), "issuer": issuer.value,
        }  # fmt: skip
        leaf = x509.load_der_x509_certificate(mint(**right | wrong))
        return self._write(private_key_pem(key) + leaf.public_bytes(Encoding.PEM).decode())

    def dial(
        self, certificate: Path | None, service: str = "web", *, host: str = "host2", sni: str | None = None,
        alpn: tuple[str, ...] = ("h2",), version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> ssl.SSLSocket:  # fmt: skip
        """TLS with the agent of another host. With TLS 1.3 a refused certificate shows at the next read.

        Raises:
            OSError: refused; an ssl.SSLError has the alert.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.roots_pem)
        context.minimum_version = context.maximum_version = version
        if certificate:
            context.load_cert_chain(certificate)
        if alpn:
            context.set_alpn_protocols(alpn)
        name = service_sni(service, DATACENTER, self.domain) if sni is None else sni
        return context.wrap_socket(self.knock(host), server_hostname=name or None)

    def knock(self, host: str = "host2") -> socket.socket:
        """A TCP connection to the agent of another host."""
        return self.unit.connect(self._lab.host(host).ipv4, limits.TUNNEL_PORT)

    def call(self, certificate: Path, authority: str, service: str = "web", **extra: str) -> int:
        """The status of a CONNECT; 0 when there is none. extra: further headers, `_` for `-`."""
        with Session(self.dial(certificate, service), 65_535) as session:
            further = [(name.replace("_", "-").encode(), value.encode()) for name, value in extra.items()]
            stream = session.ask([(b":method", b"CONNECT"), (b":authority", authority.encode()), *further])
            return int(session.status(stream) or b"0")

    def _stolen_ca(self) -> LocalCa:
        database = data_directory(self._lab.host("hub")) / "catalog.db"
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            cert_pem, key_pem = connection.execute("SELECT cert_pem, key_pem FROM roots WHERE active").fetchone()
        finally:
            connection.close()
        return LocalCa(self.domain, cert_pem, key_pem)

    def _write(self, pem: str) -> Path:
        path = self._directory / f"impostor-{os.urandom(6).hex()}.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(pem)
        return path
