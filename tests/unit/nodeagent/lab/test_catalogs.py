"""Which catalog a lab has; what each does is tested in tests/e2e."""

import msgspec
import pytest

from nodeagent.lab import catalog, cgroup, consul, layout
from nodeagent.lab.catalogs import Consul, Embedded, LabCatalog, catalog_of
from nodeagent.lab.state import Holder, LabState

STATE = LabState("demo", 78, 2, "strict", 2)
WITH_CONSUL = msgspec.structs.replace(STATE, consul="/usr/bin/consul")


def test_a_lab_has_the_embedded_one_unless_a_program_is_named() -> None:
    """The hub runs another unit, and hosts find it elsewhere."""
    made: list[LabCatalog] = [catalog_of(STATE), catalog_of(WITH_CONSUL)]
    assert [type(each) for each in made] == [Embedded, Consul]
    assert [each.unit for each in made] == ["nodeagent-catalog", "consul"]
    assert "https://10.78.0.250:8501" in made[0].place
    assert "127.0.0.1:8500" in made[1].place


def test_what_is_meant_of_a_host_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consul's agent answers for its own host; the embedded catalog knows by the token."""
    monkeypatch.setattr(LabState, "holder", lambda _, host: Holder(host.number, 1))
    for module in (catalog, consul):
        monkeypatch.setattr(module, "management_token", lambda _: "root")
        monkeypatch.setattr(module, "call", lambda host, holder, token, *_: (host.name, holder.pid, token))
    (host, _) = STATE.members
    hub = layout.HUB_NUMBER
    assert catalog_of(WITH_CONSUL).ask("GET", "/", token="t", at=host) == ("host1", 1, "t")
    assert catalog_of(WITH_CONSUL).ask("GET", "/") == ("hub", hub, "root")
    assert catalog_of(STATE).ask("GET", "/", token="t", at=host) == ("hub", hub, "t")


def test_a_kill_is_of_the_unit_in_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kills its own."""
    killed: list[str] = []
    monkeypatch.setattr(cgroup, "destroy", killed.append)
    catalog_of(STATE).kill()
    catalog_of(WITH_CONSUL).kill()
    assert [each.rpartition("/")[2] for each in killed] == ["nodeagent-catalog.service", "consul.service"]
