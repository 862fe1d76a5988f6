"""The worker's end of the channel to the supervisor."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from nodeagent import limits
from nodeagent.errors import LimitReached
from nodeagent.proxy.supervisor import SupervisorChannel
from nodeagent.wire import requests
from tests.support.twohosts import give_sockets, run

Work = Callable[[SupervisorChannel, socket.socket], Awaitable[None]]


def with_channel(work: Work, units: dict[int, str] | None = None) -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(5)
        channel = SupervisorChannel(ours, {} if units is None else units)
        await work(channel, theirs)
        channel.close()
        channel._sock.close()
        theirs.close()

    run(body)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_ping_is_answered_with_its_number() -> None:
    """That is the heartbeat: it runs through the data path's own loop."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        theirs.send(requests.encode_beat(requests.PING, 77))
        await turns()
        answer = theirs.recv(512)
        assert (answer[0], requests.decode_beat(answer)) == (requests.PONG, 77)

    with_channel(work)


def test_units_are_learnt_and_withdrawn() -> None:
    """An empty name withdraws the mark."""
    units: dict[int, str] = {}

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        theirs.send(requests.encode_unit(7, "shop.service"))
        await turns()
        assert units == {7: "shop.service"}
        theirs.send(requests.encode_unit(7, ""))
        await turns()
        assert not units.get(7)

    with_channel(work, units)


def test_a_burst_of_callers_gets_sockets_in_batches() -> None:
    """Two hundred at once, sixty-four a message."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(theirs.fileno(), give_sockets, theirs)
        socks = await asyncio.gather(*(channel.prepared_socket(4) for _ in range(200)))
        assert len({sock.fileno() for sock in socks}) == 200
        for sock in socks:
            sock.close()
        asyncio.get_running_loop().remove_reader(theirs.fileno())

    with_channel(work)


def test_a_silent_supervisor_is_a_limit_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, no identity: the connection is refused or its caller unidentified."""
    monkeypatch.setattr(limits, "PREPARED_WAIT_S", 0.01)
    monkeypatch.setattr(limits, "IDENTIFY_S", 0.01)

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        with pytest.raises(LimitReached):
            await channel.prepared_socket(6)
        assert await channel.owner((b"\1\2\3\4", 1), (b"\1\2\3\4", 2)) == requests.OwnerAnswer(0, -1, "", knows_unit=False)

    with_channel(work)


def test_a_late_answer_is_nobody_s() -> None:
    """The question is gone; the answer to another number is not taken for it."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        asking = asyncio.create_task(channel.owner((b"\1\2\3\4", 1), (b"\1\2\3\4", 2)))
        await turns()
        number = requests.decode_question(theirs.recv(512)).number
        theirs.send(requests.encode_answer(requests.OwnerAnswer(number + 1, 0, "root.service")))
        theirs.send(requests.encode_answer(requests.OwnerAnswer(number, 1001, "shop.service")))
        assert await asking == requests.OwnerAnswer(number, 1001, "shop.service")

    with_channel(work)


def test_drain_loss_and_a_new_control_channel_are_told() -> None:
    """Each once, through its callback."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        told: list[str] = []
        channel.on_drain = lambda seconds: told.append(f"drain {seconds}")
        channel.on_lost = lambda: told.append("lost")
        channel.on_control = lambda sock: (told.append("control"), sock.close())
        theirs.send(requests.encode_beat(requests.DRAIN, 30))
        ours, other = socket.socketpair()
        socket.send_fds(theirs, [requests.encode_beat(requests.CONTROL)], [other.fileno()])
        ours.close()
        other.close()
        await turns()
        theirs.shutdown(socket.SHUT_RDWR)
        while len(told) < 3:
            await asyncio.sleep(0)
        assert told == ["drain 30", "control", "lost"]

    with_channel(work)


def give_lifeline(theirs: socket.socket) -> socket.socket:
    """The next supervisor's end of it."""
    ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(theirs, [requests.encode_beat(requests.LIFELINE)], [end.fileno()])
    end.close()
    return ours


def hears(sock: socket.socket, kind: int, number: int = 0) -> bool:
    """Whether that is the next that the worker says."""
    return sock.recv(512) == requests.encode_beat(kind, number)


def test_a_supervisor_that_is_gone_is_followed_by_the_next_on_the_lifeline() -> None:
    """What that one has said already is heard; its first word is how long this worker takes. Only the newest line counts."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        told: list[str] = []
        channel.on_drain = lambda seconds: told.append(f"drain {seconds}")
        channel.on_lost = lambda: (told.append("lost"), channel.orphaned(60))
        with give_lifeline(theirs) as first, give_lifeline(theirs) as line:
            line.send(requests.encode_beat(requests.DRAIN, 30))
            await turns()
            assert (first.recv(1), told) == (b"", [])
            theirs.shutdown(socket.SHUT_RDWR)
            while told != ["lost", "drain 30"]:
                await asyncio.sleep(0)
            channel.renew_control()  # somebody is there by now
            assert hears(line, requests.ORPHANED, 60)
            assert hears(line, requests.RENEW)

    with_channel(work)


def test_the_next_may_be_followed_by_another() -> None:
    """Who is not there yet is not asked for a channel to control: it will bring one, and would bring two."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        lost: list[int] = []
        channel.on_lost = lambda: (lost.append(1), channel.orphaned(60))
        with give_lifeline(theirs) as line, give_lifeline(line) as other:
            theirs.shutdown(socket.SHUT_RDWR)
            line.shutdown(socket.SHUT_RDWR)
            while len(lost) < 2:
                await asyncio.sleep(0)
            channel.renew_control()
            assert hears(other, requests.ORPHANED, 60)
            other.send(requests.encode_beat(requests.PING, 7))
            await turns()
            assert hears(other, requests.PONG, 7)
            channel.renew_control()
            assert hears(other, requests.RENEW)

    with_channel(work)


def test_a_lifeline_is_the_last_word_of_a_supervisor_that_had_not_read_all() -> None:
    """The kernel tells of what was unread first."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        lost: list[int] = []
        channel.on_lost = lambda: (lost.append(1), channel.orphaned(60))
        channel.ready(informed=True)
        with give_lifeline(theirs) as line:
            theirs.close()
            while not lost:
                await asyncio.sleep(0)
            assert hears(line, requests.ORPHANED, 60)
            line.send(requests.encode_beat(requests.PING, 7))
            await turns()
            assert hears(line, requests.PONG, 7)

    with_channel(work)


def test_a_lifeline_that_nobody_keeps_is_none() -> None:
    """As without a service manager: the loss is told, and nobody is spoken to."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        told: list[str] = []
        channel.on_lost = lambda: (told.append("lost"), channel.orphaned(60))
        give_lifeline(theirs).close()
        await turns()
        theirs.shutdown(socket.SHUT_RDWR)
        while len(told) < 2:
            await asyncio.sleep(0)
        await turns()
        assert told == ["lost", "lost"]

    with_channel(work)


def fill(channel: SupervisorChannel) -> int:
    """Messages that the supervisor has not read, until the kernel takes no more."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            channel._sock.send(requests.encode_beat(requests.PONG))
            count += 1
    return count


def test_a_ready_that_could_not_be_sent_goes_with_the_next_answer() -> None:
    """Else a worker that accepts would be replaced as one that does not; it is said once."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        count = fill(channel)
        channel.ready(informed=True)
        for _ in range(count):
            theirs.recv(512)
        for number in (1, 2):
            theirs.send(requests.encode_beat(requests.PING, number))
        await turns()
        kinds = [theirs.recv(512)[0] for _ in range(3)]
        assert kinds == [requests.PONG, requests.READY, requests.PONG]
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(512)

    with_channel(work)


def test_sockets_that_could_not_be_asked_for_are_asked_for_after_the_next_ping() -> None:
    """For those who wait: a worker that kept trying would serve nobody meanwhile."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        count = fill(channel)
        waiting = asyncio.create_task(channel.prepared_socket(4))
        await turns()
        for _ in range(count):
            theirs.recv(512)
        theirs.send(requests.encode_beat(requests.PING, 1))
        await turns()
        assert theirs.recv(512)[0] == requests.PONG
        give_sockets(theirs)
        (await waiting).close()

    with_channel(work)


def asked(theirs: socket.socket) -> int:
    """Batches that the supervisor was asked for since the last look."""
    count = 0
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while theirs.recv(512)[0] == requests.WANT_SOCKETS:
            count += 1
    return count


def test_questions_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more caller is unidentified at once, and costs the supervisor nothing."""
    monkeypatch.setattr(limits, "IDENTIFY_PENDING", 2)

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        asking = [asyncio.create_task(channel.owner((b"\1\2\3\4", n), (b"\1\2\3\4", 2))) for n in (1, 2)]
        await turns()
        assert await channel.owner((b"\1\2\3\4", 3), (b"\1\2\3\4", 2)) == requests.OwnerAnswer(0, -1, "", knows_unit=False)
        assert [requests.decode_question(theirs.recv(512)).peer_port for _ in asking] == [1, 2]
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(512)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    with_channel(work)


def test_what_is_asked_for_at_once_covers_a_burst_and_no_more() -> None:
    """PREPARED_LOW before anybody waits; PREPARED_MAX, however many do."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        channel.ask_sockets(4)
        assert asked(theirs) * limits.PREPARED_SOCKETS == limits.PREPARED_LOW
        callers = [asyncio.create_task(channel.prepared_socket(4)) for _ in range(2 * limits.PREPARED_MAX)]
        await turns()
        assert asked(theirs) * limits.PREPARED_SOCKETS == limits.PREPARED_MAX - limits.PREPARED_LOW
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    with_channel(work)


@pytest.mark.parametrize(("rest_s", "batches"), [(0.0, 2), (3600.0, 0)])
def test_after_a_short_batch_the_supervisor_has_a_rest(rest_s: float, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is out of descriptors: asking again at once would help nobody."""
    monkeypatch.setattr(limits, "PREPARED_REST_S", rest_s)

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        theirs.send(requests.encode_family(requests.SOCKETS, 4))
        await turns()
        await asyncio.sleep(0.01)
        assert asked(theirs) == batches

    with_channel(work)


def test_listeners_come_with_what_they_are_for() -> None:
    """A spare becomes a worker."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        got = []
        channel.on_listen = got.extend
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
            message = requests.encode_listen([("outbound", 4), ("tunnel", 6)])
            socket.send_fds(theirs, [message], [one.fileno(), two.fileno()])
            await turns()
            assert [(kind, family, sock.getsockname()) for kind, family, sock in got] == [
                ("outbound", 4, one.getsockname()), ("tunnel", 6, two.getsockname())
            ]  # fmt: skip
        for *_, sock in got:
            sock.close()
        channel.serving()
        assert theirs.recv(512)[0] == requests.SERVING

    with_channel(work)


def test_answers_may_take_longer_while_the_supervisor_replaces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are waited for already; its next ping says that it is back."""
    monkeypatch.setattr(limits, "IDENTIFY_S", 0.1)

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        began = channel._loop.time()
        asked = asyncio.create_task(channel.owner((b"\x7f\0\0\1", 1), (b"\x7f\0\0\1", 2)))
        await turns()
        theirs.send(requests.encode_beat(requests.PAUSE))
        await turns()
        later = asyncio.create_task(channel.owner((b"\x7f\0\0\1", 3), (b"\x7f\0\0\1", 4)))
        await asyncio.wait([asked, later], timeout=0.3)
        assert not asked.done()
        for answered in (asked, later):
            question = requests.decode_question(theirs.recv(512))
            theirs.send(requests.encode_answer(requests.OwnerAnswer(question.number, 7, "shop.service")))
            assert (await answered).unit == "shop.service"
        assert channel._loop.time() - began < limits.PAUSE_S
        theirs.send(requests.encode_beat(requests.PING))
        await turns()
        assert (await channel.owner((b"\x7f\0\0\1", 5), (b"\x7f\0\0\1", 6))).unit == ""

    with_channel(work)


@pytest.mark.parametrize("end", [lambda sock: sock.send(requests.encode_beat(requests.PING)), socket.socket.close], ids=["ping", "death"])
def test_what_a_replaced_supervisor_had_read_holds_nobody_up(end: Callable[[socket.socket], object]) -> None:
    """Its successor does not know the question, and who asked is told so soon."""

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        theirs.send(requests.encode_beat(requests.PAUSE))
        await turns()
        asked = asyncio.create_task(channel.owner((b"\x7f\0\0\1", 1), (b"\x7f\0\0\1", 2)))
        await turns()
        end(theirs)
        assert (await asyncio.wait_for(asked, limits.PAUSE_S / 2)).unit == ""

    with_channel(work)


def test_what_a_newer_supervisor_says_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old worker goes on; descriptors that come with it are closed."""
    closed: list[int] = []
    real = socket.close

    async def work(channel: SupervisorChannel, theirs: socket.socket) -> None:
        monkeypatch.setattr(socket, "close", lambda fd: (closed.append(fd), real(fd)))
        socket.send_fds(theirs, [bytes([99, 1, 2, 3])], [0])
        theirs.send(requests.encode_beat(requests.PING, 5))
        await turns()
        assert theirs.recv(512) == requests.encode_beat(requests.PONG, 5)
        assert len(closed) == 1

    with_channel(work)
