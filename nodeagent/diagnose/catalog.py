"""Judgements on the catalog: the way to it, the token, this host's row, its services."""

from collections.abc import Iterator

from nodeagent.diagnose.facts import CatalogLink, Enrolment, HealthCheck, LocalService, TokenRights
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_OUTPUT_CHARS = 200


def judge_link(link: CatalogLink) -> Iterator[Verdict]:
    """Reachable, and nobody else."""
    if link.error:
        away = "systemctl status nodeagent-catalog on its host; see [catalog] in the file"
        yield fail(f"{link.address}: {link.error}", "are Consul's servers up, and has this agent joined them? consul members" if link.is_headless else away)
    elif not link.is_tls and not link.is_loopback:
        yield fail(f"{link.address} is asked in clear: the token can be read on the wire", "use https:// and catalog.ca_file")
    elif link.is_tls and not link.is_pinned:
        yield warn(f"{link.address} answers; any CA of the system may speak for it", "set catalog.ca_file to the catalog's own CA")
    else:
        yield well(f"{link.address} answers")


def judge_token(token: TokenRights) -> Iterator[Verdict]:
    """It is this host's, and speaks for what runs here."""
    make = f"nodeagent catalog token create --node {token.host} --service NAME --out FILE"
    if token.error:
        other = "in Consul, with the rules that the README has for an agent" if token.is_consul else make
        yield fail(f"the token is not taken: {token.error}", f"give this host another one: {other}")
    elif token.acls_off:
        yield warn("the catalog asks for no token: whoever reaches it may change the mesh, and Consul itself allows what no intention names", "switch its ACLs on")
    elif token.is_management:
        yield warn("the host's token is a management token: whoever is root here may change the whole mesh", f"use one for this host alone: {make}")
    elif token.node and token.node != token.host:
        yield fail(f"the token is for {token.node}, and this host is called {token.host}", f"correct host.name, or: {make}")
    else:
        yield from _judge_services(token, make)


def _judge_services(token: TokenRights, make: str) -> Iterator[Verdict]:
    for service in token.unspoken:
        yield fail(f"{service} is registered here and the token does not speak for it: it gets no certificate", f"{make.replace('NAME', service)} (name the others, too)")
    if not token.unspoken:
        unnamed = "whom its policies name: see the certificates" if token.has_policies else "no service by name"
        yield well(f"the token is this host's; it speaks for {', '.join(token.services) or unnamed}")


def judge_enrolment(row: Enrolment) -> Iterator[Verdict]:
    """The row says what is true."""
    again = "systemctl restart nodeagent: it registers its host when it starts; where `status` says that this is refused, correct host.name or host.addresses first"
    if not row.is_registered and row.missing_rule:
        yield fail(f"the catalog does not show this host's token its own row, {row.host}", f"give it {row.missing_rule}")
        return
    if not row.is_registered:
        yield fail(f"the catalog has no host {row.host}", again)
        return
    if not row.is_marked:
        yield fail(f"the catalog does not say that {row.host} runs an agent: peers send it no tunnels", again)
    for ip in row.missing:
        yield fail(f"the catalog does not know the address {ip} of {row.host}: it is not captured elsewhere", again)
    for ip in row.surplus:
        yield warn(f"the catalog says {ip} of {row.host}, and the file does not", "add it to host.addresses, or restart the agent")
    if row.is_drained:
        yield warn(f"{row.host} is drained: balancers send it no new work", "nodeagent undrain")
    if row.is_marked and not row.missing:
        yield well(f"the catalog knows {row.host} and its agent")


def judge_services(services: tuple[LocalService, ...]) -> Iterator[Verdict]:
    """What is registered here is here."""
    for service in services:
        if service.is_loopback:
            yield warn(f"{service.id} is registered at {service.addresses[0]}: other hosts would call themselves", f"nodeagent service register {service.id} --port {service.port}")
        elif not service.is_answering:
            yield _judge_unheard(service)
        if service.looped:
            yield warn(
                f"Consul's agent looks at {service.id} by a mesh address, where the mesh takes its calls as a stranger's ({', '.join(service.looped)}): "
                "that connects mean nothing, and in strict it is refused",
                f"have such checks dial 127.0.0.1:{service.port}; what does not listen there says itself that it is well (ttl)",
            )
    if answering := [s.id for s in services if s.is_answering and not s.is_loopback]:
        yield well(f"listening where the catalog says: {', '.join(answering)}")
    elif not services:
        yield well("no service is registered here")


def judge_health(checks: tuple[HealthCheck, ...]) -> Iterator[Verdict]:
    """Each that does not pass, with why: callers are led past what is critical."""
    ailing = [check for check in checks if check.status != "passing"]
    for check in ailing:
        says = " ".join(check.output.split())[:_OUTPUT_CHARS]
        yield warn(
            f"{check.service or 'this host'} is {check.status} by its check {check.id}{f': {says}' if says else ''}",
            "mend what it says, or what is looked at: nodeagent service register … --check; all of it: nodeagent service list -o json",
        )
    if not ailing:
        yield well(f"{len(checks)} {'check passes' if len(checks) == 1 else 'checks pass'}" if checks else "no check is registered here")


def _judge_unheard(service: LocalService) -> Verdict:
    at = ", ".join(service.addresses)
    if service.heard:
        return warn(
            f"{service.id} is registered at {at}, port {service.port}, and listens at {', '.join(service.heard)} alone",
            "make it listen at that address, or at all, or register it where it listens",
        )
    return warn(f"nobody listens at {at}, port {service.port}, where the catalog says {service.id} is", f"start it, or: nodeagent service deregister {service.id}")
