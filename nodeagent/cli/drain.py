"""`nodeagent drain` and `undrain`: this host takes no new work, and takes it again."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

from nodeagent import limits
from nodeagent.cli.agent_api import AgentUnreachableError, ask, find_socket, socket_option
from nodeagent.cli.catalog_api import config_option, open_host, token_option
from nodeagent.cli.main import EXIT_TIMEOUT
from nodeagent.cli.render import instant, output_option, show_json
from nodeagent.cli.seconds import Seconds
from nodeagent.config import load_config
from nodeagent.control.report import API_VERSION, ConnectionsAnswer
from nodeagent.errors import CatalogTimeout
from nodeagent.model.outcome import ConnectionRow

_LOOK_S = 1.0
_INBOUND = ("tunnel", "plaintext")


@click.command()
@click.option("--reason", default="", metavar="TEXT", help="Shown in the catalog.")
@click.option("--wait", "wait_s", type=Seconds(0, 86_400), metavar="SECONDS", help="Once drained, wait until no connection from another host is open.")
@token_option
@config_option
@output_option
@socket_option
def drain(
    *, reason: str, wait_s: float | None, token_file: Path | None, config_path: Path, output: str, socket_path: str | None
) -> None:
    """Take no new work: every service of this host goes into the catalog's maintenance mode, and balancers skip it.

    Nothing is cut, services of this host go on calling, and whoever calls this host by its address is answered. It holds
    over restarts, until: nodeagent undrain.

    Exit status: 0 done; 3 catalog or agent cannot be asked, and nothing was changed; 5 the host is drained, and connections are open when
    --wait is over, or the agent does not tell; or, without "drained", with --wait the agent was silent for 5 s, and nothing was changed, or
    the catalog for 15 s, which may do it yet.
    """
    where = find_socket(socket_path, config_path)
    if wait_s is not None:
        _look(where, config_path)  # an agent that cannot be asked is told before anything is changed
    _maintain(config_path, token_file, enable="true", reason=reason or "nodeagent drain")
    host = load_config(config_path).host.name
    if output == "table":
        click.echo(f"drained: {host} takes no new work")
    left = _wait(where, config_path, wait_s) if wait_s is not None else None
    if output == "json":
        _show(host, drained=True, left=left)
    elif left and not left.words:
        click.echo("no connection from another host is open")
    if left and left.words:
        click.echo(f"Error: {left.words}; nothing is cut. See: nodeagent connections", err=True)
        raise SystemExit(EXIT_TIMEOUT)


@click.command()
@token_option
@config_option
@output_option
def undrain(*, token_file: Path | None, config_path: Path, output: str) -> None:
    """Take new work again."""
    _maintain(config_path, token_file, enable="false", reason="")
    host = load_config(config_path).host.name
    if output == "json":
        _show(host, drained=False, left=None)
    else:
        click.echo(f"back at work: {host}")


class _Left(NamedTuple):
    """What is still open from other hosts."""

    number: int | None
    """None: the agent did not tell all of it."""
    words: str
    """Empty: nothing is."""


def inbound(rows: Iterable[ConnectionRow]) -> list[ConnectionRow]:
    """Those that come from other hosts, the oldest first."""
    return sorted((row for row in rows if row.direction in _INBOUND), key=lambda row: row.opened_at)


def summary(rows: list[ConnectionRow], more: str = "") -> str:
    """What is still open. more: why there may be more of it."""
    names = ", ".join(sorted({row.destination or row.original_dst for row in rows}))
    number, oldest = (f"at least {len(rows)}", "the oldest of them") if more else (f"{len(rows)}", "the oldest")
    return f"{number} connections from other hosts are open{more and f' ({more})'}, to {names}, {oldest} since {instant(rows[0].opened_at)}"


def _maintain(config_path: Path, token_file: Path | None, *, enable: str, reason: str) -> None:
    node = load_config(config_path).host.name
    try:
        open_host(config_path, token_file).ask("PUT", "/v1/agent/maintenance", enable=enable, reason=reason, node=node)
    except CatalogTimeout as error:
        raise CatalogTimeout(f"{error} It was told, and may do it yet: say it again when it answers") from error


def _show(host: str, *, drained: bool, left: _Left | None) -> None:
    """For programs; `open` is a number where it was waited for and is known, and `why` says what kept the wait from its end."""
    number, why = left or (None, "")
    show_json({"apiVersion": API_VERSION, "host": host, "drained": drained, "open": number, "why": why})


def _wait(where: str, config_path: Path, wait_s: float) -> _Left:
    """What is still open at the end, which comes early where nothing is."""
    end, told = time.monotonic() + wait_s, ""
    while (left := _look_again(where, config_path, end - time.monotonic())).words and (left_s := end - time.monotonic()) > 0:
        if left.words != told:
            told = left.words
            click.echo(f"{told}; {left_s:.0f} s left", err=True)
        time.sleep(min(_LOOK_S, left_s))
    return left


def _look_again(where: str, config_path: Path, left_s: float) -> _Left:
    """As `_look`; an agent that answers no more is replacing itself, or whoever waits is told so at the end."""
    try:
        return _look(where, config_path, max(_LOOK_S, min(limits.API_ANSWER_S, left_s)))
    except AgentUnreachableError:
        return _Left(None, "the agent does not tell its connections")


def _look(where: str, config_path: Path, patience_s: float = 0.0) -> _Left:
    query = {"limit": str(limits.API_ROWS_MAX)}
    answer = ask("/v1/connections", ConnectionsAnswer, socket_path=where, query=query, config=config_path, patience_s=patience_s)
    rows, looked_at = inbound(answer.connections), f"{len(answer.connections)} of {answer.total} connections were looked at"
    is_cut = answer.total > len(answer.connections)
    if rows:
        more = f"{answer.unanswered} workers did not tell theirs" if answer.unanswered else looked_at if is_cut else ""
        return _Left(None if more else len(rows), summary(rows, more))
    if answer.unanswered:
        return _Left(None, f"{answer.unanswered} workers did not tell their connections")
    return _Left(None, f"{looked_at}, and none of them is from another host") if is_cut else _Left(0, "")
