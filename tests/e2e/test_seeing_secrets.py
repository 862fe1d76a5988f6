"""Tokens and keys are nowhere but where they belong: not in logs, answers, metrics, arguments, environments, not on the wire."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.catalog import management_token
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import lab_directory
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire

WEB = 8080
HOSTS = ("host1", "host2")
COMMANDS = ("status", "connections", "services", "certs", "connections --closed", "service list", "intention list")


@pytest.fixture
def secrets(lab: Lab) -> list[str]:
    """What must not be seen: each host's token, the operator's, the mark of every private key."""
    tokens = [lab.node_token(host) for host in HOSTS]
    operator = (lab.host("host1").own("etc") / "operator.token").read_text().strip()
    return [*tokens, operator, management_token(lab.state.hub), "PRIVATE KEY"]


@pytest.fixture
def lived(lab: Lab, wire: Wire, secrets: list[str], canary: str) -> Iterator[None]:
    """A mesh that has seen good and bad: calls, refusals, restarts, mistakes of the operator. Watched on the wire."""
    lab.register("host2", "web", WEB)
    look.allow(lab, "shop", "web")
    for host in HOSTS:
        lab.stop_agent(host)
        lab.start_agent(host)
    with Unit(lab, "host2", "web") as web, Echo(web.listen("::", WEB)):
        for service in ("shop", "other", ""):
            with Unit(lab, "host1", service) as unit:
                address = (lab.host("host2").ipv4, WEB)
                assert answers(unit, address, canary.encode()) == (service == "shop")
    wrong = f"CONSUL_HTTP_TOKEN={secrets[0]}"  # host1's, which may not do this
    for command in (["intention", "allow", "x", "web"], ["service", "register", "db", "--port", "5432"]):
        assert lab.exec("host2", "env", wrong, "nodeagent", *command).returncode == 1
    yield
    wire.assert_never_in_clear(canary, *secrets)


def places(lab: Lab) -> Iterator[tuple[str, bytes]]:
    """Everything that an operator, another user or a collector of logs may read, by name."""
    for log in lab_directory(lab.name).glob("*/log/*.log"):
        yield str(log), log.read_bytes()
    for host in HOSTS:
        for command in COMMANDS:
            for form in ("table", "json"):
                done = lab.exec(host, "nodeagent", *command.split(), "-o", form)
                yield f"{host} {command} {form}", (done.stdout + done.stderr).encode()
        page = lab.exec(host, "curl", "-sS", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics")
        yield f"{host} metrics", page.stdout.encode()
        yield f"{host} snapshot", (lab.host(host).own("state") / "snapshot").read_bytes()
        for pid in lab.pids(host, layout.AGENT):
            for name in ("cmdline", "environ", "comm"):
                yield f"{host} {look.comm(pid)} {name}", Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.usefixtures("lived")
def test_no_secret_is_where_others_look(lab: Lab, secrets: list[str]) -> None:
    """Every place is looked at, and each has something in it."""
    seen = dict(places(lab))
    assert sum(name.endswith("cmdline") for name in seen) >= 10, "supervisor, control, spawner and two workers, twice"
    found = [(name, secret[:4]) for name, text in seen.items() for secret in secrets if secret.encode() in text]
    assert found == []
    assert b"spiffe://" in seen["host1 certs json"]
    assert b"nodeagent_connections_total" in seen["host1 metrics"]


def test_tokens_and_state_are_closed_to_other_users(lab: Lab) -> None:
    """By mode and owner: root's, or control's alone."""
    for host in HOSTS:
        etc, state = lab.host(host).own("etc"), lab.host(host).own("state")
        for file in (etc / "node.token", etc / "operator.token"):
            assert file.stat().st_mode & 0o077 == 0
        assert state.stat().st_mode & 0o007 == 0
        assert (state.stat().st_uid, state.stat().st_gid) == (layout.CONTROL_UID, 0)
        assert not [file for file in state.rglob("*") if b"PRIVATE KEY" in file.read_bytes()], "keys are in memory only"
