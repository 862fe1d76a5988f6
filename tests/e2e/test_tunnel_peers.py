"""The other host's agent restarts, crashes, drains or goes silent: what that costs, and what it does not."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.unit import Unit, is_reset, receive
from tests.support.eventually import eventually

WEB, CLEAR = 8080, 7999
CALLERS = [f"caller{number}" for number in range(8)]
PROMISED_S = 5.0  # no call waits longer for an answer or a refusal where an agent hangs
BUSY_S = 2.0
LONG_S = 2 * limits.CALL_LOOK_S + limits.CALL_SILENT_S + limits.CALL_AGAIN_S
NewUnit = Callable[..., Unit]


@pytest.fixture(scope="module")
def pair(make_lab: MakeLab) -> Lab:
    """Two hosts with two workers each; everybody may call `web` on host2, and `back` on host1."""
    lab = make_lab()
    for host, name in (("host2", "web"), ("host1", "back")):
        lab.register(host, name, WEB)
        look.allow(lab, "*", name)
    return lab


@pytest.fixture
def unit(pair: Lab) -> Iterator[NewUnit]:
    """`unit(host, service)`: closed when the test ends."""
    with ExitStack() as stack:
        yield lambda *names: stack.enter_context(Unit(pair, *names))


@pytest.fixture
def echo(pair: Lab, unit: NewUnit) -> Iterator[Echo]:
    """`web`, which echoes."""
    with Echo(unit("host2", "web").listen("::", WEB)) as served:
        yield served


@pytest.fixture(autouse=True)
def text(pair: Lab, capture: Capture, canary: str) -> Iterator[bytes]:
    """What the tests send; in no test is it readable between the hosts."""
    wire = capture(pair)
    yield canary.encode()
    wire.assert_never_in_clear(canary)


def target(lab: Lab) -> tuple[str, int]:
    """Where `web` is."""
    return lab.host("host2").ipv4, WEB


class Load:
    """Calls again and again in a thread: connect, echo, close. Its end says how each call went."""

    def __init__(self, caller: Unit, address: tuple[str, int], text: bytes) -> None:
        self.outcomes: list[str] = []
        self._caller, self._address, self._text = caller, address, text
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def wait_more(self, count: int) -> None:
        """Returns when `count` more calls have succeeded."""
        wanted = self.outcomes.count("ok") + count
        eventually(lambda: self.outcomes.count("ok") >= wanted, look.WITHIN_S, f"{count} more calls")

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                with self._caller.connect(*self._address) as sock:
                    self.outcomes.append("ok" if speaks(sock, self._text) else "reset")
            except OSError as error:
                self.outcomes.append(type(error).__name__)


# --- shares ----------------------------------------------------------------------------------------------------------


def test_both_workers_get_their_share_on_both_hosts(pair: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """The kernel spreads connections on the caller's host, and tunnels on the callee's."""
    clients = [caller.connect(*target(pair)) for caller in (unit("host1", name) for name in CALLERS) for _ in range(8)]
    assert all(speaks(client, text) for client in clients)
    for host in ("host1", "host2"):
        assert len(look.open_rows(pair, host)) == len(clients)
        assert look.carriers(pair, host) == look.worker_pids(pair, host)


# --- the peer's agent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop_agent", "kill_agent"])
def test_a_restarted_peer_is_called_again_at_once(pair: Lab, unit: NewUnit, echo: Echo, text: bytes, end: str) -> None:
    """Whether it drained or crashed: the first call after its return works."""
    shop = unit("host1", "shop")
    with shop.connect(*target(pair)) as before:
        assert speaks(before, text)
        if end == "kill_agent":
            pair.kill_agent("host2")
            assert is_reset(before)
    if end == "stop_agent":
        pair.stop_agent("host2")
    pair.start_agent("host2")
    began = time.monotonic()
    assert speaks(shop.connect(*target(pair)), text)
    assert time.monotonic() - began < limits.CONNECT_S


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_a_killed_worker_takes_only_its_own_connections(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, host: str
) -> None:
    """Under load, on either host: those of the other worker go on, nobody is refused, its successor serves."""
    clients = [caller.connect(*target(pair)) for caller in (unit("host1", name) for name in CALLERS) for _ in range(8)]
    assert all(speaks(client, text) for client in clients)
    line = len(look.log_lines(pair, "host1"))
    number, _ = look.first_worker(pair, host)
    (tag,) = [worker["tag"] for worker in look.status(pair, host)["workers"] if worker["number"] == number]
    lost = [row for row in look.open_rows(pair, host) if row["id"].startswith(f"{tag}-")]
    assert 0 < len(lost) < len(clients)
    with Load(unit("host1", "busy"), target(pair), text) as load:
        load.wait_more(20)
        killed = look.kill_worker(pair, host)
        assert killed[0] == number
        load.wait_more(50)
        eventually(lambda: look.is_replaced(pair, host, {killed[1]}), look.WITHIN_S, "its successor")
        load.wait_more(20)
    alive = [client for client in clients if speaks(client, text)]
    assert len(clients) - len(alive) == len(lost)
    assert set(load.outcomes) <= {"ok", "reset"}
    assert load.outcomes.count("reset") <= 1, "one call may have been in the worker's hands"
    if host == "host2":
        assert set(reasons_since(pair, "host1", line, len(lost))) == {"peer_lost"}


def test_half_an_answer_of_a_dead_worker_looks_like_no_whole_one(pair: Lab, unit: NewUnit) -> None:
    """In a tunnel, on the same host, passed through in clear: both sides see a reset, and control tells what was lost."""
    shop, ends = unit("host1", "shop"), []
    known, counted = len(look.log_lines(pair, "host1", "connections_lost")), lost_so_far(pair)
    for host, name, port in (("host2", "web", WEB), ("host1", "back", WEB), ("host2", "other", CLEAR)):
        server = unit(host, name)
        listener, client = server.listen("::", port), shop.connect(pair.host(host).ipv4, port)
        answering, _ = server.accept(listener)
        answering.sendall(b"half")
        assert receive(client, 4) == b"half"
        ends += [client, answering]
    eventually(lambda: look.total(pair, "host1", "connections") == 3, look.WITHIN_S, "control knows of them")
    killed = look.carriers(pair, "host1")
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    assert [is_reset(end) for end in ends] == [True] * 6
    told = lambda: look.log_lines(pair, "host1", "connections_lost")[known:]  # noqa: E731
    eventually(lambda: sum(line["number"] for line in told()) == 3, look.WITHIN_S, "it is told")
    assert {line["worker"]: line["pid"] for line in told()} == killed
    assert lost_so_far(pair) == counted + 3
    eventually(lambda: look.is_replaced(pair, "host1", set(killed.values())), look.WITHIN_S, "successors")


def lost_so_far(lab: Lab) -> float:
    """What host1 counts of connections that died with their workers."""
    page = lab.exec("host1", "curl", "-s", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith("nodeagent_connections_lost_total")))


def beats(lab: Lab) -> bool:
    """Whether the kernel of host2 has heard of its agent within the last five seconds."""
    done = lab.exec("host2", "nft", "list", "set", "inet", "nodeagent", "alive")
    assert done.returncode == 0, done.stderr
    return "elements" in done.stdout


@pytest.fixture
def frozen(pair: Lab) -> Iterator[Callable[[], None]]:
    """`frozen()`: the workers of host2 stand still: connections are accepted, and nobody says a word."""
    supervisor = look.status(pair, "host2")["supervisor"]["pid"]  # it would replace them after HUNG_S
    pids = [supervisor, *look.worker_pids(pair, "host2").values()]

    def freeze() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    yield freeze
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: beats(pair), look.WITHIN_S, "host2 takes tunnels again")


def test_a_peer_that_accepts_and_says_nothing_costs_one_handshake_and_nobody_else(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, frozen: Callable[[], None]
) -> None:
    """Whoever calls it is told by name after the handshake's time; calls elsewhere do not wait for that."""
    back = Echo(unit("host1", "back").listen("::", WEB))
    line = len(look.log_lines(pair, "host1"))
    with back, Load(unit("host1", "busy"), (pair.host("host1").ipv4, WEB), text) as load:
        load.wait_more(1)
        frozen()
        began = time.monotonic()
        assert is_reset(unit("host1", "fresh").connect(*target(pair)))
        assert limits.HANDSHAKE_S / 2 < time.monotonic() - began < 2 * limits.HANDSHAKE_S
        load.wait_more(1)
    assert load.outcomes.count("ok") > 50
    assert set(load.outcomes) == {"ok"}
    assert reasons_since(pair, "host1", line, 1) == ["peer_unreachable"]


# --- drain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_a_drain_lets_a_transfer_finish_and_refuses_new_calls_at_once(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, host: str
) -> None:
    """The agent is told to stop on the caller's or the callee's host while a connection is open."""
    shop = unit("host1", "shop")
    open_one = shop.connect(*target(pair))
    assert speaks(open_one, text)
    drains = len(look.log_lines(pair, host, "worker_drained"))
    stopping = threading.Thread(target=pair.stop_agent, args=[host])
    stopping.start()
    try:
        # One of the two workers has nothing open: when it has gone, the other has long been told too.
        what = "an idle worker ends"
        eventually(lambda: len(look.log_lines(pair, host, "worker_drained")) > drains, look.WITHIN_S, what)
        began = time.monotonic()
        assert not any(answers(shop, target(pair), text) for _ in range(8))
        assert time.monotonic() - began < limits.CONNECT_S / 2, "refused, but not at once"
        assert all(speaks(open_one, text * 1000) for _ in range(200))
        open_one.close()
        began = time.monotonic()
        stopping.join(limits.DRAIN_S)
        assert time.monotonic() - began < limits.DRAIN_S / 2, "it waited although nothing was open"
    finally:
        open_one.close()
        stopping.join()
        pair.start_agent(host)
    assert answers(shop, target(pair), text)


# --- silence -------------------------------------------------------------------------------------------------------


@pytest.fixture
def partition(pair: Lab) -> Iterator[Callable[[str], None]]:
    """`partition("on")`: the bridge drops everything between the two hosts without a word; `"off"`: no more."""

    def nft(command: str) -> None:
        done = pair.exec("hub", "nft", command)
        assert done.returncode == 0, done.stderr

    def switch(to: str) -> None:
        nft("flush chain bridge partition forward" if to == "off" else "add rule bridge partition forward counter drop")

    nft("add table bridge partition; add chain bridge partition forward { type filter hook forward priority 0; }")
    yield switch
    nft("delete table bridge partition")


def retransmits(lab: Lab) -> bool:
    """Whether a tunnel of host1 has sent the same bytes again, more than once."""
    shown = lab.exec("host1", "ss", "-tinH", "dport", "=", f":{limits.TUNNEL_PORT}").stdout
    return "backoff:" in shown and "backoff:1 " not in shown


def test_a_short_partition_costs_nothing(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, partition: Callable[[str], None]
) -> None:
    """What is sent meanwhile arrives when the way is free again."""
    shop = unit("host1", "shop")
    client, *_ = warm = [shop.connect(*target(pair)) for _ in range(20)]
    assert all(speaks(sock, text) for sock in warm), "each worker has a tunnel"
    partition("on")
    began = time.monotonic()
    client.sendall(text)
    fresh = shop.connect(*target(pair))
    fresh.sendall(text)
    eventually(lambda: retransmits(pair), look.WITHIN_S, "the tunnel tries again")
    eventually(lambda: time.monotonic() - began > LONG_S, look.WITHIN_S, "an agent that hangs would be given up")
    partition("off")
    assert receive(client, len(text)) == text
    assert receive(fresh, len(text)) == text
    assert speaks(client, text)


# --- a whole agent hangs ---------------------------------------------------------------------------------------------


@pytest.fixture
def hung(pair: Lab) -> Iterator[Callable[[], Callable[[], None]]]:
    """`hung()`: all processes of host2's agent stand still, until what it returns is called, or the test ends."""
    pids: list[int] = []

    def go_on() -> None:
        while pids:
            os.kill(pids.pop(), signal.SIGCONT)

    def hang() -> Callable[[], None]:
        pids.extend(pair.pids("host2", layout.AGENT))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return go_on

    yield hang
    go_on()


def test_calls_to_an_agent_that_hangs_whole_end_within_five_seconds(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, hung: Callable[[], Callable[[], None]]
) -> None:
    """From the first moment on, by open tunnels and by new ones; what is open waits for it, and goes on."""
    shop = unit("host1", "shop")
    old = shop.connect(*target(pair))
    assert speaks(old, text)
    go_on = hung()
    are_refused_in_time(shop, pair)
    eventually(lambda: not beats(pair), look.WITHIN_S, "the switch of host2")
    are_refused_in_time(shop, pair)
    are_refused_in_time(unit("host1", "fresh"), pair)
    go_on()
    assert speaks(old, text)
    eventually(lambda: answers(shop, target(pair), text), look.WITHIN_S, "calls pass again")


def are_refused_in_time(caller: Unit, lab: Lab) -> None:
    """Some calls, side by side."""
    began = time.monotonic()
    for sock in [caller.connect(*target(lab)) for _ in range(5)]:
        assert is_reset(sock)
    assert time.monotonic() - began < PROMISED_S


def test_an_agent_without_a_turn_for_two_seconds_loses_no_call(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, hung: Callable[[], Callable[[], None]]
) -> None:
    """As on a busy host: calls that wait for it are answered."""
    shop = unit("host1", "shop")
    assert speaks(shop.connect(*target(pair)), text)
    go_on = hung()
    began = time.monotonic()
    calls = [shop.connect(*target(pair)) for _ in range(20)]
    eventually(lambda: time.monotonic() - began >= BUSY_S, look.WITHIN_S, "the time has passed")
    go_on()
    assert all(speaks(sock, text) for sock in calls)


@pytest.mark.slow
def test_a_long_partition_ends_connections_by_name_and_the_next_call_works(
    pair: Lab, unit: NewUnit, echo: Echo, text: bytes, partition: Callable[[str], None]
) -> None:
    """Silent peers are given up on both hosts; calls meanwhile fail fast; nothing lingers after the healing."""
    shop, quiet = unit("host1", "shop"), unit("host1", "quiet")
    busy, idle = shop.connect(*target(pair)), quiet.connect(*target(pair))
    assert speaks(busy, text)
    assert speaks(idle, text)
    before = {host: len(look.log_lines(pair, host)) for host in ("host1", "host2")}
    partition("on")
    began = time.monotonic()
    busy.sendall(text)
    for sock in (busy, idle):
        sock.settimeout(2 * limits.PEER_TIMEOUT_S)
        assert is_reset(sock)
    assert time.monotonic() - began < limits.PING_TIMEOUT_S + 2 * limits.PING_S
    began = time.monotonic()
    failing = [shop.connect(*target(pair)) for _ in range(10)]
    assert all(is_reset(sock) for sock in failing)
    assert time.monotonic() - began < 2 * limits.CONNECT_S, "they waited for one attempt each"
    eventually(lambda: echo.open == 0, look.WITHIN_S, "the application is told")
    partition("off")
    assert speaks(shop.connect(*target(pair)), text)
    assert reasons_since(pair, "host1", before["host1"], 12) == ["peer_lost"] * 2 + ["peer_unreachable"] * 10
    assert reasons_since(pair, "host2", before["host2"], 2) == ["peer_lost"] * 2


def reasons_since(lab: Lab, host: str, line: int, count: int) -> list[str]:
    """How connections ended that did not end well, sorted, once there are `count`."""

    def found() -> list[str]:
        return sorted(row["reason"] for row in look.log_lines(lab, host)[line:] if row["reason"] != "ok")

    eventually(lambda: len(found()) >= count, look.WITHIN_S, f"{count} records on {host}")
    return found()
