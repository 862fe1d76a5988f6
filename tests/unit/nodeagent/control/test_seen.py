"""The pieces of the catalog."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog.buckets import Buckets
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


def test_what_is_held_is_let_go_of_and_comes_back() -> None:
    """Each service is looked at while something is held, and once after that; then only those of which something was heard."""
    seen, row, taker = heard(), instance(HOST2, 80), instance(HOST2, 80, id_="other")
    seen.instances["web"], seen.held["web"] = (row,), (row,)
    assert {"web": (row,)} == seen.state().instances
    seen.instances["db"] = (taker,)
    assert {"web": (), "db": (taker,)} == seen.state().instances
    seen.held.clear()
    before = seen.state()
    assert {"web": (row,), "db": (taker,)} == before.instances
    seen.instances["db"] = ()
    del seen.instances["web"]
    assert {"db": ()} == seen.state().instances
    assert {"web": (row,), "db": (taker,)} == before.instances


def test_a_write_that_would_not_be_noted_is_refused() -> None:
    """Else what it changes would never come into force."""
    with pytest.raises(TypeError, match="noted"):
        heard().instances.update({"web": ()})


def test_hosts_are_looked_at_when_something_was_heard_of_them() -> None:
    """Most changes are of a service."""
    seen = heard()
    first = seen.state().hosts
    seen.instances["web"] = (instance(HOST2, 80),)
    assert seen.state().hosts is first
    seen.hosts = (HOST2,)
    assert (HOST2,) == seen.state().hosts


NAMES = st.sampled_from(("web", "db", "cart", MARKER_SERVICE))
STEPS = st.lists(st.tuples(st.sampled_from(("heard", "held", "saved", "gone", "forget")), NAMES, st.integers(0, 2)), max_size=12)


@given(STEPS)
def test_each_state_is_as_if_all_were_looked_at(steps: list[tuple[str, str, int]]) -> None:
    """Whatever was heard, held, saved and forgotten before."""
    seen = heard()
    for what, name, count in steps:
        rows = tuple(instance(HOST2, 80 + number, id_=f"{name}{number}") for number in range(count))
        match what:
            case "heard":
                seen.instances[name] = rows
            case "held":
                seen.held[name] = seen.instances.get(name, ())[:count]
            case "saved":
                seen.saved = {**seen.saved, name: rows}
            case "gone" if name in seen.instances:
                del seen.instances[name]
            case _:
                seen.forget_unlisted()
        said = seen.state()
        fresh = replace(seen, instances=dict(seen.instances), _said=Buckets(), _marked=None, _is_cut=True)
        assert (fresh.state().instances, fresh.hosts) == (said.instances, seen.hosts)
        assert fresh.state().hosts == said.hosts
