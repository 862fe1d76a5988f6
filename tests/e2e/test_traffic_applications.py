"""Applications that know nothing of the mesh, through it: redis, PostgreSQL, nginx, with the clients that come with them."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import daemons, mesh
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire

BENCH_S = 120.0  # a few seconds on a quiet machine


def shop(lab: Lab, *command: str) -> str:
    """What a command prints that runs as `shop` on host1 and succeeds."""
    done = lab.exec("host1", *command, service="shop", timeout_s=BENCH_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "error" not in done.stderr.lower(), done.stderr
    return done.stdout


def assert_all_ended_well(lab: Lab, service: str) -> None:
    """Every connection to the service that both agents remember ended as connections do, and none is left."""
    mesh.wait_quiet(lab)
    for host in ("host1", "host2"):
        ended = [row for row in mesh.closed_rows(lab, host) if row.destination == service]
        assert ended
        assert {(row.source, row.reason, row.error) for row in ended} == {("shop", "ok", "")}


# --- redis ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(lab: Lab) -> list[str]:
    """A redis on host2 that shop may call; the options that reach it."""
    daemons.start_redis(lab, "host2")
    mesh.allow(lab, "shop", "redis")
    return ["-h", lab.host("host2").ipv4, "-p", str(daemons.REDIS_PORT)]


def benchmark(lab: Lab, redis: list[str], *options: str) -> dict[str, float]:
    """redis-benchmark with 50 clients: requests per second by test."""
    told = shop(lab, "redis-benchmark", *redis, "-c", "50", "--csv", *options)
    return {row["test"]: float(row["rps"]) for row in csv.DictReader(told.splitlines())}


@pytest.mark.parametrize("depth", ["1", "16"], ids=["one-by-one", "pipelined"])
def test_redis_serves_fifty_clients(lab: Lab, redis: list[str], wire: Wire, canary: str, depth: str) -> None:
    """Small requests, one after the other and many at a time: not one error."""
    count = "3000" if depth == "1" else "30000"
    tests = ("set", "get", "incr", "lpush", "mset")
    done = benchmark(lab, redis, "-P", depth, "-n", count, "-t", ",".join(tests))
    assert len(done) == len(tests)
    own = benchmark(lab, redis, "-P", depth, "-n", count, "-r", "100", "SET", f"{canary}:__rand_int__", canary)
    assert len(own) == 1
    assert min(*done.values(), *own.values()) > 0
    assert shop(lab, "redis-cli", *redis, "GET", f"{canary}:000000000007").strip() == canary
    assert "total_error_replies:0" in shop(lab, "redis-cli", *redis, "INFO", "stats")
    assert_all_ended_well(lab, "redis")
    wire.assert_never_in_clear(canary)


def test_redis_serves_a_new_connection_for_each_request(lab: Lab, redis: list[str], wire: Wire, canary: str) -> None:
    """Opened, used once and closed by the client, 50 at a time."""
    command = ["-k", "0", "-n", "1500", "SET", canary, canary]
    assert len(benchmark(lab, redis, *command)) == 1
    assert_all_ended_well(lab, "redis")
    wire.assert_never_in_clear(canary)


def test_redis_pushes_to_a_subscriber(lab: Lab, redis: list[str], wire: Wire, canary: str) -> None:
    """A connection on which the server speaks whenever it likes."""
    subscriber = lab.popen("host1", ["redis-cli", *redis, "SUBSCRIBE", "news"], service="shop", stdout=-1, text=True)
    try:
        assert subscriber.stdout
        assert [subscriber.stdout.readline() for _ in range(3)] == ["subscribe\n", "news\n", "1\n"]
        assert shop(lab, "redis-cli", *redis, "PUBLISH", "news", canary).strip() == "1"
        assert [subscriber.stdout.readline() for _ in range(3)] == ["message\n", "news\n", f"{canary}\n"]
    finally:
        subscriber.kill()
        subscriber.communicate()
    wire.assert_never_in_clear(canary)


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(lab: Lab) -> Iterator[list[str]]:
    """A PostgreSQL on host2 that shop may call; the options that reach it."""
    with daemons.directory_of("postgres") as directory:
        daemons.start_postgres(lab, "host2", directory)
        mesh.allow(lab, "shop", "db")
        yield ["-h", lab.host("host2").ipv4, "-p", str(daemons.POSTGRES_PORT), "-U", "postgres"]
        lab.stop("host2", "db")


def test_postgres_is_filled_and_benchmarked(
    lab: Lab, postgres: list[str], wire: Wire, canary: str, tmp_path: Path
) -> None:
    """pgbench's bulk load and its transactions from 10 clients: not one fails."""
    pgbench = [daemons.postgres_program("pgbench"), *postgres]
    shop(lab, *pgbench, "-i", "-s", "2", "-q", "postgres")
    script = tmp_path / "own.sql"
    script.write_text(f"SELECT '{canary}', count(*) FROM pgbench_branches;\n")
    told = shop(lab, *pgbench, "-n", "-c", "10", "-j", "2", "-t", "60", "-b", "tpcb-like", "-f", str(script), "postgres")
    assert "number of transactions actually processed: 600/600" in told
    assert re.search(r"number of failed transactions: 0 ", told)
    assert_all_ended_well(lab, "db")
    wire.assert_never_in_clear(canary)


def test_postgres_sees_the_client_host_and_answers_at_length(
    lab: Lab, postgres: list[str], wire: Wire, canary: str
) -> None:
    """Its log and its rules go on working by address; 20 MB come through whole."""
    psql = [daemons.postgres_program("psql"), *postgres, "-At", "postgres", "-c"]
    assert shop(lab, *psql, "SELECT host(inet_client_addr())").strip() == lab.host("host1").ipv4
    told = shop(lab, *psql, f"SELECT i || ' {canary} ' || repeat('x', 160) FROM generate_series(1, 100000) i")
    assert told == "".join(f"{i} {canary} {'x' * 160}\n" for i in range(1, 100_001))
    wire.assert_never_in_clear(canary)


# --- nginx ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[Path]:
    """An nginx on host2 that shop may call; its directory."""
    with daemons.directory_of("www-data") as directory:
        daemons.start_nginx(lab, "host2", directory)
        mesh.allow(lab, "shop", "web")
        yield directory
        lab.stop("host2", "web")


@pytest.mark.parametrize("family", [4, 6])
def test_nginx_logs_the_client_host_and_keeps_connections(
    lab: Lab, web: Path, wire: Wire, canary: str, family: int
) -> None:
    """Three requests on one connection of curl are three on one connection of nginx, from the client host's address."""
    client, server = lab.host("host1"), lab.host("host2")
    ip, caller = (server.ipv4, client.ipv4) if family == 4 else (f"[{server.ipv6}]", client.ipv6)
    urls = [f"http://{ip}:{daemons.NGINX_PORT}/{canary}/{number}" for number in range(3)]
    told = shop(lab, "curl", "-sS", "-m", "20", "-H", f"X-Note: {canary}", "-w", "%{http_code} %{num_connects}\n", *urls)
    answers = told.splitlines()
    assert answers[::2] == [f"you sent: {canary}"] * 3
    assert answers[1::2] == ["200 1", "200 0", "200 0"]
    log = web / "access.log"
    wait_until(lambda: log.read_text().count(canary) == 3, "nginx has logged the requests")
    logged = [line.split() for line in log.read_text().splitlines() if canary in line]
    assert {line[0] for line in logged} == {caller}
    assert len({line[1] for line in logged}) == 1
    assert [line[2] for line in logged] == ["1", "2", "3"]
    wire.assert_never_in_clear(canary)


def test_nginx_sends_and_curl_receives_a_file_whole(lab: Lab, web: Path, wire: Wire, canary: str) -> None:
    """16 MiB by sendfile, four times at once."""
    data = (canary.encode() + os.urandom(993)) * (16 << 10)
    (web / "large").write_bytes(data)
    url = f"http://{lab.host('host2').ipv4}:{daemons.NGINX_PORT}/files/large"
    script = f"for i in 1 2 3 4; do curl -sSf -m 60 {url} | sha256sum & done; wait"
    assert shop(lab, "sh", "-c", script) == f"{hashlib.sha256(data).hexdigest()}  -\n" * 4
    wire.assert_never_in_clear(canary)
