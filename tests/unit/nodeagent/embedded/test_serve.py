"""The process's options; its life is tested whole in tests/e2e/test_catalog_contract.py."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.server import ServerRoot
from nodeagent import limits
from nodeagent.embedded import datadir, serve
from nodeagent.embedded.serve import Options, check_options, names_of, refresh_tls
from nodeagent.embedded.tls import FileTls, OwnTls
from nodeagent.errors import CatalogError
from nodeagent.model.address import Address
from nodeagent.process.preflight import backlog_limit

DATA = Path("/nowhere")


def options(ip, **said):
    return Options(data=DATA, listen=Address(ip, 8500), **said)


@pytest.mark.parametrize(
    ("ip", "said", "sentence"),
    [
        ("10.0.0.1", {"is_plain": True}, "--plain is for loopback addresses"),
        ("0.0.0.0", {"is_plain": True}, "--plain is for loopback addresses"),
        ("127.0.0.1", {"is_plain": True, "tls_files": (DATA, DATA)}, "it serves no TLS"),
        ("127.0.0.1", {"is_plain": True, "names": ("catalog.example",)}, "it serves no TLS"),
        ("0.0.0.0", {}, "say with --tls-name"),
        ("::", {}, "say with --tls-name"),
    ],
)
def test_options_that_do_not_fit_are_refused(ip, said, sentence):
    with pytest.raises(CatalogError, match=sentence):
        check_options(options(ip, **said))


@pytest.mark.parametrize(
    ("ip", "said"),
    [
        ("127.0.0.1", {"is_plain": True}),
        ("127.0.0.2", {"is_plain": True}),
        ("::1", {"is_plain": True}),
        ("10.0.0.1", {}),
        ("0.0.0.0", {"names": ("catalog.example",)}),
        ("::", {"tls_files": (DATA, DATA)}),
    ],
)
def test_options_that_fit_are_taken(ip, said):
    check_options(options(ip, **said))


@pytest.mark.parametrize(
    ("ip", "names", "result"),
    [
        ("10.0.0.1", (), ("10.0.0.1", "127.0.0.1", "::1", "localhost")),
        ("127.0.0.1", ("c.example",), ("127.0.0.1", "c.example", "::1", "localhost")),
        ("0.0.0.0", ("c.example",), ("c.example", "127.0.0.1", "::1", "localhost")),
    ],
)
def test_the_certificate_is_for_what_clients_dial(ip, names, result):
    assert names_of(options(ip, names=names)) == result


PROBE = """
import asyncio, contextlib, ctypes, os, pathlib, signal, socket, struct, sys
from asyncio import sslproto
from nodeagent.embedded.serve import Options, serve_catalog
from nodeagent.model.address import Address

def queue():
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(fd))) as sock:
            if sock.family == socket.AF_INET and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return struct.unpack_from("=II", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[1]

def announce(_line):
    print(queue())
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), sslproto.SSLProtocol.max_size)  # PR_GET_DUMPABLE
    os.kill(os.getpid(), signal.SIGTERM)

asyncio.run(serve_catalog(Options(data=pathlib.Path(sys.argv[1]), listen=Address("127.0.0.1", 0)), announce))
"""


def test_a_serving_catalog_cannot_be_looked_into(tmp_path):
    """It holds the CA's key: no other process of its uid reads its memory. Nor does each client cost it much of that.

    And there is room for all agents to come at once, each with as many connections as it has watches.
    """
    argv = [sys.executable, "-c", PROBE, str(tmp_path / "data")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    most = min(limits.ACCEPT_BACKLOG, backlog_limit())
    assert (done.stdout.split(), done.returncode) == ([str(most), "0", str(limits.CATALOG_TLS_BUFFER_BYTES)], 0), done.stderr


@pytest.fixture
def unprepared(monkeypatch):
    """A catalog in this process, which stays as it is."""
    monkeypatch.setattr(serve, "_prepare_process", lambda: None)


@pytest.mark.usefixtures("unprepared")
def test_a_start_that_cannot_serve_leaves_no_ca_behind(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Options(data=tmp_path / "data", listen=Address(*other.getsockname()))
        with pytest.raises(CatalogError, match="Address already in use"):
            asyncio.run(serve.serve_catalog(taken, print))
    files = Options(data=tmp_path / "data", listen=Address("127.0.0.1", 0), tls_files=(DATA, DATA))
    with pytest.raises(CatalogError, match="/nowhere"):
        asyncio.run(serve.serve_catalog(files, print))
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["catalog.lock"]


@pytest.mark.usefixtures("unprepared")
def test_the_ready_line_names_no_token_that_is_not_there(tmp_path):
    datadir.prepare_data(tmp_path, "dc1", datetime.now(UTC))
    (tmp_path / datadir.MANAGEMENT_TOKEN).unlink()
    said = []

    def announce(line):
        said.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(serve.serve_catalog(Options(data=tmp_path, listen=Address("127.0.0.1", 0)), announce))
    assert said[0].endswith(f"; no management token is kept there; another: nodeagent catalog --data {tmp_path} token create --management --out {tmp_path}/management.token")


def test_a_failed_renewal_is_said_and_survived(tmp_path, capsys):
    now = datetime.now(UTC)
    root = ServerRoot.create(now)
    made = root.issue(("::1",), now)
    (tmp_path / "c").write_text(made.cert_pem)
    (tmp_path / "k").write_text(made.key_pem)
    tls = FileTls(tmp_path / "c", tmp_path / "k")
    (tmp_path / "c").unlink()
    told = refresh_tls(tls, now)
    assert (told, refresh_tls(None, now)) == (refresh_tls(tls, now, told), "")
    refresh_tls(OwnTls(root, ("::1",), now), now + timedelta(days=89))
    said = capsys.readouterr()
    assert (said.out + said.err).count("catalog_certificate_not_renewed") == 1


def test_certificates_live_as_long_as_the_limits_say():
    assert options("127.0.0.1").leaf_ttl_s == limits.SVID_TTL_S


def test_a_serving_catalog_looks_after_its_certificate(monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_TLS_CHECK_S", 0.0)
    looks = []

    async def scene():
        stop = asyncio.Event()
        monkeypatch.setattr(serve, "refresh_tls", lambda _tls, _now, _told: (looks.append(1), len(looks) > 2 and stop.set()))
        await serve._until_stopped(stop, None)

    asyncio.run(scene())
    assert len(looks) == 3
