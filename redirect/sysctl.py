"""The one kernel setting that is needed: accepted sockets inherit the mark of the SYN."""

from pathlib import Path

from redirect.errors import RedirectError

NAME = "net.ipv4.tcp_fwmark_accept"  # covers IPv6 too
WANTED, KERNEL_DEFAULT = "1", "0"
_PATH = Path("/proc/sys/net/ipv4/tcp_fwmark_accept")


def read_fwmark_accept() -> str:
    """The current value, in the network namespace of the calling thread."""
    try:
        return _PATH.read_text(encoding="ascii").strip()
    except OSError as error:
        raise RedirectError(f"{NAME} cannot be read: {error}") from error


def write_fwmark_accept(value: str) -> None:
    """Sets the value.

    Raises:
        RedirectError: it cannot be written, as in a container whose /proc/sys is read-only.
    """
    try:
        _PATH.write_text(value, encoding="ascii")
    except OSError as error:
        raise RedirectError(f"{NAME} cannot be set to {value}: {error}; is /proc/sys writable?") from error
