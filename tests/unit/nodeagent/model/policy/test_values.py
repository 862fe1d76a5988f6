"""Durations in Go's words, and what of a part is said."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.model.policy.own import Abort, Bucket
from nodeagent.model.policy.values import Duration, HeaderEdits, body_of, from_plain, parse_duration, to_plain


@pytest.mark.parametrize(
    ("said", "seconds", "shown"),
    [
        ("5s", 5, "5s"), ("1m30s", 90, "1m30s"), ("90s", 90, "1m30s"), ("1.5h", 5400, "1h30m0s"), ("250ms", 0.25, "250ms"),
        ("1.5us", 1.5e-6, "1.5us"), ("7ns", 7e-9, "7ns"), (".5s", 0.5, "500ms"), ("0", 0, "0s"), ("", 0, "0s"), ("1h", 3600, "1h0m0s"),
        (15_000_000_000, 15, "15s"), ("1.25s", 1.25, "1.25s"), ("60s", 60, "1m0s"),
    ],
)  # fmt: skip
def test_durations_are_read_and_shown_as_go_does(said, seconds, shown):
    assert (parse_duration(said).seconds, str(parse_duration(said))) == (pytest.approx(seconds), shown)


@pytest.mark.parametrize("said", ["x", "5", "-5s", "5s5", "5 s", "1d", -1, 1.5, None, True, [], "9" * 18 + "h", 2**63, "s", "1.2.3s"])
def test_what_is_no_duration_is_refused(said):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(said)


@given(st.integers(0, 2**63 - 1))
def test_a_duration_that_is_shown_is_read_as_the_same(nanoseconds):
    assert parse_duration(str(Duration(nanoseconds))) == nanoseconds


def test_only_what_was_said_is_in_the_body():
    """Where None means unsaid, zero is said."""
    assert body_of(HeaderEdits(set_={"a": "b"})) == {"Set": {"a": "b"}}
    assert body_of(Abort(grpc_status=0)) == {"GRPCStatus": 0}
    assert body_of(Bucket(requests_per_second=0.0)) == {"RequestsPerSecond": 0.0}


def test_a_whole_number_is_written_as_one():
    assert [str(body_of(Bucket(requests_per_second=rate))["RequestsPerSecond"]) for rate in (10.0, 0.5, 1e19)] == ["10", "0.5", "1e+19"]


def test_durations_travel_as_numbers() -> None:
    """What has parts of entries in it is encoded with these two."""
    said = (Duration(1_500_000_000), Duration(0))
    encoded = msgspec.msgpack.encode(said, enc_hook=to_plain)
    back = msgspec.msgpack.decode(encoded, type=tuple[Duration, ...], dec_hook=from_plain)
    assert (said, [Duration, Duration]) == (back, [*map(type, back)])
    with pytest.raises(NotImplementedError, match="object"):
        msgspec.msgpack.encode(object(), enc_hook=to_plain)
    with pytest.raises(NotImplementedError, match="complex"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(1), type=complex, dec_hook=from_plain)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(-1), type=Duration, dec_hook=from_plain)
