"""Hosts that lost their marker."""

from nodeagent.control.meshed import MeshedHosts
from nodeagent.model.service import Host
from tests.support.mesh import HOST1, HOST2, HOST3

BARE2 = Host("host2", HOST2.addresses, 0)


def ports(hosts) -> dict[str, int]:
    return {host.name: host.tunnel_port for host in hosts}


def test_a_lost_marker_is_kept_with_an_alarm_until_the_hold_ends() -> None:
    meshed = MeshedHosts(hold_s=300)
    meshed.admit((HOST1, HOST2), 0)
    assert ports(meshed.admit((HOST1, BARE2), 10)) == {"host1": 15008, "host2": 15008}
    assert "host2" in meshed.alarms(10)[0]
    assert ports(meshed.admit((HOST1, BARE2), 310)) == {"host1": 15008, "host2": 0}
    assert meshed.alarms(310) == ()


def test_a_host_that_vanished_is_kept_as_it_was() -> None:
    meshed = MeshedHosts(hold_s=300)
    meshed.admit((HOST1, HOST2), 0)
    assert HOST2 in meshed.admit((HOST1,), 10)
    assert HOST2 not in meshed.admit((HOST1,), 311)


def test_a_host_without_an_agent_is_not_kept() -> None:
    meshed = MeshedHosts()
    meshed.admit((HOST1, HOST3), 0)
    assert ports(meshed.admit((HOST1,), 1)) == {"host1": 15008}
    assert meshed.alarms(1) == ()


def test_an_address_that_another_host_has_now_is_not_kept() -> None:
    meshed = MeshedHosts()
    meshed.admit((HOST2,), 0)
    heir = Host("host9", HOST2.addresses, 0)
    assert ports(meshed.admit((heir,), 1)) == {"host9": 0}


def test_a_host_keeps_the_addresses_that_its_marker_named() -> None:
    """Consul's row of a host has one of each family at most: a call at any other would leave in clear."""
    meshed = MeshedHosts()
    meshed.admit((HOST2,), 0)
    assert meshed.admit((Host("host2", ("10.77.0.2",), 0),), 1) == (HOST2,)
    assert meshed.admit((Host("host2", ("10.77.0.9",), 0),), 2) == (Host("host2", ("10.77.0.2", "10.77.0.9", "fd77::2"), 15008),)


def test_of_the_addresses_of_a_host_that_is_gone_those_stay_that_nobody_has_now() -> None:
    meshed = MeshedHosts()
    meshed.admit((HOST2,), 0)
    heir = Host("host9", ("10.77.0.2",), 0)
    assert set(meshed.admit((heir,), 1)) == {heir, Host("host2", ("fd77::2",), 15008)}


def test_a_marker_that_came_back_ends_the_alarm() -> None:
    meshed = MeshedHosts()
    meshed.admit((HOST2,), 0)
    meshed.admit((BARE2,), 1)
    meshed.admit((HOST2,), 2)
    assert meshed.alarms(2) == ()


def test_what_was_known_before_a_restart_counts() -> None:
    meshed = MeshedHosts(hold_s=300)
    meshed.remember((HOST1, HOST2, HOST3))
    assert ports(meshed.admit((HOST1,), 0)) == {"host1": 15008, "host2": 15008}


def test_a_catalog_that_does_not_show_this_host_ends_no_hold() -> None:
    """The time begins when it shows it again."""
    meshed = MeshedHosts(hold_s=300)
    meshed.admit((HOST1, HOST2), 0)
    for now in (10, 400, 10_000):
        assert HOST2 in meshed.admit((), now, is_sane=False)
        assert any("host2" in text and "until it shows this host again" in text for text in meshed.alarms(now))
    assert HOST2 in meshed.admit((HOST1,), 10_299)
    assert "for 1 s more" in meshed.alarms(10_299)[0]
    assert HOST2 not in meshed.admit((HOST1,), 10_301)


def test_a_host_that_the_token_may_not_read_is_kept_without_end() -> None:
    """The time begins when it may read it again."""
    meshed = MeshedHosts(hold_s=300)
    meshed.admit((HOST1, HOST2), 0)
    assert meshed.missing((HOST1,)) == {"host2"}
    for now in (10, 400, 900):
        assert HOST2 in meshed.admit((HOST1,), now, hidden=frozenset({"host2"}))
        assert 'give it node "host2" { policy = "read" }' in meshed.alarms(now)[0]
    assert HOST2 in meshed.admit((HOST1,), 1199)
    assert HOST2 not in meshed.admit((HOST1,), 1201)
