"""The vocabulary of HTTP messages: what is not said is the harmless case."""

from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead, plain_name


def test_lengths_that_are_none_are_no_lengths() -> None:
    """They cannot be taken for a number of bytes, nor for each other."""
    assert CHUNKED != UNTIL_CLOSE
    assert max(CHUNKED, UNTIL_CLOSE) < 0


def test_what_is_not_said_of_a_message_is_not_so() -> None:
    """No body, no other protocol, nobody waits; the connection goes on."""
    asked, answered = RequestHead(b"GET", b"/", b"web", []), ResponseHead(200, b"OK", [])
    assert (0, False, True, b"", False, False) == (
        asked.length, asked.is_http10, asked.keep_alive, asked.upgrade, asked.expects_continue, asked.accepts_trailers,
    )  # fmt: skip
    assert (0, True, None, True, b"") == (answered.length, answered.has_body, answered.said_length, answered.keep_alive, answered.upgrade)


def test_names_that_become_one_variable_are_one() -> None:
    """Whatever a token may have beside letters and digits."""
    assert {plain_name(b"X" + mark.encode() + b"Id9") for mark in "!#$%&'*+.^_`|~-"} == {b"x-id9"}


def test_what_comes_before_the_answer_itself_is_told_from_it() -> None:
    assert [True, True, False] == [ResponseHead(status, b"", []).is_interim for status in (100, 199, 200)]
