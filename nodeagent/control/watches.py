"""The watches that run, by the path of what they ask for."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from nodeagent import limits
from nodeagent.control.watch import Apply, Read, Rhythm, Watch


class Make(Protocol):
    """Makes a watch of a path."""

    def __call__(self, path: str, apply: Apply, *, rhythm: Rhythm | None) -> Watch:
        """Of this path; `apply` takes its answers."""
        ...


class Start(Protocol):
    """Begins to follow a path; as Watches.start, in the group that there is."""

    def __call__(self, path: str, apply: Apply, rhythm: Rhythm | None = None, read: Read | None = None) -> None:
        """`apply` takes its answers."""
        ...


class Watches(dict[str, Watch]):
    """Owned by the follower, in whose task group they run."""

    def __init__(self, make: Make, longest: Callable[[], float] = lambda: limits.CONSUL_WAIT_S) -> None:
        """longest: as Watch.longest."""
        super().__init__()
        self._longest = longest
        self._make = make
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def forget(self) -> None:
        """Their group has ended, and they with it."""
        self.clear()
        self._tasks.clear()

    def start(
        self, group: asyncio.TaskGroup, path: str, apply: Apply, rhythm: Rhythm | None = None, read: Read | None = None
    ) -> None:  # fmt: skip
        """Begins one; what runs there already ends. read: how it asks, where it is not always the one path."""
        self.stop(path)
        self[path] = watch = self._make(path, apply, rhythm=rhythm)
        watch.read, watch.longest = read or watch.read, self._longest
        self._tasks[path] = group.create_task(watch.run(), name=path)

    def keep(self, group: asyncio.TaskGroup, path: str, apply: Apply, rhythm: Rhythm, *, is_wanted: bool) -> None:
        """The one of that path runs from now on, as it may already; or none does."""
        if is_wanted and path not in self:
            self.start(group, path, apply, rhythm)
        elif not is_wanted:
            self.stop(path)

    def stop(self, path: str) -> None:
        """Ends the one of that path, if there is one."""
        if self.pop(path, None):
            self._tasks.pop(path).cancel()
