"""What is sent to the catalog; sending it is tested in tests/e2e/test_lab.py."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.local_ca import LocalCa
from nodeagent.lab import catalog, layout
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError
from nodeagent.lab.progress import Progress
from nodeagent.lab.state import Holder

(HOST,) = layout.hosts_of("lab", 77, 1)


def test_a_service_is_registered_at_both_addresses() -> None:
    """A call to either is a call to the service."""
    assert catalog.service_entry(HOST, "web", 8080, (HOST.ipv4, HOST.ipv6)) == {
        "ID": "web", "Name": "web", "Address": "10.77.0.1", "Port": 8080,
        "TaggedAddresses": {
            "lan_ipv4": {"Address": "10.77.0.1", "Port": 8080}, "lan_ipv6": {"Address": "fd77::1", "Port": 8080},
        },
    }  # fmt: skip


def test_a_service_is_registered_only_where_it_listens() -> None:
    """An address that nobody answers at is not announced."""
    entry = catalog.service_entry(HOST, "web", 8080, (HOST.ipv6,))
    assert (entry["Address"], entry["TaggedAddresses"]) == ("fd77::1", {"lan_ipv6": {"Address": "fd77::1", "Port": 8080}})


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(ConnectionRefusedError(), CatalogAway), (TimeoutError(), CatalogSilent), (ValueError("?"), None)],
)
def test_a_catalog_that_is_away_is_told_from_one_that_refuses(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[LabError] | None
) -> None:
    """A script can try again where that may help."""

    def fail(*_: object) -> None:
        raise failure

    authority = LocalCa.create("t.consul", datetime.now(UTC))
    monkeypatch.setattr(catalog, "ca_pem", lambda _: authority.cert_pem)
    monkeypatch.setattr(catalog, "connect_in", fail)
    with pytest.raises(kind or ValueError):
        catalog.call(HOST, Holder(1, 1), "", "GET", "/v1/catalog/nodes")


def test_a_host_without_agent_has_no_marker() -> None:
    """The marker is the agent's own to write: with it, callers would expect tunnels."""
    assert catalog.node_entry(HOST) == {
        "Node": "host1", "Address": "10.77.0.1", "TaggedAddresses": {"lan_ipv4": "10.77.0.1", "lan_ipv6": "fd77::1"},
    }  # fmt: skip


def test_a_protocol_is_declared_as_consul_declares_it() -> None:
    """In the service's defaults."""
    assert catalog.protocol_entry("web", "http") == {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


def test_a_hosts_token_is_bound_to_its_name() -> None:
    """Any service, for in the lab units name services; no other host."""
    entry = catalog.token_entry(HOST)
    assert entry["NodeIdentities"] == [{"NodeName": "host1"}]
    assert entry["ServiceIdentities"] == [{"ServiceName": "*"}]


def test_a_hosts_token_names_its_two_addresses() -> None:
    """So that no other host of the lab can claim them, whoever registers first."""
    assert catalog.token_entry(HOST)["Addresses"] == ["10.77.0.1", "fd77::1"]


def test_a_management_token_that_is_gone_has_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that was restored into an empty directory has none; its start does not wait for one."""
    monkeypatch.setattr(catalog, "data_directory", lambda _: tmp_path)
    with pytest.raises(LabError, match=f"catalog --data {tmp_path} token create --management --out {tmp_path}/management.token"):
        catalog.management_token(HOST)
    asked = []
    monkeypatch.setattr(catalog, "call", lambda _hub, _holder, token, *what: asked.append((token, *what)))
    catalog._wait_answering(HOST, Holder(1, 1), Progress(print))
    assert asked == [("", "GET", "/v1/status/leader")]
