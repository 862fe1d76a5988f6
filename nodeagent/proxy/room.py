"""Which streams end where a worker holds more than it may for slow readers."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter

from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire.stream import Stream


def fullest_first(tunnels: Iterable[Tunnel]) -> Iterator[tuple[Tunnel, Stream]]:
    """The streams that hold bytes of the budget, in the order in which they are to end; also of connections that are over.

    Each time it is the fullest of the peer that holds most by then: who fills many a little takes nobody else's one.
    """
    of_peer: defaultdict[str, list[tuple[int, Tunnel, Stream]]] = defaultdict(list)
    for tunnel in tunnels:
        of_peer[tunnel.peer] += [(stream.held, tunnel, stream) for stream in tunnel.session.streams.values() if stream.held]
    for each in of_peer.values():
        each.sort(key=itemgetter(0))
    peers = [(-sum(size for size, _, _ in each), peer) for peer, each in of_peer.items() if each]
    heapq.heapify(peers)
    while peers:
        total, peer = peers[0]
        size, tunnel, stream = of_peer[peer].pop()
        yield tunnel, stream
        if of_peer[peer]:
            heapq.heapreplace(peers, (total + size, peer))
        else:
            heapq.heappop(peers)
