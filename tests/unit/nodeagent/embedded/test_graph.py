"""What Consul refuses at a write because of other entries is refused here, too."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.embedded import config_api, graph, intentions_api
from nodeagent.embedded.config_entries import put_entry
from nodeagent.embedded.graph import check_graph
from nodeagent.embedded.refusal import BadRequest

HTTP = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
ROUTER = {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"NumRetries": 2}}]}


def redirect(name, to):
    return {"Kind": "service-resolver", "Name": name, "Redirect": {"Service": to}}


def put(desk, *entries):
    assert [desk.call(config_api.put, body=entry) for entry in entries] == [True] * len(entries)


def test_a_router_needs_a_protocol_of_requests_and_keeps_it(desk):
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        put(desk, ROUTER)
    put(desk, HTTP, ROUTER)
    for change in (lambda: put(desk, HTTP | {"Protocol": "tcp"}), lambda: desk.call(config_api.delete, kind="service-defaults", name="web")):
        with pytest.raises(BadRequest, match="service-router web: Routes: the protocol of web is tcp"):
            change()
    desk.call(config_api.delete, kind="service-router", name="web")
    put(desk, HTTP | {"Protocol": "tcp"})


def test_the_default_protocol_counts(desk):
    put(desk, {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, ROUTER)
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        desk.call(config_api.delete, kind="proxy-defaults", name="global")


def test_circles_are_refused(desk):
    put(desk, redirect("a", "b"), redirect("b", "c"))
    with pytest.raises(BadRequest, match="service-resolver c: Redirect: leads in a circle: c -> a -> b -> c"):
        put(desk, redirect("c", "a"))


def test_permissions_need_a_protocol_of_requests(desk):
    permissions = [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]
    entry = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Permissions": permissions}]}
    with pytest.raises(BadRequest, match=r"Sources\[0\]\.Permissions: the protocol of web is tcp"):
        put(desk, entry)
    pair = {"source": "shop", "destination": "web"}
    with pytest.raises(BadRequest, match=r"Sources\[0\]\.Permissions: the protocol of web is tcp"):
        desk.call(intentions_api.put, body={"Permissions": permissions}, query=pair)
    put(desk, HTTP, entry)
    assert desk.call(intentions_api.put, body={"Permissions": permissions}, query=pair) is True
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        put(desk, HTTP | {"Protocol": "tcp"})


def test_what_was_wrong_before_stops_no_other_write(desk):
    """An older version may have taken it; what this one cannot read is passed over."""
    for entry in (ROUTER, {"Kind": "service-splitter", "Name": "old", "Splits": []}):
        asyncio.run(desk.store.write(lambda change, entry=entry: put_entry(change, entry)))
    put(desk, redirect("a", "b"))
    desk.store.read(lambda connection: check_graph(connection, Key("service-resolver", "a"), redirect("a", "c")))


@pytest.fixture
def looked(monkeypatch):
    """The names of the entries that are decoded to be checked, as far as they are not kept."""
    found = []
    graph._spec_of.cache_clear()
    monkeypatch.setattr(graph, "read_entry", lambda body: found.append(body["Name"]) or read_entry(body))
    return found


def test_what_changes_nothing_is_not_checked(desk, looked):
    """All writers wait behind it."""
    put(desk, redirect("a", "b"))
    looked.clear()
    put(desk, redirect("a", "b"))
    assert desk.call(config_api.put, body=redirect("a", "c"), query={"cas": "1"}) is False
    assert desk.call(config_api.delete, query={"cas": "1"}, kind="service-resolver", name="a") is False
    assert desk.call(config_api.delete, kind="service-resolver", name="none") == {}
    assert looked == []


def test_only_what_the_entry_leads_to_is_looked_at(desk, looked):
    """Each costs 0.2 ms, and there may be 10,000."""
    put(desk, *(redirect(f"x{n}", f"y{n}") for n in range(20)), redirect("b", "c"))
    looked.clear()
    graph._spec_of.cache_clear()
    put(desk, redirect("a", "b"))
    assert sorted(looked) == ["a", "b"]


def test_what_was_looked_at_is_kept(desk, looked, monkeypatch):
    splits = [{"Kind": "service-splitter", "Name": f"s{n}", "Splits": [{"Weight": 100, "Service": f"s{n + 1}"}]} for n in range(9, -1, -1)]
    put(desk, {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, *splits)
    assert len(looked) <= len(splits) + 2
    assert graph._spec_of.cache_info().maxsize == limits.CATALOG_SPECS
    monkeypatch.setattr(limits, "CATALOG_SPEC_BYTES", 10)
    graph._spec_of.cache_clear()
    put(desk, redirect("a", "b"))
    assert graph._spec_of.cache_info().currsize == 0


def test_who_is_led_back_by_another_is_refused(desk):
    """The circle is that of the one which has a stand-in."""
    put(desk, {"Kind": "service-resolver", "Name": "a", "Failover": {"*": {"Service": "b"}}}, redirect("c", "a"))
    with pytest.raises(BadRequest, match=r"service-resolver a: Failover.*: leads in a circle, so nobody stands in: a -> b -> c -> a"):
        put(desk, redirect("b", "c"))


def test_who_leads_to_a_service_needs_its_protocol(desk):
    api = HTTP | {"Name": "api"}
    split = {"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100, "Service": "api"}]}
    put(desk, HTTP, api, split)
    with pytest.raises(BadRequest, match=r"service-splitter web: Splits\[0\]: api speaks grpc, and web speaks http"):
        put(desk, api | {"Protocol": "grpc"})
    put(desk, api | {"Meta": {"a": "b"}})


def test_permissions_need_the_protocol_of_all_too(desk):
    entry = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]}
    put(desk, {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, entry)
    with pytest.raises(BadRequest, match=r"service-intentions web: Sources\[0\].Permissions: the protocol of web is tcp"):
        desk.call(config_api.delete, kind="proxy-defaults", name="global")


def test_the_protocol_of_an_entry_that_is_not_understood_is_not_guessed(desk):
    """A newer version took it, and was taken back."""
    newer = HTTP | {"Newer": 5}
    asyncio.run(desk.store.write(lambda change: put_entry(change, newer)))
    put(desk, ROUTER)


def test_entries_are_those_of_the_database_but_for_one(desk):
    put(desk, redirect("a", "b"), redirect("c", "d"))
    keys = [Key("service-resolver", name) for name in "abc"]
    made = graph._Entries(desk.store._reader, {keys[0]: None, keys[1]: b'{"Kind": "service-resolver", "Name": "b"}'})
    assert (list(made), len(made)) == (keys[1:], 2)


def test_so_many_faults_are_told_and_the_others_counted(desk, monkeypatch):
    """A default protocol may be wrong for each of 10,000 entries: that would be an answer of a megabyte."""
    monkeypatch.setattr(limits, "POLICY_FAULTS", 2)
    put(desk, {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, *(ROUTER | {"Name": f"s{n}"} for n in range(4)))
    with pytest.raises(BadRequest, match=r"service-router s0: .*; service-router s1: [^;]*; and 2 more$"):
        desk.call(config_api.delete, kind="proxy-defaults", name="global")
