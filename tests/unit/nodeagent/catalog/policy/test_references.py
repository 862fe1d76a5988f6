"""Entries against one another: circles, protocols, and the order in which they are written."""

import pytest

from nodeagent import limits
from nodeagent.catalog.policy import references
from nodeagent.catalog.policy.entries import KINDS, Key
from nodeagent.catalog.policy.references import (
    in_order,
    protocol_of,
    redirect_chain,
    reference_faults,
    references_of,
)
from tests.support.entries import FULL, good

ALL_HTTP = {"Kind": "proxy-defaults", "Config": {"protocol": "http"}}


def mesh(*documents):
    entries = [good(each) for each in documents]
    return {each.key: each.spec for each in entries}


def split(name, *services):
    return {"Kind": "service-splitter", "Name": name, "Splits": [{"Weight": 100 / len(services), "Service": each} for each in services]}


def redirect(name, to, **more):
    return {"Kind": "service-resolver", "Name": name, "Redirect": {"Service": to} | more}


def stand_in(name, to):
    return {"Kind": "service-resolver", "Name": name, "Failover": {"*": {"Service": to}}}


def route(name, to, subset=""):
    return {"Kind": "service-router", "Name": name, "Routes": [{"Destination": {"Service": to, "ServiceSubset": subset}}]}


def defaults(name, protocol):
    return {"Kind": "service-defaults", "Name": name, "Protocol": protocol}


def refused(*documents, is_all=True):
    return "\n".join(reference_faults(mesh(*documents), is_all=is_all))


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        ((split("a", "b"), split("b", "a")), "service-splitter a: Splits: they lead in a circle: a -> b -> a"),
        ((split("a", "b", "x"), split("b", "c"), split("c", "a")), "a -> b -> c -> a"),
        ((redirect("a", "b"), redirect("b", "a")), "service-resolver a: Redirect: leads in a circle: a -> b -> a"),
        ((redirect("a", "b"), redirect("b", "c"), redirect("c", "a")), "a -> b -> c -> a"),
        ((stand_in("a", "b"), redirect("b", "a")), "service-resolver a: Failover.*: leads in a circle, so nobody stands in: a -> b -> a"),
    ],
)
def test_circles_are_refused(documents, sentence):
    assert sentence in refused(ALL_HTTP, *documents)


@pytest.mark.parametrize(
    "documents",
    [
        (split("a", "a", "b"),),
        (split("a", "b"), split("b", "b")),
        (stand_in("a", "b"), stand_in("b", "a")),
        (redirect("a", "b"), redirect("b", "c")),
        (redirect("a", "a", Datacenter="dc2"),),
        (route("a", "b"), route("b", "a")),
    ],
)
def test_what_is_no_circle_is_taken(documents):
    """A split to itself goes to its own instances; who stands in has nobody who stands in; a router is asked once."""
    assert refused(ALL_HTTP, *documents) == ""


@pytest.mark.parametrize("first", [redirect, stand_in])
def test_a_chain_that_is_longer_than_any_is_refused(first):
    """It may be a circle: nobody looks further. One that is just as long is a chain, or a circle."""
    last = limits.POLICY_HOPS - 1
    chain = [first("s0", "s1"), *(redirect(f"s{n}", f"s{n + 1}") for n in range(1, last))]
    assert refused(ALL_HTTP, *chain) == ""
    assert "s0: " in refused(ALL_HTTP, *chain, redirect(f"s{last}", "s0"))
    further = [redirect(f"s{n}", f"s{n + 1}") for n in range(last, 2 * last)]
    assert f"leads on over {limits.POLICY_HOPS} redirects and further: s0 -> s1 -> " in refused(ALL_HTTP, *chain, *further)
    assert "s0: " in refused(ALL_HTTP, *chain, *further, redirect(f"s{2 * last}", "s0"))


def test_a_chain_into_a_circle_of_others_is_theirs():
    assert "service-resolver x" not in refused(ALL_HTTP, redirect("x", "a"), redirect("a", "b"), redirect("b", "a"))


def test_of_a_long_circle_both_ends_are_shown(monkeypatch):
    monkeypatch.setattr(limits, "POLICY_WAY", 4)
    ring = [split(f"s{n}", f"s{(n + 1) % 10}") for n in range(10)]
    assert "service-splitter s0: Splits: they lead in a circle: s0 -> s1 -> 7 more -> s9 -> s0" in refused(ALL_HTTP, *ring)


def test_of_many_splitters_each_is_looked_at_once(monkeypatch):
    """A long chain of them was looked at anew from each, and each of its ways copied: 2,000 took 17 s."""
    looked = []
    monkeypatch.setattr(references, "references_of", lambda spec: looked.append(spec) or references_of(spec))
    chain = mesh(ALL_HTTP, *(split(f"s{n}", f"s{n + 1}", f"s{n + 2}") for n in range(100)))
    assert reference_faults(chain, is_all=True) == []
    assert len(looked) <= 3 * len(chain)


def test_who_is_asked_about_is_all_that_is_looked_at():
    documents = (ALL_HTTP, split("a", "b"), split("b", "a"), split("c", "d"), redirect("x", "y"), redirect("y", "x"))
    entries = mesh(*documents)
    assert reference_faults(entries, is_all=True, of=[Key("service-splitter", "c"), Key("service-splitter", "gone")]) == []
    assert reference_faults(entries, is_all=True, of=[Key("service-splitter", "a")]) == ["service-splitter a: Splits: they lead in a circle: a -> b -> a"]
    assert redirect_chain(entries, "x") == ["x", "y"]


@pytest.mark.parametrize("key", [Key("service-defaults", "a"), Key("proxy-defaults", "global")])
def test_who_is_not_understood_speaks_nobody_knows_what(key):
    """A newer version wrote it: that it is no entry of ours makes the service no tcp."""
    entries = mesh(split("a", "a"), route("b", "a"), defaults("b", "http"))
    assert "the protocol of a is tcp" in "\n".join(reference_faults(entries, is_all=True))
    assert reference_faults({**entries, key: None}, is_all=True) == []


def test_whether_permissive_is_allowed_is_not_known_of_an_entry_that_is_not_understood():
    entries = mesh({"Kind": "service-defaults", "Name": "a", "MutualTLSMode": "permissive"})
    assert reference_faults({**entries, Key("mesh", "mesh"): None}, is_all=True) == []


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        ((route("a", "a"),), "service-router a: Routes: the protocol of a is tcp, and this needs http, http2, grpc"),
        ((split("a", "a"), defaults("a", "tcp"), ALL_HTTP), "service-splitter a: Splits: the protocol of a is tcp"),
        ((FULL["service-intentions"],), "service-intentions web: Sources[0].Permissions: the protocol of web is tcp"),
        ((FULL["mirror"],), "mirror web: Copies: the protocol of web is tcp"),
        ((route("a", "b"), ALL_HTTP, defaults("b", "grpc")), "service-router a: Routes[0].Destination: b speaks grpc, and a speaks http"),
        ((redirect("a", "b"), defaults("a", "http")), "service-resolver a: Redirect: b speaks tcp, and a speaks http"),
        (
            ({"Kind": "service-defaults", "Name": "a", "MutualTLSMode": "permissive"},),
            "MutualTLSMode: permissive needs AllowEnablingPermissiveMutualTLS",
        ),
    ],
)
def test_what_consul_refuses_is_refused(documents, sentence):
    assert sentence in refused(*documents)


def test_who_does_not_know_all_does_not_guess():
    """The service-defaults may be in the catalog."""
    assert refused(route("a", "a"), is_all=False) == ""
    assert "speaks grpc" in refused(route("a", "b"), ALL_HTTP, defaults("a", "http"), defaults("b", "grpc"), is_all=False)


def test_the_protocol_is_the_services_else_that_of_all_else_tcp():
    entries = mesh(ALL_HTTP, defaults("a", "grpc"), {"Kind": "service-defaults", "Name": "b"})
    assert [protocol_of(entries, name) for name in "abc"] == ["grpc", "http", "http"]
    assert (protocol_of({}, "a"), protocol_of({}, "a", is_all=False)) == ("tcp", "")


def test_what_is_referred_to_is_written_first():
    documents = (
        route("a", "b"), split("a", "b", "c"), split("b", "z"), redirect("a", "m"), redirect("m", "b"),
        {"Kind": "service-resolver", "Name": "b", "Subsets": {"v1": {}}}, defaults("a", "http"), ALL_HTTP,
    )  # fmt: skip
    entries = mesh(*documents)
    assert [str(key) for key in in_order(list(entries), entries, KINDS)] == [
        "proxy-defaults global", "service-defaults a", "service-resolver b", "service-resolver m", "service-resolver a",
        "service-splitter b", "service-splitter a", "service-router a",
    ]  # fmt: skip


def test_circles_have_an_order_too():
    entries = mesh(stand_in("a", "b"), stand_in("b", "a"))
    assert in_order(list(entries), entries, KINDS) == [Key("service-resolver", "b"), Key("service-resolver", "a")]


def test_references_are_those_of_this_mesh():
    """Other datacenters and peers have their own."""
    assert [(each.path, each.service, each.subset) for each in references_of(good(FULL["service-router"]).spec)] == [("Routes[0].Destination", "api", "v2")]
    assert list(references_of(good(FULL["service-resolver"]).spec)) == []
