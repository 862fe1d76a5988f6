"""What `nodeagent policy` prints."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from nodeagent.catalog.policy.acted import unacted_on
from nodeagent.catalog.policy.audit import Change, Elsewhere, Trail, told
from nodeagent.catalog.policy.entries import Key
from nodeagent.catalog.policy.texts import difference, hash_of, texts_of
from nodeagent.cli.policy_change import FAILED, Done, Step
from nodeagent.cli.policy_store import PolicyStore, Stored
from nodeagent.cli.render import instant, printable, show_json, show_table

_API = {"apiVersion": "nodeagent/v1"}
_HASH_CHARS = 8
Pair = tuple[Key, Mapping[str, Any] | None, Mapping[str, Any] | None]


def show_faults(faults: Sequence[str], output: str) -> None:
    """All that is wrong."""
    if output == "json":
        show_json({**_API, "valid": False, "faults": list(faults), "warnings": []})
        return
    for fault in faults:
        click.ClickException(printable(fault)).show()


def show_entries(stored: Sequence[Stored], output: str) -> None:
    """Documents that can be applied again; their index lets `apply` see who was faster."""
    bodies = [{**each.body, "ModifyIndex": each.index} for each in stored]
    if output == "json":
        click.echo(json.dumps(bodies[0] if len(bodies) == 1 else bodies, indent=2))
    else:
        click.echo(texts_of(bodies), nl=False)


def show_list(stored: Sequence[Stored], store: PolicyStore, output: str, *, no_headers: bool) -> None:
    """A row for each entry."""
    acted = {each.key: _acted_on(each) for each in stored}
    if output == "json":
        rows = [{"kind": each.key.kind, "name": each.key.name, "index": each.index, "place": store.place(each.key.kind), "acted_on": acted[each.key]} for each in stored]
        show_json({**_API, "entries": rows})
        return
    cells = [(each.key.kind, each.key.name, str(each.index), "KV" if store.is_in_kv(each.key.kind) else "config", acted[each.key]) for each in stored]
    show_table(("KIND", "NAME", "INDEX", "KEPT IN", "ACTED ON"), cells, no_headers=no_headers)


def _acted_on(stored: Stored) -> str:
    if stored.entry is None:
        return "?"
    return "no" if unacted_on(stored.entry.spec) else "yes"


def show_plan(steps: Sequence[Step], doubts: Sequence[str], output: str) -> None:
    """What would become of each entry."""
    if output == "json":
        rows = [_row(step.key, step.result) | {"diff": step.difference} for step in steps]
        show_json({**_API, "dryRun": True, "entries": rows, "warnings": list(doubts)})
        return
    for step in steps:
        click.echo(f"{step.key}: {'conflict' if step.result == 'conflict' else step.result if step.result == 'unchanged' else f'would be {step.result}'}")
        _echo_lines(step.difference)


def show_done(done: Sequence[Done], doubts: Sequence[str], output: str) -> None:
    """What became of each entry; failures and what to do about them on standard error."""
    failed = [each for each in done if each.result in FAILED]
    if output == "json":
        rows = [_row(each.step.key, each.result) | ({"message": each.says} if each.says else {}) for each in done]
        show_json({**_API, "dryRun": False, "entries": rows, "warnings": list(doubts)})
    for each in done:
        line = printable(f"{each.step.key}: {each.result}{f': {each.says}' if each.says else ''}")
        if output != "json" or each.says:
            click.echo(line, err=each.result in FAILED or output == "json")
    if failed:
        click.echo(f"{len(done) - len(failed)} of {len(done)} hold; apply the same again when the others can: what holds stays as it is", err=True)


def show_diff(pairs: Sequence[Pair], output: str) -> bool:
    """Shows how entries differ; whether any does."""
    found = [(key, lines) for key, old, new in pairs if (lines := difference(old, new, str(key)))]
    if output == "json":
        show_json({**_API, "differ": [{"kind": key.kind, "name": key.name, "diff": lines} for key, lines in found]})
    for _, lines in found if output == "table" else ():
        _echo_lines(lines)
    return bool(found)


def show_history(
    trails: Mapping[Key, Trail], current: Mapping[Key, Stored], output: str, *, with_text: bool, no_headers: bool
) -> None:
    """Every change of these entries, oldest first."""
    rows = [
        (key, change)
        for key in {**trails, **current}
        for change in told(trails.get(key, Trail()), hash_of(current[key].body if key in current else None))
    ]
    rows.sort(key=lambda row: (row[1].at if isinstance(row[1], Change) else row[1].until or float("inf"), row[0]))
    if output == "json":
        show_json({**_API, "changes": [_change_json(key, change, trails.get(key, Trail()), with_text=with_text) for key, change in rows]})
    elif with_text:
        _show_texts(rows, trails)
    else:
        show_table(("WHEN", "ENTRY", "WHAT", "WHO", "TOKEN", "HASH"), [_cells(*row) for row in rows], no_headers=no_headers)


def _cells(key: Key, change: Change | Elsewhere) -> tuple[str, ...]:
    hashes = f"{change.before[:_HASH_CHARS] or '-'} -> {change.after[:_HASH_CHARS] or '-'}"
    if isinstance(change, Change):
        return instant(change.at), str(key), change.act, str(change.by), change.by.token[:_HASH_CHARS] or "-", hashes
    return f"before {instant(change.until)}" if change.until else "since", str(key), "external", "-", "-", hashes


def _show_texts(rows: Sequence[tuple[Key, Change | Elsewhere]], trails: Mapping[Key, Trail]) -> None:
    for key, change in rows:
        click.echo(printable("  ".join(_cells(key, change))))
        if isinstance(change, Change):
            _echo_lines(_changed_lines(change, trails[key]))


def _changed_lines(change: Change, trail: Trail) -> list[str]:
    """What a change changed; its text of before is in the change before it, unless it has its own."""
    from difflib import unified_diff  # noqa: PLC0415 - for one option of one command

    place = trail.changes.index(change)
    before = change.before_text or (trail.changes[place - 1].after_text if place and change.before else "")
    return list(unified_diff(before.splitlines(), change.after_text.splitlines(), lineterm=""))[2:]


def _change_json(key: Key, change: Change | Elsewhere, trail: Trail, *, with_text: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": key.kind, "name": key.name}
    if isinstance(change, Elsewhere):
        return row | {"act": "external", "since": change.since, "until": change.until, "before": change.before, "after": change.after}
    row |= {"act": change.act, "at": change.at, "by": msgspec.to_builtins(change.by), "before": change.before, "after": change.after}
    return row | ({"diff": _changed_lines(change, trail)} if with_text else {})


def _row(key: Key, result: str) -> dict[str, Any]:
    return {"kind": key.kind, "name": key.name, "result": result}


def _echo_lines(lines: Sequence[str]) -> None:
    """Lines of a difference, coloured on a terminal."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        click.secho(printable(line), fg=colours.get(line[:1]))
