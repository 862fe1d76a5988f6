"""The way of a connection's requests, one after the other: from a head to a plan, to an instance, and the answer back."""

import functools
from math import inf
from typing import TYPE_CHECKING

from nodeagent import limits
from nodeagent.decide.retry import Failure
from nodeagent.errors import AgentError, RequestTimeout, Side, UpstreamProtocol, UpstreamTimeout
from nodeagent.model.message import CHUNKED, Headers, RequestHead, ResponseHead
from nodeagent.proxy.http.answers import body_of, status_of
from nodeagent.proxy.http.exchange import Exchange, Plan, Role, record
from nodeagent.proxy.http.origin import Origin
from nodeagent.wire.http1 import render
from nodeagent.wire.http1.events import BadMessage

if TYPE_CHECKING:
    from nodeagent.proxy.http.engine import Engine

_SWITCHING = 101


class Conduct:
    """Owned by an engine, which is the client's side. Told by the parser of requests, and by the origin that answers."""

    def __init__(self, client: "Engine", role: Role) -> None:
        self.opaque: Origin | None = None
        """The instance's connection, once another protocol is spoken."""
        self._client = client
        self._role = role
        self._exchange: Exchange | None = None
        self._is_origin_full = False

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered, or not read, yet."""
        return self._exchange is not None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more of what the client sends."""
        return self._is_origin_full or (self._exchange is not None and self._exchange.is_homeless)

    @property
    def origin(self) -> Origin | None:
        """Where answers come from now."""
        return self.opaque or (self._exchange.origin if self._exchange else None)

    def drop(self, error: AgentError) -> None:
        """The client is gone, or cut."""
        exchange, origin = self._exchange, self.origin
        self._exchange = None
        if origin:
            origin.drop()
        if exchange and not exchange.is_answered:
            exchange.fail(error)
            self._done(exchange, is_failure=False)
            self._record(exchange)

    @property
    def idle_s(self) -> float:
        """How long nothing may go on."""
        return self._exchange.idle_s if self._exchange else limits.HTTP_IDLE_S

    @property
    def due(self) -> float:
        """When something of the request is too late, by the loop's clock."""
        return self._exchange.due if self._exchange else inf

    def overdue(self, now: float) -> None:
        """The time of the request, or of this try, is over."""
        exchange = self._exchange
        if exchange is None:
            return
        if now >= exchange.deadline:
            self._give_up(exchange, UpstreamTimeout("the request's time was over (RequestTimeout)"))
            return
        exchange.drop_origin()
        self._failed(exchange, "timeout", UpstreamTimeout("the instance did not begin to answer in time"), started=None)

    def expire(self, *, is_client_late: bool) -> None:
        """Nothing went on for too long. is_client_late: it could have sent more."""
        exchange = self._exchange
        if exchange is None or exchange.is_answered:
            self._client.leave()
        elif exchange.is_read or not is_client_late:
            self._give_up(exchange, UpstreamTimeout("the instance neither took nor said anything for too long"))
        else:
            self._give_up(exchange, RequestTimeout("the client sent nothing of its request for too long"))

    # --- told by the parser of requests ------------------------------------------------------------------------------

    def on_request(self, head: RequestHead) -> None:
        """A request begins."""
        exchange = self._exchange = Exchange(head, self._role.ask(head), self._client.now())
        try:
            exchange.plan = self._role.plan(head, exchange.asked)
        except AgentError as error:
            self._refuse(exchange, error)
        else:
            leg = exchange.plan.trip.leg if exchange.plan.trip else None
            if leg and leg.request_timeout_s:
                exchange.deadline = exchange.began_at + leg.request_timeout_s
            self._go(exchange)

    def on_body(self, data: bytes) -> None:
        """Its body goes on."""
        exchange = self._exchange
        assert exchange
        if exchange.is_answered:
            exchange.unread += len(data)
            if exchange.unread > limits.HTTP_UNREAD_BYTES:
                self._client.leave()
            return
        exchange.sent += len(data)
        exchange.pass_on(render.chunk(data) if exchange.request.length == CHUNKED else data)

    def on_end(self, trailers: Headers) -> None:
        """It is complete."""
        exchange = self._exchange
        assert exchange
        exchange.is_read = True
        if exchange.is_answered:
            self._next(exchange)
        elif exchange.request.length == CHUNKED:
            exchange.pass_on(render.last_chunk(trailers))

    def on_client_end(self) -> None:
        """Nothing comes after this request."""
        if self._exchange:
            self._exchange.pass_end()

    def on_bad(self, error: BadMessage) -> None:
        """What comes is no request, or no end of one: nothing after it can be believed."""
        exchange = self._exchange
        if exchange and exchange.is_answered:
            self._client.leave()
            return
        if exchange is None:
            head = RequestHead(b"", b"", b"", [])
            exchange = self._exchange = Exchange(head, self._role.ask(head), self._client.now())
        exchange.must_close = True
        self._give_up(exchange, error)

    # --- told by the origin -------------------------------------------------------------------------------------------

    def on_answer(self, head: ResponseHead) -> None:
        """An answer's head, or one of those before it."""
        exchange = self._exchange
        assert exchange
        assert exchange.plan
        self._client.now()
        headers = self._role.answer_headers(exchange.plan, head)
        if head.status == _SWITCHING:
            self._switch(exchange, head, headers)
        elif head.is_interim:
            if not exchange.request.is_http10:
                self._client.say(render.response_head(head, headers, 0, keep_alive=True))
        else:
            exchange.status = head.status
            if (wait := self._role.retry_s(exchange, None, started=True)) is not None:
                self._spare(exchange, head)
                self._again(exchange, wait)
                return
            exchange.is_said, exchange.kept = True, None
            exchange.frame_answer(head, is_last=self._client.is_last)
            is_http10 = exchange.request.is_http10
            said = render.response_head(head, headers, exchange.answer_length, keep_alive=not exchange.must_close, to_http10=is_http10)
            self._client.say(said)

    def on_answer_body(self, data: bytes) -> None:
        """A piece of it."""
        exchange = self._exchange
        assert exchange
        self._client.now()
        exchange.received += len(data)
        self._client.say(render.chunk(data) if exchange.answer_length == CHUNKED else data)

    def on_answer_end(self, trailers: Headers) -> None:
        """The answer is complete; the request may still be on its way."""
        exchange = self._exchange
        assert exchange
        if exchange.answer_length == CHUNKED:
            self._client.say(render.last_chunk(trailers))
        self._release(exchange)
        self._answered(exchange)

    def on_answer_bytes(self, data: bytes) -> None:
        """Of the other protocol."""
        self._client.say(data)

    def on_origin_eof(self) -> None:
        """The instance's end of the other protocol."""
        if self._client.peer:
            self._client.peer.finish()
        self._client.close_if_both_ended()

    def on_origin_lost(self, error: AgentError) -> None:
        """Before the answer was complete. What the client has of it already is not to look whole."""
        exchange = self._exchange
        if exchange is None:
            self._client.cut(error)
            return
        origin, exchange.origin = exchange.origin, None
        assert origin
        self.on_origin_drained()
        if exchange.may_again(origin):
            self._go(exchange)
        else:
            self._failed(exchange, "reset", error, started=origin.started_when_lost)

    def on_defect(self, error: Exception) -> None:
        """Of this agent, while it was told something of the above."""
        self._client.defect(error)

    def on_origin_full(self) -> None:
        """It takes no more for now."""
        self._is_origin_full = True
        self._client.watch()

    def on_origin_drained(self) -> None:
        """It does again."""
        self._is_origin_full = False
        self._client.watch()

    # --- the way of an exchange ------------------------------------------------------------------------------------------

    def _go(self, exchange: Exchange) -> None:
        """To a connection that rests, or to a new one."""
        plan = exchange.plan
        assert plan
        if plan.waits_for:
            self._client.wake(self.due)
            self._client.live.spawn(self._turn(exchange, plan))
            return
        exchange.tries += 1
        if plan.trip and (seconds := plan.trip.leg.try_timeout_s):
            exchange.try_until = self._client.now() + seconds
        self._client.wake(min(self.due, self._client.now() + exchange.idle_s))
        origin = self._role.take(plan) if exchange.tries == 1 or exchange.retried else None
        if origin:
            self._begin(exchange, origin)
        else:
            self._client.live.spawn(self._open(exchange))

    async def _turn(self, exchange: Exchange, plan: Plan) -> None:
        """It is decided once more, when there may be room for it."""
        try:
            await self._role.turn(plan)
        except Exception as error:  # noqa: BLE001 - an unexpected error refuses
            self._client.defect(error)
        else:
            self._client.guarded(functools.partial(self._retry, exchange))

    async def _open(self, exchange: Exchange) -> None:
        """For the try of this moment: its time may be over before the connection is there."""
        plan, tried = exchange.plan, exchange.try_number
        assert plan
        try:
            origin = await self._role.open(plan)
        except AgentError as error:
            if exchange is self._exchange and exchange.waits_in(tried):
                self._client.guarded(functools.partial(self._failed, exchange, "connect-failure", error, started=False))
        except Exception as error:  # noqa: BLE001 - an unexpected error refuses
            self._client.defect(error)
        else:
            if not (exchange is self._exchange and exchange.waits_in(tried)):
                self._role.keep(plan, origin)
            elif origin.is_over:
                self._client.guarded(functools.partial(self._failed, exchange, "connect-failure", origin.early_end(), started=False))
            else:
                self._client.guarded(functools.partial(self._begin, exchange, origin))

    def _begin(self, exchange: Exchange, origin: Origin) -> None:
        plan, request = exchange.plan, exchange.request
        assert plan
        exchange.origin = origin
        origin.begin(self, request.method, may_switch=bool(request.upgrade))
        request.target = plan.target
        origin.write(render.request_head(request, plan.headers, request.length))
        for piece in exchange.kept or ():
            origin.write(piece)
        exchange.forget()
        if self._client.has_asked_all:
            exchange.pass_end()
        self._client.watch()

    def _failed(self, exchange: Exchange, failure: Failure, error: AgentError, *, started: bool | None) -> None:
        """This try gave no answer: another one follows where the route has it, else the client is told."""
        if error.side is Side.UPSTREAM and (wait := self._role.retry_s(exchange, failure, started=started)) is not None:
            self._again(exchange, wait)
        else:
            self._give_up(exchange, error)

    def _again(self, exchange: Exchange, wait_s: float) -> None:
        """After a moment, as what failed just now may fail again."""
        self._done(exchange, is_failure=True)
        exchange.status, exchange.try_until = 0, inf
        exchange.retried += 1
        self._client.later(wait_s, lambda: self._retry(exchange))

    def _retry(self, exchange: Exchange) -> None:
        if exchange is not self._exchange or exchange.is_answered:
            return
        assert exchange.plan
        try:
            exchange.plan = self._role.again(exchange.request, exchange.asked, exchange.plan)
        except AgentError as error:
            self._give_up(exchange, error)
        else:
            self._go(exchange)

    def _spare(self, exchange: Exchange, head: ResponseHead) -> None:
        """The client is not told of this answer: its connection serves on where the rest of it is short."""
        origin, exchange.origin = exchange.origin, None
        assert origin
        assert exchange.plan
        if exchange.is_read and head.keep_alive and 0 <= head.length <= limits.HTTP_UNREAD_BYTES:
            origin.waste(functools.partial(self._role.keep, exchange.plan, origin))
        else:
            origin.drop()

    def _done(self, exchange: Exchange, *, is_failure: bool) -> None:
        if exchange.plan:
            self._role.done(exchange.plan, is_failure=is_failure)

    def _refuse(self, exchange: Exchange, error: AgentError) -> None:
        """The agent answers in the instance's place. A body that is too long to be read for nothing ends the connection."""
        request = exchange.request
        exchange.fail(error)
        exchange.status = status_of(error)
        is_long = not 0 <= request.length <= limits.HTTP_UNREAD_BYTES
        exchange.must_close |= not request.keep_alive or request.is_http10 or self._client.is_last
        exchange.must_close |= not exchange.is_read and (is_long or request.expects_continue)
        name = exchange.asked.request_id
        is_to_head = request.method == b"HEAD"
        self._client.say(render.simple_answer(
            exchange.status, body_of(name), [(b"x-request-id", name)], keep_alive=not exchange.must_close, is_to_head=is_to_head,
        ))  # fmt: skip
        self._answered(exchange)

    def _give_up(self, exchange: Exchange, error: AgentError) -> None:
        """Answers, if no answer is begun; else nothing but a reset tells the client that it has not got all."""
        self._done(exchange, is_failure=error.side is Side.UPSTREAM)
        if exchange.is_said:
            self._client.cut(error)
            return
        exchange.drop_origin()
        self._refuse(exchange, error)

    def _release(self, exchange: Exchange) -> None:
        """The origin is done with this answer."""
        origin, exchange.origin = exchange.origin, None
        assert origin
        assert exchange.plan
        self._done(exchange, is_failure=exchange.has_failed)
        if exchange.is_read and exchange.origin_lasts:
            origin.rest()
            self._role.keep(exchange.plan, origin)
        elif exchange.is_read:
            origin.leave()
        else:
            origin.drop()

    def _answered(self, exchange: Exchange) -> None:
        exchange.is_answered, exchange.kept = True, None
        self._record(exchange)
        self.on_origin_drained()
        if exchange.must_close:
            self._client.leave()
        elif exchange.is_read:
            self._next(exchange)

    def _next(self, exchange: Exchange) -> None:
        if exchange is self._exchange:
            self._exchange = None
            self._client.next()

    def _switch(self, exchange: Exchange, head: ResponseHead, headers: Headers) -> None:
        """Both ends speak another protocol from here on, which is relayed as it comes."""
        origin = exchange.origin
        assert origin
        if not exchange.request.upgrade or not exchange.is_read:
            self._give_up(exchange, UpstreamProtocol("the instance answered 101, and nobody had asked for it"))
            return
        exchange.status = _SWITCHING
        self._done(exchange, is_failure=False)
        self._client.say(render.response_head(head, headers, 0, keep_alive=True))
        self.opaque, exchange.origin, exchange.is_answered, self._exchange = origin, None, True, None
        self._record(exchange)
        if early := self._client.switch(exchange):
            origin.write(early)
        if late := origin.become_opaque():
            self._client.say(late)
        if self._client.has_ended:
            origin.end.finish()
        self._client.watch()

    def _record(self, exchange: Exchange) -> None:
        record(exchange, self._role, self._client.live, self._client.relay, self._client.now())
