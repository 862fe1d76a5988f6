"""nodeagent(1) and nodeagent.toml(5), written from click's commands and from the types of the settings.

Not by click-man: it knows no commands that are imported when they are asked for, and cuts what it says of them.
"""

import ast
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec

from nodeagent import __version__, config
from nodeagent.cli.main import main

EXIT_CODES = {
    0: "Well, or allowed.", 1: "Failed, or denied.", 2: "Used in a wrong way.", 3: "The agent or the catalog does not answer.",
    4: "There is no such thing.", 5: "It took too long.",
}  # fmt: skip
FILES = {
    str(config.DEFAULT_PATH): "The settings of this host's agent: nodeagent.toml(5).",
    "/etc/nodeagent/node.token": "This host's token, of mode 0400.",
    "/etc/nodeagent/operator.token": "A management token, on hosts where operators work.",
    "/run/nodeagent/api.sock": "Where the agent answers these commands.",
    "/var/lib/nodeagent-catalog": "The embedded catalog: its data, its CA and its first token.",
    "/var/lib/nodeagent": "What the agent keeps over a restart; keys only where identity.persist says so.",
}
ENVIRONMENT = {
    "NODEAGENT_CONSUL": "Consul's program for `lab up --catalog consul`, where it is not the consul in PATH.",
    "NODEAGENT_SOCKET": "The agent's socket, as with --socket.",
    "NODEAGENT_LAB": "Which lab, as with --name of nodeagent lab.",
    "CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE": "The token for commands that ask the catalog, or a file that holds it.",
    "CONSUL_HTTP_ADDR, CONSUL_HTTP_SSL, CONSUL_CACERT": "The catalog, where nodeagent.toml leaves it open: its address, whether it speaks TLS, its CA.",
    "NO_COLOR": "No colours on a terminal.",
}
LINE_CHARS = 72  # some grow by what must be escaped
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def write_pages(directory: Path, date: str) -> None:
    """Both pages below `directory`, replacing what is there."""
    for section, name, text in ((1, "nodeagent", commands_page(date)), (5, "nodeagent.toml", settings_page(date))):
        path = directory / f"man{section}" / f"{name}.{section}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commands_page(date: str) -> str:
    """nodeagent(1)."""
    root = click.Context(main, info_name="nodeagent", **main.context_settings)
    lines = [
        *_head("NODEAGENT", 1, date, "nodeagent", "a service mesh for plain Linux hosts"),
        ".SH SYNOPSIS", r".B nodeagent", r".I COMMAND", "[ARGUMENTS]", ".SH DESCRIPTION", *_paragraphs(main.help or ""),
        ".SH COMMANDS", *(line for ctx in _leaves(root) for line in _command(ctx)),
        ".SH EXIT STATUS", *_definitions({str(code): text for code, text in EXIT_CODES.items()}),
        ".SH ENVIRONMENT", *_definitions(ENVIRONMENT), ".SH FILES", *_definitions(FILES),
        ".SH SEE ALSO", ".BR nodeagent.toml (5),", ".BR systemctl (1),", ".BR nft (8)",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def settings_page(date: str) -> str:
    """nodeagent.toml(5)."""
    lines = [
        *_head("NODEAGENT.TOML", 5, date, "nodeagent.toml", "settings of a host's nodeagent"),
        ".SH DESCRIPTION", *_paragraphs(
            f"{config.DEFAULT_PATH} is TOML. Keys that are not described here are refused, and so are values out of range, "
            "with file, key and cure.\n\nSettings without a default must be given."
        ),
        *(line for name, kind in config.TABLES.items() for line in _table(name, kind)),
        ".SH SEE ALSO", ".BR nodeagent (1)",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def field_texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What stands under each field of a type in the source."""
    tree = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    texts: dict[str, str] = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            texts[field.target.id] = ast.literal_eval(below.value)
    return texts


def words_of(hint: Any) -> str:
    """A type as an operator reads it."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if get_origin(hint) is Annotated:
        return words_of(arguments[0]) + "".join(_range(meta) for meta in arguments[1:])
    if get_origin(hint) is tuple:
        return f"list of: {words_of(arguments[0])}"
    if arguments:
        return " | ".join(words_of(each) for each in arguments if each is not NoneType)
    return WORDS[hint]


def _range(meta: msgspec.Meta) -> str:
    low, high = meta.ge if meta.ge is not None else meta.gt, meta.le
    above = "above " if meta.gt is not None else ""
    return "" if low is None and high is None else f", {above}{low or 0} to {high}" if high is not None else f", at least {low}"


def _leaves(ctx: click.Context) -> Iterator[click.Context]:
    """Each command, with the words that lead to it: before those that it consists of, or behind them where it does something by itself."""
    if not isinstance(ctx.command, click.Group):
        yield ctx
        return
    if ctx.parent and not ctx.command.invoke_without_command:
        yield ctx  # what holds for all of them
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        assert command is not None
        yield from _leaves(click.Context(command, info_name=name, parent=ctx))
    if ctx.command.invoke_without_command:
        yield ctx


def _command(ctx: click.Context) -> Iterator[str]:
    usage = " ".join(ctx.command.collect_usage_pieces(ctx))
    yield f".SS {_escape(f'{ctx.command_path} {usage}')}"
    yield from _paragraphs(ctx.command.help or "")
    records = [record for param in ctx.command.params if (record := param.get_help_record(ctx))]
    yield from _definitions(dict(records))


def _table(name: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    title = {"workload": "[[workload]]", "service": "[service.NAME]"}.get(name, f"[{name}]")
    yield f".SH {_escape(title)}"
    what = (kind.__doc__ or "").partition(": ")[2]
    yield from _paragraphs(what[:1].upper() + what[1:])
    hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)
    for field in msgspec.structs.fields(kind):
        default = "" if field.required or field.default is None else f" (default: {msgspec.json.encode(field.default).decode()})"
        yield from _definitions({f"{field.name} = {words_of(hints[field.name])}{default}": texts.get(field.name, "")})


def _head(title: str, section: int, date: str, name: str, what: str) -> tuple[str, ...]:
    return (f'.TH {title} {section} "{date}" "nodeagent {__version__}"', ".SH NAME", rf"{name} \- {what}")


def _definitions(rows: dict[str, str]) -> Iterator[str]:
    for term, text in rows.items():
        yield from (".TP", rf"\fB{_escape(term)}\fR")
        yield from _lines(text)


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, map(str.strip, text.replace("\b", "").split("\n\n")))):
        yield from [".PP"] if number else []
        yield from _lines(" ".join(paragraph.split()))


def _lines(text: str) -> Iterator[str]:
    """A line for each sentence, as manual pages have it."""
    for sentence in " ".join(text.split()).replace(". ", ".\n").splitlines():
        yield from map(_escape, wrap(sentence, LINE_CHARS, break_long_words=False, break_on_hyphens=False))


def _escape(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga").replace("…", "...")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(epoch), tz=UTC) if epoch else datetime.now(tz=UTC)
    write_pages(Path(sys.argv[1]), f"{day:%Y-%m-%d}")
