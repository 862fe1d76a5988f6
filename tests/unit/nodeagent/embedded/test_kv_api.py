"""/v1/kv."""

import pytest

from nodeagent.embedded import kv_api
from nodeagent.embedded.access import Caller
from nodeagent.embedded.refusal import BadRequest, Forbidden
from tests.unit.nodeagent.embedded.desk import HOST1


def put(desk, key, value=b"v", **query):
    return desk.call(kv_api.put, body=value, query=query, key=key)


def test_a_value_is_written_read_and_removed(desk):
    assert put(desk, "a/b", b"\x00\x01", flags="3") is True
    shown = desk.call(kv_api.read, key="a/b")[0]
    assert (shown["Key"], shown["Value"], shown["Flags"], shown["LockIndex"]) == ("a/b", "AAE=", 3, 0)
    assert desk.call(kv_api.read, query={"raw": ""}, key="a/b") == b"\x00\x01"
    assert desk.call(kv_api.delete, key="a/b") is True
    assert desk.call(kv_api.read, key="a/b") == 404


def test_an_empty_value_is_null(desk):
    put(desk, "a", b"")
    assert desk.call(kv_api.read, key="a")[0]["Value"] is None


def test_below_a_prefix(desk):
    for key in ("c/a/1", "c/b", "d"):
        put(desk, key)
    assert [row["Key"] for row in desk.call(kv_api.read, query={"recurse": ""}, key="c/")] == ["c/a/1", "c/b"]
    assert desk.call(kv_api.read, query={"keys": "", "separator": "/"}, key="c/") == ["c/a/", "c/b"]
    assert desk.call(kv_api.read, query={"keys": ""}, key="") == ["c/a/1", "c/b", "d"]
    assert desk.call(kv_api.read, query={"recurse": ""}, key="zzz") == 404
    assert desk.call(kv_api.delete, query={"recurse": ""}, key="c/") is True
    assert desk.call(kv_api.read, query={"keys": ""}, key="") == ["d"]


def test_compare_and_set(desk):
    assert put(desk, "a", cas="0") is True
    assert put(desk, "a", b"w", cas="0") is False
    index = str(desk.call(kv_api.read, key="a")[0]["ModifyIndex"])
    assert desk.call(kv_api.delete, query={"cas": "1"}, key="a") is False
    assert desk.call(kv_api.delete, query={"cas": index}, key="a") is True


def test_a_host_reads_its_configuration_and_no_secret_of_others(desk):
    put(desk, "nodeagent/config/mirror/web")
    put(desk, "vault/master")
    assert desk.call(kv_api.read, HOST1, query={"recurse": ""}, key="nodeagent/config/")
    for key, query in (("vault/master", {}), ("", {"recurse": ""}), ("nodeagent", {"keys": ""})):
        with pytest.raises(Forbidden, match="below nodeagent/config/ only"):
            desk.call(kv_api.read, HOST1, query=query, key=key)
    for handler in (kv_api.put, kv_api.delete):
        with pytest.raises(Forbidden, match="may not change the KV store"):
            desk.call(handler, HOST1, key="nodeagent/config/mirror/web")


def test_a_host_reads_no_trail_of_who_changed_what(desk):
    put(desk, "nodeagent/audit/service-router/web")
    for key, query in (("nodeagent/audit/service-router/web", {}), ("nodeagent/audit/", {"keys": ""}), ("nodeagent/", {"recurse": ""})):
        with pytest.raises(Forbidden, match="below nodeagent/config/ only"):
            desk.call(kv_api.read, HOST1, query=query, key=key)
        assert desk.call(kv_api.read, Caller("r", "read"), query=query, key=key)


def test_who_may_change_a_services_entries_leaves_a_trail_of_it(desk):
    web, trail = Caller("w", "service", services=("web",)), "nodeagent/audit/service-router/web"
    assert desk.call(kv_api.read, web, key=trail) == 404
    assert desk.call(kv_api.put, web, b"{}", {"cas": "0"}, key=trail) is True
    assert desk.call(kv_api.read, web, key=trail)[0]["Key"] == trail
    put(desk, f"{trail}shop")
    for key, query in ((f"{trail}shop", {}), (trail, {"recurse": ""}), (trail, {"keys": ""}), ("nodeagent/audit/service-intentions/web", {})):
        with pytest.raises(Forbidden, match="below nodeagent/config/ only"):
            desk.call(kv_api.read, web, query=query, key=key)
    for handler, key in ((kv_api.put, f"{trail}shop"), (kv_api.put, "nodeagent/config/mirror/web"), (kv_api.delete, trail)):
        with pytest.raises(Forbidden, match="may not change the KV store"):
            desk.call(handler, web, key=key)


def test_nonsense_is_refused(desk):
    for handler in (kv_api.read, kv_api.put, kv_api.delete):
        with pytest.raises(BadRequest, match="a key has"):
            desk.call(handler, key="")
    with pytest.raises(BadRequest, match="cannot go with"):
        desk.call(kv_api.delete, query={"recurse": "", "cas": "1"}, key="a")


def test_watches_wait_for_their_own_keys(desk):
    put(desk, "a/1")
    key, below = desk.index(kv_api.read, key="a/1"), desk.index(kv_api.read, query={"recurse": ""}, key="a/")
    put(desk, "b/1")
    put(desk, "a/2")
    assert desk.index(kv_api.read, key="a/1") == key
    assert desk.index(kv_api.read, query={"recurse": ""}, key="a/") > below


@pytest.mark.parametrize("query", [{"recurse": "", "raw": ""}, {"recurse": "false"}, {"keys": "0"}, {"raw": "False"}, {"separator": "/"}, {"recurse": "", "separator": "/"}])
def test_what_consul_would_take_otherwise_is_refused(desk, query):
    """It gives the first value of many as the only one, takes every `recurse` for a yes, and heeds no `separator` there."""
    desk.call(kv_api.put, body=b"v", key="a/b")
    with pytest.raises(BadRequest, match=r"cannot go with|says yes to Consul"):
        desk.call(kv_api.read, query=query, key="a/b")


def test_a_removal_of_what_is_not_there_fails_at_no_index(desk):
    assert desk.call(kv_api.delete, query={"cas": "5"}, key="none") is True
    with pytest.raises(BadRequest, match="says yes to Consul"):
        desk.call(kv_api.delete, query={"recurse": "false"}, key="none")


def test_each_word_is_looked_at_although_one_is_enough(desk):
    with pytest.raises(BadRequest, match="keys=0 says yes to Consul"):
        desk.call(kv_api.read, query={"recurse": "", "keys": "0"}, key="a/b")
