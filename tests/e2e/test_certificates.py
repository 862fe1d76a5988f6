"""Certificates come, go and are taken back while connections flow: lives of seconds, another root, no CA, no token."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from nodeagent.lab import layout
from nodeagent.lab.catalog import create_token
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.certificates import (
    accessor_of,
    believed,
    ca,
    ca_state,
    revoke,
    serials,
    shorten_lives,
    start_catalog,
)  # fmt: skip
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.settings import restart
from tests.e2e.support.unit import Unit, is_reset
from tests.support.eventually import eventually

WEB = 8080
DEAD = 8081
TTL_S = 6
A_DAY_S = 86_400
REROOTED_S = 600.0  # agents are spread over a minute
RENEWALS = 6
RENEWED_S = 10 * RENEWALS * TTL_S
RECOVERED_S = 50.0  # what is promised is 5 s
SOON_S = 30.0  # what is promised is 1 s for a root, and a few for a token


class Callers:
    """Units that call `web` again and again, each in a thread of its own, until the `with` ends."""

    def __init__(self, lab: Lab, text: bytes, count: int = 3) -> None:
        self.calls = self.failures = 0
        self._is_over = False
        self._stack = ExitStack()
        self._threads = self._stack.enter_context(ThreadPoolExecutor(count))
        units = [self._stack.enter_context(Unit(lab, "host1", "shop")) for _ in range(count)]
        self._address, self._text = (lab.host("host2").ipv4, WEB), text
        self._running = [self._threads.submit(self._run, unit) for unit in units]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        wait(self._running)
        self._stack.close()

    def _run(self, unit: Unit) -> None:
        while not self._is_over:
            self.calls += 1
            self.failures += not answers(unit, self._address, self._text)


class Mesh:
    """shop on host1 may call the echoing `web` on host2; certificates live for TTL_S."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        web = stack.enter_context(Unit(lab, "host2", "web"))
        stack.enter_context(Echo(web.listen("::", WEB)))
        self.shop = stack.enter_context(Unit(lab, "host1", "shop"))
        self.address = (lab.host("host2").ipv4, WEB)

    def call(self) -> bool:
        """Whether a new call to `web` is answered."""
        return answers(self.shop, self.address, b"hello")

    def refusals(self, host: str, reason: str) -> list[str]:
        """What that host's agent said about connections that ended for this reason."""
        return [str(row["error"]) for row in look.with_facts(self.lab, host, reason=reason)]

    def calm(self) -> None:
        """Everything is as it should be, and no agent had a defect."""
        for host in ("host1", "host2"):
            eventually(lambda at=host: look.status(self.lab, at)["healthy"], RECOVERED_S, f"{host} is healthy")
            assert "Traceback" not in self.lab.host(host).log("nodeagent").read_text()
        eventually(self.call, RECOVERED_S, "a call")


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Iterator[Mesh]:
    """For the whole module."""
    lab.register("host2", "web", WEB)
    look.allow(lab, "shop", "web")
    shorten_lives(lab, TTL_S)
    with ExitStack() as stack:
        yield Mesh(lab, stack)


@pytest.fixture(autouse=True)
def unharmed(mesh: Mesh) -> Iterator[None]:
    """Before and after each test the mesh is well."""
    mesh.calm()
    yield
    mesh.calm()


def test_renewals_under_load_cost_no_connection(mesh: Mesh, canary: str) -> None:
    """Certificates of seconds, renewed again and again on both hosts: every call is answered, and an old one lives on."""
    with mesh.shop.connect(*mesh.address) as old, Callers(mesh.lab, canary.encode()) as callers:
        for host, service in (("host1", "shop"), ("host2", "web")):
            seen: set[str] = set()

            def renewed(at: str = host, name: str = service, known: set[str] = seen) -> bool:
                known.add(serials(mesh.lab, at)[name])
                return len(known) > RENEWALS

            eventually(renewed, RENEWED_S, f"{RENEWALS} renewals on {host}")
            assert speaks(old)
    assert callers.calls > RENEWALS
    assert (callers.failures, mesh.refusals("host1", "peer_identity")) == (0, [])


def test_without_the_ca_expired_means_closed_and_its_return_cures_it(mesh: Mesh) -> None:
    """The reason is told by record and status, names the CA, and nothing has to be restarted."""
    with mesh.shop.connect(*mesh.address) as old:
        assert speaks(old)
        look.kill_catalog(mesh.lab)
        try:
            eventually(lambda: "" in serials(mesh.lab, "host1").values(), RECOVERED_S, "the certificate is withdrawn")
            assert not mesh.call()
            told = eventually(lambda: mesh.refusals("host1", "no_svid"), look.WITHIN_S, "the record")
            assert "certificate for shop" in told[-1]
            assert "certs" in told[-1], "the command; whether it is held still depends on who of the two noticed first"
            problems = look.status(mesh.lab, "host1")["problems"]
            (why,) = [problem for problem in problems if problem.startswith("no certificate for shop")]
            assert "has expired" in why
            assert "is the catalog running at" in why
            assert speaks(old), "what is open goes on"
        finally:
            start_catalog(mesh.lab, TTL_S)
        eventually(mesh.call, RECOVERED_S, "calls are answered again")
        assert speaks(old)


def step(mesh: Mesh, name: str, *options: str) -> None:
    """Takes a step of a rotation, once every agent has heard of the last one."""
    order = ("rotate", "--step", name, "--yes", *options)
    eventually(lambda: ca(mesh.lab, *order).returncode == 0, RECOVERED_S, f"step {name}")


def test_a_root_is_replaced_without_a_failed_connection(mesh: Mesh, canary: str) -> None:
    """add, activate, retire: each is seen by the agents, renewals follow, and what hangs on the old root is cut at last."""
    (before,) = believed(mesh.lab, "host1")
    with mesh.shop.connect(*mesh.address) as old:
        assert speaks(old)
        with Callers(mesh.lab, canary.encode()) as callers:
            step(mesh, "add")
            eventually(lambda: len(believed(mesh.lab, "host2")) == 2, SOON_S, "both roots are believed")
            step(mesh, "activate")
            for host in ("host1", "host2"):
                rows = lambda at=host: look.ask(mesh.lab, at, "certs")["certificates"]  # noqa: E731
                eventually(lambda ask=rows: all(r["root"] not in ("", before) for r in ask()), RECOVERED_S, host)
            assert speaks(old)
            step(mesh, "retire")
            eventually(lambda: before not in believed(mesh.lab, "host1"), SOON_S, "it is believed no more")
            assert is_reset(old)
        assert callers.failures == 0
    assert any("is not believed any more" in why for why in mesh.refusals("host1", "revoked") + mesh.refusals("host2", "revoked"))
    state = ca_state(mesh.lab)
    assert (state["phase"], state["back"]) == ("steady", "restore")
    assert [root["state"] for root in state["roots"]] == ["signs", "retired"]


def test_each_step_of_a_rotation_can_be_taken_back(mesh: Mesh) -> None:
    """Down to the root that was there before, with calls answered at every step."""
    before = next(root["id"] for root in ca_state(mesh.lab)["roots"] if root["state"] == "signs")
    for forward, back in ((("add",), ("drop",)), (("add", "activate"), ("deactivate", "drop"))):
        for name in forward:
            step(mesh, name)
            assert mesh.call()
        for name in back:
            step(mesh, name, "--back")
            assert mesh.call()
    assert [(root["id"], root["state"]) for root in ca_state(mesh.lab)["roots"]] == [(before, "signs")]


@contextmanager
def lives_of_a_day(mesh: Mesh) -> Iterator[None]:
    """No certificate leaves the CA's list because it has ended: it was renewed, or its host has said that it is lost."""
    shorten_lives(mesh.lab, A_DAY_S)
    try:
        eventually(mesh.call, RECOVERED_S, "shop and web have certificates")
        yield
    finally:
        shorten_lives(mesh.lab, TTL_S)


def retire(mesh: Mesh) -> None:
    """Once all have renewed; then nothing is left to warn of."""
    eventually(lambda: ca(mesh.lab, "rotate").returncode == 0, REROOTED_S, "the step is shown without a refusal")
    step(mesh, "retire")
    assert "warning" not in ca(mesh.lab, "status").stderr


def holders(lab: Lab) -> set[str]:
    """Host and service of each certificate that somebody holds, as the CA believes."""
    rows = [held for root in ca_state(lab)["roots"] for held in root["held_by"]]
    return {f"{held['node']} {service}" for held in rows for service in held["services"]}


def test_a_root_under_which_a_host_speaks_that_is_not_there_is_not_retired(mesh: Mesh) -> None:
    """The CA names it, and when its certificates end: nobody waits for it in vain. Once it is back the way is free."""
    lab = mesh.lab
    with lives_of_a_day(mesh):
        step(mesh, "add")
        lab.kill_agent("host1")
        try:
            step(mesh, "activate", "--force")
            for refused, words in ((ca(lab, "rotate", "--yes"), "answered 409"), (ca(lab, "rotate"), "it would be refused")):
                assert refused.returncode == 1
                for word in (words, "host1 (shop)", "not connected: host1, whose last one ends at", "UTC; forced (--force)"):
                    assert word in refused.stderr, refused
        finally:
            lab.start_agent("host1")
        retire(mesh)


def test_certificates_that_nobody_holds_any_more_keep_no_root(mesh: Mesh) -> None:
    """Of a service that left, and of a workload whose key went with an agent that was started again: both within seconds."""
    lab = mesh.lab
    with lives_of_a_day(mesh):
        lab.register("host2", "dead", DEAD)
        look.allow(lab, "idle", "web")
        with Unit(lab, "host1", "idle") as idle:
            assert answers(idle, mesh.address, b"hello")
        eventually(lambda: holders(lab) >= {"host1 idle", "host2 dead"}, RECOVERED_S, "the CA knows of both")
        lab.catalog("PUT", "/v1/catalog/deregister", {"Node": "host2", "ServiceID": "dead"})
        restart(lab, "host1")
        eventually(lambda: not holders(lab) & {"host1 idle", "host2 dead"}, RECOVERED_S, "it forgets both")
        mesh.calm()
        step(mesh, "add")
        step(mesh, "activate")
        retire(mesh)



@contextmanager
def deaf(lab: Lab, host: str) -> Iterator[None]:
    """Its control stands still: its workers go on with the keys that they have."""
    control = next(pid for pid in lab.pids(host, layout.AGENT) if Path(f"/proc/{pid}").stat().st_uid == layout.CONTROL_UID)
    os.kill(control, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(control, signal.SIGCONT)


def knows_itself_revoked(lab: Lab) -> None:
    """host1's agent says so within seconds: who must do what, and which step of a call fails."""
    said = eventually(lambda: look.status(lab, "host1")["problems"], SOON_S, "it is not healthy")
    assert any("put a new one into" in each and "node.token" in each for each in said), said
    assert lab.exec("host1", "nodeagent", "status").returncode == 1
    why = lab.exec("host1", "nodeagent", "why", "--from", "shop", "--to", "web")
    assert why.returncode == 1
    assert refused_steps(lab, "host1")["certificate"].count("revoked") >= 1


def refused_steps(lab: Lab, host: str) -> dict[str, str]:
    """What refuses a call of shop to web, as that host's agent sees it."""
    answer = json.loads(lab.exec(host, "nodeagent", "why", "--from", "shop", "--to", "web", "-o", "json").stdout)
    return {step["what"]: step["text"] for step in answer["steps"] if step["verdict"] == "refused"}


def test_a_revoked_token_s_certificates_are_refused_and_its_tunnels_cut(mesh: Mesh) -> None:
    """host1's token is taken back, and host1 does not hear of it: host2 cuts what it carries for host1 and lets it in no more.

    When host1 hears, it says so itself; with another token it is welcome.
    """
    path = mesh.lab.host("host1").own("etc") / "node.token"
    state = mesh.lab.state
    shorten_lives(mesh.lab, A_DAY_S)
    mesh.calm()
    with mesh.shop.connect(*mesh.address) as old:
        assert speaks(old)
        client = "{}:{}".format(*old.getsockname())
        known = len(mesh.refusals("host2", "revoked"))
        try:
            with deaf(mesh.lab, "host1"):
                revoke(mesh.lab, accessor_of(mesh.lab, "host1"))
                eventually(lambda: len(mesh.refusals("host2", "revoked")) > known, SOON_S, "host2 says what it cut")
                assert is_reset(old)
                assert not mesh.call()
                why = "the certificate of shop on host1 was revoked"
                eventually(lambda: why in mesh.refusals("host2", "revoked")[-1], look.WITHIN_S, "host2 refuses it")
            what = "its record, whichever of the two agents heard of it first"
            eventually(lambda: look.with_facts(mesh.lab, "host1", client=client, reason="revoked"), look.WITHIN_S, what)
            assert any(row["node"] == "host1" for row in ca_state(mesh.lab)["revoked"])
            knows_itself_revoked(mesh.lab)
        finally:
            path.write_text(create_token(state.hub, state.holder(state.hub), mesh.lab.host("host1")))
        eventually(mesh.call, RECOVERED_S, "with another token it is welcome, without a restart")


def test_the_caller_s_agent_knows_that_the_callee_was_revoked(mesh: Mesh) -> None:
    """host2's token is taken back: on host1 `why` says what the log says, and forgets it with the first call that passes."""
    path, state = mesh.lab.host("host2").own("etc") / "node.token", mesh.lab.state
    assert mesh.call()
    assert refused_steps(mesh.lab, "host1") == {}
    known = len(mesh.refusals("host1", "revoked"))
    try:
        with deaf(mesh.lab, "host2"):
            revoke(mesh.lab, accessor_of(mesh.lab, "host2"))
            eventually(lambda: not mesh.call() and len(mesh.refusals("host1", "revoked")) > known, SOON_S, "host1 says what it refused")
            told = eventually(lambda: refused_steps(mesh.lab, "host1"), SOON_S, "why says it")
            assert "the certificate of web on host2 was revoked" in told["certificate"]
    finally:
        path.write_text(create_token(state.hub, state.holder(state.hub), mesh.lab.host("host2")))
    eventually(mesh.call, RECOVERED_S, "with another token it is welcome")
    eventually(lambda: refused_steps(mesh.lab, "host1") == {}, SOON_S, "why says that, too")
