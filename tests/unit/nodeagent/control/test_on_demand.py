"""Certificates for whoever calls: a few at once, forgotten when nobody calls; by itself, and in an identity with a scripted CA."""

import asyncio

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.on_demand import OnDemand
from tests.support.identity_scene import SIGN, Scene, played
from tests.support.loop import until


def test_who_called_longest_ago_makes_room_once_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody before."""
    monkeypatch.setattr(limits, "SVID_ON_DEMAND", 2)
    now = [0.0]
    held = OnDemand(lambda: now[0])
    for name in ("a", "b"):
        assert held.why_full(name) == ""
        held.add(name)
    now[0] = limits.SVID_IDLE_S / 2
    held.note(["a", "stranger"])
    assert "2 are held" in held.why_full("c")
    assert held.why_full("b") == "", "it is there"
    now[0] = limits.SVID_IDLE_S
    assert held.why_full("c") == ""
    held.add("c")
    assert set(held.services) == {"a", "c"}


def test_only_what_is_idle_and_in_vain_is_forgotten() -> None:
    """The others keep what they have."""
    now = [0.0]
    held = OnDemand(lambda: now[0])
    for name in ("vain", "good", "late"):
        held.add(name)
    now[0] = limits.SVID_IDLE_S
    held.note(["late"])
    held.forget(lambda service: service != "good")
    assert set(held.services) == {"good", "late"}


def test_so_many_certificates_are_held_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a thousand units more cannot have the CA sign for ever."""
    monkeypatch.setattr(limits, "SVID_ON_DEMAND", 2)

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset())
        for name in ("a", "b", "c"):
            scene.identity.ask(name)
        await until(lambda: scene.names() == ["a", "b"], "two certificates")
        assert set(scene.identity.keepers) == {"a", "b"}

    played(script)


def test_a_refusal_that_nobody_asks_for_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of a unit that the token does not list is no problem for ever; as long as it calls it is one. What was issued stays."""
    monkeypatch.setattr(limits, "SVID_IDLE_S", 0.3)
    monkeypatch.setattr(limits, "SVID_IDLE_LOOK_S", 0.01)

    async def script(scene: Scene) -> None:
        identity, loop = scene.identity, asyncio.get_running_loop()
        identity.need(frozenset({"shop"}))
        identity.ask("good")
        await until(lambda: scene.names() == ["good", "shop"], "both certificates")
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=403, text="it speaks for shop")
        identity.ask("once")
        identity.ask("often")
        await until(lambda: all((keeper := identity.keepers.get(name)) and keeper.error for name in ("once", "often")), "both errors")
        began = loop.time()
        while "once" in identity.keepers:
            identity.note_calls({"often", "good", "stranger"})
            assert loop.time() - began < 30
            await asyncio.sleep(0.01)
        assert set(identity.keepers) == {"good", "often", "shop"}
        await until(lambda: set(identity.keepers) == {"good", "shop"}, "the other one, which calls no more")
        scene.peer.scripts.clear()
        identity.ask("once")
        await until(lambda: "once" in scene.names(), "the certificate, now that its token lists it")

    played(script)


def test_what_a_service_needs_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is registered here: that it has no certificate is a problem whether or not it calls."""
    monkeypatch.setattr(limits, "SVID_IDLE_S", 0.0)
    monkeypatch.setattr(limits, "SVID_IDLE_LOOK_S", 0.01)

    async def script(scene: Scene) -> None:
        identity = scene.identity
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=403, text="it speaks for web")
        identity.need(frozenset({"shop"}))
        identity.ask("once")
        await until(lambda: "shop" in identity.keepers and identity.keepers["shop"].error, "the error")
        identity.ask("shop")
        await until(lambda: set(identity.keepers) == {"shop"}, "the other is forgotten")

    played(script)


def test_ten_thousand_units_that_call_once_make_room_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and the CA's work stay bounded, nobody is shut out for ever, and who called of late keeps what it has."""
    monkeypatch.setattr(limits, "SVID_ON_DEMAND", 3)
    monkeypatch.setattr(limits, "SVID_IDLE_S", 0.0)

    async def script(scene: Scene) -> None:
        identity = scene.identity
        identity.need(frozenset())
        for name in ("busy", "a", "b"):
            identity.ask(name)
        await until(lambda: scene.names() == ["a", "b", "busy"], "three certificates")
        for number in range(10_000):
            identity.note_calls({"busy"})
            assert identity.ask(f"run-{number}") == ""
        assert len(identity._on_demand.services) == 3
        await until(lambda: scene.names() == ["busy", "run-9998", "run-9999"], "the last ones")
        assert set(identity.keepers) == {"busy", "run-9998", "run-9999"}
        assert b'service="a"' not in scene.metrics.render()
        monkeypatch.setattr(limits, "SVID_IDLE_S", 3600.0)
        assert "all have called within 3600 s" in identity.ask("late")

    played(script)
