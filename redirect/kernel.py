"""The plan into the kernel, and out of it again: apply, verify, remove, show.

Needs root (CAP_NET_ADMIN) and acts on the network namespace of the calling thread. Every call blocks for some
milliseconds; an event loop calls it in a thread.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redirect import iptables_tables
from redirect import nft as text
from redirect.backend import Tables, installed_backends, open_tables
from redirect.errors import RedirectError
from redirect.iptables_process import shared_helpers
from redirect.plan import plan
from redirect.record import RECORD_PATH, Record, locked_record
from redirect.routing import Entry, add_entry, delete_entry, find_entry_drift, present_entries, wanted_entries
from redirect.settings import Backend, ReturnPath, Settings
from redirect.sockets import Dependents, find_dependents, read_sockets
from redirect.sysctl import SYSCTLS, Sysctl, read_sysctls, unmet, write_sysctl
from redirect.tracked import forget_redirected

__all__ = ["Report", "apply", "plan_text", "preview", "remove", "shared_helpers", "show", "try_agent_port", "verify"]

_DIFFERS = "read back, the kernel differs from the plan"
_UNKNOWN = "so it is not known what is in force: nodeagent intercept apply, or nodeagent intercept remove --now"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, in sentences for an operator."""

    changes: tuple[str, ...] = ()
    """Empty: everything was as asked already."""
    left: tuple[str, ...] = ()
    """What `remove` left in place, and why."""
    emptied: tuple[str, ...] = ()
    """Sets that were made anew: their owner must fill them (`Elements.restore`)."""


def plan_text(settings: Settings) -> str:
    """The planned rules in the words of their backend."""
    if settings.backend == "iptables":
        return iptables_tables.plan_text(settings)
    return "\n".join(text.render_table(table) for table in plan(settings))


def apply(settings: Settings, *, record_path: Path = RECORD_PATH) -> Report:
    """Makes the kernel do what `settings` says, whole or not at all; a second time changes nothing.

    Judged first, then done, then read back and compared; any difference and everything is put back as it was. With nft
    the kernel judges it, and it is done in one transaction; iptables has neither. Sets whose definition stays are not
    touched, so a change of rules opens no gap and loses no element. A new table captures nothing until its sets are
    filled, and refuses until somebody beats.

    Raises:
        RedirectError: what could not be done or differs, and the cure. Nothing has changed then, unless the message says that not
            all could be put back; what somebody else changed of it meanwhile (with iptables: of the return path) is as before, too.
    """
    with locked_record(record_path) as file, open_tables(settings.backend) as tables, _whole_or_not() as undo:
        _refuse_beside(settings.backend)
        tables.judge(settings)
        before = file.read() or _lost_record(settings.return_path, is_installed=tables.is_installed())
        file.write(_next_record(settings, before))
        undo.callback(file.write, before if before != Record() else None)
        changes = [
            *([] if tables.is_installed() else _forget_tracked({before.outbound_port, settings.outbound_port})),
            *_change_entries(settings.return_path, before, undo),
            *_change_sysctls(undo),
            *tables.change(settings, undo),
        ]
        drift = _find_all_drift(tables, settings)
        if drift:
            raise _Differs("; ".join(drift))
    return Report(tuple(changes), emptied=tables.emptied)


def verify(settings: Settings) -> tuple[str, ...]:
    """Each way in which the kernel differs from the plan, as a sentence; none if it does not. Elements are not looked at."""
    with open_tables(settings.backend) as tables:
        return _find_all_drift(tables, settings)


def preview(settings: Settings) -> tuple[str, ...]:
    """What `apply` would change, as the lines of a diff from installed to planned, after the plan has been judged.

    Raises:
        RedirectError: the plan is refused.
    """
    wanted = wanted_entries(settings.return_path)
    present = present_entries(wanted)
    values = read_sysctls()
    with open_tables(settings.backend) as tables:
        _refuse_beside(settings.backend)
        tables.judge(settings)
        lines = [*tables.diff(settings)]
    return (
        *lines,
        *(f"+{entry}" for entry in wanted if entry not in present),
        *(line for s, value in unmet(values) for line in (f"-{s.name} = {value}", f"+{s.name} = {s.wanted}")),
    )


def remove(*, now: bool = False, is_agent_idle: bool = False, record_path: Path = RECORD_PATH) -> Report:
    """Takes the capturing rules away at once, and the rest when nothing depends on it any more; of whichever backend.

    While redirected connections are open, the keeper, the return path and the sysctls stay, and the report says so:
    call again later. With `now` everything goes and those connections break.

    is_agent_idle: an agent that listens will neither put rules back nor make connections that need them.
    """
    with locked_record(record_path) as file, ExitStack() as stack:
        installed = [open_tables(backend) for backend in installed_backends()]
        for tables in installed:
            stack.callback(tables.close)
        record = file.read() or _lost_record(ReturnPath(), is_installed=bool(installed))
        if not installed and record == Record():
            return Report()
        changes = [sentence for tables in installed for sentence in tables.remove_main()]
        left = () if now else tuple(_reasons_to_wait(record, is_agent_idle=is_agent_idle))
        if not left:
            changes += [sentence for tables in installed for sentence in tables.remove_rest()]
            changes += _restore(record)
        file.write(record if left else None)
    return Report(tuple(changes), left=left)


def try_agent_port(*, record_path: Path = RECORD_PATH) -> int | None:
    """The tunnel port on which an agent listens that would put back what is removed; None if there is neither."""
    with locked_record(record_path) as file:
        backends = installed_backends()
        record = file.read() or _lost_record(ReturnPath(), is_installed=bool(backends))
        if not backends and record == Record():
            return None
    return record.tunnel_port if _dependents(record).is_agent_listening else None


def show() -> str:
    """The installed rules and their elements, return path and sysctls; empty if nothing is installed."""
    installed = []
    for backend in installed_backends():
        with open_tables(backend) as tables:
            installed.append(tables.show())
    if not installed:
        return ""
    present = present_entries(wanted_entries(ReturnPath()))
    sysctls = (f"{name} = {value}" for name, value in read_sysctls().items())
    return "\n".join([*installed, *map(str, present), *sysctls, ""])


# --- helpers: one thing each, in the order of apply, then of remove ------------------------------------------------


class _Differs(RedirectError):
    """What was done does not read back as it was asked; the message lists how."""


@contextmanager
def _whole_or_not() -> Iterator[ExitStack]:
    """What the stack holds is undone when the block fails, and the error says whether that went well."""
    with ExitStack() as undo:
        try:
            yield undo
        except RedirectError as error:
            is_drift = isinstance(error, _Differs)
            try:
                undo.close()
            except (OSError, RedirectError) as failure:
                why = f"{_DIFFERS}: {error}" if is_drift else str(error)
                raise RedirectError(f"{why}; not all could be put back: {failure}; {_UNKNOWN}") from error
            if is_drift:
                raise RedirectError(f"{_DIFFERS}, so all was put back: {error}") from error
            raise
        undo.pop_all()


def _refuse_beside(backend: Backend) -> None:
    """Two backends at once would capture what the other has let go."""
    for other in installed_backends():
        if other != backend:
            cure = "set intercept.backend to it, or stop the agent and run `nodeagent intercept remove --now`"
            raise RedirectError(f"rules of the backend {other} are installed; {cure}")


def _lost_record(path: ReturnPath, *, is_installed: bool) -> Record:
    """What an earlier apply must have done if its record is lost; nothing if there was none."""
    if not is_installed:
        return Record()
    return Record(present_entries(wanted_entries(path)), sysctls={s.name: s.kernel_default for s in SYSCTLS})


def _next_record(settings: Settings, before: Record) -> Record:
    """What is ours after this apply: what was ours and stays, and what is not there yet."""
    wanted = wanted_entries(settings.return_path)
    foreign = {*present_entries(wanted)} - {*before.entries}
    changing = {sysctl.name: value for sysctl, value in unmet(read_sysctls())}
    return Record(
        entries=tuple(entry for entry in wanted if entry not in foreign),
        sysctls=changing | dict(before.sysctls),
        outbound_port=settings.outbound_port,
        tunnel_port=settings.tunnel_port,
        upstream_mark=settings.return_path.mark,
    )


def _forget_tracked(ports: set[int]) -> Iterator[str]:
    """While nothing of ours was there, connections may have taken the ports of what was redirected before."""
    try:
        if forgotten := forget_redirected(ports):
            yield f"connection tracking: {forgotten} redirected connections of before, which have ended, forgotten"
    except (OSError, RedirectError) as error:  # no reason to capture nothing
        yield f"connection tracking cannot be asked what it knows of before, so open connections may be reset: {error}"


def _change_entries(path: ReturnPath, before: Record, undo: ExitStack) -> Iterator[str]:
    """Adds what is missing of the return path, and deletes what an earlier apply added for another one."""
    wanted = wanted_entries(path)
    present = present_entries((*wanted, *before.entries))
    for entry in reversed(present):  # undone from the last: routes come before the rules that lead to them
        undo.callback(_make_present, entry)
    for entry in (entry for entry in wanted if entry not in present):
        add_entry(entry)
        undo.callback(_make_absent, entry)
        yield f"{entry}: added"
    for entry in (entry for entry in before.entries if entry in present and entry not in wanted):
        delete_entry(entry)
        yield f"{entry}: removed"


def _make_absent(entry: Entry) -> None:
    """Undoes an addition; another program may have been faster."""
    if present_entries([entry]):
        delete_entry(entry)


def _make_present(entry: Entry) -> None:
    if not present_entries([entry]):
        add_entry(entry)


def _change_sysctls(undo: ExitStack) -> Iterator[str]:
    values = read_sysctls()
    for sysctl in (sysctl for sysctl in SYSCTLS if sysctl.name in values):
        undo.callback(_make_value, sysctl, values[sysctl.name])
    for sysctl, current in unmet(values):
        write_sysctl(sysctl, sysctl.wanted)
        yield f"{sysctl.name}: {current} -> {sysctl.wanted}"


def _make_value(sysctl: Sysctl, value: str) -> None:
    if read_sysctls().get(sysctl.name) != value:
        write_sysctl(sysctl, value)


def _find_all_drift(tables: Tables, settings: Settings) -> tuple[str, ...]:
    return (
        *tables.find_drift(settings),
        *find_entry_drift(wanted_entries(settings.return_path)),
        *(f"{s.name} is {value}, not {s.wanted}: {s.without}" for s, value in unmet(read_sysctls())),
    )


def _reasons_to_wait(record: Record, *, is_agent_idle: bool) -> Iterator[str]:
    """Why the keeper and the return path must stay for now."""
    dependents = _dependents(record)
    if dependents.connections:
        yield f"{dependents.connections} sockets of captured connections are open"
    if dependents.is_agent_listening and not is_agent_idle:
        yield f"an agent listens on port {record.tunnel_port} and may put the rules back: stop it first"


def _dependents(record: Record) -> Dependents:
    return find_dependents(
        read_sockets(), outbound_port=record.outbound_port, tunnel_port=record.tunnel_port, mark=record.upstream_mark
    )


def _restore(record: Record) -> Iterator[str]:
    """Puts back what the record says was there before; policy rules go before the routes that they lead to."""
    present = present_entries(record.entries)
    for entry in reversed([entry for entry in record.entries if entry in present]):
        delete_entry(entry)
        yield f"{entry}: removed"
    values = read_sysctls()
    for sysctl in (sysctl for sysctl in SYSCTLS if sysctl.name in record.sysctls.keys() & values.keys()):
        before = record.sysctls[sysctl.name]
        if values[sysctl.name] != before:
            write_sysctl(sysctl, before)
            yield f"{sysctl.name}: {values[sysctl.name]} -> {before}"
