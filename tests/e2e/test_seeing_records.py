"""Every connection leaves exactly one line on each host it passed, and the metrics say the same in numbers."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.unit import Unit, reset
from tests.e2e.support.wire import Wire, new_canary
from tests.support.eventually import eventually

WEB, DEAD, UNKNOWN = 8080, 8081, 8099
FIELDS = {
    "at", "level", "process", "event", "id", "direction", "client", "original_dst", "source", "how", "unit", "mode",
    "destination", "path", "peer", "permit", "upstream", "generation", "sent", "received", "reason", "side", "seconds",
}  # fmt: skip
OPTIONAL = {"error", "uid"}


@pytest.fixture(scope="module")
def seen(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which the connections of `make_traffic` were made, and nothing else; unreadable between the hosts."""
    lab = make_lab()
    for name, port in (("web", WEB), ("dead", DEAD)):
        lab.register("host2", name, port)
    look.allow(lab, "shop", "web")
    look.allow(lab, "shop", "dead")
    with ExitStack() as stack:
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        units = {at: stack.enter_context(Unit(lab, *at)) for at in CALLERS}
        wire, canary = Wire(lab, tmp_path_factory.mktemp("wire")), new_canary()
        stack.callback(wire.close)
        make_traffic(lab, units, (canary * 100)[:1000].encode())
        wire.assert_never_in_clear(canary)
    for host, count in (("host1", 13), ("host2", 12)):
        what = f"{count} records on {host}"
        eventually(lambda at=host, n=count: len(look.log_lines(lab, at)) >= n, look.WITHIN_S, what)
    return lab


CALLERS = (("host1", "shop"), ("host1", "other"), ("host1", ""), ("host2", "shop"), ("hub", ""))


def make_traffic(lab: Lab, units: dict[tuple[str, str], Unit], kilobyte: bytes) -> None:
    """Connections of each kind, their number in the comment."""
    shop, other, nobody, local, outside = (units[at] for at in CALLERS)
    web = (lab.host("host2").ipv4, WEB)
    assert all(answers(shop, web, kilobyte) for _ in range(4))  # 4 ok
    assert answers(shop, (lab.host("host2").ipv6, WEB), kilobyte)  # 1 ok over IPv6
    with shop.connect(*web) as hasty:  # 1 reset by the client
        assert speaks(hasty, b"y" * 10)
        reset(hasty)
    for _ in range(2):
        assert not answers(other, web, b"z")  # 2 denied, at once: the callee never hears of them
    assert not answers(nobody, web, b"z")  # 1 unidentified
    for _ in range(3):
        assert not answers(shop, (web[0], DEAD), b"z")  # 3 to an application that is away
    assert not answers(shop, (web[0], UNKNOWN), b"z")  # 1 to a port that nobody registered, passed through
    assert all(answers(local, web, kilobyte) for _ in range(2))  # 2 on host2 alone
    assert not answers(outside, web, b"clear")  # 1 in clear, from a machine without an agent


def outcomes(rows: list[dict[str, Any]]) -> Counter[tuple[str, str, str, str, str]]:
    """How many of each kind."""
    keys = ("direction", "source", "destination", "path", "reason")
    return Counter(tuple(row[key] for key in keys) for row in rows)  # type: ignore[misc]


def test_each_connection_has_exactly_one_line_on_each_host(seen: Lab) -> None:
    """With who, whom, by which way and how it ended."""
    calls = ("outbound", "shop", "web", "tunnel")
    assert outcomes(look.log_lines(seen, "host1")) == {
        (*calls, "ok"): 5,
        (*calls, "reset_by_downstream"): 1,
        ("outbound", "other", "web", "none", "denied"): 2,
        ("outbound", "", "web", "none", "unidentified"): 1,
        ("outbound", "shop", "dead", "tunnel", "upstream_refused"): 3,
        ("outbound", "shop", "", "direct", "upstream_refused"): 1,
    }
    assert outcomes(look.log_lines(seen, "host2")) == {
        ("tunnel", "shop", "web", "local", "ok"): 5,
        ("tunnel", "shop", "web", "local", "reset_by_downstream"): 1,
        ("tunnel", "shop", "dead", "local", "upstream_refused"): 3,
        ("outbound", "shop", "web", "local", "ok"): 2,
        ("plaintext", "", "web", "none", "plaintext_refused"): 1,
    }


def test_a_line_has_everything_an_operator_asks_for(seen: Lab) -> None:
    """All fields for a call that went well; a sentence for one that did not."""
    for host in ("host1", "host2"):
        rows = look.log_lines(seen, host)
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            assert set(row) <= FIELDS | OPTIONAL
            assert row["reason"] in list(Reason)
            assert row["side"] in list(Side)
            assert bool(row.get("error")) == (row["reason"] != "ok")
            assert 0 <= row["seconds"] < 60
    good = look.with_facts(seen, "host1", reason="ok")
    assert all(FIELDS <= set(row) for row in good)
    assert {row["how"] for row in good} <= {"stamp", "conntrack"}
    assert {(row["unit"], row["mode"], row["peer"], row["permit"]) for row in good} == {
        ("shop.service", "strict", "host2", "shop -> web (allow)")
    }
    assert {row["original_dst"] for row in good} == {
        f"{seen.host('host2').ipv4}:{WEB}",
        f"[{seen.host('host2').ipv6}]:{WEB}",
    }
    assert {(row["sent"], row["received"]) for row in good} == {(1000, 1000)}
    served = look.with_facts(seen, "host2", direction="tunnel", reason="ok")
    assert {(row["how"], row["peer"], row["sent"], row["received"]) for row in served} == {
        ("certificate", "host1", 1000, 1000)
    }


@pytest.fixture(scope="module")
def families(seen: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """The metrics of both hosts by name, as Prometheus' own parser reads them."""
    pages = {host: seen.exec(host, "curl", "-sS", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics") for host in HOSTS}
    assert {page.returncode for page in pages.values()} == {0}
    return {
        host: {family.name: family for family in text_string_to_metric_families(page.stdout)}
        for host, page in pages.items()
    }


HOSTS = ("host1", "host2")


@pytest.mark.parametrize("host", HOSTS)
def test_the_counters_agree_with_the_lines(seen: Lab, families: dict[str, dict[str, Any]], host: str) -> None:
    """Connections by direction, pair and reason; bytes by pair and way, without those that a refused caller had sent."""
    rows = look.log_lines(seen, host)
    ends = Counter((r["direction"], r["source"] or "unknown", r["destination"] or "unknown", r["reason"]) for r in rows)
    samples = [s for s in families[host]["nodeagent_connections"].samples if s.name.endswith("_total")]
    keys = ("direction", "source", "destination", "reason")
    assert {tuple(s.labels[key] for key in keys): s.value for s in samples} == ends
    moved: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        for way in ("sent", "received"):
            is_relayed = row["reason"] in ("ok", "reset_by_downstream")
            moved[row["source"] or "unknown", row["destination"] or "unknown", way] += row[way] if is_relayed else 0
    samples = [s for s in families[host]["nodeagent_connection_bytes"].samples if s.name.endswith("_total")]
    assert {tuple(s.labels[key] for key in ("source", "destination", "way")): s.value for s in samples} == dict(moved)
    lives = [s.value for s in families[host]["nodeagent_connection_seconds"].samples if s.name.endswith("_count")]
    assert sum(lives) == len(rows)


@pytest.mark.parametrize("host", HOSTS)
def test_labels_come_from_closed_sets(families: dict[str, dict[str, Any]], host: str) -> None:
    """Nothing that a caller chooses is a label: no address, no port, no path."""
    closed = {
        "direction": {"outbound", "tunnel", "plaintext"}, "reason": set(Reason), "way": {"sent", "received"},
        "source": {"shop", "other", "web", "dead", "unknown"}, "destination": {"web", "dead", "unknown"},
        "worker": {"0", "1", "2"}, "side": {"client", "server"}, "service": {"shop", "other", "web", "dead"},
        "outcome": {"changed", "same", "held", "refused", "failed", "issued"},
    }  # fmt: skip
    samples = [sample for family in families[host].values() for sample in family.samples]
    assert len(samples) > 50
    for sample in samples:
        for label, value in sample.labels.items():
            if label not in ("le", "version"):
                assert value in closed[label], (sample.name, label, value)


def test_metrics_are_served_on_the_host_itself_only(seen: Lab) -> None:
    """Not to the network, although nobody registered the port."""
    with Unit(seen, "hub") as outside, pytest.raises(ConnectionRefusedError):
        outside.connect(seen.host("host1").ipv4, limits.METRICS_PORT)
    with Unit(seen, "host1") as inside, inside.connect("127.0.0.1", limits.METRICS_PORT) as sock:
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 404")
