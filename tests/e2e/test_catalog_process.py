"""The embedded catalog as a process: durable, exclusive, TLS by default, tokens in force at once, a clean end."""

import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from certs.csr import new_key_and_csr
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from tests.e2e.catalog_process import READY_S, Process, token_command
from tests.support.eventually import eventually


@pytest.fixture
def running(tmp_path):
    with Process(tmp_path / "data") as process:
        yield process


def put(client, number):
    return client.put(f"/v1/kv/{number}", b"x" * 500).status


def test_an_acknowledged_write_survives_a_kill(tmp_path):
    """Four writers, SIGKILL in the middle: what was acknowledged is there afterwards, with its indexes."""
    acknowledged, numbers = [], itertools.count()

    def write(client):
        try:
            while True:
                number = next(numbers)
                if put(client, number) == 200:
                    acknowledged.append(number)
        except (OSError, Exception):  # noqa: BLE001 - the server is killed under it
            return

    with Process(tmp_path / "data") as process:
        threads = [threading.Thread(target=write, args=(process.client(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(acknowledged) > 60, READY_S, "sixty writes")
        process.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
    with Process(tmp_path / "data") as process:
        rows = process.client().ok("GET", "/v1/kv/?recurse")
    assert {int(row["Key"]) for row in rows} >= set(acknowledged)
    assert len({row["ModifyIndex"] for row in rows}) == len(rows)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "nodeagent-test", str(where)], check=True)
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_acknowledges_nothing_it_did_not_store_and_reads_go_on(small_disk):
    """The log is on the same disk, as it may well be: that it cannot be written either stops nothing."""
    with Process(small_disk / "data") as process:
        client = process.client()
        statuses = {}
        for number in range(100):
            statuses[number] = client.put(f"/v1/kv/{number}", os.urandom(50_000))
            if statuses[number].status != 200:
                break
        assert statuses[number].status == 500
        assert "not stored: the disk under the catalog's data is full" in statuses[number].text
        stored = {str(n) for n, answer in statuses.items() if answer.status == 200}
        assert set(client.ok("GET", "/v1/kv/?keys")) == stored
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    with Process(small_disk / "data") as process:
        assert set(process.client().ok("GET", "/v1/kv/?keys")) == stored
        assert put(process.client(), "more") == 200


def test_a_read_only_disk_starts_no_server_and_costs_nothing(small_disk):
    """It says so in a sentence; when the disk is as before, all that was acknowledged is there."""
    with Process(small_disk / "data") as process:
        assert put(process.client(), "stored") == 200
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    argv = [sys.executable, "-m", "nodeagent", "catalog", "--data", str(small_disk / "data"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=READY_S, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ead-only" in done.stderr.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with Process(small_disk / "data") as process:
        assert process.client().ok("GET", "/v1/kv/?keys") == ["stored"]
        assert put(process.client(), "more") == 200


def test_a_second_server_is_refused(running):
    with Process(running.data) as second:
        assert second.end() == 1
        assert second.ready == ""
    assert f"another catalog (pid {running.process.pid}) serves it already" in running.errors()


def test_identity_and_data_are_the_same_after_a_restart(tmp_path):
    with Process(tmp_path / "data") as process:
        roots = process.client().ok("GET", "/v1/connect/ca/roots")
        assert process.end() == 0
    with Process(tmp_path / "data") as process:
        assert process.client().ok("GET", "/v1/connect/ca/roots") == roots


def test_sigterm_answers_waiting_queries_and_ends_cleanly(running):
    client = running.client()
    before = client.get("/v1/catalog/nodes")
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(client.get(f"/v1/catalog/nodes?index={before.index}&wait=10m"))
    )
    asking.start()
    eventually(lambda: established(client.address) >= 1, READY_S, "the query is under way")
    for _ in range(10):  # handshakes and answers of others: by then it is read, too
        assert running.client().get("/v1/catalog/nodes").status == 200
    assert running.end() == 0
    asking.join(READY_S)
    assert answers[0].status == 200
    assert "Traceback" not in running.errors()


def established(address):
    """How many connections there are to a loopback address."""
    port = int(address.rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01")


def test_it_tells_systemd_when_it_is_ready(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(READY_S)
        with Process(tmp_path / "data", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            assert b"READY=1" in ear.recv(4096)
            assert process.end() == 0


# --- tokens --------------------------------------------------------------------------------------------------------


def test_tokens_of_the_command_line_are_in_force_at_once(running):
    secret = token_command(running.data, "create", "--node", "host1", "--service", "web")
    client = running.client(secret)
    itself = client.ok("GET", "/v1/acl/token/self")
    assert itself["NodeIdentities"] == [{"NodeName": "host1"}]
    client.ok("PUT", "/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1"})
    client.ok("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
    refused = client.put("/v1/agent/service/register", {"Name": "payments", "Port": 80})
    assert refused.status == 403
    assert refused.text == "the token of host1 may not register service payments: it speaks for web"
    token_command(running.data, "revoke", itself["AccessorID"])
    assert client.get("/v1/catalog/nodes").status == 403
    assert secret not in running.errors()
    assert running.errors().count("request_refused") == 1


@pytest.mark.parametrize("token", ["", "x" * 64])
def test_strangers_learn_nothing(running, token):
    """But the roots, as with Consul; who shows a token that is none does not even learn those."""
    client = running.client(token)
    for path in ("/v1/catalog/nodes", "/v1/connect/ca/roots?index=1", "/v1/acl/tokens", "/v1/kv/?keys"):
        assert client.get(path).status == 403
    assert client.get("/v1/connect/ca/roots").status == (403 if token else 200)


def test_a_waiting_query_of_a_revoked_token_gets_nothing(running):
    secret = token_command(running.data, "create", "--node", "host1", "--any-service")
    client = running.client(secret)
    accessor = client.ok("GET", "/v1/acl/token/self")["AccessorID"]
    before = client.get("/v1/catalog/nodes").index
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.get(f"/v1/catalog/nodes?index={before}&wait=10m")))
    asking.start()
    eventually(lambda: established(client.address) >= 1, READY_S, "the query is under way")
    for _ in range(10):  # handshakes and answers of others: by then it is read, too
        assert running.client().get("/v1/catalog/nodes").status == 200
    token_command(running.data, "revoke", accessor)
    running.client().ok("PUT", "/v1/catalog/register", {"Node": "host9", "Address": "10.0.0.9"})
    asking.join(READY_S)
    assert answers[0].status == 403


def test_a_host_draws_no_address_to_itself_and_blocks_none(running):
    """Over HTTP, with tokens of the command line, as they are in use."""
    aaa = running.client(token_command(running.data, "create", "--node", "aaa", "--any-service"))
    named = ("--address", "10.0.0.2", "--address", "10.0.0.100")
    bbb = running.client(token_command(running.data, "create", "--node", "bbb", "--any-service", *named))
    aaa.ok("PUT", "/v1/catalog/register", {"Node": "aaa", "Address": "10.0.0.2"})  # it came first
    bbb.ok("PUT", "/v1/catalog/register", {"Node": "bbb", "Address": "10.0.0.2"})
    bbb.ok("PUT", "/v1/agent/service/register", {"Name": "db", "Port": 5432, "Address": "10.0.0.100"})
    assert [node["Node"] for node in bbb.ok("GET", "/v1/catalog/nodes")] == ["bbb"]
    for ip in ("10.0.0.2", "10.0.0.100", "8.8.8.8"):
        assert aaa.put("/v1/catalog/register", {"Node": "aaa", "Address": ip}).status == 403
        body = {"Node": "aaa", "Address": "10.0.0.1", "Service": {"Service": "x", "Port": 443, "Address": ip}}
        assert aaa.put("/v1/catalog/register", body).status == 403
    assert "claim_displaced" in running.errors()


def test_a_body_of_many_equal_keys_stops_nobody(running):
    client = running.client(token_command(running.data, "create", "--node", "host1", "--any-service"))
    body = b"{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b',"29999":1}'
    began = time.monotonic()
    refused = client.put("/v1/catalog/register", body)
    assert refused.status == 400
    assert "stands twice" in refused.text
    assert time.monotonic() - began < 10


def test_a_token_that_writes_without_end_is_slowed_and_others_are_not(running):
    """No write: what is refused costs its share of the pace too."""
    client = running.client(token_command(running.data, "create", "--node", "host1", "--any-service"))
    host, _, port = client.address.rpartition(":")
    request = (
        b"PUT /v1/agent/service/deregister/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Consul-Token: %s\r\n\r\n"
    )
    statuses = set()
    with (
        socket.create_connection((host, int(port))) as raw,
        client.tls.wrap_socket(raw, server_hostname=host) as tls,
    ):
        answers = tls.makefile("rb")
        for _ in range(6 * limits.CATALOG_WRITES_BURST):
            tls.sendall(request % client.token.encode())
            status, headers = answers.readline(), iter(answers.readline, b"\r\n")
            answers.read(next(int(line.split(b":")[1]) for line in list(headers) if line.startswith(b"Content-Length")))
            statuses.add(status.split()[1])
            if b"429" in statuses:
                break
    assert statuses == {b"404", b"429"}
    assert client.get("/v1/catalog/nodes").status == 200
    assert put(running.client(), 1) == 200


# --- certificates --------------------------------------------------------------------------------------------------


def test_a_host_gets_certificates_for_its_own_services_only(tmp_path):
    with Process(tmp_path / "data", "--leaf-ttl", "90") as process:
        secret = token_command(process.data, "create", "--node", "host1", "--service", "web")
        client = process.client(secret)
        domain = client.ok("GET", "/v1/connect/ca/roots")["TrustDomain"]
        made = new_key_and_csr(service_id(domain, "dc1", "web"))
        shown = client.ok("PUT", "/v1/nodeagent/sign", {"CSR": made.csr_pem})
        svid = Svid.from_pem(shown["CertPEM"], made.key_pem)
        assert str(svid.spiffe_id) == f"spiffe://{domain}/ns/default/dc/dc1/svc/web"
        assert (svid.not_after - svid.not_before).total_seconds() == 90 + 90 // 4
        other = new_key_and_csr(service_id(domain, "dc1", "payments"))
        refused = client.put("/v1/nodeagent/sign", {"CSR": other.csr_pem})
        assert refused.status == 403
        assert refused.text == "the token of host1 may not get a certificate for service payments: it speaks for web"
        assert client.put("/v1/nodeagent/sign", {"CSR": other.csr_pem, "Service": "web"}).status == 400
        assert client.put("/v1/nodeagent/sign", {"CSR": "rubbish"}).status == 400
        assert made.key_pem not in process.errors()


# --- the listener --------------------------------------------------------------------------------------------------


def test_only_tls_1_3_is_spoken_and_only_to_who_pins_its_root(running):
    client = running.client()
    host, _, port = client.address.rpartition(":")
    with socket.create_connection((host, int(port))) as raw, client.tls.wrap_socket(raw, server_hostname=host) as tls:
        assert tls.version() == "TLSv1.3"
    with (
        socket.create_connection((host, int(port))) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    old = ssl.create_default_context(cafile=running.data / "tls-ca.pem")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host, int(port))) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname=host)


def test_garbage_is_answered_with_a_sentence_and_never_with_a_traceback(running):
    client = running.client()
    host, _, port = client.address.rpartition(":")
    for garbage in (b"\x00\xff\r\n\r\n", b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with (
            socket.create_connection((host, int(port))) as raw,
            client.tls.wrap_socket(raw, server_hostname=host) as tls,
        ):
            tls.settimeout(READY_S)
            tls.sendall(garbage)
            answer = tls.recv(65_536)
            assert answer.startswith(b"HTTP/1.")
            assert b" 400 " in answer.split(b"\r\n")[0]
            assert b"Traceback" not in answer
            assert b"File " not in answer
    with socket.create_connection((host, int(port))) as raw:
        raw.settimeout(READY_S)
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")  # clear text at a TLS port
        assert b"HTTP" not in raw.recv(65_536)
    assert client.get("/v1/catalog/nodes").status == 200
    assert "Traceback" not in running.errors()


def test_plain_http_on_loopback(tmp_path):
    with Process(tmp_path / "data", "--plain") as process:
        assert process.ready.startswith("catalog ready on http://127.0.0.1:")
        assert process.client().get("/v1/catalog/nodes").status == 200


def test_ipv6(tmp_path):
    with Process(tmp_path / "data", "--plain", "--listen", "[::1]:0") as process:
        port = int(process.ready.split("]:")[1].split()[0])
        with socket.create_connection(("::1", port)) as raw:
            raw.sendall(b"GET /v1/status/leader HTTP/1.0\r\n\r\n")
            assert b"200 OK" in raw.recv(4096)


def test_an_address_in_use_is_said(running, tmp_path):
    with Process(tmp_path / "other", "--listen", running.client().address) as process:
        assert process.end() == 1
    assert "Address already in use" in (tmp_path / "other.log").read_text()
