"""Judgements on the machine: agent, configuration, programs, users, files, room, ports, memory, descriptors."""

from collections.abc import Iterable, Iterator

from nodeagent import limits
from nodeagent.diagnose.facts import (
    AgentState,
    ConfigFile,
    Descriptors,
    FileState,
    Memory,
    PortUse,
    Programs,
    Room,
    StartLink,
)
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_MIB = 1024 * 1024
_NEARLY_FULL = 0.8


def judge_agent(agent: AgentState) -> Iterator[Verdict]:
    """Whether it runs and is content with itself."""
    if agent.error:
        yield fail(agent.error, agent.cure or "systemctl status nodeagent; journalctl -u nodeagent -n 50")
        return
    yield from (fail(problem, agent.ask_it) for problem in agent.problems)
    yield from (warn(warning, agent.ask_it) for warning in agent.warnings)
    if not agent.problems:
        yield well(f"nodeagent {agent.version} is healthy")


def judge_config(config: ConfigFile) -> Iterator[Verdict]:
    """Whether it can be read."""
    if config.error:
        yield fail(config.error, f"correct {config.path}; man 5 nodeagent.toml")
    else:
        yield well(f"{config.path} is valid")


def judge_programs(programs: Programs) -> Iterator[Verdict]:
    """Every library can be loaded, by the agent's users, too."""
    for missing in programs.missing:
        yield fail(f"a library cannot be loaded: {missing}", "install nodeagent anew, and on Debian: apt install libseccomp2")
    if programs.closed:
        yield fail(f"the agent's users cannot run what is in {programs.closed}", f"chmod -R go+rX {programs.closed}, or install it elsewhere, with umask 022")
    if not programs.missing and not programs.closed:
        yield well(f"Python {programs.python} and every library")


def judge_start_link(link: StartLink) -> Iterator[Verdict]:
    """Where it leads nowhere, the agent runs on and does not start again."""
    if link.is_whole:
        yield well(f"{link.target} starts next")
        return
    version = link.running if link.running in link.installed else "VERSION"
    yield fail(
        f"{link.path} {f'leads to {link.target}, where no program is' if link.target else 'is missing'}: the agent cannot start again; "
        f"installed: {', '.join(link.installed) or 'none'}",
        f"ln -sfn versions/{version} {link.path}" if link.installed else "install nodeagent anew",
    )


def judge_users(complaint: str) -> Iterator[Verdict]:
    """Two users of the agent's own."""
    if complaint:
        yield fail(complaint, "systemd-sysusers")
    else:
        yield well("the agent's two users are there")


def judge_files(files: tuple[FileState, ...]) -> Iterator[Verdict]:
    """Secrets closed to others, everything readable for who needs it, nothing writable by strangers."""
    for file in files:
        if file.closed:  # nothing else of it: a directory on the way may well be somebody's own
            yield fail(f"{file.what} {file.closed} cannot be read by {file.reader} as the agent runs", file.cure)
        else:
            yield _judge_file(file)


def _judge_file(file: FileState) -> Verdict:
    name = f"{file.what} {file.path}"
    if file.mode is None:
        cure = f"put it there, readable by {file.reader} alone" if file.is_secret else "put it there"
        return fail(f"{name} is missing", cure) if file.is_needed else well(f"{name} is not there, nor needed")
    if file.is_foreign:
        return fail(f"{name} belongs to {file.owner}, who can change it", f"chown {file.reader} {file.path}")
    if file.is_secret and file.mode & 0o077:
        return fail(f"{name} is open to others (mode {file.mode:04o})", f"chmod {file.mode & 0o700:04o} {file.path}")
    if file.mode & 0o022:
        return fail(f"{name} can be changed by others (mode {file.mode:04o})", f"chmod go-w {file.path}")
    if not file.is_readable:
        why = f"(mode {file.mode:04o}, of {file.owner})"
        return fail(f"{name} cannot be read by {file.reader} as the agent runs {why}", f"chown {file.reader} {file.path}; chmod u+rX {file.path}")
    return well(f"{name} (mode {file.mode:04o}, of {file.owner})")


def judge_room(room: Room) -> Iterator[Verdict]:
    """Whether what must survive a restart can be written."""
    if not room.exists:
        yield fail(f"{room.path} does not exist", "systemd-tmpfiles --create")
    elif room.is_read_only:
        yield fail(f"{room.path} is on a file system that is read-only: nothing can be kept", f"mount -o remount,rw $(findmnt -nT {room.path} -o TARGET)")
    elif room.owner_uid != room.wanted_uid:
        yield fail(f"{room.path} belongs to uid {room.owner_uid}, not to the agent's {room.wanted_uid}", f"chown -R {room.wanted_uid} {room.path}")
    elif room.is_closed_to_root:
        yield warn(f"root cannot write in {room.path}, so identity.persist keeps no keys there", f"chgrp root {room.path}; chmod g+rwx {room.path}")
    elif room.free_bytes < limits.STATE_ROOM_BYTES or not room.free_inodes:
        yield fail(f"the disk under {room.path} is full: {room.free_bytes // _MIB} MiB and {room.free_inodes} files are free", "make room on it")
    elif room.free_bytes < 10 * limits.STATE_ROOM_BYTES:
        yield warn(f"the disk under {room.path} is nearly full: {room.free_bytes // _MIB} MiB are free", "make room on it")
    else:
        yield well(f"{room.path} can be written, {room.free_bytes // _MIB} MiB are free")


def judge_ports(ports: tuple[PortUse, ...]) -> Iterator[Verdict]:
    """Free, or held by this agent."""
    others = [use for use in ports if use.holder and not use.is_ours]
    agents = [use for use in others if use.is_of_nodeagent]
    if unasked := _numbers(use for use in agents if use.silence == "unasked"):
        yield warn(f"ports {unasked} are held by an agent that was not asked: another socket is named", "leave --socket and NODEAGENT_SOCKET out, or name its own")
    if settling := _numbers(use for use in agents if use.silence == "settling"):
        yield warn(f"ports {settling} are held by an agent that starts, or is just replacing itself (a reload)", "ask again: nodeagent check --wait 30")
    if hung := [use for use in agents if use.silence == "hang"]:
        where = ", ".join(f"{use.port} by {use.holder}" for use in hung)
        yield fail(f"nodeagent hangs: its own processes hold ports and do not answer ({where})", "systemctl restart nodeagent")
    if kept := _numbers(use for use in others if use.is_kept and not use.is_in_lab):
        yield warn(f"ports {kept} are held by systemd, as for an agent that is to start again", "systemctl status nodeagent; is it another's socket unit? systemctl list-sockets")
    if kept := _numbers(use for use in others if use.is_in_lab):
        yield warn(f"ports {kept} are held by the lab's store of descriptors, for an agent that is to start again", "systemctl restart nodeagent")
    if unseen := _numbers(use for use in others if use.is_unseen):
        yield warn(f"ports {unseen} are held, by whom only root can see", "run this as root, with sudo")
    for use in (use for use in others if not (use.is_of_nodeagent or use.is_kept or use.is_unseen)):
        yield fail(f"port {use.port} is held by {use.holder}", f"end it, or give it another port: ss -Hltnp 'sport = :{use.port}'")
    if not others:
        state = "are the agent's" if any(use.is_ours for use in ports) else "are free"
        yield well(f"ports {_numbers(ports)} {state}")


def _numbers(ports: Iterable[PortUse]) -> str:
    return ", ".join(str(use.port) for use in ports)


def judge_memory(memory: Memory) -> Iterator[Verdict]:
    """Enough for the agent's processes to grow."""
    text = f"{memory.available // _MIB} of {memory.total // _MIB} MiB of memory are available"
    if memory.available < limits.MEMORY_LOW_BYTES:
        yield warn(text, "free memory, or set host.workers lower: ps --sort=-rss -eo rss,pid,comm | head")
    else:
        yield well(text)


def judge_descriptors(files: Descriptors) -> Iterator[Verdict]:
    """Of the machine, and of one worker."""
    if files.most and files.used > _NEARLY_FULL * files.most:
        yield fail(f"{files.used} of the machine's {files.most} open files are in use", "sysctl -w fs.file-max=1048576")
    need = 2 * limits.CONNECTIONS_PER_WORKER
    if 0 < files.of_agent < need:
        yield warn(
            f"a process of the agent may open {files.of_agent} files, and a full worker needs {need}",
            "systemctl edit nodeagent: LimitNOFILE=1048576",
        )
    elif files.used <= _NEARLY_FULL * files.most:
        yield well(f"{files.used} of the machine's {files.most} open files" + (f", the agent's limit is {files.of_agent}" if files.of_agent else ""))
