"""What `why` says, step by step."""

import pytest
from msgspec.structs import replace

from nodeagent.decide.explain import (
    Target,
    explain_call,
    explain_callee,
    explain_caller,
    explain_plaintext,
    explain_record,
    targets,
    targets_at,
)
from nodeagent.decide.outbound import decide_outbound
from nodeagent.decide.route import find_destination
from nodeagent.errors import AgentError, Reason, Side
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.explanation import Step
from tests.support.by_request import by_request
from tests.support.mesh import CART, HOST1, HOST2, HOST3, LEGACY, WEB, WEB6, instance, mesh
from tests.support.rows import denied, row

UNREAD = ", and denies: it is about requests, which are read of services that speak http; web speaks grpc"
TO_WEB = Target(WEB, is_local=False)


def told(steps: tuple[Step, ...] | list[Step], what: str) -> list[tuple[str, str]]:
    """Verdict and text of the steps of one kind."""
    return [(step.verdict, step.text) for step in steps if step.what == what]


def test_an_allowed_call_is_told_from_destination_to_way() -> None:
    """Who is called, in which mode, by which intention, and how it gets there."""
    call = explain_call(mesh("shop -> web allow", "* -> web deny", "shop -> * allow"), "shop", TO_WEB)
    assert [step.what for step in call.steps] == ["destination", "mode", "intention", "intention", "intention", "way"]
    assert told(call.steps, "destination") == [("ok", "10.77.0.2:80 is instance host2-80 of web on host2, with an agent")]
    assert told(call.steps, "mode") == [("ok", "strict, the mode of this host")]
    assert told(call.steps, "intention") == [
        ("ok", "shop -> web (allow), precedence 9: decides"),
        ("note", "* -> web (deny), precedence 8: of lower rank"),
        ("note", "shop -> * (allow), precedence 6: of lower rank"),
    ]
    assert told(call.steps, "way") == [("ok", "in a tunnel to the agent of host2, which is asked for 10.77.0.2:80")]


@pytest.mark.parametrize(
    ("intentions", "first"),
    [
        ((), ("refused", "none speaks of shop -> web: the default is deny")),
        (("shop -> web deny", "* -> * allow"), ("refused", "shop -> web (deny), precedence 9: decides")),
        (("shop -> web deny", "shop -> web allow"), ("refused", "shop -> web (deny), precedence 9: decides")),
    ],
)
def test_a_denied_call_ends_with_the_data_path_s_own_sentence(intentions: tuple[str, ...], first: tuple[str, str]) -> None:
    """The intention that said no goes first; two of one rank are told apart."""
    snapshot = mesh(*intentions)
    call = explain_call(snapshot, "shop", TO_WEB)
    assert call.via is None
    assert told(call.steps, "intention")[0] == first
    with pytest.raises(AgentError) as refusal:
        decide_outbound(snapshot, "shop", find_destination(snapshot, OriginalDst(WEB), dst_is_local=False))
    assert told(call.steps, "way") == [("refused", f"denied: {refusal.value}")]


@pytest.mark.parametrize("mode", ["observe", "permissive", "strict"])
@pytest.mark.parametrize("source", ["", "shop", "nobody"])
@pytest.mark.parametrize("address", [WEB, CART, LEGACY, Address("10.77.0.2", 9), Address("192.0.2.1", 9)])
def test_it_decides_as_the_data_path_does(mode: str, source: str, address: Address) -> None:
    """Whatever the call."""
    snapshot = mesh("shop -> * allow", mode=mode)
    is_local = address == CART
    try:
        via = decide_outbound(snapshot, source, find_destination(snapshot, OriginalDst(address), dst_is_local=is_local))
    except AgentError:
        via = None
    assert explain_call(snapshot, source, Target(address, is_local)).via == via


def test_an_unidentified_caller_is_told_that_no_intention_helps() -> None:
    """Not even `*`, which means every service."""
    call = explain_call(mesh("* -> web allow"), "", TO_WEB)
    assert told(call.steps, "intention") == [("note", "none can allow an unidentified workload")]
    assert told(call.steps, "way")[0][0] == "refused"


@pytest.mark.parametrize(
    ("extra", "source", "verdict", "text"),
    [
        ("", "shop", "ok", "shop.service speaks as shop (identity.units: registered)"),
        ("", "web", "unknown", "no process of this host speaks as web"),
        ('[identity]\nunits = "any"\n', "web", "ok", "identity.units: any"),
        ('[identity]\nunits = ["web.service"]\n', "web", "ok", "a list that has it"),
        ('[[workload]]\nselector = "unix:uid:1001"\nservice = "cron"\n', "cron", "ok", "unix:uid:1001 speak as cron"),
        ("", "", "note", "an unidentified workload"),
    ],
)
def test_who_may_speak_as_the_caller(extra: str, source: str, verdict: str, text: str) -> None:
    """By its name, by a rule, or nobody here."""
    step = explain_caller(mesh(extra=extra), source)
    assert (step.verdict, text in step.text) == (verdict, True)


@pytest.mark.parametrize(
    ("mode", "source", "target", "count"),
    [("observe", "shop", TO_WEB, 1), ("permissive", "", TO_WEB, 1), ("permissive", "shop", TO_WEB, 0),
     ("observe", "shop", Target(LEGACY, is_local=False), 0), ("observe", "shop", Target(CART, is_local=True), 0)],
)  # fmt: skip
def test_clear_text_to_a_host_with_an_agent_is_that_agent_s_to_judge(mode: str, source: str, target: Target, count: int) -> None:
    """Not in a tunnel, not on this host, not where there is no agent."""
    found = told(explain_call(mesh("shop -> * allow", mode=mode), source, target).steps, "callee")
    assert [(verdict, "refuses clear text where host2 or its web is strict" in text) for verdict, text in found] == [("unknown", True)] * count


def test_clear_text_that_arrives_is_judged_by_this_host_s_mode() -> None:
    """As the data path does."""
    assert explain_plaintext(mesh(mode="permissive"), CART).verdict == "ok"
    refused = explain_plaintext(mesh(), CART)
    assert (refused.verdict, refused.text.startswith("plaintext_refused: ")) == ("refused", True)


def test_the_callee_s_half_is_marked_as_computed() -> None:
    """From this host's snapshot: the callee has its own."""
    step = explain_callee(mesh("shop -> web allow", generation=7), "shop", "web", WEB)
    assert (step.verdict, step.by) == ("ok", "host2, by this host's snapshot 7")
    assert "by shop -> web (allow)" in step.text
    assert explain_callee(mesh(), "shop", "web", WEB).verdict == "refused"
    assert "bad_destination" in explain_callee(mesh("* -> * allow"), "shop", "web", LEGACY).text


def test_of_what_is_gone_it_is_told_that_the_catalog_has_it_no_more_and_that_the_call_is_refused() -> None:
    row = instance(HOST2, 80)
    snapshot = mesh("shop -> web allow", web=(replace(row, instance=replace(row.instance, gone=True, healthy=False)),))
    text = explain_call(snapshot, "shop", Target(WEB, is_local=False)).steps[0].text
    assert text.endswith("of web on host2, with an agent, which the catalog has no more")
    step = explain_callee(snapshot, "shop", "web", WEB)
    assert (step.verdict, step.by) == ("refused", "host2, by this host's snapshot 1")


def test_where_a_service_can_be_called() -> None:
    """Healthy first, IPv4 first; at one port, if that is asked for."""
    snapshot = mesh(web=(instance(HOST2, 80, healthy=False), instance(HOST3, 81)))
    assert next(t.address for t in targets(snapshot, "web")) == Address("10.77.0.3", 81)
    assert [t.address for t in targets(snapshot, "web", 80)] == [WEB, WEB6]
    assert targets(snapshot, "cart")[0] == Target(CART, is_local=True)
    assert targets(snapshot, "ghost") == []


def test_another_address_of_a_host_with_an_agent_is_the_service_s() -> None:
    """Where it was not registered: the way is the tunnel, and the step says why."""
    snapshot = mesh("shop -> web allow", web=(instance(HOST2, 80, ips=("10.77.0.2",)),), cart=(instance(HOST1, 7000, ips=("fd77::1",)),))
    assert targets_at(snapshot, "web", WEB6) == [Target(WEB6, is_local=False)]
    assert targets_at(snapshot, "cart", CART) == [Target(CART, is_local=True)]
    assert targets_at(snapshot, "cart", WEB6) == targets_at(snapshot, "legacy", Address("fd77::3", 80)) == []
    call = explain_call(snapshot, "shop", Target(WEB6, is_local=False))
    ((_, text),) = told(call.steps, "destination")
    assert "on host2, with an agent (registered at another of its addresses: the agent takes port 80 at each)" in text
    assert call.via is not None
    assert (call.via.path, call.via.address) == ("tunnel", WEB6)
    assert explain_callee(snapshot, "shop", "web", WEB6).verdict == "ok"


def test_a_record_is_told_as_it_was_written_down() -> None:
    """The decision, how the caller was known, and the end."""
    steps = explain_record(row(unit="shop.service", uid=1001, how="stamp", permit="shop -> web (allow)", mode="strict", generation=4))
    assert told(steps, "recorded") == [
        ("note", "outbound from 10.77.0.1:40000 to 10.77.0.2:80; decided by generation 4 in mode strict; went tunnel; permit: shop -> web (allow)"),
        ("ok", "it ended: ok; 10 bytes sent, 20 received"),
    ]
    assert told(steps, "workload") == [("ok", "shop, unit shop.service, uid 1001; known by the stamp that the kernel put on its SYN")]
    assert explain_record(denied())[-1] == Step("recorded", "refused", "it ended: denied (no intention); 10 bytes had come from the client")
    assert explain_record(row(source="", unit="cron.service"))[1].text == "unidentified, unit cron.service; known by nothing"
    assert explain_record(row(closed_at=0.0))[-1].text == "it is open; 10 bytes sent, 20 received"
    broken = explain_record(row(reason=Reason.PEER_LOST, side=Side.UPSTREAM, error="gone"))[-1]
    assert (broken.verdict, "peer_lost (gone)" in broken.text) == ("note", True)


def test_a_tunnel_that_left_a_line_is_not_told_as_a_connection() -> None:
    """A handshake that was refused, by whoever it was; and a tunnel that was cut."""
    facts = {"direction": "tunnel", "original_dst": "", "path": "none", "client": "10.77.0.2:4000", "error": "no certificate"}
    refused = explain_record(row(source="", destination="", peer="host2", reason=Reason.PEER_IDENTITY, **facts))
    assert [(step.verdict, step.text) for step in refused] == [
        ("note", "a tunnel handshake with host2 at 10.77.0.2:4000: nobody had proven yet which service calls"),
        ("refused", "it was refused: peer_identity (no certificate)"),
    ]
    assert "a host that the catalog does not have" in explain_record(row(source="", reason=Reason.LIMIT, **facts))[0].text
    cut = explain_record(row(peer="host2", reason=Reason.REVOKED, **facts))
    assert [step.text for step in cut] == ["the tunnel of shop -> web with host2 at 10.77.0.2:4000", "it was cut: revoked (no certificate)"]


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("http", ("ok", "shop -> web (by request), precedence 9: decides each request, by the first of 2 permissions that matches, else deny")),
        ("grpc", ("refused", f"shop -> web (by request), precedence 9: decides{UNREAD}")),
    ],
)  # fmt: skip
def test_an_intention_about_requests_is_told_as_one(protocol: str, said: tuple[str, str]) -> None:
    """The permissions themselves are told by what asks for a request."""
    call = explain_call(by_request("shop -> web", protocol=protocol), "shop", Target(WEB, is_local=False))
    assert [said] == told(call.steps, "intention")
