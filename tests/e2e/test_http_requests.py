"""Requests of a service that speaks http, one by one, between real hosts and with a real nginx: who may ask what, and who is told to ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import mesh, web
from tests.e2e.support.look import log_lines
from tests.e2e.support.unit import Unit
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire

DENY_PRIVATE = [
    {"Action": "deny", "HTTP": {"PathPrefix": "/files/private"}},
    {"Action": "deny", "HTTP": {"PathPrefix": "/", "Methods": ["DELETE"]}},
    {"Action": "allow", "HTTP": {"PathPrefix": "/"}},
]
SPELLINGS = [
    b"/files/private/secret", b"//files/private/secret", b"/files//private/secret", b"/files/./private/secret", b"/files/x/../private/secret",
    b"/./files/private/secret", b"/x/../files/private/secret", b"/%66iles/private/secret", b"/files/%70rivate/secret", b"/files/%70%72%69vate/secret",
    b"/files%2fprivate/secret", b"/files/private%2Fsecret", b"/files/%2e/private/secret", b"/files/x/%2e%2e/private/secret", b"/files/x/.%2E/private/secret",
    b"/files/x%2f..%2fprivate/secret", b"/files/private//secret?x=/", b"/files/private/secret?/../..", b"/files/private/../private/secret",
    b"/files/x/..//private/./secret", b"/files/private;a=b/../private/secret", b"http://web/files/private/secret", b"http://web//files/%70rivate/secret",
    b"/files/\xc3\xa9/../private/secret", b"/files/%c3%a9/../private/secret", b"/files/x\\..\\private/secret", b"/files/private/secret%00", b"/files/private/secret#a",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Path]:
    """`web` on host2 and on host1 speaks http, and shop may ask for all but what is private."""
    with web.nginx(lab, "host2") as directory:
        (directory / "files" / "private" / "secret").write_text("SECRET")
        (directory / "files" / "open").write_text("open")
        web.permit(lab, "web", "shop", DENY_PRIVATE)
        yield directory


@pytest.fixture
def shop(lab: Lab) -> Iterator[Unit]:
    with Unit(lab, "host1", "shop") as unit:
        yield unit


def get(path: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: web", *fields, b"", b""))


def test_a_permitted_request_is_answered_and_a_denied_one_gets_403(lab: Lab, site: Path, shop: Unit, wire: Wire, canary: str) -> None:
    """On one connection, which stays open; nothing of it is readable between the hosts."""
    sock = shop.connect(lab.host("host2").ipv4, web.PORT)
    assert web.ask(sock, get(b"/files/open?" + canary.encode()))[2] == b"open"
    status, head, body = web.ask(sock, get(b"/files/private/secret", b"X-Request-Id: my-own-1"))
    assert (status, body) == (403, b"request my-own-1\n")
    assert b"connection: close" not in head.lower()
    assert web.ask(sock, get(b"/files/open", method=b"DELETE"))[0] == 403
    status, _, body = web.ask(sock, get(b"/x", b"X-Note: " + canary.encode()))
    assert (status, canary.encode() in body) == (200, True)
    wait_until(lambda: [line for line in log_lines(lab, "host2", "request_ended") if line["id"] == "my-own-1"], "the refusal's line")
    (line,) = [line for line in log_lines(lab, "host2", "request_ended") if line["id"] == "my-own-1"]
    assert (line["source"], line["destination"], line["path"], line["status"], line["reason"]) == ("shop", "web", "/files/private/secret", 403, "denied")
    wire.assert_never_in_clear(canary)


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_no_spelling_reaches_a_denied_file(lab: Lab, site: Path, host: str) -> None:
    """Of those that nginx takes for it; from the other host, and on the same."""
    with Unit(lab, host, "shop") as shop:
        for spelling in SPELLINGS:
            sock = shop.connect(lab.host("host2").ipv4, web.PORT)
            status, _, body = web.ask(sock, get(spelling))
            assert b"SECRET" not in body, spelling
            assert status in (400, 403, 404), spelling


def test_the_spellings_reach_it_where_nothing_is_denied(lab: Lab, site: Path, shop: Unit) -> None:
    """The oracle: most of them are the file to nginx."""
    web.permit(lab, "web", "shop", [{"Action": "allow", "HTTP": {"Methods": ["GET"]}}])
    try:
        reached = 0
        for spelling in SPELLINGS:
            reached += web.ask(shop.connect(lab.host("host2").ipv4, web.PORT), get(spelling))[2] == b"SECRET"
        assert reached > len(SPELLINGS) // 2
    finally:
        web.permit(lab, "web", "shop", DENY_PRIVATE)


def test_who_calls_is_said_by_the_agent_alone(lab: Lab, site: Path, shop: Unit) -> None:
    """What the caller says of itself in such fields, or in those that look like them to an application, never arrives."""
    forged = (b"X-Forwarded-Client-Cert: URI=spiffe://evil", b"x_forwarded_client_cert: URI=spiffe://evil", b"X-Spiffe-Id: evil", b"X-Nodeagent-Hops: 3")
    _, _, body = web.ask(shop.connect(lab.host("host2").ipv4, web.PORT), get(b"/", *forged))
    assert b"evil" not in body
    assert b"/svc/shop " in body
    assert b"By=spiffe://" in body
    assert b"for=" + lab.host("host1").ipv4.encode() in body


def test_who_may_not_ask_at_all_is_refused_as_a_connection(lab: Lab, site: Path) -> None:
    with Unit(lab, "host1", "thief") as thief, pytest.raises((ConnectionResetError, AssertionError)):
        web.ask(thief.connect(lab.host("host2").ipv4, web.PORT), get(b"/files/open"))


def test_requests_are_answered_in_order_and_connections_are_shared(lab: Lab, site: Path, shop: Unit) -> None:
    """Pipelined; and many connections of clients need few to the application."""
    before = connections_of(site)
    for _ in range(20):
        sock = shop.connect(lab.host("host2").ipv4, web.PORT)
        sock.sendall(b"".join(get(b"/x", b"X-Note: n%d." % number) for number in range(5)))
        for number in range(5):
            assert b"note=n%d." % number in web.answer(sock)[2]
        sock.close()
    assert len(connections_of(site) - before) <= 4  # of two workers


def connections_of(site: Path) -> set[str]:
    return {line.split()[1] for line in (site / "access.log").read_text().splitlines()}


def test_metrics_count_requests_by_who_asked_whom(lab: Lab, site: Path, shop: Unit) -> None:
    sock = shop.connect(lab.host("host2").ipv4, web.PORT)
    assert web.ask(sock, get(b"/files/private/secret"))[0] == 403

    def told() -> bool:
        page = lab.exec("host2", "curl", "-sSf", "http://127.0.0.1:15020/metrics").stdout
        rows = [line for line in page.splitlines() if 'source="shop"' in line and 'direction="tunnel"' in line]
        wanted = ('nodeagent_requests_total{class="4xx"', "nodeagent_request_denials_total", "nodeagent_request_seconds_bucket")
        return all(any(line.startswith(name) for line in rows) for name in wanted)

    wait_until(told, "the metrics of requests")


def test_nothing_is_left(lab: Lab, site: Path) -> None:
    """Connections of clients end; what is kept for the next request is a stream in a tunnel, and nothing more."""
    wait_until(lambda: all(row.direction == "tunnel" for row in _open(lab)), "clients' connections have ended")


def _open(lab: Lab):
    from nodeagent.control.report import ConnectionsAnswer
    from nodeagent.lab.ask import ask_agent

    return [row for host in ("host1", "host2") for row in ask_agent(lab.host(host), "/v1/connections?limit=100", ConnectionsAnswer).connections]


__all__ = ["mesh"]
