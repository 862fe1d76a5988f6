"""The running agent, asked over its Unix socket."""

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import click
import msgspec

from nodeagent.cli.main import EXIT_NOT_FOUND, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE
from nodeagent.cli.render import waiting
from nodeagent.config import DEFAULT_PATH, AdminTable, load_config
from nodeagent.control import unix_http
from nodeagent.control.report import ErrorAnswer
from nodeagent.errors import ConfigError
from nodeagent.lab.commands import words_at

Answer = TypeVar("Answer", bound=msgspec.Struct)

socket_option = click.option(
    "--socket", "socket_path", envvar="NODEAGENT_SOCKET", show_envvar=True, metavar="PATH",
    help="The agent's admin socket; by default the one that its configuration names.",
)  # fmt: skip


class AgentUnreachableError(click.ClickException):
    """The agent does not answer: exit status 3."""

    exit_code = EXIT_UNREACHABLE

    def __init__(self, what: str, cure: str = "", *, is_settling: bool = False) -> None:
        """is_settling: it will soon: it starts, or is just replacing itself."""
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what = what
        self.cure = cure
        self.is_settling = is_settling


class AgentSilentError(AgentUnreachableError):
    """The agent is there and does not answer in time: exit status 5."""

    exit_code = EXIT_TIMEOUT


class AgentRefusesError(click.ClickException):
    """The agent answered with an error, or its socket is closed to the caller: exit status 1."""


class AgentPuzzledError(AgentRefusesError):
    """What it was asked makes no sense to it: exit status 2."""

    exit_code = EXIT_USAGE


class AgentDoesNotKnowError(AgentRefusesError):
    """It knows nothing of the kind: exit status 4."""

    exit_code = EXIT_NOT_FOUND


_ERROR_OF: dict[int, type[AgentRefusesError]] = {400: AgentPuzzledError, 404: AgentDoesNotKnowError}


def find_socket(given: str | None, config: Path = DEFAULT_PATH) -> str:
    """The socket's path: as given, as configured, or the default."""
    if given:
        return given
    try:
        return load_config(config).admin.socket
    except ConfigError:
        return AdminTable().socket


def words_here(config: Path = DEFAULT_PATH) -> Callable[[str], str]:
    """Has a sentence of the agent's name the commands that work on this host."""
    try:
        return words_at(load_config(config).intercept.cgroup_root)
    except ConfigError:
        return words_at("")


def ask(
    path: str, kind: type[Answer], *, socket_path: str | None, query: dict[str, str] | None = None, config: Path = DEFAULT_PATH,
    patience_s: float = 0.0,
) -> Answer:  # fmt: skip
    """The agent's answer to GET `path`. config: the agent's, which says where its socket is unless that is given.

    patience_s: of its silence; 0: as usual.

    Raises:
        AgentUnreachableError, AgentSilentError: it does not answer; says why and what to do.
        AgentRefusesError: it answered with an error, or is closed to the caller.
    """
    return _exchange(path + (f"?{urlencode(query)}" if query else ""), None, kind, socket_path, config, patience_s)


def tell(path: str, wish: msgspec.Struct, kind: type[Answer], *, socket_path: str | None) -> Answer:
    """The agent's answer to POST `path`; it may be refused to whoever may only look.

    Raises:
        AgentUnreachableError, AgentSilentError, AgentRefusesError: as `ask`.
    """
    return _exchange(path, msgspec.json.encode(wish), kind, socket_path)


def _exchange(
    target: str, wish: bytes | None, kind: type[Answer], socket_path: str | None, config: Path = DEFAULT_PATH, patience_s: float = 0.0
) -> Answer:
    """POST where there is a wish."""
    where = find_socket(socket_path, config)
    try:
        with waiting(f"the agent at {where}"):
            status, body = unix_http.request(where, "GET" if wish is None else "POST", target, wish, timeout_s=patience_s)
    except PermissionError as error:
        raise AgentRefusesError(f"{where} is closed to uid {os.geteuid()}; use sudo, or join the socket's group") from error
    except (OSError, http.client.HTTPException) as error:
        from nodeagent.cli.agent_away import explain, is_silence  # noqa: PLC0415 - imports that an answer can do without

        refusal = AgentSilentError if is_silence(error) else AgentUnreachableError
        away = explain(where, error, config)
        raise refusal(away.what, away.cure, is_settling=away.is_settling) from error
    return parse_answer(status, body, kind)


def parse_answer(status: int, body: bytes, kind: type[Answer]) -> Answer:
    """The value in an answer.

    Raises:
        AgentRefusesError: an error.
        ClickException: not an answer of this API.
    """
    try:
        if status == http.HTTPStatus.OK:
            return msgspec.json.decode(body, type=kind)
        error = msgspec.json.decode(body, type=ErrorAnswer).error
        raise _ERROR_OF.get(status, AgentRefusesError)(f"the agent answered: {error}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise click.ClickException(f"the agent's answer cannot be read: {error}; is it another version?") from error
