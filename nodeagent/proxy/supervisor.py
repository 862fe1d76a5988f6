"""The worker's end of the channel to the supervisor: prepared sockets, owners of connections, marks, heartbeat, drain."""

import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Callable

from nodeagent import limits
from nodeagent.errors import LimitReached
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion


class SupervisorChannel:
    """Owned by the worker's loop. Loss of the supervisor is told once, through `on_lost`."""

    def __init__(self, sock: socket.socket, units: dict[int, str]) -> None:
        self.on_drain: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_control: Callable[[socket.socket], None] = socket.socket.close
        self._sock = sock
        self._is_lost = False
        self._owes_ready = False
        self._units = units
        self._stock: dict[int, deque[socket.socket]] = {4: deque(), 6: deque()}
        self._coming = {4: 0, 6: 0}
        self._waiting: dict[int, deque[asyncio.Future[socket.socket]]] = {4: deque(), 6: deque()}
        self._questions: dict[int, asyncio.Future[OwnerAnswer]] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def ready(self) -> None:
        """Tells the supervisor that this worker accepts connections; if it cannot be told now, after the next PING."""
        self._owes_ready = not self._send(requests.encode_beat(requests.READY))

    def renew_control(self) -> None:
        """Asks for a new channel to control: the old one broke on this side."""
        self._send(requests.encode_beat(requests.RENEW))

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
        try:
            self._send(requests.encode_question(OwnerQuestion(number, *peer, *listener)))
            async with asyncio.timeout(limits.IDENTIFY_S):
                return await answer
        except TimeoutError:
            return nobody
        finally:
            self._questions.pop(number, None)

    def _send(self, message: bytes) -> bool:
        """Whether it was sent. Messages are few and small; a full socket means a stuck supervisor, which its watchdog ends."""
        try:
            self._sock.send(message)
        except ConnectionError:
            self._lose()
            return False
        except OSError:  # full, or no memory: PING and RENEW come again, questions time out, an exit says DRAINED, the rest is owed
            self._coming = {4: 0, 6: 0}
            return False
        return True

    def _pay(self) -> None:
        """Says what could not be said when it was due."""
        if self._owes_ready:
            self.ready()
        for family, waiting in self._waiting.items():
            if waiting:
                self.ask_sockets(family)

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, requests.MESSAGE_BYTES_MAX, limits.PREPARED_SOCKETS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if data:
            self._handle(data, fds)
        else:
            self._lose()

    def _handle(self, data: bytes, fds: list[int]) -> None:
        kind = data[0]
        if kind == requests.SOCKETS:
            family = requests.decode_family(data)
            self._coming[family] = max(0, self._coming[family] - 1)
            for fd in fds:
                self._hand_out(family, socket.socket(fileno=fd))
            if len(fds) == limits.PREPARED_SOCKETS:
                self.ask_sockets(family)
            else:
                self._loop.call_later(limits.PREPARED_REST_S, self.ask_sockets, family)
        elif kind == requests.OWNER:
            self._answered(requests.decode_answer(data))
        elif kind == requests.PING:
            self._send(requests.encode_beat(requests.PONG, requests.decode_beat(data)))
            self._pay()
        elif kind == requests.UNIT:
            mark, unit = requests.decode_unit(data)
            self._units[mark] = unit
        elif kind == requests.CONTROL and fds:
            self.on_control(socket.socket(fileno=fds[0]))
        elif kind == requests.DRAIN:
            self.on_drain()

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
        self._loop.remove_reader(self._sock.fileno())
        if not self._is_lost:
            self._is_lost = True
            self.on_lost()
