"""From what the catalog said to what is in force: compile, hand out, save."""

import asyncio
import gc
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.compilation import Compilation, compilation_steps
from nodeagent.catalog.concern import concerns_host
from nodeagent.catalog.diff import Delta, diff, is_empty
from nodeagent.catalog.state import CatalogState
from nodeagent.config import Config
from nodeagent.control.last_good import LastGood, SpoiledError, read_last_good, write_last_good
from nodeagent.control.saved_capture import save_capture
from nodeagent.errors import CatalogError
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_log = open_log()


class News(NamedTuple):
    """What comes into force."""

    snapshot: Snapshot
    delta: Delta | None
    """From the snapshot before; None: there was none."""
    concerns_host: bool
    """Whether what is captured here, or who speaks from here, may differ."""


class Publisher:
    """The snapshot in force. Owned by control."""

    is_behind = False
    """A defect of ours kept the last change out of force: it is worth another try."""

    def __init__(
        self, config: Config, metrics: Metrics, hand_out: Callable[[News], None], now: Callable[[], float]
    ) -> None:  # fmt: skip
        self.snapshot: Snapshot | None = None
        self.source = "none"
        """`catalog`, `saved` (on disk, from before this process started) or `none`."""
        self.heard_at = 0.0
        """Unix seconds at which the catalog said what is in force."""
        self.errors: dict[str, str] = {}
        """What went wrong, by step: `compile`, `save`, `saved`."""
        self.notes: tuple[str, ...] = ()
        self.indexes: Callable[[], dict[str, int]] = dict
        """Gives the catalog's, which are saved with what it said."""
        self._config = config
        self._metrics = metrics
        self._hand_out = hand_out
        self._now = now
        self._path = Path(config.admin.state_dir) / "snapshot"
        self._generation = 0
        self._compiled: tuple[CatalogState, str] | None = None
        self._compilation: Compilation | None = None
        """Of the snapshot in force; None: the next one is compiled whole."""
        self._turns = 0
        self._capture: Snapshot | None = None
        """The last in which what is captured may differ."""
        self._captured: tuple[Snapshot, tuple[str, ...]] | None = None
        """What is saved of that, and of the catalog."""
        self._unsaved: LastGood | None = None
        self._saved: LastGood | None = None
        self._writing: asyncio.Task[None] | None = None
        self._to_save = asyncio.Event()
        self._catalog: tuple[str, ...] = ()

    def restore(self) -> LastGood | None:
        """Puts into force what was saved, if anything was."""
        try:
            saved = read_last_good(self._path)
            if saved:
                self._generation = saved.generation - 1
                _run(self._enforce_steps(saved.state, saved.trust_domain, saved.saved_at, "saved"))
        except (SpoiledError, CatalogError, OSError) as error:
            self.errors["save" if isinstance(error, OSError) else "saved"] = str(error)  # it is true until one can be saved
            _log.error("saved_snapshot_ignored", error=str(error))
            return None
        return saved

    def publish(self, state: CatalogState, trust_domain: str) -> None:
        """As `publish_steps`, at once."""
        _run(self.publish_steps(state, trust_domain))

    def publish_steps(self, state: CatalogState, trust_domain: str) -> Generator[None, None, None]:
        """Puts into force what the catalog says; what does not compile changes nothing. A step is a few milliseconds."""
        now, before = self._now(), self._compiled if self.source == "catalog" else None
        try:
            is_news = yield from self._enforce_steps(state, trust_domain, now, "catalog")
        except CatalogError as error:
            self.errors["compile"] = str(error)
            _log.error("snapshot_rejected", error=str(error))
            return
        self._settle()
        if not is_news and before == (state, trust_domain):
            return
        assert self.snapshot is not None
        self._unsaved = LastGood(now, trust_domain, self.snapshot.generation, state, self.indexes())
        self._to_save.set()

    def reconfigure(self, config: Config) -> None:
        """Puts into force what the catalog said last, under another configuration: at once, also while it is away.

        What goes wrong is shown and tried again: the configuration holds from now on.
        """
        self._config = config
        self._turns += 1
        if not self._compiled:
            return
        compiled, self._compiled, self._compilation = self._compiled, None, None
        try:
            _run(self._enforce_steps(*compiled, self.heard_at, self.source))
            self._to_save.set()  # what is captured, and what may bypass a dead agent, depends on it
        except Exception as error:  # noqa: BLE001 - a defect must not hide that what is in force is old
            self.blame(error)

    def knows_host(self, name: str) -> bool:
        """Whether it is one of the mesh's, by what is in force."""
        return self.snapshot is not None and name in self.snapshot.hosts

    def note_catalog(self, addresses: tuple[str, ...]) -> None:
        """Has kept where the catalog's name leads, for a start without a resolver."""
        if addresses != self._catalog:
            self._catalog = addresses
            if self.snapshot:
                self._to_save.set()

    def blame(self, error: Exception) -> None:
        """Takes note of a defect that kept a change out of force."""
        self.is_behind = True
        self.errors["compile"] = f"a defect: {type(error).__name__}: {error}; the agent's log says more"
        _log.error("snapshot_failed", exc_info=error)

    def _settle(self) -> None:
        """What the catalog says is in force."""
        self.is_behind = False
        self.errors.pop("compile", None)

    async def save(self) -> None:
        """Writes what is in force to disk, for ever; the newest only, and not more often than LAST_GOOD_S."""
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            assert self.snapshot is not None
            try:
                self._writing = asyncio.get_running_loop().create_task(self._write(self._unsaved, self.snapshot))
                await asyncio.shield(self._writing)
                self.errors.pop("save", None)
            except OSError as error:
                self._to_save.set()
                if "save" not in self.errors:
                    _log.error("snapshot_not_saved", error=str(error))
                self.errors["save"] = f"{self._path}: the snapshot could not be saved: {error.strerror}"
            await asyncio.sleep(limits.LAST_GOOD_S)

    async def save_rest(self) -> None:
        """Writes what was not written yet, once: a successor must not take workers back to what held before."""
        if self._writing:
            await asyncio.wait([self._writing])
        if self.snapshot is None or (self._unsaved is self._saved and not self._to_save.is_set()):
            return
        self._to_save.clear()
        try:
            await self._write(self._unsaved, self.snapshot)
        except OSError as error:
            _log.error("snapshot_not_saved", error=str(error))

    async def _write(self, unsaved: LastGood | None, snapshot: Snapshot) -> None:
        """The catalog's state where there is a newer one, and what follows from it under this configuration."""
        if unsaved:
            await asyncio.to_thread(write_last_good, self._path, unsaved)
        capture = (self._capture or snapshot, self._catalog)
        if self._captured is None or self._captured[0] is not capture[0] or self._captured[1] != capture[1]:
            await asyncio.to_thread(save_capture, self._path.parent, *capture)
            self._captured = capture
        self._saved = unsaved

    def _enforce_steps(self, state: CatalogState, trust_domain: str, heard_at: float, source: str) -> Generator[None, None, bool]:
        """Compiles and hands out; a snapshot that differs only in its number is not handed out, and False.

        Between two steps another configuration may come into force: then it is done again under that one.
        """
        is_current = False
        while not is_current:
            self._turns = turn = self._turns + 1
            before = self._compilation
            compilation, delta = yield from self._compile_steps(state, trust_domain)
            is_current = turn == self._turns
        is_news = self.snapshot is None or delta is not None
        if is_news:
            old = self.snapshot if compilation is before else None  # under another configuration anything may differ
            is_concerned = old is None or delta is None or concerns_host(old, compilation.snapshot, delta)
            self._put_into_force(News(compilation.snapshot, delta, is_concerned), heard_at, source)
        self._compilation = compilation
        self._compiled, self.source, self.heard_at = (state, trust_domain), source, heard_at
        self.notes = compilation.notes
        return is_news

    def _compile_steps(self, state: CatalogState, trust_domain: str) -> Generator[None, None, tuple[Compilation, Delta | None]]:
        """What differs from the snapshot in force, where that is known; None: nothing does, or there is none."""
        compilation, self._compilation = self._compilation, None
        generation = self._generation + 1
        if compilation and compilation.snapshot.mesh.trust_domain == trust_domain:
            return compilation, (yield from compilation.follow_steps(state, generation))
        gc.disable()  # all that is made now stays
        try:
            made = yield from compilation_steps(state, self._config, trust_domain=trust_domain, generation=generation)
        finally:
            gc.enable()
        gc.freeze()  # to look through it takes 100 ms, and would find nothing
        if self.snapshot is None:
            return made, None
        delta = diff(self.snapshot, made.snapshot)
        if not is_empty(delta):
            return made, delta
        made.snapshot = self.snapshot
        return made, None

    def _put_into_force(self, news: News, heard_at: float, source: str) -> None:
        self._generation = news.snapshot.generation  # first: a number that some worker may have seen is not given again
        self._hand_out(news)
        self.snapshot = snapshot = news.snapshot
        if news.concerns_host:
            self._capture = snapshot
        self._metrics.set("nodeagent_snapshot_generation", snapshot.generation)
        self._metrics.set("nodeagent_snapshot_compiled_timestamp_seconds", heard_at)
        _log.info("snapshot_compiled", generation=snapshot.generation, services=len(snapshot.services),
                  hosts=len(snapshot.hosts), source=source)  # fmt: skip


def _run(steps: Generator[None, None, object]) -> None:
    for _ in steps:
        pass
