"""The lab's catalog: starting it in the hub, its tokens, and speaking its HTTP API from outside."""

import http.client
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nodeagent import limits
from nodeagent.control.json_http import exchange
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable
from nodeagent.lab import cgroup, enter, layout
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.netns import connect_in
from nodeagent.lab.progress import Progress, Say
from nodeagent.lab.state import Holder

UNIT = "nodeagent-catalog"
_KINDS: dict[type[CatalogError], type[LabError]] = {CatalogUnreachable: CatalogAway, CatalogTimeout: CatalogSilent}


def data_directory(hub: Host) -> Path:
    """Where the catalog keeps its data, CA and tokens."""
    return hub.directory / "catalog"


def start_catalog(hub: Host, holder: Holder, *options: str, say: Say = lambda _: None) -> None:
    """Starts the catalog in the hub, anew or with the data it has, and returns when it answers.

    options: further ones of `nodeagent catalog`.

    Raises:
        LabError: it runs already, ended, or did not answer in time; with the end of its log.
    """
    if cgroup.is_populated(hub.unit_cgroup(UNIT)):
        raise LabError(f"the catalog runs already; use: {layout.catalog_command(hub.lab, 'restart')}")
    data_directory(hub).mkdir(mode=0o700, exist_ok=True)
    listen = f"{hub.ipv4}:{layout.CATALOG_PORT}"
    command = [enter.nodeagent_command(), "catalog", "--data", str(data_directory(hub)), "--listen", listen, *options]
    inside = enter.inside(holder.pid, command, at="/")
    enter.start_daemon(hub.unit_cgroup(UNIT), inside, hub.log(UNIT), enter.service_environment())
    _wait_answering(hub, holder, Progress(say))


def stop_catalog(hub: Host, say: Say, unit_name: str = UNIT) -> None:
    """SIGTERM, and SIGKILL to what is left after a while; its data stay."""
    unit = hub.unit_cgroup(unit_name)
    if not cgroup.terminate(unit, limits.LAB_SAY_S):
        say("still waiting: the catalog ends")
        cgroup.wait_empty(unit, limits.LAB_STOP_S - limits.LAB_SAY_S)
    cgroup.destroy(unit)


def kill_catalog(hub: Host) -> None:
    """SIGKILL: the crash to rehearse."""
    cgroup.destroy(hub.unit_cgroup(UNIT))


def create_token(hub: Host, holder: Holder, host: Host) -> str:
    """A new node token for `host`, which may speak for any service: the lab's units name their services.

    Raises:
        LabError: the catalog refused.
    """
    answer = call(hub, holder, management_token(hub), "PUT", "/v1/acl/token", token_entry(host))
    return str(answer["SecretID"])


def management_token(hub: Host) -> str:
    """The token that may do everything.

    Raises:
        LabError: the lab has none, as after a restore into an empty directory; with the cure.
    """
    path = data_directory(hub) / "management.token"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        make = f"nodeagent catalog --data {path.parent} token create --management --out {path}"
        raise LabError(f"{path}: is not there; make another: {make}") from error


def ca_pem(hub: Host) -> str:
    """What clients pin the catalog's certificate to."""
    return (data_directory(hub) / "tls-ca.pem").read_text(encoding="ascii")


def call(hub: Host, holder: Holder, token: str, method: str, path: str, body: object = None) -> Any:
    """What the catalog answers, decoded from JSON.

    Raises:
        CatalogAway, CatalogSilent: it does not answer.
        LabError: it refuses; with its words.
    """
    connection = _Connection(holder.pid, hub, ssl.create_default_context(cadata=ca_pem(hub)))
    try:
        return exchange(connection, token, method, path, body)
    except CatalogError as error:
        raise _KINDS.get(type(error), LabError)(f"{layout.catalog_url(hub)}: {error}") from error


def token_entry(host: Host) -> Mapping[str, object]:
    """The body that asks for the token of a host's agent."""
    return {
        "Description": f"the agent of {host.name}",
        "NodeIdentities": [{"NodeName": host.name}],
        "ServiceIdentities": [{"ServiceName": "*"}],
        "Addresses": [host.ipv4, host.ipv6],
    }


def node_entry(host: Host) -> Mapping[str, object]:
    """The body that registers a host which runs no agent: no marker, so no tunnel is expected there."""
    return {"Node": host.name, "Address": host.ipv4, "TaggedAddresses": _lan_addresses(host)}


def service_entry(host: Host, service: str, port: int, ips: Collection[str]) -> Mapping[str, object]:
    """The body that registers a service at those addresses of its host."""
    addresses = {label: {"Address": ip, "Port": port} for label, ip in _lan_addresses(host).items() if ip in ips}
    first = next(iter(addresses.values()))["Address"]
    return {"ID": service, "Name": service, "Address": first, "Port": port, "TaggedAddresses": addresses}


def protocol_entry(service: str, protocol: str) -> Mapping[str, object]:
    """The config entry that declares a service's protocol."""
    return {"Kind": "service-defaults", "Name": service, "Protocol": protocol}


def _lan_addresses(host: Host) -> dict[str, str]:
    """A host's two addresses under the labels that Consul has for each family."""
    return {"lan_ipv4": host.ipv4, "lan_ipv6": host.ipv6}


class _Connection(http.client.HTTPSConnection):
    """HTTPS from inside the hub's network namespace, whatever proxy or namespace this process has."""

    def __init__(self, holder_pid: int, hub: Host, context: ssl.SSLContext) -> None:
        super().__init__(hub.ipv4, layout.CATALOG_PORT, timeout=limits.CATALOG_CONNECT_S, context=context)
        self._holder_pid = holder_pid
        self._tls = context

    def connect(self) -> None:
        """Connects in the namespace, then starts TLS here."""
        raw = connect_in(self._holder_pid, (self.host, self.port), limits.CATALOG_CONNECT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)
        except OSError:
            raw.close()
            raise


def _wait_answering(hub: Host, holder: Holder, progress: Progress) -> None:
    deadline = time.monotonic() + limits.LAB_START_S
    while True:
        try:
            call(hub, holder, "", "GET", "/v1/status/leader")
        except (LabError, OSError) as error:
            if not cgroup.is_populated(hub.unit_cgroup(UNIT)) or time.monotonic() > deadline:
                log = enter.tail(hub.log(UNIT), limits.LAB_LOG_LINES)
                raise LabError(f"the catalog did not start ({error}); its log ends:\n{log}") from error
            progress.waits_for(f"the catalog does not answer yet: {error}")
            time.sleep(0.02)
        else:
            return
