"""Sets as a kernel has them, behind the face of libnftables: for what happens when the kernel refuses. Nothing is touched."""

import re
from typing import Self

import pytest

from redirect import elements, kernel
from redirect.errors import RedirectError
from redirect.nft import heading_of
from redirect.plan import plan
from redirect.settings import Settings

SETS = tuple(heading_of(named) for named in plan(Settings(agent_uids=(1,))).main.sets)


class NftSets:
    """The table with its sets. Owned by one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = False
        """Every command that would change elements."""
        self.drift: tuple[str, ...] = ()
        """In the rules."""
        self.bypassed = 0
        """What the counter says."""
        self._sets: dict[str, set[str]] = {heading: set() for heading in SETS}
        monkeypatch.setattr(elements, "Nft", lambda: self)
        monkeypatch.setattr(elements, "read_mount", lambda: "/sys/fs/cgroup")
        monkeypatch.setattr(kernel, "apply", lambda _settings: self._make())
        monkeypatch.setattr(kernel, "verify", lambda _settings: self.drift if self._sets else ("the table is missing",))

    def __getitem__(self, name: str) -> set[str]:
        """The elements of a set."""
        return next(values for heading, values in self._sets.items() if heading.endswith(f" {name}"))

    def delete_table(self) -> None:
        """As `nft delete table`."""
        self._sets = {}

    def run(self, commands: str, *, flags: int = 0) -> str:
        """As libnftables: whole or not at all."""
        if listed := re.fullmatch(r"list ((?:set|map)) inet nodeagent (\S+)", commands):
            heading = f"{listed[1]} {listed[2]}"
            inner = f"elements = {{ {', '.join(self._sets[heading])} }}\n" if self._sets[heading] else ""
            return f"table inet nodeagent {{\n{heading} {{\n{inner}}}\n}}\n"
        if commands.startswith("reset counter "):
            packets, self.bypassed = self.bypassed, 0
            return f"table inet nodeagent {{\n\tcounter bypassed {{\n\t\tpackets {packets} bytes {60 * packets}\n\t}}\n}}\n"
        if self.refuses or not self._sets:
            raise RedirectError("nft: Error: Could not process rule")
        for line in commands.splitlines():
            self._do(line)
        return ""

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, line: str) -> None:
        verb, _, _, _, name, *_ = line.split()
        values = self[name]
        given = line.partition("{")[2].rstrip("} ").split(",") if "{" in line else []
        match verb:
            case "flush":
                values.clear()
            case "add":
                values.update(element.strip() for element in given)
            case "delete":
                values.difference_update(element.strip() for element in given)

    def _make(self) -> kernel.Report:
        emptied = () if self._sets else SETS
        self._sets = self._sets or {heading: set() for heading in SETS}
        self.drift = ()
        return kernel.Report(("table inet nodeagent: installed",), emptied=emptied)
