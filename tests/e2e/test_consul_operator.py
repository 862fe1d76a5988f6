"""`nodeagent policy` and `intention` with a real Consul 1.8.7, by the tokens that docs/policy.md and the README have."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.catalog.kept_intentions import kept_path
from tests.e2e.support.consul import Consul
from tests.e2e.test_consul_control import readme_rules

DOCS = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
FILE = """\
Kind: service-intentions
Name: web
Sources: [{Name: shop, Action: allow}]
---
Kind: mesh
AllowEnablingPermissiveMutualTLS: true
---
Kind: service-defaults
Name: web
Protocol: http
"""


def operators_rules():
    """The rules that docs/policy.md has for an operator: in its text, and below it."""
    kept = re.search(r"```hcl\n(.*?)```", DOCS, re.DOTALL)[1]
    assert 'beside `operator = "write"`' in DOCS
    return f'operator = "write"\nservice_prefix "" {{ policy = "write" intentions = "write" }}\n{kept}'


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("operator"), acl=True, node="host1") as running:
        yield running


@pytest.fixture
def ask(consul, tmp_path):
    """Runs the command with a token of these rules; its status and all that it said."""
    (tmp_path / "nodeagent.toml").write_text(f'[host]\nname = "host1"\naddresses = ["10.77.0.1"]\n[catalog]\naddress = "http://{consul.address}"\n')
    (tmp_path / "policy.yaml").write_text(FILE)

    def run(*words, rules=""):
        token = tmp_path / f"token-{len(rules)}"
        if not token.exists():
            token.write_text(consul.make_token(f"{tmp_path.name}-{len(rules)}", rules or operators_rules()))
        argv = [sys.executable, "-m", "nodeagent", *words, "--config", tmp_path / "nodeagent.toml", "--token-file", token]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_an_operators_token_may_do_all_of_it(consul, ask, tmp_path):
    """Entries of kinds that this Consul has not, their trail, intentions where the entry is, and its end."""
    consul.client().ok("POST", "/v1/connect/intentions", {"SourceName": "api", "DestinationName": "web", "Action": "allow", "SourceType": "consul"})
    status, said = ask("policy", "apply", "-f", str(tmp_path / "policy.yaml"))
    assert (status, said.count(": created")) == (0, 3)
    assert "kept, not yet acted on (AllowEnablingPermissiveMutualTLS): mesh mesh" in said
    assert "so these are not in force: api -> web (allow)" in said
    listed = ask("policy", "list")[1]
    assert re.search(r"mesh +mesh +\d+ +KV +no", listed)
    assert re.search(r"service-intentions +web +\d+ +KV +yes", listed)
    assert ask("policy", "history")[1].count(" created ") == 3
    status, said = ask("intention", "delete", "shop", "web")
    assert (status, "in force again: api -> web (allow)" in said) == (1, True)
    assert "api -> web" in ask("policy", "delete", "service-intentions", "web")[1]
    assert consul.client().get(kept_path("web")).status == 404


def test_an_agents_token_may_look(consul, ask):
    """And one of before it might read keys is not told that rows are all."""
    consul.client().put(kept_path("web"), {"Sources": [{"Name": "shop", "Action": "allow"}]})
    assert ask("intention", "check", "shop", "web", rules=readme_rules())[0] == 0
    before = "\n".join(line for line in readme_rules().splitlines() if "key_prefix" not in line)
    status, said = ask("intention", "check", "api", "web", rules=before)
    assert (status, "this token may not read what the KV store says of web" in said) == (1, True)


def test_a_token_that_may_read_nothing_is_not_told_that_there_is_nothing(consul, ask):
    """To whom Consul leaves everything out, without a word."""
    consul.client().put(kept_path("web"), {"Sources": [{"Name": "shop", "Action": "allow"}]})
    rules = 'node_prefix "" { policy = "read" }'
    for words in (("intention", "check", "shop", "web"), ("intention", "list"), ("policy", "list"), ("policy", "history"), ("policy", "get", "service-intentions")):
        status, said = ask(*words, rules=rules)
        assert (status, "this token may not read " in said, "(give it " in said) == (1, True, True), said
    assert ask("service", "list", rules=rules)[1].startswith("Error: ") is True
    for words in (("intention", "list"), ("policy", "list"), ("policy", "history"), ("service", "list")):
        status, said = ask(*words, rules=operators_rules() + rules)
        assert (status, "this token may not" in said) == (0, False), said
