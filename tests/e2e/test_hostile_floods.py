"""Handshakes that are begun and never finished, by the thousand: a polite peer gets in, and nothing is kept of them."""

import selectors
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeagent import limits
from tests.e2e.support import look
from tests.e2e.support.arena import WEB, WITHIN_S, Arena, answer_on
from tests.e2e.support.impostor import Impostor
from tests.e2e.support.toll import descriptors
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually
from tests.support.hello import hello

pytestmark = pytest.mark.usefixtures("tunnels_only")

HALF_OPEN = 10_000
KEPT = 1000  # of them held open here: by then the agent has given up the others, or has not heard of them yet
SLACK = 32  # listeners, channels, the tunnels of others, and what is being closed
DRIPPING, DRIP_S = 32, 1.0
STALLED = 100
GROWTH_BYTES = 24 << 20  # what a worker may keep, allocator's leftovers included


@pytest.fixture(autouse=True)
def unharmed(arena: Arena) -> Iterator[None]:
    """Afterwards the worker is the same, small, and has what it had."""
    before, rss = arena.settle(), look.rss_bytes(arena.worker)
    yield
    eventually(lambda: arena.held() == before, WITHIN_S, f"all is as it was: {before}")
    grown = look.rss_bytes(arena.worker) - rss
    print(f"the worker grew by {grown / (1 << 20):.1f} MiB")
    assert grown < GROWTH_BYTES
    assert arena.is_polite_served()
    arena.assert_unharmed()


def is_over(sock: socket.socket) -> bool:
    """Whether the agent has ended that connection; nothing is waited for."""
    sock.setblocking(False)
    try:
        return sock.recv(100) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def refused(arena: Arena, before: Counter[str]) -> int:
    """Handshakes that were refused since then."""
    since = arena.ended() - before
    return since["limit"] + since["peer_identity"]


def sockets_of(arena: Arena) -> list[str]:
    """Those of the worker, but for unconnected ones."""
    return [link for link in descriptors(arena.worker) if link.startswith("socket:")]


def ready(socks: Iterable[socket.socket], within_s: float) -> list[socket.socket]:
    """Those that have something to read, or have ended, when one has or the time is over."""
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(within_s) if isinstance(key.fileobj, socket.socket)]


# The calm first: their lines are counted, and a flood uses up those of its source for a minute.


def test_a_hello_in_drips_is_given_up_in_time(arena: Arena) -> None:
    """A byte a second: the agent waits as long for it as for silence, and others of that host get in."""
    data = hello(arena.sni())
    dripping = {arena.impostor.knock(): 0 for _ in range(DRIPPING)}
    answers: Counter[str] = Counter()
    while dripping:
        assert arena.impostor.call(arena.ticket, f"{arena.victim.ipv4}:{WEB}") == 200
        for sock in ready(dripping, DRIP_S):
            del dripping[sock]
            answers[answer_on(sock)] += 1
        for sock, sent in dripping.items():
            with suppress(ConnectionError):
                sock.send(data[sent : sent + 1])
            dripping[sock] += 1
            assert sent < WITHIN_S
    assert answers["closed"] + answers["reset"] == DRIPPING
    lines = [line for line in arena.lines() if not line["source"]]
    assert [line["reason"] for line in lines] == ["peer_identity"] * DRIPPING
    assert all(f"handshake: it was not over within {limits.HANDSHAKE_S:g} s" in line["error"] for line in lines)
    assert {round(line["seconds"]) for line in lines} == {limits.HANDSHAKE_S}


def test_who_begins_and_stalls_fills_no_more_than_its_own_places(arena: Arena, tmp_path: Path) -> None:
    """Whole hellos, and then nothing: beyond its share the source is refused by name, others get in, all is given back."""
    data, ended = hello(arena.sni()), arena.ended()
    for _ in range(STALLED):
        with suppress(ConnectionError):
            arena.impostor.knock().send(data)
    with Impostor(arena.lab, "host1", tmp_path) as other:
        assert other.call(other.svid("shop"), f"{arena.victim.ipv4}:{WEB}") == 200
    eventually(lambda: refused(arena, ended) == STALLED, WITHIN_S, "each is counted")
    reasons = Counter(line["reason"] for line in arena.lines() if not line["source"])
    assert reasons == {"limit": STALLED - limits.HANDSHAKES_PER_SOURCE, "peer_identity": limits.HANDSHAKES_PER_SOURCE}


def test_no_application_can_take_the_places_of_its_agent(arena: Arena) -> None:
    """By whole hellos, which anybody can replay: its own host refuses the calls, and the victim does not even hear of them."""
    with Unit(arena.lab, "host3", user="nobody") as application:
        for address in (arena.victim.ipv4, arena.victim.ipv6):
            with pytest.raises(ConnectionRefusedError):
                application.connect(address, limits.TUNNEL_PORT)
    assert arena.impostor.call(arena.ticket, f"{arena.victim.ipv4}:{WEB}") == 200
    assert not [line for line in arena.lines() if not line["source"]]


FIRST_WORDS = {"nothing": 0, "a byte": 1, "half a hello": 200}


@pytest.mark.parametrize("words", FIRST_WORDS)
def test_thousands_that_say_nothing_whole_keep_nobody_out(arena: Arena, words: str) -> None:
    """Ten thousand from one host, as fast as it can: that very host's own agent opens tunnels in the middle of it.

    The newest have the places of their source, the oldest gave way, each is counted.
    """
    ended, first = arena.ended(), hello(arena.sni())[: FIRST_WORDS[words]]
    crowd: deque[socket.socket] = deque()
    for number in range(1, HALF_OPEN + 1):
        crowd.append(arena.impostor.knock())
        crowd[-1].send(first)
        while len(crowd) > KEPT:
            crowd.popleft().close()
        if number % 1000 == 0:
            assert arena.impostor.call(arena.ticket, f"{arena.victim.ipv4}:{WEB}") == 200
            arena.call_politely()
            assert len(sockets_of(arena)) <= limits.HANDSHAKES_PER_SOURCE + SLACK
    eventually(lambda: refused(arena, ended) == HALF_OPEN, WITHIN_S, "each is counted")
    assert all(is_over(sock) for sock in crowd)
    while crowd:
        crowd.pop().close()
    lines = [line for line in arena.lines() if not line["source"]]
    assert {line["reason"] for line in lines} <= {"limit", "peer_identity"}
    assert len(lines) < HALF_OPEN / 2, "not each has its line"
    assert {line["source"] for line in look.log_lines(arena.lab, "host2", "refusals_unlogged")} == {arena.lab.host("host3").ipv4}
