"""The other way round: somebody sits at a host's tunnel port and shows a certificate; callers believe only the right one."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest

from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import Impostor
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB = 8080


@pytest.fixture(scope="module")
def abandoned(make_lab: MakeLab) -> Lab:
    """`web` is registered on host2, whose agent has gone, and somebody else beats; `shop` on host1 may call it."""
    lab = make_lab()
    lab.register("host2", "web", WEB)
    look.allow(lab, "shop", "web")
    lab.kill_agent("host2")
    beat = lab.exec("host2", "nft", "add element inet nodeagent alive { tcp timeout 1h }")
    assert beat.returncode == 0, beat.stderr
    return lab


@pytest.fixture
def impostor(abandoned: Lab, tmp_path: Path) -> Iterator[Impostor]:
    """On host2, in the agent's place."""
    with Impostor(abandoned, "host2", tmp_path) as made:
        yield made


class Trap:
    """TLS at host2's tunnel port, in a thread, for one caller: keeps what it is told."""

    def __init__(self, lab: Lab, impostor: Impostor, certificate: Path, *alpn: str) -> None:
        self.told = b""
        self.heard_from = ""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.load_verify_locations(cadata=impostor.roots_pem)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.set_alpn_protocols(alpn)
        self._listener = impostor.unit.listen(lab.host("host2").ipv4, limits.TUNNEL_PORT)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        raw, peer = self._listener.accept()
        self._listener.close()  # whoever tries again is refused at once
        self.heard_from = peer[0]
        raw.settimeout(limits.HANDSHAKE_S)
        with raw, suppress(OSError), self._context.wrap_socket(raw, server_side=True) as sock:
            sock.settimeout(limits.HANDSHAKE_S)
            self.told = sock.recv(65_536)


@pytest.mark.parametrize("who", ["mallory", "shop", "another CA's web", "two names", "no h2"])
def test_a_caller_speaks_to_the_service_it_called_and_to_nobody_else(
    abandoned: Lab, impostor: Impostor, wire: Wire, canary: str, who: str
) -> None:
    """A certificate of the mesh is not enough: it must be the very one, and what is asked stays unsaid."""
    name = (f"spiffe://{impostor.domain}/ns/default/dc/dc1/svc/web",)
    certificate = {
        "mallory": lambda: impostor.svid("mallory"),
        "shop": lambda: impostor.svid("shop"),
        "another CA's web": lambda: impostor.forged(LocalCa.create(impostor.domain, datetime.now(UTC)), uris=name),
        "two names": lambda: impostor.forged(uris=(*name, name[0].replace("web", "till"))),
        "no h2": lambda: impostor.svid("web"),
    }[who]()
    known = len(look.log_lines(abandoned, "host1"))
    alpn = () if who == "no h2" else ("h2",)
    with Trap(abandoned, impostor, certificate, *alpn) as trap, Unit(abandoned, "host1", "shop") as shop:
        assert call(shop, abandoned.host("host2").ipv4, WEB, canary) == "reset"
    assert trap.heard_from == abandoned.host("host1").ipv4
    assert b"CONNECT" not in trap.told
    assert canary.encode() not in trap.told
    eventually(lambda: len(look.log_lines(abandoned, "host1")) > known, look.WITHIN_S, "a record")
    row = look.log_lines(abandoned, "host1")[-1]
    assert (row["reason"], row["peer"]) == ("peer_identity", "host2")
    wire.assert_never_in_clear(canary)


def test_the_right_certificate_would_be_believed(abandoned: Lab, impostor: Impostor, wire: Wire, canary: str) -> None:
    """So it was the name that was refused: whoever holds the service's key is the service."""
    certificate = impostor.svid("web")
    with Trap(abandoned, impostor, certificate, "h2") as trap, Unit(abandoned, "host1", "shop") as shop:
        assert call(shop, abandoned.host("host2").ipv4, WEB, canary) == "reset"
    assert trap.told.startswith(b"PRI * HTTP/2.0")
    wire.assert_never_in_clear(canary)


@pytest.fixture
def wire(abandoned: Lab, tmp_path: Path) -> Iterator[Wire]:
    """Between the hosts of that lab."""
    made = Wire(abandoned, tmp_path)
    yield made
    made.close()
