"""Judgements on routing, each with what makes it."""

from nodeagent.diagnose import routing
from nodeagent.diagnose.facts import Addresses, ReversePath
from tests.unit.nodeagent.diagnose.verdicts import only


def test_strict_source_checks_are_told_once() -> None:
    """Loose ones, and none, are well. The cure holds for all: the greater setting counts."""
    paths = (ReversePath("eth0", 1), ReversePath("eth1", 2), ReversePath("eth2", 1, src_valid_mark=True))
    level, text, cure = only(routing.judge_reverse_path(paths))
    assert (level, text.partition(":")[0], "src_valid_mark" in text) == ("warning", "eth0, eth2", True)
    assert cure == "sysctl -w net.ipv4.conf.all.rp_filter=2"
    assert "and 96 more" in only(routing.judge_reverse_path(tuple(ReversePath(f"veth{n}", 1) for n in range(100))))[1]
    assert only(routing.judge_reverse_path((ReversePath("eth1", 2), ReversePath("eth3", 0))))[0] == "ok"
    marked = only(routing.judge_reverse_path((ReversePath("eth1", 2, src_valid_mark=True), ReversePath("eth3", 0))))
    assert (marked[0], "eth1: by mark (src_valid_mark)" in marked[1]) == ("ok", True)


def test_an_address_that_the_host_has_not() -> None:
    """Each by itself."""
    assert "10.0.0.9" in only(routing.judge_addresses(Addresses(("10.0.0.9",), 2)))[2]
    assert only(routing.judge_addresses(Addresses((), 2)))[0] == "ok"
