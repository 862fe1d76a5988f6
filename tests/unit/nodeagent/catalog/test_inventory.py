"""Everything that is registered, as Consul 1.8.7 shows it in one answer."""

import json

import pytest

from nodeagent import limits
from nodeagent.catalog import inventory
from nodeagent.catalog.inventory import InventoryReader
from nodeagent.catalog.state import parse_instances
from nodeagent.errors import CatalogError

HOST1 = {"Node": "host1", "Address": "10.77.0.1", "TaggedAddresses": {"lan_ipv6": "fd77::1"}, "Meta": None}
HOST2 = {"Node": "host2", "Address": "10.77.0.2"}
SERF = {"Node": "host1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": "", "ServiceName": ""}


def service(name: str, port: int = 80, **more: object) -> dict:
    return {"ID": f"{name}-1", "Service": name, "Address": "", "Port": port, "Weights": {"Passing": 1, "Warning": 1}, **more}


def check(service_id: str, status: str) -> dict:
    return {"Node": "host1", "CheckID": f"service:{service_id}", "Status": status, "ServiceID": service_id}


def machine(host: dict, *services: dict, checks: tuple[dict, ...] = ()) -> dict:
    return host | {"Services": list(services), "Checks": list(checks)}


def read(*machines: dict, reader: InventoryReader | None = None) -> inventory.Inventory:
    return (reader or InventoryReader()).read(json.dumps(machines).encode())


def test_each_service_is_as_its_own_answer_says() -> None:
    """With the checks of its machine and its own, and no other's."""
    web, db = service("web", Address="10.9.9.9", Meta={"k": "v"}), service("db", 5432, Weights={"Passing": 5, "Warning": 2})
    checks = (SERF, check("web-1", "critical"), check("db-1", "warning"))
    told = read(machine(HOST2, service("web")), machine(HOST1, web, db, checks=checks))
    rows = [{"Node": HOST2, "Service": service("web")}, {"Node": HOST1, "Service": web, "Checks": [checks[0], checks[1]]}]
    assert told.instances == {
        "web": parse_instances("web", json.dumps(rows).encode()),
        "db": parse_instances("db", json.dumps([{"Node": HOST1, "Service": db, "Checks": [checks[0], checks[2]]}]).encode()),
    }
    assert [row.instance.healthy for row in told.instances["web"]] == [False, True]
    assert told.refused == {}


def test_what_is_no_service_of_the_mesh_is_left_out() -> None:
    others = (
        service("web-proxy", Kind="connect-proxy"), service("gateway", Kind="mesh-gateway"), service("consul"), service("nodeagent"),
        service("a b"), service("far", PeerName="other"),
    )  # fmt: skip
    told = read(machine(HOST1, *others), machine(HOST2 | {"PeerName": "other"}, service("web")), HOST2, HOST1 | {"Services": None})
    assert told == ({}, {})


@pytest.mark.parametrize("odd", [{"Port": 70000}, {"Address": "a b!"}])
def test_an_odd_row_is_its_service_s_alone(odd: dict) -> None:
    told = read(machine(HOST1, service("web"), service("db", **odd)), machine(HOST2, service("db")))
    assert list(told.instances) == ["web"]
    assert list(told.refused) == ["db"]
    assert "host1.Service." in told.refused["db"]


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"[{}]", b"[{]", b'[{"Node": "a", "Services": 1}]', b"\xff"])
def test_what_is_no_such_answer_is_refused(body: bytes) -> None:
    with pytest.raises(CatalogError, match="internal/ui/nodes"):
        InventoryReader().read(body)


@pytest.mark.parametrize("body", [b"null", b"[]", b"[null]"])
def test_nothing_is_nothing(body: bytes) -> None:
    assert InventoryReader().read(body) == ({}, {})


def test_a_machine_whose_bytes_are_as_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = inventory._of_machine
    monkeypatch.setattr(inventory, "_of_machine", lambda raw: (parsed.append(raw), parse(raw))[1])
    reader = InventoryReader()
    first = read(machine(HOST1, service("web")), machine(HOST2, service("web")), reader=reader)
    assert len(parsed) == 2
    second = read(machine(HOST2, service("web")), machine(HOST1, service("web", 81)), reader=reader)
    assert len(parsed) == 3
    assert second.instances["web"][1] is first.instances["web"][1]
    assert [row.instance.addresses[0].port for row in second.instances["web"]] == [81, 80]
    assert read(machine(HOST1, service("web", 81)), reader=reader).instances["web"] == second.instances["web"][:1]


def test_large_and_small_letters_are_the_same_as_where_one_service_is_asked_for() -> None:
    """Consul finds `Web` where `web` is asked for, and a check by an id in other letters."""
    told = read(machine(HOST1, service("Web"), checks=(check("WEB-1", "critical"),)), machine(HOST2, service("web"), service("Nodeagent")))
    assert [row.instance.healthy for row in told.instances["web"]] == [False, True]
    assert list(told.instances) == ["web"]


def test_a_check_without_a_service_counts_once_for_a_service_without_an_id() -> None:
    told = read(machine(HOST1, service("web") | {"ID": ""}, checks=({**SERF, "Status": "critical"}, check("db-1", "warning"))))
    assert [row.instance.healthy for row in told.instances["web"]] == [False]


def test_two_answers_may_be_read_at_once() -> None:
    """Whoever is cancelled leaves its thread behind, which goes on beside the next one's."""
    reader = InventoryReader()
    first = read(machine(HOST1, service("web")), reader=reader)

    class Known(dict):
        def __contains__(self, key: object) -> bool:
            reader._known = {}  # so the other thread ends
            return super().__contains__(key)

    reader._known = Known(reader._known)
    assert read(machine(HOST1, service("web")), reader=reader) == first


def test_an_answer_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = (machine(HOST1, service("web"), service("db")), machine(HOST2, service("web")))
    monkeypatch.setattr(limits, "CATALOG_INSTANCES", 1)
    told = read(*machines)
    assert (list(told.instances), list(told.refused)) == (["db"], ["web"])
    for name in ("CATALOG_HOSTS", "CATALOG_SERVICES"):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, 1)
            with pytest.raises(CatalogError, match="at most 1 are taken"):
                read(*machines)
