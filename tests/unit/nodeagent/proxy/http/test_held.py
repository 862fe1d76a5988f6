"""What a worker holds for all requests together."""

import os

import msgspec

from nodeagent import limits
from nodeagent.errors import AgentError, Denied, PolicyChanged
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.http.held import Http
from tests.support.http_scene import Scene
from tests.support.loop import run
from tests.support.mesh import config, mesh


def test_a_worker_that_drains_keeps_no_connection() -> None:
    """And says in its answers that they are the last."""

    async def within() -> None:
        async with Scene() as made:
            http = Http(config(), lambda: made.live.snapshot)
            http.origins.keep("a", await made.role.open(None))
            http.drain()
            assert (http.is_draining, len(http.origins)) == (True, 0)
            assert await (await made.app()).rest() == b""

    run(within)


def no_snapshot() -> Snapshot:
    raise AssertionError


class Socket:
    """Another protocol's connection."""

    def __init__(self) -> None:
        self.why: AgentError | None = None
        self.broke: Exception | None = None

    def cut(self, error: AgentError) -> None:
        self.why = error

    def defect(self, error: Exception) -> None:
        self.broke = error


def test_a_snapshot_asks_once_more_for_what_began_another_protocol() -> None:
    """Who cannot be asked is cut, too."""
    http, allowed, denied, odd = Http(config(), no_snapshot), Socket(), Socket(), Socket()

    def deny(_snapshot: Snapshot) -> None:
        raise Denied("no more")

    http.switched.update({allowed: lambda _: None, denied: deny, odd: lambda _: 1 / 0})
    http.follow(mesh())
    assert (allowed.why, allowed.broke) == (None, None)
    assert isinstance(denied.why, PolicyChanged)
    assert isinstance(odd.broke, ZeroDivisionError)
    late = Socket()
    http.switch(late, deny, mesh())
    assert isinstance(late.why, PolicyChanged)


def test_bounds_are_shared_by_as_many_workers_as_there_are() -> None:
    """Configured, or as many as a host of so many cores has."""
    assert Http(msgspec.structs.replace(config(), host=msgspec.structs.replace(config().host, workers=7)), no_snapshot).router._workers == 7
    assert Http(config(), no_snapshot).router._workers == min(os.cpu_count() or 1, limits.WORKERS_USUAL)
