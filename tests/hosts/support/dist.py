"""What script/dist builds, kept between runs; other versions are this tree with another number."""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tests.hosts.support import image
from tests.hosts.support.image import PYTHON, RELEASES, ROOT, VERSION, Release, run

BUILT_FROM = ("nodeagent", "certs", "redirect", "systemd", "script")
_BUILDS = ("dist", "man", "manual.py")  # of script/; its other files change nothing
NEXT = "0.1.9"
_EPOCH = "1700000000"


def dist(version: str = VERSION, releases: tuple[Release, ...] = RELEASES, *, broken: str = "") -> Path:
    """The directory with wheels, packages and SHA256SUMS. broken: what its workers' module ends with."""
    files = [path for package in BUILT_FROM for path in image._sources(package)]
    sources = [path.read_bytes() for path in files if path.parent.name != "script" or path.name in _BUILDS]
    name = image._hash(version, broken, *releases, (ROOT / "pyproject.toml").read_bytes(), *sources)
    place = image.CACHE / f"dist-{name}"
    image.CACHE.mkdir(parents=True, exist_ok=True)
    if not place.exists():  # a minute: built beside its place without a lock, which would keep hosts of other runs waiting
        wheels = () if version == VERSION else ("--wheels", str(dist()))
        new = Path(mkdtemp(prefix="dist-new-", dir=image.CACHE))
        try:
            _build(version, releases, broken, new, wheels)
            new.rename(place)
        except OSError:
            if not place.exists():  # made by another run meanwhile
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    place.with_name(f"{place.name}.used").touch()
    return place


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


def _build(version: str, releases: tuple[Release, ...], broken: str, place: Path, wheels: tuple[str, ...]) -> None:
    with TemporaryDirectory() as work:
        tree = tree_of(version, Path(work) / "tree")
        if broken:
            with (tree / "nodeagent/process/worker.py").open("a") as source:
                source.write(f"\n{broken}\n")
        build(tree, place, *(option for release in releases for option in ("--python", PYTHON[release])), *wheels)
