"""What holds for every test: nothing hangs, nothing leaks a warning, nothing is skipped but for want of a real Consul."""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))

NO_CONSUL = "NO REAL CONSUL"
"""How the reason of the one skip begins that is none of ours: Debian will take that package away one day."""

UNIT_TIMEOUT_S = 60  # the slowest takes two

# A busy machine is no defect: hypothesis' own deadline measures wall-clock time.
settings.register_profile(
    "nodeagent",
    max_examples=FUZZ_EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nodeagent")


def pytest_configure(config: pytest.Config) -> None:
    """Markers that tests may carry."""
    config.addinivalue_line("markers", "slow: takes more than ten seconds; left out by script/test --fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test without hosts of its own that is not done within a minute hangs."""
    for item in items:
        if "e2e" not in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(UNIT_TIMEOUT_S + FUZZ_EXAMPLES))


@pytest.fixture(autouse=True)
def _own_log() -> Generator[None]:
    """What a test, or a command that it runs, sets up of the log ends with it."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is a failure: a machine that cannot run a test has not passed it."""
    report = yield
    return _failed_if_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So is a module that skips itself when it is imported."""
    report = yield
    return _failed_if_skipped(report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says loudly what was not proven."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_sep("!", f"{NO_CONSUL}: {len(skipped)} tests against it were NOT run", red=True)


def _failed_if_skipped(report: Report) -> Report:
    if report.skipped and NO_CONSUL not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, and a skipped test has proved nothing: {report.longrepr}"
    return report
