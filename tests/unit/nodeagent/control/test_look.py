"""Looks at applications on loopback."""

import asyncio
import socket

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.catalog.duties import Duty
from nodeagent.control.look import Looker
from tests.support.loop import run


def duty(target, kind="http", **more):
    return Duty(check_id="c", type=kind, target=target, interval_s=1.0, timeout_s=more.pop("timeout_s", 5.0), **more)


def looked(*asked, handler=None):
    """What looks at `http://127.0.0.1:PORT` find; `{port}` in a target stands for it."""

    async def answer(request):
        return web.Response(status=int(request.path[1:] or 200), text=f"{request.method} {request.headers.get('X-Key', '')}", headers=moved)

    moved = {"Location": "http://127.0.0.1/"}

    async def script():
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", handler or answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        looker, port = Looker(), runner.addresses[0][1]
        try:
            return [await looker.look(duty(target.format(port=port), **more)) for target, more in asked]
        finally:
            await looker.close()
            await runner.cleanup()

    return run(script)


def test_the_status_of_the_answer_decides_and_no_redirect_is_followed():
    statuses = (200, 204, 299, 301, 404, 429, 500)
    found = looked(*((f"http://127.0.0.1:{{port}}/{status}", {}) for status in statuses))
    assert [look.status for look in found] == ["passing", "passing", "passing", "critical", "critical", "warning", "critical"]
    assert "404 Not Found Output: GET" in found[4].output


def test_method_and_headers_are_as_asked_and_localhost_is_this_host():
    found = looked(
        ("http://localhost:{port}/", {"header": {"X-Key": ("k",)}}), ("http://127.0.0.1:{port}/", {"method": "HEAD"}),
        ("localhost:{port}", {"kind": "tcp"}), ("127.0.0.1:{port}", {"kind": "tcp"}),
    )  # fmt: skip
    assert [look.status for look in found] == ["passing"] * 4
    assert found[0].output.endswith("GET k")


def test_a_query_may_hold_a_secret_and_is_not_told():
    found = looked(("http://127.0.0.1:{port}/404?token=s3cret", {}), ("http://127.0.0.1:1/?token=s3cret", {}))
    assert [look.status for look in found] == ["critical", "critical"]
    assert not [look for look in found if "s3cret" in look.output]


async def _raw(reply, path=""):
    """What is looked at finds where these bytes are answered."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    looker = Looker()
    try:
        return await looker.look(duty(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{path}"))
    finally:
        await looker.close()
        server.close()


def test_an_answer_that_is_no_http_does_not_tell_the_query_either():
    look = run(lambda: _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "?token=s3cret"))
    assert look.status == "critical"
    assert "Invalid character in chunk size" in look.output
    assert "s3cret" not in look.output


def test_a_reason_that_is_no_text_can_be_told():
    """As of applications that speak Latin-1."""
    look = run(lambda: _raw("HTTP/1.1 500 Ausgeschöpft\r\nContent-Length: 0\r\n\r\n".encode("latin-1")))
    assert look.status == "critical"
    assert b"500 Ausgesch?pft" in msgspec.json.encode(look.output)


def test_a_defect_of_one_look_is_a_look_that_failed(monkeypatch):
    async def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Looker, "_look_at_page", fail)
    with capture_logs() as logs:
        look = run(lambda: Looker().look(duty("http://127.0.0.1:1/")))
    assert (look.status, look.output) == ("critical", "http http://127.0.0.1:1/: the look itself failed: RuntimeError")
    assert [entry["event"] for entry in logs] == ["look_failed"]


def test_a_long_answer_is_cut():
    async def handler(_request):
        return web.Response(text="x" * 1_000_000)

    (look,) = looked(("http://127.0.0.1:{port}/", {}), handler=handler)
    assert (look.status, len(look.output)) == ("passing", limits.CHECK_OUTPUT_BYTES)


def test_the_status_counts_however_the_answer_is_packed():
    """Nothing is unpacked: what is small here may be large then."""
    asked = {}

    async def handler(request):
        asked.update(request.headers)
        return web.Response(body=b"packed", headers={"Content-Encoding": "br"})

    (look,) = looked(("http://127.0.0.1:{port}/", {}), handler=handler)
    assert (look.status, look.output.rpartition(" ")[2]) == ("passing", "packed")
    assert asked["User-Agent"] == "nodeagent health check"
    assert "Accept-Encoding" not in asked


def test_a_call_that_reaches_itself_has_reached_nobody(monkeypatch):
    """The kernel may give it the very port that nobody listens at."""
    connect = asyncio.open_connection
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def script():
        return await Looker().look(duty(f"127.0.0.1:{port}", "tcp"))

    monkeypatch.setattr(asyncio, "open_connection", lambda ip, to: connect(ip, to, local_addr=(ip, to)))
    look = run(script)
    assert look.status == "critical"
    assert "refuses connections" in look.output


def test_who_does_not_answer_in_time_is_critical():
    async def handler(_request):
        await asyncio.sleep(60)

    (look,) = looked(("http://127.0.0.1:{port}/", {"timeout_s": 0.05}), handler=handler)
    assert (look.status, look.is_late) == ("critical", True)
    assert "no answer within 0.05 s" in look.output


@pytest.mark.parametrize(("target", "kind"), [("192.0.2.1:80", "tcp"), ("http://192.0.2.1/", "http"), ("http://[2001:db8::1]/", "http"), ("http://host/", "http")])
def test_nothing_but_this_host_is_looked_at(target, kind):
    async def script():
        looker = Looker()
        try:
            return await looker.look(duty(target, kind))
        finally:
            await looker.close()

    look = run(script)
    assert look.status == "critical"
    assert "no answer" not in look.output


def test_a_closed_port_and_garbage_are_critical():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    async def script():
        async def garbage(_reader, writer):
            writer.write(b"\0" * 70_000)
            writer.close()

        server = await asyncio.start_server(garbage, "127.0.0.1", 0)
        port, looker = server.sockets[0].getsockname()[1], Looker()
        try:
            return [await looker.look(each) for each in (duty(f"127.0.0.1:{closed}", "tcp"), duty(f"http://127.0.0.1:{closed}/"), duty(f"http://127.0.0.1:{port}/"))]
        finally:
            await looker.close()
            server.close()

    looks = run(script)
    assert [look.status for look in looks] == ["critical"] * 3
    assert looks[1].output == f"http http://127.0.0.1:{closed}/: [Errno 111] Connect call failed ('127.0.0.1', {closed})"
