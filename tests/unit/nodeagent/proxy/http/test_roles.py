"""Requests between two agents: who names them, who lets them in, on which connections they go."""

import asyncio
import dataclasses

import msgspec
import pytest

from nodeagent.decide.outbound import decide_outbound
from nodeagent.decide.route import find_destination
from nodeagent.model.address import Address
from nodeagent.model.intention import Intention
from nodeagent.model.policy.defaults import CallLimits, Upstream, UpstreamConfig
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.service import Service
from nodeagent.model.snapshot import Registration
from nodeagent.proxy.http.engine import Engine
from nodeagent.proxy.http.roles import CallerRole, Pair, Ways, codec_of
from nodeagent.proxy.upstream import connect_direct
from nodeagent.wire.frames import PartRow, Shared
from tests.support.http_scene import Talk
from tests.support.loop import until
from tests.support.routes import resolver
from tests.support.twohosts import HostPlane, TwoHosts, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUT_PRIVATE = Intention(
    "shop", "web", "deny",
    permissions=(Permission(action="deny", http=PermissionMatch(path_prefix="/private")), Permission(action="allow")),
)  # fmt: skip


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: web", *fields, b"", b""))


def scene(work, *intentions: Intention) -> None:
    async def within() -> None:
        async with TwoHosts(*intentions, protocol="http") as hosts:
            await work(hosts)

    run(within)


async def client(hosts: TwoHosts, plane: HostPlane | None = None) -> Talk:
    """A connection of shop to web; plane: of which host, host1's if it is not said."""
    live = (plane or hosts.one).live
    made = await hosts.client()

    def decide(snapshot):
        return decide_outbound(snapshot, "shop", find_destination(snapshot, hosts.web, dst_is_local=False))

    async def reach(via):
        return await (hosts.one.caller.call("shop", via) if via.path == "tunnel" else connect_direct(via.address, "", live.ports))

    role = CallerRole(live, Pair("shop", "web", "127.0.0.1"), decide(live.snapshot), Ways(decide, reach))
    live.open(made.end, "outbound", Address("127.0.0.1", 1), "x").link(Engine(role, live, codec_of(live, "web")))
    return Talk(made.sock)


async def app(hosts: TwoHosts) -> Talk:
    return Talk((await hosts.accept())[0])


def test_the_application_is_told_who_calls_by_its_own_agent_alone() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/a?b", b"X-Forwarded-Client-Cert: URI=evil", b"x_spiffe_id: evil", b"X-Note: kept"))
        web = await app(hosts)
        head = await web.head()
        assert head.startswith(b"GET /a?b HTTP/1.1\r\n")
        assert b"evil" not in head
        assert b"X-Note: kept\r\n" in head
        lowered = head.lower()
        assert b"uri=spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/shop" in lowered
        assert b"x-forwarded-for: 127.0.0.1\r\n" in lowered
        assert lowered.count(b"x-request-id: ") == lowered.count(b"traceparent: ") == lowered.count(b"x-nodeagent-hops: ") == 1
        await web.say(OK)
        assert await shop.hear(b"ok") == OK

    scene(work)


def test_the_callees_agent_decides_each_request() -> None:
    """What is denied never reaches the application; what comes after it does, on the same connections."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/%70rivate/x", b"X-Request-Id: r-7") + get(b"/open"))
        assert (await shop.head()).startswith(b"HTTP/1.1 403 ")
        assert await shop.hear(b"\n") == b"request r-7\n"
        web = await app(hosts)
        assert b"GET /open " in await web.head()
        await web.say(OK)
        await shop.hear(b"ok")
        assert hosts.two.live.http.requests.take()[0].denials == 1

    scene(work, BUT_PRIVATE)


def test_on_one_host_the_one_agent_decides() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts, hosts.two)
        await shop.say(get(b"/private/x"))
        assert (await shop.head()).startswith(b"HTTP/1.1 403 ")
        await shop.hear(b"\n")
        await shop.say(get(b"/open", b"x-spiffe-id: evil"))
        head = await (await app(hosts)).head()
        assert b"svc/shop" in head
        assert b"evil" not in head

    scene(work, BUT_PRIVATE)


def test_an_ambiguous_path_is_refused_where_a_rule_reads_paths() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/open%2f..%2fprivate"))
        assert (await shop.head()).startswith(b"HTTP/1.1 400 ")

    scene(work, BUT_PRIVATE)


def test_a_path_goes_on_as_it_came_where_no_rule_reads_it() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/a%2f..%2Fb"))
        assert (await (await app(hosts)).head()).startswith(b"GET /a%2f..%2Fb HTTP/1.1\r\n")

    scene(work)


def test_connections_of_one_caller_share_a_stream() -> None:
    async def work(hosts: TwoHosts) -> None:
        web = None
        for _ in range(3):
            shop = await client(hosts)
            await shop.say(get())
            web = web or await app(hosts)
            await web.head()
            await web.say(OK)
            await shop.hear(b"ok")
        (tunnel,) = hosts.one.live.tunnels
        assert len(tunnel.session.streams) == 1

    scene(work)


def test_an_application_that_closes_between_requests_is_connected_to_again() -> None:
    """The stream between the agents stays."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        for method in (b"GET", b"POST", b"POST"):
            await shop.say(method + get()[3:])
            web = await app(hosts)
            await web.head()
            await web.say(OK)
            await shop.hear(b"ok")
            web.close()
        assert hosts.two.live.opened["tunnel"] == 1

    scene(work)


def test_the_next_request_is_decided_by_the_newest_policy() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/private/x"))
        web = await app(hosts)
        await web.head()
        hosts.follow(BUT_PRIVATE)
        await web.say(OK)
        await shop.hear(b"ok")
        await shop.say(get(b"/private/x"))
        assert (await shop.head()).startswith(b"HTTP/1.1 403 ")

    scene(work)


def test_a_pair_that_is_denied_altogether_is_refused_at_once() -> None:
    """And its connections are cut, as those of every protocol."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        hosts.follow(Intention("shop", "web", "deny"))
        await shop.say(get())
        assert (await shop.head()).startswith(b"HTTP/1.1 403 ")

    scene(work)


def test_a_request_that_went_in_a_circle_is_refused() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/", b"X-Nodeagent-Hops: 99"))
        assert (await shop.head()).startswith(b"HTTP/1.1 508 ")

    scene(work)


def test_what_the_catalog_forgets_does_not_go_in_clear() -> None:
    """A service that left it is called as before: in the tunnel."""

    async def work(hosts: TwoHosts) -> None:
        shop, live = await client(hosts), hosts.one.live
        live.follow(dataclasses.replace(live.snapshot, generation=2, by_address={}, services={}))
        await shop.say(get())
        web = await app(hosts)
        await web.head()
        assert len(hosts.one.live.tunnels) == 1
        assert isinstance(next(iter(hosts.two.live.snapshot.by_address.values())), Registration)

    scene(work)


def test_a_tunnel_that_breaks_is_a_502_and_the_next_request_goes_on_another() -> None:
    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(b"POST" + get()[3:])
        await (await app(hosts)).head()
        (tunnel,) = hosts.one.live.tunnels
        tunnel.lose("the test wants it")
        assert (await shop.head()).startswith(b"HTTP/1.1 502 ")
        await shop.hear(b"\n")
        await shop.say(get())
        web = await app(hosts)
        await web.head()
        await web.say(OK)
        await shop.hear(b"ok")

    scene(work)


def test_a_tunnel_that_only_finishes_takes_no_other_request() -> None:
    """As after a renewal of its certificate: it ends, however busy the callers are."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        for _ in range(2):
            await shop.say(get())
            web = await app(hosts)
            await web.head()
            await web.say(OK)
            await shop.hear(b"ok")
            (tunnel,) = [each for each in hosts.one.live.tunnels if not each.is_ending]
            tunnel.retire()
        while len(hosts.one.live.tunnels) > 1:
            await asyncio.sleep(0.01)

    scene(work)


def test_the_codec_is_the_configurations() -> None:
    async def work(hosts: TwoHosts) -> None:
        live = hosts.one.live
        assert codec_of(live, "web") == "httptools"
        live.config = msgspec.structs.replace(live.config, traffic=msgspec.structs.replace(live.config.traffic, codec="h11"))
        assert codec_of(live, "web") == "h11"
        shop = await client(hosts)
        await shop.say(get())
        web = await app(hosts)
        await web.head()
        await web.say(OK)
        assert await shop.hear(b"ok") == OK

    scene(work)


@pytest.mark.parametrize("size", [3_000_000])
def test_long_bodies_pass_both_agents_whole(size: int) -> None:
    """With back-pressure all the way."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        body = bytes(range(256)) * (size // 256)
        sending = asyncio.create_task(shop.say(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body) + body + b""))
        web = await app(hosts)
        await web.head()
        while len(web.heard) < len(body):
            web.heard += await asyncio.get_running_loop().sock_recv(web.sock, 65536)
        assert web.heard == body
        await sending
        answering = asyncio.create_task(web.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
        await shop.head()
        while len(shop.heard) < len(body):
            shop.heard += await asyncio.get_running_loop().sock_recv(shop.sock, 65536)
        assert shop.heard == body
        await answering

    scene(work)


def test_another_protocol_ends_with_the_leave_of_its_request() -> None:
    """The intention still allows some: nobody else would cut it. What is allowed as before stays."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/open", b"Upgrade: websocket", b"Connection: Upgrade"))
        web = await app(hosts)
        await web.head()
        await web.say(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await shop.head()
        hosts.follow(msgspec.structs.replace(BUT_PRIVATE))
        await web.say(b"still")
        await shop.hear(b"still")
        no_more = Permission(action="deny", http=PermissionMatch(path_exact="/open"))
        hosts.follow(msgspec.structs.replace(BUT_PRIVATE, permissions=(no_more, *BUT_PRIVATE.permissions)))
        assert await shop.is_reset()
        assert await web.is_reset()
        assert not hosts.two.live.http.switched

    scene(work, BUT_PRIVATE)


def test_another_protocol_does_not_begin_when_its_leave_is_gone() -> None:
    """Its request was let in before; no newer snapshot may come for long."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get(b"/open", b"Upgrade: websocket", b"Connection: Upgrade"))
        web = await app(hosts)
        await web.head()
        hosts.follow(msgspec.structs.replace(BUT_PRIVATE, permissions=(Permission(action="allow", http=PermissionMatch(path_exact="/x")),)))
        await web.say(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly")
        assert (await shop.head()).startswith(b"HTTP/1.1 403 ")
        assert await web.is_reset()

    scene(work, BUT_PRIVATE)


def test_no_request_is_taken_by_a_certificate_that_has_ended() -> None:
    """Nor on a stream that was there before: the caller's agent should have left it."""

    async def work(hosts: TwoHosts) -> None:
        shop = await client(hosts)
        await shop.say(get())
        web = await app(hosts)
        await web.head()
        await web.say(OK)
        await shop.hear(b"ok")
        (tunnel,) = hosts.two.live.tunnels
        tunnel.expires_at = tunnel.opened_at = 0.0
        await shop.say(get())
        assert (await shop.head()).startswith(b"HTTP/1.1 503 ")

    scene(work)


def bound(hosts: TwoHosts, number: int) -> None:
    """web's requests are routed, and shop may have so many of them open."""
    live = hosts.one.live
    services = dict(live.snapshot.services)
    services["web"] = msgspec.structs.replace(services["web"], traffic=resolver("web"))
    said = UpstreamConfig(defaults=Upstream(limits=CallLimits(max_concurrent_requests=number, max_connections=number)))
    services["shop"] = Service("shop", upstreams=said)
    live.follow(dataclasses.replace(live.snapshot, generation=2, services=services))


def test_a_caller_has_no_more_requests_open_than_it_may() -> None:
    """The next one is refused, and after the first is over, another may pass: on the one connection that it may have."""

    async def work(hosts: TwoHosts) -> None:
        bound(hosts, 1)
        shop, other = await client(hosts), await client(hosts)
        await shop.say(get())
        web = await app(hosts)
        await web.head()
        await other.say(get())
        assert b" 503 " in await other.head()
        await other.hear(b"\n")
        await web.say(OK)
        await shop.hear(b"ok")
        await other.say(get())
        await web.head()
        await web.say(OK)
        await other.hear(b"ok")
        assert sum(tally.shed for tally in hosts.one.live.http.requests.take()) == 1

    scene(work)


def test_where_control_leases_a_request_waits_for_its_part() -> None:
    async def work(hosts: TwoHosts) -> None:
        bound(hosts, 1)
        sharing, said = hosts.one.live.http.sharing, list[Shared]()
        sharing.join(lambda shared: said.append(shared) or True)
        shop = await client(hosts)
        await shop.say(get())
        await until(lambda: any(shared.parts for shared in said), "it asks")
        for kind in ("requests", "connections"):
            sharing.hear(Shared([], [PartRow("shop", "web", "", kind, 1, 1, 0, 1)]))
        web = await app(hosts)
        await web.head()
        await web.say(OK)
        await shop.hear(b"ok")

    scene(work)
