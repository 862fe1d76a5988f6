"""Judgements on the kernel, each with what makes it."""

import pytest

from nodeagent import limits
from nodeagent.diagnose import kernel
from nodeagent.diagnose.kernel_facts import Backlog, Cgroups, Conntrack, Ephemeral, Expressions, Identification, Release
from tests.unit.nodeagent.diagnose.verdicts import only, shown


@pytest.mark.parametrize(("numbers", "level"), [((5, 9), "failed"), ((4, 19), "failed"), ((5, 10), "ok"), ((6, 1), "ok")])
def test_a_kernel_is_new_enough(numbers: tuple[int, int], level: str) -> None:
    """Numbers are compared, not text."""
    assert only(kernel.judge_release(Release("x", numbers)))[0] == level


def test_an_expression_that_is_refused_names_its_module() -> None:
    """Doubtful only where iptables gets the rules anyway."""
    refused = (("tproxy", "No such file or directory"),)
    assert only(kernel.judge_expressions(Expressions(refused)))[::2] == ("failed", "modprobe nft_tproxy")
    assert only(kernel.judge_expressions(Expressions(refused, "iptables")))[0] == "warning"
    assert "libnftables1" in only(kernel.judge_expressions(Expressions((("anything", "libnftables.so.1 is missing"),))))[2]
    assert only(kernel.judge_expressions(Expressions()))[0] == "ok"


def test_callers_that_cannot_be_named() -> None:
    """In the words of the agent's own test."""
    assert only(kernel.judge_identification(Identification("conntrack cannot be asked")))[:2] == ("failed", "conntrack cannot be asked")
    assert only(kernel.judge_identification(Identification()))[0] == "ok"


def test_cgroups() -> None:
    """There, and at the place that a lab says."""
    assert only(kernel.judge_cgroups(Cgroups("")))[0] == "failed"
    assert only(kernel.judge_cgroups(Cgroups("/sys/fs/cgroup", "lab", is_root_there=False)))[0] == "failed"
    assert only(kernel.judge_cgroups(Cgroups("/sys/fs/cgroup")))[0] == "ok"


@pytest.mark.parametrize(
    ("count", "most", "level", "wanted"),
    [
        (1, 262_144, "ok", ""), (79_999, 100_000, "ok", ""), (80_000, 100_000, "warning", "=262144"), (95_000, 100_000, "failed", "=262144"),
        (3, 65_535, "warning", "=262144"), (200_000, 200_000, "failed", "=400000"),
    ],
)  # fmt: skip
def test_the_connection_table(count: int, most: int, level: str, wanted: str) -> None:
    """Full, nearly full, or small; the cure is always more than there is."""
    found = only(kernel.judge_conntrack(Conntrack(count, most)))
    assert found[0] == level
    assert found[2].endswith(wanted)


@pytest.mark.parametrize(
    ("ports", "levels"),
    [
        (Ephemeral(32_768, 60_999), ["ok"]),
        (Ephemeral(16_000, 60_999), ["warning"]),
        (Ephemeral(15_000, 60_999), ["warning", "warning"]),
        (Ephemeral(15_000, 60_999, ((15_000, 15_020),)), ["warning"]),
        (Ephemeral(32_767, 60_999), ["warning"]),
    ],
)
def test_client_ports(ports: Ephemeral, levels: list[str]) -> None:
    """Apart from those of the agent; reserved ones are given to nobody."""
    found = shown(kernel.judge_ephemeral(ports))
    assert [level for level, _, _ in found] == levels
    assert all('"32768 60999"' in cure for level, _, cure in found if level != "ok")


@pytest.mark.parametrize(("used", "level"), [(0, "ok"), (22_584, "ok"), (22_586, "warning"), (26_821, "failed")])
def test_client_ports_that_run_out(used: int, level: str) -> None:
    """Towards one place: another has all of them still."""
    found = shown(kernel.judge_ephemeral(Ephemeral(32_768, 60_999, (), used, "10.0.0.9:5432")))
    assert found[0][0] == level
    assert level == "ok" or f"{used} of the 28232 ports that clients get are in use towards 10.0.0.9:5432" in found[0][1]
    (first, *_) = shown(kernel.judge_ephemeral(Ephemeral(32_768, 60_999, ((40_000, 60_999),), 7_000, "10.0.0.9:5432")))
    assert "7000 of the 7232 ports" in first[1], "reserved ones are given to nobody"


def test_queues() -> None:
    """One that overflows now, and all that are cut short."""
    assert [level for level, _, _ in shown(kernel.judge_backlog(Backlog(128, 9, 2)))] == ["warning", "warning"]
    assert "128" in only(kernel.judge_backlog(Backlog(128, 9, 0)))[1]
    assert only(kernel.judge_backlog(Backlog(limits.ACCEPT_BACKLOG, 9, 0)))[0] == "ok"
