"""`nodeagent intention`: who may call whom, written to the catalog."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import click

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.legacy_intentions import is_unknown_kind
from nodeagent.catalog.state import CatalogState, IntentionRow, parse_proxy_defaults, parse_service_defaults
from nodeagent.cli import completion, rights
from nodeagent.cli.catalog_api import Client, config_option, open_operator, segment, token_option
from nodeagent.cli.legacy_intentions import ENTRIES, change_rows, fetch_all, fetch_rows
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.render import headers_option, output_option, show_json, show_table, warn
from nodeagent.config import load_config
from nodeagent.decide.authorize import allowing_intention
from nodeagent.errors import CatalogError, Denied, NotInCatalog
from nodeagent.model.intention import ANY, Intention
from nodeagent.model.names import is_service_name, name_complaint
from nodeagent.model.snapshot import Snapshot
from nodeagent.tables import suggest

_RESERVED = {"consul": "Consul's servers", "nodeagent": "the hosts' agents"}
_TRIES = 5  # of a read-change-write against other writers
_MARKS = ("CreateIndex", "ModifyIndex", "Hash")

Entry = dict[str, Any]


def _named(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """click's: the service's name or `*`, else a usage error."""
    if value != ANY and not is_service_name(value):
        raise click.BadParameter(f"{name_complaint(value)}; or '*' for all")
    return value


@click.group()
def intention() -> None:
    """Who may call whom. Without an intention nobody may.

    SOURCE and DESTINATION are service names, or '*' for all. The most specific intention decides.
    """


def _pair(command: Callable[..., None]) -> Callable[..., None]:
    for decorate in (
        click.argument("destination", callback=_named, shell_complete=completion.services),
        click.argument("source", callback=_named, shell_complete=completion.services),
        token_option, config_option,
    ):  # fmt: skip
        command = decorate(command)
    return command


_replace_option = click.option(
    "--replace", is_flag=True, help="Also where the intention has rules for HTTP requests, which are lost then."
)


@intention.command()
@_replace_option
@_pair
def allow(*, replace: bool, source: str, destination: str, config_path: Path, token_file: Path | None) -> None:
    """Let SOURCE call DESTINATION."""
    _set(open_operator(config_path, token_file), config_path, Intention(source, destination, "allow"), replace=replace)


@intention.command()
@_replace_option
@_pair
def deny(*, replace: bool, source: str, destination: str, config_path: Path, token_file: Path | None) -> None:
    """Forbid SOURCE to call DESTINATION, whatever less specific intentions say."""
    _set(open_operator(config_path, token_file), config_path, Intention(source, destination, "deny"), replace=replace)


@intention.command()
@_pair
def delete(source: str, destination: str, config_path: Path, token_file: Path | None) -> None:
    """Remove the intention of this very pair."""
    client = open_operator(config_path, token_file)
    _change_recorded(client, destination, lambda entry: without_source(entry, source, destination))
    click.echo(f"deleted: {source} -> {destination}")
    _show_in_force(client, config_path, source, destination)


@intention.command("list")
@headers_option
@output_option
@token_option
@config_option
def list_(*, no_headers: bool, output: str, config_path: Path, token_file: Path | None) -> None:
    """All intentions, the deciding ones first.

    Last are rows of Consul 1.8 that are not in force, as `nodeagent policy` has put an entry in their place.
    """
    client = open_operator(config_path, token_file)
    found = fetch_all(client, (ANY,))
    rights.check_shown(client, [rights.to_intentions()], has_rows=bool(found.rows or found.shadowed))
    if found.doubt:
        warn(found.doubt)
    rows, shadowed = _ranked(found.rows), _ranked(found.shadowed)
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", "intentions": _listed(rows), "shadowed": _listed(shadowed)})
        return
    cells: list[tuple[str, ...]] = [(row.source, row.destination, row.word, str(row.precedence)) for row in rows]
    cells += [(row.source, row.destination, f"{row.word}, not in force", "-") for row in shadowed]
    show_table(("SOURCE", "DESTINATION", "ACTION", "PRECEDENCE"), cells, no_headers=no_headers)


@intention.command()
@output_option
@_pair
def check(source: str, destination: str, *, output: str, config_path: Path, token_file: Path | None) -> None:
    """Whether SOURCE may call DESTINATION, and which intention says so.

    Intentions may be there before the services that they name: policy answers for these, too, and a warning says that the
    catalog does not know them.

    Exit status: 0 allowed, 1 denied, or the token may not read what decides, 3 the catalog is out of reach, 5 it does not answer in time.
    """
    if ANY in (source, destination):
        raise click.UsageError("a check is of one pair; what speaks of many is in: nodeagent intention list")
    client = open_operator(config_path, token_file)
    rights.check_proven(client, [rights.to_intentions(destination)])
    is_allowed, why = verdict(read_mesh(client, config_path, (destination, ANY)), source, destination)
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", "source": source, "destination": destination, "allowed": is_allowed, "why": why})
    else:
        click.echo(why)
    _warn_unknown(client, source, destination)
    if not is_allowed:
        raise SystemExit(EXIT_FAILED)


# --- what is in force ----------------------------------------------------------------------------------------------


def read_intentions(client: Client) -> list[Intention]:
    """All intentions, by precedence, then by name."""
    return _ranked(fetch_rows(client))


def _ranked(rows: Iterable[IntentionRow]) -> list[Intention]:
    found = [Intention(row.source, row.destination, row.action, row.permissions) for row in rows]
    return sorted(found, key=lambda row: (-row.precedence, row.destination, row.source))


def _listed(rows: list[Intention]) -> list[dict[str, Any]]:
    return [{"source": row.source, "destination": row.destination, "action": row.word, "precedence": row.precedence} for row in rows]


def read_mesh(client: Client, config_path: Path, about: Collection[str] = ()) -> Snapshot:
    """The catalog's services and intentions, compiled as an agent would. about: as of `fetch_rows`."""
    rows = fetch_rows(client, about)
    names: dict[str, Any] = client.ask("GET", "/v1/catalog/services") or {}
    protocols, default = fetch_protocols(client) if any(row.word == "by request" for row in rows) else ({}, "")
    state = CatalogState(instances=dict.fromkeys(names, ()), intentions=rows, protocols=protocols, default_protocol=default)
    return compile_snapshot(state, load_config(config_path), trust_domain="", generation=0)


def fetch_protocols(client: Client) -> tuple[dict[str, str], str]:
    """What services speak that say it, and what the others do."""
    said = json.dumps(client.ask("GET", "/v1/config/service-defaults")).encode()
    return parse_service_defaults(said), parse_proxy_defaults(json.dumps(client.ask("GET", "/v1/config/proxy-defaults")).encode())


def verdict(snapshot: Snapshot, source: str, destination: str) -> tuple[bool, str]:
    """Whether the pair may talk, also where the catalog does not know them yet, and the sentence that says why."""
    try:
        decider = allowing_intention(snapshot, source, destination)
    except Denied as error:
        return False, f"denied: {error}"
    how = ": each request by the first permission that matches, else it is denied" if decider.is_by_request else ""
    return True, f"allowed: {source} -> {destination} by the intention {decider}{how}"


def _show_in_force(client: Client, config_path: Path, source: str, destination: str) -> None:
    if ANY not in (source, destination):
        click.echo(f"in force within a second: {verdict(read_mesh(client, config_path), source, destination)[1]}")
        return
    for line in in_force(read_intentions(client), source, destination):
        click.echo(line)


def in_force(rows: list[Intention], source: str, destination: str) -> list[str]:
    """Which of `rows` decide now about a pair of which at least one is `*`, in lines. rows: the deciding ones first."""
    concerned = [row for row in rows if _meets(row.source, source) and _meets(row.destination, destination)]
    if not concerned:
        return [f"in force within a second: no intention speaks of {source} -> {destination}: deny"]
    covers = any(row.source in (ANY, source) and row.destination in (ANY, destination) for row in concerned)
    lines = ["in force within a second, the first that fits decides:", *(f"  {row}" for row in concerned)]
    return lines if covers else [*lines, "  any other: deny"]


def _meets(one: str, other: str) -> bool:
    """Whether two names can mean the same service."""
    return ANY in (one, other) or one == other


def doubts(known: Collection[str], source: str, destination: str) -> list[str]:
    """What may be wrong with the names, where the catalog knows these services.

    Who only calls is in no catalog, and that is fine, unless the name looks like a typing error.
    """
    strange = [name for name in dict.fromkeys((source, destination)) if name != ANY and name not in known]
    said = {name: f"the catalog knows no service {name}{suggest(name, known)}" for name in strange}
    return [said[name] for name in strange if name == destination or suggest(name, known)]


def _warn_unknown(client: Client, source: str, destination: str) -> None:
    if whose := _RESERVED.get(destination):
        warn(f"{destination} is the name of {whose}, and of no service of the mesh: nobody is called by it")
    found = doubts(client.ask("GET", "/v1/catalog/services") or {}, source, destination)
    if found and not rights.lacking(client, [rights.SERVICES]):  # else it may know them well, and not show them
        for doubt in found:
            warn(doubt)


# --- changes -------------------------------------------------------------------------------------------------------


def _set(client: Client, config_path: Path, row: Intention, *, replace: bool) -> None:
    _change_recorded(client, row.destination, lambda entry: with_source(entry, row, replace=replace))
    click.echo(f"written: {row}")
    _warn_unknown(client, row.source, row.destination)
    _show_in_force(client, config_path, row.source, row.destination)


def _change_recorded(client: Client, destination: str, edit: Callable[[Entry | None], Entry | None]) -> None:
    """As `change`, and in the trail of `nodeagent policy history`; warns where that was not possible."""
    from nodeagent.cli.policy_change import record_bodies  # noqa: PLC0415 - YAML, which reading intentions does not need

    states: list[tuple[Entry | None, Entry | None]] = []

    def remember(before: Entry | None) -> Entry | None:
        after = edit(before)
        states.append((before, after))
        return after

    change(client, destination, remember)
    complaint = record_bodies(client, *states[-1])
    if complaint:
        warn(complaint)


def with_source(entry: Entry | None, row: Intention, *, replace: bool = False) -> Entry:
    """The entry in which this source has this action, and every other says what it said.

    Raises:
        CatalogError: the source has rules for HTTP requests, and they may not be replaced.
    """
    sources = (entry or {}).get("Sources") or []
    old: Entry = next((source for source in sources if _is_source(source, row.source)), {})
    if old.get("Permissions") and not replace:
        raise CatalogError(
            f"{row.source} -> {row.destination} has rules for HTTP requests: they are lost with --replace"
        )
    new = {key: value for key, value in old.items() if key != "Permissions"} | {
        "Name": row.source,
        "Action": row.action,
    }
    kept = [source for source in sources if not _is_source(source, row.source)]
    base = {key: value for key, value in (entry or {}).items() if key not in _MARKS}
    return {"Kind": "service-intentions", "Name": row.destination} | base | {"Sources": [*kept, new]}


def _is_source(source: Entry, name: str) -> bool:
    """Whether this is the mesh's own service of that name: another peer, partition or namespace has its own."""
    is_own = all(source.get(key, "") in ("", "default") for key in ("Namespace", "Partition"))
    return source.get("Name") == name and is_own and not source.get("Peer") and not source.get("SamenessGroup")


def without_source(entry: Entry | None, source: str, destination: str) -> Entry | None:
    """The entry without this source; None when nothing remains of it.

    Raises:
        NotInCatalog: there is no such intention.
    """
    sources = (entry or {}).get("Sources") or []
    kept = [known for known in sources if not _is_source(known, source)]
    if len(kept) == len(sources):
        raise NotInCatalog(f"there is no intention {source} -> {destination}; see: nodeagent intention list")
    base = {key: value for key, value in (entry or {}).items() if key not in _MARKS}
    return base | {"Sources": kept} if kept else None


def change(client: Client, destination: str, edit: Callable[[Entry | None], Entry | None]) -> None:
    """Applies `edit` to the entry of `destination`, again if somebody else changed it meanwhile.

    Raises:
        CatalogError: refused, or changed by others each time.
    """
    for _ in range(_TRIES):
        try:
            is_done = _change_entry(client, destination, edit)
        except CatalogError as error:
            if not is_unknown_kind(str(error)):
                raise
            is_done = _change_elsewhere(client, destination, edit)
        if is_done:
            return
    raise CatalogError(f"the intentions of {destination} were changed by others {_TRIES} times; try again")


def _change_elsewhere(client: Client, destination: str, edit: Callable[[Entry | None], Entry | None]) -> bool:
    """As `_change_entry`, where the catalog keeps no entries: in the KV store where there is one, else in rows."""
    from nodeagent.cli.kept_intentions import change_kept  # noqa: PLC0415 - RE2, which reading intentions does not need

    is_done = change_kept(client, destination, edit)
    return change_rows(client, destination, edit) if is_done is None else is_done


def _change_entry(client: Client, destination: str, edit: Callable[[Entry | None], Entry | None]) -> bool:
    """One read, change and write; False: it was changed between them."""
    path = f"{ENTRIES}/{segment(destination)}"
    try:
        before: Entry | None = client.ask("GET", path)
    except NotInCatalog:
        before = None
    index = str((before or {}).get("ModifyIndex", 0))
    after = edit(before)
    if after is None:
        return client.ask("DELETE", path, cas=index) is not False
    return client.ask("PUT", "/v1/config", after, cas=index) is not False
