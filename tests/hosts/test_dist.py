"""What script/dist builds: the same bytes each time, and all that a host without a network needs."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.hosts.support.dist import NEXT, build, dist, tree_of
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.image import PYTHON, ROOT, VERSION, Release
from tests.hosts.support.traces import differences, traces

pytestmark = pytest.mark.timeout(600)

REMAINS = """
for link in current.new .current.new .previous.new; do ln -s versions/0 /opt/nodeagent/$link; done
mkdir /etc/nodeagent-catalog && touch /etc/nodeagent-catalog/operator.toml
"""
"""Of an installation and upgrades that were killed, and of a catalog that Ansible has installed."""

AS_THE_PAGE_SAYS = re.findall(r"`(apt-get purge [^`]+)`", (ROOT / "docs/uninstall.md").read_text())[-1]


def packages(version: str, release: Release, place: Path) -> tuple[Path, Path]:
    """The package with the programs, and the one with the units."""
    (programs,) = place.glob(f"nodeagent-{version}_*+py{PYTHON[release]}_*.deb")
    return programs, place / f"nodeagent_{version}-1_all.deb"


def test_one_tree_and_the_same_wheels_give_the_same_bytes(tmp_path: Path) -> None:
    """Wherever it is built, and whenever."""
    first = dist(NEXT, ("bookworm",))
    tree = tree_of(NEXT, tmp_path / "elsewhere")
    build(tree, tmp_path / "out", "--python", PYTHON["bookworm"], "--wheels", str(first))
    assert (first / "SHA256SUMS").read_text() == (tmp_path / "out/SHA256SUMS").read_text()


def test_a_package_lists_no_file_that_it_does_not_have(tmp_path: Path) -> None:
    """As pip's scripts would be, which name the Python of the machine that builds: two machines would give two packages."""
    programs, _ = packages(VERSION, "bookworm", dist())
    subprocess.run(["dpkg-deb", "--extract", programs, tmp_path], check=True)
    site = tmp_path / f"opt/nodeagent/versions/{VERSION}/lib/python{PYTHON['bookworm']}/site-packages"
    listed = {site / line.partition(",")[0] for record in site.glob("*.dist-info/RECORD") for line in record.read_text().splitlines()}
    assert len(listed) > 1000
    assert {path for path in listed if not path.exists()} == set()


def test_lintian_has_nothing_to_say() -> None:
    """But what script/deb overrides, with the reason."""
    done = subprocess.run(["lintian", "--allow-root", *map(str, packages(VERSION, "bookworm", dist()))], capture_output=True, text=True, check=False)
    assert [] == re.findall(r"^[EW]: .*", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_host_without_a_network_installs_two_versions_and_forgets_them(hosts: Hosts, release: Release) -> None:
    """Both run; the one in use does not let itself be removed; purged, nothing is left."""
    with hosts.up("offline", release) as host:
        before = traces(host)
        for place in (packages(VERSION, release, dist()), *([packages(NEXT, release, dist(NEXT, ("bookworm",)))] if release == "bookworm" else [])):
            for package in place:
                host.put(f"/root/{package.name}", package)
            done = host.enter("sh", "-c", "dpkg --install /root/*.deb && rm /root/*.deb")
            assert done.returncode == 0, done.stdout + done.stderr
        newest = NEXT if release == "bookworm" else VERSION
        assert f"nodeagent, version {newest}\n" == host.run("nodeagent", "--version").stdout
        assert f"nodeagent, version {VERSION}\n" == host.run(f"/opt/nodeagent/versions/{VERSION}/bin/nodeagent", "--version").stdout
        assert host.run("nodeagent", "intercept", "show").stdout == "Nothing is installed.\n"
        refused = host.enter("dpkg", "--remove", "--force-depends", f"nodeagent-{newest}")
        assert (1, True) == (refused.returncode, "is the version in use" in refused.stderr)
        if release == "bookworm":  # back in the version of before: the newer one's programs go alone, units and links stay
            host.enter("ln", "--symbolic", "--force", "--no-dereference", f"versions/{VERSION}", "/opt/nodeagent/current")
            done = host.enter("dpkg", "--remove", f"nodeagent-{NEXT}")
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"nodeagent, version {VERSION}\n" == host.run("nodeagent", "--version").stdout
        if release == "bookworm":  # also by a program that is broken
            host.enter("ln", "--symbolic", "--force", "/bin/false", "/opt/nodeagent/bin/nodeagent")
        host.enter("sh", "-c", REMAINS)
        done = host.enter("sh", "-c", AS_THE_PAGE_SAYS.replace("purge", "purge --assume-yes"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("some of its rules may be left" in done.stdout + done.stderr) == (release == "bookworm")
        assert [] == differences(before, traces(host))
