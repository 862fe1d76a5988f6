"""`nodeagent policy`: entries of every kind, from files into the catalog and back."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from nodeagent import limits
from nodeagent.catalog.policy.audit import without_texts
from nodeagent.catalog.policy.entries import INTENTIONS, KINDS, Entry, Key, find_kind, unacted
from nodeagent.catalog.policy.older import unknown_keys
from nodeagent.catalog.policy.references import reference_faults
from nodeagent.catalog.state import IntentionRow
from nodeagent.cli import completion, rights
from nodeagent.cli.catalog_api import config_option, open_operator, token_option
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.policy_change import (
    FAILED,
    Step,
    carry_out,
    check_plan,
    find_actor,
    plan_changes,
    plan_removal,
)
from nodeagent.cli.policy_files import STDIN, Given, read_given
from nodeagent.cli.policy_show import (
    show_diff,
    show_done,
    show_entries,
    show_faults,
    show_history,
    show_list,
    show_plan,
)
from nodeagent.cli.policy_store import PolicyStore
from nodeagent.cli.policy_test import test
from nodeagent.cli.render import counting, headers_option, output_option, show_json, warn
from nodeagent.errors import CatalogError, NotInCatalog, PolicyError

Command = Callable[..., None]
_document_option = click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="In which form.",
)  # fmt: skip
_dry_option = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")


def _files(*, required: bool) -> Callable[[Command], Command]:
    return click.option(
        "-f", "--file", "files", multiple=True, required=required, metavar="FILE", type=click.Path(path_type=str, allow_dash=True),
        help=f"YAML or JSON, of one or several entries; a directory with such files; {STDIN} for standard input. Can be repeated.",
    )  # fmt: skip


def _kind(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """click's: the kind, else a usage error with those that there are."""
    try:
        return value and find_kind(value).name
    except PolicyError as error:
        raise click.BadParameter(str(error)) from None


def _kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def _key_arguments(*, required: bool) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        named = click.argument("name", required=False, shell_complete=completion.services)(command)
        return click.argument("kind", required=required, callback=_kind, shell_complete=_kinds)(named)

    return decorate


@click.group()
def policy() -> None:
    """What holds in the mesh: intentions, defaults, routes, splits, resolvers and the rest, from files into the catalog.

    An entry has a Kind, a Name and what Consul's entry of that kind has; keys may be written as PathPrefix or path_prefix.
    Kinds that Consul has not (mirror, fault, retry-budget, rate-limit) are kept in its KV store below nodeagent/config/.
    """


policy.add_command(test)


@policy.command()
@_files(required=True)
@_dry_option
@output_option
@token_option
@config_option
def apply(*, files: Sequence[str], dry_run: bool, output: str, token_file: Path | None, config_path: Path) -> None:
    """Make the catalog say what the files say; what they do not name stays as it is.

    All are checked before anything is written, each by itself and all together with what the catalog has. What others
    refer to is written first. An entry that somebody else changes meanwhile is not written over; with a ModifyIndex in its
    document (as `get` shows it) also since that was read.

    Exit status: 0 all of it holds now, 1 something was refused or fails (what became of each entry is told), 3 the catalog is out of reach,
    5 it does not answer in time.
    """
    with _faults_told(output):
        given, store = read_given(files), PolicyStore(open_operator(config_path, token_file))
        current = store.read_all()
        steps = plan_changes(_entries(given), current)
        _check_keys(store, steps)
        doubts = [*check_plan(steps, current, store.services()), *_hidden(store)]
    _finish(store, steps, doubts, output, dry_run=dry_run)


@policy.command()
@_key_arguments(required=False)
@_files(required=False)
@_dry_option
@output_option
@token_option
@config_option
def delete(  # noqa: PLR0913 - click passes each option by name
    *, kind: str | None, name: str | None, files: Sequence[str], dry_run: bool, output: str, token_file: Path | None, config_path: Path
) -> None:
    """Delete one entry by KIND and NAME, or all that the files name. What others still need is refused.

    A document with a ModifyIndex (as `get` shows it) deletes that very state: one that was changed since stays.
    """
    if bool(kind and name) == bool(files):
        raise click.UsageError("give KIND and NAME, or --file")
    with _faults_told(output):
        keys = {key: each.entry.index for key, each in read_given(files).items()} if files else {Key(kind or "", name or ""): None}
    store = PolicyStore(open_operator(config_path, token_file))
    current = store.read_all()
    missing = [str(key) for key in keys if key not in current]
    if missing:
        rights.check_proven(store.client, store.rights_to(None))
        raise NotInCatalog(f"there is no {', no '.join(missing)}; see: nodeagent policy list")
    steps = plan_removal(keys, current)
    with _faults_told(output):
        doubts = check_plan(steps, current, store.services())
    _finish(store, steps, doubts, output, dry_run=dry_run)


@policy.command()
@_key_arguments(required=True)
@_document_option
@token_option
@config_option
def get(*, kind: str, name: str | None, output: str, token_file: Path | None, config_path: Path) -> None:
    """Print the entry NAME of KIND, or all of KIND, as documents that `apply` takes."""
    store = PolicyStore(open_operator(config_path, token_file))
    stored = store.read(Key(kind, name)) if name else None
    if name and stored is None:
        raise NotInCatalog(f"there is no {kind} {name}; see: nodeagent policy list {kind}")
    found = [stored] if stored else store.read_kind(kind)
    if not name:
        rights.check_shown(store.client, store.rights_to(kind), has_rows=bool(found))
    garbage = [f"{store.place(kind)}/{each.key.name} in the KV store is no entry, nor any JSON object: write it anew, or delete it" for each in found if not each.body]
    if stored and garbage:
        raise CatalogError(garbage[0])
    _warn(garbage)
    show_entries([each for each in found if each.body], output)


@policy.command("list")
@click.argument("kind", required=False, callback=_kind, shell_complete=_kinds)
@headers_option
@output_option
@token_option
@config_option
def list_(*, kind: str | None, no_headers: bool, output: str, token_file: Path | None, config_path: Path) -> None:
    """All entries of the catalog, or those of KIND, and whether agents act on them yet."""
    store = PolicyStore(open_operator(config_path, token_file))
    found = store.read_kind(kind) if kind else list(store.read_all().values())
    rights.check_shown(store.client, store.rights_to(kind), has_rows=bool(found))
    show_list(found, store, output, no_headers=no_headers)
    _warn([] if kind else [f"{key} in the KV store is of no kind that this version knows" for key in store.read_strays()])
    kept = {each.key.name for each in found if each.key.kind == INTENTIONS}
    _warn(_told(store.rows_to(kept), kept, "not in force, as an entry stands in the place of all rows of its destination"))


@policy.command()
@_files(required=True)
@click.option("--online", is_flag=True, help="Also against what the catalog has, as `apply` would; changes nothing.")
@output_option
@token_option
@config_option
def validate(*, files: Sequence[str], online: bool, output: str, token_file: Path | None, config_path: Path) -> None:
    """Exit 0 when the files are sound; else all that is wrong, each with file, line, entry and path.

    Without --online nobody is asked: circles and protocols are checked as far as the files speak of them.
    """
    with _faults_told(output):
        given = read_given(files)
        doubts = _check_online(given, config_path, token_file) if online else _check_offline(given)
    _warn(doubts)
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", "valid": True, "entries": len(given), "faults": [], "warnings": doubts})
    else:
        click.echo(f"{len(given)} {'entry' if len(given) == 1 else 'entries'}, valid")


@policy.command()
@_files(required=True)
@click.option(
    "--against", multiple=True, metavar="FILE", type=click.Path(path_type=str), help="Compare with these files instead of the catalog. Can be repeated."
)
@output_option
@token_option
@config_option
def diff(*, files: Sequence[str], against: Sequence[str], output: str, token_file: Path | None, config_path: Path) -> None:
    """How the catalog differs from what the files say.

    Exit status: 0 it does not, 1 it does, or the files are not sound, 3 the catalog is out of reach, 5 it does not answer in time.
    """
    with _faults_told(output):
        given, old = read_given(files), read_given(against) if against else {}
    if against:
        pairs = [(key, old[key].entry.said if key in old else None, each.entry.said) for key, each in given.items()]
    else:
        store = PolicyStore(open_operator(config_path, token_file))
        stored = {key: store.read(key) for key in given}
        pairs = [(key, found.body if (found := stored[key]) else None, each.entry.said) for key, each in given.items()]
    if show_diff(pairs, output):
        raise SystemExit(EXIT_FAILED)


@policy.command()
@_key_arguments(required=False)
@_files(required=False)
@click.option("--text", is_flag=True, help="With what each change changed.")
@headers_option
@output_option
@token_option
@config_option
def history(  # noqa: PLR0913 - click passes each option by name
    *, kind: str | None, name: str | None, files: Sequence[str], text: bool, no_headers: bool, output: str,
    token_file: Path | None, config_path: Path,
) -> None:  # fmt: skip
    """Who changed which entry, and when: all of them, those of KIND, the one NAME, or those that the files name.

    Changes that were made neither by this command nor by `nodeagent intention` are shown as external, between the two
    moments that are known.
    """
    if kind and files:
        raise click.UsageError("give KIND and NAME, or --file")
    with _faults_told(output):
        keys = list(read_given(files)) if files else [Key(kind, name)] if kind and name else []
    store = PolicyStore(open_operator(config_path, token_file))
    if keys:
        found = {key: store.read_trail(key)[0] for key in keys}
        current = {key: stored for key in keys if (stored := store.read(key))}
    else:
        found = {key: trail if text or trail is None else without_texts(trail) for key, trail, _ in store.read_trails(kind)}
        current = {each.key: each for each in store.read_kind(kind)} if kind else store.read_all()
        rights.check_shown(store.client, store.rights_to(kind, with_trails=True), has_rows=bool(found or current))
    current |= store.read_rows(found.keys() - current.keys())
    for key in (key for key, trail in found.items() if trail is None):
        warn(f"the trail of {key} is not understood by this version, and is not shown")
        current.pop(key, None)
    trails = {key: trail for key, trail in found.items() if trail is not None}
    show_history(trails, current, output, with_text=text, no_headers=no_headers)


@contextmanager
def _faults_told(output: str) -> Iterator[None]:
    """What is wrong with files is the answer, in its form, and ends the command."""
    try:
        yield
    except PolicyError as error:
        show_faults(error.faults, output)
        raise SystemExit(EXIT_FAILED) from None


def _entries(given: dict[Key, Given]) -> dict[Key, Entry]:
    return {key: each.entry for key, each in given.items()}


def _check_offline(given: dict[Key, Given]) -> list[str]:
    specs = {key: each.entry.spec for key, each in given.items()}
    faults = reference_faults(specs, is_all=False)
    if faults:
        raise PolicyError(*faults)
    entries = [each.entry for each in given.values()]
    return [*(doubt for entry in entries for doubt in entry.doubts), *unacted(entries)]


def _check_online(given: dict[Key, Given], config_path: Path, token_file: Path | None) -> list[str]:
    store = PolicyStore(open_operator(config_path, token_file))
    current = store.read_all()
    steps = plan_changes(_entries(given), current)
    _check_keys(store, steps)
    return [*check_plan(steps, current, store.services()), *_hidden(store)]


def _check_keys(store: PolicyStore, steps: Sequence[Step]) -> None:
    """Whether the catalog knows all that is to be written; one that keeps no intentions as entries is a Consul before 1.9.

    Raises:
        PolicyError: each key that it refuses.
    """
    written = [step for step in steps if step.after and step.result != "unchanged" and not store.is_in_kv(step.key.kind)]
    if written and store.is_in_kv(INTENTIONS):
        faults = [f"{step.key}: {path}: Consul before 1.9 has no such key, and refuses the entry" for step in written for path in unknown_keys(step.key.kind, step.new or {})]
        if faults:
            raise PolicyError(*faults)


def _hidden(store: PolicyStore) -> list[str]:
    """Why what is planned may be of another state than the catalog's."""
    return [f"what is there was not seen whole: {right}" for right in rights.lacking(store.client, store.rights_to(None))]


def _warn(doubts: Sequence[str]) -> None:
    """The first of them; all are in the answer for programs."""
    for doubt in doubts[: limits.POLICY_FAULTS]:
        warn(doubt)
    if len(doubts) > limits.POLICY_FAULTS:
        warn(f"{len(doubts) - limits.POLICY_FAULTS} more, all of them with -o json")


def _place_doubts(store: PolicyStore, steps: Sequence[Step]) -> list[str]:
    """What becomes of rows of intentions in a Consul that has no entries for them, by entries that come and go in the KV store."""
    changed = [step for step in steps if step.key.kind == INTENTIONS and step.result != "unchanged"]
    rows = store.rows_to({step.key.name for step in changed})
    going = {step.key.name for step in changed if not step.after}
    return [
        *_told(rows, {step.key.name for step in changed} - going, "an entry stands in the place of all rows of its destination, so these are not in force"),
        *_told(rows, going, "these rows are in force again, as no entry stands in their place"),
    ]


def _told(rows: Sequence[IntentionRow], destinations: Collection[str], says: str) -> list[str]:
    named = [f"{row.source} -> {row.destination} ({row.word})" for row in rows if row.destination in destinations]
    return [f"{says}: {', '.join(named)}"] if named else []


def _tell_of_left_over(store: PolicyStore, keys: Sequence[Key]) -> None:
    """Removes what the KV store still has of these, where the catalog keeps them by itself by now, and says so."""
    what = "what the KV store had of entries from before this catalog kept them by itself"
    try:
        removed = store.remove_left_over(keys)
    except CatalogError as error:
        warn(f"{what} was not removed: {error}")
        return
    if removed:
        warn(f"removed {what}: {', '.join(map(str, removed))}")


def _tell_of_trails(store: PolicyStore) -> None:
    """Removes old trails; says what is not as it should be about what was asked for and done."""
    if store.is_blind:
        warn("this catalog deletes an entry without comparing what it says by then: it was looked at a moment before, and is recorded as it was")
    try:
        store.prune_trails()
    except CatalogError as error:
        warn(f"the oldest trails, of over {limits.POLICY_TRAILS}, were not removed: {error}")


def _finish(store: PolicyStore, steps: Sequence[Step], doubts: Sequence[str], output: str, *, dry_run: bool) -> None:
    """Shows or does what was planned, and ends the command by what became of it."""
    doubts = [*doubts, *_place_doubts(store, steps)]
    _warn(doubts)
    if dry_run:
        show_plan(steps, doubts, output)
        failed = any(step.result in FAILED for step in steps)
    else:
        done = carry_out(store, steps, find_actor(store), counting(len(steps)))
        show_done(done, doubts, output)
        _tell_of_left_over(store, [each.step.key for each in done if each.result not in FAILED])
        _tell_of_trails(store)
        failed = any(each.result in FAILED for each in done)
    if failed:
        raise SystemExit(EXIT_FAILED)
