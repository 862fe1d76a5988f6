"""Both our tables in nftables, as one call of `kernel` handles them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Self

from redirect import nft as text
from redirect.errors import RedirectError
from redirect.libnftables import Nft
from redirect.nft_saved import put_back, save_table
from redirect.plan import KEEPER, MAIN, plan
from redirect.settings import Settings
from redirect.tables import Swap, diff_table, find_table_drift, installed_names, leftover_twins, swap_back, try_swap


class NftTables:
    """The table that captures and its keeper. Owned by one call of `kernel`, which closes it."""

    def __init__(self) -> None:
        self.emptied: tuple[str, ...] = ()
        self._nft = Nft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what belongs to libnftables."""
        self._nft.close()

    def is_installed(self) -> bool:
        """Whether there is one of them."""
        return bool({MAIN, KEEPER} & {*installed_names(self._nft)})

    def captures(self) -> bool:
        """Whether the one that captures is there."""
        return MAIN in installed_names(self._nft)

    def judge(self, settings: Settings) -> None:
        """Has nft and the kernel judge the plan.

        Raises:
            RedirectError: they refuse it.
        """
        self._swaps(settings)

    def change(self, settings: Settings, undo: ExitStack) -> Iterator[str]:
        """All tables in one transaction; then those wake up that somebody had put to sleep. `undo` puts all back.

        What somebody else does to the tables meanwhile is undone, too.
        """
        before = tuple(save_table(self._nft, table.name) for table in plan(settings))
        swaps = self._swaps(settings)
        undo.callback(put_back, self._nft, before)
        if swaps:
            self._nft.run("".join(swap.forward for swap in swaps))
            undo.callback(self._try_swap_back, swaps)
        for swap in (swap for swap in swaps if swap.is_asleep):
            self._nft.run(text.render_waking(swap.name))
        self.emptied = tuple(name for swap in swaps for name in swap.emptied)
        yield from (f"table {text.FAMILY} {s.name}: {'installed' if s.is_new else 'rules replaced'}" for s in swaps)

    def find_drift(self, settings: Settings) -> Iterator[str]:
        """How the tables differ from the plan, as sentences."""
        return (sentence for table in plan(settings) for sentence in find_table_drift(self._nft, table))

    def diff(self, settings: Settings) -> Iterator[str]:
        """The lines of a diff from what is installed to the plan."""
        return (line for table in plan(settings) for line in diff_table(self._nft, table))

    def remove_main(self) -> Iterator[str]:
        """Takes away what captures."""
        return self._delete({MAIN} & {*installed_names(self._nft)})

    def remove_rest(self) -> Iterator[str]:
        """Takes away what keeps redirected connections alive."""
        names = installed_names(self._nft)
        return self._delete([*({KEEPER} & {*names}), *leftover_twins(names)])

    def show(self) -> str:
        """The tables with counters and elements."""
        names = (name for name in installed_names(self._nft) if name in (MAIN, KEEPER))
        return "\n".join(self._nft.run(f"list table {text.FAMILY} {name}") for name in names)

    def _swaps(self, settings: Settings) -> tuple[Swap, ...]:
        """What is to be done, after the kernel has agreed to it."""
        swaps = tuple(swap for table in plan(settings) if (swap := try_swap(self._nft, table)))
        for swap in swaps:
            self._nft.check(swap.forward)
        return swaps

    def _try_swap_back(self, swaps: Iterable[Swap]) -> None:
        """The way back that opens no gap and keeps what the agent has put into the sets since."""
        with suppress(RedirectError):  # it does not fit what somebody else has made of the tables: they are made anew then
            for swap in (swap for swap in swaps if swap.is_asleep):
                self._nft.run(text.render_sleeping(swap.name))
            swap_back(self._nft, swaps)

    def _delete(self, names: Iterable[str]) -> Iterator[str]:
        names = tuple(names)
        if names:
            self._nft.run("".join(map(text.render_removal, names)))
        yield from (f"table {text.FAMILY} {name}: removed" for name in names)
