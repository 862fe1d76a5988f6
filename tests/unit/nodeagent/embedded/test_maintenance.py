"""Hosts that take no new work."""

import pytest

from nodeagent.embedded import agent_api, catalog_api, checks_api
from nodeagent.embedded.check import NODE_MAINTENANCE
from nodeagent.embedded.database import open_database
from nodeagent.embedded.datadir import DATABASE
from nodeagent.embedded.maintenance import REASON_CHARS, parse_wish
from nodeagent.embedded.refusal import BadRequest, Forbidden, NotFound
from tests.unit.nodeagent.embedded.desk import HOST1, HOST2

ON, OFF = {"enable": "true", "reason": "disk"}, {"enable": "false"}


@pytest.fixture
def filled(desk):
    desk.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1"})
    desk.call(agent_api.register, HOST1, {"Name": "web", "Port": 80})
    desk.call(catalog_api.register, HOST2, {"Node": "host2", "Address": "10.0.0.2"})
    return desk


def checks(desk, name="web"):
    return [row["Checks"] for row in desk.call(catalog_api.health, name=name)]


def test_a_host_puts_itself_into_maintenance_as_with_consul(filled):
    filled.call(agent_api.maintain, HOST1, query=ON)
    ((check,),) = checks(filled)
    assert (check["CheckID"], check["Status"], check["Notes"], check["Node"]) == (NODE_MAINTENANCE, "critical", "disk", "host1")
    assert filled.call(catalog_api.health_of_node, HOST2, node="host1") == [check]
    assert filled.call(catalog_api.health, name="web", query={"passing": ""}) == []
    filled.call(agent_api.maintain, HOST1, query=OFF)
    assert checks(filled) == [[]]
    assert len(filled.call(catalog_api.health, name="web", query={"passing": "1"})) == 1
    assert filled.call(catalog_api.health_of_node, node="nobody") == []


def test_maintenance_is_among_the_hosts_checks_and_all_that_are_critical_as_with_consul(filled):
    """Whoever waits there hears of its begin and its end, also by the host's own."""

    def shown():
        lists = [filled.call(checks_api.in_state, state=state) for state in ("critical", "any", "passing")]
        return [[row["CheckID"] for row in rows] for rows in (*lists, filled.call(checks_api.checks, HOST1).values())]

    before = filled.index(checks_api.in_state, state="any")
    filled.call(agent_api.maintain, HOST1, query=ON)
    begun = filled.index(checks_api.in_state, state="any")
    assert shown() == [[NODE_MAINTENANCE], [NODE_MAINTENANCE], [], [NODE_MAINTENANCE]]
    assert filled.call(checks_api.in_state, state="any", query={"node-meta": "rack:1"}) == []
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1"})
    assert before < begun < filled.index(checks_api.in_state, state="any")
    assert shown() == [[], [], [], []]


def test_nobody_registers_a_check_by_that_name(filled):
    """It would be shown beside it, and no `undrain` would end it."""
    with pytest.raises(BadRequest, match="is the host's maintenance: PUT /v1/agent/maintenance"):
        filled.call(checks_api.register, HOST1, {"CheckID": NODE_MAINTENANCE, "Name": "x", "TTL": "1m"})
    with pytest.raises(BadRequest, match="is the host's maintenance"):
        filled.call(catalog_api.register, HOST1, {"Node": "host1", "SkipNodeUpdate": True, "Check": {"CheckID": NODE_MAINTENANCE}})


def test_a_host_stays_there_however_often_it_registers_and_what_is_registered_later_is_there_too(filled):
    filled.call(agent_api.maintain, HOST1, query=ON)
    filled.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1", "NodeMeta": {"nodeagent": "15008;v1"}})
    filled.call(agent_api.register, HOST1, {"Name": "shop", "Port": 81})
    assert [len(each) for name in ("web", "shop") for each in checks(filled, name)] == [1, 1]
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1"})
    filled.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}})
    assert checks(filled) == [[]], "a host that was removed comes back as a new one"


def test_the_same_again_wakes_nobody(filled):
    filled.call(agent_api.maintain, HOST1, query=ON)
    index = filled.index(catalog_api.health, name="web")
    filled.call(agent_api.maintain, HOST1, query=ON)
    assert filled.index(catalog_api.health, name="web") == index
    filled.call(agent_api.maintain, HOST1, query=OFF)
    assert filled.index(catalog_api.health, name="web") > index
    assert filled.index(catalog_api.health_of_node, node="host1") > index


def test_a_host_may_not_drain_another(filled):
    with pytest.raises(Forbidden, match="host2 may not change host1"):
        filled.call(agent_api.maintain, HOST2, query=ON | {"node": "host1"})
    filled.call(agent_api.maintain, query=ON | {"node": "host1"})
    with pytest.raises(NotFound, match="host9 is not registered"):
        filled.call(agent_api.maintain, query=ON | {"node": "host9"})


@pytest.mark.parametrize("query", [{}, {"enable": "yes"}, {"enable": "true", "reason": "x" * (REASON_CHARS + 1)}])
def test_a_wish_that_makes_no_sense_is_refused(query):
    with pytest.raises(BadRequest, match=r"enable: must be|reason: "):
        parse_wish(query)


def test_a_file_of_a_program_that_knows_no_maintenance_gets_its_table(filled):
    path = filled.directory / DATABASE
    with open_database(path) as connection:
        connection.execute("DROP TABLE maintenance")
    connection.close()
    open_database(path, create=True).close()
    filled.call(agent_api.maintain, HOST1, query=ON)
    assert len(checks(filled)[0]) == 1
