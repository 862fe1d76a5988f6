"""When an SVID is to be renewed. Pure: time and chance are arguments."""

from dataclasses import dataclass
from datetime import datetime

from certs.svid import Svid

RENEW_FROM = 0.5  # of the lifetime, as ztunnel and SPIRE
RENEW_SPREAD = 0.1  # of the lifetime: a thousand hosts that started together do not come back together
REROOT_S = 60.0  # that hosts are spread over when another root begins to sign: 10,000 of them ask 170 times a second


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for a new one now; where there is an old one, it may be used meanwhile."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Ask for a new one now; the old one must not be used any more."""


def next_step(svid: Svid | None, now: datetime, draw: float) -> Keep | Renew | Expired:
    """What to do about `svid` at `now`. `draw` in [0, 1) is drawn once per SVID and spreads renewals.

    An SVID of the future is kept: the clock is behind, and asking again would give another such, at once, for ever.
    """
    if svid is None:
        return Renew()
    if now > svid.not_after:
        return Expired()
    if now < svid.not_before:
        return Keep(svid.not_before)
    due = svid.not_before + (svid.not_after - svid.not_before) * (RENEW_FROM + RENEW_SPREAD * draw)
    return Keep(due) if now < due else Renew()


def reroot_after_s(svid: Svid, draw: float) -> float:
    """Seconds after which `svid` is to be replaced because another root signs now. `draw` as in `next_step`."""
    return min(REROOT_S, (svid.not_after - svid.not_before).total_seconds() * RENEW_SPREAD) * draw
