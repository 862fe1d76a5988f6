"""The catalog's process: listen, answer, renew the certificate, stop cleanly."""

import asyncio
import ctypes
import gc
import ipaddress
import logging
import os
import random
import resource
import signal
import socket
import sys
from asyncio import sslproto
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiohttp import web

from nodeagent import limits
from nodeagent.embedded.app import build_runner
from nodeagent.embedded.archive import sweep
from nodeagent.embedded.asking import Server
from nodeagent.embedded.authority import Realm, read_listener_root
from nodeagent.embedded.beats import expire
from nodeagent.embedded.datadir import DATABASE, TLS_CA, lock_data, prepare_data
from nodeagent.embedded.kept_token import told_token
from nodeagent.embedded.refusal import Refusal
from nodeagent.embedded.silence import end_unseen
from nodeagent.embedded.store import Store
from nodeagent.embedded.tls import FileTls, OwnTls, ServerTls
from nodeagent.errors import CatalogError
from nodeagent.model.address import Address
from nodeagent.observe.log import open_log

_PR_SET_DUMPABLE = 4
_LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a catalog is started."""

    data: Path
    listen: Address
    datacenter: str = "dc1"
    is_plain: bool = False
    names: tuple[str, ...] = ()
    """What clients call this server besides the address that it listens on."""
    tls_files: tuple[Path, Path] | None = None
    """The operator's certificate and key."""
    leaf_ttl_s: float = limits.SVID_TTL_S


async def serve_catalog(options: Options, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; says one line through `announce` when it answers.

    Raises:
        CatalogError: it cannot start: what is wrong, and the cure.
    """
    check_options(options)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _prepare_process()
    held = lock_data(options.data)
    try:
        # The way in comes first: a start that cannot serve leaves no new CA behind.
        with _way_in(options) as way:
            sweep(options.data)
            realm = prepare_data(options.data, options.datacenter, _now())
            store = _open_store(options.data / DATABASE)
            try:
                await _serve(options, realm, store, way, announce, stop)
            finally:
                await store.close()
    finally:
        os.close(held)


def check_options(options: Options) -> None:
    """Nothing, when the options fit together.

    Raises:
        CatalogError: they do not; with the cure.
    """
    ip = ipaddress.ip_address(options.listen.ip)
    if options.is_plain and not ip.is_loopback:
        raise CatalogError(f"--plain is for loopback addresses: on {ip} tokens would cross the network in clear")
    if options.is_plain and (options.names or options.tls_files):
        raise CatalogError("--plain goes without --tls-name, --tls-cert and --tls-key: it serves no TLS")
    if ip.is_unspecified and not (options.names or options.tls_files):
        raise CatalogError(
            f"--listen {ip}: say with --tls-name which addresses and names clients use, or give --tls-cert"
        )


def names_of(options: Options) -> tuple[str, ...]:
    """What the server's own certificate is for."""
    ip = ipaddress.ip_address(options.listen.ip)
    own = () if ip.is_unspecified else (str(ip),)
    return tuple(dict.fromkeys((*own, *options.names, *_LOOPBACK_NAMES)))


class _Way(NamedTuple):
    """How clients come in."""

    listener: socket.socket
    given: FileTls | None
    """The operator's certificate, where there is one."""


@contextmanager
def _way_in(options: Options) -> Iterator[_Way]:
    given = FileTls(*options.tls_files) if options.tls_files and not options.is_plain else None
    with _listen(options.listen) as listener:
        yield _Way(listener, given)


async def _serve(
    options: Options, realm: Realm, store: Store, way: _Way, announce: Callable[[str], None], stop: asyncio.Event
) -> None:
    address = Address(*way.listener.getsockname()[:2])
    tls = way.given or _own_tls(options, store)
    ttl = timedelta(seconds=options.leaf_ttl_s)
    server = Server(store, realm, str(address), ttl, _now, random.random)
    runner = build_runner(server)
    await runner.setup()
    try:
        await web.SockSite(runner, way.listener, ssl_context=tls.context if tls else None, backlog=limits.ACCEPT_BACKLOG).start()
        jobs = (store.hear_others(), expire(store, server.beats), end_unseen(store, server.beats))
        beside = [asyncio.create_task(job) for job in jobs]
        announce(f"{_ready_line(options, realm, address)}; {store.read(lambda found: told_token(options.data, found))}")
        await _until_stopped(stop, tls)
        for task in beside:
            task.cancel()
        store.watchers.close()
    finally:
        await runner.cleanup()


async def _until_stopped(stop: asyncio.Event, tls: ServerTls | None) -> None:
    told = ""
    while not stop.is_set():
        try:
            async with asyncio.timeout(limits.CATALOG_TLS_CHECK_S):
                await stop.wait()
        except TimeoutError:
            told = refresh_tls(tls, _now(), told)


def refresh_tls(tls: ServerTls | None, now: datetime, told: str = "") -> str:
    """Renews the listener's certificate if it is due. A failure is said and tried again; the old one goes on.

    told: the failure before, as this gave it; it is not said again each time. Gives the failure of now; empty: none.
    """
    if tls is None:
        return ""
    try:
        if tls.refresh(now):
            open_log().info("catalog_certificate_renewed")
    except CatalogError as error:
        if str(error) != told:
            open_log().error("catalog_certificate_not_renewed", error=str(error))
        return str(error)
    return ""


def _open_store(path: Path) -> Store:
    try:
        return Store(path)
    except Refusal as error:
        raise CatalogError(f"{path}: {error}") from error


def _own_tls(options: Options, store: Store) -> ServerTls | None:
    if options.is_plain:
        return None
    return OwnTls(store.read(read_listener_root), names_of(options), _now())


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    try:
        return socket.create_server((address.ip, address.port), family=family, backlog=limits.ACCEPT_BACKLOG)
    except OSError as error:
        raise CatalogError(f"--listen {address}: {error.strerror or error}") from error


def _ready_line(options: Options, realm: Realm, address: Address) -> str:
    scheme = "http" if options.is_plain else "https"
    pin = "" if options.is_plain or options.tls_files else f"; clients pin {options.data / TLS_CA}"
    return f"catalog ready on {scheme}://{address} (trust domain {realm.trust_domain}){pin}"


def _prepare_process() -> None:
    """Every blocking query holds a descriptor and a TLS buffer; aiohttp's tracebacks about malformed requests help nobody."""
    sslproto.SSLProtocol.max_size = limits.CATALOG_TLS_BUFFER_BYTES
    sys.setswitchinterval(limits.SWITCH_S)
    gc.freeze()  # what was imported stays, and need not be looked through
    gc.set_threshold(*gc.get_threshold()[:2], limits.CATALOG_COLLECT)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The CA's key passes through this process's memory: no core file, and no look into it for others of our uid.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


def _now() -> datetime:
    return datetime.now(UTC)
