"""The worker's end of the channel to the supervisor: prepared sockets, owners of connections, marks, heartbeat, drain."""

import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Callable

from nodeagent import limits
from nodeagent.errors import FrameError, LimitReached
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion

Listener = tuple[requests.Kind, requests.Family, socket.socket]


class SupervisorChannel:
    """Owned by the worker's loop. The loss of each supervisor is told through `on_lost`; its lifeline leads to the next."""

    def __init__(self, sock: socket.socket, units: dict[int, str]) -> None:
        self.on_drain: Callable[[int], None] = lambda _: None
        self.on_listen: Callable[[list[Listener]], None] = lambda _: None
        self.on_unfit: Callable[[Exception], None] = lambda _: None
        """There is nothing to listen at, though there should be."""
        self.on_lost: Callable[[], None] = lambda: None
        self.on_control: Callable[[socket.socket], None] = socket.socket.close
        self._sock = sock
        self._lifeline: socket.socket | None = None
        self._is_lost = False
        """Whether nobody is left to speak to, nor will be."""
        self._is_heard = True
        """Whether a supervisor is known to be there."""
        self._owed: dict[int, bytes] = {}
        """What could not be said when it was due, by kind; said after the next PING."""
        self._units = units
        self._stock: dict[int, deque[socket.socket]] = {4: deque(), 6: deque()}
        self._coming = {4: 0, 6: 0}
        self._waiting: dict[int, deque[asyncio.Future[socket.socket]]] = {4: deque(), 6: deque()}
        self._questions: dict[int, asyncio.Future[OwnerAnswer]] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_away_until = 0.0
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Callable[[bytes, list[int]], None]] = {
            requests.SOCKETS: self._take_sockets,
            requests.OWNER: lambda data, _: self._answered(requests.decode_answer(data)),
            requests.PING: self._note_ping,
            requests.UNIT: self._take_unit,
            requests.CONTROL: self._take_control,
            requests.LISTEN: self._take_listeners,
            requests.PAUSE: self._note_pause,
            requests.LIFELINE: self._take_lifeline,
            requests.DRAIN: lambda data, _: self.on_drain(requests.decode_beat(data)),
        }
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def ready(self, *, informed: bool) -> None:
        """Tells the supervisor that this worker could serve, and whether it knows what the others know."""
        self._say(requests.encode_beat(requests.READY, int(informed)))

    def serving(self) -> None:
        """Tells the supervisor that this worker accepts connections."""
        self._say(requests.encode_beat(requests.SERVING))

    def renew_control(self) -> None:
        """Asks for a new channel to control: the old one broke on this side. The next supervisor brings one unasked."""
        if self._is_heard:
            self._send(requests.encode_beat(requests.RENEW))

    def orphaned(self, cut_at: int) -> None:
        """Tells the next supervisor when this worker closes what it carries, by the loop's clock."""
        self._send(requests.encode_beat(requests.ORPHANED, cut_at))

    def drained(self) -> None:
        """Tells the supervisor that the last connection has ended."""
        self._send(requests.encode_beat(requests.DRAINED))

    async def prepared_socket(self, family: int) -> socket.socket:
        """A socket that may bind an address that is not ours. More are asked for before the stock is empty.

        Raises:
            LimitReached: the supervisor sent none in time.
        """
        stock, waiting = self._stock[family], self._waiting[family]
        self.ask_sockets(family)
        if stock and not waiting:
            return stock.popleft()
        waiter: asyncio.Future[socket.socket] = self._loop.create_future()
        waiting.append(waiter)
        try:
            async with asyncio.timeout(limits.PREPARED_WAIT_S):
                return await waiter
        except TimeoutError:
            self._coming[family] = 0
            raise LimitReached("the supervisor sent no socket for a source-preserved connection") from None

    def ask_sockets(self, family: int) -> None:
        """Asks for batches until what is here and on its way covers the next burst."""
        wanted = limits.PREPARED_LOW + len(self._waiting[family]) - len(self._stock[family])
        while self._coming[family] * limits.PREPARED_SOCKETS < min(wanted, limits.PREPARED_MAX):
            if not self._send(requests.encode_family(requests.WANT_SOCKETS, family)):
                return
            self._coming[family] += 1

    async def owner(self, peer: tuple[bytes, int], listener: tuple[bytes, int]) -> OwnerAnswer:
        """Whose a redirected connection is, by conntrack and sock_diag; nobody's if no answer comes in time."""
        nobody = OwnerAnswer(0, -1, "", knows_unit=False)
        if len(self._questions) >= limits.IDENTIFY_PENDING:
            return nobody
        number = next(self._numbers) & 0xFFFFFFFF
        answer: asyncio.Future[OwnerAnswer] = self._loop.create_future()
        self._questions[number] = answer
        deadline = asyncio.timeout(self._patience_s())
        try:
            self._send(requests.encode_question(OwnerQuestion(number, *peer, *listener)))
            async with deadline:
                self._deadlines.add(deadline)
                return await answer
        except TimeoutError:
            return nobody
        finally:
            self._deadlines.discard(deadline)
            self._questions.pop(number, None)

    def _send(self, message: bytes) -> bool:
        """Whether it was sent. Messages are few and small; a full socket means a stuck supervisor, which its watchdog ends."""
        try:
            self._sock.send(message)
        except OSError:
            # Gone: that is told by `_read`, after its last words. Full, or no memory: PING and RENEW come again, questions time out,
            # an exit says DRAINED, the rest is owed.
            self._coming = {4: 0, 6: 0}
            return False
        return True

    def _say(self, message: bytes) -> None:
        """Says what is said once: now, or if that cannot be, after the next PING."""
        self._owed.pop(message[0], None)
        if not self._send(message):
            self._owed[message[0]] = message

    def _patience_s(self) -> float:
        """How long an answer may take: longer while the supervisor replaces itself."""
        return limits.IDENTIFY_S + max(0.0, self._is_away_until - self._loop.time())

    def _note_pause(self, _data: bytes, _fds: list[int]) -> None:
        """Who waits for an answer waits longer: else a reload would make nobodies of callers."""
        self._is_away_until = self._loop.time() + limits.PAUSE_S
        self._wait_on(self._patience_s())

    def _end_pause(self) -> None:
        """What its predecessor had read and not answered is answered by nobody."""
        if self._is_away_until:
            self._is_away_until = 0.0
            self._wait_on(limits.QUIET_S + limits.IDENTIFY_S)

    def _wait_on(self, seconds: float) -> None:
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(self._loop.time() + seconds)

    def _pay(self) -> None:
        """Says what could not be said when it was due."""
        for message in list(self._owed.values()):
            self._say(message)
        for family, waiting in self._waiting.items():
            if waiting:
                self.ask_sockets(family)

    def _read(self) -> None:
        try:
            message = self._receive()
        except BlockingIOError:
            return
        except OSError:
            self._read_rest()
        else:
            self._take(*message)

    def _read_rest(self) -> None:
        """It is gone, and had not read all: its last words come after that error, of which a reader is told once."""
        sock = self._sock
        while sock is self._sock and not self._is_lost:
            try:
                message = self._receive()
            except OSError:
                message = b"", []
            self._take(*message)

    def _receive(self) -> tuple[bytes, list[int]]:
        return socket.recv_fds(self._sock, requests.MESSAGE_BYTES_MAX, limits.PREPARED_SOCKETS)[:2]

    def _take(self, data: bytes, fds: list[int]) -> None:
        if data:
            self._is_heard = True
            self._handle(data, fds)
        else:
            self._lose()

    def _handle(self, data: bytes, fds: list[int]) -> None:
        """Kinds that are not known here are a newer supervisor's, and nothing for this worker."""
        handler = self._handlers.get(data[0])
        if handler:
            handler(data, fds)
        else:
            for fd in fds:
                socket.close(fd)

    def _take_sockets(self, data: bytes, fds: list[int]) -> None:
        family = requests.decode_family(data)
        self._coming[family] = max(0, self._coming[family] - 1)
        for fd in fds:
            self._hand_out(family, socket.socket(fileno=fd))
        if len(fds) == limits.PREPARED_SOCKETS:
            self.ask_sockets(family)
        else:
            self._loop.call_later(limits.PREPARED_REST_S, self.ask_sockets, family)

    def _take_listeners(self, data: bytes, fds: list[int]) -> None:
        try:
            kinds = requests.decode_listen(data)
            listeners = [(*which, socket.socket(fileno=fd)) for which, fd in zip(kinds, fds, strict=True)]
        except (FrameError, OSError, ValueError) as error:  # also where this process had no room for all of them
            self.on_unfit(error)
        else:
            self.on_listen(listeners)

    def _take_unit(self, data: bytes, _fds: list[int]) -> None:
        mark, unit = requests.decode_unit(data)
        self._units[mark] = unit

    def _take_control(self, _data: bytes, fds: list[int]) -> None:
        for fd in fds[:1]:
            self.on_control(socket.socket(fileno=fd))

    def _take_lifeline(self, _data: bytes, fds: list[int]) -> None:
        """It is looked at when the supervisor is gone."""
        for fd in fds[:1]:
            if self._lifeline:
                self._lifeline.close()
            self._lifeline = socket.socket(fileno=fd)

    def _note_ping(self, data: bytes, _fds: list[int]) -> None:
        self._end_pause()
        self._send(requests.encode_beat(requests.PONG, requests.decode_beat(data)))
        self._pay()

    def _hand_out(self, family: int, sock: socket.socket) -> None:
        """To whoever has waited longest and still does, else into the stock."""
        waiting = self._waiting[family]
        while waiting:
            waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_result(sock)
                return
        self._stock[family].append(sock)

    def _answered(self, answer: OwnerAnswer) -> None:
        waiting = self._questions.get(answer.number)
        if waiting and not waiting.done():
            waiting.set_result(answer)

    def close(self) -> None:
        """Gives back the stock of sockets and stops listening."""
        self._loop.remove_reader(self._sock.fileno())
        for stock in self._stock.values():
            while stock:
                stock.popleft().close()

    def _lose(self) -> None:
        """Goes over to the lifeline, if there is one."""
        if self._is_lost:
            return
        self._end_pause()
        self._loop.remove_reader(self._sock.fileno())
        if self._lifeline:
            self._sock.close()
            self._sock, self._lifeline = self._lifeline, None
            self._sock.setblocking(False)
            self._is_heard, self._coming = False, {4: 0, 6: 0}
            self._loop.add_reader(self._sock.fileno(), self._read)
        else:
            self._is_lost = True
        self.on_lost()
