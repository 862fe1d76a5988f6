"""Certificates and roots, against a scripted CA."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from certs.serial import tag_in
from nodeagent import limits
from nodeagent.control.environment import real_environment
from nodeagent.control.identity import services_spoken_for
from nodeagent.control.keeper import Keeper, Surroundings
from nodeagent.control.key_memory import KeptSvid, encode_keys
from nodeagent.control.trust import parse_roots
from tests.support.identity_scene import ANY, SIGN, Scene, played
from tests.support.loop import until
from tests.support.mesh import config, mesh
from tests.support.scripted_catalog import DOMAIN, ROOTS


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("", {"shop", "cart"}),
        ('[[workload]]\nselector = "unix:uid:7"\nservice = "cron"\n', {"shop", "cart", "cron"}),
        ('[identity]\nunits = ["backup.service", "mail"]\n', {"shop", "cart", "backup", "mail"}),
        ('[identity]\nunits = "any"\n', {"shop", "cart"}),
    ],
)
def test_services_of_this_host_are_those_registered_here_and_those_configured(extra: str, expected: set[str]) -> None:
    assert expected == services_spoken_for(mesh(extra=extra), config(extra))


def test_needed_certificates_are_fetched_and_handed_out_with_the_roots() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: scene.names() == ["cart", "shop"], "both certificates")
        ring = scene.rings[-1]
        assert (ring.trust_domain, ring.bundle_pem) == (DOMAIN, scene.peer.ca.cert_pem)
        assert f"spiffe://{DOMAIN}/ns/default/dc/dc1/svc/shop" == str(scene.identity.keepers["shop"].svid.spiffe_id)

    played(script)


def test_keys_stay_here_and_show_nowhere() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        assert "PRIVATE KEY" not in repr(scene.rings) + str(scene.peer.written) + repr(
            scene.identity.keepers["shop"].svid
        )
        assert "PRIVATE KEY" in scene.rings[-1].svids[0].key_pem

    played(script)


def test_a_worker_that_asks_gets_one_request_however_often_it_asks() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset())
        await until(lambda: scene.identity.trust, "the roots")
        for _ in range(50):
            scene.identity.ask("newcomer")
        await until(lambda: scene.names() == ["newcomer"], "the certificate")
        assert scene.identity.ask("newcomer") == ""
        assert scene.signed() == 1

    played(script)


@pytest.mark.parametrize("service", ["intruder", "../../x", ""])
def test_a_service_that_the_configuration_does_not_name_is_not_asked_for(service: str) -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        assert "names no such workload" in scene.identity.ask(service)
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate of another")
        assert set(scene.identity.keepers) == {"shop"}

    played(script, config())


def test_a_service_that_is_needed_since_just_now_is_not_refused() -> None:
    """A peer may call it in the very moment in which it is registered."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        scene.identity.need(frozenset({"shop"}))
        assert (scene.identity.ask("shop"), scene.identity.keepers) == ("", {})
        await until(lambda: scene.names() == ["shop"], "its certificate")

    played(script, config())


def test_while_the_catalog_is_away_and_the_roots_are_unknown_nobody_waits() -> None:
    """After a restart without it: a call is refused with the reason, not after a while."""

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset())
        scene.peer.scripts["/v1/connect/ca/roots"] = lambda _: web.Response(status=500, text="no leader")
        await until(lambda: scene.identity.complaint, "a failure")
        assert "roots are not known: the catalog answered 500" in scene.identity.ask("newcomer")
        scene.peer.scripts.clear()
        await until(lambda: scene.names() == ["newcomer"], "the certificate, once it answers")

    played(script)


def test_a_refusal_is_shown_and_not_repeated_for_each_question() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset())
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=403, text="it speaks for web")
        scene.identity.ask("newcomer")
        await until(
            lambda: "newcomer" in scene.identity.keepers and scene.identity.keepers["newcomer"].error, "the error"
        )
        assert "it speaks for web" in scene.identity.keepers["newcomer"].error
        assert "it speaks for web" in scene.identity.ask("newcomer")
        before = len(scene.peer.asked)
        for _ in range(100):
            scene.identity.ask("newcomer")
        await asyncio.sleep(0)
        assert len(scene.peer.asked) <= before + 1
        scene.peer.scripts.clear()
        await until(lambda: scene.names() == ["newcomer"], "the certificate, once the CA agrees")

    played(script)


def test_a_certificate_for_somebody_else_is_not_taken() -> None:
    from datetime import UTC, datetime, timedelta

    from certs.spiffe import service_id

    async def script(scene: Scene) -> None:
        def sign_other(csr_pem: str) -> web.Response:
            wrong = service_id(DOMAIN, "dc1", "admin")
            chain = scene.peer.ca.sign(csr_pem, wrong, timedelta(hours=1), datetime.now(UTC))
            return web.json_response({"CertPEM": chain})

        scene.peer._sign = sign_other
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: "shop" in scene.identity.keepers and scene.identity.keepers["shop"].error, "the error")
        assert scene.identity.keepers["shop"].svid is None

    played(script)


def test_workers_keep_what_they_have_until_every_needed_certificate_was_asked_for() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=500, text="busy")
        scene.identity.ask("cron")
        await until(lambda: "cron" in scene.identity.keepers and scene.identity.keepers["cron"].error, "a failure")
        assert scene.rings == []
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.rings, "a ring, once shop was refused as well")
        assert scene.identity.keepers["shop"].error
        assert len(scene.rings) == 1
        scene.peer.scripts.clear()
        await until(lambda: scene.names() == ["cron", "shop"], "both")

    played(script)


def test_a_service_that_left_this_host_loses_its_certificate() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: scene.names() == ["cart", "shop"], "both")
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "one")
        assert b'service="cart"' not in scene.metrics.render()

    played(script)


def test_new_roots_reach_the_workers_and_old_certificates_are_replaced() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        old = scene.rings[-1].svids[0].serial
        roots = scene.peer.roots()
        roots["Roots"][0]["ID"] = roots["ActiveRootID"] = "r2"
        scene.peer.set(ROOTS, roots)
        await until(lambda: scene.rings[-1].svids and scene.rings[-1].svids[0].serial != old, "another certificate")

    played(script)


def test_garbage_instead_of_roots_keeps_the_old_ones() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        scene.peer.set(ROOTS, {"Roots": []})
        await until(lambda: scene.identity.complaint, "the complaint")
        assert scene.identity.trust.bundle.trust_domain == DOMAIN

    played(script)


def test_a_revocation_takes_the_certificate_from_the_workers_until_there_is_another() -> None:
    """Its end shows nowhere any more; the new one's does, and what is refused goes to the workers."""

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        tag = tag_in(scene.rings[-1].svids[0].serial)
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=403, text="the token was revoked")
        scene.peer.set(ROOTS, scene.peer.roots() | {"RevokedSerialTags": [tag]})
        await until(lambda: scene.names() == [] and scene.rings[-1].revoked == (tag,), "the withdrawal")
        await until(lambda: b'service="shop"' not in scene.metrics.render(), "no end is shown")
        assert b"nodeagent_revoked_tokens 1.0" in scene.metrics.render()
        scene.peer.scripts.clear()
        scene.identity.keepers["shop"].bell.ring()
        await until(lambda: scene.names() == ["shop"], "another")
        assert tag_in(scene.rings[-1].svids[0].serial) != tag
        assert b'service="shop"' in scene.metrics.render()

    played(script)


def test_a_jump_of_the_clock_wakes_the_keepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They rest for a minute at a time otherwise, and what has ended meanwhile would be spoken by."""
    monkeypatch.setattr(limits, "CLOCK_LOOK_S", 0.01)

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        scene.peer.scripts[SIGN] = lambda _: web.Response(status=500, text="the CA is busy")
        scene.ahead_s = 7200.0
        await until(lambda: scene.names() == [], "the withdrawal")
        assert "has expired" in scene.identity.keepers["shop"].lost
        scene.ahead_s = 0.0
        scene.peer.scripts.clear()
        await until(lambda: scene.names() == ["shop"], "another, when the clock is right again")

    played(script)


def test_the_ca_is_asked_by_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that starts with a thousand services does not flood it."""
    monkeypatch.setattr(limits, "SVID_ASKS", 2)
    now = most = 0

    async def script(scene: Scene) -> None:
        put = scene.catalog.put

        async def counted(path: str, value: object) -> bytes:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await put(path, value)
            finally:
                now -= 1

        monkeypatch.setattr(scene.catalog, "put", counted)
        scene.identity.need(frozenset({f"s{number}" for number in range(8)}))
        await until(lambda: len(scene.names()) == 8, "all certificates")

    played(script)
    assert most == 2


@pytest.mark.parametrize(("ago", "wakes"), [(0.0, False), (1.0, True)])
def test_a_refused_certificate_is_not_asked_for_again_at_once(ago: float, *, wakes: bool) -> None:
    """However often workers ask; SVID_REFUSED_S later the next question counts."""

    async def script(scene: Scene) -> None:
        world = Surroundings(lambda: None, scene.identity._issuer.issue, lambda: None, scene.catalog.rest, real_environment())
        keeper = scene.identity.keepers["late"] = Keeper("late", world)
        keeper.failed_at = asyncio.get_running_loop().time() - ago * limits.SVID_REFUSED_S
        resting = asyncio.create_task(keeper.bell.rest(3600))
        await asyncio.sleep(0)
        scene.identity.ask("late")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert resting.done() is wakes
        resting.cancel()
        await asyncio.gather(resting, return_exceptions=True)

    played(script)


def test_what_an_earlier_control_knew_needs_no_ca() -> None:
    """Same certificates, same roots; what has ended, or is another's, is asked for anew."""

    async def script(scene: Scene) -> None:
        kept: list[bytes] = []
        scene.identity.remember = kept.append
        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: scene.names() == ["cart", "shop"] and kept, "both certificates")
        heir = Scene(scene.peer, ANY)
        heir.identity.restore(kept[-1])
        assert {name: keeper.svid for name, keeper in heir.identity.keepers.items()} == {
            name: keeper.svid for name, keeper in scene.identity.keepers.items()
        }
        assert heir.identity.ring() == scene.rings[-1]
        late = Scene(scene.peer, ANY)
        late.ahead_s = 7200.0
        late.identity.restore(kept[-1])
        assert (late.identity.keepers, late.identity.trust is None) == ({}, False)
        other = Scene(scene.peer, ANY)
        other.identity.restore(encode_keys(scene.identity._roots_body, tuple(
            KeptSvid("till", svid.chain_pem, svid.key_pem) for svid in scene.rings[-1].svids
        )))  # fmt: skip
        assert other.identity.keepers == {}

    played(script)


def test_roots_that_the_catalog_confirms_are_no_change() -> None:
    """After a restart there is no warning of what was known; other roots are one."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        heir = Scene(scene.peer, ANY)
        body = scene.identity._roots_body
        with capture_logs() as log:
            heir.identity.restore(encode_keys(body, ()))
            heir.identity._trust_in(parse_roots(body), body)
            assert [line["event"] for line in log] == ["keys_restored"]
            heir.identity._trust_in(parse_roots(body), body + b" ")
            assert log[-1]["event"] == "roots_changed"

    played(script)


def test_garbage_of_an_earlier_control_is_ignored() -> None:
    """It begins as if there were none."""

    async def script(scene: Scene) -> None:
        scene.identity.restore(b"garbage")
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "a certificate of the CA")

    played(script)


def test_the_ca_is_told_what_the_workers_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """By service, serial, root and end; a service that left is not among it any more."""
    monkeypatch.setattr(limits, "HELD_S", 0.01)

    async def script(scene: Scene) -> None:
        def told() -> list[tuple[str, str, str]]:
            words = [body["Certificates"] for path, body in scene.peer.written if path == "/v1/nodeagent/held"]
            return [(each["Service"], each["Serial"], each["Root"]) for each in (words[-1] if words else [])]

        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: [service for service, _, _ in told()] == ["cart", "shop"], "both")
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: told() == [("shop", scene.rings[-1].svids[0].serial, "r1")], "one")

    played(script)


def test_a_restored_certificate_that_nobody_needs_goes() -> None:
    """Its service left this host meanwhile, and the configuration names it no more."""
    named = config("")

    async def script(scene: Scene) -> None:
        kept: list[bytes] = []
        scene.identity.remember = kept.append
        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: scene.names() == ["cart", "shop"] and kept, "both certificates")
        heir = Scene(scene.peer, named)
        heir.identity.restore(kept[-1])
        heir.identity.need(frozenset({"shop"}))
        async with heir.catalog:
            task = asyncio.create_task(heir.identity.run())
            await until(lambda: heir.names() == ["shop"], "the one that is needed")
            assert list(heir.identity.keepers) == ["shop"]
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    played(script, named)


def test_a_catalog_that_refuses_the_roots_shuts_this_host_out_until_it_does_not() -> None:
    """And then everybody who rests is woken: another token may do."""

    async def script(scene: Scene) -> None:
        scene.peer.scripts[ROOTS] = lambda _: web.Response(status=403, text="the token is unknown")
        await until(lambda: scene.identity.is_shut_out, "the refusal")
        resting = asyncio.create_task(scene.catalog.rest(3600))
        scene.peer.scripts.clear()
        await until(lambda: not scene.identity.is_shut_out and resting.done(), "another answer")

    played(script)
