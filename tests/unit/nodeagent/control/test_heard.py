"""Who waits for the next answer of a service."""

import asyncio

import pytest

from nodeagent.control import heard as heard_module
from nodeagent.control.heard import Heard
from tests.support.loop import run


def test_all_who_wait_hear_of_it_and_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(heard_module, "_LOOK_S", 20.0)
        heard = Heard()
        heard.note("web")
        waiting = [asyncio.create_task(heard.rest(name)) for name in ("web", "web", "db")]
        await asyncio.sleep(0)
        heard.note("web")
        await asyncio.gather(*waiting[:2])
        assert not waiting[2].done()
        waiting[2].cancel()
        await asyncio.wait(waiting[2:])
        assert heard._awaited == {}
        monkeypatch.setattr(heard_module, "_LOOK_S", 0.0)
        await heard.rest("web")
        assert "web" not in heard._awaited

    run(scene)
