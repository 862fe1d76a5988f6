"""`nodeagent upgrade`: another installed version takes over from the running one, which no connection notices."""

import os
import signal
import time
from pathlib import Path

import click

from nodeagent import limits
from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.render import output_option, show_json, show_table
from nodeagent.cli.versions import ROOT, Versions, choose, read_versions, switch
from nodeagent.control.generations import Reloaded, judge_reload
from nodeagent.control.report import API_VERSION, Status
from nodeagent.lab.progress import Progress


@click.command()
@click.argument("version", default="")
@click.option("--list", "only_list", is_flag=True, help="Show what is installed.")
@click.option("--back", is_flag=True, help="To the version that ran before.")
@click.option("--yes", is_flag=True, help="Do it. Without, it is only said what would be done.")
@click.option("--root", type=click.Path(path_type=Path), default=ROOT, show_default=True, metavar="PATH",
              help="Where versions are installed side by side.")  # fmt: skip
@output_option
@socket_option
def upgrade(  # noqa: PLR0913 - click hands over one argument for each option
    *, version: str, only_list: bool, back: bool, yes: bool, root: Path, output: str, socket_path: str | None
) -> None:
    """Has the agent go on as VERSION, or as the newest that is installed. Connections live on in the workers of before.

    Removes nothing. Where the new version does not serve in time, the one before is put back.

    Exit status: 0 done, or nothing to do; 1 refused or put back; 3 no agent is there.
    """
    versions = read_versions(root)
    if only_list:
        _show(versions, output)
        return
    chosen = choose(versions, version, back=back)
    before = ask("/v1/status", Status, socket_path=socket_path)
    if chosen == versions.current and chosen == before.version:
        click.echo(f"{chosen} runs already")
        return
    if not yes:
        click.echo(f"would switch {root}/current from {versions.current or 'nothing'} to {chosen}, and reload; --yes does it")
        return
    _take(versions, chosen, before, socket_path)
    click.echo(f"{chosen} serves; connections of before live on, see: nodeagent status")


def _take(versions: Versions, chosen: str, before: Status, socket_path: str | None) -> None:
    """Raises ClickException: it could not be done; the version of before runs, or is at least what starts next."""
    switch(versions.root, "current", chosen)
    why = _reload(before, chosen, socket_path)
    if not why:
        if versions.current and versions.current != chosen:
            switch(versions.root, "previous", versions.current)
        return
    if not versions.current:
        raise click.ClickException(f"{chosen} does not serve: {why}; no version is known to go back to")
    switch(versions.root, "current", versions.current)
    now = ask("/v1/status", Status, socket_path=socket_path)
    is_unchanged = now.supervisor and before.supervisor and now.supervisor.generation == before.supervisor.generation
    again = "" if is_unchanged else _reload(now, versions.current, socket_path)
    put_back = f"; that {versions.current} serves again could not be seen: {again}" if again else f"; {versions.current} serves"
    raise click.ClickException(f"{chosen} was not taken: {why}{put_back}")


def _reload(before: Status, version: str, socket_path: str | None) -> str:
    """Why the agent does not serve as `version` after a reload; empty: it does."""
    if before.supervisor is None:
        return "the supervisor was not heard yet"
    os.kill(before.supervisor.pid, signal.SIGHUP)
    deadline, progress = time.monotonic() + limits.UPGRADE_S, Progress(lambda what: click.echo(f"  · {what}", err=True))
    while (so_far := _look(before, version, socket_path)).state == "waiting":
        if time.monotonic() > deadline:
            return f"not within {limits.UPGRADE_S:g} s: {so_far.why}"
        progress.waits_for(so_far.why)
        time.sleep(limits.RESEND_S)
    return so_far.why


def _look(before: Status, version: str, socket_path: str | None) -> Reloaded:
    try:
        now = ask("/v1/status", Status, socket_path=socket_path)
    except click.ClickException as error:
        return judge_reload(before, None, error.message)
    return judge_version(judge_reload(before, now), now.version, version)


def judge_version(so_far: Reloaded, running: str, version: str) -> Reloaded:
    """A reload that is done, of which another version came, is refused: the agent was not started by the link."""
    if so_far.state == "done" and running != version:
        return Reloaded("refused", f"the agent became {running}: it was not started as {ROOT}/bin/nodeagent")
    return so_far


def _show(versions: Versions, output: str) -> None:
    if output == "json":
        rows = [
            {"version": each, "current": each == versions.current, "previous": each == versions.previous}
            for each in versions.installed
        ]
        show_json({"apiVersion": API_VERSION, "versions": rows})
        return
    marks = {versions.previous: "ran before", versions.current: "current"}
    show_table(["VERSION", ""], [[each, marks.get(each, "")] for each in versions.installed])
