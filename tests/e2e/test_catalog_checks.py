"""Health checks over HTTP: the same for the embedded catalog and for Consul 1.8.7, but for who looks."""

import contextlib
import itertools
import time
from pathlib import Path

import pytest

from tests.e2e.catalog_process import Process
from tests.e2e.support import consul

NAMES = (f"checked{number}" for number in itertools.count())
SOON_S = 10.0


@contextlib.contextmanager
def embedded(directory: Path):
    with Process(directory / "data") as process:
        client = process.client()
        client.ok("PUT", "/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1"})
        yield client


@pytest.fixture(scope="module", params=["embedded", "consul-dev", "consul-deny"])
def catalog(request, tmp_path_factory):
    """A catalog with the host `host1`; of Consul it is its agent's."""
    kinds = {"embedded": embedded, "consul-dev": consul.dev_mode, "consul-deny": consul.default_deny}
    with kinds[request.param](tmp_path_factory.mktemp(request.param)) as client:
        yield client


@pytest.fixture
def name():
    return next(NAMES)


def register(catalog, name, check, **more):
    catalog.ok("PUT", "/v1/agent/service/register?node=host1", {"Name": name, "ID": name, "Port": 80, "Check": check, **more})


def states(catalog, name):
    (row,) = catalog.ok("GET", f"/v1/health/service/{name}")
    return {check["CheckID"]: check["Status"] for check in row["Checks"] if check["ServiceID"]}


def until(catalog, name, wanted):
    end = time.monotonic() + SOON_S
    while (found := states(catalog, name)) != wanted:
        assert time.monotonic() < end, f"{found} instead of {wanted}"
        time.sleep(0.05)


def say(catalog, how, check_id):
    catalog.ok("PUT", f"/v1/agent/check/{how}/{check_id}?node=host1&note=so")


def test_a_service_with_a_ttl_check_is_well_once_it_says_so(catalog, name):
    register(catalog, name, {"TTL": "1h"})
    check_id = f"service:{name}"
    until(catalog, name, {check_id: "critical"})
    assert catalog.ok("GET", f"/v1/health/service/{name}?passing") == []
    for how, status in (("pass", "passing"), ("warn", "warning"), ("fail", "critical")):
        say(catalog, how, check_id)
        until(catalog, name, {check_id: status})
    catalog.ok("PUT", f"/v1/agent/check/update/{check_id}?node=host1", {"Status": "passing", "Output": "all is well"})
    until(catalog, name, {check_id: "passing"})
    (found,) = catalog.ok("GET", f"/v1/health/checks/{name}")
    assert (found["CheckID"], found["ServiceName"], found["Name"], found["Output"]) == (check_id, name, f"Service '{name}' check", "all is well")
    assert len(catalog.ok("GET", f"/v1/health/service/{name}?passing")) == 1


def test_who_does_not_say_in_time_that_it_is_well_is_critical(catalog, name):
    register(catalog, name, {"TTL": "1s", "Status": "passing"})
    until(catalog, name, {f"service:{name}": "critical"})
    say(catalog, "pass", f"service:{name}")
    until(catalog, name, {f"service:{name}": "passing"})
    until(catalog, name, {f"service:{name}": "critical"})


def test_a_ttl_begins_anew_with_each_registration(catalog, name):
    """Of a service, or of the check alone."""
    for _ in range(5):
        register(catalog, name, {"TTL": "2s", "Status": "passing"})
        catalog.ok("PUT", "/v1/agent/check/register?node=host1", {"Name": f"own-{name}", "ServiceID": name, "TTL": "2s", "Status": "passing"})
        time.sleep(0.8)
    assert states(catalog, name) == {f"service:{name}": "passing", f"own-{name}": "passing"}


def test_an_expiry_ends_a_blocking_query(catalog, name):
    register(catalog, name, {"TTL": "2s", "Status": "passing"})
    until(catalog, name, {f"service:{name}": "passing"})
    before = catalog.get(f"/v1/health/service/{name}")
    answer = catalog.get(f"/v1/health/service/{name}?index={before.index}&wait=50s")
    assert answer.index > before.index
    assert [check["Status"] for check in answer.json[0]["Checks"] if check["ServiceID"]] == ["critical"]


def test_a_check_that_is_changed_keeps_how_it_is(catalog, name):
    """Whoever changes an interval takes no instance out."""
    register(catalog, name, None, Checks=[{"TTL": "1h", "Status": "passing"}, {"TCP": "127.0.0.1:1", "Interval": "1h", "Status": "warning"}])
    known = {f"service:{name}:1": "passing", f"service:{name}:2": "warning"}
    until(catalog, name, known)
    register(catalog, name, None, Checks=[{"TTL": "2h"}, {"TCP": "127.0.0.1:2", "Interval": "2h", "Status": "passing"}])
    time.sleep(0.5)
    assert states(catalog, name) == known


def test_several_checks_of_a_service_are_numbered_and_the_worst_counts(catalog, name):
    register(catalog, name, None, Checks=[{"TTL": "1h", "Status": "passing"}, {"CheckID": f"own-{name}", "TTL": "1h", "Status": "warning"}])
    until(catalog, name, {f"service:{name}:1": "passing", f"own-{name}": "warning"})
    assert catalog.ok("GET", f"/v1/health/service/{name}?passing") == []
    mine = catalog.ok("GET", "/v1/agent/checks?node=host1")
    assert {f"service:{name}:1", f"own-{name}"} <= mine.keys()
    warned = catalog.ok("GET", "/v1/health/state/warning")
    assert f"own-{name}" in {check["CheckID"] for check in warned}


def test_a_check_is_added_to_a_service_and_taken_away(catalog, name):
    register(catalog, name, None)
    body = {"Name": "later", "ID": f"later-{name}", "ServiceID": name, "TTL": "1h", "Status": "warning"}
    catalog.ok("PUT", "/v1/agent/check/register?node=host1", body)
    until(catalog, name, {f"later-{name}": "warning"})
    catalog.ok("PUT", f"/v1/agent/check/deregister/later-{name}?node=host1")
    until(catalog, name, {})


def test_a_service_takes_its_checks_with_it(catalog, name):
    register(catalog, name, {"TTL": "1h"})
    catalog.ok("PUT", f"/v1/agent/service/deregister/{name}?node=host1")
    assert f"service:{name}" not in catalog.ok("GET", "/v1/agent/checks?node=host1")


def test_who_registers_again_with_other_checks_replaces_them_where_asked(catalog, name):
    register(catalog, name, {"CheckID": f"old-{name}", "TTL": "1h", "Status": "passing"})
    body = {"Name": name, "ID": name, "Port": 80, "Check": {"CheckID": f"new-{name}", "TTL": "1h", "Status": "warning"}}
    catalog.ok("PUT", "/v1/agent/service/register?node=host1&replace-existing-checks=true", body)
    until(catalog, name, {f"new-{name}": "warning"})


def test_a_check_may_be_told_with_the_registration_of_its_host(catalog, name):
    """As external monitors do it, of hosts without an agent."""
    check = {"CheckID": f"probe-{name}", "Name": "probe", "Status": "critical", "ServiceID": name, "Output": "no answer"}
    body = {"Node": "outside", "Address": "10.0.0.9", "Service": {"Service": name, "ID": name, "Port": 80}, "Check": check}
    catalog.ok("PUT", "/v1/catalog/register", body)
    until(catalog, name, {f"probe-{name}": "critical"})
    catalog.ok("PUT", "/v1/catalog/register", {**body, "SkipNodeUpdate": True, "Check": {**check, "Status": "passing"}})
    until(catalog, name, {f"probe-{name}": "passing"})
    assert f"probe-{name}" in {each["CheckID"] for each in catalog.ok("GET", "/v1/health/node/outside")}
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "outside", "CheckID": f"probe-{name}"})
    until(catalog, name, {})
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "outside"})


@pytest.mark.parametrize("body", [{"Name": "x"}, {"Name": "x", "HTTP": "http://127.0.0.1/"}, {"TTL": "1h"}, {"Name": "x", "TTL": "soon"}])
def test_a_check_that_is_none_is_refused(catalog, body):
    assert catalog.put("/v1/agent/check/register?node=host1", body).status == 400


def test_a_host_in_maintenance_is_among_all_that_are_critical(catalog):
    def shown():
        critical = [row["CheckID"] for row in catalog.ok("GET", "/v1/health/state/critical")]
        return "_node_maintenance" in critical, "_node_maintenance" in catalog.ok("GET", "/v1/agent/checks?node=host1")

    index = catalog.get("/v1/health/state/critical").index
    catalog.ok("PUT", "/v1/agent/maintenance?node=host1&enable=true&reason=disk")
    assert catalog.get(f"/v1/health/state/critical?index={index}&wait=20s").index > index
    assert shown() == (True, True)
    catalog.ok("PUT", "/v1/agent/maintenance?node=host1&enable=false")
    end = time.monotonic() + SOON_S
    while shown() != (False, False):
        assert time.monotonic() < end


def test_a_timeout_may_be_short_and_none_is_the_default(catalog, name):
    register(catalog, name, None)
    for said in ("250ms", "0s"):
        body = {"Name": f"look-{name}", "ServiceID": name, "TCP": "127.0.0.1:1", "Interval": "10s", "Timeout": said}
        catalog.ok("PUT", "/v1/agent/check/register?node=host1", body)
    both = {"Name": f"both-{name}", "ServiceID": name, "TTL": "10s", "Interval": "10s"}
    assert catalog.put("/v1/agent/check/register?node=host1", both).status == 400
