"""`nodeagent service`: registers what runs on this host in the catalog."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from nodeagent.cli import completion, rights
from nodeagent.cli.catalog_api import Client, config_option, open_host, open_operator, segment, token_option
from nodeagent.cli.names import service_name
from nodeagent.cli.render import headers_option, output_option, show_json, show_table
from nodeagent.cli.seconds import Span
from nodeagent.cli.service_checks import INTERVAL_S, Check, checks_body, health_of, why_of
from nodeagent.config import check_captured, load_config
from nodeagent.errors import CatalogError, NotInCatalog
from nodeagent.model.address import canonical_ip

HEADERS = ("ID", "SERVICE", "ADDRESS", "PORT", "HEALTH", "WHY")


def _ip(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """click's: an IP address or nothing, else a usage error."""
    try:
        return canonical_ip(value) if value else ""
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def service() -> None:
    """Services that run on this host."""


@service.command()
@click.argument("name", callback=service_name, shell_complete=completion.services)
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="Where it listens.")
@click.option("--address", callback=_ip, default="", help="Where it listens; by default on every mesh address of this host.")
@click.option(
    "--protocol", type=click.Choice(["tcp", "http", "http2", "grpc"]), help="What it speaks; tcp if never said."
)
@click.option("--id", "instance_id", default="", help="Names the instance; by default the service's name.")
@click.option(
    "--check", "checks", type=Check(), multiple=True, metavar="CHECK",
    help="How one sees that it is well: http://127.0.0.1:8080/health, tcp://127.0.0.1:5432, or ttl:30s, which it says itself."
    " Can be repeated; those of before that are not given are removed.",
)  # fmt: skip
@click.option("--check-interval", type=Span(86_400), default=f"{INTERVAL_S}s", show_default=True, help="How often is looked.")
@click.option("--check-timeout", type=Span(60), default=f"{INTERVAL_S}s", show_default=True, help="How long an answer may take.")
@token_option
@config_option
def register(  # noqa: PLR0913 - click hands over one argument for each option
    *,
    name: str,
    port: int,
    address: str,
    protocol: str | None,
    instance_id: str,
    checks: tuple[dict[str, object], ...],
    check_interval: int,
    check_timeout: int,
    config_path: Path,
    token_file: Path | None,
) -> None:
    """Register service NAME on this host: from then on its port takes mesh traffic, and needs intentions."""
    body = service_body(name, port, address, instance_id)
    check_captured(load_config(config_path), port)
    host, client = _host_name(config_path), open_host(config_path, token_file)
    if checks:
        body["Checks"] = checks_body(checks, check_interval, check_timeout)
        client.ask("PUT", "/v1/agent/service/register", body, **{"node": host, "replace-existing-checks": "true"})
    else:
        client.ask("PUT", "/v1/agent/service/register", body, node=host)
    if protocol:
        _declare(open_operator(config_path, token_file), name, protocol)
    with suppress(CatalogError):  # it is registered, whether or not others can be seen
        _warn_of(services_beside(_read_services(client, host), name, port, address), port)
    click.echo(f"registered: {body['ID']} at port {port}; who may call it: nodeagent intention allow SOURCE {name}")


@service.command()
@click.argument("instance_id", metavar="ID", default="")
@click.option("--host", "is_host", is_flag=True, help="Instead: the host, with all that it has. Once its agent is stopped, else it comes back.")
@token_option
@config_option
def deregister(*, instance_id: str, is_host: bool, config_path: Path, token_file: Path | None) -> None:
    """Remove the instance ID of this host, or the host."""
    if bool(instance_id) == is_host:
        raise click.UsageError("give the ID of an instance, or --host")
    host, client = _host_name(config_path), open_host(config_path, token_file)
    if is_host:
        client.ask("PUT", "/v1/catalog/deregister", {"Node": host})
    else:
        _deregister(client, host, instance_id)
    click.echo(f"deregistered: {instance_id or host}")


@service.command("list")
@headers_option
@output_option
@token_option
@config_option
def list_(*, no_headers: bool, output: str, config_path: Path, token_file: Path | None) -> None:
    """What the catalog has for this host, and how it is by its checks, with what was said last where that is not well."""
    client, host = open_host(config_path, token_file), _host_name(config_path)
    found, checks = _read_services(client, host), client.ask("GET", f"/v1/health/node/{segment(host)}") or []
    rights.check_shown(client, [rights.to_node(host), rights.SERVICES], has_rows=bool(found))
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", "services": found, "checks": checks})
        return
    cells = [[*(str(row.get(key) or default) for key, default in _COLUMNS), health_of(str(row.get("ID")), checks), why_of(str(row.get("ID")), checks)] for row in found]
    show_table(HEADERS, cells, no_headers=no_headers)


_COLUMNS = (("ID", "-"), ("Service", "-"), ("Address", "every address of the host"), ("Port", "-"))


def service_body(name: str, port: int, address: str, instance_id: str) -> dict[str, object]:
    """The body for `/v1/agent/service/register`."""
    body: dict[str, object] = {"Name": name, "ID": instance_id or name, "Port": port}
    return body | {"Address": address} if address else body


def _read_services(client: Client, host: str) -> list[dict[str, Any]]:
    """What the catalog has for the host, by ID."""
    answer = client.ask("GET", f"/v1/catalog/node/{segment(host)}") or {}
    return sorted((answer.get("Services") or {}).values(), key=lambda row: str(row.get("ID")))


def _warn_of(others: Sequence[str], port: int) -> None:
    if others:
        click.secho(
            f"Warning: at port {port} there is {', '.join(others)}, too. A port is one service's: the healthy one's, of several the first by"
            f" name; the intentions of the others mean nothing there. To take one away: nodeagent service deregister ID",
            err=True, fg="yellow",
        )  # fmt: skip


def services_beside(rows: Iterable[Mapping[str, Any]], name: str, port: int, address: str) -> list[str]:
    """The other services of a host that are where this one is; no address means all that the host has."""
    there = (row for row in rows if row.get("Port") == port and (not address or row.get("Address") in ("", None, address)))
    return sorted({str(row.get("Service")) for row in there} - {name})


def _deregister(client: Client, host: str, instance_id: str) -> None:
    try:
        client.ask("PUT", f"/v1/agent/service/deregister/{segment(instance_id)}", node=host)
    except NotInCatalog as error:
        raise NotInCatalog(
            f"{host} has no instance {instance_id!r}; what it has, by ID: nodeagent service list"
        ) from error


def _host_name(config_path: Path) -> str:
    """Says to the embedded catalog which host is meant when the operator's token, which belongs to none, is used."""
    return load_config(config_path).host.name


def _declare(client: Client, name: str, protocol: str) -> None:
    """Says in the catalog what the service speaks."""
    client.ask("PUT", "/v1/config", {"Kind": "service-defaults", "Name": name, "Protocol": protocol})
