"""What a worker holds for all requests together."""

import os

import msgspec

from nodeagent import limits
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.http.held import Http
from tests.support.http_scene import Scene
from tests.support.loop import run
from tests.support.mesh import config


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


def test_bounds_are_shared_by_as_many_workers_as_there_are() -> None:
    """Configured, or as many as a host of so many cores has."""
    assert Http(msgspec.structs.replace(config(), host=msgspec.structs.replace(config().host, workers=7)), no_snapshot).router._workers == 7
    assert Http(config(), no_snapshot).router._workers == min(os.cpu_count() or 1, limits.WORKERS_USUAL)
