"""/v1/config: written by operators, read by all."""

import threading

import pytest

from nodeagent.embedded import config_api, entries
from nodeagent.embedded.access import Caller
from nodeagent.embedded.refusal import BadRequest, Forbidden
from tests.unit.nodeagent.embedded.desk import HOST1

WEB = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


def test_an_entry_is_written_read_and_removed(desk):
    assert desk.call(config_api.put, body=WEB) is True
    shown = desk.call(config_api.one, HOST1, kind="service-defaults", name="web")
    assert {**shown, "CreateIndex": 0, "ModifyIndex": 0} == {**WEB, "CreateIndex": 0, "ModifyIndex": 0}
    assert desk.call(config_api.every, HOST1, kind="service-defaults") == [shown]
    assert desk.call(config_api.delete, kind="service-defaults", name="web") == {}
    assert desk.call(config_api.one, kind="service-defaults", name="web") == 404


def test_what_was_read_can_be_written_back_with_its_index(desk):
    desk.call(config_api.put, body=WEB)
    shown = desk.call(config_api.one, kind="service-defaults", name="web")
    index = str(shown["ModifyIndex"])
    assert desk.call(config_api.put, body=shown | {"Protocol": "grpc"}, query={"cas": index}) is True
    assert desk.call(config_api.put, body=shown, query={"cas": index}) is False
    assert desk.call(config_api.delete, query={"cas": index}, kind="service-defaults", name="web") is False


def test_a_host_writes_none(desk):
    with pytest.raises(Forbidden, match="takes a management token"):
        desk.call(config_api.put, HOST1, WEB)
    with pytest.raises(Forbidden, match="takes a management token"):
        desk.call(config_api.delete, HOST1, kind="service-defaults", name="web")


@pytest.mark.parametrize("handler", [config_api.one, config_api.every, config_api.delete])
def test_an_unknown_kind_is_refused(desk, handler):
    with pytest.raises(BadRequest, match="known: service-intentions"):
        desk.call(handler, kind="service-cutter", name="web")


def test_an_entry_has_an_index_of_its_own(desk):
    desk.call(config_api.put, body=WEB)
    before = desk.index(config_api.one, kind="service-defaults", name="web")
    desk.call(config_api.put, body=WEB | {"Name": "db"})
    assert desk.index(config_api.one, kind="service-defaults", name="web") == before
    assert desk.index(config_api.every, kind="service-defaults") > before


SHOP = Caller("shop", "service", services=("shop",))


@pytest.mark.parametrize("caller", [HOST1, SHOP])
def test_what_a_body_says_is_looked_at_when_it_is_known_who_may(desk, caller, monkeypatch):
    looked = []
    monkeypatch.setattr(entries, "read_entry", looked.append)
    with pytest.raises(Forbidden):
        desk.call(config_api.put, caller, {"Kind": "service-router", "Name": "web", "Routes": [{"Match": {"HTTP": {"PathRegex": "("}}}]})
    with pytest.raises(Forbidden):
        desk.call(config_api.put, caller, {"kind": "service-router", "NAME": "web"})
    assert looked == []


def test_it_is_looked_at_beside_the_loop(desk, monkeypatch):
    real, where = entries.read_entry, []
    monkeypatch.setattr(entries, "read_entry", lambda body: where.append(threading.get_ident()) or real(body))
    assert desk.call(config_api.put, SHOP, WEB | {"Name": "shop"}) is True
    assert where
    assert threading.get_ident() not in where


@pytest.mark.parametrize("name", ["web", "", None, ["shop"], 5])
def test_whose_entry_it_is_cannot_be_told_twice(desk, name):
    with pytest.raises((Forbidden, BadRequest)):
        desk.call(config_api.put, SHOP, {"Kind": "service-router", "Name": "shop", "name": name, "Routes": []})
    with pytest.raises((Forbidden, BadRequest)):
        desk.call(config_api.put, SHOP, {"Kind": "service-router", "Name": name, "name": "shop", "Routes": []})
    assert desk.call(config_api.every, kind="service-router") == []
