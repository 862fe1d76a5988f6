"""Rules of iptables as values, as text, and compared. Pure."""

import difflib
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from redirect.plan import MAIN
from redirect.rules import Family

TABLES = ("mangle", "filter", "nat")  # in this order they are written: who is exempt, what is refused, what is redirected
AGENTS_CHAIN = f"{MAIN}_agents"
"""Of mangle. What it holds changes while the rules stay."""

Words = dict[str, list[str]]
"""Parameters of a match or target: name -> values, `!` first where it is negated."""


class Line(NamedTuple):
    """One rule; made of what JSON has, as it goes to the helper process and comes back."""

    basics: dict[str, str]
    """protocol, src, dst, in_interface, out_interface, and for a jump into our chains its place where it is not as planned."""
    matches: list[tuple[str, Words]]
    target: str
    options: Words
    is_goto: bool = False


Layout = dict[str, dict[str, list[Line]]]
"""Table -> chain -> rules. Of built-in chains only our jumps, which come first in them."""


class IpSet(NamedTuple):
    """A named set, in the words of ipset."""

    name: str
    kind: str
    family: Family
    timeout_s: int = 0
    counts: bool = False
    """Each element counts the packets that a rule found in it."""


def layout_text(layout: Layout, family: Family) -> list[str]:
    """The rules as `iptables-save` would show them."""
    lines = [f"# IPv{family}"]
    for table, chains in layout.items():
        lines.append(f"*{table}")
        lines += [f"-N {chain}" for chain in chains if is_ours(chain)]
        lines += [line_text(chain, line) for chain, rules in chains.items() for line in rules]
    return lines


_FLAGS = {"protocol": "-p", "src": "-s", "dst": "-d", "in_interface": "-i", "out_interface": "-o", "place": "# at place"}


def line_text(chain: str, line: Line) -> str:
    """One rule as a command of iptables."""
    words = ["-A", chain]
    for key, value in line.basics.items():
        words += ["!"] * value.startswith("!") + [_FLAGS[key], value.removeprefix("!")]
    for name, parameters in line.matches:
        words += ["-m", name, *_parameter_words(parameters)]
    words += ["-g" if line.is_goto else "-j", line.target, *_parameter_words(line.options)]
    return " ".join(words)


def _parameter_words(parameters: Words) -> Iterator[str]:
    for name, values in parameters.items():
        negated = values[:1] == ["!"]
        yield from ["!", f"--{name}"] if negated else [f"--{name}"]
        yield from (shlex.quote(value) for value in values[negated:])


def layout_differences(found: Layout, expected: Layout, family: Family, *, agents: bool = False) -> Iterator[str]:
    """Each difference as a sentence; in what the chain of the agents holds only with `agents`."""
    for table in TABLES:
        have, want = found.get(table, {}), expected.get(table, {})
        for chain in dict.fromkeys((*want, *have)):
            where = f"IPv{family} table {table}, chain {chain}"
            if chain not in have:
                yield f"{where} is missing"
            elif chain not in want:
                yield f"{where} is not ours"
            elif agents or chain != AGENTS_CHAIN:
                yield from _line_differences(where, chain, have[chain], want[chain])


def _line_differences(where: str, chain: str, have: Iterable[Line], want: Iterable[Line]) -> Iterator[str]:
    found, expected = ([line_text(chain, line) for line in lines] for lines in (have, want))
    for line in difflib.ndiff(expected, found):
        if line.startswith(("- ", "+ ")):
            yield f"{where}: {'missing' if line[0] == '-' else 'not ours'}: {line[2:]}"


def is_ours(chain: str) -> bool:
    """Whether the name is one that only we give to chains."""
    return chain.startswith(f"{MAIN}_")
