"""/v1/nodeagent/ca: the state of the mesh's roots, and the steps by which one replaces another. Not in Consul."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from certs.local_ca import LocalCa
from certs.svid import load_chain
from nodeagent.embedded.access import WriteMesh
from nodeagent.embedded.asking import Answer, Ask, Server
from nodeagent.embedded.authority import add_root, read_roots
from nodeagent.embedded.body import shaped
from nodeagent.embedded.certified import ROOTS, Holder, read_holders, read_nodes, read_revoked, read_speakers
from nodeagent.embedded.database import Change, index_of
from nodeagent.embedded.refusal import Conflict
from nodeagent.embedded.rotation import (
    NEXT,
    OTHER_SIGNS,
    Root,
    Step,
    back_step,
    check_step,
    losing,
    phase_of,
    take_step,
)  # fmt: skip
from nodeagent.observe.log import open_log

_SHOWN_HOSTS = 10


class RotateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step, by name: two operators who rotate at once do not take two."""

    step: Step = msgspec.field(name="Step")
    force: bool = msgspec.field(name="Force", default=False)


class Audience(NamedTuple):
    """Who listens at one moment: a copy, for the thread that writes must not look at what the event loop changes."""

    now: float
    """Unix seconds."""
    heard: Mapping[str, int]
    """Accessor -> index of the roots that it has taken in."""
    askers: frozenset[str]
    """Accessors of those who wait for news."""

    @classmethod
    def of(cls, server: Server) -> "Audience":
        """That of a server; in its event loop."""
        return cls(server.now().timestamp(), dict(server.heard), server.store.watchers.askers)


class Standings(NamedTuple):
    """What the CA knows of its roots at one moment."""

    roots: list[Root]
    holders: Mapping[str, list[Holder]]
    """By root."""
    deaf: tuple[str, ...]
    """Hosts with certificates that have not asked for more since they were told of these roots."""
    present: frozenset[str]
    """Hosts whose agents wait for news now."""


async def state(ask: Ask) -> Answer:
    """GET /v1/nodeagent/ca."""
    ask.check(WriteMesh("the CA", "see"))
    audience = Audience.of(ask.server)
    return Answer(await ask.server.store.read_aside(ask.caller.accessor, lambda connection: _state_json(connection, ask.server, audience)))


async def rotate(ask: Ask) -> Answer:
    """PUT /v1/nodeagent/ca/rotate: one step on, or back. It is stored whole or not at all."""
    ask.check(WriteMesh("the CA"))
    asked = shaped(await ask.json(), RotateRequest)
    now, domain, audience = ask.server.now(), ask.server.realm.trust_domain, Audience.of(ask.server)

    def turn(change: Change) -> None:
        found = look(change.connection, audience)
        check_step(found.roots, asked.step)
        if not asked.force:
            check_harmless(found, asked.step)
        take_step(change, asked.step)
        if asked.step == Step.ADD:
            add_root(change, LocalCa.create(domain, now), active=False)
        change.touch(ROOTS)

    await ask.write(turn)
    open_log().warning("ca_rotated", step=asked.step, force=asked.force, accessor=ask.caller.accessor)
    return await state(ask)


def look(connection: sqlite3.Connection, audience: Audience) -> Standings:
    """The roots, who holds what below them, and who does not know them yet."""
    roots, newest, now = read_roots(connection), index_of(connection, (ROOTS,)), audience.now
    told = read_nodes(connection, (accessor for accessor, index in audience.heard.items() if index >= newest))
    return Standings(
        roots,
        {root.id: read_holders(connection, root.id, now) for root in roots},
        tuple(sorted(read_speakers(connection, now) - told)),
        frozenset(read_nodes(connection, audience.askers)),
    )


def check_harmless(found: Standings, step: Step) -> None:
    """Nothing, when nobody loses a connection by `step`.

    Raises:
        Conflict: names the hosts that would.
    """
    lost = losing(found.roots, step)
    if lost is not None and found.holders[lost.id]:
        raise Conflict(f"{step}: certificates of the root {lost.id[:16]} are still held by {_who_holds(found, lost, step)}")
    if step in OTHER_SIGNS and found.deaf:
        raise Conflict(
            f"{step}: these hosts have not been told of all roots yet and would refuse their peers: {_list(found.deaf)};"
            f" wait for their agents, or force it"
        )


def why_refused(found: Standings, step: Step | None) -> str:
    """Why `step` would be refused now unless it is forced; empty: it would not."""
    try:
        if step is not None:
            check_harmless(found, step)
    except Conflict as refusal:
        return str(refusal)
    return ""


def _who_holds(found: Standings, lost: Root, step: Step) -> str:
    """The holders of a root's certificates, and when they will be none: those whose agents live renew, others wait for the end."""
    holders = found.holders[lost.id]
    names = _list(f"{each.node} ({', '.join(each.services[:_SHOWN_HOSTS])})" for each in holders)
    absent = [each for each in holders if each.node not in found.present]
    cause = "deactivation" if step == Step.DROP else "activation"
    cures = [f"connected hosts renew within minutes of the {cause}"] if len(absent) < len(holders) else []
    if absent:
        ends = datetime.fromtimestamp(max(each.until for each in absent), tz=UTC)
        cures.append(f"not connected: {_list(each.node for each in absent)}, whose last one ends at {ends:%Y-%m-%d %H:%M:%S} UTC")
    return f"{names}; {'; '.join(cures)}; forced (--force), they lose their connections"


def _list(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - _SHOWN_HOSTS} more" if len(known) > _SHOWN_HOSTS else ""
    return ", ".join(known[:_SHOWN_HOSTS]) + more


def _state_json(connection: sqlite3.Connection, server: Server, audience: Audience) -> dict[str, Any]:
    found = look(connection, audience)
    phase, back = phase_of(found.roots), back_step(found.roots)
    return {
        "trust_domain": server.realm.trust_domain,
        "leaf_ttl_s": server.leaf_ttl.total_seconds(),
        "phase": phase,
        "next": NEXT[phase],
        "next_refused": why_refused(found, NEXT[phase]),
        "back": back or "",
        "back_refused": why_refused(found, back),
        "roots": [_root_json(root, found.holders[root.id]) for root in found.roots],
        "unaware": list(found.deaf),
        "revoked": [
            {"accessor": each.accessor, "node": each.node, "until": each.until} for each in read_revoked(connection)
        ],
    }


def _root_json(root: Root, holders: list[Holder]) -> dict[str, Any]:
    certificate = load_chain(root.cert_pem)[0]
    return {
        "id": root.id,
        "state": "signs" if root.active else "believed" if root.trusted else "retired",
        "not_before": _unix(certificate.not_valid_before_utc),
        "not_after": _unix(certificate.not_valid_after_utc),
        "held_by": [{"node": each.node, "services": each.services, "until": each.until} for each in holders],
    }


def _unix(when: datetime) -> float:
    return when.timestamp()
