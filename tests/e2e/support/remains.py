"""What a lab would leave behind if it did not clean up."""

from pathlib import Path

from nodeagent.lab import cgroup, layout


def remains_of(prefix: str) -> list[str]:
    """Everything of labs whose name begins with `prefix`: processes, cgroups, mounts, files."""
    return [
        *(f"process {line}" for line in _processes(f"/{layout.CGROUP}/{prefix}")),
        *(f"cgroup {name}" for name in cgroup.children(layout.CGROUP) if name.startswith(prefix)),
        *(f"mount {line}" for line in _mounts(f"{layout.BASE}/{prefix}")),
        *(f"file {path}" for path in layout.BASE.glob(f"{prefix}*")),
    ]


def _processes(cgroup_prefix: str) -> list[str]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            groups, stat = (directory / "cgroup").read_text(), (directory / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        if f"0::{cgroup_prefix}" in groups and stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(stat.partition(")")[0] + ")")
    return found


def _mounts(prefix: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if any(field.startswith(prefix) for field in line.split()[3:5])]
