"""`nodeagent run`: the agent itself."""

from pathlib import Path

import click

from nodeagent.config import DEFAULT_PATH, load_config


@click.command()
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, metavar="PATH"
)
def run(config_path: Path) -> None:
    """Run the agent of this host in the foreground; SIGTERM drains and ends it.

    Needs root, and gives up what it does not need. Started by systemd as nodeagent.service.
    """
    from nodeagent.process.supervisor import run_supervisor  # noqa: PLC0415 - 0.2 s of imports that --help can do without

    config = load_config(config_path)
    run_supervisor(config, config_path.resolve())
