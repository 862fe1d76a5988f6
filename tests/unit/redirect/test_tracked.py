"""What is forgotten of redirected connections, with entries that a kernel (6.18) sent."""

import itertools
import socket
from types import SimpleNamespace

import pytest

from redirect import tracked
from redirect.flow import Flow
from redirect.tracked import LOOK_S, find_stale, forget_redirected
from tests.unit.nodeagent.process.test_conntrack import (
    ANSWER,
    ANSWER6,
    LOCALHOST,
    OWN,
    OWN6,
    REMOTE,
    REMOTE6,
    REPLY,
    REPLY6,
)

ENTRY, ENTRY6 = bytes.fromhex(ANSWER), bytes.fromhex(ANSWER6)
FLOW, FLOW6 = Flow(OWN, 40000, REMOTE, 81), Flow(OWN6, 56266, REMOTE6, 80)


@pytest.mark.parametrize(("entry", "flow", "ours"), [(ENTRY, FLOW, REPLY), (ENTRY6, FLOW6, REPLY6)])
def test_an_entry_is_stale_where_our_end_of_it_is_not_open(entry: bytes, flow: Flow, ours: Flow) -> None:
    """Its number says which is meant, should another have its place by then."""
    number = find_stale(entry, flow, {15001}, ())
    assert len(number) == 4
    assert number in entry
    assert find_stale(entry, flow, {15001}, {ours}) == b""


def test_what_goes_elsewhere_is_left() -> None:
    """To another port; from another flow; or to somebody else's port of the same number, as a container's that is published."""
    assert find_stale(ENTRY, FLOW, {15002}, ()) == b""
    assert find_stale(ENTRY, FLOW.turned, {15001}, ()) == b""
    assert find_stale(ENTRY.replace(LOCALHOST, b"\xac\x11\0\2"), FLOW, {15001}, ()) == b""


@pytest.mark.parametrize("size", range(0, len(ENTRY), 7))
def test_a_cut_entry_is_left_or_named_as_it_would_be_whole(size: int) -> None:
    """Never as another."""
    assert find_stale(ENTRY[:size], FLOW, {15001}, ()) in (b"", find_stale(ENTRY, FLOW, {15001}, ()))


def test_nothing_is_forgotten_where_nothing_was_redirected() -> None:
    """Of all that is open here."""
    assert forget_redirected({1}) == 0


def test_who_waits_to_close_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent may have closed, and be gone."""
    asked: list[Flow] = []
    monkeypatch.setattr(tracked, "_is_any_tracked", lambda: True)
    monkeypatch.setattr(tracked, "find_stale", lambda _entry, flow, *_: asked.append(flow))
    monkeypatch.setattr(tracked, "ask", lambda *_: b"entry")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours = client.getsockname()[1]
        accepted = server.accept()[0]
        forget_redirected({1})
        assert ours in [flow.sport for flow in asked]
        asked.clear()
        accepted.close()
        assert client.recv(1) == b""
        forget_redirected({1})
        assert ours not in [flow.sport for flow in asked]


def test_rules_wait_for_no_longer_than_a_look_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sockets are open."""
    asked: list[object] = []
    monkeypatch.setattr(tracked, "_is_any_tracked", lambda: True)
    monkeypatch.setattr(tracked, "ask", lambda *question: asked.append(question))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        forget_redirected({1})
        assert asked
        asked.clear()
        clock = itertools.count(0, LOOK_S)
        monkeypatch.setattr(tracked, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        forget_redirected({1})
        assert not asked
