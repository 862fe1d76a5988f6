"""What changes while the agent runs, in the iptables backend: elements of ipset, and rules that know the agent's cgroup."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from redirect import ipset
from redirect.cgroup import element_of, read_mount
from redirect.elements import Exceptions, capture_elements, difference
from redirect.errors import RedirectError
from redirect.iptables import agent_lines, any_address, ipsets_of, set_name
from redirect.iptables_lines import IpSet
from redirect.iptables_tables import IptablesTables
from redirect.plan import ALIVE, ALIVE_S, BYPASSED, FAMILIES, TOLD, plan
from redirect.settings import Settings
from redirect.xtables_blob import fingerprint


class IptablesElements:
    """As `elements.Elements`, for the other backend. Owned by one supervisor, which closes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mount = read_mount()
        self._sets = {ipset.name: ipset for ipset in ipsets_of(plan(settings))}
        self._capture: dict[str, frozenset[str]] = {}
        self._agents: tuple[str, ...] = ()
        self._seen = b""
        """Fingerprint of the tables when the agent's cgroup was last known to be in them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Holds nothing."""

    def set_capture(
        self, addresses: Iterable[str], ports: Iterable[int], loopback_ports: Iterable[int] = (),
        exceptions: Exceptions | None = None, catalog: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """As `Elements.set_capture`. What is new is there before what is old goes; no packet sees less than both have.

        Raises:
            RedirectError: an address or port is none, or the kernel refused; then a part may be done, and all is next time.
        """
        wanted = capture_elements(addresses, ports, loopback_ports, exceptions, catalog)
        before, self._capture = self._capture, {}
        for heading in sorted(wanted, key=lambda heading: bool(wanted[heading])):  # who is told nothing first, who is told last
            for of in self._sets_of(heading):
                self._set(of, _of(of, before.get(heading)), _of(of, wanted[heading]))
        self._capture = wanted

    def untell(self) -> None:
        """As `Elements.untell`."""
        for name in TOLD.values():
            for family in FAMILIES:
                ipset.clear(f"{set_name(name)}{family}")

    def set_agents(self, cgroup_paths: Iterable[str]) -> tuple[str, ...]:
        """As `Elements.set_agents`. Takes a second: tables are written."""
        self._agents = tuple(cgroup_paths)
        present = [path for path in self._agents if self._can_be_named(path)]
        with IptablesTables() as tables:
            tables.set_agents(agent_lines(self._settings, present))
        self._seen = _fingerprints()
        return tuple(path for path in self._agents if path not in present)

    def set_units(self, marks_by_cgroup_path: Mapping[str, int], open_marks: Iterable[int] = ()) -> tuple[str, ...]:
        """Nothing: whoever calls is found by the slower look-up, as a connection without a stamp is in any case."""
        del marks_by_cgroup_path, open_marks
        return ()

    def beat(self, lives_s: int = ALIVE_S) -> None:
        """As `Elements.beat`."""
        for family in FAMILIES:
            alive = self._sets[f"{set_name(ALIVE)}{family}"]
            ipset.add(alive._replace(timeout_s=lives_s), any_address(family))

    def stop_beat(self) -> None:
        """As `Elements.stop_beat`."""
        for family in FAMILIES:
            ipset.clear(f"{set_name(ALIVE)}{family}")

    def take_bypassed(self) -> int:
        """As `Elements.take_bypassed`. A set that nobody has filled yet counts nothing."""
        total = 0
        for family in FAMILIES:
            of = self._sets[f"{set_name(BYPASSED)}{family}"]
            counted = ipset.packets_in(of.name)
            if any(counted) or not counted:
                total += sum(ipset.recount(of, any_address(family)))
        return total

    def restore(self) -> None:
        """As `Elements.restore`."""
        for heading, elements in self._capture.items():
            for of in self._sets_of(heading):
                ipset.fill(of, _of(of, elements) or ())
        self.set_agents(self._agents)

    def refill_cgroups(self) -> None:
        """Writes the agent's cgroup once more, if somebody has changed a table since."""
        if _fingerprints() != self._seen:
            self.set_agents(self._agents)

    def verify_capture(self) -> tuple[str, ...]:
        """As `Elements.verify_capture`."""
        return tuple(
            sentence
            for heading, elements in self._capture.items()
            for of in self._sets_of(heading)
            for sentence in difference(heading, ipset.elements_of(of.name), _of(of, elements) or frozenset())
        )

    def _sets_of(self, heading: str) -> tuple[IpSet, ...]:
        """One, but for a truth value, which has a set in each family."""
        name = set_name(heading.partition(" ")[2])
        return (self._sets[name],) if name in self._sets else tuple(self._sets[f"{name}{family}"] for family in FAMILIES)

    def _set(self, of: IpSet, before: frozenset[str] | None, wanted: frozenset[str] | None) -> None:
        wanted = wanted or frozenset()
        if before is None:
            ipset.fill(of, wanted)
        else:
            ipset.add(of, wanted - before)
            ipset.drop(of, before - wanted)

    def _can_be_named(self, path: str) -> bool:
        return element_of(self._mount, path) is not None and Path(self._mount, path.strip("/")).is_dir()


def _of(of: IpSet, elements: frozenset[str] | None) -> frozenset[str] | None:
    """The elements in words of ipset, where what is true is said by every address."""
    if elements is None or of.kind != "hash:net":
        return elements
    return frozenset(any_address(of.family)) if elements else elements


def _fingerprints() -> bytes:
    try:
        return b"".join(map(fingerprint, FAMILIES))
    except RedirectError:
        return b""
