"""Whether this program could take over from a running supervisor: asked of it, in a process of its own, before it does."""

import importlib
import os
from pathlib import Path

import msgspec

from nodeagent.config import Config, load_config
from nodeagent.errors import ConfigError
from nodeagent.process import preflight, privileges
from nodeagent.process.interception import settings_of, with_backend
from nodeagent.process.run_dir import check_run_dir
from nodeagent.process.startup import agent_cgroup
from redirect import kernel
from redirect.errors import RedirectError

_PROGRAMS = ("nodeagent.process.supervisor", "nodeagent.process.spawner", "nodeagent.process.sentry", "nodeagent.control.agent")


def show_fitness(config_path: Path, fd: int) -> None:
    """Imports what the agent's processes consist of, reads the configuration, and writes it to `fd` when all is well.

    What the start would refuse is refused here: later there would be nobody to go on as before.

    Raises:
        ConfigError: the configuration cannot be used on this host.
    """
    for program in _PROGRAMS:
        importlib.import_module(program)
    config = load_config(config_path)
    host = config.host
    control = privileges.resolve_user(host.control_user, "host.control_user")
    worker = privileges.resolve_user(host.worker_user, "host.worker_user")
    preflight.check_users(control, worker)
    preflight.check_group(config.admin.write_group, f"{config_path}: admin.write_group")
    check_run_dir(Path(config.admin.socket).parent, control)
    preflight.check_cgroup_root(config.intercept.cgroup_root)
    preflight.check_kernel(config)
    if config.intercept.enabled:
        _check_rules(config, control, worker)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.msgpack.encode(config))


def _check_rules(config: Config, control: privileges.User, worker: privileges.User) -> None:
    """Has the kernel judge the rules, and changes none."""
    agent_cgroup()
    try:
        settings = with_backend(config, settings_of(config, control_uid=control.uid, worker_uid=worker.uid))
        kernel.preview(settings)
    except RedirectError as error:
        raise ConfigError(f"interception cannot be put in place: {error}") from error
