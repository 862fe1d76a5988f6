"""Versions side by side: `versions/VERSION/` each, and the link `current` to the one that runs; switched in one step."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from nodeagent.cli.main import EXIT_NOT_FOUND
from nodeagent.errors import ConfigError
from nodeagent.process.run_dir import find_holder

ROOT = Path("/opt/nodeagent")
_PROGRAM = Path("bin") / "nodeagent"
_LOCK = ".upgrade.lock"
_PROC = Path("/proc")
_PART = re.compile(r"\d+|[a-z]+")


class NotInstalledError(click.ClickException):
    """There is no such version: exit status 4."""

    exit_code = EXIT_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Versions:
    """What is installed below `root`."""

    root: Path
    installed: tuple[str, ...]
    """The oldest first."""
    current: str
    """Empty: the link is not there, or leads elsewhere."""
    previous: str
    """The one that ran before; empty: none is known."""


def read_versions(root: Path = ROOT) -> Versions:
    """What is installed.

    Raises:
        ConfigError: no such layout is there.
    """
    try:
        found = [entry.name for entry in (root / "versions").iterdir() if os.access(entry / _PROGRAM, os.X_OK)]
    except OSError as error:
        raise ConfigError(
            f"{root}/versions cannot be read ({error.strerror}): upgrade is for versions installed side by side there"
        ) from error
    return Versions(root, tuple(sorted(found, key=age_key)), _target(root / "current"), _target(root / "previous"))


def choose(versions: Versions, wanted: str, *, back: bool, running: str = "") -> str:
    """The version to switch to: that which was asked for, the one before, or the newest.

    running: where it is not what starts next, an upgrade was killed half way, and the way back is to it.

    Raises:
        NotInstalledError: there is none.
    """
    is_half_way = versions.current not in ("", running) and running in versions.installed
    before = running if is_half_way else versions.previous
    chosen = before if back else wanted or (versions.installed or ("",))[-1]
    if not chosen:
        raise NotInstalledError("it is not known which version ran before" if back else f"none is in {versions.root}/versions")
    if chosen not in versions.installed:
        there = ", ".join(versions.installed) or "none"
        raise NotInstalledError(f"version {chosen} is not installed in {versions.root}/versions; there: {there}")
    return chosen


def switch(root: Path, name: str, version: str) -> None:
    """Makes the link `name` lead to that version; there is no moment without the link.

    Raises:
        ConfigError: the link cannot be written.
    """
    fresh = root / f".{name}.new"
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("versions") / version)
        fresh.replace(root / name)
    except OSError as error:
        raise ConfigError(f"{root / name} cannot be switched to {version}: {error.strerror}") from error


def forget(root: Path, name: str) -> None:
    """There is no link `name` any more.

    Raises:
        ConfigError: it cannot be removed.
    """
    try:
        (root / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{root / name} cannot be removed: {error.strerror}") from error


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Nobody else switches versions meanwhile. The lock's file stays, and is root's alone: whoever may open it could hold it.

    Raises:
        ConfigError: somebody does, who is named; or the lock cannot be had.
    """
    try:
        descriptor = os.open(root / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"{root / _LOCK} cannot be opened: {error.strerror}; upgrade needs root") from error
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another upgrade is under way{_holder(descriptor)}; nothing was switched") from None
        yield


def _holder(descriptor: int) -> str:
    """Who holds the lock, as far as the kernel tells."""
    try:
        pid = find_holder((_PROC / "locks").read_text(encoding="ascii"), os.fstat(descriptor).st_ino)
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has just ended, or its number means nothing here
        return ""
    return f": process {pid} ({' '.join(words).strip()})"


def age_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions by age: numbers as numbers, and `1.0rc1` before `1.0`."""
    parts = _PART.findall(version.lower())
    return (*((1, int(part), "") if part.isdecimal() else (-1, 0, part) for part in parts), (0, 0, ""))


def _target(link: Path) -> str:
    """The version that a link leads to."""
    try:
        target = link.readlink()
    except OSError:
        return ""
    return target.name if target.parent.name == "versions" else ""
