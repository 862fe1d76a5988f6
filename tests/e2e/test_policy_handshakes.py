"""Who knocks at an agent's tunnel port: wrong certificates, wrong hellos, garbage, silence, strangers."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import DATACENTER, Impostor
from tests.e2e.support.intruder import Session
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually
from tests.unit.certs.minting import key_usage

WEB, DEAD = 8080, 8081
WITHIN_S = 10.0
SILENT = 300  # more than both workers let one host have at a time
GARBAGE = (b"GET / HTTP/1.1\r\nhost: web\r\n\r\n", b"\x00" * 600, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n",
           b"\x16\x03\x01\xff\xff" + b"\x01" * 100, b"\x80\x2e\x01\x00\x02" + b"\x00" * 40)  # fmt: skip


class Mesh(NamedTuple):
    """`web` on host2, which everybody may call; host1 with an agent; host3 from which strange things come."""

    lab: Lab
    web: App
    impostor: Impostor

    @property
    def authority(self) -> str:
        """Of `web`."""
        return f"{self.lab.host('host2').ipv4}:{WEB}"

    def row(self, port: int) -> dict[str, Any]:
        """host2's record of the knock that came from that port."""
        client = f"{self.lab.host('host3').ipv4}:{port}"
        (row,) = look.closed(self.lab, "host2", 1, client=client)
        return row


@pytest.fixture(scope="module")
def mesh(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """For the whole module."""
    lab = make_lab(hosts=3)
    with (
        App(lab, "host2", "web", WEB) as web,
        App(lab, "host1", "back", WEB),
        Impostor(lab, "host3", tmp_path_factory.mktemp("impostor")) as impostor,
    ):
        lab.register("host2", "dead", DEAD)
        for destination in ("web", "dead", "back"):
            look.allow(lab, "shop", destination)
        yield Mesh(lab, web, impostor)


@pytest.fixture(autouse=True)
def unharmed(mesh: Mesh, tmp_path: Path, canary: str) -> Iterator[None]:
    """Whatever a test does: the mesh serves, in tunnels that are opened during it and after it; nothing shows on the wire."""
    wire = Wire(mesh.lab, tmp_path)
    try:
        yield
        with Unit(mesh.lab, "host1", "shop") as shop:
            assert call(shop, mesh.lab.host("host2").ipv4, WEB, canary) == f"app:{canary}"
        assert mesh.impostor.call(mesh.impostor.svid("shop"), mesh.authority) == 200
        assert look.status(mesh.lab, "host2")["healthy"]
        assert "Traceback" not in mesh.lab.host("host2").log("nodeagent").read_text()
        wire.assert_never_in_clear(canary)
    finally:
        wire.close()


# --- what a proven caller gets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "service", "port", "extra", "answer"),
    [
        ("shop", "web", WEB, {}, (200, "ok")),
        ("mallory", "web", WEB, {}, (401, "denied")),
        ("web", "web", WEB, {}, (401, "denied")),
        ("shop", "web", DEAD, {}, (400, "bad_destination")),
        ("shop", "dead", WEB, {}, (400, "bad_destination")),
        ("shop", "dead", DEAD, {}, (503, "upstream_refused")),
        ("shop", "web", WEB, {"nodeagent_hops": "1"}, (200, "ok")),
        ("shop", "web", WEB, {"nodeagent_hops": "2"}, (400, "loop")),
        ("shop", "web", WEB, {"nodeagent_hops": "-1"}, (400, "bad_destination")),
        ("mallory", "web", WEB, {"x_forwarded_client_cert": "URI=spiffe://x/ns/default/dc/dc1/svc/shop"}, (401, "denied")),
        ("mallory", "web", WEB, {"forwarded": "for=127.0.0.1", "nodeagent_source": "shop"}, (401, "denied")),
    ],
)  # fmt: skip
def test_a_stream_is_answered_by_who_the_certificate_says(
    mesh: Mesh, source: str, service: str, port: int, extra: dict[str, str], answer: tuple[int, str]
) -> None:
    """HBONE's statuses; no header makes anybody somebody else."""
    known = len(look.log_lines(mesh.lab, "host2"))
    authority = f"{mesh.lab.host('host2').ipv4}:{port}"
    assert mesh.impostor.call(mesh.impostor.svid(source), authority, service, **extra) == answer[0]
    eventually(lambda: len(look.log_lines(mesh.lab, "host2")) > known, WITHIN_S, "a record")
    row = look.log_lines(mesh.lab, "host2")[known]
    assert (row["source"], row["destination"]) == (source, service)
    assert answer[1] in (row["reason"], "ok"), "a caller that hangs up on its answer resets it"


def test_the_application_sees_the_host_that_called(mesh: Mesh) -> None:
    """The address of the tunnel's other end, whatever a header says."""
    with Session(mesh.impostor.dial(mesh.impostor.svid("shop")), 65_535) as session:
        headers = [
            (b":method", b"CONNECT"),
            (b":authority", mesh.authority.encode()),
            (b"x-forwarded-for", b"127.0.0.1"),
        ]
        stream = session.ask(headers)
        assert session.status(stream) == b"200"
        session.h2.send_data(stream, b"who am I\n")
        session.flush()
        expected = ("who am I", mesh.lab.host("host3").ipv4)
        eventually(lambda: expected in mesh.web.heard, WITHIN_S, "the line has arrived")


# --- certificates ----------------------------------------------------------------------------------------------------

NOW = datetime.now(UTC)
OTHER = "ffffffff-2222-3333-4444-555555555555.consul"


def uri(domain: str, path: str = f"ns/default/dc/{DATACENTER}/svc/shop") -> str:
    return f"spiffe://{domain}/{path}"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"begins": NOW - timedelta(days=2), "ends": NOW - timedelta(hours=1)}, "certificate has expired"),
    "not yet valid": ({"begins": NOW + timedelta(hours=1), "ends": NOW + timedelta(days=1)}, "not yet valid"),
    "two names": ({"uris": (uri("DOMAIN"), uri("DOMAIN", f"ns/default/dc/{DATACENTER}/svc/web"))}, "has 2 URIs"),
    "no name": ({"uris": ()}, "is not an SVID"),
    "no alternative name": ({"uris": None, "subject": "shop"}, "no subject alternative name"),
    "another trust domain's name": ({"uris": (uri(OTHER),)}, OTHER),
    "another datacenter": ({"uris": (uri("DOMAIN", "ns/default/dc/dc2/svc/shop"),)}, "dc2"),
    "no service": ({"uris": (uri("DOMAIN", "agent/shop"),)}, "agent/shop"),
    "a trust domain alone": ({"uris": ("spiffe://DOMAIN",)}, "is not an SVID"),
    "a CA": ({"ca": True, "usage": key_usage(digital_signature=True, key_cert_sign=True)}, "certificate is a CA's"),
    "may sign": ({"usage": key_usage(digital_signature=True, key_cert_sign=True)}, "may sign certificates"),
    "may not speak": ({"usage": key_usage(key_agreement=True)}, "digitalSignature"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_certificate_of_our_own_ca_that_is_no_svid_is_refused(mesh: Mesh, wrong: str) -> None:
    """The chain is good; SPIFFE's rules for leaves are not kept, or it is nobody of this mesh."""
    departure, error = WRONG[wrong]
    uris = departure.get("uris")
    if uris:
        departure = {**departure, "uris": tuple(each.replace("DOMAIN", mesh.impostor.domain) for each in uris)}
    expect_refusal(mesh, mesh.impostor.forged(**departure), error)


@pytest.mark.parametrize("domain", ["", OTHER])
def test_a_certificate_of_another_ca_is_refused(mesh: Mesh, domain: str) -> None:
    """Be it called as ours is."""
    ca = LocalCa.create(domain or mesh.impostor.domain, NOW)
    expect_refusal(mesh, mesh.impostor.forged(ca), "showed a certificate that this mesh does not trust")


def test_a_certificate_below_a_leaf_is_refused(mesh: Mesh) -> None:
    """A workload's certificate makes nobody a CA."""
    issuer = mesh.impostor.forged(subject="mallory", uris=(uri(mesh.impostor.domain).replace("shop", "mallory"),))
    key, begin, chain = issuer.read_text().partition("-----BEGIN CERTIFICATE-----")
    leaf = mesh.impostor.forged(LocalCa(mesh.impostor.domain, begin + chain, key))
    leaf.write_text(leaf.read_text() + begin + chain)
    expect_refusal(mesh, leaf, "showed a certificate that this mesh does not trust")


def test_no_certificate_is_refused(mesh: Mesh) -> None:
    """TLS is mutual."""
    expect_refusal(mesh, None, "did not finish a tunnel handshake")


def expect_refusal(mesh: Mesh, certificate: Path | None, error: str) -> None:
    """Whoever shows this gets no answer to anything, and host2 records why."""
    heard = len(mesh.web.heard)
    with mesh.impostor.dial(certificate) as sock:
        port = sock.getsockname()[1]
        assert status_of_call(mesh, sock) == b""
    row = mesh.row(port)
    assert row["reason"] == "peer_identity"
    assert error in row["error"]
    assert len(mesh.web.heard) == heard


def status_of_call(mesh: Mesh, sock: ssl.SSLSocket) -> bytes:
    """What a CONNECT to `web` is answered; empty if it cannot even be asked, or is answered by an end."""
    try:
        session = Session(sock, 65_535)
        return session.status(session.ask([(b":method", b"CONNECT"), (b":authority", mesh.authority.encode())]))
    except OSError:
        return b""


# --- hellos ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "alert", "error"),
    [
        ({"version": ssl.TLSVersion.TLSv1_2}, "protocol version", "no TLS 1.3"),
        ({"alpn": ()}, "no application protocol", "no h2 among"),
        ({"alpn": ("http/1.1",)}, "no application protocol", "no h2 among"),
        ({"service": "nobody"}, "unrecognized name", "nobody is not registered on this host"),
        ({"service": "back"}, "unrecognized name", "back is not registered on this host"),
        ({"service": "shop"}, "unrecognized name", "shop is not registered on this host"),
        ({"sni": "web"}, "unrecognized name", "web"),
        ({"sni": f"web.default.{DATACENTER}.internal.{OTHER}"}, "unrecognized name", OTHER),
        ({"sni": ""}, "unrecognized name", ""),
    ],
)
def test_a_hello_that_asks_for_something_else_is_refused_with_an_alert(
    mesh: Mesh, options: dict[str, Any], alert: str, error: str
) -> None:
    """Before any cryptography is done for it, with a good certificate or not."""
    known = len(look.log_lines(mesh.lab, "host2"))
    with pytest.raises(ssl.SSLError) as caught:
        mesh.impostor.dial(mesh.impostor.svid("shop"), **options)
    assert alert in str(caught.value).lower().replace("_", " ")
    eventually(lambda: len(look.log_lines(mesh.lab, "host2")) > known, WITHIN_S, "a record")
    row = look.log_lines(mesh.lab, "host2")[-1]
    assert (row["reason"], row["source"]) == ("peer_identity", "")
    assert error in row["error"]
    shown = mesh.lab.exec("host2", "nodeagent", "connections", "--closed", "--limit", "1").stdout
    assert error in shown


# --- noise -----------------------------------------------------------------------------------------------------------


def test_garbage_is_closed_and_recorded(mesh: Mesh) -> None:
    """HTTP, SSH, zeros, half a hello, a record that is too long."""
    for noise in GARBAGE * 5:
        with mesh.impostor.knock() as sock:
            sock.sendall(noise)
            sock.shutdown(1)
            port = sock.getsockname()[1]
            assert is_closed(sock)
        assert mesh.row(port)["reason"] == "peer_identity"


def test_silence_is_given_up_and_keeps_nobody_else_out(mesh: Mesh) -> None:
    """Hundreds that connect and say nothing, or half a hello: each is closed in time, and other hosts get in meanwhile."""
    silent = []
    for _ in range(SILENT):
        with suppress(ConnectionResetError):  # too many from one host
            silent.append(mesh.impostor.knock())
    assert len(silent) >= limits.HANDSHAKES_PER_SOURCE
    for sock in silent[::2]:
        with suppress(ConnectionError):
            sock.send(GARBAGE[2])
    with Impostor(mesh.lab, "host1", Path(mesh.lab.host("host1").directory)) as other:
        assert other.call(other.svid("shop"), mesh.authority) == 200
    for sock in silent:
        sock.settimeout(WITHIN_S * limits.HANDSHAKE_S)
        assert is_closed(sock)
        sock.close()


def test_only_hosts_of_the_mesh_may_knock(mesh: Mesh) -> None:
    """The kernel answers others with a reset, before any byte of theirs is read."""
    place = mesh.lab.host("host2")
    with Unit(mesh.lab, "hub") as stranger:
        for address in (place.ipv4, place.ipv6):
            with pytest.raises(ConnectionRefusedError):
                stranger.connect(address, limits.TUNNEL_PORT)


def is_closed(sock: Any) -> bool:
    """Whether the other end closes, in whatever way; what it says before is dropped."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        return True
    return True
