"""The lab as one object: everything that can be done in a lab that is up."""

import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.config import check_captured, load_config
from nodeagent.errors import ConfigError
from nodeagent.lab import agent, catalog, cgroup, enter, layout, service
from nodeagent.lab import state as states
from nodeagent.lab.build import Plan, bring_up
from nodeagent.lab.catalogs import catalog_of
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import DEFAULT_NAME, Host
from nodeagent.lab.progress import Say
from nodeagent.lab.settle import wait_known
from nodeagent.lab.state import LabState, ServiceState
from nodeagent.lab.teardown import take_down
from nodeagent.model.service import Protocol


class Lab:
    """A lab that is up. Holds nothing of it but its name: any process that is root may have one of the same lab."""

    def __init__(self, name: str = DEFAULT_NAME, say: Say = lambda _: None) -> None:
        """`say` is told what is waited for where that takes long."""
        self.name = name
        self._say = say

    @classmethod
    def up(cls, plan: Plan, say: Say = lambda _: None) -> "Lab":
        """A new lab as planned, every agent healthy.

        Raises:
            LabError: there is one of that name, or something failed and was taken down again.
        """
        bring_up(plan, say)
        return cls(plan.name, say)

    def down(self) -> bool:
        """Removes the lab; whether there was anything to remove."""
        return take_down(self.name)

    @property
    def state(self) -> LabState:
        """What the lab is made of, now.

        Raises:
            LabError: it is not up.
        """
        return states.load_state(self.name)

    def host(self, name: str) -> Host:
        """Addresses, directories, logs and cgroups of a host, or of the `hub`.

        Raises:
            LabError: there is none of that name.
        """
        return self.state.host(name)

    def member(self, name: str) -> Host:
        """A host, which has an agent and services; never the hub.

        Raises:
            LabError: there is none of that name.
        """
        return self.state.member(name)

    def command(self, host: str, command: Sequence[str], *, service: str = "", user: str = "") -> list[str]:
        """The argument list that runs `command` on `host` as a process of `service`, or of no unit.

        Raises:
            LabError: no such host, service name or user.
        """
        place = self.host(host)
        group = place.unit_cgroup(layout.checked_service(service)) if service else place.session_cgroup
        inside = enter.inside(self.state.holder(place).pid, command, user=user, at=str(Path.cwd()))
        return enter.in_cgroup(group, inside)

    def popen(
        self, host: str, command: Sequence[str], *, service: str = "", user: str = "", **keywords: Any
    ) -> "subprocess.Popen[Any]":
        """`command` started on `host`; `keywords` are Popen's."""
        argv = self.command(host, command, service=service, user=user)
        return subprocess.Popen(argv, env=enter.environment(user), **keywords)

    def exec(
        self, host: str, *command: str, service: str = "", user: str = "", timeout_s: float = 60.0, **keywords: Any
    ) -> "subprocess.CompletedProcess[str]":
        """`command` run to its end on `host`, with its exit status and what it printed; `keywords` are run's."""
        argv = self.command(host, command, service=service, user=user)
        return subprocess.run(
            argv,
            text=True,
            capture_output=True,
            env=enter.environment(user),
            timeout=timeout_s,
            check=False,
            **keywords,
        )

    def run(  # noqa: PLR0913 - the options of `nodeagent lab run`
        self, host: str, name: str, command: Sequence[str], *,
        port: int = 0, protocol: Protocol | None = None, user: str = "", replace: bool = False,
    ) -> service.Started:  # fmt: skip
        """Starts `command` as NAME.service; with a port: it listens, is registered there, and every agent knows it.

        Raises:
            LabError: the port is never captured, the unit or port is in use, the command failed, or the catalog refused.
        """
        state, place = self.state, self.member(host)
        layout.checked_service(name)
        if port:
            _check_captured(place, port)
        if replace and service.is_running(place, name):
            self.stop(host, name)
        start = service.Start(place, name, command, port=port, user=user)
        started = service.start_service(start, state.holder(place), enter.environment(user), self._say)
        self._remember(host, name, ServiceState(tuple(command), port, started.addresses))
        if port:
            self._register_or_stop(host, name, port, protocol, started.addresses)
        return started

    def stop(self, host: str, name: str) -> bool:
        """Ends a service and takes it out of the catalog; whether there was one.

        Raises:
            LabError: the catalog does not answer or refuses; the service has ended all the same.
        """
        place = self.member(host)
        is_known = service.is_running(place, layout.checked_service(name)) or name in self.state.services.get(host, {})
        service.stop_service(place, name, self._say)
        self._remember(host, name, None)
        token = self.node_token(host)
        chosen = catalog_of(self.state)
        is_registered = name in chosen.ask("GET", "/v1/agent/services", token=token, at=place)
        if is_registered:
            chosen.ask("PUT", f"/v1/agent/service/deregister/{name}", token=token, at=place)
        return is_known or is_registered

    def register(
        self, host: str, name: str, port: int, protocol: Protocol | None = None, addresses: Collection[str] = ()
    ) -> None:
        """Enters a service into the catalog and returns when every agent knows it; without `addresses` at all the host's."""
        place = self.member(host)
        if protocol:
            self.catalog("PUT", "/v1/config", catalog.protocol_entry(name, protocol))
        entry = catalog.service_entry(place, name, port, addresses or (place.ipv4, place.ipv6))
        catalog_of(self.state).ask("PUT", "/v1/agent/service/register", entry, token=self.node_token(host), at=place)
        wait_known(self.state, place, name, self._say)

    def catalog(self, method: str, path: str, body: object = None, *, token: str = "") -> Any:
        """What the lab's catalog answers; with the management token unless another is given.

        Raises:
            LabError: it refuses or does not answer.
        """
        return catalog_of(self.state).ask(method, path, body, token=token)

    def node_token(self, host: str) -> str:
        """The token of a host's agent."""
        return (self.member(host).own("etc") / "node.token").read_text(encoding="ascii").strip()

    def start_agent(self, host: str) -> None:
        """Starts the agent of a host and returns when it is healthy."""
        place = self.member(host)
        began = agent.start_agent(place, self.state.holder(place))
        agent.wait_healthy((place,), self._say, began)

    def restart_agent(self, host: str) -> None:
        """Has the agent of a host make room for another, which gets what that one has stored; no connection is lost."""
        place = self.member(host)
        began = agent.restart_agent(place, self.state.holder(place))
        agent.wait_healthy((place,), self._say, began)

    def stop_agent(self, host: str) -> bool:
        """Stops the agent of a host as systemd would: it drains. Whether there was one."""
        return agent.stop_agent(self.member(host), self._say)

    def reload_agent(self, host: str) -> None:
        """Has the agent of a host take up its configuration and program anew; no connection is lost."""
        agent.reload_agent(self.member(host), self._say)

    def crash_agent(self, host: str) -> None:
        """Kills the supervisor alone, and returns when another, started as systemd would, is healthy."""
        place = self.member(host)
        began = agent.crash_agent(place, self.state.holder(place))
        agent.wait_healthy((place,), self._say, began)

    def kill_agent(self, host: str) -> bool:
        """Kills every process of the agent of a host. Whether there was one."""
        return agent.kill_agent(self.member(host))

    def start_catalog(self) -> None:
        """Starts the catalog with the data it has and returns when it answers."""
        catalog_of(self.state).start(self._say)

    def stop_catalog(self) -> None:
        """Stops the catalog; agents go on with what they know."""
        catalog_of(self.state).stop(self._say)

    def kill_catalog(self) -> None:
        """Kills the catalog."""
        catalog_of(self.state).kill()

    def pids(self, host: str, service_name: str) -> tuple[int, ...]:
        """The processes of a service of a host; of the agent, for `nodeagent`."""
        return cgroup.pids(self.host(host).unit_cgroup(service_name))

    def _register_or_stop(
        self, host: str, name: str, port: int, protocol: Protocol | None, addresses: Collection[str]
    ) -> None:
        try:
            self.register(host, name, port, protocol, addresses)
        except LabError:
            service.stop_service(self.member(host), name)
            self._remember(host, name, None)
            raise

    def _remember(self, host: str, name: str, entry: ServiceState | None) -> None:
        with self._changing() as services:
            services.setdefault(host, {}).pop(name, None)
            if entry:
                services[host][name] = entry

    @contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, ServiceState]]]:
        """The services in lab.json, to be changed."""
        with states.locked(self.name):
            state = self.state
            services = {host: dict(entries) for host, entries in state.services.items()}
            yield services
            states.save_state(msgspec.structs.replace(state, services=services))


def _check_captured(host: Host, port: int) -> None:
    """Nothing, if calls to this port of the host come to its agent.

    Raises:
        LabError: they do not, or the host's configuration cannot be read.
    """
    try:
        check_captured(load_config(host.own("etc") / "nodeagent.toml"), port)
    except ConfigError as error:
        raise LabError(str(error)) from error
