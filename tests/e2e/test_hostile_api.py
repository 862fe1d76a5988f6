"""The admin socket and the metrics port: who may what, and what they make of bad input and bad manners."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from nodeagent import limits
from nodeagent.control.report import API_VERSION, Status
from nodeagent.lab import layout
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.toll import callers
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

API = "/run/nodeagent/api.sock"
PAGE = f"http://127.0.0.1:{limits.METRICS_PORT}/metrics"
DEADLINE_S, WITHIN_S = 20.0, 60.0
SHORT_BYTES = 1000
BURST, CROWD, SLOW = 500, 10_000, 64
GIGABYTE = 1 << 30
GROWTH_BYTES = 64 << 20  # what control may keep, allocator's leftovers included
READERS, WRITERS = layout.CONTROL_UID, 64998
OPERATOR, ANYBODY = 64990, 64991
Knock = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def one(make_lab: MakeLab) -> Lab:
    """One host; the group WRITERS may change things."""
    lab = make_lab(hosts=1, workers=1)
    config = lab.host("host1").own("etc") / "nodeagent.toml"
    config.write_text(f"{config.read_text()}\n[admin]\nwrite_group = {WRITERS}\n")
    lab.stop_agent("host1")
    lab.start_agent("host1")
    return lab


# --- who may what ----------------------------------------------------------------------------------------------------


def as_user(lab: Lab, uid: int, groups: tuple[int, ...], *command: str) -> str:
    """What a command prints for that user."""
    them = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return lab.exec("host1", "setpriv", "--reuid", str(uid), "--regid", str(uid), *them, *command).stdout


def asks(lab: Lab, uid: int, groups: tuple[int, ...], method: str) -> str:
    """Status and text of the answer; `000` without one."""
    request = ["curl", "-sS", "-m", "20", "--unix-socket", API, "-X", method, "-w", "\n%{http_code}", "http://agent/v1/status"]
    text, _, status = as_user(lab, uid, groups, *request).rpartition("\n")
    return status if status != "403" else f"403 {text}"


CHANGING = ("POST", "PUT", "DELETE", "PATCH")
WHO = {
    "root": (0, (), "200", "405"),
    "an operator": (OPERATOR, (READERS, WRITERS), "200", "405"),
    "a reader": (OPERATOR, (READERS,), "200", "403"),
    "control itself": (layout.CONTROL_UID, (), "200", "403"),
    "a writer who may not read": (OPERATOR, (WRITERS,), "000", "000"),
    "a worker": (layout.WORKER_UID, (), "000", "000"),
    "anybody": (ANYBODY, (), "000", "000"),
}


@pytest.mark.parametrize("who", WHO)
def test_who_looks_and_who_changes(one: Lab, who: str) -> None:
    """By uid and groups; there is nothing to change at this path, which only a writer is told."""
    uid, groups, looks, changes = WHO[who]
    assert asks(one, uid, groups, "GET") == looks
    known = len(look.log_lines(one, "host1", "change_refused"))
    for method in CHANGING:
        answer = asks(one, uid, groups, method)
        assert answer.startswith(changes)
        assert ("root may, and members of the group 64998" in answer) == (changes == "403")
    lines = look.log_lines(one, "host1", "change_refused")[known:]
    assert [(line["uid"], line["method"]) for line in lines] == [(uid, method) for method in CHANGING if changes == "403"]


@pytest.fixture
def loose(one: Lab) -> Iterator[None]:
    """The socket's file is open to every user, as by somebody's mistake."""
    path = one.host("host1").own("run") / "api.sock"
    path.chmod(0o666)
    yield
    path.chmod(0o660)


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize("who", WHO)
def test_the_kernels_word_decides_and_not_the_file(one: Lab, who: str) -> None:
    """Whoever is no reader is closed without an answer, and a line says that somebody was."""
    uid, groups, looks, changes = WHO[who]
    known = len(look.log_lines(one, "host1", "caller_refused"))
    assert (asks(one, uid, groups, "GET"), asks(one, uid, groups, "POST")[:3]) == (looks, changes)
    expected = known + 2 * (looks == "000")
    eventually(lambda: len(look.log_lines(one, "host1", "caller_refused")) >= expected, WITHIN_S, "the lines")
    assert len(look.log_lines(one, "host1", "caller_refused")) == expected


@pytest.mark.parametrize("groups", [(), (READERS,), (READERS, WRITERS)])
def test_nobody_can_put_something_else_in_the_sockets_place(one: Lab, groups: tuple[int, ...]) -> None:
    """Its directory is sticky and root's: neither a link nor a socket of theirs takes its name."""
    path = one.host("host1").own("run") / "api.sock"
    before = path.lstat().st_ino
    swap = f"ln -sfn /tmp/x {API}; ln -s /tmp/x {API}.new && mv -fT {API}.new {API}; rm -f {API} {API}.new; true"
    as_user(one, ANYBODY, groups, "sh", "-c", swap)
    assert path.lstat().st_ino == before
    assert path.is_socket()
    assert not path.is_symlink()


# --- bad input and bad manners -----------------------------------------------------------------------------------------


@pytest.fixture(params=["the admin socket", "the metrics port"])
def knock(one: Lab, request: pytest.FixtureRequest) -> Iterator[Knock]:
    """`knock()`: a connection to one of the two doors; closed when the test ends."""
    with ExitStack() as stack:
        if request.param == "the metrics port":
            unit = stack.enter_context(Unit(one, "host1"))
            yield lambda: unit.connect("127.0.0.1", limits.METRICS_PORT)
            return

        def connect() -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(DEADLINE_S)
            sock.connect(str(one.host("host1").own("run") / "api.sock"))
            return sock

        yield connect


@pytest.fixture
def unharmed(one: Lab) -> Iterator[None]:
    """Afterwards control is the same, small, holds none of the attackers' connections, and answers others at once."""
    pid, rss = control(one), look.rss_bytes(control(one))
    yield
    assert_answers(one)
    eventually(lambda: callers(pid, port=limits.METRICS_PORT, path=API) == 0, WITHIN_S, "nobody is connected")
    assert look.rss_bytes(pid) - rss < GROWTH_BYTES
    assert control(one) == pid
    assert look.status(one, "host1")["healthy"]
    assert "Traceback" not in one.host("host1").log(layout.AGENT).read_text()


def control(lab: Lab) -> int:
    """Its pid."""
    return ask_agent(lab.host("host1"), "/v1/status", Status).control_pid


def assert_answers(lab: Lab) -> None:
    """Both doors are open to the polite."""
    assert lab.exec("host1", "nodeagent", "status").returncode == 0
    page = lab.exec("host1", "curl", "-sS", "-m", "20", PAGE)
    assert "nodeagent_build_info" in page.stdout, page.stderr


def says(knock: Knock, data: bytes) -> bytes:
    """What is answered to that, until the end."""
    with knock() as sock:
        answer = b""
        with suppress(ConnectionError):
            sock.sendall(data)
            while part := sock.recv(65_536):
                answer += part
        return answer


NONSENSE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "zeros": bytes(600),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 9000 + b"\r\n\r\n",
    "many headers": b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    "no version": b"GET /metrics HTTP/9.9\r\n\r\n",
    "two lengths": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_what_is_no_request_is_refused_with_a_line(one: Lab, knock: Knock, data: bytes) -> None:
    """400, or an end to whoever has not stopped sending; and one line, in which the caller's bytes are not."""
    known = nonsense_lines(one)
    answer = says(knock, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.partition(b"\r\n")[0] or not answer
    assert not body or json.loads(body)["apiVersion"] == API_VERSION
    assert len(answer) < SHORT_BYTES
    eventually(lambda: nonsense_lines(one) > known, WITHIN_S, "the line")
    assert nonsense_lines(one) == known + 1
    assert b"aaaa" not in one.host("host1").log(layout.AGENT).read_bytes()


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_hundreds_of_it_leave_some_lines(one: Lab, knock: Knock, data: bytes) -> None:
    """After the tests of single ones, whose lines would be missing in the same minute."""
    known = nonsense_lines(one)
    for _ in range(BURST):
        says(knock, data)
    assert nonsense_lines(one) - known <= 2 * limits.FLOOD_LINES, "a minute may turn meanwhile"
    assert look.log_lines(one, "host1", "refusals_unlogged")


def nonsense_lines(lab: Lab) -> int:
    """How often the log has said so far that something was no request."""
    return len(look.log_lines(lab, "host1", "request_refused"))


ENDLESS = {
    "a line": (b"", b"G" * 65_536),
    "a path": (b"GET /", b"a" * 65_536),
    "headers": (b"GET /metrics HTTP/1.1\r\n", b"x: y\r\n" * 10_000),
    "a body": (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", b"a" * 65_536),
    "chunks": (b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65_536 + b"\r\n"),
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("begin", ENDLESS)
def test_what_has_no_end_is_not_listened_to(knock: Knock, begin: str) -> None:
    """As a line, as headers, as a body of a gigabyte: the connection is over long before, and nothing is kept."""
    head, piece = ENDLESS[begin]
    with knock() as sock:
        sock.sendall(head)
        assert bytes_taken(sock, piece) < 8 * GIGABYTE


def bytes_taken(sock: socket.socket, piece: bytes) -> int:
    """Sent before the other end would not have more of it, at most eight gigabytes."""
    sent = 0
    with suppress(ConnectionError):
        while sent < 8 * GIGABYTE:
            sock.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.usefixtures("unharmed")
def test_thousands_of_connections_keep_nobody_out(one: Lab, knock: Knock) -> None:
    """The newest get the places of the oldest; whoever asks is answered in the middle of it."""
    crowd = []
    for number in range(1, CROWD + 1):
        crowd.append(knock())
        if number % 2500 == 0:
            assert_answers(one)
            for sock in crowd[: -2 * limits.API_CONNECTIONS]:
                sock.close()
    assert callers(control(one), port=limits.METRICS_PORT, path=API) <= limits.API_CONNECTIONS + 2
    for sock in crowd:
        sock.close()


@pytest.mark.usefixtures("unharmed")
def test_the_slow_keep_nobody_out(one: Lab, knock: Knock) -> None:
    """Half a request from each, a byte at a time; and others that ask again and again, and read no answer."""
    slow = []
    for request in (b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000):
        for _ in range(SLOW):
            slow.append(knock())
            with suppress(ConnectionError):
                slow[-1].sendall(request)
        assert_answers(one)
        for sock in slow:
            with suppress(OSError):
                sock.send(b" ")
        assert_answers(one)
    for sock in slow:
        sock.close()


def test_a_group_that_is_none_lets_no_agent_start(one: Lab) -> None:
    """Else the first operator who needs it would find out. The sentence has the file, the key and the cure."""
    config = one.host("host1").own("etc") / "nodeagent.toml"
    before = config.read_text()
    one.stop_agent("host1")
    config.write_text(before.replace(f"write_group = {WRITERS}", 'write_group = "nosuchgroup"'))
    try:
        with pytest.raises(LabError, match=r"nodeagent\.toml: admin\.write_group: there is no group .*groupadd"):
            one.start_agent("host1")
    finally:
        config.write_text(before)
        one.start_agent("host1")
