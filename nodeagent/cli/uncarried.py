"""`nodeagent connections --before`: what goes around the agent, because it was open before the agent captured."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from nodeagent.cli.agent_api import ask
from nodeagent.cli.render import show_json, show_table
from nodeagent.config import load_config
from nodeagent.control.report import API_VERSION, ServicesAnswer, Status
from nodeagent.errors import ConfigError
from nodeagent.model.address import parse_address
from nodeagent.process.cgroups import find_cgroup2_mount, own_cgroup, scan_ids
from nodeagent.process.sock_diag import Listed, decode_listed
from nodeagent.process.uncarried import Place, Uncarried, find_uncarried
from redirect.errors import RedirectError
from redirect.sockets import read_rows

HEADERS = ("DIRECTION", "SERVICE", "UNIT", "HERE", "THERE")
_PROC = Path("/proc")


class UncarriedRow(msgspec.Struct, frozen=True):
    """One connection that the agent neither protects nor decides."""

    direction: str
    service: str
    unit: str
    """The one on this host; empty: none, or not known."""
    here: str
    there: str


class UncarriedAnswer(msgspec.Struct, rename={"api_version": "apiVersion"}):
    """What --before finds."""

    connections: list[UncarriedRow]
    api_version: str = API_VERSION


def show_uncarried(*, service: str, no_headers: bool, output: str, socket_path: str | None) -> None:
    """Prints them; a look at the kernel's sockets, not at anything that the agent remembers.

    Raises:
        ClickException: the agent does not answer, or the sockets cannot be listed.
    """
    answer = ask("/v1/services", ServicesAnswer, socket_path=socket_path)
    status = ask("/v1/status", Status, socket_path=socket_path)
    try:
        rows = [row for row in _look(answer, status) if service in ("", row.service)]
    except (RedirectError, ConfigError, OSError) as error:
        raise click.ClickException(f"sockets cannot be compared with the agent's: {error}") from error
    if output == "json":
        show_json(UncarriedAnswer(rows))
        return
    show_table(HEADERS, [[r.direction, r.service, r.unit or "-", r.here, r.there] for r in rows], no_headers=no_headers)
    if rows:
        click.echo("open since before the agent captured: neither encrypted nor decided; restart what is to be meshed", err=True)


def places_of(answer: ServicesAnswer) -> tuple[dict[Place, str], frozenset[Place]]:
    """Every registered place that is captured, with its service, and those of this host."""
    services: dict[Place, str] = {}
    local: set[Place] = set()
    for service in answer.services:
        for instance in service.instances:
            places = {_place_of(text) for text in (*instance.addresses, *instance.implied) if not instance.uncaptured}
            services |= dict.fromkeys(places, service.name)
            local |= places if instance.is_local else set()
    return services, frozenset(local)


def row_of(found: Uncarried, units: dict[int, str]) -> UncarriedRow:
    """What is shown of it. units: by cgroup id."""
    flow = found.flow
    here, there = _text(flow.src, flow.sport), _text(flow.dst, flow.dport)
    return UncarriedRow(found.direction, found.service, units.get(found.cgroup_id, ""), here, there)


def _look(answer: ServicesAnswer, status: Status) -> list[UncarriedRow]:
    """Twice, and only what is there both times: a listing is no instant, and what is being opened looks uncarried."""
    mount = find_cgroup2_mount((_PROC / "self/mountinfo").read_text(encoding="utf-8"))
    agent = _agent_cgroups(mount, status)
    services, local = places_of(answer)
    first, second = (find_uncarried(_sockets(), services, local, agent) for _ in range(2))
    units = scan_ids(mount / _cgroup_root()).units
    return [row_of(found, units) for found in second if found in first]


def _sockets() -> Iterable[Listed]:
    return [listed for row in read_rows() if (listed := decode_listed(row))]


def _agent_cgroups(mount: Path, status: Status) -> frozenset[int]:
    """The cgroup of the supervisor, which is that of all its processes."""
    if status.supervisor is None:
        raise ConfigError("the agent's control process has not heard of its supervisor; try again")
    own = own_cgroup((_PROC / str(status.supervisor.pid) / "cgroup").read_text(encoding="utf-8"))
    return frozenset({(mount / own).stat().st_ino})


def _cgroup_root() -> str:
    with suppress(ConfigError):
        return load_config().intercept.cgroup_root.strip("/")
    return ""


def _place_of(text: str) -> Place:
    address = parse_address(text)
    return Place(socket.inet_pton(socket.AF_INET6 if ":" in address.ip else socket.AF_INET, address.ip), address.port)


def _text(ip: bytes, port: int) -> str:
    return f"{socket.inet_ntop(socket.AF_INET, ip)}:{port}" if len(ip) == 4 else f"[{socket.inet_ntop(socket.AF_INET6, ip)}]:{port}"
