"""The helper process of the iptables backend: python-iptables for one address family; requests and answers are lines of JSON.

A process of its own, since libxtables keeps its state in globals: after TPROXY of one family it does not find that of the
other, and in some orders it ends the process. Run as `python -m redirect.iptables_helper 4`, as root.

Each table is changed in one commit, with `autocommit` off: on, a refusal of the kernel is swallowed.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redirect.iptables_lines import TABLES, Layout, Line, is_ours
from redirect.rules import Family

_NAMES: dict[Family, Path] = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}
_LOCK_FILE = "/run/xtables.lock"
_LOCK_S = 2.0  # as long as other changes of ours wait for each other
_LOCK_RETRY_S = 0.02
_TOO_NEW = "no such parameter"  # what python-iptables 1.2 says with the libxtables of iptables 1.8.11, whose number is 1.8.9's
_BASICS = ("protocol", "src", "dst", "in_interface", "out_interface")
_ANYTHING = ("ip", "0.0.0.0/0.0.0.0", "::/0")  # what the library says where a rule does not ask
_POINTS = ("PREROUTING", "INPUT", "OUTPUT")
_CURE = 'set intercept.backend = "nft"'
_NOTHING: dict[str, Any] = {"error": "", "found": {}, "expected": {}}


class Refused(Exception):
    """What was asked cannot be done; the message says why, and the cure."""


def main() -> None:
    """Serves until standard input ends."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever started this may have blocked all
    family: Family = 6 if sys.argv[1] == "6" else 4
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libxtables prints what it has to say
    for request in sys.stdin:
        try:
            answer = _serve(json.loads(request), family)
        except Refused as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
            answer = {"error": f"python-iptables: {type(error).__name__}: {error}"}
        try:
            answers.write(json.dumps(_NOTHING | answer) + "\n")
            answers.flush()
        except BrokenPipeError:  # whoever asked was killed meanwhile: nobody is to hear of it, the log neither
            os._exit(1)


def _serve(request: dict[str, Any], family: Family) -> dict[str, Any]:
    iptc = _import()
    wanted = _decoded(request.get("layout", {}))
    with _locked():
        match request["do"]:
            case "check":
                for line in _lines(wanted):
                    _rule(iptc, family, line, without=("set",))  # sets are not there yet
                return {}
            case "read":
                return {"found": _read(iptc, family), "expected": _in_its_words(iptc, family, wanted)}
            case "write":
                _write(iptc, family, wanted)
                return {"found": _read(iptc, family), "expected": _in_its_words(iptc, family, wanted)}
            case other:
                raise Refused(f"request {other!r} is unknown")


def _import() -> Any:
    _be_quick()
    try:
        import iptc  # noqa: PLC0415 - an optional package, which loads libraries and runs ldconfig
    except ImportError as error:
        raise Refused(f"python-iptables cannot be used: {error}; install nodeagent[iptables], or {_CURE}") from error
    except AttributeError as error:  # what becomes of a missing library
        raise Refused(f"libip4tc, libip6tc or libxtables is missing: {error}; apt install iptables, or {_CURE}") from error
    # Asked whether a target is a chain, it would look into all tables, and so make those that nobody has.
    iptc.Rule.tables = iptc.Rule6.tables = (_OwnChains(),)
    return iptc


def _be_quick() -> None:
    """Spares the library what takes it three quarters of its start."""
    modules: dict[str, Any] = sys.modules
    modules["distutils"] = None  # it does without, which is all of setuptools for one function
    os.environ["PATH"] = "/nonexistent"  # it would search its own module by gcc; programs that it needs it knows by their path


class _OwnChains:
    """What the library asks of a table when it meets a target."""

    def is_chain(self, name: str) -> bool:
        """Whether it is a chain: the only ones that our rules lead to are ours."""
        return is_ours(name)


def _decoded(layout: dict[str, Any]) -> Layout:
    return {t: {chain: [Line(*line) for line in lines] for chain, lines in chains.items()} for t, chains in layout.items()}


def _lines(layout: Layout) -> Iterator[Line]:
    return (line for chains in layout.values() for lines in chains.values() for line in lines)


@contextmanager
def _locked() -> Iterator[None]:
    """No iptables command meanwhile: a commit writes the whole table, and would undo what somebody else does."""
    try:
        descriptor = os.open(os.environ.get("XTABLES_LOCKFILE", _LOCK_FILE), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # /run is read-only, and the file is not there: no iptables command has run on this host
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Refused(f"another program has been changing iptables for {_LOCK_S:g} s; see `fuser {_LOCK_FILE}`") from None
            time.sleep(_LOCK_RETRY_S)
        else:
            return


# --- tables to values ----------------------------------------------------------------------------------------------


def _read(iptc: Any, family: Family) -> Layout:
    """Our chains, and the jumps to them. A table that nobody has opened is not looked at: that would make it."""
    found: Layout = {}
    for name in TABLES:
        if name in _NAMES[family].read_text(encoding="ascii").split():
            table = _table(iptc, family, name)
            ours = {c: [_line(rule) for rule in iptc.Chain(table, c).rules] for c in _own_chains(table)}
            jumps = {point: [*_jumps(table, point)] for point in _POINTS if table.is_chain(point)}
            found[name] = {**{point: lines for point, lines in jumps.items() if lines}, **ours}
    return found


def _own_chains(table: Any) -> list[str]:
    return [name for chain in table.chains if is_ours(name := str(chain.name))]


def _jumps(table: Any, point: str) -> Iterator[Line]:
    """Rules of others are not decoded: the library may not know what they are made of."""
    expected = 0
    for place, target in enumerate(_targets(table, point)):
        if is_ours(target):
            yield Line({} if place == expected else {"place": str(place)}, [], target, {})
            expected += 1


def _targets(table: Any, point: str) -> Iterator[str]:
    entry = table.first_rule(point)
    while entry:
        yield (table.get_target(entry) or b"").decode()
        entry = table.next_rule(entry)


def _line(rule: Any) -> Line:
    basics = {name: str(value) for name in _BASICS if (value := getattr(rule, name))}
    basics = {name: value for name, value in basics.items() if value not in _ANYTHING}
    matches = [(str(match.name), match.get_all_parameters()) for match in rule.matches]
    target = rule.target
    options = {} if is_ours(str(target.name)) else target.get_all_parameters()
    return Line(basics, matches, str(target.name), options, bool(target.goto))


def _in_its_words(iptc: Any, family: Family, layout: Layout) -> Layout:
    """The layout as `_read` would give it. What a listing looks like is the library's affair: it is asked, not guessed."""
    return {
        table: {chain: [_line(_rule(iptc, family, line)) for line in lines] for chain, lines in chains.items()}
        for table, chains in layout.items()
    }


# --- values to tables ----------------------------------------------------------------------------------------------


def _write(iptc: Any, family: Family, layout: Layout) -> None:
    """Makes our chains those of the layout, and no others, table by table; the jumps come first in their chains."""
    rules = {
        table: {chain: [_rule(iptc, family, line) for line in lines] for chain, lines in chains.items()}
        for table, chains in layout.items()
    }
    there = _read(iptc, family)
    order = TABLES if any(layout.get("nat", {}).values()) else tuple(reversed(TABLES))  # taken away: no redirection first
    for name in order:
        if rules.get(name) or there.get(name):
            table = _table(iptc, family, name)
            _replace(iptc, table, rules.get(name, {}), family)
            try:
                table.commit()
            except iptc.IPTCError as error:
                raise Refused(f"the kernel refuses table {name} of IPv{family}: {error}") from error


def _replace(iptc: Any, table: Any, chains: dict[str, list[Any]], family: Family) -> None:
    _clear(iptc, table, family)
    ours = _own_chains(table)
    for name in ours:
        if name not in chains:
            table.delete_chain(name)
    for name in chains:
        if is_ours(name) and name not in ours:
            table.create_chain(name)
    for name, rules in chains.items():
        for place, rule in enumerate(rules):
            # Also in our own chains, which are empty, the place is the end.
            iptc.Chain(table, name).insert_rule(rule, place)


def _clear(iptc: Any, table: Any, family: Family) -> None:
    """No jump to our chains, and nothing in them."""
    for point in (point for point in _POINTS if table.is_chain(point)):
        for jump in [*_jumps(table, point)]:
            iptc.Chain(table, point).delete_rule(_rule(iptc, family, jump))
    for name in _own_chains(table):
        iptc.Chain(table, name).flush()


def _rule(iptc: Any, family: Family, line: Line, without: tuple[str, ...] = ()) -> Any:
    try:
        rule = iptc.Rule6() if family == 6 else iptc.Rule()
        for name, value in line.basics.items():
            if name != "place":
                setattr(rule, name, value)
        for name, parameters in line.matches:
            if name not in without:
                _set(rule.create_match(name), parameters)
        _set(rule.create_target(line.target, goto=line.is_goto), line.options)
    except (iptc.XTablesError, iptc.IPTCError, ValueError) as error:
        raise Refused(_explain(str(error))) from error
    return rule


def _set(extension: Any, parameters: dict[str, list[str]]) -> None:
    for name, values in parameters.items():
        extension.set_parameter(name, values or "")


def _explain(error: str) -> str:
    if _TOO_NEW not in error:
        return f"python-iptables: {error}"
    return f"this host's libxtables is too new for python-iptables, as that of iptables 1.8.11 (Debian 13) is ({error}); {_CURE}"


def _table(iptc: Any, family: Family, name: str) -> Any:
    """The table as it is now."""
    table = (iptc.Table6 if family == 6 else iptc.Table)(name, autocommit=False)
    table.autocommit = False
    table.refresh()
    return table


if __name__ == "__main__":
    main()
