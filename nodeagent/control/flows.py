"""The book of flows: who called whom, how often, when last. It answers what a stricter mode would refuse."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from nodeagent import limits
from nodeagent.control.durable import replace_file
from nodeagent.model.address import parse_address
from nodeagent.model.flow import Flow, FlowCount
from nodeagent.model.names import is_host_name, is_service_name
from nodeagent.model.outcome import ConnectionRow
from nodeagent.observe.log import open_log

_UNIT_CHARS = 255  # systemd, UNIT_NAME_MAX

_log = open_log()


class _Saved(msgspec.Struct, frozen=True):
    """The file."""

    flows: list[tuple[Flow, FlowCount]]
    version: int = 1


class FlowBook:
    """Owned by control. When it is full, the flow that was seen longest ago makes room."""

    def __init__(self, path: Path, now: Callable[[], float], most: int = limits.FLOWS_KEPT) -> None:
        self._path = path
        self._now = now
        self._most = most
        self._counts: dict[Flow, FlowCount] = {}
        """Seen longest ago first."""
        self._clients: Counter[str] = Counter()
        """Clients of clear text that are told apart, by the address that they called."""
        self._is_saved = True
        self.complaint = ""
        """Why the file is not as the book is; empty: it will be."""

    def counts(self, within_s: float = limits.FLOW_AGE_S) -> dict[Flow, FlowCount]:
        """Flows that were seen within so many seconds, the latest last."""
        oldest = self._now() - within_s
        return {flow: count for flow, count in self._counts.items() if count.last_at >= oldest}

    def extend(self, rows: Iterable[ConnectionRow]) -> None:
        """Takes note of connections that policy let pass."""
        for row in rows:
            if flow := flow_of(row):
                self._add(flow, row.opened_at, max(row.opened_at, row.closed_at))

    def shift(self, by_s: float) -> None:
        """The clock was set: what was seen before stands by the new one as long ago as it was."""
        for count in self._counts.values():
            count.first_at += by_s
            count.last_at += by_s
        self._is_saved = self._is_saved and not self._counts

    def restore(self) -> None:
        """Goes on from what was saved; a file that cannot be read is replaced: flows are seen again."""
        try:
            saved = msgspec.msgpack.decode(self._path.read_bytes(), type=_Saved)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _log.error("flows_ignored", path=str(self._path), error=str(error))
            return
        self._counts = dict(saved.flows[-self._most :]) | self._counts
        for count in self._counts.values():  # a clock that was ahead then must not make them the latest for ever
            count.last_at = min(count.last_at, self._now())
            count.first_at = min(count.first_at, count.last_at)
        self._clients = Counter(flow.address for flow in self._counts if flow.client)

    async def keep(self) -> None:
        """Saves what is new now and then, for ever, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(limits.FLOWS_SAVE_S)
                if data := self._unsaved():
                    await asyncio.to_thread(self._write, data)  # a disk that stands still holds up nothing else
        finally:
            if data := self._unsaved():
                self._write(data)

    def _add(self, flow: Flow, began: float, ended: float) -> None:
        if flow.client and flow not in self._counts and self._clients[flow.address] >= limits.FLOW_CLIENTS:
            flow = msgspec.structs.replace(flow, client="")  # and others: many strangers must not push out who is rare
        count = self._counts.pop(flow, None)
        if count is None:
            count = FlowCount(0, began, ended)
            self._clients[flow.address] += bool(flow.client)
        count.times += 1
        count.first_at, count.last_at = min(count.first_at, began), max(count.last_at, ended)
        self._counts[flow] = count
        self._is_saved = False
        if len(self._counts) > self._most:
            gone = next(iter(self._counts))
            del self._counts[gone]
            self._clients[gone.address] -= bool(gone.client)

    def _unsaved(self) -> bytes:
        """What is to be written, the old included, which may only look so by a wrong clock; empty where the file has it already."""
        return b"" if self._is_saved else msgspec.msgpack.encode(_Saved(list(self._counts.items())))

    def _write(self, data: bytes) -> None:
        self._is_saved = True
        try:
            replace_file(self._path, data)
        except OSError as error:
            self._is_saved = False
            _log.error("flows_not_saved", path=str(self._path), error=str(error))
            self.complaint = f"{self._path}: who called whom could not be saved ({error.strerror}): after a restart `enforce` knows less"
        else:
            self.complaint = ""


def flow_of(row: ConnectionRow) -> Flow | None:
    """What the connection is one of; None where no policy asked for it, or refused it, or a worker wrote nonsense."""
    if row.path == "none" or not is_service_name(row.destination) or not (is_service_name(row.source) or not row.source):
        return None
    try:
        client, address = parse_address(row.client), parse_address(row.original_dst)
    except ValueError:
        return None
    is_unknown = not row.source
    return Flow(
        direction=row.direction, source=row.source, destination=row.destination, address=str(address),
        peer=row.peer if is_host_name(row.peer) else "",
        unit=row.unit[:_UNIT_CHARS] if is_unknown else "", uid=row.uid if is_unknown else msgspec.UNSET,
        client=client.ip if row.direction == "plaintext" else "",
    )  # fmt: skip
