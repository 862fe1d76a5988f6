"""A trust domain that is another one than before: believed when it has lasted, also over a start of the agent meanwhile."""

from pathlib import Path

import msgspec

from nodeagent.control.durable import replace_file
from nodeagent.control.trust import parse_roots
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

_log = open_log()


class HeldDomain(msgspec.Struct, frozen=True):
    """What is on disk as long as one is held. Nothing in it is secret."""

    offered: str
    at: float
    """Unix seconds at which it was offered first."""
    roots: bytes
    """Those that are in force, as the catalog told them."""


class DomainHold:
    """Owned by Identity.

    It is another catalog, or one that lost its CA: all certificates of the mesh change with it. A mistake is put right
    within the time; what was meant comes true when it is over, on all hosts at about the same moment: an agent that began anew
    with each start would be alone with the domain of before.
    """

    def __init__(self, path: Path, hold_s: float) -> None:
        self._path = path
        self._hold_s = hold_s
        self._offered = ""
        self._since = 0.0
        self._on_disk = ""
        """The domain of which the file tells; empty: there is none."""

    def why_held(self, known: str, offered: str, elapsed: float) -> str:
        """Why `offered` is not taken yet where `known` is in force; empty: it is. elapsed: of a clock that nobody can set."""
        if offered != self._offered:
            self._offered, self._since = offered, elapsed
        left_s = self.left_s(elapsed)
        if not known or offered == known or left_s <= 0:
            self._offered = ""
            return ""
        return (
            f"the catalog's trust domain is {offered} now, and was {known}: it is another catalog, or lost its CA; "
            f"roots and certificates of before stay in force for {left_s:.0f} s more, then every tunnel is opened anew"
        )

    def left_s(self, elapsed: float) -> float:
        """How long what is held is held on."""
        return self._hold_s - (elapsed - self._since)

    def save(self, roots: bytes, now: float, elapsed: float) -> None:
        """Has the disk say what is held, after each `why_held`; where it cannot, a start begins anew. roots: those in force. now: Unix seconds."""
        if self._offered == self._on_disk:
            return
        try:
            if self._offered:
                held = HeldDomain(self._offered, now - (elapsed - self._since), roots)
                replace_file(self._path, msgspec.msgpack.encode(held), 0o644)  # nothing in it is secret
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("held_domain_not_saved", path=str(self._path), error=str(error))
            return
        self._on_disk = self._offered

    def restore(self, now: float, elapsed: float) -> bytes:
        """Goes on holding what an earlier process held; gives the roots that it had in force, empty where none are to be any more.

        By the wall clock, which a start of the machine does not set back to nothing; one that is wrong then shortens nothing below
        zero and prolongs nothing beyond the whole time.
        """
        try:
            held = msgspec.msgpack.decode(self._path.read_bytes(), type=HeldDomain)
            parse_roots(held.roots)
        except FileNotFoundError:
            return b""
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, CatalogError) as error:
            _log.warning("held_domain_ignored", path=str(self._path), error=str(error), effect="the time begins anew")
            return b""
        past_s = min(max(now - held.at, 0.0), self._hold_s)
        self._offered, self._since, self._on_disk = held.offered, elapsed - past_s, held.offered
        return held.roots if past_s < self._hold_s else b""
