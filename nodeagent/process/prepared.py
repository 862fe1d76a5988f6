"""Prepared sockets for one worker: as many batches as it asks for, made in turns, and none that it does not read."""

import asyncio
import socket

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.channel import WorkerChannel
from nodeagent.process.listeners import make_prepared_socket
from nodeagent.process.seldom import Seldom
from nodeagent.wire import requests

_log = open_log()


class PreparedSockets:
    """Owned by the worker's process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, channel: WorkerChannel) -> None:
        self.asks = {4: 0, 6: 0}
        """Batches that are still to be made, by family: one that has no sockets does not hold up the other."""
        self._loop = loop
        self._number = number
        self._channel = channel
        self._shortages = {family: Seldom(loop.time) for family in self.asks}

    def note_ask(self, data: bytes) -> None:
        """Notes the ask; one batch of each family is made per turn of the loop."""
        family = requests.decode_family(data)
        if self.asks[family] < limits.PREPARED_ASKS:
            self.asks[family] += 1
            if self.asks[family] == 1:
                self._loop.call_soon(self._give_batch, family)

    def go_on(self, asks: dict[int, int]) -> None:
        """What a predecessor was asked for is still to be made."""
        for family, number in asks.items():
            self.asks[family] = number
            self._loop.call_soon(self._give_batch, family)

    def stop(self) -> None:
        """Nobody waits any more."""
        self.asks = dict.fromkeys(self.asks, 0)

    def _give_batch(self, family: int) -> None:
        if not self.asks[family]:
            return
        answer = requests.encode_family(requests.SOCKETS, family)
        if self._channel.has_waiting(answer):  # the worker has not read the last one: this ask waits behind it
            self._loop.call_later(limits.RESEND_S, self._give_batch, family)
            return
        batch = self._make(family)
        is_whole = len(batch) == limits.PREPARED_SOCKETS
        self._channel.send(answer, batch)
        # The ask counts as long as it holds back the next.
        self._loop.call_later(0 if is_whole else limits.PREPARED_AGAIN_S, self._give_next, family)

    def _give_next(self, family: int) -> None:
        if self.asks[family]:
            self.asks[family] -= 1
        self._give_batch(family)

    def _make(self, family: int) -> list[socket.socket]:
        """A batch; fewer when this process runs out of descriptors, so that the worker is not left waiting."""
        batch: list[socket.socket] = []
        try:
            for _ in range(limits.PREPARED_SOCKETS):
                batch.append(make_prepared_socket(family))  # noqa: PERF401 - what was made before a failure is kept
        except OSError as error:
            if self._shortages[family].is_due():
                _log.error("prepared_sockets_failed", worker=self._number, family=family, made=len(batch), error=str(error))
        return batch
