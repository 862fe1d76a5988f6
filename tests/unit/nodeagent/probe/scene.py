"""A scope for tests of probes: a configuration, and an agent that may be scripted."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nodeagent.config import parse_config
from nodeagent.probe.scope import Scope

Result = TypeVar("Result")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
TEXT = '[host]\nname = "host1"\naddresses = ["192.0.2.1"]\ncontrol_user = 64901\nworker_user = 64902\n[catalog]\naddress = "{url}"\n'


def elsewhere(look: Callable[[], Result]) -> Result:
    """What is found in a network namespace of its own, which goes with the thread that is in it."""

    def enter() -> Result:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        return look()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def no_agent(path: str, kind: type[Any]) -> Any:
    """Nobody is there."""
    del kind
    raise OSError(f"no agent was asked for {path}")


def scope(url: str = "http://127.0.0.1:1", more: str = "", **changes: Any) -> Scope:
    """The scope; `more` is added to [catalog] and below."""
    config = parse_config(TEXT.format(url=url) + more, "a test")
    # The one address that is there in every namespace, which no real host may give.
    config = msgspec.structs.replace(config, host=msgspec.structs.replace(config.host, addresses=("127.0.0.1", "192.0.2.1")))
    made = Scope(Path("/nowhere/nodeagent.toml"), config, "", False, "nobody listens", None, no_agent, lambda: 1_000_000.0)
    return replace(made, **changes)
