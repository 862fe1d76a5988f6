"""What all ends have in common."""

from nodeagent.proxy.end import End, Watcher
from nodeagent.proxy.ends import StreamEnd, TcpEnd
from nodeagent.proxy.http.engine import Engine
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.relay import Relay


def asked(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")} - {"peer", "relay", "received", "is_closed"}


def test_every_kind_of_end_answers_what_peers_and_relays_ask() -> None:
    for kind in (TcpEnd, StreamEnd, Engine, Origin):
        assert asked(End) - {"was_lost"} <= set(dir(kind))


def test_every_kind_of_watcher_answers_what_ends_ask() -> None:
    for kind in (Relay, Origin):
        assert asked(Watcher) <= set(dir(kind))
