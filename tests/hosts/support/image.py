"""File trees that hosts are laid over: Debian as mmdebstrap makes it, and nodeagent installed on it; kept between runs.

A tree is made beside its place and renamed when it is whole: what a killed run left half made is never used.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.hosts.support import page

Release = Literal["bookworm", "trixie"]
RELEASES: tuple[Release, ...] = ("bookworm", "trixie")
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}

ROOT = Path(__file__).parents[3]
CACHE = Path("/var/cache/nodeagent-tests")
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "libnss-systemd", "libpam-systemd", "udev", "kmod", "procps", "iproute2", "iputils-ping", "nftables",
    "libnftables1", "libseccomp2", "iptables", "ca-certificates", "openssl", "python3", "python3-venv", "python3-apt", "openssh-server",
    "sudo", "curl", "nginx", "firewalld", "ufw",
)  # fmt: skip
# What no image has: a machine's own name and keys, and servers that nobody asked for.
_SWITCHED_OFF = "nginx.service firewalld.service ufw.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer"
_CUSTOMIZE = (
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf "$1"/etc/machine-id',
    'mkdir -p "$1"/var/log/journal',
    f'for unit in {_SWITCHED_OFF}; do rm -f "$1"/etc/systemd/system/*.wants/$unit; done',
)
_OLD_S = 14 * 24 * 3600
VERSION = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)  # type: ignore[union-attr]
HOME = Path("opt/nodeagent")


def base(release: Release) -> Path:
    """Debian, with systemd, sshd, nginx and what nodeagent needs of it, and nothing of nodeagent. About 30 s the first time."""
    text = " ".join((release, *PACKAGES, *_CUSTOMIZE))
    return _kept(f"{release}-{_hash(text)}", lambda place: _bootstrap(release, place))


def product(release: Release) -> tuple[Path, ...]:
    """The trees, uppermost first, of a host with this nodeagent in /opt/nodeagent/versions and its links."""
    below = base(release)
    needs = _kept(f"{release}-needs-{_hash(below.name, VERSION, *_needs())}", lambda place: _install_needs(release, below, place))
    files = [ROOT / "pyproject.toml", *(path for package in ("nodeagent", "certs", "redirect", "systemd") for path in _sources(package))]
    contents = (path.read_bytes() for path in files)
    name = f"{release}-product-{_hash(needs.name, page.block('files'), *contents)}"
    ours = _kept(name, lambda place: _install_product((needs, below), place))
    return ours, needs, below


def _bootstrap(release: Release, place: Path) -> None:
    hooks = [f"--customize-hook={line}" for line in _CUSTOMIZE]
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Check-Valid-Until "false"', *hooks, release, str(place), _mirror(),
    )  # fmt: skip


def _mirror() -> str:
    """The mirror of this machine's own apt configuration."""
    for line in run("apt-get", "indextargets", "--format", "$(CREATED_BY) $(CODENAME) $(SITE)").splitlines():
        kind, suite, site = line.split(" ")
        if kind == "Packages" and suite in RELEASES:
            return site
    raise AssertionError("apt's configuration names no mirror of Debian: apt-get update, or look at /etc/apt")


def _install_needs(release: Release, below: Path, place: Path) -> None:
    """The environment with what nodeagent depends on, from wheels that this machine's pip finds for that Python."""
    wheels = place.with_name(f"{place.name}.wheels")
    try:
        version = PYTHON[release]
        platforms = [f"--platform=manylinux{name}_x86_64" for name in ("_2_34", "_2_28", "_2_17", "2014", "_2_31")]
        run(
            sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--python-version={version}",
            "--implementation=cp", f"--abi=cp{version.replace('.', '')}", "--abi=abi3", "--abi=none", *platforms, f"--dest={wheels}", *_needs(),
        )  # fmt: skip
        with _inside((below,), place) as root:
            shutil.copytree(wheels, root / "tmp" / "wheels")
            inside = f"/{HOME}/versions/{VERSION}"
            run("chroot", str(root), "python3", "-m", "venv", inside)
            run(
                "chroot", str(root), f"{inside}/bin/pip", "install", "--quiet", "--no-index", "--find-links=/tmp/wheels", *_needs(),
            )  # fmt: skip
            shutil.rmtree(root / "tmp" / "wheels")
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


def _needs() -> list[str]:
    listed = re.search(r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    return re.findall(r'"([^"]+)"', listed.group(1))


def _install_product(below: tuple[Path, ...], place: Path) -> None:
    """As the page for those who install by hand says; what it depends on is there already."""
    wheels = place.with_name(f"{place.name}.wheels")
    try:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(ROOT))
        with _inside(below, place) as root:
            shutil.copytree(wheels, root / "root" / "wheelhouse")
            shutil.copytree(ROOT / "systemd", root / "root" / "systemd")
            run("chroot", str(root), "sh", "-euc", f"cd /root; {page.block('files', {'0.1.0': VERSION})}")
            shutil.rmtree(root / "root" / "wheelhouse")
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


@contextmanager
def _inside(below: tuple[Path, ...], place: Path) -> Iterator[Path]:
    """A directory where the trees `below` are seen and `place` takes what is written; unmounted when it ends."""
    work, root = (place.with_name(f"{place.name}.{name}") for name in ("work", "root"))
    for directory in (place, work, root):
        directory.mkdir()
    layers = ":".join(map(str, below))
    try:
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={layers},upperdir={place},workdir={work}", str(root))
        yield root
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=False, capture_output=True)
        root.rmdir()
        shutil.rmtree(work)


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The tree `name`, made if it is not there; other runs wait, and what a killed one left goes."""
    place = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _clear()
            half = CACHE / f"half-{name}"
            make(half)
            half.rename(place)
        (CACHE / f"{name}.used").touch()
    return place


def _clear() -> None:
    """Removes half made trees, and those that nobody has used for two weeks."""
    for half in CACHE.glob("half-*"):
        subprocess.run(["umount", "--lazy", str(half)], check=False, capture_output=True)
        shutil.rmtree(half)
    newest = max((used.stat().st_mtime for used in CACHE.glob("*.used")), default=0.0)
    for used in CACHE.glob("*.used"):
        if used.stat().st_mtime < newest - _OLD_S:
            shutil.rmtree(used.with_suffix(""), ignore_errors=True)
            used.unlink()


def _sources(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def run(*argv: str, stdin: str | None = None) -> str:
    """What the program wrote to stdout; when it fails, the test does, with its words."""
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
