"""Conntrack queries and answers, with bytes that a kernel (6.18) sent and took."""

import pytest

from nodeagent.process.conntrack import decode_original
from redirect.ctnetlink import REPLY as BY_REPLY
from redirect.ctnetlink import encode_name
from redirect.flow import Flow

LOCALHOST, OWN, REMOTE = b"\x7f\0\0\1", b"\x0a\x5a\1\1", b"\x0a\x5a\1\2"
REPLY = Flow(LOCALHOST, 15001, OWN, 22354)
QUERY = (
    "020000003400028014000180080001007f000001080002000a5a01011c0002800500010006000000060002003a9900000600030057520000"
)
ANSWER = (
    "020000003400018014000180080001000a5a0101080002000a5a01021c0002800500010006000000060002009c4000000600"
    "0300005100003400028014000180080001007f000001080002000a5a01011c0002800500010006000000060002003a990000"
    "060003005752000008000300000001be080008000000000008000c00188c620d08000b000000000208000700000697803000"
    "04802c0001800500010003000000050002000a000000050003000a00000006000400230000000600050023000000"
)
OWN6, REMOTE6 = bytes.fromhex("fd910000000000000000000000000001"), bytes.fromhex("fd910000000000000000000000000002")
REPLY6 = Flow(bytes(15) + b"\1", 15001, OWN6, 56266)
QUERY6 = (
    "0a0000004c0002802c000180140003000000000000000000000000000000000114000400fd91000000000000000000000000"
    "00011c0002800500010006000000060002003a99000006000300dbca0000"
)
ANSWER6 = (
    "0a0000004c0001802c00018014000300fd91000000000000000000000000000114000400fd91000000000000000000000000"
    "00021c000280050001000600000006000200dbca000006000300005000004c0002802c000180140003000000000000000000"
    "000000000000000114000400fd9100000000000000000000000000011c0002800500010006000000060002003a9900000600"
    "0300dbca000008000300000001ae080008000000000008000c000330f2fc08000b0000000002080007000006978030000480"
    "2c0001800500010003000000050002000a000000050003000a00000006000400230000000600050023000000"
)


@pytest.mark.parametrize(("reply", "query"), [(REPLY, QUERY), (REPLY6, QUERY6)])
def test_a_query_asks_for_one_entry_by_its_reply_direction(reply: Flow, query: str) -> None:
    """As the kernel took it."""
    assert encode_name(BY_REPLY, reply).hex() == query


def test_the_original_direction_has_the_port_that_the_client_used() -> None:
    """REDIRECT had made 22354 of 40000."""
    assert decode_original(bytes.fromhex(ANSWER), REPLY) == Flow(OWN, 40000, REMOTE, 81)
    assert decode_original(bytes.fromhex(ANSWER6), REPLY6) == Flow(OWN6, 56266, REMOTE6, 80)


@pytest.mark.parametrize(
    "reply",
    [
        Flow(LOCALHOST, 15001, OWN, 22355),
        Flow(LOCALHOST, 15006, OWN, 22354),
        Flow(LOCALHOST, 15001, REMOTE, 22354),
        REPLY6,
    ],
)
def test_an_answer_about_another_connection_is_nothing(reply: Flow) -> None:
    """The tuple in the answer is compared with the tuple asked."""
    assert decode_original(bytes.fromhex(ANSWER), reply) is None


def test_a_truncated_answer_is_nothing_or_whole() -> None:
    """Cut anywhere, it never names another flow."""
    whole = bytes.fromhex(ANSWER)
    found = {decode_original(whole[:size], REPLY) for size in range(len(whole))}
    assert found == {None, Flow(OWN, 40000, REMOTE, 81)}
