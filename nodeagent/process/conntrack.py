"""The tuple that a client dialled, from the tuple that arrived: one exact conntrack query by reply direction.

REDIRECT may rewrite the client's source port, and the rewritten port may be that of another workload's live connection;
only conntrack knows the original.
"""

from nodeagent.process.netlink import NetlinkSocket
from redirect.ctnetlink import GET, REPLY, decode_entry, encode_name
from redirect.flow import Flow


def decode_original(body: bytes, reply: Flow) -> Flow | None:
    """The original direction in the kernel's answer; None unless the answer is about exactly `reply`."""
    original, answered, _ = decode_entry(body)
    return original if answered == reply else None


def find_original(netlink: NetlinkSocket, reply: Flow) -> Flow | None:
    """What the client dialled and from which port, for a connection whose answers go `reply`'s way.

    Raises:
        NetlinkError: the kernel could not say.
    """
    body = netlink.ask(GET, encode_name(REPLY, reply))
    return decode_original(body, reply) if body is not None else None
