"""Asking the agent of a host over its admin socket, from outside the host."""

import http.client
from typing import TypeVar

import msgspec

from nodeagent import limits
from nodeagent.control import unix_http
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host, agent_command

Answer = TypeVar("Answer", bound=msgspec.Struct)


def ask_agent(host: Host, path: str, kind: type[Answer]) -> Answer:
    """The agent's answer to GET `path`. A Unix socket is a file: no namespace needs entering.

    Raises:
        LabError: no agent answers there, or something else than it should.
    """
    try:
        status, body = unix_http.get(str(host.own("run") / "api.sock"), path)
    except (OSError, http.client.HTTPException) as error:
        raise LabError(f"the agent on {host.name} {_why(host, error)}") from error
    try:
        if status == http.HTTPStatus.OK:
            return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise LabError(f"the agent on {host.name} answered {path} with something else: {error}") from error
    raise LabError(f"the agent on {host.name} refused {path}: {body.decode(errors='replace')}")


def _why(host: Host, error: Exception) -> str:
    """Without numbers of errors; where it hangs, with what ends that."""
    if isinstance(error, TimeoutError):
        silent = f"did not answer within {limits.API_ANSWER_S:g} s: it hangs, or this machine is too busy"
        return f"{silent}; {agent_command(host.lab, host.name, 'restart')}"
    return f"does not answer: {(error.strerror if isinstance(error, OSError) else '') or error}"
