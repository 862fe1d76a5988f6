"""How a host gets its certificates: keys stay where they are made, a token speaks for its services only, TLS always."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certs.csr import new_key_and_csr
from certs.server import ServerRoot
from certs.spiffe import service_id
from nodeagent.lab import agent, layout
from nodeagent.lab.catalog import data_directory
from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from nodeagent.wire.frames import WantSvid, encode_frame
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import Impostor
from tests.e2e.support.settings import restart
from tests.e2e.support.taken_over import channel_to_control
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB = 8080
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


class Mesh(NamedTuple):
    """`web` on host2, which everybody may call."""

    lab: Lab
    web: App

    def call(self, service: str, line: str) -> str:
        """From host1."""
        with Unit(self.lab, "host1", service) as unit:
            return call(unit, self.lab.host("host2").ipv4, WEB, line)

    def reason(self) -> str:
        """Why host1's last connection ended."""
        return str(look.log_lines(self.lab, "host1")[-1]["reason"])


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Iterator[Mesh]:
    """For the whole module."""
    with App(lab, "host2", "web", WEB) as web:
        look.allow(lab, "*", "web")
        yield Mesh(lab, web)


def keys_in(directory: Path) -> dict[str, PrivateKeyTypes]:
    """Every private key in a file below a directory, by file and number."""
    found: dict[str, PrivateKeyTypes] = {}
    for path in directory.rglob("*"):
        if path.is_file():
            for number, pem in enumerate(_KEY.findall(path.read_bytes())):
                found[f"{path.name} {number}"] = load_pem_private_key(pem, None)
    return found


def spki(key: PublicKeyTypes) -> bytes:
    """What makes two public keys equal."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_private_keys_of_services_are_nowhere_but_in_memory(
    mesh: Mesh, wire: Wire, canary: str, tmp_path: Path
) -> None:
    """Not on the disk of their host, not at the CA, not in a log, an environment or an argument."""
    lab = mesh.lab
    assert mesh.call("shop", canary) == f"app:{canary}"
    for host in ("host1", "host2"):
        assert [row["state"] for row in look.ask(lab, host, "certs")["certificates"]] == ["valid"]
        assert keys_in(lab.host(host).directory) == {}
        for pid in lab.pids(host, layout.AGENT):
            for name in ("environ", "cmdline"):
                assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/{name}").read_bytes()
    with Impostor(lab, "host1", tmp_path) as impostor, impostor.dial(impostor.svid("shop")) as sock:
        leaf = sock.getpeercert(binary_form=True)
    assert leaf
    at_the_ca = keys_in(lab.host("hub").directory)
    assert {name.partition(" ")[0] for name in at_the_ca} >= {"catalog.db"}, "the CA's own key is there"
    assert spki(x509.load_der_x509_certificate(leaf).public_key()) not in {
        spki(k.public_key()) for k in at_the_ca.values()
    }
    wire.assert_never_in_clear(canary)


def test_tokens_and_requests_cross_the_wire_in_tls_only(mesh: Mesh, wire: Wire, canary: str) -> None:
    """An agent that starts shows its token and gets its certificates."""
    restart(mesh.lab, "host1")
    assert mesh.call("shop", canary) == f"app:{canary}"
    wire.assert_never_in_clear(canary, mesh.lab.node_token("host1"), "BEGIN CERTIFICATE REQUEST", "X-Consul-Token")


def test_the_ca_answers_nothing_without_tls(mesh: Mesh) -> None:
    """Not even with a reason that a program could take for an answer."""
    token, hub = mesh.lab.node_token("host1"), mesh.lab.host("hub").ipv4
    with Unit(mesh.lab, "host1") as unit, unit.connect(hub, layout.CATALOG_PORT) as sock:
        sock.sendall(f"PUT /v1/nodeagent/sign HTTP/1.1\r\nHost: {hub}\r\nX-Consul-Token: {token}\r\n\r\n".encode())
        assert not sock.recv(4096).startswith(b"HTTP")


@pytest.fixture
def limited(mesh: Mesh) -> Iterator[str]:
    """host1 has a token that speaks for `shop` and for nobody else."""
    lab, path = mesh.lab, mesh.lab.host("host1").own("etc") / "node.token"
    before = path.read_text()
    entry = {"NodeIdentities": [{"NodeName": "host1"}], "ServiceIdentities": [{"ServiceName": "shop"}]}
    token = str(lab.catalog("PUT", "/v1/acl/token", entry)["SecretID"])
    path.write_text(token)
    restart(lab, "host1")
    yield token
    path.write_text(before)
    restart(lab, "host1")


def test_a_host_speaks_for_the_services_of_its_token_only(mesh: Mesh, limited: str, wire: Wire, canary: str) -> None:
    """The CA refuses the rest, whoever asks and in whatever way; such a caller is refused on its own host."""
    assert mesh.call("shop", canary) == f"app:{canary}"
    assert mesh.call("mallory", canary) == "reset"
    eventually(lambda: mesh.reason() == "no_svid", look.WITHIN_S, "the record says why")
    domain = mesh.lab.catalog("GET", "/v1/connect/ca/roots")["TrustDomain"]
    shop, web, mallory = (
        new_key_and_csr(service_id(domain, "dc1", name)).csr_pem for name in ("shop", "web", "mallory")
    )
    for token, body, status in (
        (limited, {"CSR": mallory}, 403),
        (limited, {"CSR": web}, 403),
        (limited, {"CSR": shop, "Service": "web"}, 400),
        ("guessed", {"CSR": shop}, 403),
    ):
        with pytest.raises(LabError, match=rf"\b{status}\b"):
            mesh.lab.catalog("PUT", "/v1/nodeagent/sign", body, token=token)
    wire.assert_never_in_clear(canary)


def test_a_worker_that_is_taken_over_gets_no_key_of_a_service_that_its_host_does_not_run(mesh: Mesh, limited: str) -> None:
    """It asks control in the worker's place, on its channel; what the host may speak for it gets, and nothing else."""
    assert limited

    def certificates() -> dict[str, dict[str, str]]:
        return {row["service"]: row for row in look.ask(mesh.lab, "host1", "certs")["certificates"]}

    mesh.call("shop", "before")
    eventually(lambda: certificates()["shop"]["state"] == "valid", look.WITHIN_S, "its own is there")
    _, pid = look.first_worker(mesh.lab, "host1")
    with channel_to_control(pid) as channel:
        channel.sendall(encode_frame(WantSvid("web")))
    eventually(lambda: "403" in certificates().get("web", {"error": ""})["error"], look.WITHIN_S, "the CA has refused it")
    assert certificates()["web"]["state"] == "missing"


def test_an_agent_gives_its_token_to_no_other_catalog(mesh: Mesh, wire: Wire, canary: str) -> None:
    """One whose certificate the pinned CA did not sign is none: the saved mesh stays in force, without certificates."""
    lab, place = mesh.lab, mesh.lab.host("host1")
    path = place.own("etc") / "catalog-ca.pem"
    before = path.read_text()
    assert before == (data_directory(lab.host("hub")) / "tls-ca.pem").read_text()
    lab.stop_agent("host1")
    starts = len(look.log_lines(lab, "host1", "supervisor_ready"))
    path.write_text(ServerRoot.create(datetime.now(UTC)).cert_pem)
    try:
        agent.start_agent(place, lab.state.holder(place))
        eventually(
            lambda: "its certificate is not accepted" in place.log(layout.AGENT).read_text(), look.WITHIN_S, "it says so"
        )
        eventually(lambda: len(look.log_lines(lab, "host1", "supervisor_ready")) > starts, look.WITHIN_S, "it serves")
        assert mesh.call("shop", canary) == "reset"
    finally:
        lab.stop_agent("host1")
        path.write_text(before)
        lab.start_agent("host1")
    eventually(lambda: mesh.call("shop", canary) == f"app:{canary}", look.WITHIN_S, "all is well again")
    wire.assert_never_in_clear(canary, lab.node_token("host1"))
