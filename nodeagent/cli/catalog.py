"""`nodeagent catalog`: the embedded catalog server, and its tokens."""

import asyncio
import ipaddress
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from nodeagent import limits
from nodeagent.catalog.state import RESERVED_SERVICES
from nodeagent.cli import completion
from nodeagent.cli.catalog_data import DataDirectory, data_option
from nodeagent.cli.catalog_snapshot import snapshot
from nodeagent.cli.places import is_taken
from nodeagent.cli.render import headers_option, output_option, show_json, show_table, warn
from nodeagent.cli.seconds import Seconds
from nodeagent.embedded.access import ANY_SERVICE, parse_claimable
from nodeagent.embedded.database import Change, commit, query
from nodeagent.embedded.datadir import check_directory, open_catalog, write_file
from nodeagent.embedded.refusal import Refusal
from nodeagent.embedded.serve import Options, serve_catalog
from nodeagent.embedded.tokens import NewToken, Token, create_token, delete_token, read_tokens
from nodeagent.embedded.tokens_api import token_json
from nodeagent.errors import CatalogError, NotInCatalog
from nodeagent.model.address import Address, parse_address, special_kind
from nodeagent.model.names import HOST_NAME_RULE, NAME_RULE, is_host_name, is_service_name
from nodeagent.observe.log import configure_log
from nodeagent.observe.unblocked import STDERR, Unblocked, own_stderr
from nodeagent.process.notify import Notifier

_API = {"apiVersion": "nodeagent/v1"}
DEFAULT_DATA = "/var/lib/nodeagent-catalog"  # not below the agent's own directory, which its control process may change


def _listen_address(_ctx: click.Context, _param: click.Parameter, value: str) -> Address:
    """click's: `ip:port`, where port 0 takes a free one; else a usage error."""
    try:
        if value.endswith(":0"):
            return Address(parse_address(f"{value[:-2]}:1").ip, 0)
        return parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _named(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
    """click's: names as the catalog takes them, else a usage error."""
    for name in value if isinstance(value, tuple) else (value,):
        if name is not None and not is_service_name(name):
            raise click.BadParameter(f"{name!r}: use {NAME_RULE}")
    return value


def _service_named(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """click's: names that services may have, else a usage error."""
    for name in _named(ctx, param, value):
        if name in RESERVED_SERVICES:
            raise click.BadParameter(f"{name!r} is reserved: no service may be registered under it")
    return value


def _host_named(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """click's: the name of a host, else a usage error."""
    if value is not None and not is_host_name(value):
        raise click.BadParameter(f"{value!r}: use {HOST_NAME_RULE}")
    return value


def _claimable(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """click's: addresses and CIDRs as tokens name them, else a usage error."""
    if len(value) > limits.TOKEN_ADDRESSES:
        raise click.BadParameter(f"at most {limits.TOKEN_ADDRESSES} of them: use CIDRs")
    try:
        return tuple(dict.fromkeys(map(parse_claimable, value)))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_file = click.Path(path_type=Path, dir_okay=False)


@click.group(invoke_without_command=True)
@click.option(
    "--data",
    type=DataDirectory(),
    default=DEFAULT_DATA,
    show_default=True,
    help="Directory with the database, the CA and the first token.",
)
@click.option(
    "--listen", callback=_listen_address, default="127.0.0.1:8501", show_default=True, help="Where to answer."
)
@click.option("--datacenter", callback=_named, default="dc1", show_default=True, help="Part of every identity.")
@click.option("--plain", is_flag=True, help="HTTP without TLS; on loopback addresses only.")
@click.option("--tls-name", "names", multiple=True, metavar="NAME", help="What else clients call this server. Can be repeated.")
@click.option(
    "--tls-cert", type=_file, help="Your own certificate chain instead of the catalog's; read again when replaced."
)
@click.option("--tls-key", type=_file, help="Its key.")
@click.option(
    "--leaf-ttl",
    type=Seconds(min=limits.TTL_MIN_S, max=limits.TTL_MAX_S),
    default=limits.SVID_TTL_S,
    show_default=True,
    metavar="SECONDS",
    help="Life of the certificates that are signed for hosts.",
)
@click.pass_context
def catalog(ctx: click.Context, /, data: Path, **options: Any) -> None:
    """Serve the catalog: who runs what where, who may call whom, and the CA. For those who run no Consul."""
    ctx.obj = data
    if ctx.invoked_subcommand is None:
        _serve(options_of(data, **options))


def options_of(
    data: Path, *, tls_cert: Path | None, tls_key: Path | None, plain: bool, leaf_ttl: float, **same: Any
) -> Options:
    """The server's options.

    Raises:
        click.UsageError: half of a certificate with its key.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    files = (tls_cert, tls_key) if tls_cert and tls_key else None
    return Options(data=data, is_plain=plain, tls_files=files, leaf_ttl_s=leaf_ttl, **same)


def _serve(options: Options) -> None:
    own_stderr()
    configure_log("catalog", stream=Unblocked(STDERR, "catalog"))
    notifier = Notifier(os.environ, os.getpid())

    def announce(line: str) -> None:
        click.echo(line)
        notifier.ready(line)

    try:
        asyncio.run(serve_catalog(options, announce))
    finally:
        notifier.close()


catalog.add_command(snapshot)


@catalog.group()
def token() -> None:
    """Tokens: what a host may register, and whom it may speak for. Works beside a running server, at once."""


@token.command()
@click.option("--node", "host", callback=_host_named, shell_complete=completion.hosts, help="The host that the token is for.")
@click.option("--service", "services", callback=_service_named, shell_complete=completion.services, multiple=True, help="A service that it may speak for. Can be repeated.")
@click.option("--any-service", is_flag=True, help="It may speak for any service. For labs.")
@click.option(
    "--address",
    "addresses",
    callback=_claimable,
    multiple=True,
    metavar="IP|CIDR",
    help="An address that it may register. Can be repeated. Without: those of the host's first registration, and no others.",
)
@click.option("--any-host", is_flag=True, help="Instead of --node: it may register its services on every host that is registered (with SkipNodeUpdate), and write their config entries.")
@click.option("--management", is_flag=True, help="Instead: a token that may do everything.")
@click.option("--read", is_flag=True, help="Instead: a token that may look, and change nothing.")
@click.option("--description", default="", help="A note for `token list`.")
@click.option("--out", type=_file, help="Write the secret to this file (0600) instead of standard output.")
@click.option("--force", is_flag=True, help="Replace the file that --out names.")
@output_option
@data_option
@click.pass_obj
def create(data: Path, /, out: Path | None, *, force: bool, output: str, **asked: Any) -> None:
    """Make a token and show its secret, this once."""
    kind = token_kind(**asked)
    for address in kind.get("addresses", ()):
        _warn_of(ipaddress.ip_network(address))
    if out:
        _check_free(out, force=force)

    def make(change: Change) -> NewToken:
        # The secret is handed out before the commit: where it cannot be, there must be no token that nobody can use.
        made = create_token(change, now=_now_s(), **kind)
        _hand_out(made, out, output)
        return made

    with _database(data) as connection:
        made, _ = commit(connection, make)
    click.echo(_made_line(made), err=True)


@token.command("list")
@headers_option
@output_option
@data_option
@click.pass_obj
def list_(data: Path, *, no_headers: bool, output: str) -> None:
    """All tokens, without their secrets."""
    with _database(data) as connection:
        found = query(connection, read_tokens)
    if output == "json":
        show_json({**_API, "tokens": [token_json(each) for each in found]})
        return
    headers = ("ACCESSOR", "HOST", "SERVICES", "ADDRESSES", "CREATED", "DESCRIPTION")
    show_table(headers, [_cells(each) for each in found], no_headers=no_headers)


@token.command()
@click.argument("accessor")
@output_option
@data_option
@click.pass_obj
def revoke(data: Path, accessor: str, *, output: str) -> None:
    """Take a token back: its next request is refused, agents refuse its certificates and cut its tunnels in seconds."""
    with _database(data) as connection:
        found, _ = commit(connection, lambda change: delete_token(change, accessor, _now_s()))
    if not found:
        raise NotInCatalog(f"there is no token with the accessor {accessor}; see: nodeagent catalog token list")
    if output == "json":
        show_json({**_API, "revoked": accessor})
    else:
        click.echo(f"revoked: {accessor}")


def token_kind(  # noqa: PLR0913 - click hands over one argument for each option
    *,
    host: str | None,
    services: tuple[str, ...],
    addresses: tuple[str, ...],
    any_service: bool,
    any_host: bool,
    management: bool,
    read: bool,
    description: str,
) -> dict[str, Any]:
    """What a new token is for, as `create_token` takes it.

    Raises:
        click.UsageError: the options contradict each other.
    """
    if management or read:
        if host or any_host or services or addresses or any_service or (management and read):
            raise click.UsageError("--management and --read go alone")
        return {"kind": "management" if management else "read", "description": description}
    if bool(host) == any_host:
        raise click.UsageError("say for which host, with --node NAME, or --any-host")
    if bool(services) == any_service or (any_host and any_service):
        raise click.UsageError("give either --service (as often as needed) or, for a host, --any-service")
    chosen = (ANY_SERVICE,) if any_service else tuple(sorted(set(services)))
    kind = {"kind": "node", "node": host} if host else {"kind": "service"}
    return {**kind, "services": chosen, "addresses": addresses, "description": description}


@contextmanager
def _database(data: Path) -> Iterator[sqlite3.Connection]:
    """The catalog's database; refusals become one line."""
    try:
        with suppress(FileNotFoundError):  # opening the database says it, with the cure
            check_directory(data)
    except OSError as error:
        raise CatalogError(f"{data}: {error.strerror}") from error
    connection = open_catalog(data)
    try:
        yield connection
    except (Refusal, OSError) as error:
        raise CatalogError(f"{data}: {error}") from error
    finally:
        connection.close()


def _hand_out(made: NewToken, out: Path | None, output: str) -> None:
    """Where the secret goes to a file, an answer for programs has none."""
    if out is not None:
        try:
            write_file(out, made.secret + "\n", 0o600)
        except OSError as error:
            raise CatalogError(f"--out {out}: cannot be written, so no token was made: {error.strerror}") from error
    if output == "json":
        show_json({**_API, "token": token_json(made.token) | ({"SecretID": made.secret} if out is None else {})})
    elif out is None:
        click.echo(made.secret)


def _check_free(out: Path, *, force: bool) -> None:
    if not is_taken(out):
        return
    if not out.is_file():  # such as /dev/stdout, which would be a file from then on
        raise CatalogError(f"--out {out}: is no file that could be replaced, so no token was made; without --out the secret goes to standard output")
    if not force:
        raise CatalogError(f"--out {out}: is there already, so no token was made; --force replaces it")


def _warn_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    if network.is_loopback:
        warn(f"--address {network}: every host has that one; others that call it would call themselves")
    elif not network.prefixlen:
        warn(f"--address {network}: whoever holds this token may take any address of the mesh that nobody named more closely")
    elif kind := special_kind(network):
        warn(f"--address {network}: is {kind}: no host of the mesh can be registered there")


def _made_line(made: NewToken) -> str:
    caller, services = made.token.caller, _services(made.token)
    who = {
        "management": "everything",
        "node": f"{caller.node}, to speak for {services}",
        "service": f"{services} on every host that is registered",
        "read": "reading",
    }[caller.kind]
    return f"token {caller.accessor} made for {who}; its secret is not shown again"


def _cells(listed: Token) -> tuple[str, ...]:
    caller = listed.caller
    created = datetime.fromtimestamp(listed.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    host = caller.node or f"({caller.kind})"
    return (caller.accessor, host, _services(listed), _addresses(listed), created, listed.description)


def _services(listed: Token) -> str:
    if ANY_SERVICE in listed.caller.services:
        return "any service"
    return " ".join(listed.caller.services) or "-"


def _addresses(listed: Token) -> str:
    caller = listed.caller
    if caller.is_unbound:
        return "(its first)"
    return " ".join(caller.addresses or caller.fixed) or "-"


def _now_s() -> float:
    return datetime.now(UTC).timestamp()
