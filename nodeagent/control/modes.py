"""Modes that were switched while the agent runs: they hold over the file's until the file says something else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nodeagent.config import Config, ServiceTable
from nodeagent.control.durable import replace_file
from nodeagent.model.service import Mode
from nodeagent.observe.log import open_log

_UNREADABLE = "a file that cannot be read"

_log = open_log()


class Switched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mode, as somebody switched it."""

    mode: Mode
    over: Mode | None
    """What the file said then; None: nothing. When it says something else, that is the later word, and counts."""
    by: str
    at: Annotated[float, msgspec.Meta(ge=0, lt=253402300800)]
    """Unix seconds, before the year 10000."""


class Modes(msgspec.Struct, frozen=True):
    """All that were switched."""

    host: Switched | None = None
    services: dict[str, Switched] = {}


class _File(Modes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file on disk. All of it must be there: one that says less is not ours, and what it leaves out may have been strict."""

    host: Switched | None
    services: dict[str, Switched]
    version: Literal[1]


class ModeBook:
    """Owned by control."""

    def __init__(self, path: Path, config: Config, now: Callable[[], float]) -> None:
        self.complaint = ""
        """What is wrong with the file."""
        self._path = path
        self._file = config
        self._now = now
        self.modes = Modes()

    @property
    def config(self) -> Config:
        """The configuration with the modes that hold."""
        return with_modes(self._file, self.modes)

    def configured(self, service: str) -> Mode | None:
        """What the file says of the service; of the host, for none."""
        return _word(self._file, service)

    def after_reset(self, service: str) -> dict[str, Mode | None]:
        """What would hold, by service (empty: the host), of what a reset takes back; None: the service goes with the host."""
        return {name: self.configured(name) for name in resets(self.modes, service)}

    def restore(self) -> None:
        """Goes on with what was switched before; with strict for all where that cannot be known: what was enforced stays so."""
        try:
            modes = _parse(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            _log.error("modes_unreadable", path=str(self._path), error=str(error), effect="everything is strict")
            self.complaint = f"{self._path}: {error}; everything is strict until: nodeagent enforce --reset --yes"
            self.modes = all_strict(self._file)
            return
        self.modes = still_holding(modes, self._file)
        self.complaint = self._about_strictness(self.modes)
        if self.modes != Modes(modes.host, modes.services):  # else what was overtaken would hold again when the file says again what it said then
            self._forget_overtaken()

    def switch(self, mode: Mode | None, service: str, by: str) -> None:
        """Puts the host, or one service, into `mode`; None: back to the file's. On disk before it is in force.

        Raises:
            OSError: it could not be saved; nothing has changed.
        """
        meant: dict[str, Mode | None] = {service: mode} if mode else self.after_reset(service)
        modes = changed(self.modes, mode, service, self.configured(service), by, self._now())
        self._save(modes)
        self.modes, self.complaint = modes, self._about_strictness(modes)
        for name, word in meant.items():
            holds = word or self.config.host.mode  # a service that the file does not name goes with the host
            _log.warning("mode_switched", service=name, mode=holds, by=by, is_configured=mode is None)

    def _about_strictness(self, modes: Modes) -> str:
        """What is to be said as long as something is strict because a file could not be read; empty: nothing is."""
        found = [each for each in (modes.host, *modes.services.values()) if each and each.by == _UNREADABLE]
        return f"{self._path} could not be read: what nobody has switched since is strict until: nodeagent enforce --reset --yes" if found else ""

    def _save(self, modes: Modes) -> None:
        replace_file(self._path, msgspec.json.encode(_File(host=modes.host, services=modes.services, version=1)))

    def _forget_overtaken(self) -> None:
        try:
            self._save(self.modes)
        except OSError as error:
            _log.error("modes_not_saved", path=str(self._path), error=str(error))
            self.complaint = f"{self._path}: modes that the file has overtaken could not be removed: {error}"


def _parse(data: bytes) -> _File:
    """Raises MsgspecError, ValueError, RecursionError: it is not whole, or says something twice: nobody knows which counts."""
    modes = msgspec.json.decode(data, type=_File)
    json.loads(data, object_pairs_hook=_check_once)
    return modes


def _check_once(pairs: list[tuple[str, object]]) -> None:
    """json's: one object."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"{name!r} is there twice")
        seen.add(name)


def all_strict(config: Config) -> Modes:
    """Everything strict, over what the file says now."""
    services = {name: Switched("strict", table.mode, _UNREADABLE, 0.0) for name, table in config.service.items()}
    return Modes(Switched("strict", config.host.mode, _UNREADABLE, 0.0), services)


def resets(modes: Modes, service: str) -> tuple[str, ...]:
    """Whose modes a reset takes back: the service's; or the host's (empty), and those that nobody has switched: `all_strict` did."""
    if service:
        return (service,)
    return ("", *(name for name, each in modes.services.items() if each.by == _UNREADABLE))


def with_modes(config: Config, modes: Modes) -> Config:
    """The configuration as it would be if the file said these modes."""
    services = dict(config.service)
    for name, switched in modes.services.items():
        services[name] = msgspec.structs.replace(services.get(name, ServiceTable()), mode=switched.mode)
    host = msgspec.structs.replace(config.host, mode=modes.host.mode) if modes.host else config.host
    return msgspec.structs.replace(config, host=host, service=services)


def changed(modes: Modes, mode: Mode | None, service: str, over: Mode | None, by: str, at: float) -> Modes:
    """The modes with one more switched, or with what a reset takes back (None)."""
    if mode is None:
        gone = resets(modes, service)
        kept = {name: each for name, each in modes.services.items() if name not in gone}
        return msgspec.structs.replace(modes, host=None if "" in gone else modes.host, services=kept)
    switched = Switched(mode, over, by, at)
    if not service:
        return msgspec.structs.replace(modes, host=switched)
    return msgspec.structs.replace(modes, services=modes.services | {service: switched})


def still_holding(modes: Modes, config: Config) -> Modes:
    """Those that the file has not overtaken: where it was changed since, it is the operator's later word."""
    return Modes(
        modes.host if modes.host and modes.host.over == _word(config, "") else None,
        {name: each for name, each in modes.services.items() if each.over == _word(config, name)},
    )


def _word(config: Config, service: str) -> Mode | None:
    """What the file says of the service; of the host, for none."""
    if not service:
        return config.host.mode
    return config.service[service].mode if service in config.service else None
