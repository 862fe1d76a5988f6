"""Whether this program could take over from a running supervisor: asked of it, in a process of its own, before it does."""

import importlib
import os
from pathlib import Path

import msgspec

from nodeagent.config import load_config
from nodeagent.process import preflight, privileges

_PROGRAMS = ("nodeagent.process.supervisor", "nodeagent.process.spawner", "nodeagent.control.agent")


def show_fitness(config_path: Path, fd: int) -> None:
    """Imports what the agent's processes consist of, reads the configuration, and writes it to `fd` when all is well.

    Raises:
        ConfigError: the configuration cannot be used on this host.
    """
    for program in _PROGRAMS:
        importlib.import_module(program)
    config = load_config(config_path)
    host = config.host
    preflight.check_users(
        privileges.resolve_user(host.control_user, "host.control_user"),
        privileges.resolve_user(host.worker_user, "host.worker_user"),
    )
    preflight.check_kernel(config)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.msgpack.encode(config))
