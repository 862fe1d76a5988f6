"""Completion in the shell: the script for it, and names that only the agent knows."""

import http.client
from collections.abc import Iterable
from typing import TypeVar

import click
import msgspec
from click.shell_completion import get_completion_class

from nodeagent.cli.agent_api import find_socket
from nodeagent.cli.versions import ROOT, read_versions
from nodeagent.control import unix_http
from nodeagent.control.report import ConnectionsAnswer, ServicePart, ServicesAnswer
from nodeagent.errors import ConfigError

Answer = TypeVar("Answer", bound=msgspec.Struct)

_VARIABLE = "_NODEAGENT_COMPLETE"
_FISH_SPLIT = 'string split "," $completion'  # click's, which ends what fish says of a command at its first comma
_PATIENCE_S = 1.0  # somebody has pressed a key and waits


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes nodeagent's commands in SHELL.

    bash: nodeagent completion bash >/etc/bash_completion.d/nodeagent

    zsh: nodeagent completion zsh >/usr/local/share/zsh/site-functions/_nodeagent

    fish: nodeagent completion fish >/etc/fish/completions/nodeagent.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(click.Command("nodeagent"), {}, "nodeagent", _VARIABLE)
    text = script.source_template % script.source_vars()
    click.echo(text.replace(_FISH_SPLIT, _FISH_SPLIT.replace("split", "split -m 1")))


def services(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """click's: names of services."""
    return _beginning(incomplete, (service.name for service in _services(ctx)))


def hosts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """click's: names of hosts that run services."""
    return _beginning(incomplete, (instance.host for service in _services(ctx) for instance in service.instances))


def connections(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """click's: ids of connections that ended lately."""
    answer = _try_ask(ctx, "/v1/connections?closed=1&limit=100", ConnectionsAnswer)
    return _beginning(incomplete, (row.id for row in answer.connections)) if answer else []


def versions(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """click's: versions that are installed side by side."""
    try:
        return _beginning(incomplete, read_versions(ctx.params.get("root") or ROOT).installed)
    except ConfigError:
        return []


def _services(ctx: click.Context) -> Iterable[ServicePart]:
    answer = _try_ask(ctx, "/v1/services", ServicesAnswer)
    return answer.services if answer else []


def _beginning(text: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(text)})


def _try_ask(ctx: click.Context, path: str, kind: type[Answer]) -> Answer | None:
    """The agent's answer; None where there is none: whoever presses a key wants no error message."""
    try:
        _, body = unix_http.request(find_socket(ctx.params.get("socket_path")), "GET", path, timeout_s=_PATIENCE_S)
        return msgspec.json.decode(body, type=kind)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
