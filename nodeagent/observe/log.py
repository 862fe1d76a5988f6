"""Structured log lines: one JSON object a line, to standard error, for journald."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Protocol, cast

import msgspec
import structlog

Log = structlog.typing.FilteringBoundLogger


class Stream(Protocol):
    """What takes lines."""

    def write(self, line: bytes, /) -> object:
        """Takes one."""

    def flush(self) -> None:
        """Sees to it that it is on its way."""


def configure_log(process: str, level: str = "info", stream: Stream | None = None) -> None:
    """Sets up the log of this process, called `process` in each line; `level` as in the configuration."""

    def name_process(_log: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            name_process,
            structlog.processors.format_exc_info,
            _first_things_first,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", stream or sys.stderr.buffer)),
        cache_logger_on_first_use=False,
    )


def open_log() -> Log:
    """A logger; events are fixed lower_snake words, everything else is a field."""
    return cast("Log", structlog.get_logger())


def _first_things_first(_log: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The same event, with what a reader looks for at the start of the line."""
    head = {key: event.pop(key) for key in ("at", "level", "process", "event") if key in event}
    return {**head, **event}


def _to_json(event: object, **_options: object) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)
