"""`nodeagent intercept`: the kernel's rules, shown, installed, compared and removed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nodeagent import limits
from nodeagent.cli.agent_api import words_here
from nodeagent.cli.render import output_option, show_json
from nodeagent.config import DEFAULT_PATH, Config, load_config
from nodeagent.control.report import API_VERSION
from nodeagent.observe.log import configure_log
from nodeagent.process.interception import read_settings
from nodeagent.process.saved_capture import try_saved_capture
from redirect import kernel
from redirect.backend import capturing_backends, open_elements
from redirect.errors import RedirectError
from redirect.settings import Settings

OFF = "intercept.enabled is false: nothing is captured on this host"

_config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True,
    help="The agent's configuration.",
)  # fmt: skip


@click.group()
def intercept() -> None:
    """The kernel rules that bring connections to the agent. Needs root."""


@intercept.command()
@_config_option
@output_option
def plan(config_path: Path, output: str) -> None:
    """Show what apply would change, after the kernel has judged it. Changes nothing."""
    config = load_config(config_path)
    if _say_if_off(config, output):
        return
    with _plain_errors():
        settings = read_settings(config)
        diff = kernel.preview(settings)
    text = "\n".join(diff) or "Nothing to change."
    _print(output, text, {"enabled": True, "diff": diff, "planned": kernel.plan_text(settings)})


@intercept.command()
@_config_option
@output_option
def apply(config_path: Path, output: str) -> None:
    """Install the rules, or bring them up to date: whole or not at all. Open connections stay as they are."""
    config = load_config(config_path)
    if _say_if_off(config, output):
        return
    with _plain_errors():
        configure_log("intercept", config.log.level)  # on standard error: what apply prints may be read by a program
        settings = read_settings(config)
        report = kernel.apply(settings)
        refilled = _refill(settings, Path(config.admin.state_dir)) if report.emptied else ()
    changes = (*report.changes, *refilled)
    _print(output, "\n".join(changes) or "Nothing to change.", {"enabled": True, "changes": changes})


@intercept.command()
@output_option
def show(output: str) -> None:
    """Show what is installed, with counters and elements."""
    with _plain_errors():
        text = kernel.show()
    _print(output, text.rstrip() or "Nothing is installed.", {"installed": bool(text), "text": text})


@intercept.command()
@click.option("--now", is_flag=True, help="Remove everything, and break redirected connections that are still open.")
@click.option("--force", is_flag=True, help="Also while an agent runs, which puts the rules back.")
@click.option("--config", hidden=True, expose_value=False, help="Of no effect: units of older packages say it.")
@output_option
def remove(now: bool, force: bool, output: str) -> None:  # noqa: FBT001 - click gives flags by name
    """Remove the rules, when the agent has been stopped.

    What keeps open connections alive stays until they have ended: run it again then, or use --now.
    """
    with _plain_errors():
        _refuse_beside_agent(is_forced=force)
        report = kernel.remove(now=now)
    lines = [*report.changes, *(f"Left for now: {reason}." for reason in report.left)]
    _print(output, "\n".join(lines) or "Nothing was installed.", {"changes": report.changes, "left": report.left})


@intercept.command()
@_config_option
@output_option
def verify(config_path: Path, output: str) -> None:
    """Compare the kernel with the plan; exit status 1 and a sentence for each difference."""
    config = load_config(config_path)
    with _plain_errors():
        drift = _find_drift(config)
    text = "\n".join(drift) or "The kernel does what the configuration says."
    _print(output, text, {"ok": not drift, "drift": drift})
    if drift:
        click.get_current_context().exit(1)


def _refuse_beside_agent(*, is_forced: bool) -> None:
    """A running agent puts back what is removed; until then, what must not go in clear would."""
    port = kernel.try_agent_port()
    if port is None:
        return
    threat = f"an agent listens on port {port} and puts the rules back within {limits.DRIFT_S:g} s"
    if not is_forced:
        cure = "stop it first: systemctl stop nodeagent (in a lab: nodeagent lab agent HOST stop), or use --force"
        raise click.ClickException(words_here()(f"nothing was removed: {threat}; {cure}"))
    click.echo(f"Warning: {threat}.", err=True)


def _refill(settings: Settings, state_dir: Path) -> tuple[str, ...]:
    """Fills sets that were made anew with what was captured last: until an agent has compiled, that goes nowhere in clear.

    Beside a running agent nothing is filled: it knows better, and restores its sets itself.
    """
    capture = try_saved_capture(state_dir)
    if capture is None or kernel.try_agent_port() is not None:
        return ()
    with open_elements(settings) as elements:
        elements.set_capture(capture.addresses, capture.ports, capture.loopback_ports, catalog=capture.catalog)
    return (f"captured as before: {len(capture.addresses)} addresses, {len(capture.ports)} ports of this host",)


def _find_drift(config: Config) -> tuple[str, ...]:
    if config.intercept.enabled:
        return kernel.verify(read_settings(config))
    if capturing_backends():
        return ("intercept.enabled is false, but rules are installed; reload the agent, or without one run `nodeagent intercept remove`",)
    return ()


def _say_if_off(config: Config, output: str) -> bool:
    if not config.intercept.enabled:
        _print(output, OFF, {"enabled": False})
    return not config.intercept.enabled


def _print(output: str, text: str, data: dict[str, Any]) -> None:
    if output == "json":
        show_json({"apiVersion": API_VERSION, **data})
    else:
        click.echo(text)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What redirect refuses becomes one line and exit status 1, as does a caller whom the kernel will not hear."""
    if os.geteuid() != 0:
        raise click.ClickException("the kernel shows and changes its rules for root alone: run it as root (sudo)")
    try:
        yield
    except RedirectError as error:
        raise click.ClickException(str(error)) from error
