"""What pages tell operators to type is understood by what they type it to."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ansible/README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:^|`)(apt(?:-get)? (?:install|remove|purge) [^`\n]+)", re.MULTILINE)
LINES = [(page.name, line) for page in PAGES for line in COMMAND.findall(page.read_text())]
PACKAGES = (("nodeagent", "0.1.0-1", "all", "nodeagent_0.1.0-1_all.deb"), ("nodeagent-0.1.0", "0.1.0-1+py3.11", "amd64", "nodeagent-0.1.0_0.1.0-1+py3.11_amd64.deb"))  # fmt: skip


def control(name: str, version: str, architecture: str) -> str:
    """As dpkg keeps it of a package."""
    return f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: x <x@x.invalid>\nDescription: x\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with the packages as files, and an apt that takes both for installed."""
    for name, version, architecture, file in PACKAGES:
        tree = tmp_path / "tree"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(control(name, version, architecture))
        subprocess.run(["dpkg-deb", "--build", tree, tmp_path / file], check=True, capture_output=True)
    (tmp_path / "status").write_text("\n".join(control(*row[:3]) + "Status: install ok installed\n" for row in PACKAGES))
    (tmp_path / "lists/partial").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("page", "line"), LINES)
def test_apt_knows_what_is_meant(host: Path, page: str, line: str) -> None:
    """Of a real apt, which is asked what it would do: it finds each package, and takes those out that it shall."""
    program, *rest = shlex.split(line, comments=True)
    settings = {
        "Dir::State::status": host / "status", "Dir::State::lists": host / "lists", "Dir::Cache": host, "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": "/dev/null", "APT::Architecture": "amd64",
    }  # fmt: skip
    options = [f"-o={name}={value}" for name, value in settings.items()]
    done = subprocess.run([program, "--simulate", *options, *rest], cwd=host, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
    gone = {"remove": "Remv", "purge": "Purg"}.get(rest[0])
    assert gone is None or f"{gone} nodeagent-0.1.0 " in done.stdout
    assert gone is None or rest[1:] == ["nodeagent-0.1.0"] or f"{gone} nodeagent " in done.stdout


def test_there_are_such_commands() -> None:
    """To install, to remove and to purge."""
    assert {"install", "remove", "purge"} == {line.split()[1] for _, line in LINES}


def test_what_makes_tests_look_longer_is_said_where_they_are_started() -> None:
    """Each variable that a test reads by itself; what it hands on to programs is none."""
    read = {name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"os\.environ\.get\(\"([A-Z_]+)\"", path.read_text())}
    said = subprocess.run([ROOT / "script/test", "--help"], capture_output=True, text=True, check=True).stdout
    assert "UPGRADES" in read
    assert [name for name in sorted(read) if name not in said] == []
