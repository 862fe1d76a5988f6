"""Judgements on other hosts, each with what makes it."""

from nodeagent.diagnose.facts import Peer, Peers
from nodeagent.diagnose.peers import judge_peers
from tests.unit.nodeagent.diagnose.verdicts import only, shown

GOOD, AWAY, LIAR = Peer("b", "10.0.0.2", identity="spiffe://d/x"), Peer("c", "10.0.0.3", "timed out"), Peer("d", "10.0.0.4", distrusted="expired")


def levels(*seen: Peer) -> list[str]:
    """The levels of the verdicts on these peers."""
    return [level for level, _, _ in shown(judge_peers(Peers(seen)))]


def test_one_peer_that_is_away_is_its_own_trouble() -> None:
    """When all are, it is ours."""
    assert levels(GOOD, AWAY) == ["warning", "ok"]
    assert levels(AWAY, AWAY) == ["failed", "failed"]


def test_a_peer_that_is_not_believed_has_failed() -> None:
    """Whatever the others are."""
    assert levels(GOOD, LIAR) == ["failed", "ok"]
    assert levels(AWAY, LIAR) == ["warning", "failed"]


def test_peers_are_counted() -> None:
    """Also those that were not looked at."""
    text = only(judge_peers(Peers((GOOD, Peer("e", "10.0.0.5")), 7)))[1]
    assert text == "2 peers reached, 1 have proved who they are; 7 more were not looked at"
    assert only(judge_peers(Peers()))[1] == "no other host runs an agent yet"
