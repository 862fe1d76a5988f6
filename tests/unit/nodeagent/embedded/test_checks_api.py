"""Checks over HTTP: registered, told, read, and who may."""

import pytest

from nodeagent import limits
from nodeagent.embedded import agent_api, catalog_api, checks_api
from nodeagent.embedded.access import Caller
from nodeagent.embedded.refusal import BadRequest, Forbidden, TooLarge
from tests.unit.nodeagent.embedded.desk import HOST1, HOST2

TTL = {"TTL": "30s"}
PORT = {"TCP": "127.0.0.1:80", "Interval": "10s"}


@pytest.fixture
def filled(desk):
    desk.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1"})
    desk.call(catalog_api.register, HOST2, {"Node": "host2", "Address": "10.0.0.2"})
    desk.call(agent_api.register, HOST1, {"Name": "web", "Port": 80, "Check": TTL})
    return desk


def states(desk, name="web"):
    return [{check["CheckID"]: check["Status"] for check in row["Checks"]} for row in desk.call(catalog_api.health, name=name)]


def test_a_check_is_critical_until_somebody_says_so_and_the_same_again_writes_nothing(filled):
    assert states(filled) == [{"service:web": "critical"}]
    filled.call(checks_api.passing, HOST1, query={"note": "fine"}, id="service:web")
    assert states(filled) == [{"service:web": "passing"}]
    index = filled.index(catalog_api.health, name="web")
    for _ in range(3):
        filled.call(checks_api.passing, HOST1, query={"note": "fine"}, id="service:web")
    filled.call(agent_api.register, HOST1, {"Name": "web", "Port": 80, "Check": TTL})
    assert filled.index(catalog_api.health, name="web") == index
    assert states(filled) == [{"service:web": "passing"}], "who registers again disturbs nothing"


def test_words_that_say_nothing_new_of_the_status_wake_nobody_each_time(filled):
    filled.call(checks_api.passing, HOST1, query={"note": "1"}, id="service:web")
    filled.call(checks_api.passing, HOST1, query={"note": "2"}, id="service:web")
    index = filled.index(catalog_api.health, name="web")
    filled.call(checks_api.passing, HOST1, query={"note": "3"}, id="service:web")
    assert filled.index(catalog_api.health, name="web") == index
    filled.call(checks_api.failing, HOST1, query={"note": "4"}, id="service:web")
    assert filled.index(catalog_api.health, name="web") > index


def test_a_changed_check_keeps_how_it_is_until_somebody_says_else(filled):
    """Whoever changes a TTL or an interval takes no instance out."""
    filled.call(checks_api.passing, HOST1, query={"note": "fine"}, id="service:web")
    filled.call(agent_api.register, HOST1, {"Name": "web", "Port": 80, "Check": {"TTL": "60s", "Notes": "new"}})
    assert states(filled) == [{"service:web": "passing"}]
    (row,) = filled.call(checks_api.of_service, name="web")
    assert (row["Output"], row["Notes"]) == ("fine", "new")
    filled.call(checks_api.register, HOST1, {"Name": "service:web", "ServiceID": "web", **PORT})
    assert states(filled) == [{"service:web": "passing"}], "the next look decides"


def test_nobody_else_says_how_a_check_is(filled):
    others = (Caller("svc", "service", services=("db",)), Caller("r", "read"))
    for caller in others:
        filled.add(caller)
    for caller, error in zip((HOST2, *others), ("host2", "db", "reading"), strict=True):
        with pytest.raises(Forbidden, match=error):
            filled.call(checks_api.passing, caller, query={"node": "host1"}, id="service:web")
        with pytest.raises(Forbidden, match=error):
            filled.call(checks_api.deregister, caller, query={"node": "host1"}, id="service:web")
        with pytest.raises(Forbidden, match=error):
            filled.call(checks_api.register, caller, {"Name": "x", "ServiceID": "web", **TTL}, query={"node": "host1"})
    mine = Caller("mine", "service", services=("web",))
    filled.add(mine)
    filled.call(checks_api.passing, mine, query={"node": "host1"}, id="service:web")
    with pytest.raises(Forbidden, match="host1"):
        filled.call(checks_api.register, mine, {"Name": "of the host", **TTL}, query={"node": "host1"})
    assert states(filled) == [{"service:web": "passing"}]


def test_what_the_agent_looks_at_is_not_for_others_to_say(filled):
    filled.call(checks_api.register, HOST1, {"Name": "port", "ServiceID": "web", **PORT})
    for say in (checks_api.passing, checks_api.warning, checks_api.failing):
        with pytest.raises(BadRequest, match="port is no TTL check: the host's agent looks"):
            filled.call(say, HOST1, id="port")
    filled.call(checks_api.update, HOST1, {"Status": "passing", "Output": "Success"}, id="port")
    assert states(filled) == [{"port": "passing", "service:web": "critical"}]
    with pytest.raises(BadRequest, match="no TTL check"):
        filled.call(checks_api.update, body={"Status": "critical"}, query={"node": "host1"}, id="port")


def test_an_agent_is_told_its_own_duties_with_their_headers_and_nobody_else_is(filled):
    secret = {"Name": "page", "ServiceID": "web", "HTTP": "http://127.0.0.1/", "Interval": "5s", "Header": {"Authorization": ["s3cret"]}}
    filled.call(checks_api.register, HOST1, secret)
    (duty,) = filled.call(checks_api.duties, HOST1)
    assert (duty["CheckID"], duty["Header"], duty["IntervalS"], duty["TimeoutS"]) == ("page", {"Authorization": ["s3cret"]}, 5.0, 10.0)
    with pytest.raises(Forbidden):
        filled.call(checks_api.duties, HOST2, query={"node": "host1"})
    seen = [
        filled.call(catalog_api.health, HOST2, name="web"), filled.call(catalog_api.health_of_node, HOST2, node="host1"),
        filled.call(checks_api.of_service, HOST2, name="web"), filled.call(checks_api.in_state, HOST2, state="any"),
        filled.call(checks_api.checks, HOST2, query={"node": "host1"}),
    ]  # fmt: skip
    assert "page" in str(seen)
    assert "s3cret" not in str(seen)


def test_a_check_of_the_host_is_about_all_that_runs_there(filled):
    before = filled.index(catalog_api.health, name="web")
    filled.call(checks_api.register, HOST1, {"Name": "disk", "Status": "passing", **TTL})
    assert states(filled) == [{"disk": "passing", "service:web": "critical"}]
    assert filled.index(catalog_api.health, name="web") > before
    assert [row["CheckID"] for row in filled.call(checks_api.of_service, name="web")] == ["service:web"]


def test_an_agent_is_sent_to_no_other_host(filled):
    for target in ("10.0.0.2:80", "192.0.2.1:80"):
        with pytest.raises(BadRequest, match="no address of host1: its agent looks at its own host only"):
            filled.call(checks_api.register, HOST1, {"Name": "x", "ServiceID": "web", "TCP": target, "Interval": "10s"})
    filled.call(checks_api.register, HOST1, {"Name": "x", "ServiceID": "web", "TCP": "10.0.0.1:80", "Interval": "10s"})


def test_what_is_told_with_a_hosts_registration_stands_as_it_is_told(filled):
    check = {"CheckID": "probe", "Name": "probe", "Status": "warning", "ServiceID": "web", "Output": "slow"}
    body = {"Node": "host1", "SkipNodeUpdate": True, "Check": check}
    filled.call(catalog_api.register, HOST1, body)
    assert states(filled) == [{"probe": "warning", "service:web": "critical"}]
    filled.call(catalog_api.register, HOST1, {**body, "Check": {**check, "Status": "passing"}})
    assert states(filled) == [{"probe": "passing", "service:web": "critical"}]
    with pytest.raises(BadRequest, match="no TTL check: whoever registered it"):
        filled.call(checks_api.passing, HOST1, id="probe")
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1", "CheckID": "probe"})
    assert filled.call(catalog_api.deregister, HOST1, {"Node": "host1", "CheckID": "probe"}) is True
    with pytest.raises(Forbidden):
        filled.call(catalog_api.register, HOST2, body)


def test_a_host_or_service_that_is_not_there_has_no_checks(filled):
    with pytest.raises(BadRequest, match="no service with the ID 'db'"):
        filled.call(checks_api.register, HOST1, {"Name": "x", "ServiceID": "db", **TTL})
    with pytest.raises(BadRequest, match="nobody is not registered"):
        filled.call(checks_api.register, body={"Name": "x", **TTL}, query={"node": "nobody"})
    with pytest.raises(BadRequest, match="'bad' is no state: use any, passing, warning, critical"):
        filled.call(checks_api.in_state, state="bad")


def test_one_service_has_its_share_of_checks(filled):
    for number in range(limits.CHECKS_PER_SERVICE - 1):
        filled.call(checks_api.register, HOST1, {"Name": f"n{number}", "ServiceID": "web", **TTL})
    with pytest.raises(TooLarge, match="web has 16 checks, which is the limit"):
        filled.call(checks_api.register, HOST1, {"Name": "more", "ServiceID": "web", **TTL})


def test_checks_go_with_their_service_and_host_and_watchers_hear_of_it(filled):
    before = filled.index(checks_api.in_state, state="any")
    filled.call(agent_api.deregister, HOST1, id="web")
    assert filled.call(checks_api.in_state, state="any") == []
    assert filled.index(checks_api.in_state, state="any") > before
    filled.call(checks_api.register, HOST1, {"Name": "disk", **TTL})
    before = filled.index(checks_api.in_state, state="any")
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1"})
    assert filled.call(checks_api.in_state, state="any") == []
    assert filled.index(checks_api.in_state, state="any") > before


def test_those_that_are_replaced_go(filled):
    body = {"Name": "web", "Port": 80, "Checks": [{"CheckID": "new", **TTL}]}
    filled.call(agent_api.register, HOST1, body)
    assert states(filled) == [{"new": "critical", "service:web": "critical"}]
    filled.call(agent_api.register, HOST1, body, query={"replace-existing-checks": "true"})
    assert states(filled) == [{"new": "critical"}]


def test_a_services_token_takes_no_check_of_another_and_sends_no_agent_anywhere(filled):
    mine = Caller("mal", "service", services=("mal",), addresses=("10.0.0.0/8",))
    filled.add(mine)
    filled.call(checks_api.register, HOST1, {"Name": "disk", **TTL})
    filled.call(agent_api.register, mine, {"Name": "mal", "Port": 81}, query={"node": "host1"})
    for name in ("service:web", "disk"):
        with pytest.raises(Forbidden, match="token for mal"):
            filled.call(checks_api.register, mine, {"Name": name, "ServiceID": "mal", **TTL}, query={"node": "host1"})
        body = {"Node": "host1", "SkipNodeUpdate": True, "Check": {"CheckID": name, "ServiceID": "mal", "Status": "passing"}}
        with pytest.raises(Forbidden, match="token for mal"):
            filled.call(catalog_api.register, mine, body)
    for look in (PORT, {"HTTP": "http://127.0.0.1:9200/_all", "Interval": "1s"}):
        with pytest.raises(Forbidden, match="may not have the agent of host1 look at something"):
            filled.call(checks_api.register, mine, {"Name": "x", "ServiceID": "mal", **look}, query={"node": "host1"})
    assert states(filled) == [{"disk": "critical", "service:web": "critical"}]


def test_a_hosts_token_tells_and_removes_whatever_its_agent_looks_at(filled):
    filled.call(agent_api.register, body={"Name": "other", "Port": 82, "Check": PORT}, query={"node": "host1"})
    filled.call(checks_api.update, HOST1, {"Status": "passing"}, id="service:other")
    assert states(filled, "other") == [{"service:other": "passing"}]


def test_a_beat_that_changes_nothing_is_no_write_of_its_token(filled, monkeypatch):
    filled.call(checks_api.passing, HOST1, id="service:web")
    taken = []
    monkeypatch.setattr(filled.server.pace, "take", lambda accessor, _now: taken.append(accessor))
    filled.call(checks_api.passing, HOST1, id="service:web")
    assert taken == []
    filled.call(checks_api.failing, HOST1, id="service:web")
    assert taken == [HOST1.accessor]


def test_a_check_that_moves_needs_room_where_it_goes(filled):
    filled.call(agent_api.register, HOST1, {"Name": "shop", "Port": 81})
    for number in range(limits.CHECKS_PER_SERVICE):
        filled.call(checks_api.register, HOST1, {"Name": f"n{number}", "ServiceID": "shop", **TTL})
    with pytest.raises(TooLarge, match="shop has 16 checks"):
        filled.call(checks_api.register, HOST1, {"Name": "service:web", "ServiceID": "shop", **TTL})
    assert states(filled) == [{"service:web": "critical"}]
