"""`nodeagent run`: the agent itself."""

import os
from pathlib import Path

import click

from nodeagent.config import DEFAULT_PATH, load_config


@click.command()
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path, readable=False), default=DEFAULT_PATH, show_default=True, metavar="PATH"
)
@click.option("--check", "check_fd", type=int, hidden=True, help="Only check; the configuration goes to this descriptor.")
def run(config_path: Path, check_fd: int | None) -> None:
    """Run the agent of this host in the foreground; SIGTERM drains and ends it.

    SIGHUP (`systemctl reload nodeagent`) has it become what the configuration, or another installed version, says now:
    no connection is lost. SIGUSR1 (`systemctl restart nodeagent`) has it make room for the next, which finds its sockets in
    systemd's store; open connections finish in the workers of before. Needs root, and gives up what it does not need.
    Started by systemd as nodeagent.service.
    """
    if check_fd is not None:
        from nodeagent.process.successor import show_fitness  # noqa: PLC0415 - as below

        show_fitness(config_path, check_fd)
        return
    from nodeagent.process.handover import take_inheritance  # noqa: PLC0415 - 0.2 s of imports that --help can do without
    from nodeagent.process.supervisor import run_supervisor  # noqa: PLC0415 - as above

    inheritance = take_inheritance(os.environ)
    config = (inheritance and inheritance.config) or load_config(config_path)
    run_supervisor(config, config_path.resolve(), inheritance)
