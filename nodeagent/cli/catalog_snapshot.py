"""`nodeagent catalog snapshot`: the whole catalog as one file, and back."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click

from nodeagent.cli.catalog_data import data_option
from nodeagent.cli.places import is_taken
from nodeagent.cli.render import headers_option, instant, now, output_option, show_json, show_table
from nodeagent.embedded.archive import COUNTED, STDIN, About, counts_of, pour, read_about, save, unpack
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

_API = {"apiVersion": "nodeagent/v1"}
SECRET = "It holds the CA's keys: who reads it can speak as every service of the mesh. Mode 0600; keep it as you would a key"  # noqa: S105 - no secret

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))


@click.group()
def snapshot() -> None:
    """The whole catalog as one file, its CA included: a backup. Works beside a running server."""


@snapshot.command("save")
@_file
@click.option("--force", is_flag=True, help="Replace the file.")
@output_option
@data_option
@click.pass_obj
def save_(data: Path, file: Path, *, force: bool, output: str) -> None:
    """Write the catalog as it is at one moment to FILE, or with - to standard output. Beside a running server, which goes on."""
    is_poured = file == STDIN
    if is_poured and (output == "json" or sys.stdout is None or sys.stdout.isatty()):
        raise click.UsageError("- writes the snapshot to standard output, which is no place for anything else: lead it to a program or file, without -o json")
    if not is_poured:
        _check_free(file, force=force)
    _check_own(data)
    with closing(open_catalog(data)) as connection:
        about = pour(connection, data, sys.stdout.buffer, now()) if is_poured else save(connection, data, file, now(), replace=force)
    if output == "json":
        show_json({**_API, "file": str(file), "snapshot": _said(about)})
    else:
        click.echo(f"saved: {file}: {_told(about)}", err=is_poured)
    click.echo(SECRET, err=True)


@snapshot.command()
@_file
@headers_option
@output_option
def inspect(file: Path, *, no_headers: bool, output: str) -> None:
    """What FILE, or with - standard input, says of itself. Exit status 1 where its bytes are not those that were saved."""
    about = read_about(file)
    if output == "json":
        show_json({**_API, "snapshot": _said(about)})
        return
    show_table(("WHAT", "ROWS"), [(name, str(about.rows.get(name, 0))) for name in COUNTED], no_headers=no_headers)
    click.echo(_told(about))


@snapshot.command("restore")
@_file
@click.option("--yes", is_flag=True, help="Do it. Without, what it would do is shown only.")
@output_option
@data_option
@click.pass_obj
def restore_(data: Path, file: Path, *, yes: bool, output: str) -> None:
    """Put FILE, or with - standard input, in the place of what the catalog holds: all of it or nothing, also beside a running server.

    In a catalog of the same trust domain tokens, CA, revocations and trails of policy stay as they are, and the index goes on. An empty directory gets
    everything, and the snapshot's index.
    """
    try:
        with _held(data) if yes or (data / DATABASE).exists() else _lent(data) as room, unpack(file, Path(room)) as (raw, about):
            plan = _planned(data, raw, about)
            if not yes or output != "json":
                _show_plan(plan, about, output)
            if not yes:
                click.echo(f"nothing was changed; to do it: nodeagent catalog --data {data} snapshot restore {file} --yes", err=True)
                return
            with closing(open_database(data / DATABASE, create=True)) as connection:
                restore(connection, raw, about)
    except (Refusal, OSError, sqlite3.Error) as error:
        raise CatalogError(f"{data}: {error}") from error
    if output == "json":
        _show_plan(plan, about, output, is_done=True)
    else:
        click.echo(f"restored: {file}")
    click.echo(_after(data, about, whole=plan.is_whole), err=True)


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


class _Plan(NamedTuple):
    """What a restore does."""

    is_whole: bool
    """Trust comes with it."""
    before: dict[str, int]
    """Rows by table, here and below."""
    then: dict[str, int]


def _planned(data: Path, raw: Path, about: About) -> _Plan:
    """What a restore would do. Where there is no catalog, none is made."""
    then = {name: about.rows.get(name, 0) for name in COUNTED}
    if not (data / DATABASE).exists():
        return _Plan(True, dict.fromkeys(COUNTED, 0), then)
    with closing(open_database(data / DATABASE, create=True)) as connection:
        whole, before = is_whole(connection, about), counts_of(connection)
        then["kv"] += count_kept(connection, raw)
    if not whole:
        then |= {name: before[name] for name in ("tokens", "roots")}
    return _Plan(whole, before, then)


def _show_plan(plan: _Plan, about: About, output: str, *, is_done: bool = False) -> None:
    if output == "json":
        show_json({**_API, "restored": is_done, "trust": plan.is_whole, "before": plan.before, "after": plan.then, "snapshot": _said(about)})
        return
    show_table(("WHAT", "NOW", "THEN"), [(name, str(plan.before[name]), str(plan.then[name])) for name in COUNTED])
    click.echo(_told(about))


def _check_free(file: Path, *, force: bool) -> None:
    if not is_taken(file):
        return
    if not file.is_file():
        raise CatalogError(f"{file}: is no file that could be replaced; - writes to standard output")
    if not force:
        raise CatalogError(f"{file}: is there already; --force replaces it")


def _said(about: About) -> dict[str, object]:
    return {name: getattr(about, name) for name in about.__struct_fields__}


def _check_own(data: Path) -> None:
    try:
        with suppress(FileNotFoundError):  # opening the database says it, with the cure
            check_directory(data)
    except OSError as error:
        raise CatalogError(f"{data}: {error.strerror}") from error


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
