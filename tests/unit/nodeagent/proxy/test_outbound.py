"""Captured connections of local workloads."""

import asyncio
import dataclasses
import socket
import struct

import msgspec
import pytest

from nodeagent.errors import Reason
from nodeagent.model.address import Address
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.outbound import Outbound, caller_of, original_dst
from nodeagent.wire.frames import WantHost
from tests.support.twohosts import Client, TwoHosts, run

UNIT = 0x5A000001


async def captured(hosts: TwoHosts) -> tuple[Client, Address]:
    """A client's connection at host1, and the address that the agent takes for its original destination."""
    client = await hosts.client()
    return client, Address(*client.end.sock.getsockname())


def knowing(snapshot: Snapshot, address: Address, *, host: str) -> Snapshot:
    """The same mesh, with `web` registered at `address` on `host`."""
    (found,) = snapshot.by_address.values()
    instance = type(found.instance)(found.instance.id, host, (address,))
    return Snapshot(
        9, snapshot.mesh, snapshot.services, snapshot.hosts, (), {address: type(found)(found.service, instance)},
        {address.ip: snapshot.hosts[host]}, {},
    )  # fmt: skip


async def served(hosts: TwoHosts, client: Client) -> ConnectionRow | None:
    """The row that serving the client leaves, if it has ended."""
    one = hosts.one
    await Outbound(one.live, one.supervisor, one.caller).serve(client.end)
    records = one.live.records.take()
    return records.rows[0] if records else None


def test_without_redirection_the_destination_is_the_listener_s_own_address() -> None:
    """IPv4 and IPv6; nothing is guessed."""
    for family, ip in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = socket.socket(family)
        server.bind((ip, 0))
        server.listen()
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        assert original_dst(accepted) == Address(ip, server.getsockname()[1])
        for sock in (client, accepted, server):
            sock.close()


def test_a_caller_that_has_reset_the_connection_is_nobody() -> None:
    """The kernel no longer says who it was: port 0, which no caller has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, peer = server.accept()
        with accepted:
            assert caller_of(accepted) == Address(*peer)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert caller_of(accepted).port == 0


def test_a_connection_that_was_reset_before_it_is_served_ends_with_a_row() -> None:
    """It is closed, and nobody is asked about it."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client, _ = await captured(hosts)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
            assert await served(hosts, client) is None
            while not (records := hosts.one.live.records.take()):
                await asyncio.sleep(0)
            assert records.rows[0].reason == Reason.RESET_BY_DOWNSTREAM

    run(work)


def test_an_unidentified_caller_is_refused_with_a_reset() -> None:
    """In strict mode, at a registered address."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client, here = await captured(hosts)
            hosts.one.live.follow(knowing(hosts.one.live.snapshot, here, host="host2"))
            asyncio.get_running_loop().remove_reader(hosts.one.sockets[1].fileno())
            row = await served(hosts, client)
            assert row is not None
            assert (row.reason, row.destination, row.source) == (Reason.UNIDENTIFIED, "web", "")
            assert (row.mode, row.generation) == ("strict", 9), "by which it was refused"
            assert b"uid" not in msgspec.json.encode(row), "nobody knows it"
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(client.sock, 1)

    run(work)


def test_a_port_of_the_agent_itself_is_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would come back for ever."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client, here = await captured(hosts)
            monkeypatch.setattr("nodeagent.proxy.outbound._OWN_PORTS", (here.port,))
            row = await served(hosts, client)
            assert row is not None
            assert row.reason == Reason.LOOP

    run(work)


def test_an_address_that_the_mesh_does_not_know_is_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no agent: from the client's address, in clear, recorded as direct."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            loop = asyncio.get_running_loop()
            client, _ = await captured(hosts)
            monkeypatch.setattr("nodeagent.proxy.outbound.original_dst", lambda _: hosts.web)
            hosts.one.live.follow(empty(hosts.one.live.snapshot))
            accepting = asyncio.create_task(hosts.accept())
            assert await served(hosts, client) is None
            app, addr = await accepting
            await loop.sock_sendall(client.sock, b"hello")
            assert await loop.sock_recv(app, 10) == b"hello"
            (relay,) = hosts.one.live.relays.values()
            assert (relay.row.path, relay.row.destination, addr[0]) == ("direct", "", "127.0.0.1")

    run(work)


def test_a_port_of_a_host_with_an_agent_where_nobody_is_known_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all is watched: the call is decided by what came meanwhile."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            one = hosts.one
            known = one.live.snapshot
            late = dataclasses.replace(known, mesh=msgspec.structs.replace(known.mesh, is_late=True), by_address={})
            asked: list[WantHost] = []

            def answer(question: WantHost) -> bool:
                asked.append(question)
                asyncio.get_running_loop().call_soon(lambda: (one.live.follow(known), one.live.first_use.note(question.host, question.wanted)))
                return True

            for is_late in (True, False):
                client, _ = await captured(hosts)
                asyncio.get_running_loop().remove_reader(one.sockets[1].fileno())
                monkeypatch.setattr("nodeagent.proxy.outbound.original_dst", lambda _: hosts.web)
                one.live.first_use.send = answer
                one.live.follow(late if is_late else known)
                row = await served(hosts, client)
                assert row is not None
                assert (row.reason, row.destination) == (Reason.UNIDENTIFIED, "web")
            assert asked == [WantHost("host2", hosts.web.port)]

    run(work)


def empty(snapshot: Snapshot) -> Snapshot:
    """A mesh without hosts and services."""
    return Snapshot(5, snapshot.mesh, {}, {})


def test_a_new_agent_refuses_until_it_knows_the_mesh() -> None:
    """no_snapshot, not a guess."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.one.live._snapshot = None
            client, _ = await captured(hosts)
            row = await served(hosts, client)
            assert row is not None
            assert row.reason == Reason.NO_SNAPSHOT

    run(work)
