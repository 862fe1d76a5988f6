"""What each mode does with each kind of caller, towards hosts with an agent and without, and with clear text from outside."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from nodeagent.lab.catalog import node_entry
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import new_canary
from tests.support.eventually import eventually

PORTS = {"strict": 8080, "permissive": 8081, "observe": 8082}
"""On host2, which has an agent: a service for each mode, called as the mode is."""
BARE = {"bare-strict": 8090, "bare-ok": 8091, "bare-permissive": 8092, "bare-observe": 8093}
"""On host3, which has none."""
MODES = """
[service.permissive]
mode = "permissive"
[service.observe]
mode = "observe"
[service.bare-ok]
plaintext_ok = true
[service.bare-permissive]
mode = "permissive"
[service.bare-observe]
mode = "observe"
"""
SERVICES = PORTS | BARE


class Mesh(NamedTuple):
    """All services, and which host each is on."""

    lab: Lab
    apps: dict[str, App]

    def address(self, service: str, family: int = 4) -> str:
        """Where it is."""
        place = self.lab.host("host2" if service in PORTS else "host3")
        return place.ipv6 if family == 6 else place.ipv4

    def call(self, host: str, unit: str, service: str, line: str) -> set[str]:
        """What a call over each family was answered."""
        with Unit(self.lab, host, unit) as caller:
            return {call(caller, self.address(service, family), SERVICES[service], line) for family in (4, 6)}

    def rows(self, host: str, known: int) -> list[dict[str, Any]]:
        """What a host has recorded of both calls since then."""
        eventually(lambda: len(look.log_lines(self.lab, host)) >= known + 2, look.WITHIN_S, f"records on {host}")
        return look.log_lines(self.lab, host)[known:]


@pytest.fixture(scope="module")
def mesh(make_lab: MakeLab) -> Iterator[Mesh]:
    """`shop` may call everything."""
    lab = make_lab(agents=False, hosts=3)
    for host in ("host1", "host2"):
        edit_config(lab, host, {}, added=MODES)
        lab.start_agent(host)
    with ExitStack() as stack:
        places = {name: "host2" if name in PORTS else "host3" for name in SERVICES}
        apps = {name: stack.enter_context(App(lab, places[name], name, port)) for name, port in SERVICES.items()}
        look_allowed(lab)
        yield Mesh(lab, apps)


def look_allowed(lab: Lab) -> None:
    """`shop` may call everything, and both agents know."""
    lab.catalog(
        "PUT",
        "/v1/config",
        {"Kind": "service-intentions", "Name": "*", "Sources": [{"Name": "shop", "Action": "allow"}]},
    )
    for host in ("host1", "host2"):
        eventually(lambda at=host: look.ask(lab, at, "services")["wildcards"], look.WITHIN_S, f"{host} knows")


@pytest.mark.parametrize(
    ("service", "unit", "path", "note"),
    [
        ("strict", "shop", "tunnel", "shop -> * (allow)"),
        ("strict", "mallory", "none", "denied"),
        ("strict", "", "none", "unidentified"),
        ("permissive", "shop", "tunnel", "shop -> * (allow)"),
        ("permissive", "mallory", "none", "denied"),
        ("permissive", "", "direct", "unidentified"),
        ("observe", "shop", "direct", "would_allow: shop -> * (allow)"),
        ("observe", "mallory", "direct", "would_deny: mallory -> observe (default deny)"),
        ("observe", "", "direct", "would_deny: unidentified -> observe"),
        ("bare-strict", "shop", "none", "no_peer"),
        ("bare-strict", "mallory", "none", "no_peer"),
        ("bare-strict", "", "none", "unidentified"),
        ("bare-ok", "shop", "direct", "shop -> * (allow); no_peer"),
        ("bare-ok", "mallory", "none", "denied"),
        ("bare-ok", "", "none", "unidentified"),
        ("bare-permissive", "shop", "direct", "no_peer"),
        ("bare-permissive", "mallory", "direct", "no_peer"),
        ("bare-permissive", "", "direct", "unidentified"),
        ("bare-observe", "", "direct", "no_peer"),
    ],
)  # fmt: skip
def test_the_mode_decides_how_a_call_goes_on(
    mesh: Mesh, capture: Capture, service: str, unit: str, path: str, note: str
) -> None:
    """note: the permit or the reason. What does not go directly is never readable on the wire."""
    canary, passes = new_canary(), path != "none"
    wire, known = capture(mesh.lab), len(look.log_lines(mesh.lab, "host1"))
    assert mesh.call("host1", unit, service, canary) == {f"app:{canary}" if passes else "reset"}
    for row in mesh.rows("host1", known):
        assert (row["source"], row["destination"], row["path"]) == (unit, service, path)
        assert (row.get("permit", "") if passes else row["reason"]) == note
    assert (canary in mesh.apps[service].lines) == passes
    if path == "direct":
        wire.assert_in_clear(canary)
    else:
        assert_never_readable(wire.stop(), canary)


def assert_never_readable(capture: bytes, canary: str) -> None:
    """A refused call leaves nothing on the wire, so an empty capture is right."""
    assert re.search(re.escape(canary.encode()), capture) is None


@pytest.mark.parametrize("service", PORTS)
def test_clear_text_from_outside_reaches_what_takes_it(
    mesh: Mesh, capture: Capture, clear_canary: str, service: str
) -> None:
    """From machines that are not of the mesh. The application sees who calls; the record says that it was clear text."""
    passes = service != "strict"
    wire, known = capture(mesh.lab), len(look.log_lines(mesh.lab, "host2"))
    assert mesh.call("hub", "", service, clear_canary) == {f"app:{clear_canary}" if passes else "reset"}
    for row in mesh.rows("host2", known):
        assert (row["direction"], row["source"], row["destination"]) == ("plaintext", "", service)
        assert (row.get("permit"), row["reason"]) == (("plaintext", "ok") if passes else (None, "plaintext_refused"))
    hub = mesh.lab.host("hub")
    expected = {(clear_canary, hub.ipv4), (clear_canary, hub.ipv6)} if passes else set()
    assert {heard for heard in mesh.apps[service].heard if heard[0] == clear_canary} == expected
    if passes:  # a refusal may come before its caller has said a word
        wire.assert_in_clear(clear_canary)


def test_a_host_of_the_mesh_without_an_agent_is_an_outsider_too(mesh: Mesh) -> None:
    """Being registered proves nothing."""
    for service, passes in (("strict", False), ("permissive", True)):
        assert mesh.call("host3", "shop", service, "hello") == {"app:hello" if passes else "reset"}


def test_a_host_that_lost_its_marker_is_not_spoken_to_in_clear(mesh: Mesh, capture: Capture, canary: str) -> None:
    """Its agent is away, and the catalog no longer says that it has one: an alarm, and no call that could be read."""
    lab, wire = mesh.lab, capture(mesh.lab)
    lab.stop_agent("host2")
    lab.catalog("PUT", "/v1/catalog/register", node_entry(lab.host("host2")), token=lab.node_token("host2"))
    alarm = "host2: the catalog no longer says that an agent runs there"
    eventually(lambda: alarm in str(look.status(lab, "host1")["warnings"]), look.WITHIN_S, "the alarm")
    known = len(look.log_lines(lab, "host1"))
    for service in ("strict", "permissive"):
        assert mesh.call("host1", "shop", service, canary) == {"reset"}
    eventually(lambda: len(look.log_lines(lab, "host1")) >= known + 4, look.WITHIN_S, "records")
    assert {row["reason"] for row in look.log_lines(lab, "host1")[known:]} == {"peer_unreachable"}
    wire.assert_never_in_clear(canary)
