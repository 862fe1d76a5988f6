"""Answers on a terminal: tables for people, aligned text for pipes, JSON for programs."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click
import msgspec

from nodeagent import limits

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True,
    help="Tables are for people and may change; JSON is versioned.",
)  # fmt: skip

headers_option = click.option("--no-headers", is_flag=True, help="Leave out the first line of the table.")

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_KIB = 1024


def show_json(answer: msgspec.Struct | dict[str, object]) -> None:
    """`answer` as indented JSON."""
    click.echo(json.dumps(msgspec.to_builtins(answer), indent=2))


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, no_headers: bool = False, most: int = 0
) -> None:
    """A table: ruled and coloured on a terminal, its cells cut to `most` characters; aligned whole columns elsewhere."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        _show_rich([] if no_headers else headers, [[clip(cell, most) for cell in row] for row in clean])
        return
    for line in align(([] if no_headers else [list(headers)]) + clean):
        click.echo(line)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, columns padded to the same width, two spaces apart."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def clip(text: str, most: int) -> str:
    """`text`, its end replaced by an ellipsis where it is longer than `most` characters; 0: never."""
    return text if not most or len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    """`text` without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


def duration(seconds: float) -> str:
    """Two units at most: `4 s`, `3 min`, `23 h 5 min`, `12 d`."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d"


def size(number: int) -> str:
    """Bytes in the unit in which the number is short: `512 B`, `1.5 KiB`."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIB:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIB
    return f"{value:.1f} TiB"


def instant(unix_seconds: float) -> str:
    """The time in UTC, to the second."""
    return datetime.fromtimestamp(unix_seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S") if unix_seconds else "-"


def now() -> float:
    """Unix seconds."""
    return datetime.now(tz=UTC).timestamp()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """While the body waits for `what`: after LAB_SAY_S standard error says so."""
    timer = threading.Timer(limits.LAB_SAY_S, lambda: click.echo(f"  · still waiting: {printable(what)}", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def counting(total: int, clock: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """What is to be told how many of `total` are done; every LAB_SAY_S standard error says so, of what takes that long."""
    said_at = clock()

    def tell(done: int) -> None:
        nonlocal said_at
        if clock() - said_at >= limits.LAB_SAY_S:
            said_at = clock()
            click.echo(f"  · {done} of {total}", err=True)

    return tell


def warn(text: str) -> None:
    """A line on standard error that says what may be wrong."""
    click.echo(f"warning: {printable(text)}", err=True)


def _show_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - half of a command's start-up time; wanted on a terminal only
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, show_header=bool(headers), header_style="bold", pad_edge=False)
    for header in headers or (rows[0] if rows else ()):
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: an IPv6 address in brackets is not markup
    Console().print(table)
