"""One certificate kept fresh, with a clock of the test's own."""

import asyncio
import contextlib
import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from certs.bundle import TrustBundle
from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.serial import tag_in
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.environment import Environment
from nodeagent.control.issuer import LeafWithheld
from nodeagent.control.keeper import Keeper, Surroundings
from nodeagent.control.trust import Trust, parse_roots
from nodeagent.errors import CatalogError
from tests.support.loop import run, until

DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CA = LocalCa.create(DOMAIN, BEGIN)
TRUST = Trust(TrustBundle(DOMAIN, (CA.cert_pem,)), "r1", frozenset({"r1"}))


class Scene:
    """A keeper whose CA says what the test wants."""

    def __init__(
        self, *failures: Exception, trust: Trust | None = TRUST, clock_h: float = 0, draw: float = 0.0
    ) -> None:
        self.ca = CA
        self.now = BEGIN.timestamp() + 60 + clock_h * 3600
        self.trust = trust
        self.failures = list(failures)
        self.clock_h = clock_h
        """Hours by which this host's clock is ahead of the CA's."""
        self.rests: list[float] = []
        self.issued = self.changes = 0
        world = Surroundings(
            lambda: self.trust, self._issue, self._changed, self._rest, Environment(lambda: self.now, lambda: draw)
        )
        self.keeper = Keeper("web", world)

    async def _issue(self, service: str, _trust: Trust) -> Svid:
        if self.failures:
            raise self.failures.pop(0)
        spiffe_id = service_id(DOMAIN, "dc1", service)
        key_pem, csr_pem = new_key_and_csr(spiffe_id)
        self.issued += 1
        await asyncio.sleep(0)
        now = datetime.fromtimestamp(self.now - self.clock_h * 3600, tz=UTC)
        return Svid.from_pem(self.ca.sign(csr_pem, spiffe_id, timedelta(hours=24), now), key_pem)

    def _changed(self) -> None:
        self.changes += 1

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        await asyncio.sleep(0.01)

    async def later(self, hours: float) -> None:
        """The clock goes on, and the keeper looks at it."""
        self.now += hours * 3600
        self.keeper.bell.ring()
        await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.keeper.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_it_is_asked_for_at_once_and_kept_until_half_life() -> None:
    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            await playing.later(11.5)
            assert playing.issued == 1
            await playing.later(1)
            await until(lambda: playing.issued == 2, "the second")
            assert playing.changes == 2

    run(scene)


def test_without_roots_nothing_is_asked() -> None:
    async def scene() -> None:
        async with Scene(trust=None).running() as playing:
            await playing.later(0)
            assert playing.issued == 0
            playing.trust = TRUST
            await playing.later(0)
            await until(lambda: playing.issued == 1, "the first")

    run(scene)


def test_a_failed_renewal_keeps_the_valid_one_and_tries_again() -> None:
    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            first = playing.keeper.svid
            playing.failures = [CatalogError("the CA is away"), ValueError("a defect of ours")]
            await playing.later(13)
            await until(lambda: playing.issued == 2 and playing.keeper.svid is not first, "the renewal")
            assert playing.keeper.error == ""

    run(scene)


def test_an_expired_one_is_withdrawn_while_the_ca_is_away() -> None:
    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            playing.failures = [CatalogError("the CA is away")] * 100_000
            await playing.later(30)
            await until(lambda: playing.keeper.svid is None and playing.keeper.error, "the withdrawal")
            assert (playing.changes, playing.keeper.error) == (3, "the CA is away")  # issued, withdrawn, refused

    run(scene)


def test_one_whose_root_is_no_longer_listed_is_renewed_at_once() -> None:
    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            playing.trust = Trust(TRUST.bundle, "r2", frozenset({"r2"}))
            await playing.later(0)
            await until(lambda: playing.issued == 2, "the second")
            await playing.later(0)
            assert playing.issued == 2

    run(scene)


@pytest.mark.parametrize(("clock_h", "is_held"), [(15, True), (26, False)])
def test_a_clock_that_is_ahead_is_told_and_the_ca_is_asked_with_rests(clock_h: float, is_held: object) -> None:
    async def scene() -> None:
        async with Scene(clock_h=clock_h).running() as playing:
            await until(lambda: playing.issued >= 6, "six requests")
            assert (playing.keeper.svid is not None) is is_held
            assert "are the clocks" in playing.keeper.error
            assert len(playing.rests) >= playing.issued - 1
            assert playing.rests[4] > 8 * playing.rests[0]

    run(scene)


def test_a_certificate_of_seconds_gets_one_more_try_before_it_ends() -> None:
    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            playing.failures = [CatalogError("the CA is away")] * 100_000
            await playing.later(23.999)
            svid = playing.keeper.svid
            assert svid is not None
            left = svid.not_after.timestamp() - playing.now
            await until(lambda: playing.rests and max(playing.rests) > left / 4, "the longest rest")
            assert max(playing.rests) <= left / 2

    run(scene)


NEXT_CA = LocalCa.create(DOMAIN, BEGIN)
OVERLAP = parse_roots(
    json.dumps(
        {
            "ActiveRootID": "r2", "TrustDomain": DOMAIN,
            "Roots": [{"ID": "r1", "RootCert": CA.cert_pem}, {"ID": "r2", "RootCert": NEXT_CA.cert_pem}],
        }
    ).encode()
)  # fmt: skip


def test_when_another_root_signs_it_is_renewed_early_and_once() -> None:
    """Its turn comes within the spread, not at half life; a CA that signs with the old one all the same is not nagged."""

    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            playing.trust = OVERLAP
            await playing.later(0)
            await until(lambda: playing.issued == 2, "the second")
            assert playing.keeper.root_id == "r1", "this CA has not heard of the other root"
            for _ in range(3):
                await playing.later(0)
            assert playing.issued == 2
            playing.ca = NEXT_CA
            await playing.later(13)
            await until(lambda: playing.keeper.root_id == "r2", "the renewal at half life")
            assert playing.issued == 3

    run(scene)


def test_its_turn_for_another_root_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the dice, which this host has thrown high."""

    async def scene() -> None:
        async with Scene(draw=0.999).running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            playing.trust = OVERLAP
            for _ in range(3):
                await playing.later(0)
            assert playing.issued == 1

    run(scene)


def test_a_revoked_one_is_withdrawn_and_another_asked_for() -> None:
    """It may be another token by now; until there is one, the reason is shown."""

    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            first = playing.keeper.svid
            assert first is not None
            playing.failures = [CatalogError("the token was revoked")]
            playing.trust = dataclasses.replace(TRUST, revoked=frozenset({tag_in(first.serial)}))
            playing.keeper.bell.ring()
            await until(lambda: playing.keeper.svid is None and playing.keeper.error, "the withdrawal")
            assert "was revoked with the token" in playing.keeper.lost
            await until(lambda: playing.keeper.svid, "another")
            assert playing.keeper.svid.serial != first.serial
            assert (playing.keeper.lost, playing.keeper.error) == ("", "")

    run(scene)


@pytest.mark.parametrize("hours", [-1, -10 * 365 * 24])
def test_a_clock_that_jumps_back_keeps_the_certificate(hours: float) -> None:
    """Nothing is asked, nothing withdrawn; and when it is right again all goes on."""

    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            for _ in range(5):
                await playing.later(hours / 5)
            assert (playing.issued, playing.changes) == (1, 1)
            await playing.later(13 - hours)
            await until(lambda: playing.issued == 2, "the renewal at half life")

    run(scene)


@pytest.mark.parametrize("hours", [25, 9 * 365 * 24])
def test_a_clock_that_jumps_past_the_end_gets_another_at_once(hours: float) -> None:
    """The CA's clock jumped with it."""

    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            await playing.later(hours)
            await until(lambda: playing.issued == 2 and playing.keeper.svid, "the second")
            assert playing.rests == []

    run(scene)


def test_a_clock_that_jumps_past_the_root_s_end_closes_with_the_cause() -> None:
    """Ten years on, the CA itself has ended: it is asked with rests, not in a loop."""

    async def scene() -> None:
        async with Scene().running() as playing:
            await until(lambda: playing.issued == 1, "the first")
            await playing.later(10 * 365 * 24 + 1)
            await until(lambda: len(playing.rests) >= 5, "five tries")
            assert playing.keeper.svid is None
            assert "the root certificate is not valid at 2035" in playing.keeper.error
            assert "has expired" in playing.keeper.lost
            assert playing.rests[4] > 4 * playing.rests[0]

    run(scene)


def test_an_hour_of_failures_asks_every_few_minutes() -> None:
    """The rests double up to a bound: a CA that comes back is found soon."""

    async def scene() -> None:
        async with Scene(*[CatalogError("the CA is away")] * 100_000).running() as playing:
            await until(lambda: playing.rests[-2:] == [limits.SVID_RENEW_RETRY_MAX_S] * 2, "the longest rests")
            assert max(playing.rests) == limits.SVID_RENEW_RETRY_MAX_S

    run(scene)


def test_what_the_agent_here_withholds_is_asked_for_every_few_seconds() -> None:
    """A right that was granted, or a leaf that it made meanwhile, must not wait for minutes."""

    async def script() -> None:
        scene = Scene(*(LeafWithheld("403") for _ in range(40)))
        async with scene.running() as playing:
            await until(lambda: playing.rests[-2:] == [limits.LEAF_AGAIN_S] * 2, "the longest rests")
            assert max(playing.rests) == limits.LEAF_AGAIN_S == 15.0

    run(script)


def test_one_of_a_trust_domain_that_is_not_in_force_is_none() -> None:
    """No call can use it: it must not look well, nor only as a renewal that is late."""

    async def script() -> None:
        scene = Scene()
        async with scene.running() as playing:
            await until(lambda: playing.keeper.svid, "the certificate")
            playing.failures = [CatalogError("the old one")] * 40
            playing.trust = dataclasses.replace(TRUST, bundle=TrustBundle("b.consul", (LocalCa.create("b.consul", BEGIN).cert_pem,)))
            playing.keeper.bell.ring()
            await until(lambda: playing.keeper.error, "the failure")
            assert playing.keeper.svid is None
            assert f"is of the trust domain before, {DOMAIN}" in playing.keeper.lost

    run(script)
