"""HTTP/1.1 in the place of a connection's upstream end: requests come from the client's end, answers go back to it.

No coroutine but to open a connection to an instance. One exchange at a time: what is pipelined waits in the parser.
"""

import asyncio
from collections.abc import Callable

from nodeagent import limits
from nodeagent.errors import AgentError
from nodeagent.proxy.end import End, Watcher
from nodeagent.proxy.ends import StreamEnd, TcpEnd
from nodeagent.proxy.http.conduct import Conduct
from nodeagent.proxy.http.exchange import Exchange, Role
from nodeagent.proxy.live import Live
from nodeagent.wire.http1.events import BadMessage
from nodeagent.wire.http1.parser import CodecName, request_parser


class Engine:
    """The client's side: what it sends, whether it may send more, and how long it may take. Owned by the worker's loop."""

    def __init__(self, role: Role, live: Live, codec: CodecName) -> None:
        self.peer: End | None = None
        self.relay: Watcher | None = None
        self.received = 0
        self.is_closed = False
        self.was_lost = False
        self.has_ended = False
        """Whether the client has said that it sends no more."""
        self.live = live
        self._role = role
        self._loop = asyncio.get_running_loop()
        self._conduct = Conduct(self, role)
        self._parser = request_parser(codec, self._conduct)
        self._is_telling = False
        self._is_next_due = False
        self._is_paused = False
        self._is_full = False
        self._timer: asyncio.TimerHandle | None = None
        self._seen_at = self._loop.time()
        self._head_at = 0.0
        """Since when a head has not been complete; 0: none is begun."""

    # --- as an end: what the client's end and the relay ask ----------------------------------------------------------

    def start(self) -> None:
        """The client is there."""
        self._arm(limits.HTTP_IDLE_S)

    def refuse(self, error: AgentError) -> None:
        """As `reset`: upstream ends are not refused."""
        del error
        self.reset()

    def send(self, data: bytes) -> None:
        """Bytes from the client. What comes after the last answer is for nobody."""
        if self.is_closed:
            return
        self._seen_at = self._loop.time()
        if self._conduct.opaque:
            self._conduct.opaque.write(data)
            return
        self._tell(lambda: self._parser.feed(data))
        self._note_head()

    def finish(self) -> None:
        """The client sends no more: what it has asked is answered, then it ends."""
        if self.is_closed:
            return
        self.has_ended = True
        if self._conduct.opaque:
            self._conduct.opaque.end.finish()
            self.close_if_both_ended()
        else:
            self._tell(self._parser.eof)

    def reset(self) -> None:
        """The connection is over, whoever ended it: an instance that works for it is told."""
        if not self.is_closed:
            self._end()
            self._conduct.drop(_why_cut(self.relay))

    def pause(self) -> None:
        """The client reads too slowly: nor is its next request answered before it has read on."""
        self._is_full = True
        if origin := self._conduct.origin:
            origin.end.pause()

    def resume(self) -> None:
        """It caught up."""
        self._is_full = False
        if origin := self._conduct.origin:
            origin.end.resume()
        if self.peer and not self.peer.is_closed:  # one that was lost caught up with nothing, and asks nothing more
            self._go_on()

    # --- asked by the conduct of its requests ------------------------------------------------------------------------

    def now(self) -> float:
        """By the loop's clock; something went on."""
        self._seen_at = self._loop.time()
        return self._seen_at

    @property
    def is_last(self) -> bool:
        """Whether the answer to come says that it is the last one."""
        return self.live.http.is_draining or self.has_asked_all

    @property
    def has_asked_all(self) -> bool:
        """Whether no request follows the one that is read."""
        return self.has_ended and not self._parser.buffered

    def say(self, data: bytes) -> None:
        """To the client."""
        self.received += len(data)
        if self.peer and not self.is_closed:
            self.peer.send(data)

    def next(self) -> None:
        """An exchange is over: the next request may be told."""
        self._is_next_due = True
        self._go_on()

    def watch(self) -> None:
        """Reads from the client while what it sends has somewhere to go."""
        conduct = self._conduct
        is_next_held = self._parser.buffered > 0 and (conduct.is_busy or self._is_next_due)
        must_pause = not self.is_closed and (conduct.is_full or is_next_held)
        if must_pause != self._is_paused and self.peer:
            self._is_paused = must_pause
            if must_pause:
                self.peer.pause()
            else:
                self.peer.resume()

    def leave(self) -> None:
        """Ends the connection after what was said; what the client still sends is thrown away."""
        peer, relay = self.peer, self.relay
        if self.is_closed or not peer or not relay:
            return
        self._end()
        self.watch()
        peer.finish()
        self._wait_for_reader(_taken(peer))
        relay.end_closed(self, "")

    def cut(self, error: AgentError) -> None:
        """Ends it so that what the client has got does not look whole."""
        if self.relay:
            self.relay.end_by(error)

    def wake(self, at: float) -> None:
        """Something is due then, by the loop's clock: sooner, maybe, than the timer looks."""
        if self._timer and at < self._timer.when():
            self._arm(max(at - self._loop.time(), 0.0))

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Does it after that time, unless the connection has ended."""
        self._loop.call_later(seconds, lambda: None if self.is_closed else self.guarded(work))

    def switch(self, exchange: Exchange) -> bytes:
        """Another protocol is spoken from here on, for as long as its request may begin, and idleness is its own: what of it has come."""
        self._disarm()
        if exchange.plan and exchange.plan.entrance:
            self.live.http.switch(self, exchange.plan.entrance.lasting(exchange.request), self.live.snapshot)
        return self._parser.take_rest()

    def close_if_both_ended(self) -> None:
        """Of another protocol."""
        origin = self._conduct.opaque
        if origin and self.has_ended and origin.has_finished and not self.is_closed and self.relay:
            self._end()
            self.relay.end_closed(self, "")

    def guarded(self, work: Callable[[], None]) -> None:
        """An unexpected error ends the connection: who knows what is half done."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as above
            self.defect(error)

    def defect(self, error: Exception) -> None:
        """One of this agent."""
        self.live.report(error)
        self.cut(AgentError(f"a defect of this agent: {type(error).__name__}: {error}"))

    # --- what is told, and when ------------------------------------------------------------------------------------------

    def _tell(self, work: Callable[[], None]) -> None:
        self._is_telling = True
        self.guarded(work)
        self._is_telling = False
        self._go_on()

    def _go_on(self) -> None:
        """The next request, once the one before is answered. In a loop: a thousand that are refused are not a thousand calls deep."""
        if self._is_telling:
            return
        self._is_telling = True
        while self._is_next_due and not self._is_full and not self.is_closed:
            self._is_next_due = False
            self.guarded(self._parser.proceed)
        self._is_telling = False
        if self.has_asked_all:
            self.guarded(self._conduct.on_client_end)
        if self.has_ended and not self._is_next_due and not self._conduct.is_busy and not self._conduct.opaque:
            self.leave()
        self.watch()

    def _wait_for_reader(self, taken: int) -> None:
        self._timer = self._loop.call_later(limits.HTTP_LINGER_S, self._hang_up, taken)

    def _hang_up(self, before: int) -> None:
        """It had time to read the last answer, and does not close. Who reads slowly gets all the time it needs. before: what it had taken."""
        if not self.relay or not self.peer or self.peer.is_closed:
            return
        taken = _taken(self.peer)
        if taken > before:
            self._wait_for_reader(taken)
        else:
            self.relay.let_go()

    def _end(self) -> None:
        self.is_closed = True
        self._disarm()
        self.live.http.switched.pop(self, None)
        self._role.leave()

    # --- time ------------------------------------------------------------------------------------------------------------

    def _note_head(self) -> None:
        """A head that has begun is to be complete soon; one that waits here for its turn is nobody's delay."""
        if self._conduct.is_busy or self._is_next_due or self._conduct.opaque or self._parser.is_idle:
            self._head_at = 0.0
        elif not self._head_at and not self.is_closed:
            self._head_at = self._seen_at
            self._arm(limits.HTTP_HEAD_S)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, self._look)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Whether the time of what is waited for is over. What went on meanwhile did not touch the timer."""
        idle_at = self._head_at + limits.HTTP_HEAD_S if self._head_at else self._seen_at + self._conduct.idle_s
        now = self._loop.time()
        left = min(idle_at, self._conduct.due) - now
        self._arm(max(left, 0.0) or limits.HTTP_IDLE_S)
        if left > 0:
            return
        if now >= self._conduct.due:
            self.guarded(lambda: self._conduct.overdue(now))
        elif self._head_at:
            self._conduct.on_bad(BadMessage("a request's head did not come in time", status=408))
        elif self._conduct.is_busy:
            self._conduct.expire(is_client_late=not self._is_paused)
        else:
            self.leave()


def _taken(client: End) -> int:
    """Bytes of what was said that have reached it, as far as is known."""
    return client.taken() if isinstance(client, TcpEnd | StreamEnd) else 0


def _why_cut(relay: Watcher | None) -> AgentError:
    """What the connection's row says, as the error of the request that it ended."""
    error = AgentError("the connection ended before the answer was complete")
    if relay:
        error.reason, error.side = relay.reason, relay.side
    return error
