"""Judgements on routing: source checks and addresses."""

from collections.abc import Iterator, Sequence

from nodeagent.diagnose.facts import Addresses, ReversePath
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_STRICT = 1
_NAMED = 4  # a host of containers has a hundred interfaces


def judge_reverse_path(paths: tuple[ReversePath, ...]) -> Iterator[Verdict]:
    """Strict source checks drop what arrives by another way than answers leave."""
    strict = [path for path in paths if path.rp_filter == _STRICT]
    if not strict:
        marked = [path.interface for path in paths if path.src_valid_mark]
        yield well(f"no interface checks sources strictly{f'; {_named(marked)}: by mark (src_valid_mark), which does no harm' if marked else ''}")
        return
    names = _named([path.interface for path in strict])
    mark = ", by the route of a packet's mark: src_valid_mark" if any(path.src_valid_mark for path in strict) else ""
    yield warn(
        f"{names}: sources are checked strictly (rp_filter = 1{mark}); a peer is not heard whose packets arrive by another interface than answers leave by",
        "sysctl -w net.ipv4.conf.all.rp_filter=2",  # the greater of it and an interface's own counts
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")


def judge_addresses(addresses: Addresses) -> Iterator[Verdict]:
    """What the catalog says of this host must be true."""
    for ip in addresses.missing:
        yield fail(f"host.addresses: {ip} is no address of this host", f"correct the file, or: ip address add {ip} dev DEVICE")
    if not addresses.missing:
        yield well(f"this host has its {addresses.wanted} mesh addresses")
