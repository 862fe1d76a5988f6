"""Certificates from either kind of CA, against a scripted one; Connect's as Consul 1.8.7 answers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.issuer import LEAF, SIGN, Issuer, LeafWithheld
from nodeagent.control.trust import Trust, parse_roots
from nodeagent.errors import CatalogError
from nodeagent.observe.metrics import Metrics
from tests.support.identity_scene import Scene, played
from tests.support.loop import run, until
from tests.support.scripted_catalog import DOMAIN, ROOTS, ScriptedCatalog

LIFE = timedelta(hours=72)


def leaf_of(ca: LocalCa, service: str, age: timedelta = timedelta(0), datacenter: str = "dc1", domain: str = DOMAIN) -> dict[str, str]:
    """An answer of the agent, with the kind of key that it makes, signed so long ago; below 0: hence."""
    spiffe_id = service_id(domain, datacenter, service)
    key_pem, csr_pem = new_key_and_csr(spiffe_id)
    key = load_pem_private_key(key_pem.encode(), None)
    made = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    chain = ca.sign(csr_pem, spiffe_id, LIFE, datetime.now(UTC) - age)
    return {"CertPEM": chain, "PrivateKeyPEM": made, "Service": service, "ServiceURI": str(spiffe_id)}


class Connect:
    """A Consul agent: no signing of requests, leaves with an index, made anew when `renew` is called."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.peer = peer
        self.asked: list[str] = []
        self.index = 16
        self.age = timedelta(0)
        self.is_due = False
        self.leaves: dict[str, dict[str, str]] = {}
        peer.scripts[SIGN] = lambda _: web.Response(status=404)
        for service in ("web", "shop"):
            peer.scripts[LEAF + service] = self._answer

    def renew(self, age: timedelta = timedelta(0)) -> None:
        self.age = age
        self.index += 1
        self.leaves.clear()

    def _answer(self, request: web.Request) -> web.Response:
        service, index = request.path.removeprefix(LEAF), request.query.get("index", "")
        self.asked.append(index)
        if index == str(self.index) and self.is_due:
            self.renew(-2 * LIFE)
        if service not in self.leaves:
            self.leaves[service] = leaf_of(self.peer.ca, service, self.age)
        return web.json_response(self.leaves[service], headers={"X-Consul-Index": str(self.index)})


def in_a_week() -> float:
    """A clock by which leaves of now have ended."""
    return (datetime.now(UTC) + 2 * LIFE).timestamp()


def issuing(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            trust = parse_roots((await catalog.read(ROOTS)).body)
            await script(peer, Issuer(catalog, "dc1", Metrics("1"), real_environment()), trust)

    run(scene)


def test_connects_leaf_is_taken_where_no_request_is_signed() -> None:
    """Which CA there is is found out once, not for each certificate."""

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        connect = Connect(peer)
        svid = await issuer.issue("web", trust)
        assert str(svid.spiffe_id) == f"spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web"
        assert issuer.is_connect
        await issuer.issue("shop", trust)
        assert [path for method, path, _ in peer.asked if method == "PUT"] == [SIGN]
        assert connect.asked == ["", ""]
        assert trust.bundle.trust_domain == DOMAIN

    issuing(script)


def test_many_at_once_agree_on_the_ca() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        await asyncio.gather(*(issuer.issue(name, trust) for name in ("web", "shop") * 4))
        assert issuer.is_connect

    issuing(script)


def test_the_same_leaf_is_asked_for_with_its_index() -> None:
    """Only so does the agent look whether it is due; a new one is taken."""

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        connect = Connect(peer)
        first = await issuer.issue("web", trust)
        assert (await issuer.issue("web", trust)).serial == first.serial
        connect.renew()
        assert (await issuer.issue("web", trust)).serial != first.serial
        issuer.forget("web")
        await issuer.issue("web", trust)
        assert connect.asked == ["", "16", "16", ""]

    issuing(script)


def test_who_waits_for_a_renewal_keeps_no_first_certificate_waiting(monkeypatch) -> None:
    """Each past its half life waits at the agent for seconds, again and again: behind a hundred of them a new service waited 23 s."""
    monkeypatch.setattr(limits, "LEAF_WAIT_S", 60.0)
    assert limits.CATALOG_WATCHES + limits.SVID_ASKS + limits.LEAF_WAITS + limits.FIRST_USE_AT_ONCE < limits.CATALOG_CONNECTIONS

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        peer.scripts[SIGN] = lambda _: web.Response(status=404)
        old = [f"old{n}" for n in range(limits.SVID_ASKS + limits.LEAF_WAITS)]
        for service in (*old, "new"):
            peer.values[LEAF + service] = 16, leaf_of(peer.ca, service)
        await asyncio.gather(*(issuer.issue(service, trust) for service in old))
        waiting = [asyncio.create_task(issuer.issue(service, trust)) for service in old]
        await until(lambda: [index for _, _, index in peer.asked].count("16") >= limits.LEAF_WAITS, "keepers wait")
        await issuer.issue("new", trust)
        assert [index for _, _, index in peer.asked].count("16") == limits.LEAF_WAITS
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    issuing(script)


def test_a_leaf_that_has_ended_is_not_taken_and_another_is_asked_for() -> None:
    """A read without an index may be answered from a cache."""

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        connect = Connect(peer)
        connect.is_due = True
        issuer._now = in_a_week
        svid = await issuer.issue("web", trust)
        assert svid.not_after.timestamp() > in_a_week()
        assert connect.asked == ["", "16"]

    issuing(script)


def test_an_agent_that_has_only_ended_leaves_says_so() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        issuer._now = in_a_week
        ended = leaf_of(peer.ca, "web")
        peer.scripts[LEAF + "web"] = lambda _: web.json_response(ended, headers={"X-Consul-Index": "9"})
        with pytest.raises(CatalogError, match=r"ended at .* gives no other"):
            await issuer.issue("web", trust)

    issuing(script)


def test_a_leaf_of_another_datacenter_is_refused_with_the_cure() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        other = leaf_of(peer.ca, "web", datacenter="dc2")
        peer.scripts[LEAF + "web"] = lambda _: web.json_response(other)
        with pytest.raises(CatalogError, match=r"dc/dc2/svc/web instead of .* is host.datacenter"):
            await issuer.issue("web", trust)

    issuing(script)


@pytest.mark.parametrize(
    "change", [{"PrivateKeyPEM": "canary"}, {"CertPEM": "canary"}, {"PrivateKeyPEM": None}, {"CertPEM": 7}, {"PrivateKeyPEM": ""}]
)
def test_an_answer_that_cannot_be_used_is_not_quoted(change: dict) -> None:
    """It holds a key."""

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        broken = leaf_of(peer.ca, "web") | change
        peer.scripts[LEAF + "web"] = lambda _: web.json_response(broken)
        with pytest.raises(CatalogError, match="cannot be used") as caught:
            await issuer.issue("web", trust)
        assert "canary" not in str(caught.value)
        assert caught.value.__suppress_context__

    issuing(script)


def test_a_right_that_is_missing_is_named() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        peer.scripts[LEAF + "web"] = lambda _: web.Response(status=403, text="Permission denied")
        for _ in range(2):
            with pytest.raises(LeafWithheld, match=r'service "web" \{ policy = "write" \}'):
                await issuer.issue("web", trust)

    issuing(script)


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (DOMAIN, rf"is of the trust domain old.consul, and the catalog's is {DOMAIN}: .* restart it \(systemctl restart consul\)"),
        ("old.consul", r"are of the trust domain old.consul by now, which is not in force yet"),
    ],
)
def test_a_leaf_of_another_trust_domain_has_its_cause_and_is_looked_at_again(offered: str, why: str) -> None:
    """Consul's agent keeps it when its servers are others: with its index alone the agent looks whether it is still good."""

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        connect = Connect(peer)
        connect.leaves["web"] = leaf_of(LocalCa.create("old.consul", datetime.now(UTC)), "web", domain="old.consul")
        issuer.offered = offered
        for _ in range(2):
            with pytest.raises(LeafWithheld, match=why):
                await issuer.issue("web", trust)
        connect.renew()
        await issuer.issue("web", trust)
        assert connect.asked == ["", "16", "16"]

    issuing(script)


def test_an_agent_that_knows_the_roots_of_before_is_named_with_the_cure() -> None:
    """Consul 1.8.7's words, of a service of which the agent had no leaf yet."""
    said = "rpc error making call: SPIFFE ID in CSR from a different trust domain: a.consul, we are b.consul"

    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        peer.scripts[LEAF + "web"] = lambda _: web.Response(status=500, text=said)
        with pytest.raises(LeafWithheld, match=r"different trust domain.* restart it"):
            await issuer.issue("web", trust)

    issuing(script)


def test_a_catalog_that_serves_neither_says_what_it_said_first() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        peer.scripts[SIGN] = lambda _: web.Response(status=404, text="no such thing")
        with pytest.raises(CatalogError, match="404 to /v1/nodeagent/sign: no such thing"):
            await issuer.issue("web", trust)
        assert not issuer.is_connect

    issuing(script)


def test_the_other_ca_is_found_when_the_catalog_is_replaced() -> None:
    async def script(peer: ScriptedCatalog, issuer: Issuer, trust: Trust) -> None:
        Connect(peer)
        await issuer.issue("web", trust)
        peer.scripts = {LEAF + "web": lambda _: web.Response(status=501)}
        assert isinstance(await issuer.issue("web", trust), Svid)
        assert not issuer.is_connect

    issuing(script)


def test_a_leaf_that_is_not_due_is_asked_for_now_and_then_until_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """At half life ours is due and Connect's is not: no failure, no complaint, and not at once for ever."""
    monkeypatch.setattr(limits, "LEAF_AGAIN_S", 0.05)
    monkeypatch.setattr(limits, "LEAF_WAIT_S", 1.0)

    async def script(scene: Scene) -> None:
        connect = Connect(scene.peer)
        scene.identity.need(frozenset({"web"}))
        await until(lambda: scene.names() == ["web"], "the certificate")
        assert scene.identity.is_by_connect
        keeper = scene.identity.keepers["web"]
        assert keeper.svid
        first = keeper.svid.serial
        scene.ahead_s = 50 * 3600.0
        keeper.bell.ring()
        await until(lambda: connect.asked.count("16") > 2, "more than one question")
        assert (keeper.error, keeper.svid.serial) == ("", first)
        connect.renew(timedelta(hours=-50))
        await until(lambda: keeper.svid and keeper.svid.serial != first, "another")

    played(script)
