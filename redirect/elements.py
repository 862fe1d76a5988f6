"""What changes while the agent runs: addresses, ports, cgroups and the beat, as set elements. One transaction per call."""

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from redirect import nft as text
from redirect.cgroup import element_of, read_mount
from redirect.errors import REMOVED, RedirectError
from redirect.libnftables import STATELESS, Nft, NothingThere
from redirect.plan import (
    AGENTS,
    ALIVE,
    ALIVE_S,
    BYPASSED,
    CATALOG,
    EXCEPT,
    EXCEPT_PORTS,
    LOCAL_PORTS,
    LOOPBACK_PORTS,
    MAIN,
    MESH,
    OPEN_CALLERS,
    TOLD,
    UNITS,
)  # fmt: skip
from redirect.settings import Fail, Settings

_MAPPED = bytes(10) + b"\xff\xff"  # of an IPv4 address in IPv6 form
_SETS = {4: f"set {MESH[4]}", 6: f"set {MESH[6]}"}
_CATALOG = {4: f"set {CATALOG[4]}", 6: f"set {CATALOG[6]}"}
_PORTS, _LOOPBACK = f"set {LOCAL_PORTS}", f"set {LOOPBACK_PORTS}"
_AGENTS, _ALIVE, _UNITS, _OPEN_CALLERS = f"set {AGENTS}", f"set {ALIVE}", f"map {UNITS}", f"set {OPEN_CALLERS}"
_EXCEPT, _EXCEPT_PORTS = {4: f"set {EXCEPT[4]}", 6: f"set {EXCEPT[6]}"}, f"set {EXCEPT_PORTS}"
_TOLD: dict[Fail, str] = {fail: f"set {name}" for fail, name in TOLD.items()}
_TRUE = "tcp"  # the only element of a set that is a truth value


class Exceptions(NamedTuple):
    """Where the fail mode of the host does not hold: what stays closed on an open host, what may be bypassed on a closed one."""

    fail: Fail
    """The mode that they are exceptions from."""
    endpoints: tuple[tuple[str, int], ...] = ()
    """(address, port) on other hosts."""
    ports: tuple[int, ...] = ()
    """Of this host."""


class Elements:
    """The elements of the installed table, owned by one supervisor, which closes it.

    Remembers what it has set: a change of the catalog costs what changed, and `restore` can put all of it back.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mount = read_mount()
        self._nft = Nft()
        self._capture: dict[str, frozenset[str]] = {}
        self._agents: tuple[str, ...] = ()
        self._units: dict[str, int] = {}
        self._open_marks: frozenset[int] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what belongs to libnftables. The elements stay in the kernel."""
        self._nft.close()

    def set_capture(
        self, addresses: Iterable[str], ports: Iterable[int], loopback_ports: Iterable[int] = (),
        exceptions: Exceptions | None = None, catalog: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Connections to these addresses of other hosts, and to these ports of this host, are captured from now on.

        loopback_ports: those of the ports that are captured on loopback addresses, too.
        exceptions: None, or those of another fail mode than the settings': nothing bypasses a dead agent.
        catalog: where the settings' `catalog_port` is never captured.

        Raises:
            RedirectError: an address or port is none, or the kernel refused; then nothing has changed.
        """
        wanted = capture_elements(addresses, ports, loopback_ports, exceptions, catalog)
        try:
            self._run("".join(_change(heading, self._capture.get(heading), wanted[heading]) for heading in wanted))
        except RedirectError:
            # Somebody else has changed the sets, so what we remember is not what is there.
            self._run("".join(text.render_fill(MAIN, heading, sorted(wanted[heading])) for heading in wanted))
        self._capture = wanted

    def untell(self) -> None:
        """Nothing bypasses a dead agent until exceptions are set again."""
        self._run("".join(text.render_fill(MAIN, heading, ()) for heading in _TOLD.values()))

    def set_agents(self, cgroup_paths: Iterable[str]) -> tuple[str, ...]:
        """Processes of the agent's users in these cgroups (paths below the cgroup v2 mount) are exempt, and no others.

        Gives the paths that could not be set because they are not there. Call it before any worker dials.
        """
        self._agents = tuple(cgroup_paths)
        return self._fill_cgroups(_AGENTS, dict.fromkeys(self._agents, ""))

    def set_units(self, marks_by_cgroup_path: Mapping[str, int], open_marks: Iterable[int] = ()) -> tuple[str, ...]:
        """Connections from these cgroups are stamped with these marks, and no others.

        open_marks: whose callers may bypass a dead agent, where the settings ask for it.

        Gives the paths that could not be set because they are not there. All are written each time, as nft cannot
        delete the element of a cgroup that is gone.

        Raises:
            RedirectError: a mark outside the settings' range, or the kernel refused.
        """
        first, last = self._settings.unit_marks
        for path, mark in marks_by_cgroup_path.items():
            if not first <= mark <= last:
                raise RedirectError(f"mark {mark:#x} of {path}: not between {first:#x} and {last:#x}")
        self._units, self._open_marks = dict(marks_by_cgroup_path), frozenset(open_marks)
        if self._settings.knows_callers:
            self._run(text.render_fill(MAIN, _OPEN_CALLERS, sorted(f"{mark:#010x}" for mark in self._open_marks)))
        return self._fill_cgroups(_UNITS, _stamps(self._units))

    def beat(self, lives_s: int = ALIVE_S) -> None:
        """The agent lives: for so many seconds from now, whatever was said before, captured connections go to it."""
        # Delete needs the element to be there, and add alone does not renew its time.
        alive = f"{text.FAMILY} {MAIN} {ALIVE}"
        fresh = f"add element {alive} {{ tcp timeout {lives_s}s }}\n"
        self._run(f"{fresh}delete element {alive} {{ tcp }}\n{fresh}")

    def stop_beat(self) -> None:
        """The agent does not live: new connections are refused, or bypass it, from now on."""
        self._run(text.render_fill(MAIN, _ALIVE, ()))

    def take_bypassed(self) -> int:
        """How many connections have bypassed a dead agent since this was asked last, by whomever."""
        with Nft() as fresh:  # a context that has seen the counter once goes on telling what it was then
            answer = _run(fresh, f"reset counter {text.FAMILY} {MAIN} {BYPASSED}")
        return int(answer.partition("packets ")[2].partition(" ")[0] or 0)

    def restore(self) -> None:
        """Writes everything that was set, but the beat, once more: for a table that was made anew."""
        self._run("".join(text.render_fill(MAIN, heading, sorted(values)) for heading, values in self._capture.items()))
        self.refill_cgroups()

    def refill_cgroups(self) -> None:
        """Writes agents and units once more, which is quicker than to compare them.

        For each cgroup that nft lists it walks the whole cgroup tree, a second for 100 units and six for 300.
        """
        self.set_agents(self._agents)
        self.set_units(self._units, self._open_marks)

    def verify_capture(self) -> tuple[str, ...]:
        """How addresses and ports in the kernel differ from what was set, as sentences."""
        return tuple(
            sentence
            for heading, elements in self._capture.items()
            for sentence in difference(heading, self._listed(heading), elements)
        )

    def _fill_cgroups(self, heading: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """Fills a set keyed by cgroup with those that exist; gives the paths of the others.

        A cgroup may end while nft reads its path. Then those that are not what they were are left out, until it works.
        """
        found = self._identities(values)
        while True:
            elements = sorted(f"{element_of(self._mount, path)}{values[path]}" for path in found)
            try:
                self._run(text.render_fill(MAIN, heading, elements))
            except RedirectError:
                now = self._identities(found)
                unchanged = {path: identity for path, identity in found.items() if now.get(path) == identity}
                if unchanged == found:
                    raise
                found = unchanged
            else:
                return tuple(path for path in values if path not in found)

    def _listed(self, heading: str) -> frozenset[str]:
        kind, name = heading.split(" ")
        listing = self._run(f"list {kind} {text.FAMILY} {MAIN} {name}", flags=STATELESS)
        return text.elements_in(text.parse_table(listing).bodies.get(heading, ()))

    def _identities(self, paths: Iterable[str]) -> dict[str, int]:
        """The numbers of those cgroups that exist and that a rule can name."""
        found: dict[str, int] = {}
        for path in paths:
            if element_of(self._mount, path):
                with suppress(FileNotFoundError):
                    found[path] = Path(self._mount, path.strip("/")).stat().st_ino
        return found

    def _run(self, commands: str, *, flags: int = 0) -> str:
        return _run(self._nft, commands, flags=flags) if commands else ""


def _run(nft: Nft, commands: str, *, flags: int = 0) -> str:
    try:
        return nft.run(commands, flags=flags)
    except NothingThere as error:
        raise RedirectError(f"table {text.FAMILY} {MAIN} is not there as it was made: {REMOVED}") from error
    except RedirectError as error:
        raise RedirectError(f"elements of table {text.FAMILY} {MAIN}: {error}") from error


def capture_elements(
    addresses: Iterable[str], ports: Iterable[int], loopback_ports: Iterable[int] = (), exceptions: Exceptions | None = None,
    catalog: Iterable[str] = (),
) -> dict[str, frozenset[str]]:  # fmt: skip
    """The elements of each set, by its heading, what is told last; IPv4 addresses in IPv6 form become what they are on the wire.

    Raises:
        RedirectError: names the value that is none.
    """
    return {
        **_by_family(_CATALOG, catalog), **_by_family(_SETS, addresses),
        _PORTS: frozenset(map(_port, ports)), _LOOPBACK: frozenset(map(_port, loopback_ports)),
        **dict(_exception_elements(exceptions)),
    }  # fmt: skip


def _by_family(headings: Mapping[int, str], addresses: Iterable[str]) -> dict[str, frozenset[str]]:
    families: dict[int, set[str]] = {4: set(), 6: set()}
    for given in addresses:
        family, address = _canonical(given)
        families[family].add(address)
    return {headings[family]: frozenset(families[family]) for family in families}


def _exception_elements(exceptions: Exceptions | None) -> Iterator[tuple[str, frozenset[str]]]:
    families: dict[int, set[str]] = {4: set(), 6: set()}
    for given, port in exceptions.endpoints if exceptions else ():
        family, address = _canonical(given)
        families[family].add(f"{address} . {_port(port)}")
    yield from ((_EXCEPT[family], frozenset(families[family])) for family in families)
    yield _EXCEPT_PORTS, frozenset(map(_port, exceptions.ports if exceptions else ()))
    yield from ((_TOLD[fail], frozenset((_TRUE,) if exceptions and exceptions.fail == fail else ())) for fail in _TOLD)


def _port(number: int) -> str:
    if not 1 <= number <= 65535:
        raise RedirectError(f"port {number}: not between 1 and 65535")
    return str(number)


def _canonical(address: str) -> tuple[int, str]:
    """Family and usual form. By inet_pton: module ipaddress takes 50 ms for 20,000 of them."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError) as error:
        raise RedirectError(f"{address!r} is no IP address") from error
    if packed[:-4] == _MAPPED:
        return 4, socket.inet_ntop(socket.AF_INET, packed[-4:])
    return (4 if family == socket.AF_INET else 6), socket.inet_ntop(family, packed)


def _stamps(units: Mapping[str, int]) -> dict[str, str]:
    return {path: f" : {mark:#010x}" for path, mark in units.items()}


def difference(heading: str, found: frozenset[str], expected: frozenset[str]) -> Iterator[str]:
    """How a set differs from what it should hold, as sentences."""
    missing, foreign = sorted(expected - found), sorted(found - expected)
    if missing:
        yield f"{heading}: elements missing: {len(missing)}, such as {missing[0]}"
    if foreign:
        yield f"{heading}: elements that are not ours: {len(foreign)}, such as {foreign[0]}"


def _change(heading: str, before: frozenset[str] | None, wanted: frozenset[str]) -> str:
    """The commands from one content to another; from an unknown one by filling anew."""
    if before is None:
        return text.render_fill(MAIN, heading, sorted(wanted))
    dropped, added = sorted(before - wanted), sorted(wanted - before)
    return text.render_drop(MAIN, heading, dropped) + text.render_add(MAIN, heading, added)
