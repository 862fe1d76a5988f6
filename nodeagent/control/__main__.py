"""`python -m nodeagent.control`: the control process, started by the supervisor with configuration and two channels."""

import argparse
import asyncio
import ctypes
import os
import resource
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from nodeagent import limits
from nodeagent.config import DEFAULT_PATH, Config, load_config
from nodeagent.control.agent import run_control
from nodeagent.control.key_memory import read_keys
from nodeagent.errors import ConfigError
from nodeagent.observe.log import configure_log
from nodeagent.observe.sink import Sink, unbuffered

_PR_SET_DUMPABLE = 4


def main(argv: list[str] | None = None) -> int:
    """Exit status of control."""
    arguments = parse_arguments(argv)
    try:
        config = read_config(arguments)
    except ConfigError as error:
        sys.stderr.write(f"nodeagent: {error}\n")
        return 1
    handover = socket.socket(fileno=arguments.handover_fd)
    supervisor = socket.socket(fileno=arguments.supervisor_fd)
    _keep_secrets()
    sys.setswitchinterval(limits.SWITCH_S)
    kept = read_keys(arguments.keys_fd) if arguments.keys_fd is not None else b""
    with Sink(unbuffered(sys.stderr.fileno())) as journal, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        configure_log("control", config.log.level, journal)
        runner.run(run_control(config, handover, supervisor, journal, kept))
    return 0


def read_config(arguments: argparse.Namespace) -> Config:
    """The configuration that the supervisor has checked and decides by; the file where it passed none.

    Raises:
        ConfigError: as `load_config`.
    """
    if arguments.config_fd is None:
        return load_config(arguments.config)
    with os.fdopen(arguments.config_fd, "rb") as file:
        return msgspec.msgpack.decode(file.read(), type=Config)


def _keep_secrets() -> None:
    """Private keys are in this process's memory: no core file, and no look into it for others of our uid."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """--config, --config-fd, --keys-fd, --handover-fd and --supervisor-fd."""
    parser = argparse.ArgumentParser(prog="nodeagent.control", description="Started by the supervisor, not by hand.")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH)
    parser.add_argument("--config-fd", type=int)
    parser.add_argument("--keys-fd", type=int)
    parser.add_argument("--handover-fd", type=int, required=True)
    parser.add_argument("--supervisor-fd", type=int, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
