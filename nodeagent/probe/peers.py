"""Other hosts with an agent: a handshake with each, as far as it goes without a certificate of our own.

In TLS 1.3 the far end proves who it is before it hears who asks; that there is no certificate then ends the connection,
and is logged there as any other refused handshake.
"""

import json
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from certs.errors import CertificateError
from certs.spiffe import service_id, service_sni
from certs.verify import peer_spiffe_id
from nodeagent import limits
from nodeagent.catalog.markers import with_markers
from nodeagent.catalog.state import MARKER_SERVICE, parse_hosts, parse_instances
from nodeagent.control.report import ServicesAnswer
from nodeagent.control.trust import Trust, parse_roots
from nodeagent.diagnose.facts import Peer, Peers
from nodeagent.model.service import Host
from nodeagent.probe.catalog import EVERY_HOST, check_shown, reply
from nodeagent.probe.scope import Scope

_SIDE_BY_SIDE = 16


class Question(NamedTuple):
    """Whom to reach, and as what it shall prove itself."""

    host: Host
    service: str
    """Empty: it has none, and only its port is tried."""


def peers(scope: Scope) -> Peers | None:
    """Up to CHECK_PEERS of the hosts that the catalog calls meshed.

    Raises:
        PermissionError: our own rules refuse whoever else than root calls an agent's port.
    """
    if scope.is_pre or scope.status is None:
        return None
    if os.geteuid():
        raise PermissionError("only root may call other agents' ports")
    hosts = around(scope.settings.host.name, _hosts(scope))
    if not hosts:
        check_shown(scope, EVERY_HOST)
    trust = parse_roots(_body(scope, "/v1/connect/ca/roots"))
    in_force = scope.status.identity.trust_domain
    is_held = in_force not in ("", trust.bundle.trust_domain)  # then peers prove who they are by roots that the catalog tells nobody any more
    by_host = {} if is_held else services_by_host(scope.ask_agent("/v1/services", ServicesAnswer))
    asked = [Question(host, by_host.get(host.name, "")) for host in hosts[: limits.CHECK_PEERS]]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        seen = tuple(pool.map(lambda question: meet(question, trust, scope.settings.host.datacenter, scope.now()), asked))
    return Peers(seen, len(hosts) - len(seen))


def _hosts(scope: Scope) -> tuple[Host, ...]:
    """All that the catalog has, and which of them run an agent, wherever it says so."""
    markers = parse_instances(MARKER_SERVICE, _body(scope, f"/v1/health/service/{MARKER_SERVICE}"))
    return with_markers(parse_hosts(_body(scope, "/v1/catalog/nodes")), markers).hosts


def around(own: str, hosts: Iterable[Host]) -> list[Host]:
    """The meshed hosts besides our own, those that follow it by name first: each host looks at others."""
    meshed = [host for host in hosts if host.tunnel_port and host.name != own]
    return sorted(meshed, key=lambda host: (host.name < own, host.name))


def services_by_host(answer: ServicesAnswer) -> Mapping[str, str]:
    """One service of each host that has any and an agent."""
    return {instance.host: service.name for service in answer.services for instance in service.instances if instance.is_meshed}


def meet(question: Question, trust: Trust, datacenter: str, now: float) -> Peer:
    """What came of a handshake with the peer."""
    host, service = question
    address = host.addresses[0] if host.addresses else "no address"
    try:
        with socket.create_connection((address, host.tunnel_port), limits.CHECK_PEER_S) as sock:
            proved = _prove(sock, service, trust, datacenter, now) if service else ""
    except ssl.SSLCertVerificationError as error:
        return Peer(host.name, address, distrusted=f"its certificate is not of the mesh's CA ({error.verify_message})")
    except CertificateError as error:
        return Peer(host.name, address, distrusted=str(error))
    except ssl.SSLError as error:
        return Peer(host.name, address, distrusted=f"it refused the handshake for {service} ({error.reason})")
    except OSError as error:
        return Peer(host.name, address, unreached=f"{error.strerror or error}")
    return Peer(host.name, address, identity=proved)


def _prove(sock: socket.socket, service: str, trust: Trust, datacenter: str, now: float) -> str:
    """The identity that the far end proves.

    Raises:
        OSError, CertificateError: it does not, or another one.
    """
    wanted = service_id(trust.bundle.trust_domain, datacenter, service)
    sni = service_sni(service, datacenter, trust.bundle.trust_domain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a SPIFFE ID is compared below instead
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=trust.bundle.pem)
    with context.wrap_socket(sock, server_hostname=sni) as tls:
        shown = peer_spiffe_id(tls.getpeercert(binary_form=True) or b"", datetime.fromtimestamp(now, tz=UTC))
    if shown != wanted:
        raise CertificateError(f"it proves to be {shown}, and {wanted} was asked for")
    return str(shown)


def _body(scope: Scope, path: str) -> bytes:
    answer = reply(scope, path)
    if answer.status != 200:
        raise OSError(f"the catalog answered {answer.status} to {path}")
    json.loads(answer.body)
    return answer.body
