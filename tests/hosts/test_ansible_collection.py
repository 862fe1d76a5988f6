"""The collection as a text: linted, its variables listed once, its version the project's."""

import json
import runpy
import subprocess
from pathlib import Path

import pytest

from nodeagent import __version__
from nodeagent.model.names import NAME_PATTERN
from tests.hosts.support.collection import ANSIBLE, HERE, ROLES, read, run
from tests.hosts.support.image import ROOT

pytestmark = pytest.mark.timeout(300)  # ansible-lint takes 20 s on an idle machine

def test_ansible_lint_in_production_has_nothing_to_say(tmp_path: Path) -> None:
    """Its strictest profile; what is skipped has its reason in the file."""
    done = run(tmp_path, "ansible-lint", "--offline", "--nocolor", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stderr


def test_yamllint_has_nothing_to_say(tmp_path: Path) -> None:
    """Of any file of the collection."""
    done = run(tmp_path, "yamllint", "--strict", ".")
    assert (0, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize("playbook", ["site", "upgrade", "uninstall"])
def test_every_playbook_is_one(tmp_path: Path, playbook: str) -> None:
    """Found by its name, and so are the roles that it names."""
    done = run(tmp_path, "ansible-playbook", "--syntax-check", "-i", "localhost,", f"nodeagent.mesh.{playbook}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("is_it", "service_mgr", "pkg_mgr", "python"),
    [
        ("RedHat 9.4", "systemd", "dnf", (3, 9)), ("Alpine 3.20", "openrc", "apk", (3, 12)), ("Devuan 5", "sysvinit", "apt", (3, 11)),
        ("Debian 11", "systemd", "apt", (3, 9)),
    ],
)  # fmt: skip
def test_a_host_that_is_not_supported_is_refused_by_name(
    tmp_path: Path, is_it: str, service_mgr: str, pkg_mgr: str, python: tuple[int, int]
) -> None:
    """By the role's first task, as the host's facts say: nothing is copied or asked before."""
    name, version = is_it.split()
    facts = {
        "distribution": name, "distribution_version": version, "service_mgr": service_mgr, "pkg_mgr": pkg_mgr,
        "python": {"version": {"major": python[0], "minor": python[1]}},
    }  # fmt: skip
    play = {
        "hosts": "old1", "connection": "local", "gather_facts": False, "roles": ["nodeagent.mesh.agent"],
        "pre_tasks": [{"ansible.builtin.set_fact": facts | {"cacheable": True}}],
        "vars": {"nodeagent_catalog_address": "https://10.0.0.1:8501"},
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = run(tmp_path, "ansible-playbook", "-i", "old1,", str(tmp_path / "play.yml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"old1 is {is_it} with {service_mgr}, {pkg_mgr} and Python {python[0]}.{python[1]}; nodeagent's packages are for" in done.stdout
    assert done.stdout.count("\nTASK [") == 3  # the facts, the arguments, and this


@pytest.mark.parametrize(
    ("service", "check", "says"),
    [
        ({"name": "web", "port": 99999}, ["--check"], "{'name': 'web', 'port': 99999} cannot be a service"),
        ({"name": "web", "port": 0}, [], "cannot be a service"),
        ({"name": "Web", "port": 80}, [], "cannot be a service"),
        ({"name": "web", "port": 80, "address": "10.0.0.0/24"}, [], "cannot be a service"),
        ({"name": "web", "port": 80}, [], "new1 has no agent: run the play nodeagent.mesh.site first, without tags"),
    ],
)
def test_services_are_judged_before_anything_is_changed(tmp_path: Path, service: dict, check: list[str], says: str) -> None:
    """Also in check mode, and by a part of the play; a host without an agent is told as such."""
    play = {
        "hosts": "new1", "connection": "local", "roles": ["nodeagent.mesh.agent"],
        "vars": {"nodeagent_catalog_address": "https://10.0.0.1:8501", "nodeagent_services": [service]},
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    extra = [*HERE, "-e", "_nodeagent_bin=/nonexistent", "--tags", "nodeagent_services"]
    done = run(tmp_path, "ansible-playbook", "-i", "new1,", *extra, *check, str(tmp_path / "play.yml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stdout
    assert "changed=0" in done.stdout


def test_a_host_without_an_agent_cannot_be_verified_and_is_told_why(tmp_path: Path) -> None:
    """What it lacks, and the cure; in check mode, which changes nothing before either, there is nothing to say."""
    play = {
        "hosts": "new1", "connection": "local", "roles": ["nodeagent.mesh.agent"],
        "vars": {"nodeagent_catalog_address": "https://10.0.0.1:8501"},
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    extra = [*HERE, "-e", "_nodeagent_bin=/nonexistent", "--tags", "nodeagent_verify"]
    done = run(tmp_path, "ansible-playbook", "-i", "new1,", *extra, str(tmp_path / "play.yml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "new1 has no agent: run the play nodeagent.mesh.site first, without tags" in done.stdout
    assert "Errno" not in done.stdout
    checked = run(tmp_path, "ansible-playbook", "-i", "new1,", *extra, "--check", str(tmp_path / "play.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_services_are_called_as_the_agent_allows() -> None:
    """One pattern, in two places."""
    assert NAME_PATTERN == read("roles/agent/vars/main.yml")["_nodeagent_name"]


def test_an_upgrade_of_a_host_without_an_agent_changes_nothing(tmp_path: Path) -> None:
    """And says what is to be done first."""
    assert not Path("/etc/nodeagent/nodeagent.toml").exists()
    (tmp_path / "hosts").write_text("[nodeagent]\nnew1 ansible_connection=local\n")
    done = run(tmp_path, "ansible-playbook", "-i", str(tmp_path / "hosts"), *HERE, "nodeagent.mesh.upgrade")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "new1 has no agent to upgrade, and nothing was changed: run the play nodeagent.mesh.site first" in done.stdout
    assert "changed=0" in done.stdout


def test_the_readme_has_the_variables_that_the_roles_have() -> None:
    """The table is made from the argument specs."""
    done = subprocess.run([str(ROOT / "script/ansible-readme"), "--check"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("role", ROLES)
def test_a_default_that_is_written_down_is_the_one_that_counts(role: str) -> None:
    """Every default of a role is specified, and says what the specification says."""
    options = read(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(f"roles/{role}/defaults/main.yml")
    assert [] == [name for name in defaults if name not in options]
    assert {name: option["default"] for name, option in options.items() if "default" in option} == {
        name: value for name, value in defaults.items() if "default" in options[name]
    }


def test_it_has_the_version_of_what_it_installs() -> None:
    """In the collection, and as the default of the role."""
    assert __version__ == read("galaxy.yml")["version"] == str(read("roles/package/defaults/main.yml")["nodeagent_version"])


@pytest.mark.parametrize(
    ("written", "one"),
    [("FD00::1", "fd00::1"), ("fd00:0:0::1", "fd00::1"), ("10.0.0.1", "10.0.0.1"), ("FD00::/64", "fd00::/64"), ("", "")],
)
def test_addresses_are_compared_as_the_catalog_spells_them(written: str, one: str) -> None:
    """And what is none is told as such."""
    filters = runpy.run_path(str(ANSIBLE / "plugins/filter/canonical.py"))["FilterModule"]().filters()
    assert filters["canonical"](written) == one
    with pytest.raises(Exception, match="does not appear to be an IPv4 or IPv6 network"):
        filters["canonical"]("host1")
