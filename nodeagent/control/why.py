"""Why one connection goes as it goes: gathers what this agent knows of it and has `decide/explain` say each step."""

import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from certs.spiffe import service_id
from nodeagent import limits
from nodeagent.catalog.compiler import capture_of
from nodeagent.control.report import LOGS, WhyAnswer
from nodeagent.control.view import View
from nodeagent.decide.capture import Sets, why_captured
from nodeagent.decide.explain import (
    Target,
    explain_call,
    explain_callee,
    explain_caller,
    explain_plaintext,
    explain_record,
    explain_stream,
    has_passed,
    targets,
    targets_at,
)
from nodeagent.decide.outbound import Via
from nodeagent.decide.route import ToService, find_destination
from nodeagent.decide.switch import explain_fallen
from nodeagent.errors import Reason
from nodeagent.model.address import Address, OriginalDst, parse_address
from nodeagent.model.explanation import Step
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.tables import suggest

_PASSES = ("ok", "note")
_BEFORE = {"stdout": "those of before are in the log", "off": 'of those of before the log has the refused (log.connections is "off")'}
_IN_FILE = "those of before are in the file of log.connections, and the refused in the log"


async def answer_why(view: View, asked: Mapping[str, str]) -> WhyAnswer:
    """The answer to GET /v1/why: of a connection that there was (`id`), or of one that there could be (`from` and `to`).

    Raises:
        HTTPException: nothing is known yet, or nothing of the kind; says what is.
    """
    if view.publisher.snapshot is None:
        raise web.HTTPServiceUnavailable(text="this agent knows no mesh yet: what it captures is refused; see: nodeagent status")
    asker = Asker(view, view.publisher.snapshot)
    if asked.get("id"):
        return asker.of_connection(await _find(view, asked["id"]))
    if not asked.get("to"):
        raise web.HTTPBadRequest(text="id, or to (with from, port, address), must be given")
    return asker.of_pair(asked.get("from", ""), asked["to"], asked.get("port", ""), asked.get("address", ""))


@dataclass(frozen=True, slots=True)
class Asker:
    """One question, answered from one snapshot."""

    view: View
    snapshot: Snapshot

    def of_pair(self, source: str, destination: str, port: str, address: str) -> WhyAnswer:
        """Of a call that there could be."""
        found = self._targets(destination, port, address)
        answer = self._now(source, found[0])
        answer.destination = destination
        if len(found) > 1:
            text = f"{destination} has {len(found)} addresses, this is one: choose another with --address"
            answer.steps.insert(0, Step("destination", "note", text))
        return answer

    def of_connection(self, row: ConnectionRow) -> WhyAnswer:
        """What was recorded of it, and what would become of it now."""
        answer = WhyAnswer(
            source=row.source, destination=row.destination, address=row.original_dst, generation=self.snapshot.generation,
            steps=explain_record(row), passes=has_passed(row), connection=row,
        )  # fmt: skip
        try:
            address = parse_address(row.original_dst)
        except ValueError:  # a handshake that came to nothing, or what a peer asked for
            what = "it asked for nothing that could be decided anew" if row.original_dst else "no call was in it that could be decided anew"
            answer.steps.append(Step("outcome", "note", what))
            return answer
        again = Step("outcome", "note", f"decided anew, by generation {self.snapshot.generation}:")
        if row.direction == "outbound":
            call = self._now(row.source, Target(address, row.peer == self.snapshot.mesh.host))
            # Nobody asked who calls where no service is registered.
            now = [step for step in call.steps if row.destination or step.what != "workload"]
        else:
            now = list(self._arrival(row, address))
        answer.steps += [again, *now]
        answer.passes_now = now[-1].verdict in _PASSES
        return answer

    def _arrival(self, row: ConnectionRow, address: Address) -> Iterator[Step]:
        """What this host would say now to a connection that came from outside."""
        is_stream = row.direction == "tunnel"
        callee = explain_stream(self.snapshot, row.source, row.destination, address) if is_stream else explain_plaintext(self.snapshot, address)
        yield callee
        if why := self._why_none_beats():
            yield Step("switch", "note", f"{why}: a new tunnel to this host is reset, clear text gets what `fail` says, and what is open flows on")
        yield _verdict(is_refused=callee.verdict == "refused")

    def _now(self, source: str, target: Target) -> WhyAnswer:
        """How such a call would go on now."""
        capture, call = self._capture(target), explain_call(self.snapshot, source, target)
        caller = explain_caller(self.snapshot, source)
        tunnel = tuple(self._tunnel(source, call.via)) if call.via and call.via.path == "tunnel" else ()
        is_refused = call.via is None or any(step.verdict == "refused" for step in tunnel)
        is_open = any(step.verdict == "unknown" for step in call.steps)
        outcome = _outcome(capture, caller, is_refused=is_refused, is_open=is_open)
        why = self._why_none_beats() if capture.verdict == "ok" else ""
        switch = [explain_fallen(self.snapshot, source, target, why=why)] if why else []
        outcome = _fallen(outcome, switch[0]) if switch else outcome
        steps = [capture, *switch, caller, *call.steps, *tunnel, outcome]
        return WhyAnswer(
            source=source, destination="", address=str(target.address), generation=self.snapshot.generation,
            steps=steps, passes=outcome.verdict in _PASSES,
        )  # fmt: skip

    def _capture(self, target: Target) -> Step:
        capture = capture_of(self.snapshot)
        sets = Sets(
            frozenset(capture.addresses), frozenset(capture.ports), frozenset(capture.loopback_ports),
            frozenset(self.view.supervisor.catalog),
        )  # fmt: skip
        captured, why, is_refused = why_captured(self.view.config, sets, target.address, is_local=target.is_local)
        stats = self.view.supervisor.stats
        if (captured or is_refused) and stats and stats.interception not in ("active", "repaired"):
            return Step("capture", "note", f"not captured: interception is {stats.interception}: {stats.interception_detail}")
        if is_refused:
            return Step("capture", "refused", f"not captured: {why}")
        return Step("capture", "ok" if captured else "note", why if captured else f"not captured: {why}")

    def _why_none_beats(self) -> str:
        """Why the dead-man switch has fallen, or is about to; empty: it has not, as far as this process hears."""
        view = self.view
        if view.is_supervisor_silent:
            return "the supervisor is silent, so nobody beats and the dead-man switch has fallen"
        if view.supervisor.stats is None or view.is_anybody_serving:
            return ""
        return f"no worker is serving, so the dead-man switch falls within {limits.ALIVE_S} s, and from then on"

    def _tunnel(self, source: str, via: Via) -> Iterator[Step]:
        """Who must prove what to whom, over which tunnel, and what the other end will say."""
        peer = via.peer.name if via.peer else ""
        yield self._certificate(source, via.service)
        yield from self._shown(via.service, peer)
        rows = [row for link in self.view.workers.links if link.stats for row in link.stats.tunnels]
        open_ = [r for r in rows if (r.side, r.source, r.destination, r.peer) == ("client", source, via.service, peer)]
        streams = sum(row.streams for row in open_)
        text = f"{len(open_)} open to {peer}, with {streams} streams" if open_ else "none is open: the next call opens one"
        yield Step("tunnel", "ok" if open_ else "note", text)
        yield explain_callee(self.snapshot, source, via.service, via.address)

    def _certificate(self, source: str, destination: str) -> Step:
        mesh, keeper = self.snapshot.mesh, self.view.identity.keepers.get(source)
        wanted = f"{destination}'s agent must prove to be {service_id(mesh.trust_domain, mesh.datacenter, destination)}"
        if keeper is None:
            why = self.view.identity.why_mute(source) or self._why_none_comes(source)
            text = f"no_svid: {why}" if why else f"none for {source} yet: it is asked for at the first call; {wanted}"
            return Step("certificate", "refused" if why else "note", text)
        left_s = keeper.svid.not_after.timestamp() - self.view.env.now() if keeper.svid else 0.0
        if keeper.svid is None or left_s <= 0:
            why = "; ".join(filter(None, (keeper.lost, keeper.error))) or "it has not come yet"
            return Step("certificate", "refused", f"no_svid: none for {source} is valid: {why}")
        trust = self.view.identity.trust
        if trust and (why := trust.why_distrusted(keeper.svid, keeper.root_id)):
            return Step("certificate", "refused", f"revoked: {why}")
        text = f"{source}'s, serial {keeper.svid.serial}, ends in {left_s:.0f} s; {wanted}"
        if self.view.identity.is_shut_out:
            return Step("certificate", "note", f"{text}; the catalog refuses this host's token: if it was revoked, so is this")
        return Step("certificate", "ok", text)

    def _why_none_comes(self, source: str) -> str:
        """Why a first call would get no certificate now."""
        follower = self.view.follower
        lost = "" if follower.lost_since is None else follower.why_lost
        return lost and f"none for {source} yet, and the catalog, where the CA is, is out of reach: {lost}"

    def _shown(self, service: str, peer: str) -> Iterator[Step]:
        """What was wrong with the certificate that the callee's agent showed last; nothing where it was relied on."""
        rows, _ = self.view.ledger.closed.newest(limits.CLOSED_KEPT, service)
        tried = (row for row in rows if (row.destination, row.peer) == (service, peer))
        last = next((row for row in tried if row.reason is Reason.REVOKED or has_passed(row)), None)
        if last and last.reason is Reason.REVOKED and f" {service} on {peer} " in last.error:
            ago = f"{max(self.view.env.now() - last.closed_at, 0.0):.0f} s ago"
            yield Step("certificate", "refused", f"revoked: {last.error}; seen {ago}: a later call would tell whether it has another by now")

    def _targets(self, destination: str, port: str, address: str) -> list[Target]:
        """Where the call may go, the likeliest first; at least one."""
        services = self.snapshot.services
        if destination not in services:
            raise web.HTTPNotFound(text=f"no service {destination[:80]!r} is known here{suggest(destination, services)}")
        if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):
            raise web.HTTPBadRequest(text=f"{port[:20]!r} is no port")
        found = self._targets_at(destination, address, port) if address else targets(self.snapshot, destination, int(port or 0))
        if not found:
            at = address[:60] or (f"port {port}" if port else "any address")
            raise web.HTTPNotFound(text=f"{destination} is not registered at {at}; see: nodeagent services")
        return found

    def _targets_at(self, destination: str, text: str, port: str) -> list[Target]:
        """The address, where the service was registered, is met because of a registration, or answers at another of this host's."""
        try:
            address = parse_address(text)
        except ValueError:
            return []
        if int(port or address.port) != address.port:
            return []
        return targets_at(self.snapshot, destination, address) or self._answers_here(destination, address)

    def _answers_here(self, destination: str, address: Address) -> list[Target]:
        """Loopback, or an address of this host that the catalog does not know."""
        found = _is_local(address.ip) and find_destination(self.snapshot, OriginalDst(address), dst_is_local=True)
        return [Target(address, is_local=True)] if isinstance(found, ToService) and found.service.name == destination else []


def _is_local(ip: str) -> bool:
    """Whether this host has the address: only such a one can be bound; one of a link, on its link."""
    if ":" not in ip:
        return _can_bind(socket.AF_INET, (ip, 0))
    scopes = [index for index, _ in socket.if_nameindex()] if ipaddress.ip_address(ip).is_link_local else [0]
    return any(_can_bind(socket.AF_INET6, (ip, 0, 0, scope)) for scope in scopes)


def _can_bind(family: socket.AddressFamily, place: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.bind(place)
        except OSError:
            return False
    return True


def _outcome(capture: Step, caller: Step, *, is_refused: bool, is_open: bool) -> Step:
    """is_open: it leaves this host, and what the callee's agent will say is not known here."""
    if caller.verdict == "unknown":
        would = "would be refused" if is_refused else "would pass"
        return Step("outcome", "unknown", f"no such call comes from this host; one that did {would}")
    if capture.verdict == "refused":
        return _verdict(is_refused=True)
    if capture.verdict != "ok":
        return Step("outcome", "note", "it goes past the agent of this host, which has no say in it; the callee's may refuse it")
    if is_open and not is_refused:
        return Step("outcome", "note", "it leaves this host in clear; the callee's agent may refuse it")
    return _verdict(is_refused=is_refused)


def _fallen(outcome: Step, switch: Step) -> Step:
    """The outcome while nobody beats: the kernel asks no agent."""
    if outcome.verdict == "unknown":
        return outcome
    now = "it is reset now" if switch.verdict == "refused" else "it goes around the agent now, in clear"
    return Step("outcome", switch.verdict, f"{now}; once an agent beats again: {outcome.text}")


def _verdict(*, is_refused: bool) -> Step:
    return Step("outcome", "refused" if is_refused else "ok", "it is refused" if is_refused else "it passes")


async def _find(view: View, number: str) -> ConnectionRow:
    """The connection of this id, open or ended."""
    rows, _, unanswered = await view.workers.open_connections(limits.API_ROWS_MAX, number)
    closed, _ = view.ledger.closed.newest(limits.CLOSED_KEPT)  # after the answers: it may have ended just now
    found = next((row for row in (*rows, *closed) if row.id == number), None)
    if found is None:
        doubt = f"; {unanswered} workers did not answer in time: ask again" if unanswered else ""
        what = f"no connection {number[:40]!r} is open, or among the {_memory(view, closed)}{doubt}"
        raise web.HTTPNotFound(text=f"{what}; {_BEFORE.get(view.config.log.connections, _IN_FILE)}; {LOGS}")
    return found


def _memory(view: View, closed: list[ConnectionRow]) -> str:
    """What is remembered of connections that have ended."""
    is_full = len(closed) == limits.CLOSED_KEPT
    since = datetime.fromtimestamp(closed[-1].closed_at if is_full else view.started_at, tz=UTC)
    why = "it remembers no more" if is_full else "a start or reload begins anew"
    return f"{len(closed)} that ended since {since:%Y-%m-%d %H:%M:%S} UTC, where this agent's memory begins: {why}"
