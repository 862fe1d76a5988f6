"""The scripts that make the network."""

import pytest

from nodeagent.lab import layout, network

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:3A9C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 01004D0A:0050 02004D0A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
"""


def test_only_listeners_listen() -> None:
    """A connection from port 80 does not make port 80 a listening one."""
    assert network.listening_ports(TABLE) == {8080, 15004}
    assert network.listening_ports("header only\n") == frozenset()


TOLD = """\
LISTEN 0      128        127.0.0.1:8080 0.0.0.0:*
LISTEN 0      128            [::1]:8080    [::]:*
LISTEN 0      128 [fe80::1]%eth0:8080 [::]:*
LISTEN 0      128 10.77.0.1%eth0:8080 0.0.0.0:*
LISTEN 0      128 [::ffff:10.77.0.9]:8080 *:*
LISTEN 0      128                *:8080       *:*
"""


def test_addresses_are_read_in_every_form_that_ss_has() -> None:
    """Brackets, devices, mapped addresses, both families at once."""
    assert network.listening_addresses(TOLD) == {"127.0.0.1", "::1", "fe80::1", "10.77.0.1", "10.77.0.9", "*"}
    assert network.listening_addresses("") == frozenset()


@pytest.mark.parametrize(
    ("listened", "expected"),
    [
        ({"*"}, ("10.77.0.1", "fd77::1")),
        ({"0.0.0.0"}, ("10.77.0.1",)),
        ({"::"}, ("fd77::1",)),
        ({"0.0.0.0", "::"}, ("10.77.0.1", "fd77::1")),
        ({"10.77.0.1", "127.0.0.1"}, ("10.77.0.1",)),
        ({"fd77::1"}, ("fd77::1",)),
        ({"127.0.0.1", "::1", "fe80::1", "10.77.0.2"}, ()),
        (set(), ()),
    ],
)
def test_a_wildcard_answers_for_its_family(listened: set[str], expected: tuple[str, ...]) -> None:
    """And nobody for an address that is not the host's."""
    (host,) = layout.hosts_of("lab", 77, 1)
    assert network.answering(host, listened) == expected


def test_addresses_are_usable_at_once() -> None:
    """Without duplicate detection, both families; each script stops at its first failure."""
    (host,) = layout.hosts_of("lab", 77, 1)
    script = network.host_script(host)
    assert script.startswith("set -e\n")
    assert "ip address add 10.77.0.1/24 dev eth0" in script
    assert "ip -6 address add fd77::1/64 dev eth0 nodad" in script
    assert "ip address add 10.77.0.250/24 dev br0" in network.hub_script(layout.hub_of("lab", 77))


def test_a_link_has_its_far_end_in_the_host() -> None:
    """The machine's own network never sees it."""
    (host,) = layout.hosts_of("lab", 77, 1)
    script = network.link_script(host, 4711)
    assert "ip link add host1 type veth peer name eth0 netns 4711" in script
    assert "ip link set host1 master br0" in script
