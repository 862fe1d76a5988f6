"""A connection to an instance, on which requests go one after another."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from nodeagent import limits
from nodeagent.decide.dispatch import Course
from nodeagent.errors import AgentError, PeerLost, Reason, Side, UpstreamProtocol, UpstreamReset
from nodeagent.model.message import Headers, ResponseHead
from nodeagent.proxy.end import End, Watcher
from nodeagent.proxy.ends import StreamEnd, TcpEnd
from nodeagent.wire.http1.events import BadMessage
from nodeagent.wire.http1.parser import CodecName, response_parser
from nodeagent.wire.stream import REFUSED_STREAM

_ESTABLISHED = 1  # Linux, include/net/tcp_states.h


class User(Protocol):
    """Whose request is on it."""

    def on_answer(self, head: ResponseHead) -> None:
        """An answer's head, or one of those before it."""

    def on_answer_body(self, data: bytes) -> None:
        """A piece of its body."""

    def on_answer_end(self, trailers: Headers) -> None:
        """The answer is complete."""

    def on_answer_bytes(self, data: bytes) -> None:
        """What comes once both ends speak another protocol."""

    def on_origin_eof(self) -> None:
        """And its end."""

    def on_origin_lost(self, error: AgentError) -> None:
        """It is gone, or says what is no answer."""

    def on_origin_full(self) -> None:
        """It takes no more for now."""

    def on_origin_drained(self) -> None:
        """It does again."""

    def on_defect(self, error: Exception) -> None:
        """Something of the above went wrong: who knows what is half done."""


class Origin:
    """Owned by whoever uses it, else by a pool. It is the peer of the connection's end, and its relay."""

    def __init__(self, end: End, codec: CodecName) -> None:
        self.end = end
        self.peer: End | None = end
        self.relay: Watcher | None = None
        self.received = 0
        self.is_closed = False
        self.was_lost = False
        self.is_used = False
        """Whether it has carried a request before this one."""
        self.idle_since = asyncio.get_running_loop().time()
        self.has_answered = False
        """Whether a byte has come since the last request began."""
        self.started_when_lost: bool | None = None
        """As `has_started` was, when it was lost."""
        self.course: Course | None = None
        """Whose it is among those that its caller may have."""
        self.is_resting = False
        """Whether it is counted as one that could be given up."""
        self.on_gone: Callable[[], None] = lambda: None
        """Is told once, when it is closed."""
        self._user: User | None = None
        self._parser = response_parser(codec, self)
        self._is_opaque = False
        self._is_ending = False
        self._is_full = False
        self._has_eof = False
        self._trailers: Headers | None = None
        self._taken = 0
        end.peer, end.relay = self, self
        end.start()

    @property
    def is_ready(self) -> bool:
        """Whether another request may go on it, as far as this host's kernel knows. Who would write to a full one is not told again."""
        if self.is_over or self._is_full or self._is_ending:
            return False
        if isinstance(self.end, StreamEnd):
            return not self.end.is_stale()
        return not isinstance(self.end, TcpEnd) or _state(self.end) == _ESTABLISHED

    @property
    def is_over(self) -> bool:
        """Whether nothing comes or goes any more: of one that ended before it had a user nobody was told."""
        return self.is_closed or self.end.is_closed

    def early_end(self) -> AgentError:
        """What to say of that: it was reset, or said something, before a byte of a request went there."""
        return PeerLost("the tunnel was lost") if self.end.was_lost else UpstreamReset("the connection ended as soon as it was there")

    @property
    def has_started(self) -> bool | None:
        """Whether the instance has got anything of the request: False is certain; None: nobody can say.

        Another agent that gives a stream back has begun nothing. Whoever sent a FIN that acknowledges nothing of the request had closed before it came. A reset says nothing: what was
        read may not have been acknowledged yet.
        """
        if self.has_answered:
            return True
        if isinstance(self.end, StreamEnd) and self.end.reset_code == REFUSED_STREAM:
            return False
        if isinstance(self.end, TcpEnd) and self.end.has_ended and self.end.taken() <= self._taken:
            return False
        return None

    @property
    def has_finished(self) -> bool:
        """Whether the instance has ended the other protocol on its side."""
        return self._has_eof or self.is_closed

    def begin(self, user: User, method: bytes, *, may_switch: bool = False) -> None:
        """A request is about to be written."""
        self._user, self.has_answered = user, False
        self._parser.expect(method, may_switch=may_switch)
        if isinstance(self.end, TcpEnd):
            self._taken = self.end.taken()

    def write(self, data: bytes) -> None:
        """A piece of the request."""
        self.end.send(data)

    def end_requests(self) -> None:
        """This request is the last: the instance hears that no more will come."""
        self._is_ending = True
        self.end.finish()

    def rest(self) -> None:
        """The exchange is over: another request may follow, of whomever."""
        self._user, self.is_used = None, True
        self.end.resume()  # whoever read the last answer slowly is not who reads the next one
        self.idle_since = asyncio.get_running_loop().time()
        self._parser.proceed()

    def waste(self, then: Callable[[], None]) -> None:
        """Nobody wants the rest of this answer, or waits for it for long. then: once it has come, and another request may follow."""
        waste = self._user = _Waste(self, then)
        asyncio.get_running_loop().call_later(limits.HTTP_LINGER_S, lambda: self.drop() if self._user is waste else None)

    def become_opaque(self) -> bytes:
        """Both ends speak another protocol from here on; what of it has come already."""
        self._is_opaque = True
        return self._parser.take_rest()

    def leave(self) -> None:
        """No other request will come: closes when the instance does, or soon."""
        self._user = None
        if self.is_over:
            return
        self.end.resume()  # else it would not hear that the instance closes
        self.end.finish()
        asyncio.get_running_loop().call_later(limits.HTTP_LINGER_S, self.drop)

    def drop(self) -> None:
        """Ends it at once: the instance sees a reset."""
        self._user = None
        self.is_closed = True
        self.end.reset()

    # --- as the peer of its end ------------------------------------------------------------------------------------

    def start(self) -> None:
        """It has begun already."""

    def refuse(self, error: AgentError) -> None:
        """Nobody refuses what this agent has opened."""
        del error
        self.drop()

    def send(self, data: bytes) -> None:
        """Bytes from the instance."""
        user = self._user
        if user is None:
            self.drop()  # nobody asked: an answer to no request is believed by no one
            return
        self.has_answered = True
        try:
            if self._is_opaque:
                user.on_answer_bytes(data)
            else:
                self._parser.feed(data)
                self._tell_end()
        except Exception as error:  # noqa: BLE001 - as `_break`
            self._break(user, error)

    def finish(self) -> None:
        """The instance says no more: the end of a body that lasts until then, or it is gone."""
        user = self._user
        self._has_eof = True
        if user is None:
            self.is_closed = True
            self.end.finish()
            return
        try:
            self._finish(user)
        except Exception as error:  # noqa: BLE001 - as `_break`
            self._break(user, error)

    def _finish(self, user: User) -> None:
        if self._is_opaque:
            user.on_origin_eof()
        elif self.has_answered:
            self._parser.eof()
            self._tell_end()
            if self._user:
                self._lose(UpstreamReset("the instance closed the connection before its answer was complete"))
        else:
            self._lose(UpstreamReset("the instance closed the connection without an answer"))

    def reset(self) -> None:
        """As `drop`."""
        self.drop()

    def pause(self) -> None:
        """The instance reads too slowly."""
        self._is_full = True
        if self._user:
            self._user.on_origin_full()

    def resume(self) -> None:
        """It caught up."""
        self._is_full = False
        if self._user:
            self._user.on_origin_drained()

    # --- as the relay of its end -----------------------------------------------------------------------------------

    @property
    def reason(self) -> Reason:
        """What a tunnel's stream is reset with says nothing of an agent: requests end, connections are only given up."""
        return Reason.OK

    @property
    def name(self) -> str:
        """Of no connection that a client opened."""
        return ""

    @property
    def side(self) -> Side:
        """As `reason`."""
        return Side.NONE

    def let_go(self) -> None:
        """As `drop`."""
        self.drop()

    def end_by(self, error: AgentError) -> None:
        """An agent ends it."""
        self._lose(error)

    def end_closed(self, end: End, error: str, *, lost: bool = False) -> None:
        """The connection is gone."""
        del end
        if error or not self._is_opaque:
            why = error or "the connection to the instance was closed"
            self._lose(PeerLost(why) if lost else UpstreamReset(why))
        self.is_closed = True
        gone, self.on_gone = self.on_gone, lambda: None
        gone()

    # --- told by the parser ----------------------------------------------------------------------------------------

    def on_response(self, head: ResponseHead) -> None:
        """An answer begins."""
        if self._user:
            self._user.on_answer(head)

    def on_body(self, data: bytes) -> None:
        """It goes on."""
        if self._user:
            self._user.on_answer_body(data)

    def on_end(self, trailers: Headers) -> None:
        """It is complete: told when the parser has come back, for the next request may be written at once."""
        self._trailers = trailers

    def on_bad(self, error: BadMessage) -> None:
        """What comes is no answer: nothing that follows can be believed."""
        if self._has_eof:
            self._lose(UpstreamReset(f"the instance closed the connection in the middle of its answer: {error}"))
        else:
            self._lose(UpstreamProtocol(f"the instance's answer is no HTTP: {error}"))

    def _tell_end(self) -> None:
        trailers, self._trailers = self._trailers, None
        if trailers is not None and self._user:
            self._user.on_answer_end(trailers)

    def _lose(self, error: AgentError) -> None:
        user, self._user = self._user, None
        started = self.has_started if user else None
        self.is_closed = True
        self.end.reset()
        if user:
            self.started_when_lost = started
            try:
                user.on_origin_lost(error)
            except Exception as defect:  # noqa: BLE001 - as `_break`
                user.on_defect(defect)

    def _break(self, user: User, error: Exception) -> None:
        """An unexpected error ends this request: it came in the turn of a tunnel that has many, and is nothing to them."""
        self.drop()
        user.on_defect(error)


class _Waste:
    """The user of an answer that nobody wants."""

    def __init__(self, origin: Origin, then: Callable[[], None]) -> None:
        self._origin, self._then = origin, then

    def on_answer(self, head: ResponseHead) -> None:
        """It has begun before."""

    def on_answer_body(self, data: bytes) -> None:
        """For nobody."""

    def on_answer_end(self, trailers: Headers) -> None:
        """The connection is free."""
        del trailers
        self._origin.rest()
        self._then()

    def on_answer_bytes(self, data: bytes) -> None:
        """Of no other protocol."""

    def on_origin_eof(self) -> None:
        """As above."""

    def on_origin_lost(self, error: AgentError) -> None:
        """Nobody waits for it."""

    def on_defect(self, error: Exception) -> None:
        """As above."""

    def on_origin_full(self) -> None:
        """Nothing is written."""

    def on_origin_drained(self) -> None:
        """As above."""


def _state(end: TcpEnd) -> int:
    """The kernel's word for how the connection is."""
    state: int = end.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state
