"""A Prometheus of Debian, in its stock form, scrapes an agent and can answer an operator's questions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, say
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, PORT = 8080, 9090
CONFIG = f"""
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: nodeagent
    static_configs: [{{ targets: ["127.0.0.1:{limits.METRICS_PORT}"] }}]
"""


@pytest.fixture(scope="module")
def scraped(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """host1's agent, scraped every second, while shop calls web and mallory may not; one connection stays open."""
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "prometheus.yml").write_text(CONFIG)
    command = ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
               f"--web.listen-address=127.0.0.1:{PORT}"]  # fmt: skip
    lab.run("host1", "prometheus", command)
    with App(lab, "host2", "web", WEB), Unit(lab, "host1", "shop") as shop, Unit(lab, "host1", "mallory") as mallory:
        set_intentions(lab, {("shop", "web"): "allow"})
        web = lab.host("host2").ipv4
        assert [call(shop, web, WEB, "hello") for _ in range(3)] == ["app:hello"] * 3
        assert call(mallory, web, WEB, "hello") == "reset"
        with shop.connect(web, WEB) as sock:
            assert say(sock, "hello") == "app:hello"
            yield lab
    lab.stop("host1", "prometheus")


def value(lab: Lab, query: str) -> float:
    """What Prometheus answers, as one number; -1: nothing yet."""
    done = lab.exec("host1", "curl", "-s", f"http://127.0.0.1:{PORT}/api/v1/query?query={quote(query)}")
    if done.returncode:
        return -1
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["status"] == "success", answer
    found = answer["data"]["result"]
    return float(found[0]["value"][1]) if found else -1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('up{job="nodeagent"}', 1),
        ('nodeagent_passed_total{source="shop",destination="web"}', 4),
        ('nodeagent_connections_total{source="shop",destination="web",reason="ok"}', 3),
        ('nodeagent_connections_total{source="mallory",destination="web",reason="denied"}', 1),
        ('nodeagent_connection_bytes_total{source="shop",destination="web",way="sent"}', 18),
        ("sum(nodeagent_open_connections)", 1),
        ('sum(nodeagent_tunnels{side="client"}) > bool 0', 1),
        ('sum(nodeagent_tunnel_streams{side="client"})', 1),
        ("nodeagent_snapshot_generation > bool 0", 1),
        ("nodeagent_snapshot_age_seconds < bool 60", 1),
        ('(nodeagent_svid_expiry_timestamp_seconds{service="shop"} - time()) > bool 3600', 1),
        ("max(nodeagent_worker_lag_seconds) < bool 60", 1),
        ("nodeagent_catalog_connected", 1),
        ("nodeagent_interception_active", 1),
        ("nodeagent_label_overflow_total", 0),
        ("nodeagent_log_lines_dropped_total", 0),
    ],
)
def test_it_answers_what_an_operator_asks(scraped: Lab, query: str, expected: float) -> None:
    """From what it scraped, by itself."""
    eventually(lambda: value(scraped, query) == expected, look.WITHIN_S, f"{query} is {expected}; last {value(scraped, query)}")


def test_every_series_is_well_formed(scraped: Lab, tmp_path: Path) -> None:
    """By Prometheus' own linter."""
    page = scraped.exec("host1", "curl", "-s", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout
    assert "nodeagent_passed_total" in page
    linted = scraped.exec("host1", "promtool", "check", "metrics", input=page)
    assert (linted.returncode, linted.stderr) == (0, "")
