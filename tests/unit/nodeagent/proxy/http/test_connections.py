"""Connections of a caller, of which it may have two: who waits for one, and what becomes of those that rest."""

import asyncio
import random
from dataclasses import replace

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.chain import Target
from nodeagent.decide.dispatch import Dispatch
from nodeagent.errors import BreakerOpen, UpstreamRefused
from nodeagent.model.policy.defaults import CallLimits, Upstream, UpstreamConfig
from nodeagent.proxy.http.connections import Connections
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.sharing import Sharing
from nodeagent.wire.frames import PartRow, Shared
from tests.support.http_scene import Scene, Talk
from tests.support.loop import run, until
from tests.support.routed_mesh import routed_mesh

COURSE = ("shop", Target("web"))


class Caller:
    """shop, and its connections to web."""

    def __init__(self, made: Scene, *, pending: int = 1) -> None:
        mesh = routed_mesh()
        said = UpstreamConfig(defaults=Upstream(limits=CallLimits(max_connections=2, max_pending_requests=pending)))
        shop = msgspec.structs.replace(mesh.services["shop"], upstreams=said)
        self.snapshot = replace(mesh, services={**mesh.services, "shop": shop})
        self._made = made
        self.pool = made.live.http.origins
        self.dispatch = Dispatch(random.random)
        self.sharing = Sharing(self.dispatch, lambda: self.snapshot)
        self.connections = Connections(self.dispatch, self.pool, self.sharing, lambda: self.snapshot)

    async def get(self, key: str = "a") -> Origin:
        return await self.connections.get(COURSE, key, lambda: self._made.role.open(None))

    @property
    def used(self) -> int:
        return self.dispatch.gauge(self.snapshot, COURSE, "connections").used


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            await work(made)

    run(within)


async def waiting(call: Caller, key: str = "a") -> asyncio.Task[Origin]:
    task = asyncio.create_task(call.get(key))
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_one_that_another_request_has_done_with_goes_to_who_waits() -> None:
    async def work(made: Scene) -> None:
        call = Caller(made)
        one, two = await call.get(), await call.get()
        third = await waiting(call)
        call.connections.keep("a", one)
        assert await third is one
        call.connections.keep("a", two)
        assert (len(call.pool), call.used) == (1, 2)
        one.drop()
        await until(lambda: call.used == 1, "one is closed")

    scene(work)


def test_one_to_another_instance_makes_room() -> None:
    """Whether it rests already or comes back now: as soon as it is closed."""

    async def work(made: Scene) -> None:
        call = Caller(made)
        call.connections.keep("a", await call.get())
        kept = await call.get()
        apps = [await made.app(), await made.app()]
        third = await waiting(call, "b")
        await closes(apps[0])
        assert await third
        fourth = await waiting(call, "b")
        call.connections.keep("a", kept)
        await closes(apps[1])
        assert await fourth
        assert call.used == 2

    scene(work)


async def closes(app: Talk) -> None:
    """As an application does whose client has ended."""
    assert await app.rest() == b""
    app.close()


def test_too_many_that_wait_are_refused() -> None:
    async def work(made: Scene) -> None:
        call = Caller(made)
        one = await call.get()
        await call.get()
        first = await waiting(call)
        with pytest.raises(BreakerOpen, match="MaxPendingRequests"):
            await call.get()
        call.connections.keep("a", one)
        assert await first is one

    scene(work)


def test_none_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_S", 0.01)

    async def work(made: Scene) -> None:
        call = Caller(made)
        one, _ = await call.get(), await call.get()
        with pytest.raises(BreakerOpen, match="MaxConnections"):
            await call.get()
        one.drop()
        assert await call.get("b")

    scene(work)


def test_one_that_could_not_be_opened_counts_no_more() -> None:
    async def work(made: Scene) -> None:
        call = Caller(made)
        made.role.refuses_to_open = UpstreamRefused("no")
        with pytest.raises(UpstreamRefused):
            await call.get()
        assert call.used == 0

    scene(work)


def test_a_smaller_part_closes_what_rests_and_a_larger_one_lets_one_go_on() -> None:
    """Also where no request may wait for a connection: that is not what it waits for."""

    async def work(made: Scene) -> None:
        call = Caller(made, pending=0)
        call.sharing.join(lambda _: True)
        first = await waiting(call)
        call.sharing.hear(Shared([], [PartRow("shop", "web", "", "connections", 2, 1, 0, 1)]))
        origin = await first
        call.connections.keep("a", origin)
        await closes_when_told(call, await made.app())
        assert call.used == 0

    scene(work)


def test_what_another_worker_waits_for_does_not_rest_here() -> None:
    """It was in use when the part was taken back."""

    async def work(made: Scene) -> None:
        call = Caller(made)
        call.sharing.join(lambda _: True)
        call.sharing.hear(Shared([], [PartRow("shop", "web", "", "connections", 2, 1, 0, 1)]))
        origin, app = await call.get(), await made.app()
        call.sharing.hear(Shared([], [PartRow("shop", "web", "", "connections", 2, 0, 0, 2)]))
        call.connections.keep("a", origin)
        await closes(app)
        await until(lambda: call.used == 0, "it is closed")

    scene(work)


def test_what_rests_is_told_as_not_wanted() -> None:
    """Else a worker that waits would wait for others that do nothing."""

    async def work(made: Scene) -> None:
        call, said = Caller(made), list[Shared]()
        call.sharing.join(lambda shared: said.append(shared) or True)
        call.sharing.hear(Shared([], [PartRow("shop", "web", "", "connections", 2, 1, 0, 1)]))
        origin = await call.get()
        await until(lambda: wanted(said) == 2, "one more is wanted")
        call.connections.keep("a", origin)
        await until(lambda: wanted(said) == 0, "nothing is wanted")
        assert call.connections.take("a") is origin
        assert call.dispatch.gauge(call.snapshot, COURSE, "connections").wanted == 2
        call.connections.keep("a", origin)
        origin.drop()
        await until(lambda: call.used == 0, "it is closed")
        assert call.dispatch.gauge(call.snapshot, COURSE, "connections").idle == 0

    scene(work)


def wanted(said: list[Shared]) -> int:
    """Of connections, as it was told last."""
    rows = [row for shared in said for row in shared.parts if row.kind == "connections"]
    return rows[-1].wanted if rows else -1


async def closes_when_told(call: Caller, app: Talk) -> None:
    """Control takes the part back."""
    call.sharing.hear(Shared([], [PartRow("shop", "web", "", "connections", 2, 0, 0, 2)]))
    await closes(app)
    await until(lambda: call.used == 0, "it is closed")
