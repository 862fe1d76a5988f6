"""The cgroups of hosts: in every hierarchy that systemd inside may look for, on pure and hybrid machines alike."""

from pathlib import Path

from nodeagent.lab import cgroup

TOP = "nodeagent-hosts"
_NAMED = Path("/sys/fs/cgroup/systemd")  # a hybrid machine's other hierarchy, which nspawn wants to move to as well


def joining(group: str, command: tuple[str, ...], environment: dict[str, str]) -> list[str]:
    """The command that runs `command` in the cgroup `group`, and nowhere else for a moment."""
    cgroup.make(group)
    places = [str(cgroup.mount() / group)]
    if _is_hybrid():
        (_NAMED / group).mkdir(parents=True, exist_ok=True)
        places.append(str(_NAMED / group))
    script = 'n=$1; shift; while [ $n -gt 0 ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; n=$((n - 1)); done; exec "$@"'
    settings = [f"{name}={value}" for name, value in environment.items()]
    return ["sh", "-c", script, "sh", str(len(places)), *places, "env", *settings, *command]


def end(group: str) -> None:
    """Ends every process of the cgroup and below, and removes it everywhere."""
    cgroup.destroy(group)
    if _is_hybrid():
        for directory in (*sorted((_NAMED / group).rglob("*/"), reverse=True), _NAMED / group):
            if directory.is_dir():
                directory.rmdir()


def names(group: str = TOP) -> tuple[str, ...]:
    """The cgroups right below."""
    return cgroup.children(group)


def _is_hybrid() -> bool:
    return (_NAMED / "cgroup.procs").exists()
