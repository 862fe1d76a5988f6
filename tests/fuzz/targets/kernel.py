"""What the kernel and its tools say: netlink, conntrack, sock_diag, cgroups and mounts, listings of nft."""

import contextlib

from nodeagent.errors import ConfigError
from nodeagent.process.cgroups import find_cgroup2_mount, own_cgroup
from nodeagent.process.conntrack import decode_original
from nodeagent.process.netlink import NetlinkError, StaleAnswer, decode_answer
from nodeagent.process.sock_diag import NOBODY, believe, decode_row
from nodeagent.process.unaccepted import find_unaccepted
from nodeagent.process.units import is_unit_name, unit_of
from redirect import ctnetlink, nft
from redirect.cgroup import BELOW, element_of, mount_of
from redirect.errors import RedirectError
from redirect.flow import Flow
from redirect.libnftables import explain
from redirect.netlink import decode_attributes, encode_attribute, split_rows
from redirect.sockets import decode_socket

REPLY = Flow(b"\x7f\0\0\1", 15001, b"\x0a\x5a\1\1", 22354)
"""Whose entry the samples of conntrack are."""
CALLER = Flow(b"\x0a\x5a\1\1", 50586, b"\x0a\x5a\1\2", 80)
"""Whose row the samples of sock_diag are."""


def netlink(data: bytes) -> bool:
    """A message is the answer to our request, an answer to another one, or a NetlinkError; attributes are read as written."""
    attributes = decode_attributes(data)
    again = b"".join(encode_attribute(kind, payload) for kind, payload in attributes.items())
    assert decode_attributes(again) == attributes
    with contextlib.suppress(NetlinkError, StaleAnswer):
        return decode_answer(data, 7) is not None
    return False


def conntrack(data: bytes) -> bool:
    """The flow that a client dialled, or nothing."""
    original = decode_original(data, REPLY)
    assert original is None or len(original.src) == len(original.dst) in (4, 16)
    if original:
        ctnetlink.encode_name(ctnetlink.REPLY, original)
    return original is not None


def sock_diag(data: bytes) -> bool:
    """A row about exactly the flow that was asked for, or nothing; and what is not connected names nobody."""
    row = decode_row(data, CALLER)
    if row is None:
        return False
    assert believe(row._replace(state=10)) == NOBODY
    assert believe(row).uid in (-1, row.uid)
    return True


def socket_listing(data: bytes) -> bool:
    """Rows of sockets, or an OSError, which every caller takes for the kernel's refusal."""
    try:
        rows, _ = split_rows(data)
        find_unaccepted(rows)
        return bool([decode_socket(row) for row in rows])
    except OSError:
        return False


def cgroup(data: bytes) -> bool:
    """A path is one trusted unit's or nobody's, and no path ends nft's string."""
    text = data.decode(errors="surrogateescape")
    unit = unit_of(text)
    assert not unit or (is_unit_name(unit) and unit in text)
    assert "\n" not in own_cgroup(text)
    element = element_of(BELOW, text)
    assert element is None or (element.count('"') == 2 and ".." not in element.split("/"))
    return bool(unit)


def mountinfo(data: bytes) -> bool:
    """Where cgroup v2 is, or our own error of whoever asks."""
    text = data.decode(errors="surrogateescape")
    try:
        found = mount_of(text)
    except RedirectError:
        with contextlib.suppress(ConfigError):
            raise AssertionError(find_cgroup2_mount(text)) from None
        return False
    assert (found + "/").startswith(BELOW + "/")
    return True


def nft_table(data: bytes) -> bool:
    """Any listing comes apart, and what came apart is written and read again as it was."""
    text = data.decode(errors="replace")
    explain(text)
    blocks = nft.parse_table(text)
    assert nft.parse_table(nft.render_blocks("t", blocks)) == blocks
    assert list(nft.differences("t", blocks, blocks)) == []
    for heading, body in blocks.bodies.items():
        found = sorted(nft.elements_in(body))
        if found and all(found):
            fill = nft.render_add("t", heading, found).rpartition("element inet t ")[2]
            assert nft.elements_in([f"elements = {fill.partition(' ')[2].strip()}"]) == set(found)
    return bool(blocks.bodies)
