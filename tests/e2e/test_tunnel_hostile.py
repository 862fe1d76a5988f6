"""A peer with a good certificate and bad manners: the agent stays healthy, small, and there for everybody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, speaks
from tests.e2e.support.intruder import DATA, HEADERS, PING, SETTINGS, Intruder, frame
from tests.e2e.support.unit import Unit, fill_all
from tests.support.eventually import eventually

WEB, BULK, DEAF = 8080, 8081, 8082
GROWTH_BYTES = 48 << 20  # what a worker may keep after an attack, allocator's leftovers included
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def one(make_lab: MakeLab) -> Lab:
    """Two hosts whose agents have one worker each, so that attacker and callers share it."""
    lab = make_lab(workers=1)
    small = [f"net.ipv4.tcp_{which}mem=4096 16384 65536" for which in "rw"]
    assert lab.exec("host2", "sysctl", "-w", *small).returncode == 0  # what is held is the agent's, not the kernel's
    for name, port in (("web", WEB), ("bulk", BULK), ("deaf", DEAF)):
        lab.register("host2", name, port)
        look.allow(lab, "*", name)
    return lab


@pytest.fixture
def echo(one: Lab) -> Iterator[Echo]:
    """`web`, which echoes."""
    with Unit(one, "host2", "web") as unit, Echo(unit.listen("::", WEB)) as served:
        yield served


@pytest.fixture
def intruder(one: Lab, tmp_path: Path) -> Iterator[Intruder]:
    """The attacker."""
    with Intruder(one, tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def unharmed(one: Lab, echo: Echo, capture: Capture, canary: str) -> Iterator[None]:
    """Whatever a test does, a caller's open connection goes on, and afterwards all is as before."""
    wire, text, address = capture(one), canary.encode(), (one.host("host2").ipv4, WEB)
    _, worker = look.first_worker(one, "host2")
    before = look.rss_bytes(worker)
    with Unit(one, "host1", "polite") as polite:
        client = polite.connect(*address)
        assert speaks(client, text)
        yield
        assert speaks(client, text)
        assert speaks(polite.connect(*address), text)
        eventually(lambda: look.total(one, "host2", "buffered") == 0, WITHIN_S, "the budget is whole")
        eventually(lambda: look.total(one, "host2", "connections") == 2, WITHIN_S, "only the caller's are open")
    after = look.rss_bytes(worker)
    print(f"memory of the worker: {before / (1 << 20):.1f} -> {after / (1 << 20):.1f} MiB")
    assert after - before < GROWTH_BYTES
    assert look.first_worker(one, "host2")[1] == worker
    assert look.status(one, "host2")["healthy"]
    assert "Traceback" not in one.host("host2").log("nodeagent").read_text()
    wire.assert_never_in_clear(canary)


def test_rapid_resets_end_the_session_and_nothing_else(one: Lab, intruder: Intruder) -> None:
    """Streams that are opened and reset at once: beyond a thousand the session is over; then the next one."""
    headers = [(b":method", b"CONNECT"), (b":authority", f"{one.host('host2').ipv4}:{WEB}".encode())]
    for _ in range(3):
        with intruder.session() as session:
            for _ in range(1500):
                stream = session.h2.send_request(headers)
                opening = session.h2.data_to_send()  # the library would take back what it has not sent
                session.h2.reset_stream(stream, 8)
                if not session.raw([opening, session.h2.data_to_send()]):
                    break
            assert session.is_ended()


@pytest.mark.parametrize(
    "flood",
    [frame(PING, bytes(8)), frame(SETTINGS, b"\x00\x03\x00\x00\x00\x64"), frame(DATA, b"", stream=1)],
    ids=["ping", "settings", "empty-data"],
)
def test_a_flood_ends_its_session(one: Lab, intruder: Intruder, flood: bytes) -> None:
    """Frames that cost the receiver an answer, from a peer that reads none."""
    with intruder.session() as session:
        session.connect(f"{one.host('host2').ipv4}:{WEB}")
        for _ in range(100):
            if not session.raw([flood] * 1000):
                break
        assert session.is_ended()


def test_who_calls_thousands_at_once_and_leaves_is_no_defect(one: Lab, intruder: Intruder) -> None:
    """More than a session takes and than a turn reads, in one write, and nobody who hears the answers."""
    fields = (b":method", b"CONNECT", b":authority", f"{one.host('host2').ipv4}:{WEB}".encode())
    head = b"".join((b"\x00" if not n % 2 else b"") + bytes([len(each)]) + each for n, each in enumerate(fields))
    for _ in range(10):
        with intruder.session() as session:
            session.raw([frame(HEADERS, head, flags=4, stream=2 * number + 1) for number in range(3000)])


def test_what_is_no_connect_is_refused_and_the_session_goes_on(one: Lab, intruder: Intruder) -> None:
    """Other methods, and destinations that are not a registered service of that host: an agent is no open proxy."""
    host2 = one.host("host2").ipv4
    with intruder.session() as session:
        ordinary = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"web")]
        assert session.status(session.ask(ordinary)) == b"400"
        for elsewhere in ("127.0.0.1:22", f"127.0.0.1:{limits.METRICS_PORT}", f"{host2}:22", f"{host2}:{BULK}",
                          f"{one.host('host1').ipv4}:{WEB}", f"{one.host('hub').ipv4}:8501", "web:80", "x"):  # fmt: skip
            assert session.status(session.connect(elsewhere)) == b"400", elsewhere
        assert session.status(session.connect(f"{host2}:{WEB}")) == b"200"


@pytest.fixture
def deaf(one: Lab) -> Iterator[str]:
    """An application that answers no SYN, and where it is."""
    rules = "add table inet deaf; add chain inet deaf i { type filter hook input priority 0; }; add rule inet deaf i "
    assert one.exec("host2", "nft", f"{rules} tcp dport {DEAF} drop").returncode == 0
    yield f"{one.host('host2').ipv4}:{DEAF}"
    assert one.exec("host2", "nft", "delete table inet deaf").returncode == 0


def test_data_beyond_the_window_is_not_kept(one: Lab, intruder: Intruder, deaf: str) -> None:
    """Sixteen megabytes for an application that has not even answered the call."""
    with intruder.session("deaf") as session:
        stream = session.connect(deaf)
        session.raw([frame(DATA, bytes(limits.FEED_BYTES), stream=stream)] * 1024)
        assert session.status(stream) == b""
        assert look.total(one, "host2", "buffered") <= 2 * limits.STREAM_WINDOW_BYTES


def test_who_never_reads_is_held_a_bounded_amount(one: Lab, intruder: Intruder) -> None:
    """A hundred streams with endless windows, from applications that send without end: each queue has its limit."""
    authority = f"{one.host('host2').ipv4}:{BULK}"
    with Unit(one, "host2", "bulk") as bulk, intruder.session("bulk", window=2**31 - 1) as session:
        door = bulk.listen("0.0.0.0", BULK)
        streams = [session.connect(authority) for _ in range(100)]
        applications = [bulk.accept(door)[0] for _ in streams]
        fill_all(applications)
        held = eventually(lambda: look.total(one, "host2", "buffered"), WITHIN_S, "something is held")
        assert held <= len(streams) * 4 * limits.STREAM_QUEUE_BYTES
