"""The collection, run on this machine as its own host: parts of it, with programs that are not the real ones."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.support.image import ROOT

ANSIBLE = ROOT / "ansible"
BIN = ROOT / ".venv/bin"
HERE = ("-e", f"ansible_python_interpreter={sys.executable}", "-e", "ansible_become=false")
"""This machine as a host, as whoever runs the test."""
ROLES = ("package", "agent", "catalog")


def read(path: str) -> Any:
    """A file of the collection."""
    return yaml.safe_load((ANSIBLE / path).read_text())


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """In the collection's directory, which Ansible finds by its name; nothing of the user's counts."""
    place = home / "collections/ansible_collections/nodeagent"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "mesh").exists():
        (place / "mesh").symlink_to(ANSIBLE)
    environment = {
        "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
        "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"), "ANSIBLE_HOME": str(home / ".ansible"),
    }  # fmt: skip
    return subprocess.run(command, cwd=ANSIBLE, env=environment, text=True, capture_output=True, check=False, timeout=250)


def tasks(path: str, *names: str) -> list[dict[str, Any]]:
    """Of a file of the collection those tasks, blocks looked into; all of it where none is named."""
    found = [task for task in _flat(read(path)) if task["name"] in names or not names]
    assert len(found) == len(names) or not names, f"{path} has not all of {names}"
    return found


def play(home: Path, *parts: dict[str, Any], programs: dict[str, str] | None = None, **variables: object) -> tuple[str, list[str]]:
    """What Ansible says of these tasks, and which of `programs` (shell scripts by name) were called, with their arguments."""
    binaries, calls = home / "bin", home / "calls"
    binaries.mkdir(exist_ok=True)
    for name, script in (programs or {}).items():
        (binaries / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\n{script}\n')
        (binaries / name).chmod(0o755)
    calls.write_text("")
    defaults = [str(ANSIBLE / f"roles/{role}/{kind}/main.yml") for role in ("package", "agent") for kind in ("defaults", "vars")]
    path = f"{binaries}:{os.environ['PATH']}"
    whole = {"hosts": "web1", "connection": "local", "gather_facts": False, "tasks": [*parts], "environment": {"PATH": path}, "vars_files": defaults}
    (home / "play.yml").write_text(json.dumps([whole]))
    (home / "given.json").write_text(json.dumps({"_nodeagent_bin": str(binaries / "nodeagent")} | variables))
    done = run(home, "ansible-playbook", "-i", "web1,", *HERE, "-e", f"@{home / 'given.json'}", str(home / "play.yml"))
    said = " ".join((done.stdout + done.stderr).replace("\\n", " ").split())
    return said, calls.read_text().splitlines()


def _flat(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for part in parts:
        if "block" not in part:
            yield part
        for key in ("block", "rescue", "always"):
            yield from _flat(part.get(key, []))
