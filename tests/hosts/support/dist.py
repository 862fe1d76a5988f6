"""What script/dist builds, kept between runs; other versions are this tree with another number."""

import re
import shutil
from pathlib import Path

from tests.hosts.support import image
from tests.hosts.support.image import PYTHON, RELEASES, ROOT, VERSION, run

BUILT_FROM = ("nodeagent", "certs", "redirect", "systemd", "script")
NEXT = "0.1.9"
_EPOCH = "1700000000"


def dist(version: str = VERSION, *, broken: str = "") -> Path:
    """The directory with wheels, packages and SHA256SUMS. broken: what the agent of this version does instead of starting."""
    sources = [path.read_bytes() for package in BUILT_FROM for path in image._sources(package)]
    name = image._hash(version, broken, (ROOT / "pyproject.toml").read_bytes(), *sources)
    return image._kept(f"dist-{name}", lambda place: _build(version, broken, place))


def build(tree: Path, place: Path, *options: str) -> None:
    """Runs script/dist of a tree."""
    run("env", f"SOURCE_DATE_EPOCH={_EPOCH}", str(tree / "script/dist"), "--out", str(place), *options)


def tree_of(version: str, place: Path) -> Path:
    """A copy of this tree that says it is `version`."""
    for package in BUILT_FROM:
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place)
    (place / ".venv").symlink_to((ROOT / ".venv").resolve())
    for file, pattern in (("pyproject.toml", r'^version = ".*"'), ("nodeagent/__init__.py", r'^__version__ = ".*"')):
        text = (place / file).read_text()
        line = re.search(pattern, text, re.MULTILINE)
        assert line is not None
        (place / file).write_text(text.replace(line[0], line[0].replace(VERSION, version)))
    return place


def _build(version: str, broken: str, place: Path) -> None:
    work = place.with_name(f"{place.name}.tree")
    try:
        tree = tree_of(version, work)
        if broken:
            with (tree / "nodeagent/process/supervisor.py").open("a") as source:
                source.write(f"\n{broken}\n")
        wheels = () if version == VERSION else ("--wheels", str(dist()))
        pythons = [option for release in RELEASES for option in ("--python", PYTHON[release])]
        build(tree, place, *pythons, *wheels)
    finally:
        shutil.rmtree(work, ignore_errors=True)
