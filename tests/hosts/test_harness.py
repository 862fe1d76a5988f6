"""The hosts that the other tests stand on: real ones, and nothing of them is left."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts, remains, sweep
from tests.hosts.support.image import RELEASES, ROOT, Release


@pytest.fixture(scope="module", params=RELEASES)
def plain(hosts: Hosts, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host without nodeagent."""
    release: Release = request.param
    with hosts.up(f"plain-{release}", release) as made:
        yield made


def test_a_host_is_a_booted_debian_with_its_own_cgroup_v2(plain: Host) -> None:
    """systemd runs, no unit has failed, and there is no hierarchy but cgroup v2, whatever this machine has."""
    assert plain.state == "running"
    assert plain.run(f"grep -q VERSION_CODENAME={plain.release} /etc/os-release && stat -fc %T /sys/fs/cgroup").stdout == "cgroup2fs\n"
    assert "0::/system.slice/shop.service" in plain.run("cat /proc/self/cgroup", unit="shop").stdout


def test_a_host_is_reached_by_ssh_from_the_hub(plain: Host) -> None:
    """A key lets root in, and the two addresses are those that systemd-networkd has set."""
    done = subprocess.run([*plain.ssh, "hostname; ip -o addr show eth0"], text=True, capture_output=True, check=True)
    assert plain.name in done.stdout
    assert f" {plain.address}/24 " in done.stdout
    assert f" {plain.address6}/64 " in done.stdout


def test_files_and_statuses_go_in_and_out(plain: Host) -> None:
    """What is put is there with its owner and mode; a command's words and status come back."""
    plain.put("/etc/deep/er/file", "text\n", mode=0o640, owner="root:www-data")
    assert "640 root www-data" in plain.run("stat", "-c", "%a %U %G", "/etc/deep/er/file").stdout
    assert plain.run("cat; exit 3", stdin="given\n", check=False).returncode == 3
    plain.run("logger -t harness said-so")
    assert "said-so" in plain.messages()


@pytest.mark.parametrize("how", [Host.reboot, Host.crash])
def test_a_reboot_loses_what_a_kernel_loses(plain: Host, how: object) -> None:
    """Rules, policy routes and sysctls are gone, files are there, and the journal has another boot."""
    plain.run(
        "nft add table inet x; ip rule add fwmark 7 lookup 77; ip route add local default dev lo table 77;"
        "sysctl -qw net.ipv4.tcp_fwmark_accept=1; echo kept >/root/kept; sync"
    )
    boot = plain.run("cat /proc/sys/kernel/random/boot_id").stdout
    assert callable(how)
    how(plain)
    assert plain.state == "running"
    assert plain.run("cat /root/kept").stdout == "kept\n"
    assert plain.run("nft list tables; ip route show table 77 2>/dev/null; sysctl -n net.ipv4.tcp_fwmark_accept").stdout == "0\n"
    assert "lookup 77" not in plain.run("ip rule").stdout
    assert plain.run("cat /proc/sys/kernel/random/boot_id").stdout != boot


def test_what_a_killed_run_leaves_goes_at_the_next_start() -> None:
    """A test run that was killed has processes and files; the next one removes them first."""
    script = (
        "from tests.hosts.support.hosts import Hosts\n"
        "with Hosts() as hosts, hosts.up('host1') as host:\n"
        "    print(hosts.directory.name, flush=True); input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        name = run.stdout.readline().strip()
        run.send_signal(signal.SIGKILL)
    assert len(remains(name)) >= 2
    sweep()
    assert remains(name) == []
