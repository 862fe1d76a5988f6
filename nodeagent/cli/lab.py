"""nodeagent lab: hosts as network namespaces on this machine, to learn and to rehearse policy."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from click.core import ParameterSource

from nodeagent import limits
from nodeagent.cli.main import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, shown
from nodeagent.cli.render import output_option, printable, show_json, show_table
from nodeagent.control.report import API_VERSION
from nodeagent.lab import enter, teardown
from nodeagent.lab import status as statuses
from nodeagent.lab.build import Plan
from nodeagent.lab.catalogs import catalog_of
from nodeagent.lab.consul import find_program
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError, NoLabName, NotInLab
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import AGENT, DEFAULT_NAME, HUB, Host, checked_name
from nodeagent.lab.status import HostStatus, LabStatus
from nodeagent.model.address import Address
from nodeagent.model.service import Protocol

_EXIT_OF: dict[type[LabError], int] = {
    NotInLab: EXIT_NOT_FOUND, NoLabName: EXIT_USAGE, CatalogAway: EXIT_UNREACHABLE, CatalogSilent: EXIT_TIMEOUT,
}  # fmt: skip
"""Where it is not EXIT_FAILED."""


class _Command(click.Command):
    """A command of the lab: for root, and its failures are one line with what, whose fault and the cure."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        if os.geteuid() != 0:
            raise click.ClickException("a lab makes network namespaces and cgroups: run it as root (sudo)")
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.ClickException(shown(str(error))).show()
            ctx.exit(_EXIT_OF.get(type(error), EXIT_FAILED))


class _Group(click.Group):
    command_class = _Command


class _WithCommand(_Command):
    """A command whose arguments end at `--`; what follows is the command to run, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Splits at the first `--`."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = tuple(args[at + 1 :]), args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Adds what click does not know of."""
        return [*super().collect_usage_pieces(ctx), "-- CMD..."]


_COMMAND = "nodeagent.lab.command"
_SAID = {
    "start": "the agent on {} runs, and is healthy", "restart": "the agent on {} was restarted, and is healthy",
    "stop": "the agent on {} is stopped", "kill": "the agent on {} is killed; its rules stay",
    "reload": "the agent on {} has reloaded", "crash": "the supervisor on {} was killed; the next one is healthy",
}  # fmt: skip
_HEADERS = ("HOST", "ADDRESSES", "AGENT", "MODE", "SERVICE", "REGISTERED AT", "COMMAND")
_CELL_CHARS = 48  # on a terminal; the whole of it is in a pipe and in JSON


def _lab_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """click's: the name of a lab, or none, else a usage error."""
    try:
        return value if value is None else checked_name(value)
    except NoLabName as error:
        raise click.BadParameter(str(error)) from error


def _given(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """click's: an empty name, as of a shell's variable that is not set, must not mean a process of no unit."""
    if not value and ctx.get_parameter_source(str(param.name)) != ParameterSource.DEFAULT:
        raise click.BadParameter("it is empty; leave it out to run CMD as a process of no unit")
    return value


_name = click.option(
    "--name", callback=_lab_name, default=DEFAULT_NAME, envvar="NODEAGENT_LAB", show_default=True, show_envvar=True, help="Which lab."
)


def _log_options(command: Callable[..., None]) -> Callable[..., None]:
    for decorate in (
        click.option("--lines", type=click.IntRange(min=1), default=200, show_default=True, help="With logs: the last so many."),
        click.option("-f", "--follow", is_flag=True, help="With logs: go on printing."),
    ):  # fmt: skip
        command = decorate(command)
    return command


@click.group(
    cls=_Group,
    help="""Hosts on one machine: network namespaces with addresses, a catalog and agents of their own.

    \b
    nodeagent lab up
    nodeagent lab run host2 web --port 8080 -- python3 -m http.server 8080 --bind ::
    nodeagent lab exec host1 shop -- curl http://10.77.0.2:8080/
    nodeagent lab exec host1 -- nodeagent intention allow shop web
    nodeagent lab down
    """,
)
def lab() -> None:
    """The group; its help is above, for click's mark of a paragraph that keeps its lines."""


@lab.command()
@_name
@click.option(
    "--hosts", type=click.IntRange(1, limits.LAB_HOSTS), default=2, show_default=True, help="How many: host1, host2, …"
)
@click.option("--mode", default="strict", show_default=True, type=click.Choice(["strict", "permissive", "observe"]))
@click.option(
    "--workers", type=click.IntRange(0, limits.WORKERS_MAX), default=2, show_default=True,
    help="Worker processes of each agent; 0: one per core, at most four.",
)
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", "nft", "iptables"]))
@click.option(
    "--catalog", default="embedded", show_default=True, type=click.Choice(["embedded", "consul"]),
    help="`nodeagent catalog` in the hub; or a real Consul: its server in the hub, its agent on each host.",
)  # fmt: skip
@click.option("--consul", default="", envvar="NODEAGENT_CONSUL", show_envvar=True, help="Its program, where it is not the `consul` in PATH.")
@click.option("--agents/--no-agents", default=True, help="Whether agents are started; else: nodeagent lab agent HOST start.")
def up(**plan: Any) -> None:
    """Makes the hosts and starts the catalog and the agents."""
    _make_terminable()
    plan["consul"] = find_program(plan["consul"]) if plan.pop("catalog") == "consul" else ""
    made, name = Lab.up(Plan(**plan), _say), plan["name"]
    state = made.state
    option = "" if name == DEFAULT_NAME else f" --name {name}"
    click.echo(f"lab {name!r} is up: " + ", ".join(f"{h.name} {h.ipv4} {h.ipv6}" for h in state.members))
    click.echo("next:")
    last = state.members[-1]
    click.echo(f"  nodeagent lab run{option} {last.name} web --port 8080 -- python3 -m http.server 8080 --bind ::")
    click.echo(f"  nodeagent lab exec{option} host1 shop -- curl -sS http://{last.ipv4}:8080/")
    click.echo(f"  nodeagent lab exec{option} host1 -- nodeagent intention allow shop web")
    click.echo(f"  nodeagent lab status{option}")


@lab.command()
@_name
@click.option("--all", "every", is_flag=True, help="Every lab of this machine, also those of other people.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@click.pass_context
def down(ctx: click.Context, name: str, every: bool, yes: bool) -> None:  # noqa: FBT001 - click passes by name
    """Removes everything of a lab: processes, namespaces, rules, cgroups, files; also after a crash.

    Exit status: 0 removed, 4 there was none of that name (with --all: 0, then nothing is left either way).
    """
    if every and ctx.get_parameter_source("name") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--all and --name contradict each other; give one of them")
    names = tuple(teardown.names()) if every else (name,)
    if every and names and not yes:
        click.confirm(f"Remove {len(names)} labs: {', '.join(names)}?", abort=True)
    if not names:
        click.echo("no lab is up")
    for each in names:
        if teardown.take_down(each):
            click.echo(f"lab {each!r} is removed")
        elif not every:  # else another command was quicker
            raise NotInLab(f"there is no lab {each!r}; see: nodeagent lab status")


@lab.command(cls=_WithCommand)
@_name
@click.argument("host")
@click.argument("service")
@click.option("--port", type=click.IntRange(1, 65535), help="Register the service with this port, and wait for it.")
@click.option("--protocol", type=click.Choice(["tcp", "http", "http2", "grpc"]), help="Declare the service's protocol.")
@click.option("--user", default="", metavar="UID", help="Run as this user, a name or a number.")
@click.option("--replace", is_flag=True, help="Stop the service first if it runs.")
@click.pass_context
def run(ctx: click.Context, /, name: str, host: str, service: str, protocol: Protocol | None, **options: Any) -> None:
    """Starts CMD as SERVICE.service on HOST; returns when its port listens.

    It is registered at those addresses of HOST at which it listens. Without --port it is watched for a second, and is
    called by nobody: a server needs --port.

    Exit status: 0 it runs, or has ended with status 0 (without --port); 1 it ended otherwise, or does not listen.
    """
    command = _command(ctx)
    chosen = Lab(name, _say)
    options["port"] = options["port"] or 0
    started = chosen.run(host, service, command, protocol=protocol, **options)
    place = chosen.member(host)
    if options["port"]:
        click.echo(f"{service} runs on {host} at {_places(place, started.addresses, options['port'])}")
    elif started.is_over:
        click.echo(f"{service} on {host} ended at once, with status 0; its log: {place.log(service)}")
    else:
        click.echo(f"{service} runs on {host}; its log: {place.log(service)}")


@lab.command()
@_name
@click.argument("host")
@click.argument("service")
def stop(name: str, host: str, service: str) -> None:
    """Stops SERVICE on HOST and takes it out of the catalog.

    Exit status: 0 stopped, 4 there was none.
    """
    if not Lab(name, _say).stop(host, service):
        raise NotInLab(f"there is no service {service} on {host}; see: nodeagent lab status --name {name}")
    click.echo(f"{service} is stopped on {host}")


@lab.command("exec", cls=_WithCommand)
@_name
@click.option("--user", default="", metavar="UID", help="Run as this user, a name or a number.")
@click.argument("host")
@click.argument("service", required=False, default="", callback=_given)
@click.pass_context
def exec_(ctx: click.Context, /, name: str, user: str, host: str, service: str) -> NoReturn:
    """Runs CMD on HOST in the foreground as a process of SERVICE; without SERVICE, as one of no unit.

    HOST may be `hub`: the namespace with the bridge (br0) and the catalog.
    """
    argv = Lab(name).command(host, _command(ctx), service=service, user=user)
    sys.stdout.flush()
    os.execvpe(argv[0], argv, enter.environment(user))  # noqa: S606 - streams, signals, status and terminal are CMD's


@lab.command()
@_name
@click.argument("host")
@click.argument("action", type=click.Choice(["start", "stop", "kill", "restart", "reload", "crash", "logs"]))
@_log_options
def agent(name: str, host: str, action: str, follow: bool, lines: int) -> None:  # noqa: FBT001 - click passes by name
    """Starts, stops (drains), kills, restarts or reloads the agent of HOST, or prints the end of its log.

    No connection is lost by a restart or a reload. `kill` ends all its processes at once; `crash` kills its supervisor alone and starts another. All as systemd does.

    Exit status: 0 done, also where none ran that could be stopped or killed; 1 it runs already, none runs, or it does not become healthy; 4 no such host.
    """
    chosen = Lab(name, _say)
    if action == "logs":
        _show_log(chosen.member(host).log(AGENT), lines, follow=follow)
    verbs: dict[str, Callable[[str], bool | None]] = {
        "start": chosen.start_agent, "restart": chosen.restart_agent, "stop": chosen.stop_agent, "kill": chosen.kill_agent,
        "reload": chosen.reload_agent, "crash": chosen.crash_agent,
    }  # fmt: skip
    click.echo(_SAID[action].format(host) if verbs[action](host) is not False else f"no agent ran on {host}")


@lab.command("catalog")
@_name
@click.argument("action", type=click.Choice(["start", "stop", "kill", "restart", "logs"]))
@_log_options
def catalog_(name: str, action: str, follow: bool, lines: int) -> None:  # noqa: FBT001 - click passes by name
    """Starts, stops, kills or restarts the lab's catalog, or prints the end of its log. Its data outlive all of that.

    Agents go on without it, with what they have heard.
    """
    chosen = Lab(name, _say)
    if action == "logs":
        _show_log(chosen.host(HUB).log(catalog_of(chosen.state).unit), lines, follow=follow)
    verbs: dict[str, tuple[Callable[[], None], ...]] = {
        "start": (chosen.start_catalog,), "stop": (chosen.stop_catalog,), "kill": (chosen.kill_catalog,),
        "restart": (chosen.stop_catalog, chosen.start_catalog),
    }  # fmt: skip
    for verb in verbs[action]:
        verb()


def _show_log(log: Path, lines: int, *, follow: bool) -> NoReturn:
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(log)])  # noqa: S606 - its streams are ours


@lab.command()
@click.option("--name", callback=_lab_name, default=None, help="Only this lab; without it, all.")
@output_option
def status(name: str | None, output: str) -> None:
    """Shows labs, hosts, agents, services and addresses."""
    labs = statuses.read_all() if name is None else (statuses.read_status(name),)
    if output == "json":
        show_json({"apiVersion": API_VERSION, "labs": msgspec.to_builtins(labs)})
    else:
        _print_labs(labs)
    if name is not None and labs[0].broken:
        raise click.exceptions.Exit(EXIT_FAILED if name in teardown.names() else EXIT_NOT_FOUND)


def _print_labs(labs: tuple[LabStatus, ...]) -> None:
    if not labs:
        click.echo("no lab is up; start one with: nodeagent lab up")
    for each in labs:
        catalog = each.catalog if each.catalog_running else f"{each.catalog} (NOT running)"
        click.echo(f"lab {each.name}: {each.broken or f'catalog {catalog}'}")
        if not each.broken:
            show_table(_HEADERS, [row for host in each.hosts for row in _rows(host)], most=_CELL_CHARS)


def _places(host: Host, addresses: tuple[str, ...], port: int) -> str:
    """Where a service listens, and where it does not."""
    silent = [ip for ip in (host.ipv4, host.ipv6) if ip not in addresses]
    note = f"; it does not listen at {' and '.join(silent)}" if silent else ""
    return " and ".join(str(Address(ip, port)) for ip in addresses) + note


def _rows(host: HostStatus) -> list[tuple[str, ...]]:
    """A line for each service of a host; the first one says what the host is."""
    agent = host.agent + (f": {host.complaint}" if host.complaint else "")
    services = [
        (each.name if each.running else f"{each.name} (ended)", " ".join(each.addresses) or "-", " ".join(each.command))
        for each in host.services
    ] or [("-", "-", "-")]
    heads = [(host.name, " ".join(host.addresses), agent, host.mode or "-"), *[("", "", "", "")] * (len(services) - 1)]
    return [head + service for head, service in zip(heads, services, strict=True)]


def _command(ctx: click.Context) -> tuple[str, ...]:
    """What follows `--`.

    Raises:
        click.UsageError: nothing does.
    """
    command: tuple[str, ...] = ctx.meta.get(_COMMAND, ())
    if not command:
        raise click.UsageError("put the command to run after `--`, such as: -- curl http://10.77.0.2:8080/", ctx)
    return command


def _say(what: str) -> None:
    with suppress(OSError):  # nobody listens any more, or the disk is full: the lab is made, or removed, all the same
        click.echo(f"  · {printable(what)}", err=True)


def _make_terminable() -> None:
    """SIGTERM ends `up` as Ctrl-C does: by an exception, so that what was made is removed."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
