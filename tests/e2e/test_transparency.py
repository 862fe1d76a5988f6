"""What two programs see of each other through the mesh is what they see without it, but for what the README says.

Each behaviour of the table runs between bare hosts and then between hosts with agents, and the two traces are compared.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import mesh
from tests.e2e.support.behaviours import TABLE, Call, Trace
from tests.e2e.support.noticed import BEHAVIOURS, documented
from tests.e2e.support.peers import Pair, start_peer
from tests.e2e.support.wire import Wire, new_canary

PORT = 7000
SNAP_BYTES = 192  # headers and two repetitions of the text; smaller packets are whole


class Way(NamedTuple):
    """From where to host2, and by which family."""

    caller: str = "host1"
    family: int = 4


WAYS = {"meshed": Way(), "meshed-ipv6": Way(family=6), "local": Way("host2")}
CASES = [
    pytest.param(WAYS[way], name, by, id=f"{way}-{name}-{by}")
    for way in WAYS
    for name, behaviour in TABLE.items()
    for by in behaviour.by
    if WAYS[way].caller == "host1" or not behaviour.is_about_wire
]


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Hosts without agents."""
    return make_lab(agents=False)


@pytest.fixture(scope="module")
def text() -> str:
    """What the programs say; it never crosses a meshed wire in clear."""
    return new_canary()


@pytest.fixture(scope="module")
def meshed(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory, text: str) -> Iterator[Lab]:
    """Hosts with agents; shop may call echo. When all programs have ended, both agents have forgotten them."""
    lab = make_lab()
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")
    with ExitStack() as stack:
        wire = Wire(lab, tmp_path_factory.mktemp("wire"), SNAP_BYTES)
        stack.callback(wire.close)
        yield lab
        mesh.wait_quiet(lab)
        wire.assert_never_in_clear(text)


def trace(lab: Lab, way: Way, name: str, by: str, text: str) -> Trace:
    """What a caller as `shop` and a listener as `echo` on host2 see."""
    callee, caller = lab.host("host2"), lab.host(way.caller)
    ip, caller_ip = (callee.ipv6, caller.ipv6) if way.family == 6 else (callee.ipv4, caller.ipv4)
    with start_peer(lab, "host2", "echo", str(PORT)) as server, start_peer(lab, way.caller, "shop") as client:
        return TABLE[name].run(Call(Pair(client, server, ip, PORT), by, caller_ip, text))


@pytest.mark.parametrize(("way", "name", "by"), CASES)
def test_a_behaviour_is_the_same_but_for_what_is_documented(
    bare: Lab, meshed: Lab, text: str, way: Way, name: str, by: str
) -> None:
    """Without agents it is what TCP does; with them it is that or, exactly, what the README's table says."""
    assert trace(bare, way, name, by, text) == TABLE[name].direct
    wanted = BEHAVIOURS[name].meshed if name in BEHAVIOURS else TABLE[name].direct
    assert trace(meshed, way, name, by, text) == wanted


def test_each_documented_difference_is_one_and_is_looked_at() -> None:
    """The README's table and the differences that these tests see are the same list."""
    assert {noticed.row for noticed in BEHAVIOURS.values()} == documented()
    for name, noticed in BEHAVIOURS.items():
        assert noticed.meshed != TABLE[name].direct, f"{name} is no difference any more"
