"""Judgements on other hosts: reached, and believed."""

from collections.abc import Iterator

from nodeagent.diagnose.facts import Peer, Peers
from nodeagent.diagnose.finding import Verdict, fail, warn, well


def judge_peers(peers: Peers) -> Iterator[Verdict]:
    """One that is away is its own trouble; when all are, it is ours."""
    unreached = [peer for peer in peers.seen if peer.unreached]
    is_ours = unreached and len(unreached) == len(peers.seen)
    for peer in unreached:
        text = f"{peer.host} at {peer.address}, port 15008, cannot be reached: {peer.unreached}"
        yield (fail if is_ours else warn)(text, f"is its agent running, and the port open? on {peer.host}: nodeagent check")
    for peer in peers.seen:
        if peer.distrusted:
            yield fail(f"{peer.host} is not believed: {peer.distrusted}", f"on {peer.host}: nodeagent certs; compare with: nodeagent ca status")
    if good := [peer for peer in peers.seen if not peer.unreached and not peer.distrusted]:
        yield well(_praise(good, peers.unseen))
    elif not peers.seen:
        yield well("no other host runs an agent yet")


def _praise(good: list[Peer], unseen: int) -> str:
    proved = sum(bool(peer.identity) for peer in good)
    more = f"; {unseen} more were not looked at" if unseen else ""
    return f"{len(good)} peers reached, {proved} have proved who they are{more}"
