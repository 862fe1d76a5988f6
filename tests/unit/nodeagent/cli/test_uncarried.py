"""Connections from before the agent: which places count, and what a line says."""

from nodeagent.cli.uncarried import HEADERS, UncarriedRow, places_of, row_of
from nodeagent.control.report import InstancePart, ServicePart, ServicesAnswer
from nodeagent.process.uncarried import Place, Uncarried
from redirect.flow import Flow


def instance(address: str, *implied: str, is_local: bool = False, uncaptured: str = "") -> InstancePart:
    return InstancePart(
        id="web", host="host1", addresses=[address], implied=[*implied], healthy=True, is_local=is_local, is_meshed=True, uncaptured=uncaptured
    )


def test_places_are_those_that_are_captured() -> None:
    """A port that is never captured is gone around by design, and told elsewhere."""
    instances = [instance("10.0.0.1:80", is_local=True), instance("10.0.0.2:80", "[fd00::2]:80"), instance("10.0.0.3:22", uncaptured="ssh")]
    web = ServicePart(name="web", protocol="tcp", mode="strict", instances=instances, intentions=[])
    here, there, beside = Place(b"\x0a\0\0\1", 80), Place(b"\x0a\0\0\2", 80), Place(b"\xfd" + bytes(14) + b"\2", 80)
    assert places_of(ServicesAnswer(generation=1, services=[web], wildcards=[])) == ({here: "web", there: "web", beside: "web"}, {here})


def test_a_line_names_unit_and_both_ends() -> None:
    """The unit of whoever made the socket, where its cgroup is known."""
    found = Uncarried("outbound", Flow(b"\x0a\0\0\1", 40000, b"\x0a\0\0\2", 80), "web", 9)
    row = row_of(found, {9: "shop.service"})
    assert row == UncarriedRow("outbound", "web", "shop.service", "10.0.0.1:40000", "10.0.0.2:80")
    assert len(HEADERS) == 5
    assert row_of(found, {}).unit == ""
    v6 = Uncarried("inbound", Flow(bytes(15) + b"\1", 80, bytes(15) + b"\2", 4), "web", 0)
    assert row_of(v6, {}).here == "[::1]:80"
