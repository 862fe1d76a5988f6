"""A lab whose hosts are configured each in its own way, before or between the runs of their agents."""

from collections.abc import Mapping

from nodeagent.lab.lab import Lab


def edit_config(lab: Lab, host: str, replaced: Mapping[str, str], *, added: str = "") -> None:
    """Changes lines of a host's nodeagent.toml, by their whole text, and adds some at its end."""
    path = lab.host(host).own("etc") / "nodeagent.toml"
    lines = path.read_text().splitlines()
    for before, after in replaced.items():
        lines[lines.index(before)] = after
    path.write_text("\n".join([*lines, added, ""]))


def restart(lab: Lab, host: str) -> None:
    """The agent of a host, with what its file says now."""
    lab.stop_agent(host)
    lab.start_agent(host)
