"""Snapshots and deltas as bytes."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.catalog.codec import (
    apply_delta,
    decode_delta,
    decode_snapshot,
    decode_steps,
    encode_delta,
    encode_snapshot,
)
from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.diff import Delta, diff
from nodeagent.catalog.state import CatalogState, InstanceRow
from nodeagent.errors import CatalogError
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance
from nodeagent.model.snapshot import Snapshot
from tests.support.by_request import by_request
from tests.support.mesh import HOST2, SHOP, WEB, config, instance, intention, mesh

IPS = st.sampled_from(["10.77.0.1", "10.77.0.2", "10.77.0.3", "10.9.9.9", "fd77::2", "127.0.0.1"])
HOST_NAMES = st.sampled_from(["host1", "host2", "host3"])
NAMES = st.sampled_from(["web", "shop", "db", "aaa"])


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    return Host(draw(HOST_NAMES), tuple(sorted(draw(st.sets(IPS, max_size=3)))), draw(st.sampled_from([0, 15008])))


@st.composite
def rows(draw: st.DrawFn) -> InstanceRow:
    host = draw(hosts())
    addresses = tuple(sorted({Address(ip, draw(st.integers(80, 82))) for ip in draw(st.sets(IPS, max_size=2))}))
    return InstanceRow(Instance(draw(st.text("ab", max_size=2)), host.name, addresses, healthy=draw(st.booleans())), host)


WORDS = st.builds("{} -> {} {}".format, NAMES | st.just("*"), NAMES | st.just("*"), st.sampled_from(["allow", "deny"]))
STATES = st.builds(
    CatalogState,
    st.lists(hosts(), max_size=3).map(tuple),
    st.dictionaries(NAMES, st.lists(rows(), max_size=3).map(tuple), max_size=3),
    st.lists(WORDS.map(intention), max_size=4).map(tuple),
)


def compiled(state: CatalogState, generation: int) -> Snapshot:
    mode = "strict" if generation % 2 else "observe"
    return compile_snapshot(state, config(mode=mode), trust_domain="td", generation=generation)


@given(STATES)
def test_a_snapshot_survives_its_bytes(state: CatalogState) -> None:
    """Decoded, it is equal; so is what was decoded and encoded again."""
    snapshot = compiled(state, 3)
    decoded = decode_snapshot(encode_snapshot(snapshot))
    assert snapshot == decoded
    assert snapshot == decode_snapshot(encode_snapshot(decoded))


@given(STATES, STATES, st.booleans())
def test_a_delta_leads_from_the_old_snapshot_to_the_new(old_state: CatalogState, new_state: CatalogState, travels: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever changed, and whether the old one came as bytes or not; the old one stays as it was."""
    old, new = compiled(old_state, 1), compiled(new_state, 2)
    held = decode_snapshot(encode_snapshot(old)) if travels else old
    assert new == apply_delta(held, decode_delta(encode_delta(diff(old, new))))
    assert old == held


@given(st.lists(STATES, min_size=2, max_size=5))
def test_deltas_follow_one_another(states: list[CatalogState]) -> None:
    """A worker that has heard every change has the same snapshot as one that is told the whole."""
    held = compiled(states[0], 0)
    for generation, state in enumerate(states[1:], 1):
        new = compiled(state, generation)
        held = apply_delta(held, diff(compiled(states[generation - 1], generation - 1), new))
        assert new == held


def test_a_delta_from_another_generation_is_refused() -> None:
    """A worker that missed one is sent the whole."""
    with pytest.raises(CatalogError, match="from generation 4; this snapshot is generation 1"):
        apply_delta(mesh(), Delta(4, 5))


def test_decoding_comes_in_steps_of_bounded_size() -> None:
    """More steps for a larger mesh; the snapshot is the generator's value."""
    many = {f"svc-{n}": (instance(HOST2, 1000 + n),) for n in range(2 * limits.DECODE_ROWS)}
    snapshot = mesh(**many)
    ended: list[Snapshot] = []

    def steps():
        ended.append((yield from decode_steps(encode_snapshot(snapshot))))

    assert sum(1 for _ in steps()) >= 2 + 4 + 2
    assert [snapshot] == ended


def test_a_snapshot_made_by_hand_can_be_encoded() -> None:
    """Its indexes may be plain maps."""
    built = mesh()
    plain = Snapshot(
        1, built.mesh, dict(built.services), built.hosts, (), dict(built.by_address), built.host_by_ip, dict(built.local_by_port)
    )
    decoded = decode_snapshot(encode_snapshot(plain))
    assert built == decoded
    assert ("web", "shop") == (decoded.by_address[WEB].service.name, decoded.local_by_port[SHOP.port].service.name)


def test_garbage_is_our_error() -> None:
    """A file cut short, of another version, or of something else."""
    whole = encode_snapshot(mesh())
    for body in (b"", b"\xc1", whole[:-1], whole[: len(whole) // 2], msgspec.msgpack.encode({"version": 1}), b"\x91" * 100_000):
        with pytest.raises(CatalogError, match="not a snapshot of this version"):
            decode_snapshot(body)
    with pytest.raises(CatalogError, match="not a delta"):
        decode_delta(b"\xc1")
    other = msgspec.msgpack.decode(whole) | {"version": 2}
    with pytest.raises(CatalogError, match="version 2; this agent reads version 1"):
        decode_snapshot(msgspec.msgpack.encode(other))
    orphan = msgspec.msgpack.decode(whole) | {"hosts": []}
    with pytest.raises(CatalogError, match="does not have it"):
        decode_snapshot(msgspec.msgpack.encode(orphan))


def test_permissions_travel() -> None:
    """Whole, and when they alone have changed."""
    before, now = mesh("shop -> web deny"), by_request("shop -> web")
    assert now.services == decode_snapshot(encode_snapshot(now)).services
    delta = decode_delta(encode_delta(diff(before, dataclasses.replace(now, generation=2))))
    assert now.services["web"].intentions == apply_delta(before, delta).services["web"].intentions
