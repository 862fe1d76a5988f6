"""The guard with real tables of iptables in a network namespace: somebody flushes one, and beats go on while it is repaired."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from nodeagent.process import guard as guard_module
from nodeagent.process.capture import Capture
from nodeagent.process.guard import Guard
from redirect import kernel
from tests.e2e.netns import WEB, Host, ask, record_path, settings_for, start_agent, two_hosts
from tests.support.loop import run


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A host whose agent is a guard, with listeners where an agent has them; and a peer with an application."""
    with two_hosts("iptables") as (host, peer):
        start_agent(host)
        peer.listen("app", peer.ip4, WEB)
        yield host, peer


async def beats_during(check: asyncio.Task[None], guard: Guard) -> int:
    """How often the loop could beat until the check was done."""
    beats = 0
    while not check.done():
        guard.beat()
        beats += 1
        await asyncio.sleep(0.01)
    await check
    return beats


def test_beats_go_on_during_a_repair_and_nothing_leaves_in_clear(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is done calls are refused, though the agent beats; one start of the helpers does for all of it."""
    host, peer = hosts
    monkeypatch.setattr(guard_module.kernel, "apply", partial(kernel.apply, record_path=record_path(host)))

    def scene() -> tuple[int, Guard]:
        guard = Guard(settings_for(host))
        guard.install(host.path_of("nodeagent.service"))
        guard.capture(Capture((peer.ip4,), (WEB,)))
        guard.beat()
        assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
        host.shell("iptables-legacy", "-t", "nat", "-F")
        guard.beat()
        with pytest.raises(ConnectionRefusedError):
            host.connect(peer.ip4, WEB)

        async def repair() -> int:
            return await beats_during(asyncio.create_task(guard.check()), guard)

        return run(repair), guard

    beats, guard = host.run(scene)
    assert beats > 1
    assert (guard.condition, guard.repairs) == ("repaired", 1)
    assert "IPv4 table nat" in guard.detail
    assert host.run(kernel.verify, settings_for(host)) == ()
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
