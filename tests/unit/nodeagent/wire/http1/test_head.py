"""What a head says, without bytes: the rules, one by one. The tables of requests and answers hold the rest."""

import contextlib

import pytest

from nodeagent.model.message import CHUNKED, UNTIL_CLOSE
from nodeagent.wire.http1.events import INTERIM, SWITCHED, BadMessage
from nodeagent.wire.http1.head import OF_REQUEST, OF_RESPONSE, check_host, request_head, response_head, sort_fields


def test_special_fields_are_sorted_out_by_name() -> None:
    """In any letters; lists are joined, and the others keep their order and form."""
    fields = [(b"B", b"1"), (b"CONNECTION", b"a"), (b"A", b"2"), (b"connection", b"b"), (b"B", b"3")]
    assert ([(b"B", b"1"), (b"A", b"2"), (b"B", b"3")], {b"connection": b"a,b"}) == sort_fields(fields, OF_REQUEST)


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Transfer-Encoding"])
def test_what_decides_stands_once(name: bytes) -> None:
    """Two of them are a doubt, be they equal."""
    with pytest.raises(BadMessage, match="twice"):
        sort_fields([(name, b"1"), (name.lower(), b"1")], OF_REQUEST)


def test_a_host_of_an_answer_is_any_field() -> None:
    """It means nothing there."""
    assert b"host" not in OF_RESPONSE


def test_host_names_are_checked() -> None:
    """Nothing is said of a good one."""
    check_host(b"web:65535")
    with pytest.raises(BadMessage):
        check_host(b"web:65536")


def test_of_hosts_good_ones_alone_are_remembered() -> None:
    """A bad one may be as long as a head."""
    check_host.cache_clear()
    for host in (b"web", b"web", b"a b"):
        with contextlib.suppress(BadMessage):
            check_host(host)
    assert 1 == check_host.cache_info().currsize


def test_what_connection_names_does_not_go_on() -> None:
    """Of requests and of answers."""
    fields = [(b"Host", b"a"), (b"X", b"b"), (b"Y", b"c"), (b"Connection", b"x, keep-alive, close")]
    asked = request_head((b"GET", b"/", b"1"), fields)
    answered, _ = response_head((b"1", b"200", b""), fields[1:], b"GET", may_switch=False)
    assert ([(b"Y", b"c")], False, [(b"Y", b"c")], False) == (asked.headers, asked.keep_alive, answered.headers, answered.keep_alive)


@pytest.mark.parametrize(
    ("status", "fields", "method", "follows"),
    [
        (b"200", [(b"Content-Length", b"7")], b"GET", 7),
        (b"200", [(b"Content-Length", b"7")], b"HEAD", 0),
        (b"200", [(b"Transfer-Encoding", b"chunked")], b"GET", CHUNKED),
        (b"200", [], b"GET", UNTIL_CLOSE),
        (b"304", [(b"Content-Length", b"7")], b"GET", 0),
        (b"204", [], b"POST", 0),
        (b"100", [], b"POST", INTERIM),
        (b"101", [(b"Upgrade", b"websocket")], b"GET", SWITCHED),
    ],
)
def test_what_follows_an_answer(status: bytes, fields: list[tuple[bytes, bytes]], method: bytes, follows: int) -> None:
    """By RFC 9112, 6.3, in its order."""
    assert follows == response_head((b"1", status, b""), fields, method, may_switch=True)[1]
