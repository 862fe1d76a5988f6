"""Which open connections a change of policy ends."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog.codec import apply_delta, decode_delta, encode_delta
from nodeagent.catalog.diff import diff
from nodeagent.decide.inbound import decide_plaintext, decide_stream
from nodeagent.decide.outbound import decide_outbound
from nodeagent.decide.recheck import Held, ends_elsewhere, held_by, may_differ, why_cut
from nodeagent.decide.route import find_destination
from nodeagent.errors import AgentError, Reason
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.service import Mode
from nodeagent.model.snapshot import Snapshot
from tests.support.by_request import by_request
from tests.support.mesh import CART, LEGACY, WEB, mesh

MODES = get_args(Mode)
TUNNEL = Held("outbound", "tunnel", "shop", "web", is_here=False, is_bare=False)
STREAM = Held("tunnel", "local", "web", "cart", is_here=False, is_bare=False)
LOCAL = Held("outbound", "local", "shop", "cart", is_here=True, is_bare=False)
CLEAR = Held("outbound", "direct", "shop", "web", is_here=False, is_bare=False)
CLEAR_HERE = Held("outbound", "direct", "shop", "cart", is_here=True, is_bare=False)
BARE = Held("outbound", "direct", "shop", "legacy", is_here=False, is_bare=True)
NOBODY = Held("outbound", "direct", "", "web", is_here=False, is_bare=False)
PLAIN = Held("plaintext", "local", "", "cart", is_here=False, is_bare=False)
PASSED = Held("outbound", "direct", "shop", "", is_here=False, is_bare=False)
ALL = (TUNNEL, STREAM, LOCAL, CLEAR, CLEAR_HERE, BARE, NOBODY, PLAIN, PASSED)


@pytest.mark.parametrize("held", [TUNNEL, STREAM, LOCAL])
def test_a_deny_ends_what_an_allow_held_open(held: Held) -> None:
    """And its absence does: the default is deny. The sentence names what changed and the cure."""
    pair = f"{held.source} -> {held.destination}"
    assert why_cut(mesh(f"{pair} allow"), held) is None
    for denying in (mesh(), mesh(f"{pair} deny"), mesh("* -> * allow", f"{pair} deny")):
        why = why_cut(denying, held)
        assert why is not None
        assert why.reason is Reason.POLICY_CHANGED
        assert pair in str(why)


def test_only_what_went_into_a_tunnel_is_another_agent_s_to_end() -> None:
    """Whoever takes it out of the tunnel enforces; what goes in clear or stays here has nobody else."""
    assert [held for held in ALL if ends_elsewhere(held)] == [TUNNEL]


@pytest.mark.parametrize("mode", MODES)
def test_what_no_rule_let_through_is_left_alone(mode: str) -> None:
    """A port without a service was passed on as without an agent."""
    assert why_cut(mesh(mode=mode), PASSED) is None


@pytest.mark.parametrize("held", ALL)
def test_observe_ends_nothing(held: Held) -> None:
    """It only looks."""
    assert why_cut(mesh("* -> * deny", mode="observe"), held) is None


@pytest.mark.parametrize(
    ("held", "ending"),
    [(NOBODY, ("strict",)), (PLAIN, ("strict",)), (CLEAR, ("strict",)), (BARE, ("strict",)), (CLEAR_HERE, ())],
)
def test_a_stricter_mode_ends_what_it_would_refuse(held: Held, ending: tuple[str, ...]) -> None:
    """Clear text, unknown callers and machines without an agent; not what stays on this machine."""
    found = tuple(mode for mode in MODES if why_cut(mesh("* -> * allow", mode=mode), held))
    assert found == ending


def test_in_permissive_clear_text_still_needs_its_intention_where_an_agent_would_ask_for_it() -> None:
    """What began in observe is held to permissive's rules; a machine without an agent has nobody who asks."""
    assert why_cut(mesh(mode="permissive"), CLEAR) is not None
    assert why_cut(mesh(mode="permissive"), BARE) is None


def test_strict_lets_stay_what_may_be_called_in_clear() -> None:
    """plaintext_ok, and the intention."""
    extra = "[service.legacy]\nplaintext_ok = true\n"
    assert why_cut(mesh("shop -> legacy allow", extra=extra), BARE) is None
    assert why_cut(mesh(extra=extra), BARE) is not None


def test_an_agent_that_comes_to_the_other_machine_ends_nothing() -> None:
    """What began without one goes on by its own rules: only the next connection takes the tunnel."""
    extra = "[service.web]\nplaintext_ok = true\n"
    bare = CLEAR._replace(is_bare=True)
    assert why_cut(mesh(mode="permissive"), bare) is None
    assert why_cut(mesh("shop -> web allow", extra=extra), bare) is None


def test_what_left_the_catalog_ends_nothing() -> None:
    """It can be wrong about services and hosts: as long as the intention stands, the connection does."""
    empty = mesh("shop -> web allow", web=())
    assert why_cut(empty, TUNNEL) is None
    assert why_cut(Snapshot(2, empty.mesh, {}, {}, mesh("* -> * allow").wildcards), TUNNEL) is None


rows = st.lists(
    st.tuples(st.sampled_from(("shop", "web", "cart", "*")), st.sampled_from(("web", "cart", "legacy", "*")),
              st.sampled_from(("allow", "deny"))), max_size=8,
)  # fmt: skip


def opened(snapshot: Snapshot) -> list[Held]:
    """What this snapshot lets be opened, of every direction."""
    found = []
    for source, dst in itertools.product(("", "shop", "cart"), (WEB, CART, LEGACY, Address("10.77.0.2", 9))):
        is_here = dst == CART
        to = find_destination(snapshot, OriginalDst(dst), dst_is_local=is_here)
        try:
            via = decide_outbound(snapshot, source, to)
        except AgentError:
            continue
        found.append(Held("outbound", via.path, source, via.service, is_here, via.note == "no_peer"))
    for source, direction in (("web", "tunnel"), ("", "plaintext")):
        try:
            via = decide_stream(snapshot, source, "cart", CART) if source else decide_plaintext(snapshot, OriginalDst(CART))
        except AgentError:
            continue
        found.append(Held(direction, via.path, source, via.service, is_here=False, is_bare=False))  # type: ignore[arg-type]
    return found


@given(rows, st.sampled_from(MODES), rows, st.sampled_from(MODES))
def test_what_stays_open_is_what_could_be_opened_anew(
    before: list[tuple[str, str, str]], mode: str, after: list[tuple[str, str, str]], new_mode: str
) -> None:
    """From any policy to any other: an open connection ends exactly if a new one like it would be refused or sent elsewhere.

    Two exceptions, both towards calm: outside strict, clear text that a tunnel would carry now goes on; and so does what
    a tunnel carries that observe would send in clear.
    """
    old = mesh(*(f"{s} -> {d} {a}" for s, d, a in before), mode=mode)
    new = mesh(*(f"{s} -> {d} {a}" for s, d, a in after), mode=new_mode, generation=2)
    new = apply_delta(old, decode_delta(encode_delta(diff(old, new))))
    anew = opened(new)
    for held in opened(old):
        stays = why_cut(new, held) is None
        assert stays == any(held._replace(path=one.path, is_bare=one.is_bare) == one for one in anew if new_mode != "strict" or one.path == held.path or held.is_here)
        if not stays:
            assert may_differ(held, old, new)


def test_a_row_says_what_holds_it() -> None:
    """The facts that were written down when it was decided."""
    row = ConnectionRow(id="1", direction="outbound", client="", original_dst="", opened_at=0, source="shop", destination="web",
                        path="tunnel", peer="host2")  # fmt: skip
    assert held_by(row, "host1") == TUNNEL
    assert held_by(row, "host2").is_here
    row.path, row.permit = "direct", "shop -> web (allow); no_peer"
    assert held_by(row, "host1") == CLEAR._replace(is_bare=True)


def test_what_nobody_reads_ends_when_requests_are_decided_one_by_one() -> None:
    """What carries bytes alone knows of no request; what reads them goes on, and decides the next by the new rule."""
    snapshot = by_request("shop -> web")
    assert why_cut(snapshot, TUNNEL._replace(is_read=True)) is None
    assert why_cut(snapshot, TUNNEL) is not None
    assert why_cut(by_request("shop -> web", protocol="tcp"), TUNNEL._replace(is_read=True)) is not None
    row = ConnectionRow(id="b3-1", direction="outbound", client="", original_dst="", opened_at=0, is_read=True)
    assert held_by(row, "host1").is_read
