"""A host boots: rules, agent and mesh are there before applications, also when the catalog is not."""

from collections.abc import Iterator

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.mesh import Mesh, call, shop_said, start_shop, wait_meshed

CONFIG, KEYS = "/etc/nodeagent/nodeagent.toml", "/var/lib/nodeagent/keys"
EAGER = """
[Service]
Type=oneshot
ExecStart=sh -c 'curl -sS -m 20 http://{address}/ >/run/eager.out 2>&1'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def booted(whole: Mesh, host: Host) -> Host:
    """A host that has rebooted, with a shop that calls another host as soon as it is started, once.

    Its firewall, Debian's own nftables.service, begins with the removal of all rules.
    """
    start_shop(host, f"exec curl -sS -m 20 http://{whole.other(host).address}/")
    host.run("systemctl enable --quiet shop nftables")
    host.reboot()
    host.run("systemctl disable --quiet shop nftables")
    return host


def test_nothing_comes_before_the_rules_and_no_application_before_the_agent(booted: Host) -> None:
    """By the journal's monotonic stamps; and the application's first call, its only one, is answered."""
    assert booted.state == "running"
    rules, agent = finished(booted, "nodeagent-intercept.service"), finished(booted, "nodeagent.service")
    if booted.release == "bookworm":  # that of Debian 13 is not started in a container
        assert 0 < entered(booted, "nftables.service", "Active") < entered(booted, "nodeagent-intercept.service", "Active")
    assert "ordering cycle" not in booted.messages()
    assert rules < started(booted, "systemd-networkd.service")
    assert rules < started(booted, "nodeagent.service")
    assert agent < started(booted, "nginx.service")
    assert agent < started(booted, "shop.service")
    assert shop_said(booted).startswith("from ")
    booted.wait_for(lambda: '"path":"tunnel"' in booted.messages("nodeagent"), "the line of a call through a tunnel")
    assert booted.run("nodeagent", "intercept", "verify").returncode == 0


def test_no_call_leaves_in_clear_while_a_host_boots(whole: Mesh, host: Host) -> None:
    """A unit that waits for nobody calls as soon as systemd starts it: it is refused, and the wire never sees its port."""
    callee = whole.other(host)
    host.put("/etc/systemd/system/eager.service", EAGER.format(address=callee.address))
    host.run("systemctl enable --quiet eager")
    with whole.catalog.hub.packets("tcp port 80 or tcp port 8501") as packets:
        host.reboot()
    said = host.path("/run/eager.out").read_text()
    host.run("systemctl disable --quiet eager; rm /etc/systemd/system/eager.service")
    assert said.startswith("curl: ")
    assert started(host, "eager.service") < finished(host, "nodeagent.service")
    assert any(".8501" in packet for packet in packets)  # the catalog's, so the wire was seen
    assert [packet for packet in packets if ".80 " in packet or ".80:" in packet] == []


def test_both_directions_work_after_a_boot(whole: Mesh, booted: Host) -> None:
    """The host that was away is called, too."""
    wait_meshed(booted)
    assert call(whole.other(booted), booted) == f"from {booted.name}\n"


def test_a_boot_without_catalog_and_ca(whole: Mesh, host: Host) -> None:
    """Same-host calls and ports outside the mesh work, tunnels are refused with no_svid, and the CA's return cures that."""
    callee = whole.other(host)
    callee.run("systemd-run --quiet --unit=plain --collect python3 -m http.server --directory /var/www/html 8000", check=False)
    whole.catalog.enter("systemctl", "stop", "nodeagent-catalog")
    try:
        host.reboot()
        assert host.show("nodeagent", "ActiveState") == "active"
        assert call(host, host) == f"from {host.name}\n"
        assert call(host, f"{callee.address}:8000") == f"from {callee.name}\n"
        assert call(host, callee).startswith("curl: ")
        host.wait_for(lambda: '"reason":"no_svid"' in host.messages("nodeagent"), "the refusal's line")
    finally:
        whole.catalog.enter("systemctl", "start", "nodeagent-catalog")
        callee.enter("systemctl", "stop", "plain")
    host.wait_for(lambda: call(host, callee).startswith("from "), "the tunnel")
    assert call(callee, host).startswith("from ")


@pytest.fixture
def kept(host: Host) -> Iterator[Host]:
    """A host that keeps its keys on disk, since a reload, and whose directory is as systemd-tmpfiles makes it."""
    text = host.path(CONFIG).read_text()
    host.path(CONFIG).write_text(f'{text}\n[identity]\npersist = "disk"\n')
    host.enter("systemctl", "reload", "nodeagent")
    host.wait_for(lambda: host.path(KEYS).exists(), "the keys")
    yield host
    host.path(CONFIG).write_text(text)
    host.enter("systemctl", "reload", "nodeagent")
    host.wait_for(lambda: not host.path(KEYS).exists(), "none is left on disk")


def test_a_boot_without_catalog_and_ca_but_with_keys_on_disk(whole: Mesh, kept: Host) -> None:
    """Tunnels work in both directions; the keys are root's alone."""
    callee = whole.other(kept)
    whole.catalog.enter("systemctl", "stop", "nodeagent-catalog")
    try:
        kept.reboot()
        assert '"event":"keys_restored"' in kept.messages("nodeagent")
        assert call(kept, callee) == f"from {callee.name}\n"
        assert call(callee, kept) == f"from {kept.name}\n"
        kept.wait_for(lambda: '"path":"tunnel"' in kept.messages("nodeagent"), "the line of a call through a tunnel")
        assert kept.enter("stat", "--format=%a %U %G", KEYS).stdout == "600 root root\n"
    finally:
        whole.catalog.enter("systemctl", "start", "nodeagent-catalog")


def test_a_crash_is_no_other_than_a_reboot(whole: Mesh, host: Host) -> None:
    """The power fails: what was being written is whole, the mesh comes back."""
    host.crash()
    wait_meshed(host)
    for caller in whole.hosts:
        assert call(caller, whole.other(caller)).startswith("from ")


def started(host: Host, unit: str) -> int:
    """When systemd began to start the unit in this boot, in microseconds."""
    return _stamp(host, unit, "Starting ")


def entered(host: Host, unit: str, state: str) -> int:
    """When it entered this state last, in microseconds of this boot, as systemd knows it: the journal is not yet there so early."""
    return int(host.run("systemctl", "show", "--value", f"--property={state}EnterTimestampMonotonic", unit).stdout)


def finished(host: Host, unit: str) -> int:
    """When systemd found it started."""
    return _stamp(host, unit, "Started ", "Finished ")


def _stamp(host: Host, unit: str, *words: str) -> int:
    entries = [entry for entry in host.journal(unit) if entry.get("UNIT") == unit and entry["MESSAGE"].startswith(words)]
    return int(entries[0]["__MONOTONIC_TIMESTAMP"])
