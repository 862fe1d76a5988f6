"""What another mode would refuse of the flows that were seen."""

import msgspec
import pytest

from nodeagent.decide.mode import under_modes
from nodeagent.decide.rehearse import newly_bare, newly_refused, path_of, superseded, why_refused
from nodeagent.errors import Reason
from nodeagent.model.flow import Flow, FlowCount
from tests.support.mesh import mesh

TUNNEL = Flow("outbound", "shop", "web", "10.77.0.2:80", "host2")
NOBODY = Flow("outbound", "", "web", "10.77.0.2:80", "host2", unit="cron.service", uid=7)
LEGACY = Flow("outbound", "shop", "legacy", "10.77.0.3:5432", "host3")
LOCAL = Flow("outbound", "shop", "cart", "127.0.0.2:7000", "host1")
STREAM = Flow("tunnel", "web", "cart", "10.77.0.1:7000", "host2")
PLAIN = Flow("plaintext", "", "cart", "10.77.0.1:7000", client="192.0.2.9")
PLAIN_MESHED = Flow("plaintext", "", "cart", "10.77.0.1:7000", client="10.77.0.2")
GONE = Flow("tunnel", "web", "gone", "10.77.0.1:7001", "host2")
GONE_OUT = Flow("outbound", "shop", "gone", "10.77.0.2:81", "host2")
FLOWS = (TUNNEL, NOBODY, LEGACY, LOCAL, STREAM, PLAIN, PLAIN_MESHED, GONE, GONE_OUT)


def refused(now: str, then: str, *intentions: str) -> dict[Flow, Reason]:
    """What the step would refuse, and why."""
    before = mesh(*intentions, mode=now)
    return {each.flow: each.error.reason for each in newly_refused(before, under_modes(before, {"": then}), FLOWS)}  # type: ignore[arg-type]


def test_permissive_refuses_whom_no_intention_allows() -> None:
    """And nobody else: unknown callers and clear text pass."""
    assert refused("observe", "permissive") == {TUNNEL: Reason.DENIED, LOCAL: Reason.DENIED, STREAM: Reason.DENIED}
    assert refused("observe", "permissive", "shop -> * allow", "web -> cart allow") == {}


def test_strict_refuses_clear_text_and_unknown_callers_too() -> None:
    """What permissive refuses already is not news."""
    clear = {NOBODY: Reason.UNIDENTIFIED, LEGACY: Reason.NO_PEER, PLAIN: Reason.PLAINTEXT_REFUSED, PLAIN_MESHED: Reason.PLAINTEXT_REFUSED}
    assert refused("permissive", "strict") == clear
    assert refused("permissive", "strict", "* -> * allow") == clear
    assert refused("observe", "strict", "* -> * allow") == clear
    assert refused("strict", "strict") == {}


def test_who_was_nobody_and_has_a_service_now_is_not_refused() -> None:
    """The operator named it in a [[workload]] since: what was recorded of it is read anew."""
    rule = '[[workload]]\nselector = "systemd:id:cron.service"\nservice = "cron"\n'
    assert why_refused(mesh(), NOBODY) is not None
    assert why_refused(mesh("cron -> web allow", extra=rule), NOBODY) is None


def test_a_step_towards_calm_refuses_nobody() -> None:
    """It is never a reason to ask."""
    assert refused("strict", "permissive") == refused("strict", "observe") == refused("permissive", "observe") == {}


def test_a_step_back_to_observe_takes_flows_out_of_their_tunnels() -> None:
    """Those that had one: to a host with an agent, which may refuse clear text; and it is said which."""
    for now in ("permissive", "strict"):
        before = mesh("shop -> * allow", mode=now)
        bare = newly_bare(before, under_modes(before, {"": "observe"}), FLOWS)
        assert [each.flow for each in bare] == [TUNNEL]
        assert "refused there where host2 or its web is strict" in str(bare[0].error)
        assert newly_bare(before, under_modes(before, {"cart": "observe"}), FLOWS) == []
    for now, then in (("observe", "strict"), ("observe", "observe"), ("strict", "permissive")):
        assert newly_bare(mesh("shop -> * allow", mode=now), mesh("shop -> * allow", mode=then), FLOWS) == []
    assert newly_bare(mesh(), mesh(mode="observe"), FLOWS) == [], "what was refused had no tunnel"


def test_the_way_of_a_flow() -> None:
    """As the data path goes; none where it is refused, or nothing is registered any more."""
    allowed = mesh("shop -> * allow")
    assert [path_of(allowed, flow) for flow in (TUNNEL, LOCAL, NOBODY, GONE_OUT)] == ["tunnel", "local", "none", "none"]


def test_one_service_is_rehearsed_alone() -> None:
    """The host and the other services stay as they are."""
    now = mesh(mode="observe")
    then = under_modes(now, {"cart": "strict"})
    assert {each.flow for each in newly_refused(now, then, FLOWS)} == {LOCAL, STREAM, PLAIN, PLAIN_MESHED}
    assert under_modes(now, {"new": "strict"}).services["new"].mode == "strict"


def test_what_is_not_registered_any_more_is_nobody_s_loss() -> None:
    """A flow of last month towards a service that has gone."""
    strict = mesh()
    assert why_refused(strict, GONE) is None
    assert why_refused(strict, GONE_OUT) is None


def test_clear_text_from_a_host_with_an_agent_says_where_to_begin() -> None:
    """That agent lets it out."""
    now = mesh(mode="permissive")
    hints = {each.flow: each.hint for each in newly_refused(now, under_modes(now, {"": "strict"}), FLOWS)}
    assert "host2 has an agent" in hints[PLAIN_MESHED]
    assert hints[PLAIN] == hints[NOBODY] == ""


@pytest.mark.parametrize("flow", FLOWS)
def test_the_rehearsal_changes_no_snapshot(flow: Flow) -> None:
    """Snapshots are values."""
    now = mesh(mode="permissive")
    newly_refused(now, under_modes(now, {"": "strict"}), [flow])
    assert now == mesh(mode="permissive")


def over(*seen: tuple[Flow, float, float], intention: str = "web -> cart allow") -> frozenset[Flow]:
    """What is superseded in strict of flows seen first and last at these times."""
    return superseded(mesh(intention), {flow: FlowCount(2, first, last) for flow, first, last in seen})


def test_clear_text_before_the_first_tunnel_of_its_host_is_superseded() -> None:
    """By whichever of its addresses; web on host2 calls cart by tunnel now."""
    other_address = msgspec.structs.replace(PLAIN_MESHED, client="fd77::2", address="[fd77::1]:7000")
    assert over((PLAIN_MESHED, 1.0, 5.0), (other_address, 2.0, 6.0), (STREAM, 7.0, 9.0)) == {PLAIN_MESHED, other_address}


def test_what_may_still_come_in_clear_is_not_superseded() -> None:
    """Beside tunnels, from another host, to another service, by an agent that is refused, or from nobody who is known."""
    assert over((PLAIN_MESHED, 1.0, 8.0), (STREAM, 7.0, 9.0)) == frozenset()
    again = msgspec.structs.replace(STREAM, address="[fd77::1]:7000")
    assert over((PLAIN_MESHED, 1.0, 8.0), (STREAM, 7.0, 9.0), (again, 10.0, 11.0)) == frozenset()
    assert over((PLAIN, 1.0, 5.0), (msgspec.structs.replace(PLAIN, client=""), 1.0, 5.0), (STREAM, 7.0, 9.0)) == frozenset()
    assert over((PLAIN_MESHED, 1.0, 5.0), (msgspec.structs.replace(STREAM, peer="host3"), 7.0, 9.0)) == frozenset()
    to_shop = msgspec.structs.replace(STREAM, destination="shop", address="10.77.0.1:9000")
    assert over((PLAIN_MESHED, 1.0, 5.0), (to_shop, 7.0, 9.0), intention="web -> * allow") == frozenset()
    assert over((PLAIN_MESHED, 1.0, 5.0), (STREAM, 7.0, 9.0), intention="web -> cart deny") == frozenset()
    assert over((NOBODY, 1.0, 5.0), (STREAM, 7.0, 9.0)) == frozenset()
