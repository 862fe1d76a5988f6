"""Which part of the kernel gets the rules: nftables, or iptables with ipset."""

from typing import assert_never

from redirect.elements import Elements
from redirect.errors import RedirectError
from redirect.iptables_elements import IptablesElements
from redirect.iptables_tables import IptablesTables
from redirect.libnftables import LibraryMissing
from redirect.nft_tables import NftTables
from redirect.settings import Backend, Settings

BACKENDS: tuple[Backend, ...] = ("nft", "iptables")
Tables = NftTables | IptablesTables
AnyElements = Elements | IptablesElements


def open_tables(backend: Backend) -> Tables:
    """The rules, for one call; to be closed with its `with` block."""
    match backend:
        case "nft":
            return NftTables()
        case "iptables":
            return IptablesTables()
    assert_never(backend)


def open_elements(settings: Settings) -> AnyElements:
    """What changes while the agent runs; closed by its owner."""
    return Elements(settings) if settings.backend == "nft" else IptablesElements(settings)


def installed_backends() -> tuple[Backend, ...]:
    """Those that hold rules of ours; more than one only if something went wrong."""
    return tuple(backend for backend in BACKENDS if _is_installed(backend))


def capturing_backends() -> tuple[Backend, ...]:
    """Those whose rules capture; the others at most keep what was captured before."""
    return tuple(backend for backend in installed_backends() if _captures(backend))


def choose_backend(settings: Settings) -> Backend:
    """What `auto` means on this host: what is installed already, else nft where it and the kernel take the plan, else iptables.

    Raises:
        RedirectError: neither takes it; says why.
    """
    for backend in installed_backends():
        return backend
    try:
        with NftTables() as tables:
            tables.judge(settings)
    except RedirectError as refusal:
        try:
            with IptablesTables() as tables:
                tables.judge(settings)
        except RedirectError as other:
            raise RedirectError(f"{refusal}; nor does iptables do: {other}") from refusal
        return "iptables"
    return "nft"


def _captures(backend: Backend) -> bool:
    with open_tables(backend) as tables:
        return tables.captures()


def _is_installed(backend: Backend) -> bool:
    try:
        with open_tables(backend) as tables:
            return tables.is_installed()
    except LibraryMissing:
        return False
