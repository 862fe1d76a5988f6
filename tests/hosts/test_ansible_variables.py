"""Variables as Ansible's users give them: by -e and in INI files the truth values are texts."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.hosts.support.collection import ANSIBLE, HERE, ROLES, read, run

pytestmark = pytest.mark.timeout(120)

OPTIONS = {name: option for role in ROLES for name, option in read(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"].items()}
USED_IN = [
    path for pattern in ("playbooks/*.yml", *(f"roles/*/{part}/*" for part in ("tasks", "handlers", "vars", "templates")))
    for path in ANSIBLE.glob(pattern)
]  # fmt: skip


def rendered(home: Path, *extra: str) -> tuple[dict, list[str]]:
    """nodeagent.toml, and what the uninstallation of agent and catalog removes."""
    (home / "hosts").write_text("web1 ansible_connection=local nodeagent_addresses=['10.0.0.1']\n")
    expressions = [
        task["loop"] for path in ("roles/agent/tasks/absent.yml", "roles/catalog/tasks/absent.yml")
        for task in read(path) if task["name"] == "Remove its files"
    ]  # fmt: skip
    steps = [{"ansible.builtin.template": {"src": str(ANSIBLE / "roles/agent/templates/nodeagent.toml.j2"), "dest": str(home / "made.toml")}}]
    steps += [
        {"ansible.builtin.copy": {"content": "{{ (" + expression.strip()[2:-2] + ") | to_json }}", "dest": str(home / f"gone{number}")}}
        for number, expression in enumerate(expressions)
    ]
    files = [str(ANSIBLE / f"roles/{role}/{kind}/main.yml") for role in ("package", "agent") for kind in ("defaults", "vars")]
    variables = {"_nodeagent_ssh_ports": [], "nodeagent_catalog_address": "https://10.0.0.1:8501"}
    (home / "play.yml").write_text(json.dumps([{"hosts": "web1", "gather_facts": False, "vars": variables, "tasks": steps}]))
    given = [part for file in files for part in ("-e", f"@{file}")]  # what is given last counts
    done = run(home, "ansible-playbook", "-i", str(home / "hosts"), *HERE, *given, *extra, str(home / "play.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    gone = [path for number in range(len(expressions)) for path in json.loads((home / f"gone{number}").read_text())]
    return tomllib.loads((home / "made.toml").read_text()), gone


@pytest.mark.parametrize(("text", "is_true"), [("false", False), ("no", False), ("true", True), ("yes", True)])
def test_a_truth_value_may_be_a_text(tmp_path: Path, text: str, *, is_true: bool) -> None:
    """What says false keeps the state and the CA, and captures nothing."""
    config, gone = rendered(tmp_path, "-e", f"nodeagent_purge={text}", "-e", f"nodeagent_intercept={text}")
    assert config["intercept"]["enabled"] is is_true
    assert {"/var/lib/nodeagent", "/var/lib/nodeagent-catalog"} & {*gone} == ({"/var/lib/nodeagent", "/var/lib/nodeagent-catalog"} if is_true else set())
    assert "/etc/nodeagent" in gone


def test_truth_values_are_read_as_such_wherever_they_are_used() -> None:
    """Jinja takes any text for true."""
    raw = [
        f"{path.relative_to(ANSIBLE)}: {line.strip()}"
        for name, option in OPTIONS.items() if option.get("type") == "bool"
        for path in USED_IN
        for line in path.read_text().splitlines()
        if re.search(rf"\b{name}\b(?! \| bool\b)(?!:)", line)
    ]  # fmt: skip
    assert raw == []
    assert any(option.get("type") == "bool" for option in OPTIONS.values())


def test_the_list_of_variables_has_all_of_them() -> None:
    """Whatever a playbook or role asks for."""
    asked = {
        name for path in USED_IN for expression in re.findall(r"\{\{.*?\}\}|when: [^\n]*|\n +- [^\n:]* [^\n:]*\n", path.read_text(), re.DOTALL)
        for name in re.findall(r"(?<![\w'\"./])nodeagent_[a-z_]+(?!:)\b", expression)
    }  # fmt: skip
    assert asked - {*OPTIONS} == set()
    assert len(asked) > 15
