"""The plan into the kernel, and out of it again: apply, verify, remove, show.

Needs root (CAP_NET_ADMIN) and acts on the network namespace of the calling thread. Every call blocks for some
milliseconds; an event loop calls it in a thread.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redirect import nft as text
from redirect.errors import RedirectError
from redirect.libnftables import Nft
from redirect.plan import KEEPER, MAIN, plan
from redirect.record import RECORD_PATH, Record, locked_record
from redirect.routing import Entry, add_entry, delete_entry, find_entry_drift, present_entries, wanted_entries
from redirect.rules import Table
from redirect.settings import ReturnPath, Settings
from redirect.sockets import Dependents, find_dependents, read_sockets
from redirect.sysctl import SYSCTLS, read_sysctls, unmet, write_sysctl
from redirect.tables import Swap, diff_table, find_table_drift, installed_names, leftover_twins, swap_back, try_swap


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
    """The planned tables as nft would read them."""
    return "\n".join(text.render_table(table) for table in plan(settings))


def apply(settings: Settings, *, record_path: Path = RECORD_PATH) -> Report:
    """Makes the kernel do what `settings` says, whole or not at all; a second time changes nothing.

    Judged by the kernel first, then done in one transaction, then read back and compared; any difference and
    everything is put back as it was. Sets whose definition stays are not touched, so a change of rules opens no gap
    and loses no element. A new table captures nothing until its sets are filled, and refuses until somebody beats.

    Raises:
        RedirectError: what could not be done or differs, and the cure; nothing has changed then.
    """
    with locked_record(record_path) as file, Nft() as nft, ExitStack() as undo:
        swaps = [swap for table in plan(settings) if (swap := _judged_swap(nft, table))]
        before = file.read() or _lost_record(nft, settings.return_path)
        file.write(_next_record(settings, before))
        undo.callback(file.write, before if before != Record() else None)
        changes = [
            *_change_entries(settings.return_path, before, undo),
            *_change_sysctls(undo),
            *_change_tables(nft, swaps, undo),
        ]
        drift = _find_all_drift(nft, settings)
        if drift:
            raise RedirectError(f"read back, the kernel differs from the plan, so all was put back: {'; '.join(drift)}")
        undo.pop_all()
    return Report(tuple(changes), emptied=tuple(name for swap in swaps for name in swap.emptied))


def verify(settings: Settings) -> tuple[str, ...]:
    """Each way in which the kernel differs from the plan, as a sentence; none if it does not. Elements are not looked at."""
    with Nft() as nft:
        return _find_all_drift(nft, settings)


def preview(settings: Settings) -> tuple[str, ...]:
    """What `apply` would change, as the lines of a diff from installed to planned, after the kernel has judged the plan.

    Raises:
        RedirectError: nft or the kernel refuses the plan.
    """
    wanted = wanted_entries(settings.return_path)
    present = present_entries(wanted)
    values = read_sysctls()
    with Nft() as nft:
        for table in plan(settings):
            _judged_swap(nft, table)
        tables = [line for table in plan(settings) for line in diff_table(nft, table)]
    return (
        *tables,
        *(f"+{entry}" for entry in wanted if entry not in present),
        *(line for s, value in unmet(values) for line in (f"-{s.name} = {value}", f"+{s.name} = {s.wanted}")),
    )


def remove(*, now: bool = False, record_path: Path = RECORD_PATH) -> Report:
    """Takes the capturing rules away at once, and the rest when nothing depends on it any more.

    While redirected connections are open, the keeper table, the return path and the sysctls stay, and the report says
    so: call again later. With `now` everything goes and those connections break.
    """
    with locked_record(record_path) as file, Nft() as nft:
        names = installed_names(nft)
        record = file.read() or _lost_record(nft, ReturnPath())
        if not {MAIN, KEEPER} & {*names} and record == Record():
            return Report()
        changes = [*_delete_tables(nft, {MAIN} & {*names})]
        left = () if now else tuple(_reasons_to_wait(record))
        if not left:
            changes += _delete_tables(nft, [*({KEEPER} & {*names}), *leftover_twins(names)])
            changes += _restore(record)
        file.write(record if left else None)
    return Report(tuple(changes), left=left)


def try_agent_port(*, record_path: Path = RECORD_PATH) -> int | None:
    """The tunnel port on which an agent listens that would put back what is removed; None if there is neither."""
    with locked_record(record_path) as file, Nft() as nft:
        record = file.read() or _lost_record(nft, ReturnPath())
        if not {MAIN, KEEPER} & {*installed_names(nft)} and record == Record():
            return None
    return record.tunnel_port if _dependents(record).is_agent_listening else None


def show() -> str:
    """The installed tables with counters and elements, return path and sysctls; empty if nothing is installed."""
    with Nft() as nft:
        tables = [nft.run(f"list table {text.FAMILY} {n}") for n in installed_names(nft) if n in (MAIN, KEEPER)]
    if not tables:
        return ""
    present = present_entries(wanted_entries(ReturnPath()))
    sysctls = (f"{name} = {value}" for name, value in read_sysctls().items())
    return "\n".join([*tables, *map(str, present), *sysctls, ""])


# --- helpers: one thing each, in the order of apply, then of remove ------------------------------------------------


def _judged_swap(nft: Nft, table: Table) -> Swap | None:
    """What is to be done to one table, after the kernel has agreed to it."""
    swap = try_swap(nft, table)
    if swap:
        nft.check(swap.forward)
    return swap


def _lost_record(nft: Nft, path: ReturnPath) -> Record:
    """What an earlier apply must have done if its record is lost; nothing if there was none."""
    if not {MAIN, KEEPER} & {*installed_names(nft)}:
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


def _change_entries(path: ReturnPath, before: Record, undo: ExitStack) -> Iterator[str]:
    """Adds what is missing of the return path, and deletes what an earlier apply added for another one."""
    wanted = wanted_entries(path)
    present = present_entries((*wanted, *before.entries))
    for entry in (entry for entry in wanted if entry not in present):
        add_entry(entry)
        undo.callback(_make_absent, entry)
        yield f"{entry}: added"
    for entry in (entry for entry in before.entries if entry in present and entry not in wanted):
        delete_entry(entry)
        undo.callback(_make_present, entry)
        yield f"{entry}: removed"


def _make_absent(entry: Entry) -> None:
    """Undoes an addition; another program may have been faster."""
    if present_entries([entry]):
        delete_entry(entry)


def _make_present(entry: Entry) -> None:
    if not present_entries([entry]):
        add_entry(entry)


def _change_sysctls(undo: ExitStack) -> Iterator[str]:
    for sysctl, current in unmet(read_sysctls()):
        write_sysctl(sysctl, sysctl.wanted)
        undo.callback(write_sysctl, sysctl, current)
        yield f"{sysctl.name}: {current} -> {sysctl.wanted}"


def _change_tables(nft: Nft, swaps: Iterable[Swap], undo: ExitStack) -> Iterator[str]:
    """All tables in one transaction; then those wake up that somebody had put to sleep."""
    swaps = tuple(swaps)
    if swaps:
        nft.run("".join(swap.forward for swap in swaps))
        undo.callback(swap_back, nft, swaps)
    for swap in (swap for swap in swaps if swap.is_asleep):
        nft.run(text.render_waking(swap.name))
        undo.callback(nft.run, text.render_sleeping(swap.name))
    yield from (f"table {text.FAMILY} {s.name}: {'installed' if s.is_new else 'rules replaced'}" for s in swaps)


def _find_all_drift(nft: Nft, settings: Settings) -> tuple[str, ...]:
    return (
        *(sentence for table in plan(settings) for sentence in find_table_drift(nft, table)),
        *find_entry_drift(wanted_entries(settings.return_path)),
        *(f"{s.name} is {value}, not {s.wanted}: {s.without}" for s, value in unmet(read_sysctls())),
    )


def _reasons_to_wait(record: Record) -> Iterator[str]:
    """Why the keeper and the return path must stay for now."""
    dependents = _dependents(record)
    if dependents.connections:
        yield f"{dependents.connections} sockets of captured connections are open"
    if dependents.is_agent_listening:
        yield f"an agent listens on port {record.tunnel_port} and may put the rules back: stop it first"


def _dependents(record: Record) -> Dependents:
    return find_dependents(
        read_sockets(), outbound_port=record.outbound_port, tunnel_port=record.tunnel_port, mark=record.upstream_mark
    )


def _delete_tables(nft: Nft, names: Iterable[str]) -> Iterator[str]:
    names = tuple(names)
    if names:
        nft.run("".join(map(text.render_removal, names)))
    yield from (f"table {text.FAMILY} {name}: removed" for name in names)


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
