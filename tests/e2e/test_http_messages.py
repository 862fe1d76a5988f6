"""What HTTP/1.1 allows, between real hosts: bodies, trailers, early answers, other protocols, connections that end at any time."""

import hashlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import mesh, web
from tests.e2e.support.look import log_lines
from tests.e2e.support.unit import Unit
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire

PORT = 8082
APP = Path(__file__).parent / "support" / "web_app.py"


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[None]:
    """`api` on host2, a Python application that speaks http; shop may ask for everything, request by request."""
    lab.run("host2", "api", [sys.executable, str(APP), str(PORT)], port=PORT, protocol="http")
    web.permit(lab, "api", "shop", [{"Action": "deny", "HTTP": {"PathPrefix": "/never"}}, {"Action": "allow", "HTTP": {"PathPrefix": "/"}}])
    yield
    lab.stop("host2", "api")


@pytest.fixture
def shop(lab: Lab, site: None) -> Iterator[Unit]:
    with Unit(lab, "host1", "shop") as unit:
        yield unit


def dial(lab: Lab, shop: Unit):
    return shop.connect(lab.host("host2").ipv4, PORT)


def head(method: bytes, path: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: api", *fields, b"", b""))


def test_chunks_and_trailers_pass_both_ways(lab: Lab, shop: Unit) -> None:
    sock = dial(lab, shop)
    sock.sendall(head(b"POST", b"/trailers", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
    heard = b""
    while b"X-After: yes\r\n\r\n" not in heard:
        heard += sock.recv(65536)
    assert b"\r\n1\r\n1\r\n" in heard


def test_head_and_304_have_no_body(lab: Lab, shop: Unit) -> None:
    sock = dial(lab, shop)
    sock.sendall(head(b"HEAD", b"/x"))
    status, said, _ = web.answer(sock, to_head=True)
    assert (status, b"Content-Length: 123" in said) == (200, True)
    assert web.ask(sock, head(b"GET", b"/same"))[0] == 304
    assert web.ask(sock, head(b"GET", b"/x"))[0] == 200


def test_curl_waits_for_100_and_uploads(lab: Lab, site: None, tmp_path: Path) -> None:
    """100 MiB, with a memory of the agents that stays as it was."""
    file, before = tmp_path / "file", max(memory(lab))
    file.write_bytes(bytes(100 << 20))
    wanted = f"{100 << 20} {hashlib.sha256(bytes(100 << 20)).hexdigest()}"
    peak, stop = [0], threading.Event()
    thread = threading.Thread(target=watch, args=(lab, peak, stop))
    thread.start()
    for extra in (["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]):
        url = f"http://{lab.host('host2').ipv4}:{PORT}/echo"
        done = lab.exec("host1", "curl", "-sS", "-m", "100", *extra, "--data-binary", f"@{file}", url, service="shop", timeout_s=110.0)
        assert done.stdout == wanted, done.stderr
    stop.set()
    thread.join()
    assert peak[0] - before < 24 << 10, f"{before} KiB, then {peak[0]}"


def memory(lab: Lab) -> list[int]:
    """KiB of each worker."""
    return [mesh.pss_kib(worker.pid) for host in ("host1", "host2") for worker in mesh.workers(lab, host)]


def watch(lab: Lab, peak: list[int], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        peak[0] = max(peak[0], *memory(lab))


def test_a_slow_reader_of_a_long_answer_costs_no_memory(lab: Lab, shop: Unit) -> None:
    before, sock = max(memory(lab)), dial(lab, shop)
    sock.sendall(head(b"GET", b"/long?%d" % (100 << 20)))
    time.sleep(1)
    assert max(memory(lab)) - before < 24 << 10
    web.answer(sock)


def test_another_protocol_passes_after_101(lab: Lab, shop: Unit, wire: Wire, canary: str) -> None:
    sock = dial(lab, shop)
    sock.sendall(head(b"GET", b"/ws", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += sock.recv(65536)
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in heard
    for text in (canary.encode(), b"\x00\xff GET / HTTP/1.1\r\n\r\n"):
        sock.sendall(text)
        echo = b""
        while len(echo) < len(text):
            echo += sock.recv(65536)
        assert echo == text
    sock.close()
    wire.assert_never_in_clear(canary)


def test_an_early_answer_arrives_while_the_body_is_sent(lab: Lab, shop: Unit) -> None:
    sock = dial(lab, shop)
    sock.sendall(head(b"POST", b"/slow", b"Content-Length: 1000000") + bytes(1000))
    assert web.answer(sock)[2] == b"early"


def test_a_client_that_goes_away_ends_what_is_done_for_it(lab: Lab, shop: Unit) -> None:
    """Nothing is left on either host, and both agents say why."""
    sock = dial(lab, shop)
    sock.sendall(head(b"GET", b"/wait"))
    wait_until(lambda: waiting(lab, shop) == 1, "the application has it")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    wait_until(lambda: waiting(lab, shop) == 0, "the application is told")
    wait_until(lambda: [line for line in log_lines(lab, "host2", "request_ended") if line["path"] == "/wait"], "the callee's agent says so")


def waiting(lab: Lab, shop: Unit) -> int:
    return int(web.ask(dial(lab, shop), head(b"GET", b"/waiting"))[2])


def test_an_application_that_closes_its_connections_loses_no_request(lab: Lab, shop: Unit) -> None:
    """It closes without a word in 2,000 moments, just as the next request comes: 10,000 requests, none of them made twice.

    What must not be made twice may be a 502, now and then: nobody can tell of a reset what was read before it.
    """
    failed: list[tuple[bool, int]] = []
    threads = [threading.Thread(target=count, args=(dial(lab, shop), number, failed)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(failed) <= {(True, 502)}
    assert len(failed) < 50
    counted, wrong = map(int, web.ask(dial(lab, shop), head(b"GET", b"/counted"))[2].split())
    assert 10_000 - len(failed) <= counted <= 10_000
    assert wrong == 0


def count(sock, number: int, failed: list[tuple[bool, int]]) -> None:
    try:
        for turn in range(1250):
            path = b"/once" if turn % 5 == 4 else b"/count?%d-%d" % (number, turn)
            is_post = bool(turn % 2) and path != b"/once"
            if path == b"/once":
                web.ask(sock, head(b"GET", path))
                path = b"/count?%d-%d" % (number, turn)
            fields = (b"Content-Length: 1",) if is_post else ()
            status, _, _ = web.ask(sock, head(b"POST" if is_post else b"GET", path, *fields) + (b"x" if is_post else b""))
            if status != 200:
                failed.append((is_post, status))
    except (OSError, AssertionError):
        failed.append((False, 0))
