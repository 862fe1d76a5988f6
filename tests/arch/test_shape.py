"""The shape of the code: lengths, docstrings, one unit test per module at the mirrored path, words that stay out."""

import ast
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("nodeagent", "certs", "redirect")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
FUNCTION_MEDIAN_MAX = 8

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
UNIT = ROOT / "tests" / "unit"
UNIT_TESTS = sorted(UNIT.rglob("test_*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "ansible/README.md")
PROSE = [*sorted((ROOT / "docs").rglob("*.md")), *(path for path in (ROOT / name for name in TEXTS) if path.exists())]
SCRIPTS = sorted(path for folder in ("script", ".ci", "systemd", "ansible/roles", "ansible/playbooks") for path in (ROOT / folder).rglob("*") if path.is_file())

# Work that is not finished belongs into an issue, and where a package comes from into its own configuration. The words are
# put together here so that this file does not contain them.
FORBIDDEN = re.compile(
    "|".join(
        (
            r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b",
            r"\bpypi\." + r"org\b|\bpython" + r"hosted\." + r"org\b|\bproxy\.golang\." + r"org\b|\bregistry\." + r"npmjs\b",
            r"\bClau" + r"de\b|\bAnthrop" + r"ic\b|\bChat" + r"GPT\b|\bLL" + r"M\b",
            r"/wo" + r"rk/|/tmp/n" + r"a\b",
            r"\bthis ses" + r"sion\b|\bsub-?ag" + r"ent",
        )
    )
)


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines from `def` to the end) of every function in a file."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def mirrored(path: Path) -> Path:
    """Where the unit test of a source file is."""
    inside = path.relative_to(ROOT)
    return UNIT / inside.parent / f"test_{inside.name}"


def holds_code(path: Path) -> bool:
    """Whether a file has more than docstring, imports and constants that name its package."""
    return path.name != "__init__.py" or bool(functions(path))


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=named)
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    """At most 400 lines, functions of at most 40, a docstring on top."""
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX
    assert [] == [(name, lines) for name, lines in functions(path) if lines > FUNCTION_LINES_MAX]
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", [path for path in SOURCES if holds_code(path)], ids=named)
def test_a_module_has_its_unit_test_at_the_mirrored_path(path: Path) -> None:
    """Who changes a module knows where its promise is written down."""
    assert mirrored(path).exists(), f"{named(mirrored(path))} is missing"
    assert any(name.startswith("test_") for name, _ in functions(mirrored(path))), f"{named(mirrored(path))} has no test"


def test_no_unit_test_is_an_orphan() -> None:
    """A test whose module went away goes, too."""
    expected = {mirrored(path) for path in SOURCES}
    assert [] == [named(path) for path in UNIT_TESTS if path not in expected]


@pytest.mark.parametrize("path", SOURCES + TESTS + PROSE + SCRIPTS, ids=named)
def test_words_that_do_not_belong_here_stay_out(path: Path) -> None:
    """No unfinished work, no place but the reader's own, nobody but the project."""
    found = [(number, match[0]) for number, line in enumerate(path.read_text().splitlines(), 1) if (match := FORBIDDEN.search(line))]
    assert [] == found


def test_functions_are_small_by_habit(record_testsuite_property) -> None:
    """Half of all functions have at most eight lines."""
    lengths = [lines for path in SOURCES for _, lines in functions(path)]
    median = statistics.median(lengths)
    record_testsuite_property("function_median_lines", median)
    print(f"{len(lengths)} functions, median {median} lines, longest {max(lengths)}")
    assert median <= FUNCTION_MEDIAN_MAX


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_the_three_texts_are_there(name: str) -> None:
    """What it is, how it is made, what changed."""
    assert len((ROOT / name).read_text().splitlines()) > 5
