"""Real systemd hosts for the tests below; all gone when the tests end."""

from collections.abc import Iterator

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts, remains
from tests.hosts.support.mesh import Mesh

LOG_LINES = 150
_hosts: list[Host] = []


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """A bridge for hosts: `with hosts.up("host1", "bookworm") as host`. After it nothing is left."""
    with Hosts() as made:
        made.watch = _hosts
        yield made
    assert remains(made.directory.name) == []


@pytest.fixture(scope="session")
def mesh(hosts: Hosts) -> Iterator[Mesh]:
    """A catalog, Debian 12 and Debian 13, meshed as docs/by-hand.md says; for all tests that ask for it."""
    with (
        hosts.up("catalog", "bookworm", product=True) as catalog,
        hosts.up("host1", "bookworm", product=True) as host1,
        hosts.up("host2", "trixie", product=True) as host2,
    ):
        yield Mesh(catalog, (host1, host2))


@pytest.fixture
def whole(mesh: Mesh) -> Mesh:
    """The mesh with everything running and the shop allowed to call nginx."""
    mesh.heal()
    mesh.allow()
    return mesh


@pytest.fixture(params=[0, 1], ids=["bookworm", "trixie"])
def host(whole: Mesh, request: pytest.FixtureRequest) -> Host:
    """Each of the mesh's hosts."""
    return whole.hosts[request.param]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the journal of every host that is up to the report of a test that failed."""
    report = yield
    if report.failed:
        for host in _hosts:
            lines = host.enter("journalctl", "--no-pager", "--output=short-monotonic", f"--lines={LOG_LINES}").stdout
            report.sections.append((f"{host.name}: journal", lines))
    return report
