"""What a peer says does not break our lines."""

from nodeagent import limits
from nodeagent.wire.peer_text import printable


def test_a_peer_s_words_are_one_short_printable_line() -> None:
    assert printable("no\nway\x1b[2J, no é") == "no?way?[2J, no é"
    assert printable("x" * 10_000) == "x" * limits.DETAIL_CHARS
