"""/v1/agent: acts on the host of the caller's token."""

import pytest

from nodeagent.embedded import agent_api, catalog_api
from nodeagent.embedded.refusal import BadRequest, Forbidden, Missing, NotFound
from tests.unit.nodeagent.embedded.desk import HOST1, HOST2, LAB


@pytest.fixture
def filled(desk):
    desk.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1"})
    desk.call(agent_api.register, HOST1, {"Name": "web", "Port": 80})
    return desk


def test_a_service_is_registered_on_the_tokens_own_host(filled):
    assert filled.call(catalog_api.health, name="web")[0]["Node"]["Node"] == "host1"
    shown = filled.call(agent_api.services, HOST1)
    assert (list(shown), shown["web"]["Datacenter"]) == (["web"], "dc1")
    assert filled.call(agent_api.services, HOST2) == {}


def test_a_service_goes_by_its_id(filled):
    filled.call(agent_api.deregister, HOST1, id="web")
    assert filled.call(agent_api.services, HOST1) == {}
    with pytest.raises(NotFound, match="no service with the ID 'web'"):
        filled.call(agent_api.deregister, HOST1, id="web")


def test_a_name_that_the_token_has_not_is_refused_naming_both(filled):
    with pytest.raises(Forbidden, match="host1 may not register service payments: it speaks for web, shop"):
        filled.call(agent_api.register, HOST1, {"Name": "payments"})
    filled.call(agent_api.register, LAB, {"Name": "payments"})


def test_a_kind_of_check_that_is_not_there_is_refused_aloud_and_nothing_is_registered(filled):
    with pytest.raises(Missing, match=r"Check\.Args is not implemented"):
        filled.call(agent_api.register, HOST1, {"Name": "shop", "Checks": [{"Args": ["/bin/true"], "Interval": "1s"}]})
    assert filled.call(catalog_api.health, name="shop") == []


def test_a_host_that_is_not_there_yet_is_said(desk):
    with pytest.raises(BadRequest, match="host1 is not registered: the agent there does it when it starts"):
        desk.call(agent_api.register, HOST1, {"Name": "web"})


def test_a_management_token_says_which_host(filled):
    with pytest.raises(BadRequest, match=r"say which with \?node="):
        filled.call(agent_api.register, body={"Name": "db"})
    filled.call(agent_api.register, body={"Name": "db"}, query={"node": "host1"})
    assert list(filled.call(agent_api.services, query={"node": "host1"})) == ["db", "web"]


def test_a_host_cannot_say_another(filled):
    with pytest.raises(Forbidden, match="host2 may not change host1"):
        filled.call(agent_api.register, HOST2, {"Name": "db"}, query={"node": "host1"})
    with pytest.raises(Forbidden, match="host2 may not change host1"):
        filled.call(agent_api.deregister, HOST2, query={"node": "host1"}, id="web")


def test_self_says_who_and_where(filled):
    shown = filled.call(agent_api.read_self, HOST1)
    assert (shown["Config"]["Datacenter"], shown["Config"]["NodeName"], shown["Member"]["Addr"]) == (
        "dc1",
        "host1",
        "10.0.0.1",
    )
    assert filled.call(agent_api.read_self)["Member"]["Addr"] == ""
