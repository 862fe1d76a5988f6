"""Versions of this program installed side by side, as in production, each of another number."""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TREE = Path(__file__).parents[3]
_PROGRAM = """\
#!{root}/versions/{version}/bin/python3
from nodeagent.cli.main import main
main()
"""


@contextmanager
def installation(*versions: str) -> Iterator[Path]:
    """A root that every uid can read, with these versions; the first is current."""
    root = Path(tempfile.mkdtemp(prefix="test-", dir="/opt/nodeagent"))
    root.chmod(0o755)
    try:
        for version in versions:
            install(root, version)
        (root / "current").symlink_to(f"versions/{versions[0]}")
        (root / "bin").mkdir()
        (root / "bin" / "nodeagent").symlink_to("../current/bin/nodeagent")
        yield root
    finally:
        shutil.rmtree(root)


def install(root: Path, version: str, *, defect: str = "", program: str = "supervisor") -> None:
    """A version; defect: a line that its supervisor, or worker, begins with."""
    place = root / "versions" / version
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    source = place / "source"
    for package in ("nodeagent", "certs", "redirect"):
        shutil.copytree(_TREE / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    head = source / "nodeagent" / "__init__.py"
    head.write_text(f'{head.read_text()}\n__version__ = "{version}"\n')
    if defect:
        code = source / "nodeagent" / "process" / f"{program}.py"
        code.write_text(f"{code.read_text()}\n{defect}\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True)  # as a package does
    packages = next((place / "lib").glob("python*/site-packages"))
    (packages / "nodeagent.pth").write_text(f"{source}\n{sysconfig.get_path('purelib')}\n")
    program = place / "bin" / "nodeagent"
    program.write_text(_PROGRAM.format(root=root, version=version))
    program.chmod(0o755)
