"""Which hosts run an agent: those that say so, and for a while those that said so and are gone; pure.

Towards a host without an agent clear text may be allowed. So the loss of a marker, by accident or by an attacker who
may write to the catalog, must not take effect silently: the host stays meshed for HOLD_BACK_S, and `status` shows an
alarm. While the catalog does not even show this host, nothing that it lost is believed, however long that takes; nor is the
loss of a host that the token may not read.
"""

from collections.abc import Collection, Iterable

from nodeagent import limits
from nodeagent.control.hidden import why_hidden
from nodeagent.model.service import Host


class MeshedHosts:
    """The hosts last seen with a marker. Owned by the follower."""

    def __init__(self, hold_s: float = limits.HOLD_BACK_S) -> None:
        self._hold_s = hold_s
        self._meshed: dict[str, Host] = {}
        self._lost_at: dict[str, float] = {}
        self._is_sane = True
        self._hidden: frozenset[str] = frozenset()
        self._admitted: tuple[tuple[Host, ...], tuple[Host, ...]] | None = None
        """The last hosts and what became of them, where none was lost."""

    def remember(self, hosts: Iterable[Host]) -> None:
        """Takes over what was known before a restart: what is not there any more is lost from now on."""
        self._meshed |= {host.name: host for host in hosts if host.tunnel_port}
        self._admitted = None

    def missing(self, hosts: Iterable[Host]) -> frozenset[str]:
        """Those that are not among `hosts` any more."""
        return frozenset(self._meshed) - {host.name for host in hosts}

    def admit(
        self, hosts: tuple[Host, ...], now: float, *, is_sane: bool = True, hidden: frozenset[str] = frozenset()
    ) -> tuple[Host, ...]:  # fmt: skip
        """`hosts` as they are to be treated. is_sane: the catalog shows this host. hidden: those that this token may not read."""
        if self._admitted and self._admitted[0] is hosts and (self._is_sane, self._hidden) == (is_sane, hidden):
            return self._admitted[1]
        self._is_sane, self._hidden = is_sane, hidden
        self._lost_at |= dict.fromkeys(self._lost_at.keys() & hidden, now)
        if not is_sane:
            self._lost_at = dict.fromkeys(self._lost_at, now)
        listed = {host.name: host for host in hosts}
        owner = {ip: host.name for host in hosts for ip in host.addresses}
        for name, before in list(self._meshed.items()):
            left = {ip for ip in before.addresses if owner.get(ip, name) == name}
            if name in listed and listed[name].tunnel_port:
                self._lost_at.pop(name, None)
            elif now - self._lost_at.setdefault(name, now) >= self._hold_s:
                del self._meshed[name], self._lost_at[name]
            elif name in listed:  # it is there without its marker, which may have named further addresses
                listed[name] = _at(before, left | set(listed[name].addresses))
            elif left:  # it is gone, and nobody has these
                listed[name] = _at(before, left)
        self._meshed |= {name: host for name, host in listed.items() if host.tunnel_port}
        admitted = tuple(listed.values())
        self._admitted = None if self._lost_at else (hosts, admitted)
        return admitted

    def alarms(self, now: float) -> tuple[str, ...]:
        """What is held, in words."""
        return tuple(
            f"{name}: the catalog no longer says that an agent runs there; treated as if "
            + self._until(name, left)
            for name, at in sorted(self._lost_at.items())
            if (left := self._hold_s - (now - at)) > 0
        )

    def _until(self, name: str, left: float) -> str:
        if name in self._hidden:
            return f"until it is proven: {why_hidden((name,))}"
        return f"for {left:.0f} s more" if self._is_sane else "until it shows this host again"


def _at(host: Host, ips: Collection[str]) -> Host:
    return host if set(ips) == set(host.addresses) else Host(host.name, tuple(sorted(ips, key=lambda ip: (":" in ip, ip))), host.tunnel_port)
