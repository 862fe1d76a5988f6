"""Kernel settings that the mesh needs, in this network namespace."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from redirect.errors import RedirectError

_ROOT = Path("/proc/sys")


class Sysctl(NamedTuple):
    """One setting."""

    name: str
    wanted: str
    kernel_default: str
    without: str
    """What happens without it, as the end of a sentence."""

    @property
    def path(self) -> Path:
        """The file that holds its value."""
        return _ROOT / self.name.replace(".", "/")


# "ipv4" in the names that begin with tcp_ covers IPv6 too.
SYSCTLS = (
    # Accepted sockets inherit the mark of the SYN.
    Sysctl("net.ipv4.tcp_fwmark_accept", "1", "0", "stamps do not reach the agent"),
    # So does the kernel's own answer where nobody listens. Without the mark it leaves for the caller's host, and the
    # agent, which dials local applications from the caller's address, waits for it in vain.
    Sysctl("net.ipv4.fwmark_reflect", "1", "0", "calls to an application that is down hang for seconds"),
    Sysctl("net.ipv6.fwmark_reflect", "1", "0", "calls to an application that is down hang for seconds"),
    # A direct connection takes two ports of one address, the caller's and the agent's, and both rest for 60 s when the
    # caller closes first. With this for one; the default says so of loopback addresses only. Ports that the agent
    # chooses by itself, as for source-preserved connections, serve again at once in any case.
    Sysctl("net.ipv4.tcp_tw_reuse", "1", "2", "200 direct connections per second to one port use up all ports"),
)


def read_sysctls() -> dict[str, str]:
    """Each setting's value by its name, in the network namespace of the calling thread; those of IPv6 where it is.

    Raises:
        RedirectError: this kernel does not have one of them.
    """
    try:
        there = (sysctl for sysctl in SYSCTLS if sysctl.path.parent.exists())
        return {sysctl.name: sysctl.path.read_text(encoding="ascii").strip() for sysctl in there}
    except OSError as error:
        raise RedirectError(f"sysctl cannot be read: {error}") from error


def write_sysctl(sysctl: Sysctl, value: str) -> None:
    """Sets the value.

    Raises:
        RedirectError: it cannot be written, as in a container whose /proc/sys is read-only.
    """
    try:
        sysctl.path.write_text(value, encoding="ascii")
    except OSError as error:
        raise RedirectError(f"{sysctl.name} cannot be set to {value}: {error}; is /proc/sys writable?") from error


def unmet(values: Mapping[str, str]) -> Iterator[tuple[Sysctl, str]]:
    """Each setting whose value is not the wanted one, and that value."""
    there = (sysctl for sysctl in SYSCTLS if sysctl.name in values)
    return ((sysctl, values[sysctl.name]) for sysctl in there if values[sysctl.name] != sysctl.wanted)
