"""`nodeagent upgrade`: another installed version takes over from the running one, which no connection notices."""

import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

import click
from click.core import ParameterSource

from nodeagent import limits
from nodeagent.cli import completion
from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.render import output_option, printable, show_json, show_table
from nodeagent.cli.supervisor_process import SupervisorHandle, try_program
from nodeagent.cli.versions import ROOT, NotInstalledError, Versions, alone, choose, forget, read_versions, switch
from nodeagent.control.generations import Reloaded, judge_back, judge_reload
from nodeagent.control.report import API_VERSION, Status
from nodeagent.errors import ConfigError
from nodeagent.lab.progress import Progress


def _given(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """click's: an empty version, as of a shell's variable that is not set, must not mean the newest."""
    if not value and ctx.get_parameter_source("version") != ParameterSource.DEFAULT:
        raise click.BadParameter("it is empty; leave it out for the newest")
    return value


@click.command()
@click.argument("version", default="", callback=_given, shell_complete=completion.versions)
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

    Removes nothing. Where the new version does not serve in time, the one before is put back. One upgrade at a time.

    Exit status: 0 done, or nothing to do; 1 refused or put back, or another upgrade is under way; 3 no agent is there; 4 no such version is installed;
    5 the agent does not answer in time.
    """
    if sum((bool(version), only_list, back)) > 1 or (only_list and yes):
        raise click.UsageError("VERSION, --list and --back exclude each other, and --list does nothing with --yes")
    versions = read_versions(root)
    if only_list:
        _show(versions, _try_running(socket_path), output)
        return
    with alone(root) if yes else nullcontext():
        told = _upgrade(read_versions(root), version, socket_path, back=back, yes=yes)
    show_json(told.facts) if output == "json" else click.echo(told.words)


class _Told(NamedTuple):
    """What an upgrade has come to, or would do."""

    words: str
    facts: dict[str, object]


def _upgrade(versions: Versions, version: str, socket_path: str | None, *, back: bool, yes: bool) -> _Told:
    """Looked at only now, as another upgrade may have ended just before."""
    chosen, root = "" if back else choose(versions, version, back=False), versions.root
    before = ask("/v1/status", Status, socket_path=socket_path)
    chosen = chosen or choose(versions, version, back=back, running=before.version)
    facts = {"apiVersion": API_VERSION, "version": chosen, "changed": False, "current": versions.current, "running": before.version}
    if chosen == versions.current and chosen == before.version:
        if back:
            raise NotInstalledError(f"it is not known which version ran before: {chosen} runs already")
        return _Told(f"{chosen} runs already", facts)
    would = _Told(f"would switch {root}/current from {versions.current or 'nothing'} to {chosen}, and reload; --yes does it", facts)
    if before.supervisor is None:
        if not yes:
            return would
        raise ConfigError("the agent's control process has not heard of its supervisor; nothing was switched, try again")
    with SupervisorHandle(before.supervisor.pid) as supervisor, _Interrupts() as interrupts:
        _check_program(before.supervisor.pid, root)
        if not yes:
            return would
        _try(_Upgrade(versions, chosen, before, supervisor, socket_path, interrupts))
    done = {"changed": True, "current": chosen, "running": chosen}
    return _Told(f"{chosen} serves; connections of before live on, see: nodeagent status", facts | done)


def _check_program(pid: int, root: Path) -> None:
    """Of a supervisor that was looked at: nobody else's command line is shown. Raises ConfigError: it was started from elsewhere."""
    if (program := try_program(pid)) and not program.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"the agent was started as {program}, not as {root}/bin/nodeagent: to switch that changes nothing of it, and was not done")


class _Interrupts:
    """Signals that mean: no further. They are noted and raise nothing, so that each step is done whole. Owned by one upgrade."""

    def __init__(self) -> None:
        self.name = ""
        """Of the first that came."""

    def __enter__(self) -> Self:
        self._before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        for number, handler in self._before.items():
            if handler != signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name


@dataclass(frozen=True, slots=True)
class _Upgrade:
    """What is to be done, as it was when that began."""

    versions: Versions
    chosen: str
    before: Status
    supervisor: SupervisorHandle
    socket_path: str | None
    interrupts: _Interrupts

    @property
    def back(self) -> str:
        """Where a failure leads back to; empty: it is not known."""
        known = (self.before.version, self.versions.current)  # they differ where an upgrade was killed half way
        return next((each for each in known if each in self.versions.installed and each != self.chosen), "")


def _try(this: _Upgrade) -> None:
    """Raises as `_take`."""
    try:
        _take(this)
    except BaseException:
        if this.back and read_versions(this.versions.root).current != this.chosen:
            _remember(this, this.versions.previous)
        raise


def _take(this: _Upgrade) -> None:
    """Raises ClickException: it could not be done; says what runs, or what starts next."""
    root, chosen = this.versions.root, this.chosen
    switch(root, "current", chosen)
    if this.back:
        _remember(this, this.back)  # only now: who is killed (SIGKILL) between the two leaves what runs, and so the way back
    try:
        this.supervisor.reload()
        outcome = _follow(this, lambda now, silent: _judge_forth(this, now, silent))
    except BaseException as error:  # whatever it was: what was begun is taken back
        raise click.ClickException(f"{chosen} was not taken: {str(error) or type(error).__name__}; {_turn_back(this)}") from error
    if outcome.state == "done":
        return
    if not this.back:
        raise click.ClickException(f"{chosen} does not serve: {outcome.why}; no version is known to go back to")
    if outcome.state == "refused":
        switch(root, "current", this.back)
        raise click.ClickException(f"{chosen} was not taken: {outcome.why}; {_try_running(this.socket_path) or this.before.version} serves")
    if this.interrupts.name:
        raise click.ClickException(f"{chosen} was not taken: {outcome.why}; {_turn_back(this)}")
    _come_back(this, outcome.why)


def _remember(this: _Upgrade, version: str) -> None:
    """For `--back`; empty: none. What is upgraded does not depend on it."""
    try:
        if version:
            switch(this.versions.root, "previous", version)
        else:
            forget(this.versions.root, "previous")
    except ConfigError as error:
        click.echo(f"Warning: {error}; for the way back: nodeagent upgrade {this.back} --yes", err=True)


def _come_back(this: _Upgrade, why: str) -> None:
    """Raises ClickException: in any case; says whether the version of before could be seen to serve."""
    click.echo(printable(f"{this.chosen} does not serve: {why}; {_turn_back(this)}"), err=True)
    outcome = _follow(this, lambda now, silent: judge_back(now, this.back, silent))
    is_back = f"{this.back} serves" if outcome.state == "done" else f"that {this.back} serves again could not be seen: {outcome.why}"
    raise click.ClickException(f"{this.chosen} was not taken: {why}; {is_back}")


def _turn_back(this: _Upgrade) -> str:
    """What is so now. The agent is not asked first: what runs may be a version that never answers."""
    if not this.back:
        return f"{this.chosen} is what starts next: no version is known to go back to"
    switch(this.versions.root, "current", this.back)
    try:
        this.supervisor.reload()
    except OSError as error:
        return f"{this.back} is what starts next; the agent could not be told: {error.strerror}"
    return f"{this.back} is what starts next, and the agent was told to go on as that, see: nodeagent status"


def _judge_forth(this: _Upgrade, now: Status | None, why_silent: str) -> Reloaded:
    so_far = judge_reload(this.before, now, why_silent)
    return judge_version(so_far, now.version, this.chosen, this.versions.root) if now else so_far


def _follow(this: _Upgrade, judge: Callable[[Status | None, str], Reloaded]) -> Reloaded:
    """What becomes of a reload; still `waiting` after UPGRADE_S, or an interrupt."""
    deadline, progress = time.monotonic() + limits.UPGRADE_S, Progress(lambda what: click.echo(f"  · {printable(what)}", err=True))
    while (so_far := _look(this.socket_path, judge)).state == "waiting":
        if this.interrupts.name:
            return Reloaded("waiting", f"interrupted by {this.interrupts.name}")
        if time.monotonic() > deadline:
            return Reloaded("waiting", f"not within {limits.UPGRADE_S:g} s: {so_far.why}")
        progress.waits_for(so_far.why)
        time.sleep(limits.RESEND_S)
    return so_far


def _look(socket_path: str | None, judge: Callable[[Status | None, str], Reloaded]) -> Reloaded:
    try:
        now = ask("/v1/status", Status, socket_path=socket_path)
    except click.ClickException as error:
        return judge(None, error.message)
    return judge(now, "")


def judge_version(so_far: Reloaded, running: str, version: str, root: Path) -> Reloaded:
    """A reload that is done, of which another version came, is refused: the agent was not started by the link."""
    if so_far.state == "done" and running != version:
        return Reloaded("refused", f"the agent became {running}: it was not started as {root}/bin/nodeagent")
    return so_far


def _try_running(socket_path: str | None) -> str:
    """The version that runs; empty: nobody answers."""
    try:
        return ask("/v1/status", Status, socket_path=socket_path).version
    except click.ClickException:
        return ""


def _show(versions: Versions, running: str, output: str) -> None:
    rows = {
        each: {"current": each == versions.current, "running": each == running, "previous": each == versions.previous}
        for each in versions.installed
    }
    if output == "json":
        show_json({"apiVersion": API_VERSION, "versions": [{"version": each, **row} for each, row in rows.items()]})
        return
    words = {"current": "current", "running": "runs", "previous": "ran before"}
    show_table(["VERSION", ""], [[each, ", ".join(words[fact] for fact in row if row[fact])] for each, row in rows.items()])
    if running and running != versions.current:
        click.echo(printable(f"{running} runs, {versions.current or 'none'} starts next: an upgrade is under way, or was killed: run it again"))
