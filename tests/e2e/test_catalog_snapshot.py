"""Snapshots of a running catalog, put back beside it, and on another machine after a disaster."""

import itertools
import signal
import subprocess
import sys
import threading

import pytest

from certs.csr import new_key_and_csr
from certs.spiffe import service_id
from tests.e2e.catalog_process import READY_S, Process, token_command
from tests.support.eventually import eventually


def snapshot_command(data, *argv):
    command = [sys.executable, "-m", "nodeagent", "catalog", "--data", str(data), "snapshot", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=READY_S, check=False)


@pytest.fixture
def running(tmp_path):
    with Process(tmp_path / "data") as process:
        client = process.client()
        client.ok("PUT", "/v1/catalog/register", {"Node": "host1", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}})
        client.ok("PUT", "/v1/kv/a", b"before")
        yield process


def test_a_snapshot_of_a_busy_catalog_holds_what_was_acknowledged_before(running, tmp_path):
    """Writers go on meanwhile, and none of them is refused."""
    acknowledged, numbers, done, failed = [], itertools.count(), threading.Event(), []

    def write(client):
        while not done.is_set():
            number = next(numbers)
            answer = client.put(f"/v1/kv/n/{number}", b"x" * 500)
            (acknowledged if answer.status == 200 else failed).append(number)

    threads = [threading.Thread(target=write, args=(running.client(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(acknowledged) > 40, READY_S, "forty writes")
    before = set(acknowledged)
    saved = snapshot_command(running.data, "save", tmp_path / "one")
    done.set()
    for thread in threads:
        thread.join()
    assert (saved.returncode, failed) == (0, [])
    assert snapshot_command(tmp_path / "new", "restore", tmp_path / "one", "--yes").returncode == 0
    with Process(tmp_path / "new") as other:
        client = other.client((running.data / "management.token").read_text().strip())
        assert {int(key.rpartition("/")[2]) for key in client.ok("GET", "/v1/kv/n/?keys")} >= before


def test_a_restore_beside_the_server_answers_who_waits_and_revokes_nothing_back(running, tmp_path):
    client = running.client()
    secret = token_command(running.data, "create", "--node", "host1", "--any-service")
    accessor = running.client(secret).ok("GET", "/v1/acl/token/self")["AccessorID"]
    assert snapshot_command(running.data, "save", tmp_path / "one").returncode == 0
    client.ok("PUT", "/v1/catalog/deregister", {"Node": "host1"})
    client.ok("PUT", "/v1/kv/a", b"after")
    token_command(running.data, "revoke", accessor)
    before = {path: client.get(path).index for path in ("/v1/kv/a", "/v1/health/service/web")}
    answers = {}

    def wait(path):
        answers[path] = client.get(f"{path}?index={before[path]}&wait=55s")

    threads = [threading.Thread(target=wait, args=(path,)) for path in before]
    for thread in threads:
        thread.start()
    assert snapshot_command(running.data, "restore", tmp_path / "one", "--yes").returncode == 0
    for thread in threads:
        thread.join(READY_S)
    assert [answers[path].index > before[path] for path in before] == [True, True]
    assert client.get("/v1/kv/a?raw").text == "before"
    assert [row["Node"]["Node"] for row in answers["/v1/health/service/web"].json] == ["host1"]
    assert running.client(secret).get("/v1/catalog/nodes").status == 403


def test_on_another_machine_it_is_the_same_catalog_at_an_older_index(running, tmp_path):
    """Its CA, its address's root, its tokens; whoever holds a later index is answered at once, as by Consul."""
    roots = running.client().ok("GET", "/v1/connect/ca/roots")
    secret = token_command(running.data, "create", "--node", "host1", "--service", "web")
    assert snapshot_command(running.data, "save", tmp_path / "one").returncode == 0
    for number in range(20):
        running.client().ok("PUT", "/v1/kv/a", b"%d" % number)
    later = running.client().get("/v1/kv/a").index
    pin = (running.data / "tls-ca.pem").read_text()
    running.end(signal.SIGKILL)
    assert snapshot_command(tmp_path / "new", "restore", tmp_path / "one", "--yes").returncode == 0
    with Process(tmp_path / "new") as other:
        assert (tmp_path / "new" / "tls-ca.pem").read_text() == pin
        client = other.client(secret)
        assert client.ok("GET", "/v1/connect/ca/roots") == roots
        answer = other.client((running.data / "management.token").read_text().strip()).get(f"/v1/kv/a?index={later}&wait=55s")
        assert (answer.json[0]["Value"], answer.index < later) == ("YmVmb3Jl", True)
        made = new_key_and_csr(service_id(roots["TrustDomain"], "dc1", "web"))
        assert client.put("/v1/nodeagent/sign", {"CSR": made.csr_pem}).status == 200


def test_a_snapshot_that_was_cut_off_changes_nothing(running, tmp_path):
    snapshot_command(running.data, "save", tmp_path / "one")
    data = (tmp_path / "one").read_bytes()
    (tmp_path / "one").write_bytes(data[: len(data) // 2])
    running.client().ok("PUT", "/v1/kv/a", b"after")
    done = snapshot_command(running.data, "restore", tmp_path / "one", "--yes")
    assert (done.returncode, "it was cut off" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert running.client().get("/v1/kv/a?raw").text == "after"
