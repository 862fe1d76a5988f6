"""/v1/config: written by operators, read by all."""

import pytest

from nodeagent.embedded import config_api
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
