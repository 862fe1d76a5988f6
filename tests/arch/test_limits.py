"""Every limit has a test that reaches it, or stands here with the reason why none can."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits

ROOT = Path(__file__).parents[2]
TESTS = sorted(path for folder in ("unit", "e2e") for path in (ROOT / "tests" / folder).rglob("*.py"))
RELATIONS = ROOT / "tests" / "unit" / "nodeagent" / "test_limits.py"  # compares numbers, reaches none

HOW_OFTEN = "how often something is done: a test that measures it would measure the machine"
LAB_WAIT = "how long a lab command waits before it gives up: tests/e2e/test_lab.py would have to break the lab and wait as long"
UNTESTED = {
    "RECORDS_S": HOW_OFTEN,
    "COMPILE_S": HOW_OFTEN,
    "CATALOG_PULSE_S": HOW_OFTEN + "; that it goes on asking is in tests/e2e/test_faults_catalog.py",
    "API_LINGER_S": "handed to aiohttp: a second for a refused caller to read why, whose end nobody but it sees",
    "CATALOG_COLLECT": HOW_OFTEN,
    "SWITCH_S": "handed to Python's interpreter: what it buys is milliseconds of a busy machine",
    "CATALOG_STOP_S": "what requests get when the catalog ends: without it they would get aiohttp's sixty seconds",
    "LAB_LOCK_S": LAB_WAIT,
    "LAB_ENDED_S": LAB_WAIT,
    "LAB_LISTEN_MORE_S": HOW_OFTEN + "; that a server's second address is found is in tests/e2e/test_lab_run.py",
    "LAB_LOOPBACK_S": HOW_OFTEN + "; that who listens on loopback alone is refused is in tests/e2e/test_lab_run.py",
    "LAB_KILL_S": LAB_WAIT,
    "LAB_STOP_S": LAB_WAIT,
    "LAB_START_S": LAB_WAIT,
    "LAB_PORT_S": LAB_WAIT,
}

LIMITS = sorted(name for name in vars(limits) if name.isupper())
BOUND = re.compile(r"[A-Z][A-Z_]*_(?:BYTES|BITS_MIN|LENGTH|MAX|MIN|S)")


def is_relation(node: ast.Compare) -> bool:
    """Whether limits are compared with each other and with numbers only: nothing is reached by that."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names == {"limits"} and not any(isinstance(each, ast.Call) for each in ast.walk(node))


def used_names(tree: ast.Module) -> Iterator[str]:
    """Names that code of this module uses: read of a module, imported and read, or patched; a mere mention is no use."""
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    idle = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    idle |= {id(each) for node in ast.walk(tree) if isinstance(node, ast.Compare) and is_relation(node) for each in ast.walk(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="limits"), attr=name) if id(node) not in idle:
                yield name
            case ast.Name(id=name, ctx=ast.Load()) if name in imported and id(node) not in idle:
                yield name
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Name(id="limits"), ast.Constant(value=str(name)), _]):
                yield name
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str(path)), _]) if ".limits." in path:
                yield path.rpartition(".")[2]


USED = {name for path in TESTS if path != RELATIONS for name in used_names(ast.parse(path.read_text()))}


def bounds(package: str) -> set[str]:
    """Public numbers that bound something in a package that knows nothing of nodeagent's limits."""
    return {
        target.id
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and BOUND.fullmatch(target.id)
    }


def test_every_limit_is_reached_by_a_test() -> None:
    """A new limit comes with a test of what happens there, or with a reason in this file."""
    assert [] == [name for name in LIMITS if name not in USED | set(UNTESTED)]


def test_no_reason_outlives_its_cause() -> None:
    """A limit that is tested, or is gone, needs no excuse."""
    assert [] == [name for name in UNTESTED if name in USED or name not in LIMITS]


@pytest.mark.parametrize("package", ["certs", "redirect"])
def test_bounds_of_the_other_packages_are_reached_too(package: str) -> None:
    """They stand beside the code that they bound."""
    found = bounds(package)
    assert found
    assert found - USED == set()


def test_a_mention_is_no_test() -> None:
    """Neither in a comment, nor in a text, nor alone on its line."""
    text = '"""limits.HOPS"""\nlimits.HOPS\n# limits.HOPS\nx = HOPS = "HOPS"\nprint(HOPS)\nother.setattr(them, "HOPS", 1)\n'
    assert "HOPS" not in set(used_names(ast.parse(text)))
    assert "HOPS" not in set(used_names(ast.parse("assert 1 < limits.HOPS <= 2 * limits.CALLS")))
    assert "HOPS" in set(used_names(ast.parse("assert x == limits.HOPS")))
    assert "HOPS" in set(used_names(ast.parse('patch.setattr(limits, "HOPS", 1)')))
