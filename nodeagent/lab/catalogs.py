"""The two catalogs that a lab can have, behind one face: the embedded one in the hub, or a real Consul on every host."""

from typing import Any, Protocol

import msgspec

from nodeagent.lab import catalog, cgroup, consul, layout
from nodeagent.lab.layout import Host
from nodeagent.lab.progress import Say
from nodeagent.lab.state import LabState


class Introduction(msgspec.Struct, frozen=True):
    """What a host needs to know of the catalog."""

    address: str
    node_token: str
    operator_token: str
    ca_pem: str = ""
    """Empty: the catalog is this host's own agent, and speaks no TLS."""


class LabCatalog(Protocol):
    """A catalog of a lab that is up."""

    unit: str
    """Of what runs in the hub."""

    @property
    def place(self) -> str:
        """Where it answers, in words."""

    def start(self, say: Say) -> None:
        """Starts it, anew or with the data it has, and returns when it answers."""

    def stop(self, say: Say) -> None:
        """SIGTERM, and SIGKILL to what is left after a while; its data stay."""

    def kill(self) -> None:
        """SIGKILL: the crash to rehearse."""

    def introduce(self, host: Host, say: Say) -> Introduction:
        """Makes a host known to it."""

    def ask(self, method: str, path: str, body: object = None, *, token: str = "", at: Host | None = None) -> Any:
        """What it answers; with the management token unless another is given. at: the host whose agent is meant by /v1/agent."""


def catalog_of(state: LabState) -> LabCatalog:
    """The lab's catalog."""
    return Consul(state) if state.consul else Embedded(state)


class Embedded:
    """`nodeagent catalog` in the hub."""

    unit = catalog.UNIT

    def __init__(self, state: LabState) -> None:
        self._state = state

    @property
    def place(self) -> str:
        """As LabCatalog."""
        return layout.catalog_url(self._state.hub)

    def start(self, say: Say) -> None:
        """As LabCatalog."""
        catalog.start_catalog(self._state.hub, self._state.holder(self._state.hub), say=say)

    def stop(self, say: Say) -> None:
        """As LabCatalog."""
        catalog.stop_catalog(self._state.hub, say)

    def kill(self) -> None:
        """As LabCatalog."""
        catalog.kill_catalog(self._state.hub)

    def introduce(self, host: Host, say: Say) -> Introduction:  # noqa: ARG002 - nothing takes long here
        """As LabCatalog."""
        hub, holder = self._state.hub, self._state.holder(self._state.hub)
        token = catalog.create_token(hub, holder, host)
        catalog.call(hub, holder, token, "PUT", "/v1/catalog/register", catalog.node_entry(host))
        return Introduction(self.place, token, catalog.management_token(hub), catalog.ca_pem(hub))

    def ask(self, method: str, path: str, body: object = None, *, token: str = "", at: Host | None = None) -> Any:  # noqa: ARG002 - the token says which host
        """As LabCatalog."""
        hub = self._state.hub
        return catalog.call(hub, self._state.holder(hub), token or catalog.management_token(hub), method, path, body)


class Consul:
    """A server of Consul's in the hub, and its agent on every host."""

    unit = consul.UNIT

    def __init__(self, state: LabState) -> None:
        self._state = state

    @property
    def place(self) -> str:
        """As LabCatalog."""
        return f"Consul at 127.0.0.1:{consul.PORT} on each host, its server in the hub"

    def start(self, say: Say) -> None:
        """As LabCatalog."""
        consul.start_server(self._state.consul, self._state.hub, self._state.holder(self._state.hub), say)

    def stop(self, say: Say) -> None:
        """As LabCatalog; the agents of Consul's go on."""
        catalog.stop_catalog(self._state.hub, say, self.unit)

    def kill(self) -> None:
        """As LabCatalog."""
        cgroup.destroy(self._state.hub.unit_cgroup(self.unit))

    def introduce(self, host: Host, say: Say) -> Introduction:
        """As LabCatalog."""
        hub, state = self._state.hub, self._state
        token = consul.start_client(state.consul, hub, state.holder(hub), host, state.holder(host), say)
        return Introduction(f"http://127.0.0.1:{consul.PORT}", token, consul.management_token(hub))

    def ask(self, method: str, path: str, body: object = None, *, token: str = "", at: Host | None = None) -> Any:
        """As LabCatalog."""
        place = at or self._state.hub
        return consul.call(place, self._state.holder(place), token or consul.management_token(self._state.hub), method, path, body)
