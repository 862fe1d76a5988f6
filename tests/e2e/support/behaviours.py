"""What two programs can do with a TCP connection, as a table: each row gives what both sides saw, and what TCP lets them see."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.e2e.support.peers import Pair, Peer

MEBIBYTE = 1 << 20
Trace = Any
"""What the two programs saw, as JSON: texts, counts, how it ended. The same on every run."""


class Call(NamedTuple):
    """Two programs that are to behave in some way, and what they say."""

    pair: Pair
    by: str
    """`client` or `server`: who does what the behaviour is about."""
    caller_ip: str
    text: str

    @property
    def client(self) -> Peer:
        """Who connects."""
        return self.pair.client

    @property
    def server(self) -> Peer:
        """Who accepts."""
        return self.pair.server

    @property
    def one(self) -> Peer:
        """Who does it."""
        return self.client if self.by == "client" else self.server

    @property
    def other(self) -> Peer:
        """To whom it is done."""
        return self.server if self.by == "client" else self.client

    def open(self, name: str = "a") -> str:
        """A connection; the caller's address as the listener sees it."""
        return self.pair.open(name)


class Behaviour(NamedTuple):
    """A row of the table."""

    run: Callable[[Call], Trace]
    direct: Trace
    """What is seen without a mesh: what TCP does."""
    by: tuple[str, ...] = ("client",)
    is_about_wire: bool = False
    """It is nothing to compare where caller and callee are on one host."""


# --- what is seen of the other side --------------------------------------------------------------------------------


def server_speaks_first(call: Call) -> Trace:
    """A greeting before any request, to a caller whose address the server sees."""
    seen = call.open()
    call.server.do("send", "a", call.text)
    greeting = call.client.do("recv", "a", len(call.text))
    call.client.do("send", "a", "QUIT")
    return [seen == call.caller_ip, greeting == call.text, call.server.do("recv", "a", 4)]


def addresses(call: Call) -> Trace:
    """Both sides ask the kernel who they and the other are: which answers agree."""
    call.open()
    (client, dialled), (called, caller) = call.client.do("places", "a"), call.server.do("places", "a")
    pairs = {"dialled": (dialled, [call.pair.ip, call.pair.port]), "called": (called, dialled)}
    pairs |= {"caller's address": (caller[0], client[0]), "caller's port": (caller[1], client[1])}
    return [what for what, (seen, true) in pairs.items() if seen == true]


def segment_size(call: Call) -> Trace:
    """A full packet fits the wire between the hosts, as the server's kernel sees it."""
    call.open()
    return call.server.do("segment", "a") <= 1460


def first_bytes_in_the_syn(call: Call) -> Trace:
    """TCP Fast Open, which falls back to sending them afterwards."""
    sent = call.client.do("connect_saying", "a", call.pair.ip, call.pair.port, call.text)
    call.server.do("accept", "a")
    return [sent == len(call.text), call.server.do("recv", "a", len(call.text)) == call.text]


# --- ends -----------------------------------------------------------------------------------------------------------


def half_close_and_read_on(call: Call) -> Trace:
    """A few bytes ended by a FIN; the other side reads them to the end, then sends at length and closes."""
    call.open()
    call.one.do("send", "a", call.text)
    call.one.do("shut", "a")
    heard = call.other.do("drain", "a")
    reading = call.one.begin("drain", "a")
    sent = [call.other.do("send_many", "a", call.text, 20_000)[0] for _ in range(3)]
    call.other.do("close", "a")
    count, _, end = reading()
    return [heard[0] == len(call.text), heard[2], count == sum(sent), end]


def half_close_without_a_word(call: Call) -> Trace:
    """A FIN at once; the other side answers all the same."""
    call.open()
    call.one.do("shut", "a")
    heard = call.other.do("drain", "a")
    call.other.do("leave", "a", call.text, 1)
    return [heard[::2], call.one.do("recv", "a", len(call.text) + 1) == f"{call.text}<EOF>"]


def both_half_close_at_once(call: Call) -> Trace:
    """With data under way in both directions: neither loses its tail."""
    call.open()
    for end in (call.client, call.server):
        end.do("send_many", "a", call.text, 1000)
        end.do("shut", "a")
    heard = [end.do("drain", "a")[::2] for end in (call.client, call.server)]
    return [[count == len(call.text) * 1000, how] for count, how in heard]


def immediate_close(call: Call) -> Trace:
    """Nothing was said: an end, no reset."""
    call.open()
    call.one.do("close", "a")
    return call.other.do("drain", "a")[::2]


def send_and_go_before_accept(call: Call) -> Trace:
    """Connect, send, close, before the server has accepted."""
    call.client.do("connect", "a", call.pair.ip, call.pair.port)
    call.client.do("leave", "a", call.text, 1)
    call.server.do("accept", "a")
    return call.server.do("recv", "a", 1000) == f"{call.text}<EOF>"


def write_to_one_that_is_gone(call: Call) -> Trace:
    """After the other's FIN, its kernel's RST."""
    call.open()
    call.one.do("close", "a")
    return [call.other.do("drain", "a")[::2], call.other.do("send_until_refused", "a", call.text)]


def closes_out_of_order(call: Call) -> Trace:
    """Of four that are open at once, each ends for itself."""
    names = ("first", "second", "third", "fourth")
    for name in names:
        call.open(name)
        call.client.do("send", name, call.text)
    call.client.do("close", "third")
    trace = [call.server.do("recv", "third", 1000) == f"{call.text}<EOF>"]
    call.server.do("reset", "first")
    trace.append(call.client.do("recv", "first", 1))
    for name in ("second", "fourth"):
        call.server.do("send", name, name)
        trace.append(call.client.do("recv", name, len(name)))
        trace.append(call.server.do("recv", name, len(call.text)) == call.text)
    return trace


# --- resets ---------------------------------------------------------------------------------------------------------


def reset_before_accept(call: Call) -> Trace:
    """The server's kernel has the connection, the server has not."""
    call.client.do("connect", "a", call.pair.ip, call.pair.port)
    call.server.do("is_called")
    call.client.do("reset", "a")
    return call.server.do("accept_broken", "a")


def reset_without_a_word(call: Call) -> Trace:
    """Accepted, and nothing was said."""
    call.open()
    call.one.do("reset", "a")
    return call.other.do("recv", "a", 1)


def reset_after_words(call: Call) -> Trace:
    """All that was said has been heard."""
    call.open()
    call.client.do("send", "a", call.text)
    heard = call.server.do("recv", "a", len(call.text))
    call.one.do("reset", "a")
    return [heard == call.text, call.other.do("recv", "a", 1)]


def reset_after_the_other_ended(call: Call) -> Trace:
    """A connection that is closed by half can be reset, too."""
    call.open()
    call.other.do("send", "a", call.text)
    call.other.do("shut", "a")
    heard = call.one.do("drain", "a")[2]
    call.one.do("reset", "a")
    return [heard, call.other.do("recv", "a", 1)]


def reset_after_own_end(call: Call) -> Trace:
    """Who has read to the end learns by writing."""
    call.open()
    call.one.do("shut", "a")
    heard = call.other.do("drain", "a")[::2]
    call.one.do("reset", "a")
    return [heard, call.other.do("send_until_refused", "a", call.text)]


def reset_while_the_other_is_stuck(call: Call) -> Trace:
    """It cannot send any more, as nobody reads; the reset sets it free."""
    call.open()
    call.other.do("fill", "a", call.text)
    call.one.do("reset", "a")
    return call.other.do("send_until_refused", "a", call.text)


def close_with_bytes_unread(call: Call) -> Trace:
    """The kernel makes it a reset."""
    call.open()
    call.other.do("send", "a", call.text)
    call.one.do("wait", "a")
    call.one.do("close", "a")
    return call.other.do("recv", "a", 1)


def last_words_before_a_reset(call: Call, times: int = 1) -> Trace:
    """An early answer of a server that does not read the rest of the request."""
    call.open()
    call.other.do("send", "a", "more than anyone reads")
    call.one.do("wait", "a")
    sent = call.one.do("leave", "a", call.text, times)
    count, _, how = call.other.do("drain", "a")
    return [count == sent, how]


def many_last_words_before_a_reset(call: Call) -> Trace:
    """Thirty kilobytes of them: what fits no window at its smallest may be lost to a reset, mesh or none."""
    return last_words_before_a_reset(call, 1000)


def nobody_listens(call: Call) -> Trace:
    """A port at which a service is registered, which is not running: the queue of its listener is gone."""
    call.server.do("stop_listening")
    answer = call.client.do("connect", "a", call.pair.ip, call.pair.port)
    if answer == "connected":
        return ["connected", call.client.do("recv", "a", 1)]
    # The agent's reset may be there before connect() has returned: to the program it is one and the same.
    return ["connected", f"<{answer}>"] if answer == "ECONNRESET" else [answer]


def full_queue(call: Call) -> Trace:
    """The server accepts nobody and its queue is full; the next one's kernel keeps asking, and gets in when there is room."""
    call.server.do("queue", 0)
    call.client.do("connect", "a", call.pair.ip, call.pair.port)
    call.server.do("is_called")
    call.client.do("ask", "b", call.pair.ip, call.pair.port)
    early = call.client.do("is_connected", "b", 0.5)
    call.server.do("queue", 8)
    late = call.client.do("is_connected", "b")
    call.client.do("send", "b", call.text)
    for name in ("a", "b"):
        call.server.do("accept", name)
    return [early, late, call.server.do("recv", "b", len(call.text)) == call.text]


# --- flow -----------------------------------------------------------------------------------------------------------


def single_bytes(call: Call) -> Trace:
    """A write for each byte."""
    call.open()
    text = call.text * 20
    call.one.do("nodelay", "a")
    sent = call.one.do("dribble", "a", text)
    return [sent == len(text), call.other.do("recv", "a", len(text)) == text]


def slow_writer(call: Call) -> Trace:
    """A byte now and then; the other side waits for all of them."""
    call.open()
    reading = call.other.begin("recv", "a", len(call.text))
    call.one.do("trickle", "a", call.text)
    return reading() == call.text


def ping_pong(call: Call) -> Trace:
    """A byte that waits for its echo is not held back."""
    call.open()
    for end in (call.client, call.server):
        end.do("nodelay", "a")
    echo = call.server.begin("echo", "a")
    answer = call.client.do("ping", "a", call.text * 10)
    call.client.do("shut", "a")
    return [answer == call.text * 10, echo()]


def large_write(call: Call) -> Trace:
    """32 MiB in one call arrive whole."""
    call.open()
    reading = call.other.begin("drain", "a")
    sent = call.one.do("send_many", "a", call.text, 32 * MEBIBYTE // len(call.text))
    call.one.do("close", "a")
    return [reading() == [*sent, "EOF"], sent[0] > 31 * MEBIBYTE]


def slow_reader(call: Call) -> Trace:
    """One who stops reading stops the writer, within bounds, and nobody else; later it gets everything, in small reads."""
    call.open()
    sent = call.one.do("fill", "a", call.text)
    call.open("other")
    echo = call.server.begin("echo", "other")
    answer = call.client.do("ping", "other", call.text)
    call.client.do("shut", "other")
    ended = echo()
    call.one.do("close", "a")
    return [sent[0] < 32 * MEBIBYTE, answer == call.text, ended, call.other.do("drain", "a", 1000) == [*sent, "EOF"]]


def little_room(call: Call) -> Trace:
    """Both programs have told their kernels to hold little: the writer stops after as little."""
    call.server.do("receive_little")
    call.open()
    call.client.do("send_little", "a")
    count, digest = call.client.do("fill", "a", call.text)
    call.client.do("close", "a")
    return [count < 64 << 10, call.server.do("drain", "a") == [count, digest, "EOF"]]


# --- out of band ----------------------------------------------------------------------------------------------------


def urgent_byte(call: Call) -> Trace:
    """One byte out of band, between others."""
    call.open()
    call.one.do("send", "a", "ab")
    call.one.do("urge", "a", "!")
    urgent = call.other.do("urgent", "a")
    call.one.do("leave", "a", "cd", 1)
    return [urgent, call.other.do("recv", "a", 10)]


def urgent_byte_inline(call: Call) -> Trace:
    """To one that takes such bytes among the others (SO_OOBINLINE), as RFC 6093 wants it: none is lost."""
    call.open()
    call.other.do("take_urgent_inline", "a")
    call.one.do("send", "a", "ab")
    call.one.do("urge", "a", "!")
    call.one.do("leave", "a", "cd", 1)
    return call.other.do("recv", "a", 10)


_EACH = ("client", "server")

TABLE = {
    behaviour.run.__name__: behaviour
    for behaviour in (
        Behaviour(server_speaks_first, [True, True, "QUIT"]),
        Behaviour(addresses, ["dialled", "called", "caller's address", "caller's port"]),
        Behaviour(segment_size, True, is_about_wire=True),
        Behaviour(first_bytes_in_the_syn, [True, True]),
        Behaviour(half_close_and_read_on, [True, "EOF", True, "EOF"], _EACH),
        Behaviour(half_close_without_a_word, [[0, "EOF"], True], _EACH),
        Behaviour(both_half_close_at_once, [[True, "EOF"], [True, "EOF"]]),
        Behaviour(immediate_close, [0, "EOF"], _EACH),
        Behaviour(send_and_go_before_accept, True),
        Behaviour(write_to_one_that_is_gone, [[0, "EOF"], "EPIPE"], _EACH),
        Behaviour(closes_out_of_order, [True, "<ECONNRESET>", "second", True, "fourth", True]),
        Behaviour(reset_before_accept, "<ECONNRESET>"),
        Behaviour(reset_without_a_word, "<ECONNRESET>", _EACH),
        Behaviour(reset_after_words, [True, "<ECONNRESET>"], _EACH),
        Behaviour(reset_after_the_other_ended, ["EOF", "<ECONNRESET>"], _EACH),
        Behaviour(reset_after_own_end, [[0, "EOF"], "EPIPE"], _EACH),
        Behaviour(reset_while_the_other_is_stuck, "ECONNRESET", _EACH),
        Behaviour(close_with_bytes_unread, "<ECONNRESET>", _EACH),
        Behaviour(last_words_before_a_reset, [True, "ECONNRESET"], _EACH),
        Behaviour(many_last_words_before_a_reset, [True, "ECONNRESET"], _EACH),
        Behaviour(nobody_listens, ["ECONNREFUSED"]),
        Behaviour(full_queue, [False, True, True]),
        Behaviour(single_bytes, [True, True], _EACH),
        Behaviour(slow_writer, True, _EACH),
        Behaviour(ping_pong, [True, "EOF"]),
        Behaviour(large_write, [True, True], _EACH),
        Behaviour(slow_reader, [True, True, "EOF", True], _EACH),
        Behaviour(little_room, [True, True]),
        Behaviour(urgent_byte, ["!", "abcd<EOF>"], _EACH),
        Behaviour(urgent_byte_inline, "ab!cd<EOF>", _EACH),
    )
}
