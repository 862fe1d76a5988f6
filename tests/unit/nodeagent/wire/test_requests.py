"""The fixed-size messages between a worker and the supervisor."""

import ipaddress

import pytest

from nodeagent.errors import FrameError
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion


def packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


QUESTIONS = [
    OwnerQuestion(1, packed("10.0.0.1"), 40000, packed("10.0.0.1"), 15001),
    OwnerQuestion(2**32 - 1, packed("fd00::1"), 65535, packed("::1"), 1),
]
ANSWERS = [OwnerAnswer(1, 1001, "web.service"), OwnerAnswer(2, 0, ""), OwnerAnswer(3, -1, "a.service"),
           OwnerAnswer(4, -1, "", knows_unit=False), OwnerAnswer(5, 7, "", knows_unit=False)]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_survives(question: OwnerQuestion) -> None:
    """Both families; addresses in network form."""
    data = requests.encode_question(question)
    assert (requests.WANT_OWNER, question) == (data[0], requests.decode_question(data))


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_survives(answer: OwnerAnswer) -> None:
    """Who is not found has neither uid nor unit."""
    data = requests.encode_answer(answer)
    assert (requests.OWNER, answer) == (data[0], requests.decode_answer(data))


def test_an_answer_that_says_not_found_names_nobody() -> None:
    """Whatever else stands in it."""
    data = bytearray(requests.encode_answer(OwnerAnswer(1, 1001, "web.service")))
    data[5] = 0
    assert OwnerAnswer(1, -1, "", knows_unit=False) == requests.decode_answer(bytes(data))


@pytest.mark.parametrize("unit", ["web.service", "", "a" * 256, "dev-\u00e9.service"])
def test_a_unit_survives(unit: str) -> None:
    """An empty name withdraws the mark."""
    data = requests.encode_unit(0x5A00_0001, unit)
    assert (requests.UNIT, (0x5A00_0001, unit)) == (data[0], requests.decode_unit(data))
    assert len(data) <= requests.MESSAGE_BYTES_MAX


def test_families_and_beats_survive() -> None:
    """The shortest messages."""
    for family in (4, 6):
        assert family == requests.decode_family(requests.encode_family(requests.WANT_SOCKETS, family))
    assert 7 == requests.decode_beat(requests.encode_beat(requests.PING, 7))


@pytest.mark.parametrize("asked_at", [0.0, 12.3456, 4_294_967.0, 2**32 / 1000 - 0.0004, 2**32 / 1000, 1e9 + 0.25])
@pytest.mark.parametrize("later_s", [0.0, 0.0004, 0.001, 17.5, 40 * 86_400.0])
def test_an_answer_tells_when_it_was_asked_for(asked_at: float, later_s: float) -> None:
    """To a millisecond, by the clock of whoever asked, over 49 days."""
    number = requests.decode_beat(requests.encode_ping(asked_at))
    assert requests.decode_pong(requests.encode_beat(requests.PONG, number), asked_at + later_s) == pytest.approx(asked_at, abs=0.001)


@pytest.mark.parametrize("number", [0, 1, 41_999, 42_001, 2**32 - 1])
def test_an_answer_that_was_made_up_is_none_of_the_future(number: int) -> None:
    """A worker can make itself older by it, and nothing else."""
    assert requests.decode_pong(requests.encode_beat(requests.PONG, number), 42.0) <= 42.0


DECODERS = [requests.decode_family, requests.decode_question, requests.decode_answer, requests.decode_unit, requests.decode_beat]


@pytest.mark.parametrize("decode", DECODERS)
def test_a_message_that_is_cut_short_is_refused(decode: object) -> None:
    """At every length below the fixed part; a seqpacket socket truncates silently."""
    whole = {
        requests.decode_family: requests.encode_family(requests.SOCKETS, 4),
        requests.decode_question: requests.encode_question(QUESTIONS[0]),
        requests.decode_answer: requests.encode_answer(OwnerAnswer(1, 2, "")),
        requests.decode_unit: requests.encode_unit(1, ""),
        requests.decode_beat: requests.encode_beat(requests.PONG, 1),
    }[decode]
    for length in range(len(whole)):
        with pytest.raises(FrameError, match=f"a request of {length} bytes"):
            decode(whole[:length])  # type: ignore[operator]


def test_values_out_of_range_are_refused() -> None:
    """Another address family, a unit name that is too long or no text."""
    with pytest.raises(FrameError, match="address family 5"):
        requests.decode_family(requests.encode_family(requests.SOCKETS, 5))
    question = bytearray(requests.encode_question(QUESTIONS[0]))
    question[5] = 9
    with pytest.raises(FrameError, match="address family 9"):
        requests.decode_question(bytes(question))
    with pytest.raises(FrameError, match="a unit name of 257 bytes"):
        requests.encode_unit(1, "a" * 257)
    with pytest.raises(FrameError, match="no text"):
        requests.decode_unit(requests.encode_unit(1, "") + b"\xff")
    with pytest.raises(FrameError, match="no text"):
        requests.decode_answer(requests.encode_answer(ANSWERS[0]) + b"\xff")


def test_listeners_survive() -> None:
    """Kind and family of each, in the order of the descriptors."""
    listeners: list[tuple[requests.Kind, requests.Family]] = [("outbound", 4), ("tunnel", 6), ("inbound", 4)]
    assert requests.decode_listen(requests.encode_listen(listeners)) == listeners


@pytest.mark.parametrize("pairs", [b"\0", b"\3\4", b"\0\5", b"\0\4\1"])
def test_listeners_that_are_none_are_refused(pairs: bytes) -> None:
    """Half a pair, a kind or a family that there is not."""
    with pytest.raises(FrameError, match="listeners"):
        requests.decode_listen(bytes([requests.LISTEN]) + pairs)
