"""Our chains in the kernel's iptables and their sets: read, compared with the plan, written, put back."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from redirect import ipset
from redirect.errors import REMOVED, RedirectError
from redirect.iptables import ipsets_of, keeper_of, render_layout
from redirect.iptables_lines import AGENTS_CHAIN, Layout, Line, layout_differences, layout_text
from redirect.iptables_process import Helpers
from redirect.plan import FAMILIES, KEEPER, plan
from redirect.rules import Family, Ruleset
from redirect.settings import Settings
from redirect.xtables_blob import fingerprint

_PLANNED: dict[tuple[int, Family], tuple[Settings, bytes]] = {}
"""Network namespace, family -> of what settings its tables were found to be the plan, and their fingerprint then."""

NOT_ATOMIC = "# Not atomic: each table of each family is written by itself. The kernel judges them only then."


class IptablesTables:
    """The tables of both families. Owned by one call of `kernel`, which closes it."""

    def __init__(self) -> None:
        self.emptied: tuple[str, ...] = ()
        self._helpers = Helpers.shared()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the helper processes."""
        self._helpers.close_unless_shared()

    def is_installed(self) -> bool:
        """Whether there is anything of ours: the sets come before all rules and go after them."""
        return ipset.is_there(KEEPER)

    def captures(self) -> bool:
        """Whether there is more than what keeps redirected connections alive."""
        return any(ipset.is_there(s.name) for s in ipsets_of(_any_plan()) if s.name != KEEPER)

    def judge(self, settings: Settings) -> None:
        """Has the library read the plan.

        Raises:
            RedirectError: it cannot, as where libxtables is too new for it.
        """
        self._helpers.check(self._planned(settings))

    def change(self, settings: Settings, undo: ExitStack) -> Iterator[str]:
        """Installs what differs, family by family; `undo` puts it back."""
        self.emptied = ipset.create_missing(ipsets_of(plan(settings)))
        undo.callback(ipset.destroy, self.emptied)
        for family, (found, expected) in self._helpers.read(self._planned(settings)).items():
            if [*layout_differences(found, expected, family)]:
                wanted = _with_agents(expected, found.get("mangle", {}).get(AGENTS_CHAIN, ()))
                undo.callback(self._helpers.write, {family: found})
                self._helpers.write({family: wanted})
                yield f"iptables of IPv{family}: {'rules replaced' if any(found.values()) else 'installed'}"

    def find_drift(self, settings: Settings) -> Iterator[str]:
        """How rules and sets differ from the plan, as sentences."""
        missing = [s.name for s in ipsets_of(plan(settings)) if not ipset.is_there(s.name)]
        yield from (f"ipset {name} is missing" for name in missing)
        now = {family: fingerprint(family) for family in self._helpers.families}
        namespace = Path("/proc/thread-self/ns/net").stat().st_ino
        if missing or all(_PLANNED.get((namespace, f)) == (settings, now[f]) for f in now):
            return
        for family, (found, expected) in self._helpers.read(self._planned(settings)).items():
            drift = tuple(layout_differences(found, expected, family))
            _PLANNED.pop((namespace, family), None)
            if not drift:
                _PLANNED[namespace, family] = (settings, now[family])
            yield from drift

    def diff(self, settings: Settings) -> Iterator[str]:
        """The lines of a diff from what is installed to the plan, and what to expect of it."""
        planned = self._planned(settings)
        if not self.is_installed():
            lines = [f"+{line}" for family, layout in planned.items() for line in layout_text(layout, family)]
        else:
            lines = [line for family, both in self._helpers.read(planned).items() for line in _diff(*both, family)]
        yield from [NOT_ATOMIC, *lines] if lines else []

    def remove_main(self) -> Iterator[str]:
        """Takes everything away but what keeps redirected connections alive."""
        return self._remove(keeper_of, tuple(s.name for s in ipsets_of(_any_plan()) if s.name != KEEPER))

    def remove_rest(self) -> Iterator[str]:
        """Takes that away, too."""
        return self._remove(lambda _: {}, (KEEPER,))

    def set_agents(self, lines: list[Line]) -> None:
        """The chain that knows the agent holds these rules from now on.

        Raises:
            RedirectError: our chains are not there, or the kernel refused.
        """
        for family, found in self._helpers.read_all().items():
            if AGENTS_CHAIN not in found.get("mangle", {}):
                raise RedirectError(f"iptables of IPv{family} has no chain {AGENTS_CHAIN}: {REMOVED}")
            # Also where they read the same: a cgroup that was made anew is another one under the old path.
            self._helpers.write({family: _with_agents(found, lines)})

    def show(self) -> str:
        """Our chains, and the elements of the sets."""
        text = [line for family, layout in self._helpers.read_all().items() for line in layout_text(layout, family)]
        names = [s.name for s in ipsets_of(_any_plan()) if ipset.is_there(s.name)]
        return "\n".join([*text, *(f"ipset {name}: {' '.join(sorted(ipset.elements_of(name)))}" for name in names)])

    def _planned(self, settings: Settings) -> Mapping[Family, Layout]:
        return {family: render_layout(plan(settings), family) for family in self._helpers.families}

    def _remove(self, keep: Callable[[Layout], Layout], sets: Iterable[str]) -> Iterator[str]:
        for family, found in self._helpers.read_all().items():
            left = keep(found)
            if [*layout_differences(left, found, family)]:
                self._helpers.write({family: left})
                yield f"iptables of IPv{family}: {'rules' if any(left.values()) else 'what kept open connections alive'} removed"
        ipset.destroy_all(sets)


def plan_text(settings: Settings) -> str:
    """The planned rules as `iptables-save` would show them."""
    layouts = {family: render_layout(plan(settings), family) for family in FAMILIES}
    return "\n".join([NOT_ATOMIC, *(line for f, layout in layouts.items() for line in layout_text(layout, f)), ""])


def _any_plan() -> Ruleset:
    """For the names of the sets, which are those of every plan."""
    return plan(Settings(agent_uids=(1,), backend="iptables"))


def _with_agents(layout: Layout, lines: Iterable[Line]) -> Layout:
    return {**layout, "mangle": {**layout["mangle"], AGENTS_CHAIN: [*lines]}}


def _diff(found: Layout, expected: Layout, family: Family) -> Iterator[str]:
    """Chains in the order of the plan, those of others' making at the end; what the chain of the agents holds stays."""
    wanted = _with_agents(expected, found.get("mangle", {}).get(AGENTS_CHAIN, ()))
    there = {
        table: {chain: found[table][chain] for chain in dict.fromkeys((*wanted[table], *found[table])) if chain in found[table]}
        for table in wanted
        if table in found
    }
    texts = (layout_text(there, family), layout_text(wanted, family))
    return difflib.unified_diff(*texts, f"installed/IPv{family}", f"planned/IPv{family}", lineterm="")
