"""`nodeagent policy` with a real catalog and real agents: files into it, in force within a second, and the trail of who did it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
WITHIN_S = 10.0  # ten times what is promised
ALLOW = "kind: service-intentions\nname: web\nsources:\n  - name: shop\n    action: allow\n"
ROUTES = {"Kind": "service-router", "Name": "web", "Routes": [{"Match": {"HTTP": {"PathExact": "/a", "PathPrefix": "/b"}}}]}
DOC = Path(__file__).parents[2] / "docs" / "policy.md"


class Done(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


class Mesh(NamedTuple):
    """`web` on host2, `shop` on host1, and an operator there."""

    lab: Lab
    web: App
    shop: Unit

    def policy(self, *arguments: str, given: str = "") -> Done:
        """`nodeagent policy …`, as host1's operator."""
        done = self.lab.exec("host1", "nodeagent", "policy", *arguments, input=given)
        return Done(done.returncode, done.stdout, done.stderr)

    def answer(self) -> str:
        return call(self.shop, self.lab.host("host2").ipv4, WEB, "hello")


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Mesh]:
    """For the whole module."""
    with App(lab, "host2", "web", WEB) as web, Unit(lab, "host1", "shop") as shop:
        yield Mesh(lab, web, shop)


@pytest.fixture
def mesh(site: Mesh) -> Iterator[Mesh]:
    """Nothing is allowed; what a test has written goes."""
    set_intentions(site.lab, {})
    yield site
    rows = site.policy("list", "-o", "json").json["entries"]
    for row in reversed(rows):
        assert site.policy("delete", row["kind"], row["name"]).status == 0


def test_a_file_is_in_force_and_its_removal_too(mesh: Mesh) -> None:
    """As an intention of the command line is."""
    assert mesh.answer() == "reset"
    done = mesh.policy("apply", "-f", "-", given=ALLOW)
    assert (done.status, done.out) == (0, "service-intentions web: created\n")
    eventually(lambda: mesh.answer() == "app:hello", WITHIN_S, "the call passes")
    assert mesh.policy("delete", "-f", "-", given=ALLOW).status == 0
    eventually(lambda: mesh.answer() == "reset", WITHIN_S, "the call is refused")


def test_every_kind_of_the_documents_is_kept_and_said_again(mesh: Mesh) -> None:
    """What is read back is what was written, whatever the catalog adds."""
    text = "---\n".join(re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL))
    done = mesh.policy("apply", "-f", "-", given=text)
    assert (done.status, {line.rpartition(": ")[2] for line in done.out.splitlines()}) == (0, {"created"})
    assert "kept, not yet acted on: " in done.err
    assert mesh.policy("diff", "-f", "-", given=text) == Done(0, "", "")
    keys = [(row["kind"], row["name"]) for row in mesh.policy("list", "-o", "json").json["entries"]]
    again = "---\n".join(mesh.policy("get", *key).out for key in keys)
    unchanged = mesh.policy("apply", "-f", "-", given=again)
    assert (unchanged.status, {line.rpartition(": ")[2] for line in unchanged.out.splitlines()}) == (0, {"unchanged"})
    assert mesh.policy("delete", "-f", "-", given=text).status == 0


def test_the_catalog_refuses_what_the_command_refuses(mesh: Mesh) -> None:
    """In the same words, whoever asks."""
    sentence = "service-router web: Routes[0].Match.HTTP: PathExact and PathPrefix are both set"
    done = mesh.policy("apply", "-f", "-", given=json.dumps(ROUTES))
    assert (done.status, sentence in done.err) == (1, True)
    told = mesh.lab.exec("host1", "nodeagent", "policy", "validate", "--online", "-o", "json", "-f", "-", input=json.dumps(ROUTES))
    assert json.loads(told.stdout)["faults"] == [f"standard input:1: {sentence}"]
    with pytest.raises(Exception, match=re.escape(sentence)):
        mesh.lab.catalog("PUT", "/v1/config", ROUTES)


def test_who_was_faster_is_not_written_over_and_the_trail_tells(mesh: Mesh) -> None:
    """A document that was read before somebody else's change is refused; that change is external."""
    assert mesh.policy("apply", "-f", "-", given=ALLOW).status == 0
    old = mesh.policy("get", "service-intentions", "web").out
    sources = [{"Name": "shop", "Action": "allow"}, {"Name": "cron", "Action": "deny"}]
    mesh.lab.catalog("PUT", "/v1/config", {"Kind": "service-intentions", "Name": "web", "Sources": sources})
    done = mesh.policy("apply", "-f", "-", given=old.replace("allow", "deny"))
    assert (done.status, "conflict" in done.err) == (1, True)
    assert mesh.lab.exec("host1", "nodeagent", "intention", "deny", "shop", "web").returncode == 0
    rows = mesh.policy("history", "service-intentions", "web", "-o", "json").json["changes"][-3:]
    assert [row["act"] for row in rows] == ["created", "external", "changed"]
    assert [(row["by"]["user"], bool(row["by"]["token"])) for row in rows if row["act"] != "external"] == [("root", True)] * 2


def test_a_hosts_own_token_reads_and_writes_none(mesh: Mesh) -> None:
    """Whoever gets a host is no operator of the mesh."""
    token = mesh.lab.member("host1").own("etc") / "node.token"
    assert mesh.policy("list", "--token-file", str(token)).status == 0
    done = mesh.policy("apply", "--token-file", str(token), "-f", "-", given=ALLOW)
    assert (done.status, "takes a management token" in done.err) == (1, True)
