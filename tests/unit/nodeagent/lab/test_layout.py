"""Where a lab's things are."""

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.errors import LabError


def test_addresses_show_lab_and_host() -> None:
    """Both families carry the same digits, so that a reader sees which host it is."""
    first, *_, eleventh = layout.hosts_of("lab", 77, 11)
    assert ("host1", "10.77.0.1", "fd77::1") == (first.name, first.ipv4, first.ipv6)
    assert ("host11", "10.77.0.11", "fd77::11") == (eleventh.name, eleventh.ipv4, eleventh.ipv6)
    hub = layout.hub_of("lab", 77)
    assert ("hub", "10.77.0.250", "https://10.77.0.250:8501") == (hub.name, hub.ipv4, layout.catalog_url(hub))


def test_cgroups_look_as_systemd_makes_them() -> None:
    """A service is a unit below system.slice; a login's process is below user.slice, where no unit is found."""
    (host,) = layout.hosts_of("demo", 78, 1)
    assert host.unit_cgroup("web") == "nodeagent-lab/demo/host1/system.slice/web.service"
    assert host.session_cgroup.startswith("nodeagent-lab/demo/host1/user.slice/")
    assert ".service" not in host.session_cgroup + host.holder_cgroup


def test_every_path_is_below_the_lab() -> None:
    """Removing the lab's directory and cgroup removes everything."""
    (host,) = layout.hosts_of("demo", 78, 1)
    for path in (host.own("etc"), host.log("web"), host.directory):
        assert path.is_relative_to(layout.lab_directory("demo"))


@pytest.mark.parametrize("name", ["lab", "a", "team-2", "0", "x" * 32])
def test_plain_names_are_taken(name: str) -> None:
    """Letters, digits and inner hyphens name a lab."""
    assert layout.checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "../etc", "a/b", "A", "x" * 33, "a.lock", "a\n"])
def test_names_that_could_leave_the_directory_are_refused(name: str) -> None:
    """A lab's name becomes a path."""
    with pytest.raises(LabError, match="cannot name a lab"):
        layout.checked_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".web", "web.", "we b", "x" * 129, "Web"])
def test_odd_service_names_are_refused(name: str) -> None:
    """A service's name becomes a cgroup and a file."""
    with pytest.raises(LabError, match="cannot name a service"):
        layout.checked_service(name)


def test_nobody_runs_as_the_agent() -> None:
    """The agent's unit is exempt from capture: no service of the lab may be it."""
    with pytest.raises(LabError, match="agent's own unit"):
        layout.checked_service("nodeagent")


@pytest.mark.parametrize("count", [0, -1, limits.LAB_HOSTS + 1])
def test_a_lab_has_some_hosts_and_not_too_many(count: int) -> None:
    """The addresses end before the catalog's."""
    with pytest.raises(LabError, match="1 to 100 hosts"):
        layout.checked_count(count)
    assert layout.checked_count(2) == 2


@pytest.mark.parametrize(
    ("name", "taken", "subnet"),
    [("lab", set(), 77), ("other", set(), 78), ("other", {78}, 79), ("lab", {78, 79}, 77), ("lab", {77}, 78)],
)
def test_the_default_lab_has_the_addresses_of_the_handbook(name: str, taken: set[int], subnet: int) -> None:
    """10.77 stays the default lab's; others get the next free number."""
    assert layout.free_subnet(name, frozenset(taken)) == subnet


def test_too_many_labs_are_refused() -> None:
    """There are as many as numbers with two digits from 77 on."""
    with pytest.raises(LabError, match="23 labs are up"):
        layout.free_subnet("one-more", frozenset(range(77, 100)))
