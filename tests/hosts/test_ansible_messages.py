"""What the plays do and say where something did not go as it should, task by task, without a host."""

import re
import subprocess
from pathlib import Path

import pytest

from nodeagent.config import load_config
from tests.hosts.support.collection import ANSIBLE, play, read, tasks
from tests.hosts.support.image import ROOT

pytestmark = pytest.mark.timeout(120)

OPERATOR = read("roles/catalog/vars/main.yml")["_nodeagent_operator"]
LISTED = {"services": [{"ID": "web"}]}


@pytest.mark.parametrize("was", ["failed", "inactive"])
def test_what_systemd_has_given_up_may_start_again(tmp_path: Path, was: str) -> None:
    """At once, and not after a minute; else nothing is asked of systemd."""
    reset = tasks("roles/agent/tasks/run.yml", "Let systemd try anew what it has given up")
    programs = {"systemctl": f"echo {was}"}
    _, calls = play(tmp_path, *reset, programs=programs, _nodeagent_running={"stdout": was, "rc": 3})
    assert calls == (["systemctl reset-failed nodeagent.service"] if was == "failed" else [])
    reset = tasks("roles/catalog/tasks/run.yml", "Ask systemd whether it has given the catalog up", "Let systemd try it anew")
    _, calls = play(tmp_path, *reset, programs=programs)
    assert calls[1:] == (["systemctl reset-failed nodeagent-catalog.service"] if was == "failed" else [])
    for role, first, then in (("agent", "Let systemd try anew what it has given up", "Run the agent"), ("catalog", "Let systemd try it anew", "Run the catalog")):
        names = [task["name"] for task in tasks(f"roles/{role}/tasks/run.yml")]
        assert names.index(first) < names.index(f"{then}, or stop it")


@pytest.mark.parametrize(
    ("before", "status", "called", "says"),
    [
        ("", 0, 1, "is back at 0.1.0. What was installed of 0.2.0 is removed."),
        ("", 1, 1, "0.2.0 stays installed, and nodeagent upgrade without a number would take it. To remove it: apt-get purge nodeagent-0.2.0"),
        ("new.deb installed", 0, 0, "0.2.0 stays installed"),
    ],
)
def test_a_version_that_failed_is_removed_or_said_to_stay(tmp_path: Path, before: str, status: int, called: int, says: str) -> None:
    """It would be the newest. Where connections are left that it has taken, or where it was there before, it stays."""
    end = tasks("roles/package/tasks/change_over.yml", "Remove what did not work", "Stop here")
    said, calls = play(
        tmp_path, *end, programs={"dpkg": f"exit {status}"}, nodeagent_version="0.2.0", _nodeagent_debs=["new.deb"],
        _nodeagent_installed={"stdout_lines": [before]}, _nodeagent_current={"stat": {"lnk_target": "versions/0.1.0"}}, ansible_failed_result={},
    )  # fmt: skip
    assert calls == ["dpkg --purge nodeagent-0.2.0"] * called
    assert says in said


@pytest.mark.parametrize(
    ("services", "listing", "leaving", "is_asked", "says"),
    [
        ([{"name": "web", "port": 80}], "exit 0", "exit 0", True, ""),
        ([], "exit 0", "exit 0", False, "other agents are refused: somebody else has registered web. To take it out"),
        ([{"name": "web", "port": 80}], "exit 0", "echo away >&2; exit 3", True, "other agents are refused: away. To take it out"),
        ([{"name": "web", "port": 80}], "echo away >&2; exit 3", "exit 0", False, "other agents are refused: away. To take it out"),
    ],
)
def test_a_stopped_host_leaves_the_catalog_where_it_comes_back_whole(
    tmp_path: Path, services: list, listing: str, leaving: str, says: str, *, is_asked: bool
) -> None:
    """Nobody then expects an agent there. What somebody else has registered keeps it there, and the play says what that means."""
    program = """case "$2" in list) echo '{"services": [{"ID": "web"}]}'; LISTING;; *) LEAVING;; esac""".replace("LISTING", listing).replace("LEAVING", leaving)
    said, calls = play(tmp_path, *tasks("roles/agent/tasks/stopped.yml"), programs={"nodeagent": program}, nodeagent_services=services)
    assert ("nodeagent service deregister --host" in calls) is is_asked
    assert ("is stopped and stays in the catalog" in said) is bool(says)
    assert says in said


@pytest.mark.parametrize(("listed", "is_asked"), [('{"ID": "web"}, {"ID": "nodeagent"}', True), ("", False)])
def test_a_host_that_is_stopped_already_leaves_the_catalog_while_it_is_there(tmp_path: Path, listed: str, *, is_asked: bool) -> None:
    """A play before this one did not get that far, or the catalog was away; what is not there is asked for no more."""
    (leave,) = tasks("roles/agent/tasks/run.yml", "Let nobody expect an agent here")
    program = """[ "$2" != list ] || echo '{"services": [LISTED]}'""".replace("LISTED", listed)
    given = {"nodeagent_state": "stopped", "_nodeagent_unit": {"stat": {"exists": True}}, "_nodeagent_run": {"changed": False}}
    block = {"when": leave["when"], "block": tasks("roles/agent/tasks/stopped.yml")}
    said, calls = play(tmp_path, block, programs={"nodeagent": program}, nodeagent_services=[{"name": "web", "port": 80}], **given)
    assert calls == ["nodeagent service list -o json", *["nodeagent service deregister --host"] * is_asked]
    assert f"changed={int(is_asked)} " in said
    assert "stays in the catalog" not in said


def test_a_host_that_stays_in_the_catalog_is_removed_by_what_is_printed(tmp_path: Path) -> None:
    """On the catalog's host, by a file that names the host that left: the command alone would take out the host where it runs."""
    template = {
        "ansible.builtin.template": {"src": str(ANSIBLE / "roles/catalog/templates/operator.toml.j2"), "dest": str(tmp_path / "operator.toml")},
        "vars": {"_nodeagent_operator": OPERATOR, "nodeagent_catalog_listen": "10.0.0.1:8501", "inventory_hostname_short": "db1"},
    }
    say = tasks("roles/agent/tasks/absent.yml", "Say that it stays there")
    given = {"_nodeagent_left": {"rc": 3, "stderr": "away"}, "nodeagent_catalog_host": "db1", "nodeagent_host": "web1"}
    said, _ = play(tmp_path, template, *say, **given)
    assert "web1 stays in the catalog (away). To remove it on the catalog's host, once no agent runs here: " in said
    printed = re.search(r"(sed .*) && (nodeagent service deregister --host --config \S+ --token-file \S+)\"", said)
    assert printed is not None, said
    command = printed[1].replace('\\"', '"').replace(OPERATOR, str(tmp_path / "operator.toml")).replace("/root/left.toml", str(tmp_path / "left.toml"))
    subprocess.run(["sh", "-c", command], check=True)
    assert load_config(tmp_path / "operator.toml").host.name == "db1"
    assert load_config(tmp_path / "left.toml").host.name == "web1"
    assert printed[1].replace('\\"', '"') in (ROOT / "docs/uninstall.md").read_text()
    said, _ = play(tmp_path, *say, **given | {"nodeagent_catalog_host": ""})
    assert "nodeagent service deregister --host --config FILE --token-file FILE, with a file whose host.name is" in said


@pytest.mark.parametrize(
    ("accessor", "catalog", "says"),
    [
        ("NGMxZg==", "db1", "catalog token revoke 4c1f"), ("", "db1", "catalog token revoke ACCESSOR"), ("", "", "still good. Revoke it where it was made"),
    ],
)  # fmt: skip
def test_who_is_uninstalled_has_a_token_that_is_still_good(tmp_path: Path, accessor: str, catalog: str, says: str) -> None:
    """The play says so, and how it ends."""
    say = tasks("roles/agent/tasks/absent.yml", "Say that its token is still good")
    there = {"results": [{"stat": {"exists": True}}] * 2}
    said, _ = play(tmp_path, *say, _nodeagent_had_accessor={"content": accessor}, _nodeagent_there=there, nodeagent_catalog_host=catalog)
    assert "web1: its token is gone from the host, and still good." in said
    assert says in said


def test_operators_are_told_where_they_work(tmp_path: Path) -> None:
    """At the end of the play and on the pages: a host's own token may not say who calls whom."""
    last = read("playbooks/site.yml")[-1]
    said, _ = play(tmp_path, *last["tasks"])
    assert f"is said on web1, as root: nodeagent intention allow SOURCE DESTINATION --config {OPERATOR}" in said
    assert last["hosts"] == "nodeagent_catalog"
    for page in ("README.md", "docs/install.md", "ansible/README.md"):
        assert f"--config {OPERATOR}" in (ROOT / page).read_text(), page
