"""The worker's end of the channel to control: snapshots and keys come in, records and figures go out.

Control may be gone and come back; the worker serves on from what it has. What cannot be sent is dropped and counted:
telling the world never stops traffic.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from nodeagent import limits
from nodeagent.catalog.codec import apply_delta, decode_delta, decode_steps
from nodeagent.errors import FrameError, NoSvid
from nodeagent.proxy.live import Live
from nodeagent.wire.frames import (
    AskConnections,
    Connections,
    DeltaFrame,
    FrameReader,
    HostRead,
    KeysFrame,
    Message,
    Shared,
    SnapshotFrame,
    SvidRefusal,
    WantHost,
    WantSvid,
    WorkerStats,
    encode_frame,
)

_READ_BYTES = 256 * 1024


class ControlChannel:
    """Owned by the worker's loop."""

    def __init__(self, live: Live, stats: Callable[[float], WorkerStats]) -> None:
        self.on_keys: Callable[[], None] = lambda: None
        self.on_detached: Callable[[], None] = lambda: None
        self._live = live
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._followed: socket.socket | None = None
        """The last through which a whole snapshot came."""
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._rows_unsent = 0
        self._is_sent = asyncio.Event()
        self._is_sent.set()
        self._inbox: asyncio.Queue[tuple[socket.socket, Message]] = asyncio.Queue()
        self._asked_at: dict[str, float] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._stats_due = self._loop.time()
        live.first_use.send = self._ask_host
        live.spawn(self._work())
        self._loop.call_soon(self._send_records)
        self._loop.call_soon(self._send_stats)
        self._loop.call_later(limits.RENEW_S, self._renew)

    def attach(self, sock: socket.socket) -> None:
        """Talks through `sock` from now on, which begins with a whole snapshot; a channel that was there before is closed."""
        self._detach()
        self._drop_inbox()
        sock.setblocking(False)
        self._sock, self._reader = sock, FrameReader()
        self._loop.add_reader(sock.fileno(), self._read)

    async def last_words(self) -> None:
        """The records that are left, and figures that say that nothing is open: the worker ends well.

        A control that is busy is waited for, a while.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.FAREWELL_S):
                while self._sock and len(self._live.records):
                    self._send_waiting_records()
                    await self._is_sent.wait()
                self._send(self._stats(0.0))
                await self._is_sent.wait()

    async def ensure_svid(self, service: str) -> None:
        """Returns when this worker holds a certificate for `service`; asks control for one if it does not.

        Raises:
            NoSvid: there is none now, or none came in time.
        """
        if self._live.keys.serial(service):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting.setdefault(service, [])
        waiting.append(waiter)
        try:
            async with asyncio.timeout(limits.SVID_WAIT_S):
                while not waiter.done():
                    self._want(service)
                    await asyncio.wait((waiter,), timeout=limits.SVID_ASK_S)
            waiter.result()
        except TimeoutError:
            raise NoSvid(f"this host has no certificate for {service} and got none in time; see nodeagent certs") from None
        finally:
            waiting.remove(waiter)
            if not waiting:
                self._waiting.pop(service, None)
                self._asked_at.pop(service, None)

    def _want(self, service: str) -> None:
        """Asks control for a certificate, once in a while however many wait: it may be away, or have refused."""
        now = self._loop.time()
        if now - self._asked_at.get(service, -limits.SVID_ASK_S) >= limits.SVID_ASK_S:
            self._asked_at[service] = now
            self._send(WantSvid(service))

    def _ask_host(self, question: WantHost) -> bool:
        """As `_send`, once this very control's snapshot has shown that it is to be asked: an older one knows no such frame."""
        return self._followed is self._sock and self._send(question)

    # --- in ----------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ_BYTES)
            for message in self._reader.feed(data):
                self._inbox.put_nowait((self._sock, message))
        except BlockingIOError:
            return
        except ConnectionError:  # control has ended, and had not read all
            data = b""
        except (OSError, FrameError) as error:
            self._live.report(error)
            data = b""
        if not data:
            self._detach()

    async def _work(self) -> None:
        """Takes messages one after another: a delta builds on the snapshot before it."""
        while True:
            sock, message = await self._inbox.get()
            try:
                await self._take(message)
                if isinstance(message, SnapshotFrame):
                    self._note_followed(sock, message)
            except Exception as error:  # noqa: BLE001 - whatever it was: a fresh channel begins with a whole snapshot
                self._live.report(error)
                if self._sock in (sock, None):  # else a fresh channel is there already
                    self._detach()
                    self._drop_inbox()

    def _note_followed(self, sock: socket.socket, frame: SnapshotFrame) -> None:
        """A whole snapshot of that control is in force: it may be asked, and told what it knows to be told."""
        is_new, self._followed = self._followed is not sock, sock
        if is_new and frame.shares and self._sock is sock:
            self._live.http.sharing.join(self._send)

    async def _take(self, message: Message) -> None:
        match message:
            case SnapshotFrame(body):
                await self._follow_whole(body)
            case DeltaFrame(body):
                self._live.follow(apply_delta(self._live.snapshot, decode_delta(body)))
            case KeysFrame(ring):
                self._live.keys.replace(ring)
                self._live.has_keys.set()
                self._tell_waiters()
                self.on_keys()
            case SvidRefusal(service, why):
                self._refuse_waiters(service, why)
            case HostRead(host, wanted):
                self._live.first_use.note(host, wanted)
            case Shared():
                self._live.http.sharing.hear(message)
            case AskConnections():
                self._send(self._open_connections(message))
            case _:
                self._live.report(FrameError(f"a {type(message).__name__} is nothing for a worker"))

    async def _follow_whole(self, body: bytes) -> None:
        """Decodes a snapshot in steps, so that traffic flows in between, and swaps one reference."""
        steps = decode_steps(body)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                self._live.follow(done.value)
                return
            await asyncio.sleep(0)

    def _tell_waiters(self) -> None:
        for service, waiting in self._waiting.items():
            if self._live.keys.serial(service):
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(None)

    def _refuse_waiters(self, service: str, why: str) -> None:
        """They are told now: to wait for what does not come helps nobody."""
        for waiter in self._waiting.get(service, ()):
            if not waiter.done():
                waiter.set_exception(NoSvid(f"this host has no certificate for {service}: {why}; see nodeagent certs"))
        self._asked_at.pop(service, None)

    # --- out ---------------------------------------------------------------------------------------------------------

    def _send_records(self) -> None:
        self._loop.call_later(limits.RECORDS_S, self._send_records)
        self._send_waiting_records()

    def _send_waiting_records(self) -> None:
        while self._sock and not self._unsent:
            records = self._live.records.take()
            if records is None:
                return
            self._rows_unsent = len(records.rows) + len(records.requests)
            self._send(records)

    def _send_stats(self) -> None:
        lag_s = max(0.0, self._loop.time() - self._stats_due)
        self._stats_due = self._loop.time() + limits.BEAT_S
        self._loop.call_at(self._stats_due, self._send_stats)
        if not self._unsent:
            self._send(self._stats(lag_s))

    def _open_connections(self, asked: AskConnections) -> Connections:
        relays = self._live.relays
        wanted = [relay for relay in [relays.get(asked.id)] if relay] if asked.id else list(relays.values())[-asked.limit :]
        for relay in wanted:
            relay.count()
        return Connections(asked.number, [relay.row for relay in wanted], len(relays))

    def _send(self, message: Message) -> bool:
        """Whether it is on its way."""
        if self._sock is None or len(self._unsent) > limits.CHANNEL_BACKLOG_BYTES:
            return False
        self._unsent += encode_frame(message)
        self._is_sent.clear()
        self._write()
        return self._sock is not None  # what failed to go out has ended the channel, and is lost with it

    def _write(self) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except ConnectionError:  # control has ended; `_read` takes its last words and closes
            self._loop.remove_writer(self._sock.fileno())
            return
        except OSError:
            self._detach()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._write)
        else:
            self._rows_unsent = 0
            self._is_sent.set()
            self._loop.remove_writer(self._sock.fileno())

    def _detach(self) -> None:
        """Closes the socket; what was heard through it still counts: it may be the news that a permit has ended."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._unsent.clear()
        self._is_sent.set()
        self._live.records.lose(self._rows_unsent)
        self._rows_unsent = 0
        self._live.first_use.give_up()
        self._live.http.sharing.leave()

    def _drop_inbox(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()

    def _renew(self) -> None:
        """Without a channel, this worker would serve for ever from what it knows now: asks for one until there is."""
        self._loop.call_later(limits.RENEW_S, self._renew)
        if self._sock is None:
            self.on_detached()
