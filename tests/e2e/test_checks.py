"""Health checks in a mesh: the host's agent looks, the catalog tells, and every agent knows how an instance is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, PAGE = 8080, 8081
_SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open(sys.argv[2]).read()))
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


def is_healthy(lab: Lab, host: str, name: str) -> bool:
    """Whether a host's agent holds the one instance of a service for well."""
    (found,) = [each for each in look.ask(lab, host, "services")["services"] if each["name"] == name]
    (instance,) = found["instances"]
    return bool(instance["healthy"])


def wait(lab: Lab, name: str, *, healthy: bool) -> None:
    """Both agents know, and so does who lists services."""
    for host in ("host1", "host2"):
        eventually(lambda at=host: is_healthy(lab, at, name) is healthy, look.WITHIN_S, f"{name} is healthy: {healthy} on {host}")
    (row,) = [each for each in run(lab, "service", "list", "--no-headers").splitlines() if name in each.split()]
    assert ("passing" if healthy else "critical") in row.split()


def run(lab: Lab, *command: str) -> str:
    """What `nodeagent COMMAND` prints on host2."""
    done = lab.exec("host2", "nodeagent", *command)
    assert done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
    return done.stdout


def register(lab: Lab, name: str, port: int, *checks: str) -> None:
    """On host2, with the command that an operator uses."""
    options = [word for check in checks for word in ("--check", check)]
    run(lab, "service", "register", name, "--port", str(port), *options, "--check-interval", "1s", "--check-timeout", "1s")


@contextmanager
def listening(lab: Lab, address: str, port: int) -> Iterator[None]:
    """An application of the unit `web` on host2."""
    with Unit(lab, "host2", "web") as unit, Echo(unit.listen(address, port)):
        yield


@pytest.mark.parametrize("target", ["127.0.0.1", "{host}"])
def test_a_port_is_looked_at_at_loopback_and_at_the_hosts_own_address_in_strict_mode(lab: Lab, target: str) -> None:
    """The look is the agent's own: no intention is needed for it."""
    address = target.format(host=lab.host("host2").ipv4)
    with listening(lab, "0.0.0.0", WEB):
        register(lab, "web", WEB, f"tcp://{address}:{WEB}")
        wait(lab, "web", healthy=True)
    wait(lab, "web", healthy=False)
    with listening(lab, "0.0.0.0", WEB):
        wait(lab, "web", healthy=True)


def test_a_page_says_how_it_is_and_the_agent_may_be_restarted(lab: Lab, tmp_path) -> None:
    """What it says is in the catalog, for whoever asks why."""
    state = tmp_path / "status"
    state.write_text("200")
    tmp_path.chmod(0o755)
    process = lab.popen("host2", [sys.executable, "-IS", "-c", _SERVER, str(PAGE), str(state)], service="page")
    try:
        register(lab, "page", PAGE, f"http://127.0.0.1:{PAGE}/health")
        wait(lab, "page", healthy=True)
        state.write_text("503")
        wait(lab, "page", healthy=False)
        (check,) = [each for each in look.ask(lab, "host2", "service", "list")["checks"] if each["ServiceID"] == "page"]
        assert f"HTTP GET http://127.0.0.1:{PAGE}/health: 503" in check["Output"]
        lab.restart_agent("host2")
        state.write_text("200")
        wait(lab, "page", healthy=True)
    finally:
        process.kill()
        process.wait()


def test_who_does_not_say_that_it_is_well_is_not(lab: Lab) -> None:
    """TTL: nobody looks."""
    register(lab, "beat", 8082, "ttl:1h")
    wait(lab, "beat", healthy=False)
    lab.catalog("PUT", "/v1/agent/check/pass/service:beat?node=host2")
    wait(lab, "beat", healthy=True)


def test_an_address_that_others_have_is_not_looked_at_where_anything_may_be_bound(lab: Lab) -> None:
    """As on hosts between which an address floats; the agent calls nobody else's."""
    others = lab.host("host1").ipv4
    lab.exec("host2", "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
    body = {"Name": "floating", "Port": WEB, "Address": others, "Check": {"TCP": f"{others}:{WEB}", "Interval": "1s", "Status": "passing"}}
    try:
        with Unit(lab, "host1", "web") as unit, Echo(unit.listen("0.0.0.0", WEB)):
            lab.catalog("PUT", "/v1/agent/service/register?node=host2", body)
            eventually(lambda: f"{others} is not this host's" in outputs(lab, "floating"), look.WITHIN_S, "it is not looked at")
    finally:
        lab.catalog("PUT", "/v1/agent/service/deregister/floating?node=host2")
        lab.exec("host2", "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=0")


def test_what_ran_on_a_host_that_is_gone_is_not_well_by_itself_and_is_again_when_it_is_back(lab: Lab) -> None:
    """Nobody looks there any more; what others look at stays as it is."""
    silent_s = limits.CHECK_BEAT_S * 17 / 16 + limits.CHECK_SILENT_S + limits.CHECK_SILENT_LOOK_S + look.WITHIN_S
    with listening(lab, "0.0.0.0", WEB):
        register(lab, "web", WEB, f"tcp://127.0.0.1:{WEB}")
        wait(lab, "web", healthy=True)
        lab.kill_agent("host2")
        try:
            eventually(lambda: not is_healthy(lab, "host1", "web"), silent_s, "nobody looks")
            assert "nobody looks: the agent of host2 was not heard any more; before: TCP connect" in outputs(lab, "web")
        finally:
            lab.start_agent("host2")
        wait(lab, "web", healthy=True)


def outputs(lab: Lab, name: str) -> str:
    """What is told of a service's checks."""
    return " ".join(check["Output"] for check in look.ask(lab, "host2", "service", "list")["checks"] if check["ServiceID"] == name)
