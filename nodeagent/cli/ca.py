"""`nodeagent ca`: the roots of the embedded catalog's CA, and how one replaces another, step by step."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nodeagent import limits
from nodeagent.cli.catalog_api import config_option, open_operator, token_option
from nodeagent.cli.render import (
    duration,
    headers_option,
    instant,
    now,
    output_option,
    printable,
    show_json,
    show_table,
    warn,
)
from nodeagent.errors import CatalogError
from nodeagent.lab.progress import Progress

PATH = "/v1/nodeagent/ca"
HEADERS = ("ROOT", "STATE", "ENDS", "IN", "HELD BY")
STEPS = ("add", "activate", "retire", "drop", "deactivate", "restore")

DOES = {
    "add": "makes a new root that all hosts believe; the present one goes on signing",
    "activate": "the new root signs from now on; agents renew their certificates with it within minutes",
    "retire": "nobody believes the old root any more; tunnels that hang on it are cut at once",
    "drop": "takes the new root, which does not sign, out of the mesh",
    "deactivate": "the old root signs again",
    "restore": "the old root is believed again",
}
_ID_CHARS = 16
UNTOLD = {
    "steady": "until then what was taken back is believed there",
    "added": "until then another root must not sign",
    "activated": "until then the other root must not sign again",
}
"""What it means that a host does not know of the last change, by phase."""


@click.group()
def ca() -> None:
    """The mesh's own CA, in the embedded catalog. Takes a management token."""


@ca.command()
@headers_option
@output_option
@token_option
@config_option
def status(*, no_headers: bool, output: str, config_path: Path, token_file: Path | None) -> None:
    """Which root signs, which are believed, who holds certificates of each, and what can be done next."""
    _show(open_operator(config_path, token_file).ask("GET", PATH), output, no_headers=no_headers)


@ca.command()
@click.option("--yes", is_flag=True, help="Take the step. Without, it is shown only.")
@click.option("--back", is_flag=True, help="Take the last step back instead.")
@click.option("--step", type=click.Choice(STEPS), help="Fail unless this is the step: for scripts.")
@click.option("--force", is_flag=True, help="Take it although hosts lose connections by it.")
@headers_option
@output_option
@token_option
@config_option
def rotate(  # noqa: PLR0913 - click hands over one argument for each option
    *,
    yes: bool,
    back: bool,
    step: str | None,
    force: bool,
    no_headers: bool,
    output: str,
    config_path: Path,
    token_file: Path | None,
) -> None:
    """Replace the root: add, activate, retire, one step a call; or the way back.

    Exit status: 0 shown or done, 1 not possible now or somebody would lose connections, shown or not, 3 no catalog is there,
    5 it does not answer in time.
    """
    client = open_operator(config_path, token_file)
    state = client.ask("GET", PATH)
    chosen = step_of(state, back=back, step=step)
    if not yes:
        _show(state, output, no_headers=no_headers)
        click.echo(f"{chosen}: {DOES[chosen]}; to do it: nodeagent ca rotate {'--back ' if back else ''}--yes", err=True)
        if why := "" if force else state.get("back_refused" if back else "next_refused"):
            raise CatalogError(f"it would be refused: {why}")
        return
    done = client.ask("PUT", f"{PATH}/rotate", {"Step": chosen, "Force": force})
    click.echo(f"done: {chosen}: {DOES[chosen]}", err=True)
    _show(wait_told(lambda: client.ask("GET", PATH), done), output, no_headers=no_headers)


def wait_told(look: Callable[[], dict[str, Any]], state: dict[str, Any]) -> dict[str, Any]:
    """The state once every host was told of the last step, or CA_TOLD_S have passed. look: asks for it anew."""
    deadline, progress = time.monotonic() + limits.CA_TOLD_S, Progress(lambda what: click.echo(f"  · {printable(what)}", err=True))
    while state["unaware"] and time.monotonic() < deadline:
        progress.waits_for(f"not told yet: {', '.join(state['unaware'])}")
        time.sleep(limits.CA_LOOK_S)
        state = look()
    return state


def step_of(state: dict[str, Any], *, back: bool, step: str | None) -> str:
    """The step that is meant.

    Raises:
        CatalogError: there is none, or another one than the script expects.
    """
    chosen = str(state["back"] if back else state["next"])
    if not chosen:
        raise CatalogError("there is nothing to take back: no root was retired; see: nodeagent ca status")
    if step not in (None, chosen):
        raise CatalogError(f"the step is {chosen} now, not {step}; see: nodeagent ca status")
    return chosen


def table_row(root: dict[str, Any], at: float) -> list[str]:
    """The cells for one root; `at` in Unix seconds."""
    left = duration(root["not_after"] - at) if root["not_after"] > at else "-"
    holders = ", ".join(f"{held['node']} ({len(held['services'])})" for held in root["held_by"])
    return [root["id"][:_ID_CHARS], root["state"], instant(root["not_after"]), left, holders or "-"]


def remarks(state: dict[str, Any]) -> list[str]:
    """What the table does not show."""
    back = f", back: {state['back']}" if state["back"] else ""
    lines = [f"rotation: {state['phase']}; next: {state['next']}{back}; certificates live {duration(state['leaf_ttl_s'])}"]
    lines += [f"revoked: {each['node'] or 'management'} (token {each['accessor']})" for each in state["revoked"]]
    return lines


def _show(state: dict[str, Any], output: str, *, no_headers: bool) -> None:
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", **state})
        return
    show_table(HEADERS, [table_row(root, now()) for root in state["roots"]], no_headers=no_headers)
    for line in remarks(state):
        click.echo(line)
    if state["unaware"]:
        warn(f"{', '.join(state['unaware'])} {'has' if len(state['unaware']) == 1 else 'have'} not been told of the last change; {UNTOLD[state['phase']]}")
