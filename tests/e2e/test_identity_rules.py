"""Who a process is by configuration: units of registered services, listed units, rules by unit and by uid."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, call_with, marks_in_kernel, move, orphan, place_of
from tests.e2e.support.echo import Echo
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire, new_canary
from tests.support.eventually import eventually

WEB, LOCAL, FREE = 8080, 7000, 9090
UNITS = 'units = "any"'
RULES = r"""
[[workload]]
selector = "systemd:id:cron.service"
service = "report"

[[workload]]
selector = 'systemd:id:a\x2db.service'
service = "escaped"

[[workload]]
selector = "systemd:id:web@1.service"
service = "first"

[[workload]]
selector = "unix:uid:64123"
service = "batch"
"""
USER = "64123"


class Mesh(NamedTuple):
    """A service on host2 for everybody, and three hosts that name their processes differently."""

    lab: Lab
    web: App

    def source(self, unit: Unit, host: str, line: str, family: int = 4) -> str:
        """Whom the callee sees; `unidentified` or `denied` if it sees nobody."""
        place = self.lab.host("host2")
        known = len(look.log_lines(self.lab, host))
        answer = call(unit, place.ipv6 if family == 6 else place.ipv4, WEB, line)
        eventually(lambda: len(look.log_lines(self.lab, host)) > known, look.WITHIN_S, f"a record on {host}")
        (row,) = look.log_lines(self.lab, host)[known:]
        assert answer == (f"app:{line}" if row["reason"] == "ok" else "reset")
        return str(row["source"] if row["reason"] == "ok" else row["reason"])


@pytest.fixture(scope="module")
def mesh(make_lab: MakeLab) -> Iterator[Mesh]:
    """host1: registered units, the default. host3: a list. host4: rules, and registered units."""
    lab = make_lab(agents=False, hosts=4)
    edit_config(lab, "host1", {UNITS: 'units = "registered"'})
    edit_config(lab, "host3", {UNITS: 'units = ["shop", "till.service"]'})
    edit_config(lab, "host4", {UNITS: 'units = "registered"'}, added=RULES)
    for host in lab.state.members:
        lab.start_agent(host.name)
    with App(lab, "host2", "web", WEB) as web:
        for host in ("host1", "host4"):
            lab.register(host, f"front-{host}", LOCAL)
        look.allow(lab, "*", "web")
        yield Mesh(lab, web)


@pytest.fixture(scope="module")
def text(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the tests send; it is never readable between the hosts."""
    wire = Wire(mesh.lab, tmp_path_factory.mktemp("wire"))
    canary = new_canary()
    try:
        yield canary
        wire.assert_never_in_clear(canary)
    finally:
        wire.close()


@pytest.mark.parametrize(
    ("host", "unit", "source"),
    [
        ("host1", "front-host1", "front-host1"),
        ("host1", "front-host4", "unidentified"),
        ("host1", "web", "unidentified"),
        ("host1", "shop", "unidentified"),
        ("host1", "", "unidentified"),
        ("host3", "shop", "shop"),
        ("host3", "till", "till"),
        ("host3", "front-host1", "unidentified"),
        ("host4", "cron", "report"),
        ("host4", "front-host4", "front-host4"),
        ("host4", "shop", "unidentified"),
    ],
)
def test_a_unit_speaks_as_what_its_host_says(mesh: Mesh, text: str, host: str, unit: str, source: str) -> None:
    """A unit of a name that is a service's elsewhere is nobody here, and the default names no other units."""
    with Unit(mesh.lab, host, unit) as caller:
        assert mesh.source(caller, host, text) == source
        assert mesh.source(caller, host, text, 6) == source


@pytest.mark.parametrize("cgroup", ["", "user.slice/user-64123.slice/user@64123.service/app.slice/shop.service"])
@pytest.mark.parametrize(("user", "source"), [(USER, "batch"), ("64124", "unidentified"), ("", "unidentified")])
def test_a_process_of_no_unit_speaks_by_its_uid(mesh: Mesh, text: str, cgroup: str, user: str, source: str) -> None:
    """Cron jobs and shells, whatever their user calls its own units."""
    with Unit(mesh.lab, "host4", user=user) as caller:
        if cgroup:
            move(caller, mesh.lab, "host4", cgroup)
        assert mesh.source(caller, "host4", text) == source
        assert mesh.source(caller, "host4", text, 6) == source


def test_the_first_rule_that_fits_decides_stamped_or_not(mesh: Mesh, text: str) -> None:
    """Who a process is does not depend on how long its unit has been there."""
    for name, source in (("front-host4", "batch"), ("shop", "batch"), ("cron", "report")):
        with Unit(mesh.lab, "host4", name, user=USER) as caller:
            move(caller, mesh.lab, "host4", f"system.slice/a.slice/b.slice/c.slice/{name}.service")
            assert mesh.source(caller, "host4", text) == source, "never stamped"
            move(caller, mesh.lab, "host4", f"system.slice/{name}.service")
            eventually(lambda unit=name: unit in marks_in_kernel(mesh.lab, "host4"), look.WITHIN_S, "it is stamped")
            assert mesh.source(caller, "host4", text) == source, "stamped"


@pytest.mark.parametrize(
    ("cgroup", "source"),
    [
        (r"system.slice/system-a\x2db.slice/a\x2db.service", "escaped"),
        (r"system.slice/a\x2db.service/a-b.service", "escaped"),
        ("system.slice/a-b.service", "unidentified"),
        (r"user.slice/user-64123.slice/user@64123.service/app.slice/a\x2db.service", "unidentified"),
        (r"machine.slice/a\x2db.service", "unidentified"),
        (r"machine.slice/machine-c1.scope/system.slice/a\x2db.service", "unidentified"),
        (r"system.slice/web@2.service/a\x2db.service", "unidentified"),
        ("system.slice/system-web.slice/web@1.service", "first"),
        ("system.slice/system-web.slice/web@2.service", "unidentified"),
        ("system.slice/system-web.slice/web@1.service.scope", "unidentified"),
        ("user.slice/user-64123.slice/user@64123.service/app.slice/web@1.service", "unidentified"),
    ],
)
def test_a_rule_means_the_host_s_own_unit_of_exactly_that_name(mesh: Mesh, text: str, cgroup: str, source: str) -> None:
    """Escaped names, templates, and what only looks like them; before and after the kernel's map knows the unit."""
    is_unit = source != "unidentified"
    with Unit(mesh.lab, "host4") as caller:
        move(caller, mesh.lab, "host4", cgroup)
        assert mesh.source(caller, "host4", text) == source
        name = r"a\x2db" if source == "escaped" else "web@1"
        eventually(lambda: not is_unit or name in marks_in_kernel(mesh.lab, "host4"), look.WITHIN_S, "it is stamped")
        assert mesh.source(caller, "host4", text, 6) == source
        move(caller, mesh.lab, "host4", "init.scope")
    place_of(mesh.lab, "host4", cgroup).rmdir()


def test_a_socket_of_a_unit_that_is_gone_is_not_named_by_its_uid(mesh: Mesh, text: str) -> None:
    """The rule by unit comes first, and the socket outlives the cgroup: it is the unit's, as it was."""
    place = mesh.lab.host("host2")
    with Unit(mesh.lab, "host4", user=USER) as maker:
        sock = orphan(maker, mesh.lab, "host4", "web@1")
        known = len(look.log_lines(mesh.lab, "host4"))
        assert call_with(sock, place.ipv4, WEB, text) == f"app:{text}"
        sock.close()
    eventually(lambda: len(look.log_lines(mesh.lab, "host4")) > known, look.WITHIN_S, "a record")
    (row,) = look.log_lines(mesh.lab, "host4")[known:]
    assert (row["how"], row["source"], row["uid"]) == ("conntrack", "first", int(USER))


def test_a_refused_stranger_is_told_apart_in_the_records(mesh: Mesh, text: str) -> None:
    """Reason, side and cure; nobody's name; nothing that could be mistaken for a permit."""
    with Unit(mesh.lab, "host1", "stranger") as caller:
        assert mesh.source(caller, "host1", text) == "unidentified"
    row = look.log_lines(mesh.lab, "host1")[-1]
    assert (row["source"], row["destination"], row["side"], row["path"]) == ("", "web", "mesh", "none")
    assert "permit" not in row
    assert "run it as the unit of a service, or name it in a [[workload]]" in row["error"]


def test_a_stranger_still_reaches_what_nobody_registered(mesh: Mesh, clear_canary: str, capture: Capture) -> None:
    """The unit of refusal is a registered address and port."""
    wire = capture(mesh.lab)
    place = mesh.lab.host("host2")
    with Unit(mesh.lab, "host2", "free") as free, Unit(mesh.lab, "host1") as caller, Echo(free.listen("::", FREE)):
        for address in (place.ipv4, place.ipv6):
            assert call(caller, address, FREE, clear_canary) == clear_canary
    wire.assert_in_clear(clear_canary)
