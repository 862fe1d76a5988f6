"""The agents of a lab: started as systemd would, asked whether they are healthy, stopped, killed."""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from nodeagent import limits
from nodeagent.control.generations import Reloaded, judge_reload
from nodeagent.control.report import Status
from nodeagent.lab import cgroup, enter, fd_store, layout
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.commands import words_at
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.progress import Progress, Say
from nodeagent.lab.settings import CONFIG
from nodeagent.lab.state import Holder, try_start_time

_FD_STORE = (sys.executable, "-P", "-m", "nodeagent.lab.fd_store")
_APPLY = ("intercept", "apply", "--config", CONFIG)
_STORE = "fd-store"
_SUPERVISOR, _SENTRY, _WORKERS = "nodeagent", "nodeagent-sentr", "nodeagent-w"


def start_agent(host: Host, holder: Holder) -> int:
    """Puts the host's rules in place and starts its agent, without what an earlier one has stored; does not wait for its health.

    Where workers of one whose supervisor is gone finish what they carry, with what that has stored: as systemd does. Where in its log it begins.

    Raises:
        LabError: it runs already, or the rules were refused; with the program's words.
    """
    unit = host.unit_cgroup(layout.AGENT)
    if is_running(host) and is_left(host):
        return _run(host, holder)
    if is_running(host):
        raise LabError(f"the agent on {host.name} runs already; use `{layout.agent_command(host.lab, host.name, 'restart')}`")
    cgroup.make_afresh(unit)
    _keep_descriptors(host)
    apply = enter.in_cgroup(unit, enter.inside(holder.pid, [enter.nodeagent_command(), *_APPLY], at="/"))
    try:
        enter.run_tool(apply, env=enter.service_environment(), timeout_s=limits.LAB_START_S, name=" ".join(("nodeagent", *_APPLY)))
    except LabError as error:
        _drop_descriptors(host)
        raise LabError(f"the agent on {host.name} was not started: {error} (on this machine its /etc/nodeagent is {host.own('etc')})") from error
    return _run(host, holder)


def _run(host: Host, holder: Holder) -> int:
    began = host.log(layout.AGENT).stat().st_size if host.log(layout.AGENT).exists() else 0
    unit, env, program = host.unit_cgroup(layout.AGENT), enter.service_environment(), enter.nodeagent_command()
    with_descriptors = [*_FD_STORE, "run", str(host.directory)]
    run = enter.inside(holder.pid, enter.with_many_files([*with_descriptors, program, "run", "--config", CONFIG]), at="/")
    enter.start_daemon(unit, run, host.log(layout.AGENT), env)
    return began


def _keep_descriptors(host: Host) -> None:
    """The agent's store of descriptors, empty; it lives in the host's own cgroup, and ends with it."""
    _drop_descriptors(host)
    group = f"{host.holder_cgroup}/{_STORE}"
    enter.start_daemon(group, [*_FD_STORE, "keep", str(host.directory)], host.log(_STORE), enter.service_environment())
    deadline = time.monotonic() + limits.LAB_START_S
    while not (host.directory / fd_store.HELD).exists():
        if time.monotonic() > deadline:
            raise LabError(f"the store of descriptors on {host.name} does not start; see {host.log(_STORE)}")
        time.sleep(0.01)


def _drop_descriptors(host: Host) -> None:
    """What is held for the agent is closed."""
    cgroup.destroy(f"{host.holder_cgroup}/{_STORE}")
    (host.directory / fd_store.HELD).unlink(missing_ok=True)


def wait_healthy(hosts: Iterable[Host], say: Say, began: int = 0) -> None:
    """Returns when every agent of `hosts` reports that it is healthy. began: where in their logs they were started.

    Raises:
        LabError: one ended or is not healthy in time; with its status and the end of its log.
    """
    deadline, progress = time.monotonic() + limits.LAB_START_S, Progress(say)
    for host in hosts:
        while (complaint := try_complaint(host)) is not None:
            ended = is_left(host)
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"is not healthy after {limits.LAB_START_S:g} s: {complaint}"
                log = enter.tail(host.log(layout.AGENT), limits.LAB_LOG_LINES, began)
                raise LabError(f"the agent on {host.name} {what}; its log ends:\n{log}")
            progress.waits_for(f"the agent on {host.name} is not healthy yet: {complaint}")
            time.sleep(0.05)


def is_running(host: Host) -> bool:
    """Whether any of the agent's processes lives, but for a sentry that looks after callers of one that is gone."""
    return any(_name(pid) not in ("", _SENTRY) for pid in cgroup.pids(host.unit_cgroup(layout.AGENT)))


def is_left(host: Host) -> bool:
    """Whether nobody lives but whom a supervisor that is gone leaves: workers that finish what they carry, and a sentry."""
    names = (_name(pid) for pid in cgroup.pids(host.unit_cgroup(layout.AGENT)))
    return all(name in ("", _SENTRY) or name.startswith(_WORKERS) for name in names)


def try_supervisor(host: Host) -> int | None:
    """The pid of the agent's first process, which started the others; None: no agent runs, or its first process is gone.

    By its name: what an earlier one has left is older, and is none.
    """
    pids = cgroup.pids(host.unit_cgroup(layout.AGENT))
    started = {pid: at for pid in pids if _name(pid) == _SUPERVISOR and (at := try_start_time(pid)) is not None}
    return min(started, key=lambda pid: (started[pid], pid), default=None)


def _name(pid: int) -> str:
    """Empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def stop_agent(host: Host, say: Say) -> bool:
    """SIGTERM to the supervisor, which drains; SIGKILL to what is left when it should have ended. Whether there was an agent."""
    unit, was_running = host.unit_cgroup(layout.AGENT), is_running(host)
    supervisor = try_supervisor(host)
    if supervisor is not None:
        os.kill(supervisor, signal.SIGTERM)
    if is_running(host) and not cgroup.wait_empty(unit, limits.LAB_SAY_S):
        say(f"still waiting: the agent on {host.name} drains; what is still open gets up to {limits.DRAIN_S:g} s")
        cgroup.wait_empty(unit, limits.DRAIN_S + limits.LAB_STOP_S - limits.LAB_SAY_S)
    cgroup.destroy(unit)
    return was_running


def reload_agent(host: Host, say: Say) -> None:
    """SIGHUP to the supervisor; returns when the next generation serves in place of the one before.

    Raises:
        LabError: no agent runs, it refused, or the next generation does not serve in time.
    """
    if not is_running(host):
        raise _no_agent(host)
    before = ask_agent(host, "/v1/status", Status)
    if before.supervisor is None:
        raise LabError(f"control on {host.name} has not heard of its supervisor yet; nothing was reloaded, try again")
    os.kill(before.supervisor.pid, signal.SIGHUP)
    deadline, progress = time.monotonic() + limits.RELOAD_CHECK_S + limits.LAB_START_S, Progress(say)
    while (so_far := _look_at_reload(host, before)).state != "done":
        if so_far.state == "refused":
            raise LabError(f"the agent on {host.name} refused the reload: {words_at(host.cgroup)(so_far.why)}")
        if time.monotonic() > deadline:
            raise LabError(f"the agent on {host.name} did not reload: {so_far.why}")
        progress.waits_for(f"the agent on {host.name} reloads: {so_far.why}")
        time.sleep(0.05)


def _look_at_reload(host: Host, before: Status) -> Reloaded:
    try:
        return judge_reload(before, ask_agent(host, "/v1/status", Status))
    except LabError as error:
        return judge_reload(before, None, str(error))


def kill_agent(host: Host) -> bool:
    """SIGKILL to every process of the agent at once, and nobody starts another: the crash to rehearse. Its rules stay.

    Whether there was an agent.
    """
    was_running = is_running(host)
    cgroup.destroy(host.unit_cgroup(layout.AGENT))
    _drop_descriptors(host)
    return was_running


def _no_agent(host: Host) -> LabError:
    return LabError(f"no agent runs on {host.name}; start it: {layout.agent_command(host.lab, host.name, 'start')}")


def crash_agent(host: Host, holder: Holder) -> int:
    """SIGKILL to the supervisor alone; another is started, as systemd would, with the descriptors that it had stored.

    Where in its log it begins.

    Raises:
        LabError: no agent runs.
    """
    supervisor = try_supervisor(host)
    if supervisor is None:
        raise _no_agent(host)
    _end(supervisor, signal.SIGKILL)
    return _run(host, holder)


def restart_agent(host: Host, holder: Holder) -> int:
    """SIGUSR1 to the supervisor, as the unit's ExecStop; another is started with what it had stored. A start, where none runs.

    Where in its log it begins.

    Raises:
        LabError: the rules were refused.
    """
    if not is_running(host):
        return start_agent(host, holder)
    if (supervisor := try_supervisor(host)) is not None and not _end(supervisor, signal.SIGUSR1):
        _end(supervisor, signal.SIGKILL)
    return _run(host, holder)


def _end(supervisor: int, number: signal.Signals) -> bool:
    """Whether it ends by the signal in time."""
    with os.fdopen(os.pidfd_open(supervisor)) as pidfd:
        signal.pidfd_send_signal(pidfd.fileno(), number)
        return bool(select.select([pidfd], [], [], limits.LAB_KILL_S)[0])


def try_complaint(host: Host) -> str | None:
    """What `nodeagent status` on the host would complain of; None: it is healthy."""
    return look(host)[1]


def look(host: Host) -> tuple[str, str | None]:
    """The host's mode, empty where nobody tells it, and as `try_complaint`."""
    try:
        status = ask_agent(host, "/v1/status", Status)
    except LabError as error:
        return "", str(error)
    return status.mode, None if status.healthy else "; ".join(status.problems)
