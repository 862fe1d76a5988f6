"""The catalog dies and comes back: traffic goes on, agents start without it, and nothing has to be restarted."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.control.key_memory import decode_keys
from nodeagent.control.last_good import read_last_good
from nodeagent.lab import agent, catalog, layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture
from tests.e2e.support import look
from tests.e2e.support.certificates import accessor_of, revoke
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, PLAIN = 8080, 8081
UNITS, DISK, MEMORY = 'units = "any"', 'persist = "disk"', 'persist = "memory"'
HOSTS = ("host1", "host2")
START_S = 60.0  # two seconds on an idle machine
RETURN_S = 60.0  # watches try again within seconds of the catalog's return
LOST_S = limits.CATALOG_LOST_S + 20


class Site:
    """The lab, callers, the echoing `web` on host2, and what is registered nowhere at PLAIN."""

    def __init__(self, lab: Lab, stack: ExitStack, text: bytes, clear_text: bytes) -> None:
        self.lab, self._text, self._clear_text = lab, text, clear_text
        plain = stack.enter_context(Unit(lab, "host2", "plain"))
        stack.enter_context(Echo(plain.listen("::", PLAIN)))
        web = stack.enter_context(Unit(lab, "host2", "web"))
        self.echo = stack.enter_context(Echo(web.listen("::", WEB)))
        self._units = {
            at: stack.enter_context(Unit(lab, *at)) for at in (("host1", "shop"), ("host1", "other"), ("host2", "shop"))
        }

    def call(self, host: str = "host1", service: str = "shop") -> bool:
        """Whether a new call to `web` is answered."""
        return answers(self._units[host, service], (self.lab.host("host2").ipv4, WEB), self._text)

    def call_plain(self) -> bool:
        """Whether a port outside the mesh answers."""
        return answers(self._units["host1", "shop"], (self.lab.host("host2").ipv4, PLAIN), self._clear_text)

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
        known = len(look.log_lines(self.lab, host, "supervisor_ready"))
        agent.start_agent(place, state.holder(place))
        eventually(lambda: look.log_lines(self.lab, host, "supervisor_ready")[known:], START_S, "all workers serve")
        eventually(lambda: agent.is_running(place) and self.serves(host), START_S, "its status")

    def serves(self, host: str) -> bool:
        """Whether the agent answers, and its workers have a snapshot."""
        done = self.lab.exec(host, "nodeagent", "status", "-o", "json")
        return bool(done.stdout) and all(w["generation"] for w in look.status(self.lab, host)["workers"])

    def keys(self, host: str) -> Path:
        """Where its keys are kept on disk."""
        return self.lab.host(host).own("state") / "keys"

    def services(self, host: str) -> set[str]:
        """Whose certificates are there."""
        return set(decode_keys(self.keys(host).read_bytes()).svids)

    def saved(self, host: str) -> set[str]:
        """What the saved snapshot says about other -> web."""
        found = read_last_good(self.lab.host(host).own("state") / "snapshot")
        assert found is not None
        return {row.action for row in found.state.intentions if row.source == "other"}

    def is_healthy(self, host: str) -> bool:
        """By the command's exit status."""
        return self.lab.exec(host, "nodeagent", "status").returncode == 0


@pytest.fixture
def site(lab: Lab, capture: Capture, canary: str, clear_canary: str) -> Iterator[Site]:
    """shop may call web, other may not; nothing is readable between the hosts."""
    wire = capture(lab)
    lab.register("host2", "web", WEB)
    look.decide(lab, "allow", "shop", "web")
    look.decide(lab, "deny", "other", "web")
    with ExitStack() as stack:
        yield Site(lab, stack, canary.encode(), clear_canary.encode())
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
    """Same-host calls, ports outside the mesh and decisions work; tunnels need keys, which are in memory only: refused by name."""
    assert site.call()
    for host in ("host1", "host2"):
        eventually(lambda at=host: "deny" in site.saved(at), look.WITHIN_S, "what is in force is saved")
    with site.without_catalog():
        site.restart_agent("host1")
        assert site.reason("host1") == "no_svid"
        assert site.reason("host1", "other") == "denied"
        assert site.call_plain()
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


@pytest.fixture
def kept(site: Site) -> Iterator[Site]:
    """Both hosts keep their keys on disk, since a reload; afterwards in memory only."""
    files = [site.lab.host(host).own("etc") / "nodeagent.toml" for host in HOSTS]
    texts = [file.read_text() for file in files]
    for host in HOSTS:
        edit_config(site.lab, host, {UNITS: f"{UNITS}\n{DISK}"})
        site.lab.reload_agent(host)
        eventually(site.keys(host).exists, look.WITHIN_S, f"the keys of {host}")
    yield site
    for host, file, text in zip(HOSTS, files, texts, strict=True):
        file.write_text(text)
        site.lab.reload_agent(host)
        eventually(lambda at=host: not site.keys(at).exists(), look.WITHIN_S, "none is left on disk")


def test_with_keys_on_disk_tunnels_work_after_a_boot_without_the_catalog(kept: Site) -> None:
    """Each host starts as after a reboot, with nothing in memory. Who keeps them in memory again has removed the file."""
    assert kept.call()
    with kept.without_catalog():
        for host in HOSTS:
            kept.restart_agent(host)
            assert look.log_lines(kept.lab, host, "keys_restored")[-1]["certificates"]
        assert kept.call()
        assert kept.reason("host1", "other") == "denied"
        for host in HOSTS:
            status = kept.keys(host).stat()
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 0, 0)
        edit_config(kept.lab, "host1", {DISK: MEMORY})
        kept.restart_agent("host1")
        assert kept.reason("host1") == "no_svid"
        assert not kept.keys("host1").exists()
    eventually(kept.call, RETURN_S, "tunnels work")


def test_what_is_taken_back_leaves_the_disk_too(kept: Site) -> None:
    """A revoked host's certificates are dropped everywhere; with another token its new ones get there."""
    eventually(lambda: "shop" in kept.services("host1"), look.WITHIN_S, "a certificate on disk")
    token = kept.lab.host("host1").own("etc") / "node.token"
    try:
        revoke(kept.lab, accessor_of(kept.lab, "host1"))
        eventually(lambda: not kept.services("host1"), RETURN_S, "none is on disk")
    finally:
        hub = kept.lab.state.hub
        token.write_text(catalog.create_token(hub, kept.lab.state.holder(hub), kept.lab.host("host1")))
    eventually(lambda: kept.call() and "shop" in kept.services("host1"), RETURN_S, "new ones are")


def test_a_key_file_that_root_has_not_written_is_of_no_use(kept: Site) -> None:
    """Spoiled while the agent was away: the log says so, and the CA gives new ones, which replace it."""
    path = kept.keys("host1")
    kept.lab.stop_agent("host1")
    os.chown(path, layout.CONTROL_UID, layout.CONTROL_UID)
    kept.lab.start_agent("host1")
    assert "not to root" in look.log_lines(kept.lab, "host1", "key_file_ignored")[-1]["error"]
    assert kept.call()
    eventually(lambda: path.stat().st_uid == 0, look.WITHIN_S, "the new ones")
    kept.lab.stop_agent("host1")
    path.write_bytes(b"garbage")
    kept.lab.start_agent("host1")
    assert look.log_lines(kept.lab, "host1", "kept_keys_ignored")
    assert kept.call()


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
