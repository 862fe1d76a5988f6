"""The catalog, asked with this host's own token: reached, believed, what it says of this host."""

import http.client
import ipaddress
import json
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from nodeagent import limits
from nodeagent.catalog.state import MARKER, MARKER_SERVICE, is_lan_tag, tunnel_port_of
from nodeagent.config import CatalogTable
from nodeagent.consul_environ import FROM_ENVIRONMENT, TOKEN
from nodeagent.control.catalog_tls import connection_to, tls_of
from nodeagent.control.json_http import explain, parse_answer
from nodeagent.control.report import CONSUL_AGENT
from nodeagent.diagnose.facts import CatalogLink, Clock, Enrolment, HealthCheck, LocalService, TokenRights
from nodeagent.errors import CatalogError, CatalogUnreachable, NotInCatalog
from nodeagent.model.address import canonical_ip
from nodeagent.probe.consul_checks import looped_checks
from nodeagent.probe.listeners import heard_at, is_heard, read_listeners
from nodeagent.probe.scope import Scope

DRAINED = "_node_maintenance"
_DATE_WITHIN_S = 1.0  # the header counts whole seconds
_ANY = "*"
_AUTHORIZE = "/v1/internal/acl/authorize"
EVERY_HOST = "nodeagent-proof"
"""A name without rules of its own: who may read this node may read all, but what is excepted by name."""
_NO_SERVICES = ("consul", MARKER_SERVICE)  # Consul's servers register themselves, and an agent itself: nobody's services


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with what a clock needs."""

    status: int
    body: bytes
    date: str
    asked_at: float
    answered_at: float


def link(scope: Scope) -> CatalogLink | None:
    """Whether it answers at all."""
    if scope.is_pre:
        return None
    table = scope.settings.catalog
    parts = urlsplit(table.address)
    is_headless = False
    try:
        answer = reply(scope, "/v1/status/leader")
        is_headless = answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
        error = f"it has no servers: {_said(answer)}" if is_headless else ""
    except CatalogError as failure:
        error = str(failure)
    return CatalogLink(
        table.address, error, is_headless=is_headless, is_tls=parts.scheme == "https", is_pinned=bool(table.ca_file), is_loopback=_is_loopback(parts.hostname or "")
    )


def token(scope: Scope) -> TokenRights | None:
    """What the catalog says of the token."""
    if scope.is_pre:
        return None
    _need_token(scope.settings.catalog)
    host, answer = scope.settings.host.name, reply(scope, "/v1/acl/token/self")
    if answer.status == http.HTTPStatus.UNAUTHORIZED and b"ACL support disabled" in answer.body:
        return TokenRights(host, acls_off=True)
    if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:  # says nothing of the token
        raise CatalogError(_said(answer))
    if answer.status != http.HTTPStatus.OK:
        return TokenRights(host, error=_said(answer), is_consul=bool(scope.status and CONSUL_AGENT in scope.status.catalog.found))
    return rights_in(host, json.loads(answer.body), [row["Service"] for row in _own(scope).get("Services", {}).values()])


def enrolment(scope: Scope) -> Enrolment | None:
    """This host's row."""
    return None if scope.is_pre else enrolment_in(scope, _own(scope))


def services(scope: Scope) -> tuple[LocalService, ...] | None:
    """What is registered here, and whether somebody listens there."""
    if scope.is_pre:
        return None
    rows, own = _own(scope).get("Services", {}), tuple(map(canonical_ip, scope.settings.host.addresses))
    if not rows:
        check_shown(scope, scope.settings.host.name)
    is_consul = MARKER_SERVICE in {row.get("Service") for row in rows.values()} and scope.settings.intercept.enabled
    listeners, checks = read_listeners(), _checks(scope) if is_consul else []
    there = (row for _, row in sorted(rows.items()) if row.get("Port") and row["Service"] not in _NO_SERVICES)
    found = (_local_service(row, own, listeners) for row in there)
    return tuple(replace(each, looped=looped_checks(checks, each.id, own, each.port)) for each in found)


def health(scope: Scope) -> tuple[HealthCheck, ...] | None:
    """What the checks of this host say; that it is drained is told of elsewhere."""
    if scope.is_pre:
        return None
    _need_token(scope.settings.catalog)
    rows = _checks(scope)
    if not rows:
        check_shown(scope, scope.settings.host.name)
    return tuple(
        HealthCheck(str(row.get("CheckID") or ""), str(row.get("ServiceID") or ""), str(row.get("Status") or ""), str(row.get("Output") or ""))
        for row in rows
        if row.get("CheckID") != DRAINED
    )


def clock(scope: Scope) -> Clock | None:
    """This host's clock against the catalog's.

    Where its certificate is not accepted, a clock may be why: its date is asked for all the same, without a token.
    """
    if scope.is_pre:
        return None
    try:
        return ahead_of(reply(scope, "/v1/status/leader"))
    except CatalogUnreachable as error:
        if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise
    return ahead_of(reply(scope, "/v1/status/leader", is_believed=False))


def read(scope: Scope, path: str) -> Any:
    """What the catalog answers, decoded.

    Raises:
        CatalogError: it does not, or refuses.
    """
    answer = reply(scope, path)
    return parse_answer(answer.status, answer.body, f"GET {path}")


def check_shown(scope: Scope, node: str) -> None:
    """Nothing, where the token may read that node, as far as the catalog tells: Consul leaves out what it may not, without a word.

    Raises:
        CatalogError: it may not; with the rule that is missing.
    """
    if rule := _missing_rule(scope, node):
        raise CatalogError(f"the token may not see it: give it {rule}")


def reply(scope: Scope, path: str, *, is_believed: bool = True, question: object = None) -> Reply:
    """The catalog's whole answer to GET `path`, sent with the host's token; without it to whom is not believed.

    question: what is sent along instead, by POST.

    Raises:
        CatalogUnreachable: there is none; says why.
    """
    table = scope.settings.catalog
    try:
        connection = _open(table, is_believed=is_believed)
        try:
            asked_at = scope.now()
            token = _token(table) if is_believed else ""
            body = None if question is None else json.dumps(question)
            connection.request("POST" if body else "GET", path, body, {"X-Consul-Token": token} if token else {})
            response = connection.getresponse()
            answered_at = scope.now()
            return Reply(response.status, response.read(limits.CATALOG_BODY_BYTES), response.headers.get("Date", ""), asked_at, answered_at)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise CatalogUnreachable(f"the catalog does not answer: {explain(error)}") from error


def ahead_of(answer: Reply) -> Clock:
    """How far our clock is ahead of that of whoever answered.

    Raises:
        CatalogError: the answer bears no date.
    """
    if not answer.date:
        raise CatalogError("the catalog's answer bears no date")
    theirs = parsedate_to_datetime(answer.date).timestamp() + _DATE_WITHIN_S / 2
    middle = (answer.asked_at + answer.answered_at) / 2
    return Clock(middle - theirs, _DATE_WITHIN_S / 2 + (answer.answered_at - answer.asked_at) / 2)


def rights_in(host: str, said: dict[str, Any], registered: list[str]) -> TokenRights:
    """What a token may, from the catalog's description of it."""
    nodes = [row.get("NodeName", "") for row in said.get("NodeIdentities") or ()]
    spoken = tuple(row.get("ServiceName", "") for row in said.get("ServiceIdentities") or ())
    is_management = any(row.get("Name") == "global-management" for row in said.get("Policies") or ())
    is_told = bool(spoken) and _ANY not in spoken  # a token of policies says nothing of services by name
    unspoken = tuple(sorted(set(registered) - set(spoken))) if is_told else ()
    has_policies = bool(said.get("Policies") or said.get("Roles"))
    return TokenRights(host, node=nodes[0] if nodes else "", is_management=is_management, services=spoken, unspoken=unspoken, has_policies=has_policies)


def enrolment_in(scope: Scope, answer: dict[str, Any]) -> Enrolment:
    """This host's row, from the catalog's answer about it; empty: there is none."""
    table, node = scope.settings.host, answer.get("Node") or {}
    wanted = set(map(canonical_ip, table.addresses))
    tagged = {tag: ip for tag, ip in (node.get("TaggedAddresses") or {}).items() if is_lan_tag(tag)}
    agent = (answer.get("Services") or {}).get(MARKER_SERVICE) or {}  # where a Consul agent keeps the node's row
    further = [at.get("Address", "") for at in (agent.get("TaggedAddresses") or {}).values()]
    said = {canonical_ip(ip) for ip in (node.get("Address", ""), *tagged.values(), *further) if ip}
    marker = str((agent.get("Meta") or node.get("Meta") or {}).get(MARKER, ""))
    return Enrolment(
        table.name, is_registered=bool(node), is_marked=tunnel_port_of(marker) == limits.TUNNEL_PORT,
        missing=tuple(sorted(wanted - said)) if node else (), surplus=tuple(sorted(said - wanted)) if node else (),
        is_drained=bool(node) and any(row.get("CheckID") == DRAINED for row in _checks(scope)),
        missing_rule="" if node else _missing_rule(scope, table.name),
    )  # fmt: skip


def _own(scope: Scope) -> dict[str, Any]:
    """The catalog's answer about this host; empty where it has none."""
    _need_token(scope.settings.catalog)
    try:
        return read(scope, f"/v1/catalog/node/{quote(scope.settings.host.name, safe='')}") or {}
    except NotInCatalog:
        return {}


def _missing_rule(scope: Scope, node: str) -> str:
    """The rule without which the token is shown no such node; empty: it has it, or that is not told (the embedded catalog, no ACLs)."""
    answer = reply(scope, _AUTHORIZE, question=[{"Resource": "node", "Access": "read", "Segment": node}])
    if answer.status != http.HTTPStatus.OK or all(row["Allow"] for row in json.loads(answer.body)):
        return ""
    which = 'node_prefix ""' if node == EVERY_HOST else f'node "{node}"'
    return f'{which} {{ policy = "read" }}'


def _checks(scope: Scope) -> list[dict[str, Any]]:
    return list(read(scope, f"/v1/health/node/{quote(scope.settings.host.name, safe='')}") or [])


def _local_service(row: dict[str, Any], own: tuple[str, ...], listeners: frozenset[tuple[str, int]]) -> LocalService:
    port = int(row["Port"])
    wanted = (canonical_ip(row["Address"]),) if row.get("Address") else own
    return LocalService(
        str(row["ID"]), wanted, port, heard=heard_at(listeners, port),
        is_answering=all(is_heard(listeners, ip, port) for ip in wanted),
        is_loopback=any(map(_is_loopback, wanted)),
    )  # fmt: skip


def _said(answer: Reply) -> str:
    return f"the catalog answered {answer.status}: {answer.body[:200].decode('utf-8', 'replace').strip()}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(table: CatalogTable) -> str:
    """Empty where it cannot be read: that the catalog takes no nobody is its answer, and the file is told of elsewhere."""
    if table.token_file == FROM_ENVIRONMENT:
        return os.environ.get(TOKEN, "").strip()
    try:
        return Path(table.token_file).read_text(encoding="ascii").strip() if table.token_file else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _need_token(table: CatalogTable) -> None:
    """Raises PermissionError where the token is not for this user: what the catalog answers nobody says nothing of this host."""
    with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError), Path(table.token_file or "/dev/null").open("rb"):
        return


def _open(table: CatalogTable, *, is_believed: bool) -> http.client.HTTPConnection:
    try:
        tls = None if table.address.startswith("http:") else tls_of(table)
        if tls and not is_believed:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        return connection_to(table, limits.CHECK_ANSWER_S, tls)
    except CatalogError as error:
        raise CatalogUnreachable(str(error)) from error
