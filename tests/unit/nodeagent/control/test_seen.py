"""The pieces of the catalog."""

from nodeagent.catalog.markers import markers_of
from nodeagent.catalog.state import MARKER_SERVICE
from nodeagent.control.seen import Seen
from nodeagent.model.service import Host
from tests.support.mesh import HOST1, HOST2, instance, intention


def heard() -> Seen:
    return Seen((HOST1, HOST2), ("web",), (intention("shop -> web allow"),), {"web": "http"}, "tcp")


def test_nothing_is_complete_before_each_piece_was_heard() -> None:
    assert set(Seen().missing()) == {
        "nodes", "services", "service-intentions", "service-defaults", "proxy-defaults",
    }  # fmt: skip
    seen = heard()
    assert (seen.missing(), seen.unheard()) == ((), ("web",))
    seen.instances["web"] = ()
    assert seen.unheard() == ()


def test_a_service_that_was_not_heard_is_as_it_was_saved_listed_or_not() -> None:
    """A list says as little of what a token may not read as an answer does."""
    seen = heard()
    seen.saved = {"web": (instance(HOST2, 80),), "gone": (instance(HOST2, 81),)}
    assert seen.state().instances == seen.saved
    assert (seen.unheard(), seen.watched_names()) == (("web", "gone"), ("gone", "web"))
    assert seen.before("web") == (instance(HOST2, 80),)
    seen.instances |= {"web": (), "gone": ()}
    assert seen.before("web") == ()
    seen.forget_unlisted()
    assert (seen.saved, seen.watched_names(), seen.state().instances) == ({}, ("web",), {"web": ()})


def test_what_was_saved_stays_until_it_is_heard() -> None:
    seen = Seen(saved={"web": (instance(HOST2, 80),)})
    seen.forget_unlisted()
    assert set(seen.saved) == {"web"}


def test_saved_markers_count_until_markers_are_heard() -> None:
    bare = Host("host2", HOST2.addresses, 0)
    seen = heard()
    seen.hosts, seen.saved = (HOST1, bare), {MARKER_SERVICE: markers_of((HOST2,))}
    assert seen.state().hosts == (HOST1, HOST2)
    seen.instances[MARKER_SERVICE] = ()
    assert seen.state().hosts == (HOST1, bare)


def test_the_agents_are_watched_for_ever_once_they_were_heard() -> None:
    """Who was the last of them must hear that its own marker is gone."""
    seen = heard()
    assert seen.watched_names() == ("web",)
    seen.instances[MARKER_SERVICE] = ()
    seen.forget_unlisted()
    assert seen.watched_names() == (MARKER_SERVICE, "web")


def test_what_was_held_of_a_forgotten_service_is_forgotten_too() -> None:
    seen = heard()
    seen.instances |= {"gone": (), "web": (instance(HOST2, 80),)}
    seen.held |= {"gone": (), "web": ()}
    seen.forget_unlisted()
    assert set(seen.held) == {"web"}


def test_state_has_every_piece() -> None:
    seen = heard()
    seen.instances["web"] = (instance(HOST2, 80),)
    state = seen.state()
    assert state.hosts == (HOST1, HOST2)
    assert state.instances == {"web": (instance(HOST2, 80),)}
    assert state.intentions == (intention("shop -> web allow"),)
    assert (state.protocols, state.default_protocol) == ({"web": "http"}, "tcp")


def test_a_service_that_is_no_longer_listed_is_watched_while_it_has_instances() -> None:
    seen = heard()
    seen.instances |= {"old": (instance(HOST2, 81),), "gone": ()}
    assert seen.watched_names() == ("old", "web")
    seen.forget_unlisted()
    assert set(seen.instances) == {"old"}


def test_who_is_known_on_a_host() -> None:
    seen = Seen(instances={"web": (instance(HOST2, 80), instance(HOST1, 81))})
    assert seen.has("web", "host2", {80})
    assert seen.has("web", "host2", {9, "web"})
    assert not any((seen.has("web", "host2", {81, "db"}), seen.has("web", "host3", {"web"}), seen.has("db", "host2", {80, "db"})))
