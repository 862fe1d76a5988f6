"""Who gets what in a tunnel: by the certificate alone, whatever headers say. What is no tunnel at all: test_hostile_ports."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import Impostor
from tests.e2e.support.intruder import Session
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB, DEAD = 8080, 8081
WITHIN_S = 10.0


class Mesh(NamedTuple):
    """`web` on host2, which everybody may call; host1 with an agent; host3 from which strange things come."""

    lab: Lab
    web: App
    impostor: Impostor

    @property
    def authority(self) -> str:
        """Of `web`."""
        return f"{self.lab.host('host2').ipv4}:{WEB}"


@pytest.fixture(scope="module")
def mesh(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """For the whole module."""
    lab = make_lab(hosts=3)
    with (
        App(lab, "host2", "web", WEB) as web,
        Impostor(lab, "host3", tmp_path_factory.mktemp("impostor")) as impostor,
    ):
        lab.register("host2", "dead", DEAD)
        for destination in ("web", "dead"):
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
