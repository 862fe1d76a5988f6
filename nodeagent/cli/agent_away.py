"""What it means on this host that no agent answers: what connections do meanwhile, and the command that helps. Changes nothing."""

import os
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.cli.agent_silent import Part, parts_of, serves_nobody, who_is_silent
from nodeagent.cli.agent_unit import Unit, look_at
from nodeagent.config import Config, load_config
from nodeagent.control.report import LOGS
from nodeagent.errors import ConfigError
from nodeagent.lab import layout
from nodeagent.lab.commands import place_of, words_at
from nodeagent.process.privileges import check_may_see_network
from nodeagent.process.run_dir import find_holder
from redirect.backend import capturing_backends
from redirect.errors import RedirectError

_PROC_LOCKS = Path("/proc/locks")
_UNIT = "nodeagent.service"
_UNIT_DIRECTORIES = tuple(map(Path, ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")))


class Away(NamedTuple):
    """Why nobody answers."""

    what: str
    cure: str
    """Empty: none is known."""
    is_settling: bool = False
    """It starts, or is just replacing itself: it will answer soon, and nothing is to be done."""


def explain(where: str, error: Exception, config_path: Path) -> Away:
    """From what `error`, the answer of the socket at `where`, and this host tell."""
    config = _try_config(config_path)
    here = words_at(config.intercept.cgroup_root if config else "")
    away = _explain(where, error, config_path, config)
    return away._replace(what=here(away.what), cure=here(away.cure))


def is_silence(error: Exception) -> bool:
    """Whether it is that of an agent that is there: no answer comes, or its queue is full."""
    return isinstance(error, TimeoutError | BlockingIOError)


def _explain(where: str, error: Exception, config_path: Path, config: Config | None) -> Away:
    if is_silence(error):
        what = f"did not answer within {limits.API_ANSWER_S:g} s" if isinstance(error, TimeoutError) else "answers none of the many who wait"
        return _silent(where, what, config if config and where == config.admin.socket else None)
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        broken = "broke off while it was asked: its control ended, or was replaced, as one that hangs is"
        return Away(f"the agent at {where} {broken}", f"ask again; {LOGS}")
    if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return Away(f"the agent at {where} does not answer: {_words(error)}", f"does another program listen there? {LOGS}")
    absent = f"no agent at {where}" if isinstance(error, FileNotFoundError) else f"nobody listens at {where}"
    if config and where != config.admin.socket:
        return Away(absent, f"{config_path} says {config.admin.socket}: name that with --socket, or leave --socket and NODEAGENT_SOCKET out")
    if supervisor := _try_supervisor(where):
        return _settling(absent, parts_of(supervisor), config)
    captures, unit = _try_captures(), _try_unit(config)
    ended = "" if isinstance(error, FileNotFoundError) else ": the agent has ended"
    if unit and unit.has_failed:
        ended = ": the agent ended again and again, and systemd starts it no more"
    return Away(f"{absent}{ended}{_meanwhile(config, captures)}", _cure(config, unit, has_rules=captures is True))


def _try_config(path: Path) -> Config | None:
    try:
        return load_config(path)
    except ConfigError:
        return None


def _silent(where: str, how: str, config: Config | None) -> Away:
    """It is there and says nothing."""
    parts = parts_of(_try_supervisor(where))
    what, who = f"the agent at {where} {how}", who_is_silent(parts)
    if serves_nobody(parts):
        return Away(f"{what}: {who}{_meanwhile(config, _try_captures())}", f"end the hang: systemctl restart nodeagent; {LOGS}")
    goes_on = "; meanwhile calls go on by what its workers know" if parts else ""
    again = "ask again: a control that hangs is replaced after half a minute, or later where one after another has hung"
    return Away(f"{what}{f': {who}' if who else ''}{goes_on}", f"{again}; else: systemctl restart nodeagent; {LOGS}")


def _settling(absent: str, parts: tuple[Part, ...], config: Config | None) -> Away:
    """Its supervisor is there: nobody answers for a moment, unless that one stands still."""
    if serves_nobody(parts):
        return Away(f"{absent}: {who_is_silent(parts)}{_meanwhile(config, _try_captures())}", f"end the hang: systemctl restart nodeagent; {LOGS}")
    return Away(f"{absent}: the agent is starting, or just replacing itself (a reload)", f"ask again; {LOGS}", is_settling=True)


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _try_supervisor(where: str) -> int:
    """The agent that has the socket's directory: it is there before its socket is. 0: none."""
    try:
        return find_holder(_PROC_LOCKS.read_text(encoding="ascii"), Path(where).parent.stat().st_ino)
    except OSError:
        return 0


def _try_captures() -> bool | None:
    """Whether rules of ours are there that capture; None: it is not this user's to see."""
    try:
        check_may_see_network()
        return bool(capturing_backends())
    except (RedirectError, OSError):
        return None


def _meanwhile(config: Config | None, captures: bool | None) -> str:  # noqa: FBT001 - three things that may be known
    """What becomes of new connections; empty: it is not known."""
    if captures is False or (captures is None and config and not config.intercept.enabled):
        return "; meanwhile nothing is captured: connections go in clear, as without an agent"
    if config is None:
        return "; its rules are left, and still refuse new mesh connections of this host, or let them by" if captures else ""
    where = "" if captures else ", where its rules are installed"
    if config.intercept.fail == "closed":
        return f'; meanwhile new mesh connections of this host are reset{where} (fail = "closed"){_but(config)}'
    return f'; meanwhile new mesh connections of this host go in clear{where}, but none to a strict service (fail = "open"){_but(config)}'


def _but(config: Config) -> str:
    """The services that have a `fail` of their own."""
    names = ", ".join(sorted(name for name, table in config.service.items() if table.fail not in (None, config.intercept.fail)))
    if not names:
        return ""
    if config.intercept.fail == "closed":
        return f'; calls to {names} go in clear, unless strict (fail = "open" there)'
    return f'; calls of and to {names} are reset (fail = "closed" there)'


def _try_unit(config: Config | None) -> Unit | None:
    """The agent's; None: systemd has none, or another, as in a lab."""
    if config and place_of(config.intercept.cgroup_root):
        return None
    return look_at(_UNIT) if any(os.access(directory / _UNIT, os.F_OK) for directory in _UNIT_DIRECTORIES) else None


def _cure(config: Config | None, unit: Unit | None, *, has_rules: bool) -> str:
    if config and (place := place_of(config.intercept.cgroup_root)):
        return f"start it: {layout.agent_command(*place, 'start')}"
    if unit and unit.has_failed:
        return "mend what it says: journalctl -u nodeagent -n 50; then: systemctl reset-failed nodeagent && systemctl start nodeagent"
    if unit:
        again = "it is disabled; to have it run again: systemctl enable --now nodeagent-intercept nodeagent"
        return f"{again if unit.is_disabled else 'start it: systemctl start nodeagent'}; where it ends again: journalctl -u nodeagent -n 50"
    cures = [f"{_UNIT} is not installed here: install it (docs/install.md), then: systemctl start nodeagent"]
    if has_rules:
        cures.append("or take its rules away: nodeagent intercept remove")
    if layout.BASE.exists():
        cures.append("or ask on a host of a lab: nodeagent lab exec HOST -- nodeagent status")
    return "; ".join([*cures, "or name its socket with --socket"])
