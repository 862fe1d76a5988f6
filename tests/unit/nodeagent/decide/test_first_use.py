"""Whether to look for news before a call is decided."""

import dataclasses

import msgspec
import pytest
from msgspec.structs import replace

from nodeagent.decide.first_use import host_to_ask, is_to_ask_here
from nodeagent.decide.route import find_destination
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import HOST2, WEB, instance, mesh


def late(snapshot: Snapshot, *, is_late: bool = True) -> Snapshot:
    return dataclasses.replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, is_late=is_late))


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (Address("10.77.0.2", 9001), "host2"),
        (Address("fd77::2", 9001), "host2"),
        (WEB, ""),
        (Address("10.77.0.2", 15008), ""),
        (Address("10.77.0.3", 9001), ""),
        (Address("10.77.0.1", 9001), ""),
        (Address("192.0.2.1", 9001), ""),
    ],
    ids=["a port of a host with an agent", "its other family", "a known one", "its agent's own", "no agent", "this host", "elsewhere"],
)
def test_only_a_port_of_another_host_with_an_agent_at_which_nobody_is_known_is_asked_for(address: Address, host: str) -> None:
    """And only where some services are not watched."""
    for is_late in (True, False):
        snapshot = late(mesh(), is_late=is_late)
        destination = find_destination(snapshot, OriginalDst(address), dst_is_local=False)
        assert host_to_ask(snapshot, destination) == (host if is_late else "")


def test_where_somebody_is_gone_who_is_there_now_is_asked_for() -> None:
    """Else the first call to another service at that port would be lost: it would go as one to the service of before."""
    row = instance(HOST2, 80)
    snapshot = late(mesh(web=(replace(row, instance=replace(row.instance, gone=True)),)))
    assert host_to_ask(snapshot, find_destination(snapshot, OriginalDst(WEB), dst_is_local=False)) == "host2"


@pytest.mark.parametrize(
    ("address", "is_asked"),
    [(Address("10.77.0.1", 9001), True), (Address("10.77.0.1", 9000), False), (WEB, False), (Address("192.0.2.1", 80), False)],
    ids=["a port of this host", "a known one", "another host's", "nobody's"],
)
def test_a_callee_s_agent_looks_for_what_a_peer_may_have_heard_of_first(address: Address, is_asked: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_to_ask_here(late(mesh()), address) is is_asked
    assert not is_to_ask_here(mesh(), address)
