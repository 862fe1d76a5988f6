"""`nodeagent policy test`."""

import json
from pathlib import Path

import click
from click.testing import CliRunner, Result

from nodeagent.cli.main import main

POLICY = """
Kind: proxy-defaults
Config: {protocol: http}
---
Kind: service-resolver
Name: web
Subsets: {v1: {Filter: Service.Meta.version == v1}, v2: {Filter: Service.Meta.version == v2}}
---
Kind: service-splitter
Name: web
Splits: [{Weight: 90, ServiceSubset: v1}, {Weight: 10, ServiceSubset: v2}]
---
Kind: service-intentions
Name: web
Sources:
- Name: shop
  Permissions:
  - {Action: deny, HTTP: {PathPrefix: /admin}}
  - {Action: allow, HTTP: {PathPrefix: /}}
"""
GOOD = """
- {from: shop, to: web, expect: {verdict: allow, targets: {web subset v1: 90, web subset v2: 10}}}
- {name: nobody gets around, from: shop, to: web, path: /x/../%61dmin, expect: {verdict: deny}}
"""
BAD = GOOD + "- {from: cart, to: web, expect: {verdict: allow}}\n"


def run(tmp_path: Path, cases: str, *more: str, policy: str = POLICY) -> Result:
    files = tmp_path / "policy.yaml", tmp_path / "cases.yaml"
    for file, text in zip(files, (policy, cases), strict=True):
        file.write_text(text)
    return CliRunner().invoke(main, ["policy", "test", "-f", str(files[1]), "--policy", str(files[0]), *more])


def test_all_is_as_expected(tmp_path: Path) -> None:
    """Exit status 0, a line for each case."""
    done = run(tmp_path, GOOD)
    assert (0, ["✓ shop -> web GET /", "✓ nobody gets around", "2 cases, none differs"]) == (done.exit_code, click.unstyle(done.stdout).splitlines())


def test_what_differs_ends_a_pipeline(tmp_path: Path) -> None:
    """Exit status 1, with what is otherwise."""
    done = run(tmp_path, BAD)
    lines = click.unstyle(done.stdout).splitlines()
    assert (1, "3 cases, 1 differs") == (done.exit_code, lines[-1])
    assert lines[2:4] == ["\N{MULTIPLICATION SIGN} cart -> web GET /", "    Verdict: expected allow, found deny (default deny denies the request)"]


def test_the_same_for_programs(tmp_path: Path) -> None:
    """With the whole explanation of each case."""
    answer = json.loads(run(tmp_path, BAD, "-o", "json").stdout)
    assert ("nodeagent/v1", 1, [True, True, False]) == (answer["apiVersion"], answer["differing"], [row["ok"] for row in answer["cases"]])
    assert answer["cases"][1]["explanation"]["path"] == "/admin"


def test_files_that_are_not_sound_are_refused(tmp_path: Path) -> None:
    """Entries, cases, and cases of what no entry speaks of: exit status 1."""
    broken = POLICY + "---\nKind: service-router\nName: web\nRoutes: [{Destination: {PrefixRewrite: a}}]\n"
    for done in (run(tmp_path, GOOD, policy=broken), run(tmp_path, "- {from: shop}"), run(tmp_path, GOOD.replace("to: web", "to: wep"))):
        assert (done.exit_code, done.stdout) == (1, "")
        assert "Error: " in done.stderr
    answer = json.loads(run(tmp_path, "- {from: shop}", "-o", "json").stdout)
    assert answer["valid"] is False


def test_it_wants_cases_and_entries() -> None:
    """Exit status 2."""
    assert CliRunner().invoke(main, ["policy", "test"]).exit_code == 2
