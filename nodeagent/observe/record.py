"""A connection's row as a log line, and the two bounded places where rows wait."""

from collections import deque
from collections.abc import Iterable

import msgspec

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.model.outcome import ConnectionRow, RequestRow
from nodeagent.wire.frames import Records

_ALWAYS = frozenset({"source", "destination", "reason", "side", "path"})
_ALWAYS_OF_REQUEST = frozenset({"source", "destination", "reason", "side", "status", "milliseconds"})
_INSTANTS = frozenset({"opened_at", "closed_at"})


def log_fields(row: ConnectionRow) -> dict[str, object]:
    """The fields of `connection_closed`: those of the row, its instants as `seconds`, and nothing that is blank."""
    fields = msgspec.structs.asdict(row)
    shown = {k: v for k, v in fields.items() if k not in _INSTANTS and (k in _ALWAYS or not (v is False or v in ("", msgspec.UNSET)))}
    shown["seconds"] = round(max(row.closed_at - row.opened_at, 0.0), 6) if row.closed_at else 0.0
    return shown


def is_refusal(row: ConnectionRow) -> bool:
    """Whether something went wrong that an operator asks about: such rows are logged whatever the settings."""
    if row.reason in (Reason.PEER_IDENTITY, Reason.PEER_PROTOCOL):
        return True
    return row.side in (Side.MESH, Side.AGENT) and row.reason is not Reason.DRAINED


def concerns(row: ConnectionRow, service: str) -> bool:
    """Whether the service called or was called; an empty name asks for all."""
    return not service or service in (row.source, row.destination)


def log_line(row: ConnectionRow, at: str) -> bytes:
    """The line of the connection log; at: the time in ISO 8601. The form is that of all our lines."""
    head = {"at": at, "level": "info", "process": "control", "event": "connection_closed"}
    return msgspec.json.encode(head | log_fields(row)) + b"\n"


def is_request_refusal(row: RequestRow) -> bool:
    """Whether the request was refused by an agent, or was none: such rows are logged whatever the settings."""
    return row.side in (Side.MESH, Side.AGENT) or row.reason is Reason.BAD_MESSAGE


def request_fields(row: RequestRow) -> dict[str, object]:
    """The fields of `request_ended`: those of the row, but its instant, and nothing that is blank."""
    fields = msgspec.structs.asdict(row)
    return {k: v for k, v in fields.items() if k != "began_at" and (k in _ALWAYS_OF_REQUEST or v not in ("", 0))}


def request_line(row: RequestRow, at: str) -> bytes:
    """Its line of the log, as `log_line`."""
    return msgspec.json.encode({"at": at, "level": "info", "process": "control", "event": "request_ended"} | request_fields(row)) + b"\n"


class RecordQueue:
    """Rows on their way to control. Owned by one worker; when it is full, new rows are counted and dropped."""

    def __init__(self, limit: int = limits.RECORDS_QUEUED, batch: int = limits.RECORDS_PER_BATCH) -> None:
        self._rows: deque[ConnectionRow] = deque()
        self._requests: deque[RequestRow] = deque()
        self._limit = limit
        self._batch = batch
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._rows) + len(self._requests)

    def append(self, row: ConnectionRow) -> None:
        """Queues a closed row, or counts it as dropped."""
        if len(self._rows) >= self._limit:
            self._dropped += 1
        else:
            self._rows.append(row)

    def append_request(self, row: RequestRow) -> None:
        """The same for a request."""
        if len(self._requests) >= self._limit:
            self._dropped += 1
        else:
            self._requests.append(row)

    def lose(self, rows: int) -> None:
        """Counts rows that were taken, and that nobody will read, as dropped."""
        self._dropped += rows

    def take(self) -> Records | None:
        """The oldest rows, at most a batch, and how many were dropped since the last call; None: nothing to say."""
        if not self and not self._dropped:
            return None
        rows = [self._rows.popleft() for _ in range(min(self._batch, len(self._rows)))]
        requests = [self._requests.popleft() for _ in range(min(self._batch, len(self._requests)))]
        dropped, self._dropped = self._dropped, 0
        return Records(rows, dropped, requests)


class ClosedRing:
    """The connections that ended last. Owned by control."""

    def __init__(self, size: int = limits.CLOSED_KEPT) -> None:
        self._rows: deque[ConnectionRow] = deque(maxlen=size)

    def extend(self, rows: Iterable[ConnectionRow]) -> None:
        """Remembers `rows`, forgetting the oldest."""
        self._rows.extend(rows)

    def newest(self, limit: int, service: str = "") -> tuple[list[ConnectionRow], int]:
        """At most `limit` rows that concern `service`, newest first, and how many there are."""
        found = [row for row in reversed(self._rows) if concerns(row, service)]
        return found[:limit], len(found)
