"""The head of a tunnelled connection and HBONE's statuses."""

import pytest

from nodeagent import limits
from nodeagent.errors import (
    AgentError,
    BadDestination,
    Denied,
    LimitReached,
    Loop,
    NoSnapshot,
    PeerRefused,
    Reason,
    Unidentified,
    UpstreamRefused,
    UpstreamTimeout,
)
from nodeagent.model.address import Address
from nodeagent.wire import connect


@pytest.mark.parametrize("address", [Address("10.0.0.1", 80), Address("fd77::2", 5432)])
def test_a_request_is_read_as_it_was_written(address: Address) -> None:
    """IPv4 and IPv6."""
    assert connect.read_request(connect.request_headers(address)) == (address, 1)


@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"GET"), (b":authority", b"10.0.0.1:80")],
        [(b":method", b"CONNECT")],
        [(b":method", b"CONNECT"), (b":authority", b"web:80")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:0")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:+80")],
        [(b":method", b"CONNECT"), (b":authority", b"fd77::1:80")],
        [(b":method", b"CONNECT"), (b":authority", b"\xff\xfe:80")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80"), (b":authority", b"10.0.0.2:80")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80"), (b"nodeagent-hops", b"-1")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80"), (b"nodeagent-hops", b"1_0")],
    ],
)
def test_what_is_no_plain_connect_is_a_bad_destination(headers: list[tuple[bytes, bytes]]) -> None:
    """Other methods, no or several or malformed authorities, numbers that only int() would take."""
    with pytest.raises(BadDestination):
        connect.read_request(headers)


def test_a_second_agent_on_the_way_is_a_loop() -> None:
    """The caller's agent is the one hop that is allowed."""
    with pytest.raises(Loop, match="2 agents"):
        connect.read_request([(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80"), (b"nodeagent-hops", b"%d" % (limits.HOPS + 1))])


@pytest.mark.parametrize(
    ("error", "status", "seen"),
    [
        (Denied("no"), b"401", Denied),
        (Unidentified("who?"), b"401", Denied),
        (BadDestination("where?"), b"400", BadDestination),
        (Loop("again"), b"400", Loop),
        (UpstreamRefused("down"), b"503", UpstreamRefused),
        (UpstreamTimeout("slow"), b"503", UpstreamTimeout),
        (LimitReached("full"), b"503", LimitReached),
        (NoSnapshot("new"), b"503", UpstreamRefused),
        (AgentError("bug"), b"503", UpstreamRefused),
    ],
)
def test_refusals_cross_the_tunnel(error: AgentError, status: bytes, seen: type[AgentError]) -> None:
    """Policy is 401, a bad destination 400, all else 503; the caller's agent sees the same kind of refusal."""
    headers = connect.refusal_headers(error)
    assert dict(headers)[b":status"] == status
    with pytest.raises(seen):
        connect.read_answer(headers)


def test_only_200_is_success() -> None:
    """Any other status is a refusal."""
    connect.read_answer(connect.success_headers())
    for status in (b"204", b"302", b"500", b"100"):
        with pytest.raises(PeerRefused):
            connect.read_answer([(b":status", status)])


def test_the_caller_s_agent_hears_the_sentence() -> None:
    """Which intention said no, whatever signs it has; on the wire it is one plain field."""
    sentence = "no intention allows shop -> w\u00e9b (default deny); allow it with: nodeagent intention allow shop web 100%"
    headers = connect.refusal_headers(Denied(sentence))
    assert dict(headers)[b"nodeagent-detail"].isascii()
    with pytest.raises(Denied) as refusal:
        connect.read_answer(headers)
    assert str(refusal.value) == f"the callee's agent refused with status 401 (denied): {sentence}"


def test_no_field_is_split_and_no_log_spoiled() -> None:
    """Neither by what we say nor by what a peer says."""
    headers = connect.refusal_headers(Denied("no\r\nevil: 1\x00" + "x" * 9999))
    detail = dict(headers)[b"nodeagent-detail"]
    assert not set(b"\r\n\0") & set(detail)
    assert len(detail) <= 3 * limits.DETAIL_CHARS
    with pytest.raises(Denied) as refusal:
        connect.read_answer([(b":status", b"401"), (b"nodeagent-detail", b"a%0d%0a%1b[31m" + b"\xff" + b"x" * 9999)])
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < limits.DETAIL_CHARS + 99


def test_a_defect_is_told_to_nobody_else() -> None:
    """What an unexpected error says may be anything."""
    assert b"nodeagent-detail" not in dict(connect.refusal_headers(AgentError("KeyError: 'secret'")))


@pytest.mark.parametrize("reason", [Reason.POLICY_CHANGED, Reason.REVOKED, Reason.LIMIT])
def test_an_untimely_end_says_its_reason(reason: Reason) -> None:
    """And that it was the other agent's doing."""
    error = connect.read_reset(connect.RESET_CODES[reason])
    assert error is not None
    assert (error.reason, "the agent at the other end ended it" in str(error)) == (reason, True)


@pytest.mark.parametrize("code", [-1, 0, 8, 10, 0x6E61_0000, 0xFFFF_FFFF])
def test_other_codes_say_nothing(code: int) -> None:
    """Those of HTTP/2, of somebody else, and that of a lost tunnel."""
    assert connect.read_reset(code) is None
