"""What is typed in a lab in the place of systemd's commands, which know nothing of its agents and its catalog; pure."""

import re
from collections.abc import Callable

from nodeagent.lab import layout

_LOGS = r"journalctl -u nodeagent(?: -n \d+)?(?: \(in a lab: [^)]*\))?"
_OF_UNIT = re.compile(
    rf"(?P<status>systemctl status nodeagent; {_LOGS})|(?P<logs>{_LOGS})|systemctl edit nodeagent: LimitNOFILE=(?P<files>\d+)"
    r"|(?P<catalog>systemctl status nodeagent-catalog on its host)|systemctl (?P<verb>start|stop|restart|reload) nodeagent\b(?!-)"
    r"(?: \(in a lab: [^)]*\))?"
)


def place_of(cgroup_root: str) -> tuple[str, str] | None:
    """The lab and the host whose units are below `intercept.cgroup_root`; None: it is no lab's."""
    base, _, place = cgroup_root.partition("/")
    name, _, host = place.partition("/")
    return (name, host) if base == layout.CGROUP and host else None


def words_at(cgroup_root: str) -> Callable[[str], str]:
    """Has a sentence name the commands that work where it is read: on a host of a lab, the lab's."""
    place = place_of(cgroup_root)
    if place is None:
        return lambda text: text
    lab, host = place
    return lambda text: _OF_UNIT.sub(lambda found: _in_lab(found, lab, host), text)


def _in_lab(found: re.Match[str], lab: str, host: str) -> str:
    if found["catalog"]:
        return layout.catalog_command(lab, "logs")
    if found["files"]:
        return f"ulimit -Hn {found['files']}; {layout.agent_command(lab, host, 'restart')}"
    return layout.agent_command(lab, host, found["verb"] or "logs")
