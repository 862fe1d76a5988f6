"""Which owner or mode keeps the service's root from a file: it has no CAP_DAC_OVERRIDE, so it reads as any other user does."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_WHO = {6: "u", 3: "g", 0: "o"}


class Closed(NamedTuple):
    """A file that root without its capabilities cannot read, or a directory on the way that it cannot enter."""

    place: Path
    what: str
    """The place with its owner and mode."""
    cure: str


def closed_to_root(path: Path, uid: int = 0, gid: int = 0) -> Closed | None:
    """What keeps it from the file at `path`, by owners and modes; None: nothing does, or there is none."""
    for place in _way_to(path):
        try:
            status = place.stat()
        except OSError:
            return None
        is_directory = stat.S_ISDIR(status.st_mode)
        wanted = stat.S_IXOTH if is_directory else stat.S_IROTH
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        if not status.st_mode & (wanted << shift):
            return Closed(place, _words(place, status), f"chmod {_WHO[shift]}+x {place}" if is_directory else f"chown root {place}; chmod u+r {place}")
    return None


def _way_to(path: Path) -> Iterator[Path]:
    """Also to what it is a link to."""
    for each in (Path(os.path.abspath(path)), path.resolve()):  # noqa: PTH100 - the way to the link is one, too
        yield from reversed(each.parents)
    yield path.resolve()


def _words(place: Path, status: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = f"uid {status.st_uid}"
    return f"{place} (of {owner}, mode {stat.S_IMODE(status.st_mode):04o})"
