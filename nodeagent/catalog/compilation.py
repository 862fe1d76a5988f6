"""What is in force, as its maker keeps it: of the next state only what differs is compiled, service by service."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.catalog.buckets import buckets_of
from nodeagent.catalog.claims import Claim, claims_of
from nodeagent.catalog.compiler import Compiled, compile_steps, notes_of, odd_names, parts_of, port_rows, with_catalog
from nodeagent.catalog.diff import Changes, Delta, differing, is_empty
from nodeagent.catalog.parts import best_owners, host_of, intentions_of, meshed_last, service_of, shown_by
from nodeagent.catalog.registrations import Rows, by_address, by_port, row_text, rows_of, service_in
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.catalog.traffic import names_in, unlike_entries
from nodeagent.config import Config
from nodeagent.model.address import Address
from nodeagent.model.intention import ANY
from nodeagent.model.names import is_service_name
from nodeagent.model.service import Host, Service
from nodeagent.model.snapshot import Nearby, Snapshot

_Seen = dict[str, Counter[Host]]
"""Each machine as health answers show it, and in how many rows they do."""


@dataclass(slots=True)
class _Draft:
    """What the next snapshot will be made of. Owned by one `follow_steps`."""

    state: CatalogState
    hosts: Mapping[str, Host]
    owners: Mapping[str, Host]
    touched: set[str]
    """Services of which something may differ."""
    services: dict[str, Service | None] = field(default_factory=dict)
    """Those that do; None: there is none any more."""
    claims: dict[str, dict[Address, Claim]] = field(default_factory=dict)
    """Of the touched services, and of those that they meet."""
    claimants: dict[Address, set[str]] = field(default_factory=dict)
    """Of the addresses where another claim may decide."""


class Compilation:
    """A snapshot with what it was compiled from. Owned by one publisher.

    After an error in `follow_steps` it may be half of each: whoever sees one makes another.
    """

    def __init__(self, state: CatalogState, config: Config, compiled: Compiled, seen: _Seen) -> None:
        self.state = state
        self.snapshot = compiled.snapshot
        self._config = config
        self._own = config.host.name
        self._rivals = compiled.rivals
        self._local = compiled.local
        self._seen = seen
        self._odd = odd_names(state.instances)
        self.notes = notes_of(state, self._odd)
        """What is left out, or taken otherwise than it was written."""
        self._listed = {host.name: host for host in state.hosts}
        self._rows = frozenset(state.intentions)
        self._intentions = intentions_of(state.intentions)
        self._named = names_in(state)
        """Of which entries about requests speak."""

    def follow_steps(self, state: CatalogState, generation: int) -> Generator[None, None, Delta | None]:
        """Compiles what differs from the state before, and tells what that changes; None: nothing, the snapshot is as before.

        It is the same as if all of `state` were compiled, and what did not change in it is the same object. One service is
        one step; where machines change, or what holds for many services, there is one after each few milliseconds.
        """
        old = self.snapshot
        changed = differing(self.state.instances, state.instances)
        unlike = _unlike_protocols(self.state, state, old) | self._unlike_entries(state)
        if odd := odd_names(changed):
            self._odd = [name for name in {**dict.fromkeys(self._odd), **dict.fromkeys(odd)} if name in state.instances]
        if odd or unlike or state.intentions is not self.state.intentions:
            self.notes = notes_of(state, self._odd)
        hosts = self._next_hosts(changed, state)
        owners = self._next_owners(hosts)
        touched = changed | self._take_intentions(state.intentions) | unlike
        if hosts is not old.hosts:
            touched |= yield from self._around(hosts, state)
        draft = _Draft(state, hosts, owners, set(filter(is_service_name, touched)))
        for names in parts_of(draft.touched):
            for name in names:
                self._remake(name, draft)
            if len(draft.touched) > len(names):
                yield
        return self._take(draft, generation)

    # --- machines --------------------------------------------------------------------------------------------------

    def _next_hosts(self, changed: Iterable[str], state: CatalogState) -> Mapping[str, Host]:
        """The machines; the same object where none differs."""
        names = self._recount(changed, state)
        if state.hosts != self.state.hosts:
            before, self._listed = self._listed, {host.name: host for host in state.hosts}
            names |= differing(before, self._listed)
        hosts = {name: host for name in names if (host := self._host(name))}
        old = self.snapshot.hosts
        if all(old.get(name) == hosts.get(name) for name in names):
            return old
        return {name: host for name, host in old.items() if name not in names or name in hosts} | hosts

    def _recount(self, changed: Iterable[str], state: CatalogState) -> set[str]:
        """The machines that the rows of these services show, or showed."""
        names: set[str] = set()
        for service in changed:
            for rows, step in ((self.state.instances.get(service, ()), -1), (state.instances.get(service, ()), 1)):
                for row in rows:
                    names.add(row.host.name)
                    count_host(self._seen, shown_by(row), step)
        return names

    def _host(self, name: str) -> Host | None:
        seen = max(self._seen.get(name, ()), key=meshed_last, default=None)
        if name == self._own:
            seen = seen or Host(name, ())
        listed = self._listed.get(name)
        return host_of(listed, seen, self._config) if listed or seen else None

    def _next_owners(self, hosts: Mapping[str, Host]) -> Mapping[str, Host]:
        old = self.snapshot
        if hosts is old.hosts:
            return old.host_by_ip
        ips = self._moved_ips(hosts)
        best = best_owners((host for host in hosts.values() if not ips.isdisjoint(host.addresses)), self._own)
        kept = {ip: host for ip, host in old.host_by_ip.items() if ip not in ips}
        return kept | {ip: host for ip, host in best.items() if ip in ips}

    def _moved_ips(self, hosts: Mapping[str, Host]) -> set[str]:
        """Addresses of machines that differ."""
        old = self.snapshot.hosts
        both = (host for name in differing(old, hosts) for host in (old.get(name), hosts.get(name)) if host)
        return {ip for host in both for ip in host.addresses}

    def _around(self, hosts: Mapping[str, Host], state: CatalogState) -> Generator[None, None, set[str]]:
        """The services with an instance at, or on, a machine that differs, or one that shares an address with it."""
        ips = self._moved_ips(hosts)
        names = differing(self.snapshot.hosts, hosts) | {h.name for h in hosts.values() if not ips.isdisjoint(h.addresses)}
        found: set[str] = set()
        for part in parts_of(state.instances.items()):
            for service, rows in part:
                instances = (row.instance for row in rows)
                if any(i.host in names or any(address.ip in ips for address in i.addresses) for i in instances):
                    found.add(service)
            yield
        return found

    def _unlike_entries(self, state: CatalogState) -> set[str]:
        """The services of which entries about requests say something else than before."""
        unlike = unlike_entries(self.state, state)
        if unlike:
            self._named = names_in(state)
        return unlike | set(self.snapshot.services) if ANY in unlike else unlike

    # --- services --------------------------------------------------------------------------------------------------

    def _take_intentions(self, rows: tuple[IntentionRow, ...]) -> set[str]:
        """The destinations that the intentions tell something else of than before."""
        if rows is self.state.intentions:
            return set()
        before, self._rows = self._rows, frozenset(rows)
        names = {row.destination for row in before ^ self._rows}
        for name in names:
            self._intentions.pop(name, None)
        self._intentions |= intentions_of(row for row in rows if row.destination in names)
        return names

    def _remake(self, name: str, draft: _Draft) -> None:
        """One touched service, and whom it meets at its addresses of before and of now."""
        old, state = self.snapshot, draft.state
        before = old.services.get(name)
        is_known = any(name in named for named in (state.instances, self._intentions, state.protocols, self._config.service, self._named))
        service = service_of(name, state, self._config, self._intentions, draft.owners) if is_known else None
        if service != before:
            draft.services[name] = service
        draft.claims[name] = self._claims(service, state, draft.hosts, draft.owners)
        was = self._claims(before, self.state, old.hosts, old.host_by_ip)
        for address in was.keys() | draft.claims[name].keys():
            draft.claimants.setdefault(address, self._claimants(address)).add(name)

    def _claims(
        self, service: Service | None, state: CatalogState, hosts: Mapping[str, Host], owners: Mapping[str, Host]
    ) -> dict[Address, Claim]:  # fmt: skip
        return claims_of(service, state.instances.get(service.name, ()), hosts, owners, self._own) if service else {}

    def _claimants(self, address: Address) -> set[str]:
        """The services that claim it in the snapshot before."""
        one = rows_of(self.snapshot.by_address).get(str(address))
        return set(self._rivals.get(address) or ({service_in(one)} if one else ()))

    # --- the whole -------------------------------------------------------------------------------------------------

    def _take(self, draft: _Draft, generation: int) -> Delta | None:
        old = self.snapshot
        best = {address: self._decide(address, names, draft) for address, names in draft.claimants.items()}
        rows = {str(address): claim and row_text(claim.service, claim.position) for address, claim in best.items()}
        addresses = {key: text for key, text in rows.items() if rows_of(old.by_address).get(key) != text}
        ports = self._next_ports(best)
        delta = self._delta(draft, generation, addresses, ports)
        self.state = draft.state
        if is_empty(delta):
            return None
        services = buckets_of(old.services).changed(draft.services)
        self.snapshot = Snapshot(
            generation=generation,
            mesh=delta.mesh or old.mesh,
            services=services,
            hosts=draft.hosts,
            wildcards=old.wildcards if delta.wildcards is None else delta.wildcards,
            by_address=by_address(buckets_of(rows_of(old.by_address)).changed(addresses), services),
            host_by_ip=draft.owners,
            local_by_port=by_port(ports, services),
            nearby=self._next_nearby(draft, best),
        )
        return delta

    def _decide(self, address: Address, names: set[str], draft: _Draft) -> Claim | None:
        """The claim that decides there now; keeps who else claims it."""
        for name in names - draft.claims.keys():
            draft.claims[name] = self._claims(self.snapshot.services[name], draft.state, draft.hosts, draft.owners)
        claims = [claim for name in names if (claim := draft.claims[name].get(address))]
        if len(claims) > 1:
            self._rivals[address] = {claim.service for claim in claims}
        else:
            self._rivals.pop(address, None)
        return min(claims, default=None)

    def _next_ports(self, best: Mapping[Address, Claim | None]) -> Rows:
        """The rows by port; the same object where no claim of this host's differs."""
        local = {address: claim for address, claim in best.items() if claim and claim.is_local}
        gone = [address for address in best if address in self._local and address not in local]
        if not local and not gone:
            return rows_of(self.snapshot.local_by_port)
        self._local |= local
        for address in gone:
            del self._local[address]
        return port_rows(self._local)

    def _next_nearby(self, draft: _Draft, best: Mapping[Address, Claim | None]) -> Nearby:
        before = self.snapshot.nearby
        assert before  # this class makes them
        here = {name for name, service in draft.services.items() if service and service.is_on(self._own)}
        unowned = {address for address, claim in best.items() if claim and address.ip not in draft.owners}
        if here or unowned or before.services & draft.services.keys() or before.unowned & best.keys():
            return Nearby(before.services - draft.services.keys() | here, before.unowned - best.keys() | unowned)
        return before

    def _delta(self, draft: _Draft, generation: int, addresses: Changes, ports: Rows) -> Delta:
        old = self.snapshot
        hosts = set() if draft.hosts is old.hosts else differing(old.hosts, draft.hosts)
        ips = set() if draft.owners is old.host_by_ip else differing(old.host_by_ip, draft.owners)
        owner_now = {ip: draft.owners[ip].name if ip in draft.owners else None for ip in ips}
        wildcards = self._intentions.get(ANY, ())
        local = rows_of(old.local_by_port)
        mesh = with_catalog(old.mesh, draft.state)
        return Delta(
            base=old.generation,
            generation=generation,
            mesh=None if mesh is old.mesh else mesh,
            services=tuple(service for service in draft.services.values() if service),
            removed=tuple(name for name, service in draft.services.items() if service is None),
            hosts=tuple(draft.hosts[name] for name in hosts if name in draft.hosts),
            removed_hosts=tuple(name for name in hosts if name not in draft.hosts),
            wildcards=None if wildcards == old.wildcards else wildcards,
            addresses=addresses,
            ports={port: ports.get(port) for port in differing(local, ports)},
            owners={ip: name for ip, name in owner_now.items() if ip not in old.host_by_ip or old.host_by_ip[ip].name != name},
        )


def compilation_steps(
    state: CatalogState, config: Config, *, trust_domain: str, generation: int
) -> Generator[None, None, Compilation]:  # fmt: skip
    """All of `state` compiled, in steps as `compile_steps`."""
    compiled = yield from compile_steps(state, config, trust_domain=trust_domain, generation=generation)
    seen: _Seen = {}
    for part in parts_of(state.instances.values()):
        for row in (row for rows in part for row in rows):
            count_host(seen, shown_by(row), 1)
        yield
    return Compilation(state, config, compiled, seen)


def count_host(seen: _Seen, host: Host, step: int) -> None:
    """One row more, or less, shows the machine so."""
    counted = seen.setdefault(host.name, Counter())
    counted[host] += step
    if not counted[host]:
        del counted[host]
        if not counted:
            del seen[host.name]


def _unlike_protocols(before: CatalogState, state: CatalogState, old: Snapshot) -> set[str]:
    """The services whose protocol may differ."""
    if before.default_protocol != state.default_protocol:
        return set(old.services) | set(state.protocols) | set(before.protocols)
    return differing(before.protocols, state.protocols)
