"""Which connections end where a worker holds more than it may for slow readers."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter

from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.relay import Relay


def fullest_first(relays: Iterable[Relay]) -> Iterator[Relay]:
    """Those that hold bytes of the budget, in the order in which they are to end.

    Each time it is the fullest of the peer that holds most by then: who fills many a little takes nobody else's one.
    """
    of_peer: defaultdict[str, list[tuple[int, Relay]]] = defaultdict(list)
    for relay in relays:
        if size := held(relay):
            of_peer[relay.row.peer].append((size, relay))
    for each in of_peer.values():
        each.sort(key=itemgetter(0))
    peers = [(-sum(size for size, _ in each), peer) for peer, each in of_peer.items()]
    heapq.heapify(peers)
    while peers:
        total, peer = peers[0]
        size, relay = of_peer[peer].pop()
        yield relay
        if of_peer[peer]:
            heapq.heapreplace(peers, (total + size, peer))
        else:
            heapq.heappop(peers)


def held(relay: Relay) -> int:
    """Bytes of the budget that the connection holds, in both directions."""
    size = 0
    for end in (relay.downstream, relay.upstream):
        if isinstance(end, StreamEnd) and end.stream:
            size += end.stream.held
    return size
