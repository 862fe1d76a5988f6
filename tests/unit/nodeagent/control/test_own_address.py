"""What is this host's own."""

import struct

import pytest

from nodeagent.control.own_address import check_own, is_local_route

HEAD, ROUTE = struct.Struct("=IHHII"), struct.Struct("=8BI")


def answer(kind, route_type):
    return HEAD.pack(28, kind, 0, 1, 0) + ROUTE.pack(2, 32, 0, 0, 0, 0, 0, route_type, 0)


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_everybodys_own(ip):
    check_own(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "192.0.2.1", "2001:db8::1", "169.254.169.254", "0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "fe80::1", "fe80::1%lo",
        "::1%lo", "fe80::1%25eth0", "::ffff:127.0.0.1",
    ],
)  # fmt: skip
def test_what_would_leave_this_host_or_is_no_one_machine_is_not(ip):
    with pytest.raises(OSError, match=r"is not this host|is no address of one"):
        check_own(ip)


def test_a_name_is_no_address():
    with pytest.raises(ValueError, match="host"):
        check_own("host")


def test_only_a_route_to_this_host_itself_counts():
    """Not one to others, an anycast or broadcast address, an error, or half an answer."""
    assert is_local_route(answer(24, 2))
    assert not any(is_local_route(answer(24, other)) for other in (0, 1, 3, 4, 5, 6, 7))
    assert not is_local_route(answer(2, 2))
    assert not is_local_route(answer(24, 2)[:27])
    assert not is_local_route(b"")
