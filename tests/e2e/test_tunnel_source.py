"""The application sees the caller's address as if nobody stood between, and its answers find the way back."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture
from tests.e2e.support import look
from tests.e2e.support.echo import answers
from tests.e2e.support.unit import Unit, receive
from tests.e2e.support.wire import Wire

WEB, DB = 8080, 8081
NewUnit = Callable[..., Unit]
Family = Literal["ipv4", "ipv6"]


@pytest.fixture(scope="module", autouse=True)
def registered(lab: Lab) -> None:
    """`web` and `db` on host2; anybody may call the first, `shop` the second."""
    for name, port, source in (("web", WEB, "*"), ("db", DB, "shop")):
        lab.register("host2", name, port)
        look.allow(lab, source, name)


@pytest.fixture
def unit(lab: Lab) -> Iterator[NewUnit]:
    """`unit(host, service)`: closed when the test ends."""
    with ExitStack() as stack:
        yield lambda *names: stack.enter_context(Unit(lab, *names))


@pytest.fixture
def text(lab: Lab, capture: Capture, canary: str) -> Iterator[bytes]:
    """What the tests send; in no test is it readable between the hosts."""
    wire = capture(lab)
    yield canary.encode()
    wire.assert_never_in_clear(canary)


def exchange(client: socket.socket, application: socket.socket, text: bytes) -> None:
    """A good part of a megabyte each way, then the end from either side."""
    for one, other in ((client, application), (application, client)):
        for _ in range(20):
            one.sendall(text * 1000)
            assert receive(other, len(text) * 1000) == text * 1000
    client.shutdown(socket.SHUT_WR)
    assert application.recv(1) == b""
    application.sendall(text)
    application.shutdown(socket.SHUT_WR)
    assert receive(client, len(text) + 1) == text


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("binding", ["host", "wildcard"])
def test_the_application_sees_the_caller_s_address(
    lab: Lab, unit: NewUnit, text: bytes, family: Family, binding: str
) -> None:
    """Whether it is bound to the host's one address only, or to all."""
    caller, callee = getattr(lab.host("host1"), family), getattr(lab.host("host2"), family)
    web = unit("host2", "web")
    listener = web.listen(callee if binding == "host" else {"ipv4": "0.0.0.0", "ipv6": "::"}[family], WEB)
    client = unit("host1", "shop").connect(callee, WEB)
    application, (seen, _) = web.accept(listener)
    assert seen == caller
    assert application.getsockname()[:2] == (callee, WEB)
    exchange(client, application, text)


def test_a_listener_for_both_families_sees_the_mapped_address(lab: Lab, unit: NewUnit, text: bytes) -> None:
    """As without the mesh: ::ffff:a.b.c.d."""
    web = unit("host2", "web")
    listener = web.listen("::", WEB)
    client = unit("host1", "shop").connect(lab.host("host2").ipv4, WEB)
    application, (seen, _) = web.accept(listener)
    assert seen == f"::ffff:{lab.host('host1').ipv4}"
    exchange(client, application, text)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_local_caller_is_seen_as_this_host(lab: Lab, unit: NewUnit, wire: Wire, canary: str, family: Family) -> None:
    """The short cut on one host keeps the address too, and nothing leaves the host."""
    address = getattr(lab.host("host2"), family)
    web = unit("host2", "web")
    listener = web.listen(address, WEB)
    client = unit("host2", "shop").connect(address, WEB)
    application, (seen, _) = web.accept(listener)
    assert seen == address
    exchange(client, application, canary.encode())
    assert canary.encode() not in wire.stop()


def test_one_source_port_towards_two_services_is_two_connections(lab: Lab, unit: NewUnit, text: bytes) -> None:
    """Each reaches its own service, and each is who it is, though the kernel must rewrite one of the two ports."""
    callee = lab.host("host2").ipv4
    web, db = unit("host2", "web"), unit("host2", "db")
    doors = web.listen(callee, WEB), db.listen(callee, DB)
    shop, other = unit("host1", "shop"), unit("host1", "other")
    first = shop.connect(callee, WEB, source_port=40_000)
    second = shop.connect(callee, DB, source_port=40_000)
    at_web, at_db = web.accept(doors[0])[0], db.accept(doors[1])[0]
    for client, application, word in ((first, at_web, b"-web"), (second, at_db, b"-db")):
        client.sendall(text + word)
        assert receive(application, len(text + word)) == text + word
    exchange(first, at_web, text)
    exchange(second, at_db, text)
    allowed = other.connect(callee, WEB, source_port=41_000)  # `other` may call web only
    web.accept(doors[0])[0].sendall(text)
    assert receive(allowed, len(text)) == text
    assert not answers(other, (callee, DB), text, source_port=41_000)
    (row,) = look.closed(lab, "host1", 1, source="other", destination="db")
    assert (row["reason"], row["unit"]) == ("denied", "other.service")


def test_many_connections_of_one_client_keep_apart(lab: Lab, unit: NewUnit, text: bytes) -> None:
    """Every connection has a port of its own at the application: none is confused with another."""
    callee = lab.host("host2").ipv4
    web = unit("host2", "web")
    listener = web.listen(callee, WEB)
    shop = unit("host1", "shop")
    seen = set()
    for number in range(200):
        client = shop.connect(callee, WEB)
        application, peer = web.accept(listener)
        seen.add(peer)
        client.sendall(text + b"%d" % number)
        assert receive(application, len(text + b"%d" % number)) == text + b"%d" % number
    assert len(seen) == 200
