"""The agent's own ports, dialled without a redirect: by processes of the same host, of other hosts, of strangers."""

from nodeagent import limits
from tests.e2e.support.arena import Arena, answer_on
from tests.e2e.support.attacks import Act, Attack

NAMES = {limits.OUTBOUND_PORT: "the outbound port", limits.INBOUND_PORT: "the inbound port"}


def _dials(who: str, where: str, port: int) -> Attack:
    """Says something there: a local process at loopback is reset and recorded; nobody listens elsewhere."""

    def begin(arena: Arena) -> Act:
        unit = {"a neighbour": arena.local, "another host": arena.impostor.unit, "a stranger": arena.stranger}[who]
        address = {"IPv4": arena.victim.ipv4, "IPv6": arena.victim.ipv6}.get(where, where)

        def act() -> str:
            try:
                with unit.connect(address, port) as sock:
                    sock.sendall(b"echo?\n")
                    return answer_on(sock)
            except ConnectionRefusedError:
                return "refused"
            except ConnectionResetError:
                return "reset"

        return act

    is_heard = where in ("127.0.0.1", "::1")
    if not is_heard:
        return Attack(begin, "refused", "")
    if port == limits.TUNNEL_PORT:
        return Attack(begin, "reset", "peer_identity", "is no host of this mesh")
    return Attack(begin, "reset", "loop", "is a port of the agent itself")


DIRECT = {
    f"{NAMES[port]} dialled by {who} at {where}": _dials(who, where, port)
    for port in NAMES
    for who, where in (
        ("a neighbour", "127.0.0.1"), ("a neighbour", "::1"), ("a neighbour", "IPv4"), ("a neighbour", "IPv6"),
        ("another host", "IPv4"), ("another host", "IPv6"), ("a stranger", "IPv4"), ("a stranger", "IPv6"),
    )
} | {
    **{
        f"the tunnel port dialled by a stranger at {where}": _dials("a stranger", where, limits.TUNNEL_PORT)
        for where in ("IPv4", "IPv6")
    },
    **{
        f"the tunnel port dialled by a neighbour at {where}": _dials("a neighbour", where, limits.TUNNEL_PORT)
        for where in ("127.0.0.1", "::1")
    },
}  # fmt: skip
