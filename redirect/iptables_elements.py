"""What changes while the agent runs, in the iptables backend: elements of ipset, and rules that know the agent's cgroup."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from redirect import ipset
from redirect.cgroup import element_of, read_mount
from redirect.elements import capture_elements, difference
from redirect.errors import RedirectError
from redirect.iptables import agent_lines, alive_elements, ipsets_of, set_name
from redirect.iptables_lines import IpSet
from redirect.iptables_tables import IptablesTables
from redirect.plan import ALIVE, FAMILIES, plan
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

    def set_capture(self, addresses: Iterable[str], ports: Iterable[int], loopback_ports: Iterable[int] = ()) -> None:
        """As `Elements.set_capture`. What is new is there before what is old goes; no packet sees less than both have.

        Raises:
            RedirectError: an address or port is none, or the kernel refused; then a part may be done, and all is next time.
        """
        wanted = capture_elements(addresses, ports, loopback_ports)
        before, self._capture = self._capture, {}
        for heading, elements in wanted.items():
            self._set(self._set_of(heading), before.get(heading), elements)
        self._capture = wanted

    def set_agents(self, cgroup_paths: Iterable[str]) -> tuple[str, ...]:
        """As `Elements.set_agents`. Takes a second: tables are written."""
        self._agents = tuple(cgroup_paths)
        present = [path for path in self._agents if self._can_be_named(path)]
        with IptablesTables() as tables:
            tables.set_agents(agent_lines(self._settings, present))
        self._seen = _fingerprints()
        return tuple(path for path in self._agents if path not in present)

    def set_units(self, marks_by_cgroup_path: Mapping[str, int]) -> tuple[str, ...]:
        """Nothing: whoever calls is found by the slower look-up, as a connection without a stamp is in any case."""
        del marks_by_cgroup_path
        return ()

    def beat(self) -> None:
        """As `Elements.beat`."""
        for family in FAMILIES:
            ipset.add(self._sets[f"{set_name(ALIVE)}{family}"], alive_elements(family))

    def stop_beat(self) -> None:
        """As `Elements.stop_beat`."""
        for family in FAMILIES:
            ipset.clear(f"{set_name(ALIVE)}{family}")

    def restore(self) -> None:
        """As `Elements.restore`."""
        for heading, elements in self._capture.items():
            ipset.fill(self._set_of(heading), elements)
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
            for sentence in difference(heading, ipset.elements_of(self._set_of(heading).name), elements)
        )

    def _set_of(self, heading: str) -> IpSet:
        return self._sets[set_name(heading.partition(" ")[2])]

    def _set(self, of: IpSet, before: frozenset[str] | None, wanted: frozenset[str]) -> None:
        if before is None:
            ipset.fill(of, wanted)
        else:
            ipset.add(of, wanted - before)
            ipset.drop(of, before - wanted)

    def _can_be_named(self, path: str) -> bool:
        return element_of(self._mount, path) is not None and Path(self._mount, path.strip("/")).is_dir()


def _fingerprints() -> bytes:
    try:
        return b"".join(map(fingerprint, FAMILIES))
    except RedirectError:
        return b""
