"""The catalog dies and comes back: traffic goes on, agents start without it, and nothing has to be restarted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from nodeagent import limits
from nodeagent.control.last_good import read_last_good
from nodeagent.lab import agent, catalog
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
RETURN_S = 60.0  # watches try again within seconds of the catalog's return
LOST_S = limits.CATALOG_LOST_S + 20


class Site:
    """The lab, callers and the echoing `web` on host2."""

    def __init__(self, lab: Lab, stack: ExitStack, text: bytes) -> None:
        self.lab, self._text = lab, text
        web = stack.enter_context(Unit(lab, "host2", "web"))
        self.echo = stack.enter_context(Echo(web.listen("::", WEB)))
        self._units = {
            at: stack.enter_context(Unit(lab, *at)) for at in (("host1", "shop"), ("host1", "other"), ("host2", "shop"))
        }

    def call(self, host: str = "host1", service: str = "shop") -> bool:
        """Whether a new call to `web` is answered."""
        return answers(self._units[host, service], (self.lab.host("host2").ipv4, WEB), self._text)

    def reason(self, host: str, service: str = "shop") -> str:
        """Why a call fails, in the words of the caller's agent."""

        def failures() -> list[str]:
            rows = look.log_lines(self.lab, host)
            return [row["reason"] for row in rows if row["source"] == service and row["reason"] != "ok"]

        before = len(failures())
        assert not self.call(host, service)
        return eventually(lambda: failures()[before:], look.WITHIN_S, "the record")[0]

    @contextmanager
    def without_catalog(self) -> Iterator[None]:
        """The catalog is dead inside, and back with its data afterwards."""
        look.kill_catalog(self.lab)
        try:
            yield
        finally:
            state = self.lab.state
            catalog.start_catalog(state.hub, state.holder(state.hub))

    def restart_agent(self, host: str) -> None:
        """As systemd would, without waiting for its health: it may have none."""
        state, place = self.lab.state, self.lab.host(host)
        self.lab.stop_agent(host)
        agent.start_agent(place, state.holder(place))
        eventually(lambda: look.log_lines(self.lab, host, "supervisor_ready")[-1:], look.WITHIN_S, "all workers serve")
        eventually(lambda: agent.is_running(place) and self.serves(host), look.WITHIN_S, "its status")

    def serves(self, host: str) -> bool:
        """Whether the agent answers, and its workers have a snapshot."""
        done = self.lab.exec(host, "nodeagent", "status", "-o", "json")
        return bool(done.stdout) and all(w["generation"] for w in look.status(self.lab, host)["workers"])

    def saved(self, host: str) -> set[str]:
        """What the saved snapshot says about other -> web."""
        found = read_last_good(self.lab.host(host).own("state") / "snapshot")
        assert found is not None
        return {row.action for row in found.state.intentions if row.source == "other"}

    def is_healthy(self, host: str) -> bool:
        """By the command's exit status."""
        return self.lab.exec(host, "nodeagent", "status").returncode == 0


@pytest.fixture
def site(lab: Lab, capture: Capture, canary: str) -> Iterator[Site]:
    """shop may call web, other may not; nothing is readable between the hosts."""
    wire = capture(lab)
    lab.register("host2", "web", WEB)
    look.decide(lab, "allow", "shop", "web")
    look.decide(lab, "deny", "other", "web")
    with ExitStack() as stack:
        yield Site(lab, stack, canary.encode())
    wire.assert_never_in_clear(canary)


def test_without_the_catalog_traffic_goes_on_and_the_last_word_holds(site: Site) -> None:
    """New connections are decided by the last snapshot; the operator is told, by sentence and exit status."""
    with site._units["host1", "shop"].connect(site.lab.host("host2").ipv4, WEB) as client:
        assert speaks(client)
        with site.without_catalog():
            assert all(site.call() for _ in range(20))
            assert site.reason("host1", "other") == "denied"
            eventually(lambda: not site.is_healthy("host1"), LOST_S, "the loss is told")
            shown = look.status(site.lab, "host1")
            assert not shown["catalog"]["connected"]
            assert (shown["catalog"]["source"], shown["catalog"]["age_s"] > 1) == ("catalog", True)
            assert any("out of reach" in problem for problem in shown["problems"])
            for command in (("intention", "allow", "other", "web"), ("intention", "list"), ("service", "list")):
                done = site.lab.exec("host1", "nodeagent", *command)
                assert (done.returncode, "is the catalog running?" in done.stderr) == (3, True), done
                assert len(done.stderr.splitlines()) == 1
            assert speaks(client)
            assert site.call()
        eventually(lambda: site.is_healthy("host1"), RETURN_S, "healthy again, without a restart")
        assert not any("cannot be reached" in each for each in look.status(site.lab, "host1")["warnings"])
        look.decide(site.lab, "allow", "other", "web")
        assert site.call(service="other")
        assert speaks(client)


def test_agents_that_start_without_the_catalog_serve_what_was_saved(site: Site) -> None:
    """Same-host calls and decisions work; tunnels need keys, which live in memory only, and are refused by name."""
    assert site.call()
    for host in ("host1", "host2"):
        eventually(lambda at=host: "deny" in site.saved(at), look.WITHIN_S, "what is in force is saved")
    with site.without_catalog():
        site.restart_agent("host1")
        assert site.reason("host1") == "no_svid"
        assert site.reason("host1", "other") == "denied"
        site.restart_agent("host2")
        assert site.call("host2"), "same-host calls need no tunnel"
        eventually(lambda: not site.is_healthy("host1"), LOST_S, "the loss is told")
        shown = look.status(site.lab, "host1")
        assert (shown["catalog"]["source"], shown["catalog"]["connected"]) == ("saved", False)
        assert shown["catalog"]["age_s"] > 0
        assert any("saved snapshot" in warning for warning in shown["warnings"])
        assert "from the file saved" in site.lab.exec("host1", "nodeagent", "status").stdout
    for host in ("host1", "host2"):
        eventually(lambda at=host: site.is_healthy(at), RETURN_S, f"{host} is healthy without a restart")
    eventually(site.call, look.WITHIN_S, "tunnels work")
    assert look.status(site.lab, "host1")["catalog"]["source"] == "catalog"


def test_a_callee_without_keys_is_unreachable_until_the_catalog_is_back(site: Site) -> None:
    """The caller has keys, the callee was restarted without the catalog: named on both hosts, cured by its return."""
    assert site.call()
    with site.without_catalog():
        site.restart_agent("host2")
        assert site.reason("host1") == "peer_unreachable"
        told = {"direction": "tunnel", "peer": "host1", "reason": "no_svid"}
        rows = eventually(lambda: look.with_facts(site.lab, "host2", **told), look.WITHIN_S, "the callee's record")
        assert "nodeagent certs" in rows[0]["error"]
    eventually(site.call, RETURN_S, "tunnels work")
    eventually(lambda: site.is_healthy("host2"), RETURN_S, "healthy without a restart")
