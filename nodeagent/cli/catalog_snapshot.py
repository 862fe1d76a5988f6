"""`nodeagent catalog snapshot`: the whole catalog as one file, and back."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from nodeagent.cli.catalog_data import data_option
from nodeagent.cli.places import is_taken
from nodeagent.cli.render import headers_option, instant, now, output_option, show_json, show_table
from nodeagent.embedded.archive import COUNTED, About, counts_of, read_about, save, unpack
from nodeagent.embedded.database import open_database
from nodeagent.embedded.datadir import (
    DATABASE,
    MANAGEMENT_TOKEN,
    TLS_CA,
    Served,
    check_directory,
    lock_data,
    open_catalog,
)
from nodeagent.embedded.refusal import Refusal
from nodeagent.embedded.restore import count_kept, is_whole, restore
from nodeagent.errors import CatalogError

SECRET = "It holds the CA's keys: who reads it can speak as every service of the mesh. Mode 0600; keep it as you would a key"  # noqa: S105 - no secret

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def snapshot() -> None:
    """The whole catalog as one file, its CA included: a backup. Works beside a running server."""


@snapshot.command("save")
@_file
@click.option("--force", is_flag=True, help="Replace the file.")
@data_option
@click.pass_obj
def save_(data: Path, file: Path, *, force: bool) -> None:
    """Write the catalog as it is at one moment to FILE. Beside a running server, which goes on."""
    if is_taken(file) and not force:
        raise CatalogError(f"{file}: is there already; --force replaces it")
    _check_own(data)
    with closing(open_catalog(data)) as connection:
        about = save(connection, data, file, now(), replace=force)
    click.echo(f"saved: {file}: {_told(about)}")
    click.echo(SECRET, err=True)


@snapshot.command()
@_file
@headers_option
@output_option
def inspect(file: Path, *, no_headers: bool, output: str) -> None:
    """What FILE says of itself. Exit status 1 where its bytes are not those that were saved."""
    about = read_about(file)
    if output == "json":
        said = {name: getattr(about, name) for name in about.__struct_fields__}
        show_json({"apiVersion": "nodeagent/v1", "snapshot": said})
        return
    show_table(("WHAT", "ROWS"), [(name, str(about.rows.get(name, 0))) for name in COUNTED], no_headers=no_headers)
    click.echo(_told(about))


@snapshot.command("restore")
@_file
@click.option("--yes", is_flag=True, help="Do it. Without, what it would do is shown only.")
@data_option
@click.pass_obj
def restore_(data: Path, file: Path, *, yes: bool) -> None:
    """Put FILE in the place of what the catalog holds: all of it or nothing, also beside a running server.

    In a catalog of the same trust domain tokens, CA, revocations and trails of policy stay as they are, and the index goes on. An empty directory gets
    everything, and the snapshot's index.
    """
    try:
        with _held(data) if yes or (data / DATABASE).exists() else _lent(data) as room, unpack(file, Path(room)) as (raw, about):
            whole = _shown(data, raw, about)
            if not yes:
                click.echo(f"nothing was changed; to do it: nodeagent catalog --data {data} snapshot restore {file} --yes", err=True)
                return
            with closing(open_database(data / DATABASE, create=True)) as connection:
                restore(connection, raw, about)
    except (Refusal, OSError, sqlite3.Error) as error:
        raise CatalogError(f"{data}: {error}") from error
    click.echo(f"restored: {file}")
    click.echo(_after(data, about, whole=whole), err=True)


@contextmanager
def _held(data: Path) -> Iterator[str]:
    """Keeps a server from starting meanwhile; one that runs goes on."""
    if (data / DATABASE).exists():
        _check_own(data)
    held = None
    with suppress(Served):
        held = lock_data(data)
    try:
        yield str(data)
    finally:
        if held is not None:
            os.close(held)


@contextmanager
def _lent(data: Path) -> Iterator[str]:
    """Room for a look at what would go into an empty directory, and into one that is not there."""
    if not data.exists():
        with TemporaryDirectory() as room:
            yield room
        return
    _check_own(data)
    yield str(data)


def _shown(data: Path, raw: Path, about: About) -> bool:
    """Shows what a restore would do; whether trust would come with it. Where there is no catalog, none is made."""
    whole, before, kept = True, dict.fromkeys(COUNTED, 0), 0
    if (data / DATABASE).exists():
        with closing(open_database(data / DATABASE, create=True)) as connection:
            whole, before = is_whole(connection, about), counts_of(connection)
            kept = count_kept(connection, raw)
    show_table(("WHAT", "NOW", "THEN"), _changes(before, about, kept, whole=whole))
    click.echo(_told(about))
    return whole


def _check_own(data: Path) -> None:
    try:
        with suppress(FileNotFoundError):  # opening the database says it, with the cure
            check_directory(data)
    except OSError as error:
        raise CatalogError(f"{data}: {error.strerror}") from error


def _changes(before: dict[str, int], about: About, kept: int, *, whole: bool) -> list[tuple[str, str, str]]:
    """kept: keys that stay although the snapshot has them not."""
    then = {name: about.rows.get(name, 0) for name in COUNTED}
    then["kv"] += kept
    if not whole:
        then |= {name: before[name] for name in ("tokens", "roots")}
    return [(name, str(before[name]), str(then[name])) for name in COUNTED]


def _told(about: About) -> str:
    return (
        f"catalog of {about.trust_domain} in {about.datacenter}, taken {instant(about.taken_at)}, index {about.index},"
        f" {about.size // 1024} KiB"
    )


def _after(data: Path, about: About, *, whole: bool) -> str:
    if not whole:
        return (
            "tokens, CA, revocations and the trails of policy are those of before; what became of policy: nodeagent policy history, where"
            " this restore is a change from elsewhere"
        )
    return (
        f"start it with --datacenter {about.datacenter}; it is the same CA as then ({data / TLS_CA} is written at the start). Tokens are"
        f" those of {instant(about.taken_at)}: what was revoked since is to be revoked again. Who has no management token any more makes"
        f" one: nodeagent catalog --data {data} token create --management --out {data / MANAGEMENT_TOKEN}"
    )
