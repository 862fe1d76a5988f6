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
from nodeagent.decide.revoke import Held, concerns, held_by, why_revoked
from nodeagent.decide.route import find_destination
from nodeagent.errors import AgentError, Reason
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.service import Mode
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import CART, LEGACY, WEB, mesh

MODES = get_args(Mode)
TUNNEL = Held("outbound", "tunnel", "shop", "web", "host2")
STREAM = Held("tunnel", "local", "web", "cart", "host2")
LOCAL = Held("outbound", "local", "shop", "cart", "host1")
CLEAR = Held("outbound", "direct", "shop", "web", "host2")
CLEAR_HERE = Held("outbound", "direct", "shop", "cart", "host1")
NO_PEER = Held("outbound", "direct", "shop", "legacy", "host3")
NOBODY = Held("outbound", "direct", "", "web", "host2")
PLAIN = Held("plaintext", "local", "", "cart", "")
PASSED = Held("outbound", "direct", "shop", "", "host2")
ALL = (TUNNEL, STREAM, LOCAL, CLEAR, CLEAR_HERE, NO_PEER, NOBODY, PLAIN, PASSED)


@pytest.mark.parametrize("held", [TUNNEL, STREAM, LOCAL])
def test_a_deny_ends_what_an_allow_held_open(held: Held) -> None:
    """And its absence does: the default is deny. The sentence names what changed and the cure."""
    pair = f"{held.source} -> {held.destination}"
    assert why_revoked(mesh(f"{pair} allow"), held) is None
    for denying in (mesh(), mesh(f"{pair} deny"), mesh("* -> * allow", f"{pair} deny")):
        why = why_revoked(denying, held)
        assert why is not None
        assert why.reason is Reason.POLICY_CHANGED
        assert pair in str(why)


@pytest.mark.parametrize("mode", MODES)
def test_what_no_rule_let_through_is_left_alone(mode: str) -> None:
    """A port without a service was passed on as without an agent."""
    assert why_revoked(mesh(mode=mode), PASSED) is None


@pytest.mark.parametrize("held", ALL)
def test_observe_ends_nothing(held: Held) -> None:
    """It only looks."""
    assert why_revoked(mesh("* -> * deny", mode="observe"), held) is None


@pytest.mark.parametrize(
    ("held", "ending"),
    [(NOBODY, ("strict",)), (PLAIN, ("strict",)), (CLEAR, ("strict",)), (NO_PEER, ("strict",)), (CLEAR_HERE, ())],
)
def test_a_stricter_mode_ends_what_it_would_refuse(held: Held, ending: tuple[str, ...]) -> None:
    """Clear text, unknown callers and machines without an agent; not what stays on this machine."""
    found = tuple(mode for mode in MODES if why_revoked(mesh("* -> * allow", mode=mode), held))
    assert found == ending


def test_in_permissive_clear_text_still_needs_its_intention_where_an_agent_would_ask_for_it() -> None:
    """What began in observe is held to permissive's rules; a machine without an agent has nobody who asks."""
    assert why_revoked(mesh(mode="permissive"), CLEAR) is not None
    assert why_revoked(mesh(mode="permissive"), NO_PEER) is None


def test_strict_lets_stay_what_may_be_called_in_clear() -> None:
    """plaintext_ok, and the intention."""
    extra = "[service.legacy]\nplaintext_ok = true\n"
    assert why_revoked(mesh("shop -> legacy allow", extra=extra), NO_PEER) is None
    assert why_revoked(mesh(extra=extra), NO_PEER) is not None


def test_what_left_the_catalog_ends_nothing() -> None:
    """It can be wrong about services and hosts: as long as the intention stands, the connection does."""
    empty = mesh("shop -> web allow", web=())
    assert why_revoked(empty, TUNNEL) is None
    assert why_revoked(Snapshot(2, empty.mesh, {}, {}, mesh("* -> * allow").wildcards), TUNNEL) is None


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
        host = "host1" if is_here else {LEGACY: "host3"}.get(dst, "host2")
        found.append(Held("outbound", via.path, source, via.service, host))
    for source, direction in (("web", "tunnel"), ("", "plaintext")):
        try:
            via = decide_stream(snapshot, source, "cart", CART) if source else decide_plaintext(snapshot, OriginalDst(CART))
        except AgentError:
            continue
        found.append(Held(direction, via.path, source, via.service, "host2" if source else ""))  # type: ignore[arg-type]
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
        stays = why_revoked(new, held) is None
        assert stays == any(held._replace(path=one.path) == one for one in anew if new_mode != "strict" or one.path == held.path or held.peer == "host1")
        if not stays:
            assert concerns(held, old, new)


def test_a_row_says_what_holds_it() -> None:
    """The facts that were written down when it was decided."""
    row = ConnectionRow(id="1", direction="outbound", client="", original_dst="", opened_at=0, source="shop", destination="web",
                        path="tunnel", peer="host2")  # fmt: skip
    assert held_by(row) == TUNNEL
