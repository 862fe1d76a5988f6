"""One service's certificate, kept fresh: asked for, renewed at half life, withdrawn when it has expired."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from certs.errors import CertificateError
from certs.rotation import Expired, Keep, next_step, reroot_after_s
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.bell import Bell
from nodeagent.control.environment import Environment
from nodeagent.control.issuer import LeafWithheld
from nodeagent.control.pace import backoff_s
from nodeagent.control.trust import Trust
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

_CLOCKS = "are the clocks of this host and of the CA right?"
_NAP_S = 60.0  # the longest rest at once: a machine that was suspended must look at its clock again

_log = open_log()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a keeper needs of the world."""

    trust: Callable[[], Trust | None]
    issue: Callable[[str, Trust], Awaitable[Svid]]
    changed: Callable[[], None]
    rest: Callable[[float], Awaitable[None]]
    """Waits, but not longer than until the CA is there again."""
    env: Environment


class Keeper:
    """The certificate of `service`. Owned by Identity; its task runs `run`."""

    def __init__(self, service: str, world: Surroundings) -> None:
        self.service = service
        self.svid: Svid | None = None
        self.root_id = ""
        """Of the root above it."""
        self.lost = ""
        """What became of the last one, where there is none: it expired, or was revoked."""
        self.was_revoked = False
        """Whether the last one was taken back, rather than that it came to its end."""
        self.error = ""
        """Why the last request failed; empty after one that did not."""
        self.failed_at = float("-inf")
        """Of that failure, by the loop's clock."""
        self.bell = Bell()
        """Rung when waiting makes no sense any more: roots changed, or a worker needs the certificate."""
        self._world = world
        self._draw = 0.0
        self._asked_under = ""
        """The root that signed when it was asked for."""
        self._reroot: tuple[str, float] = ("", 0.0)
        """The root that signs now, and when (of the loop's clock) this certificate's turn is to be replaced by one of it."""
        self._failures = 0

    def remember(self, svid: Svid, trust: Trust) -> None:
        """What an earlier control process held; whether it is still good is found out as for any other."""
        self._take(svid, trust, self._world.env.draw())

    async def run(self) -> NoReturn:
        """Keeps it fresh until it is cancelled."""
        while True:
            trust = self._world.trust()
            if trust is None:
                await self.bell.rest(_NAP_S)
                continue
            now = datetime.fromtimestamp(self._world.env.now(), tz=UTC)
            if self.svid and trust.has_revoked(self.svid):
                self.was_revoked = True
                self._withdraw("was revoked with the token on whose word it was signed")
            if self.svid and self.svid.spiffe_id.trust_domain != trust.bundle.trust_domain:
                self._withdraw(f"is of the trust domain before, {self.svid.spiffe_id.trust_domain}")
            step = next_step(self.svid, now, self._draw)
            if isinstance(step, Expired):
                self._withdraw("has expired")
            rest_s = (step.until - now).total_seconds() if isinstance(step, Keep) else 0.0
            rest_s = min(rest_s, self._until_turn_s(trust))
            if rest_s > 0:
                await self.bell.rest(min(max(rest_s, 0.05), _NAP_S))
            else:
                await self._renew(trust)

    def _until_turn_s(self, trust: Trust) -> float:
        """Seconds until the certificate is due because of its root.

        At once when that is believed no more; soon, not all hosts at the same time, when another one signs: so that the
        overlap of a rotation ends soon.
        """
        if self.svid is None or self.root_id not in trust.ids:
            return 0.0
        if trust.active_id in (self.root_id, self._asked_under):
            return math.inf
        at = asyncio.get_running_loop().time()
        if self._reroot[0] != trust.active_id:
            self._reroot = (trust.active_id, at + reroot_after_s(self.svid, self._world.env.draw()))
        return self._reroot[1] - at

    async def _renew(self, trust: Trust) -> None:
        """Asks the CA; a failure keeps what there is and rests."""
        try:
            svid = await self._world.issue(self.service, trust)
        except (CatalogError, CertificateError) as error:
            await self._cope(str(error), limits.LEAF_AGAIN_S if isinstance(error, LeafWithheld) else limits.SVID_RENEW_RETRY_MAX_S)
            return
        except Exception as error:  # noqa: BLE001 - a defect must not end the keeper: logged and retried
            _log.error("svid_failed", service=self.service, exc_info=True)
            await self._cope(f"{type(error).__name__}: {error}")
            return
        if self.svid and svid.serial == self.svid.serial:  # Connect's agent renews at a time of its own
            self._failures, self.error = 0, ""
            await self.bell.rest(limits.LEAF_AGAIN_S)
            return
        now, draw = self._world.env.now(), self._world.env.draw()
        step = next_step(svid, datetime.fromtimestamp(now, tz=UTC), draw)
        if not isinstance(step, Expired):
            self._take(svid, trust, draw)
        if isinstance(step, Keep):
            self._failures, self.error = 0, ""
        else:  # another one would be no better, and asked for at once, for ever
            await self._cope(f"it was due for renewal when it came, for it ends at {svid.not_after}: {_CLOCKS}")

    def _take(self, svid: Svid, trust: Trust, draw: float) -> None:
        self.svid, self.root_id, self._draw = svid, trust.root_above(svid), draw
        self.lost, self.was_revoked, self._asked_under = "", False, trust.active_id
        _log.info("svid_issued", service=self.service, serial=svid.serial, not_after=f"{svid.not_after:%Y-%m-%dT%H:%M:%SZ}")
        self._world.changed()

    def _withdraw(self, why: str) -> None:
        """Such a certificate is of no use to a peer and hides the reason why there is no other."""
        if self.svid:
            self.lost = f"the last one, until {self.svid.not_after:%Y-%m-%d %H:%M:%S} UTC, {why}"
            _log.error("svid_withdrawn", service=self.service, serial=self.svid.serial, why=why, error=self.error)
            self.svid = None
            self._world.changed()

    async def _cope(self, error: str, most_s: float = limits.SVID_RENEW_RETRY_MAX_S) -> None:
        self._failures += 1
        is_news, self.error, self.failed_at = error != self.error, error, asyncio.get_running_loop().time()
        if is_news:
            _log.warning("svid_not_issued", service=self.service, error=error)
            self._world.changed()
        seconds = backoff_s(self._failures, self._world.env.draw(), most_s)
        if self.svid:  # in half of what is left there is time for one more try
            seconds = min(seconds, max((self.svid.not_after.timestamp() - self._world.env.now()) / 2, 0.05))
        resting = {asyncio.ensure_future(self.bell.rest(seconds)), asyncio.ensure_future(self._world.rest(seconds))}
        try:
            await asyncio.wait(resting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in resting:
                task.cancel()
