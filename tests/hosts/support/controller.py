"""Where Ansible runs: at the hub, with the collection of this tree, reaching hosts by ssh as any user's does."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.image import ROOT

_PLAY_S = 400.0


class Controller:
    """One inventory and its variables, in a directory of its own. `programs`: where Ansible's are."""

    def __init__(self, hosts: Hosts, directory: Path, programs: Path = ROOT / ".venv/bin") -> None:
        self._hosts, self._directory, self._programs = hosts, directory, programs
        place = directory / "collections/ansible_collections/nodeagent"
        place.mkdir(parents=True)
        (place / "mesh").symlink_to(ROOT / "ansible")
        self._sockets = Path(mkdtemp(prefix="nodeagent-"))  # the path of a socket is short

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for socket in self._sockets.iterdir():
            subprocess.run(["ssh", "-O", "exit", "-S", str(socket), "any"], check=False, capture_output=True)
        shutil.rmtree(self._sockets)

    def inventory(self, groups: dict[str, list[Host]], variables: dict[str, dict[str, object]]) -> None:
        """groups: their hosts. variables: those of "all", of a group or of a host."""
        options = " ".join(self._hosts.hub.ssh_options)
        known = {host.name: host for members in groups.values() for host in members}
        common = {"ansible_user": "root", "ansible_ssh_common_args": options, "ansible_python_interpreter": "/usr/bin/python3"}
        lines: dict[str, object] = {
            name: {"ansible_host": host.address} | variables.get(name, {}) for name, host in known.items()
        }
        children = {name: {"hosts": {host.name: {} for host in members}, "vars": variables.get(name, {})} for name, members in groups.items()}
        tree = {"all": {"hosts": lines, "vars": common | variables.get("all", {}), "children": children}}
        (self._directory / "inventory.json").write_text(json.dumps(tree))

    def play(self, playbook: str, *options: str, status: int = 0) -> "Play":
        """Runs nodeagent.mesh.PLAYBOOK, or the file of that name; ends with `status`."""
        name = playbook if "/" in playbook else f"nodeagent.mesh.{playbook}"
        return self.run("ansible-playbook", "-i", str(self._directory / "inventory.json"), *options, name, status=status)

    def run(self, program: str, *arguments: str, status: int = 0, cwd: Path | None = None, **environment: str) -> "Play":
        """Runs a program of the environment's at the hub; ends with `status`."""
        done = subprocess.run(
            [*self._hosts.hub.enter, str(self._programs / program), *arguments], env=self._environment() | environment, text=True,
            capture_output=True, check=False, timeout=_PLAY_S, cwd=cwd or self._directory, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{program} {' '.join(arguments)}: exit {done.returncode}\n{said[-12000:]}"
        return Play(said)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "HOME": str(self._directory), "ANSIBLE_HOME": str(self._directory / ".ansible"), "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self._directory / "collections"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._sockets), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0",
        }  # fmt: skip


class Play:
    """What a run of ansible-playbook said."""

    def __init__(self, said: str) -> None:
        self.said = said

    def count(self, host: str, what: str) -> int:
        """A figure of the recap: ok, changed, failed, skipped, …"""
        line = re.search(rf"^{re.escape(host)} +: .*?\b{what}=(\d+)", self.said, re.MULTILINE)
        assert line is not None, self.said
        return int(line[1])

    def changed(self, host: str) -> set[str]:
        """The tasks that changed something there, or would."""
        tasks = re.split(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \*+$", self.said, flags=re.MULTILINE)[1:]
        is_changed = re.compile(rf"^changed: \[{re.escape(host)}(?: ->|\])", re.MULTILINE)
        return {name for name, said in zip(tasks[::2], tasks[1::2], strict=True) if is_changed.search(said)}
