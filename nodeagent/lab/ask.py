"""Asking the agent of a host over its admin socket, from outside the host."""

import http.client
import socket
from typing import TypeVar

import msgspec

from nodeagent import limits
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host

Answer = TypeVar("Answer", bound=msgspec.Struct)


def ask_agent(host: Host, path: str, kind: type[Answer]) -> Answer:
    """The agent's answer to GET `path`. A Unix socket is a file: no namespace needs entering.

    Raises:
        LabError: no agent answers there, or something else than it should.
    """
    connection = _Connection(str(host.own("run") / "api.sock"))
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LabError(f"the agent on {host.name} does not answer: {error}") from error
    finally:
        connection.close()
    try:
        if response.status == http.HTTPStatus.OK:
            return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise LabError(f"the agent on {host.name} answered {path} with something else: {error}") from error
    raise LabError(f"the agent on {host.name} refused {path}: {body.decode(errors='replace')}")


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=limits.API_ASK_S + limits.CATALOG_CONNECT_S)
        self._path = path

    def connect(self) -> None:
        """http.client's: opens the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
