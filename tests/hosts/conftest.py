"""Real systemd hosts for the tests below; all gone when the tests end."""

from collections.abc import Iterator

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts, remains

LOG_LINES = 150
_hosts: list[Host] = []


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """A bridge for hosts: `with hosts.up("host1", "bookworm") as host`. After it nothing is left."""
    with Hosts() as made:
        made.watch = _hosts
        yield made
    assert remains(made.directory.name) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the journal of every host that is up to the report of a test that failed."""
    report = yield
    if report.failed:
        for host in _hosts:
            lines = host.enter("journalctl", "--no-pager", "--output=short-monotonic", f"--lines={LOG_LINES}").stdout
            report.sections.append((f"{host.name}: journal", lines))
    return report
