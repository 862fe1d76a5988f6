"""A real Consul 1.8.7 that wants certificates of its clients (verify_incoming), asked by agent, commands and doctor."""

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from nodeagent.cli.catalog_api import Client
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.errors import CatalogError
from nodeagent.probe import catalog as probe
from tests.e2e.support.consul import Consul, binary, free_port
from tests.support.loop import run
from tests.unit.nodeagent.probe.scene import scope

LEADER = "/v1/status/leader"


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> CatalogTable:
    """Of one that listens with TLS; files as `consul tls` makes them."""
    files = tmp_path_factory.mktemp("tls")
    for words in (["ca", "create"], ["cert", "create", "-server"], ["cert", "create", "-client"]):
        subprocess.run([binary(), "tls", *words], cwd=files, check=True, capture_output=True, timeout=30)
    of = {name: str(files / file) for name, file in {"ca_file": "consul-agent-ca.pem", "cert_file": "dc1-server-consul-0.pem", "key_file": "dc1-server-consul-0-key.pem"}.items()}
    ports = {"http": free_port(), "https": free_port(), "server": free_port(), "serf_lan": free_port(), "serf_wan": -1, "dns": -1, "grpc": -1}
    with Consul(files / "agent", http=ports["http"], ports=ports, verify_incoming=True, **of):
        own = {"cert_file": str(files / "dc1-client-consul-0.pem"), "key_file": str(files / "dc1-client-consul-0-key.pem")}
        yield CatalogTable(f"https://127.0.0.1:{ports['https']}", token_file="", ca_file=of["ca_file"], server_name="server.dc1.consul", **own)


def answers(table: CatalogTable) -> list[str]:
    """What each of those who ask the catalog is told: the answer, or why there is none."""

    async def ask() -> str:
        async with Catalog(table, lambda: 1000.0) as catalog:
            return (await catalog.read(LEADER)).body.decode()

    def look() -> str:
        lines = [f'{key} = "{value}"\n' for key in ("ca_file", "cert_file", "key_file", "server_name") if (value := getattr(table, key))]
        return probe.reply(scope(table.address, "".join(lines)), LEADER).body.decode()

    told = []
    for way in (lambda: run(ask), lambda: str(Client(table, "").ask("GET", LEADER)), look):
        try:
            told.append(way())
        except CatalogError as error:
            told.append(f"ERROR {error}")
    return told


def test_with_certificate_and_name_all_are_answered(table) -> None:
    assert all("127.0.0.1:" in said and "ERROR" not in said for said in answers(table))


def test_without_a_certificate_the_cure_is_named(table) -> None:
    assert all("give catalog.cert_file and catalog.key_file" in said for said in answers(replace(table, cert_file="", key_file="")))


def test_who_is_not_called_so_is_not_believed(table) -> None:
    assert all("its certificate is not accepted" in said for said in answers(replace(table, server_name="server.dc2.consul")))


def test_its_own_variables_name_all_of_it(table, tmp_path) -> None:
    (tmp_path / "nodeagent.toml").write_text('[host]\nname = "host1"\naddresses = ["10.77.0.1"]\n')
    environ = {
        "CONSUL_HTTP_ADDR": table.address, "CONSUL_CACERT": table.ca_file, "CONSUL_CLIENT_CERT": table.cert_file,
        "CONSUL_CLIENT_KEY": table.key_file, "CONSUL_TLS_SERVER_NAME": table.server_name, "CONSUL_HTTP_TOKEN": "x",
    }  # fmt: skip
    program = Path(__file__).parents[2] / ".venv/bin/nodeagent"
    done = subprocess.run([program, "policy", "list", "--config", tmp_path / "nodeagent.toml"], env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
