"""What a look at a host starts from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeagent.config import Config
from nodeagent.control.report import Status
from nodeagent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Scope:
    """Configuration, agent and clock, as far as there are any."""

    config_path: Path
    config: Config | None
    config_error: str
    is_pre: bool
    """Only the host counts: no agent is expected."""
    agent_error: str
    status: Status | None
    """What the agent said; None: it does not answer."""
    ask_agent: Callable[[str, type[Any]], Any]
    """Answer to GET path; raises where it does not."""
    now: Callable[[], float]
    is_agent_closed: bool = False
    """It may answer, but not to this user."""
    agent_cure: str = ""
    """What helps where it does not answer; empty: nothing is known."""
    is_agent_silent: bool = False
    """It is there, and does not answer in time."""
    is_agent_settling: bool = False
    """It does not answer because it starts, or is just replacing itself."""
    socket_path: str = ""
    """The agent's socket, where it was named and not configured."""
    is_config_closed: bool = False
    """The configuration is not for this user to read."""

    @property
    def is_elsewhere(self) -> bool:
        """The socket that was named is not the configured one: who holds this host's ports was not asked."""
        return bool(self.socket_path and self.config and self.socket_path != self.config.admin.socket)

    @property
    def settings(self) -> Config:
        """The configuration.

        Raises:
            ConfigError: there is none that can be used.
            PermissionError: it is not for this user.
        """
        if self.is_config_closed:
            raise PermissionError(self.config_error)
        if self.config is None:
            raise ConfigError("the configuration cannot be used")
        return self.config
