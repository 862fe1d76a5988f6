"""script/bootstrap on a machine of its own: a private /opt and /usr/sbin, and stand-ins for apt, dpkg, systemctl and Python."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "script" / "bootstrap"
PYTHON = Path("/usr/bin/python3").resolve()
POLICY = "#!/bin/sh\n# Made by script/bootstrap of nodeagent: no server starts while it installs packages.\nexit 101\n"
DONE = "==> done: now script/demo\n"
FOLDERS = ("opt", "sbin", "bin", "tmp", "installed", "tree/script", "tree/nodeagent", "tree/certs", "tree/redirect")
# Bind mounts in a private mount namespace; the shell becomes the script, so that a signal to it is one to the script.
ENTER = f"""
set -e
mount --bind "$1/opt" /opt
mount --bind "$1/sbin" /usr/sbin
mount --bind "$1/python" {PYTHON}
cd "$1/tree"
shift
exec script/bootstrap "$@"
"""
STAND_INS = {
    # Packages are files in installed/; what one brings is a server's unit.
    "dpkg-query": """
        for package; do :; done
        case $1 in
            -W) [ -e "$M/installed/$package" ] && printf 'ii ' ;;
            -L) [ -e "$M/installed/$package" ] && printf '/lib/systemd/system/%s.service\\n/lib/systemd/system/%s@.service\\n' $package $package ;;
        esac""",
    # The first `install -y` waits at the fifo `gate` if there is one.
    "apt-get": """
        echo "apt-get $*" >>"$M/log"
        cp /usr/sbin/policy-rc.d "$M/policy" 2>/dev/null || rm -f "$M/policy"
        seen=
        for word; do
            case $word in
                --simulate) seen=simulate ;; -y) seen=install ;; -* | *=* | install | update) ;;
                *) case $seen in
                    simulate) [ -e "$M/installed/$word" ] || echo "Inst $word (1.0 Debian:12 [amd64])" ;;
                    install) [ -e "$M/broken" ] || touch "$M/installed/$word" ;;
                esac ;;
            esac
        done
        [ "$seen" = simulate ] && echo 'Inst already [1.0] (1.1 Debian:12 [amd64])'
        if [ "$seen" = install ] && [ -e "$M/gate" ]; then echo waiting >>"$M/log"; read -r _ <"$M/gate"; fi
        [ "$seen" != install ] || [ ! -e "$M/broken" ] || { echo the disk is full; exit 100; }""",
    "npm": '[ ! -e "$M/npm-is-broken" ] || exit 1; echo "npm $*" >>"$M/log"',
    "dpkg": 'echo "dpkg $*" >>"$M/log"',
    "systemctl": 'echo "systemctl $*" >>"$M/log"',
}
FAKE_PYTHON = """#!/bin/sh
case $* in
    *version_info*) cat "$M/version" ;;
    *'-m venv'*)
        mkdir -p "$3/bin"
        printf '#!/bin/sh\\n[ "$1" = -c ] || echo "pip $*" >>"$M/log"\\n' >"$3/bin/pip"
        cp "$3/bin/pip" "$3/bin/python$(cat "$M/version")"
        chmod 755 "$3/bin/"* ;;
esac
"""


class Machine:
    """A tree with the script, and what the script would change. Owned by one test."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.tree, self.opt = directory, directory / "tree", directory / "opt" / "nodeagent"
        self.policy, self.pending = directory / "sbin" / "policy-rc.d", self.opt / ".installing"
        for name in FOLDERS:
            (directory / name).mkdir(parents=True)
        for name in ("pyproject.toml", "README.md", "nodeagent/code.py"):
            (self.tree / name).write_text("")
        shutil.copy(SCRIPT, self.tree / "script/bootstrap")
        for name, text in STAND_INS.items():
            (directory / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (directory / "bin" / name).chmod(0o755)
        (directory / "python").write_text(FAKE_PYTHON)
        (directory / "python").chmod(0o755)
        (directory / "version").write_text("3.11\n")
        directory.chmod(0o755)

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """The script, begun in a process group of its own, as from a terminal; its umask is a careful operator's.

        Whoever runs the tests may ignore signals, as nohup does: a shell would have to ignore them, too.
        """
        here = str(self.directory)
        env = {**os.environ, "M": here, "TMPDIR": f"{here}/tmp", "PATH": f"{here}/bin:/usr/bin:/bin"}
        return subprocess.Popen(
            ["env", "--default-signal", "unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", here, *options],
            text=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, umask=0o077,
        )  # fmt: skip

    def run(self, *options: str) -> tuple[int, str]:
        """Exit status of the script, and all that it said."""
        with self.start(*options) as process:
            told, _ = process.communicate(timeout=60)
        return process.returncode, told

    def interrupt(self, number: signal.Signals) -> int:
        """The status with which the script ends when the signal meets it during the installation."""
        os.mkfifo(self.directory / "gate")
        with self.start() as process:
            wait_until(lambda: "waiting" in self.log(), "the installation is under way")
            os.killpg(process.pid, number)
            process.communicate(timeout=60)
        (self.directory / "gate").unlink()
        return process.returncode

    def log(self) -> list[str]:
        """What the stand-ins were asked since the last `forget`."""
        path = self.directory / "log"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        """Empties the log."""
        (self.directory / "log").unlink(missing_ok=True)

    def asked(self, program: str) -> list[str]:
        """The last words of each call of the program."""
        return [line.split()[-1] for line in self.log() if line.split()[0] == program]

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file that the script could change, with what changes when it does."""
        found = (path for name in ("opt", "sbin", "tmp", "tree") for path in (self.directory / name).rglob("*"))
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in found}


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine without any of the packages, whose tree everybody can read."""
    with tempfile.TemporaryDirectory(prefix="nodeagent-bootstrap.") as directory:
        yield Machine(Path(directory))


def test_a_second_run_changes_nothing_and_asks_nobody(machine: Machine) -> None:
    """No package manager, no pip, no file touched: it works offline. Who asked for the tests' tools once keeps them."""
    status, told = machine.run("--dev")
    assert status == 0, told
    assert machine.asked("pip") == [f"{machine.tree}[dev,iptables,ansible]"]
    assert (machine.tree / ".venv").readlink().is_relative_to("/opt/nodeagent")
    before = machine.files()
    machine.forget()
    assert machine.run("--dev") == (0, DONE)
    assert machine.run() == (0, DONE)
    assert machine.log() == []
    assert machine.files() == before


def test_a_client_that_npm_cannot_get_stops_nothing(machine: Machine) -> None:
    """The test that runs it will fail; all others can be run. Whoever wants no tests asks npm for nothing."""
    (machine.directory / "npm-is-broken").touch()
    status, told = machine.run("--dev")
    assert status == 0
    assert "npm's consul@2.0.1 could not be installed: the test that runs it will fail" in told
    assert told.endswith(DONE)


def test_only_who_tests_asks_npm(machine: Machine) -> None:
    """Once, like pip."""
    assert machine.run()[0] == 0
    assert machine.asked("npm") == []
    assert machine.run("--dev")[0] == 0
    assert machine.asked("npm") == ["consul@2.0.1"]


def test_servers_that_came_with_it_are_off_and_others_are_not_touched(machine: Machine) -> None:
    """Neither now nor after a reboot; a server that was there before, or was upgraded, is its operator's."""
    (machine.directory / "installed" / "redis-server").touch()
    assert machine.run("--dev")[0] == 0
    assert (machine.directory / "policy").read_text() == POLICY
    assert not machine.policy.exists()
    assert {"nginx-light.service", "postgresql.service"} < set(machine.asked("systemctl"))
    assert not {"redis-server.service", "already.service", "nginx-light@.service"} & set(machine.asked("systemctl"))


def test_an_operators_own_policy_stays(machine: Machine) -> None:
    """Container images have one."""
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    assert machine.run()[0] == 0
    assert machine.policy.read_text() == "#!/bin/sh\nexit 101\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_policy_and_the_next_run_finishes(machine: Machine, number: signal.Signals) -> None:
    """A machine on which no package can start its server any more would be broken for good."""
    assert machine.interrupt(number) == 128 + number
    assert (machine.directory / "policy").read_text() == POLICY
    assert not machine.policy.exists()
    assert machine.asked("systemctl") == []
    assert machine.run()[0] == 0
    assert "nginx-light.service" in machine.asked("systemctl")
    assert not machine.pending.exists()
    assert list((machine.directory / "tmp").iterdir()) == []


def test_what_a_kill_left_is_put_right_by_the_next_run(machine: Machine) -> None:
    """Or a power cut: then there was no last word. dpkg, too, is asked to finish what it was doing."""
    assert machine.interrupt(signal.SIGKILL) == -signal.SIGKILL
    assert machine.policy.read_text() == POLICY
    (machine.directory / "installed" / "curl").unlink()
    assert machine.run()[0] == 0
    assert not machine.policy.exists()
    assert "dpkg --configure -a" in machine.log()
    assert "nginx-light.service" in machine.asked("systemctl")


def test_an_installation_that_fails_says_why(machine: Machine) -> None:
    """In apt's own words; nothing is built on it."""
    (machine.directory / "broken").touch()
    status, told = machine.run()
    assert status == 1
    assert "the disk is full\nscript/bootstrap: apt-get install python3 " in told
    assert not machine.policy.exists()
    assert machine.asked("pip") == []
    assert list((machine.directory / "tmp").iterdir()) == []


def test_others_can_read_what_was_made(machine: Machine) -> None:
    """Also where the operator's umask is 077."""
    assert machine.run()[0] == 0
    assert [path for path, (_, mode) in machine.files().items() if "/opt/" in path and not mode & 0o004] == []


def test_a_tree_that_others_cannot_read_is_copied_and_the_copy_follows_edits(machine: Machine) -> None:
    """A clone below /root: built once; after an edit a copy is enough, and without one nothing is done."""
    machine.directory.chmod(0o700)
    assert machine.run()[0] == 0
    (link,) = machine.opt.glob("tree-*/tree")
    assert machine.asked("pip") == [f"/opt/nodeagent/{link.parent.name}/tree"]
    machine.forget()
    before = machine.files()
    assert machine.run() == (0, DONE)
    assert machine.files() == before
    (machine.tree / "nodeagent" / "code.py").write_text("edited")
    status, told = machine.run()
    assert (status, told.count("copying this tree")) == (0, 1)
    assert (link / "nodeagent" / "code.py").read_text() == "edited"
    assert machine.log() == []


def test_a_new_python_gets_a_new_environment(machine: Machine) -> None:
    """After an upgrade of Debian the old one's packages are not found any more."""
    assert machine.run()[0] == 0
    (machine.directory / "version").write_text("3.13\n")
    assert machine.run()[0] == 0
    assert [path.name for path in machine.opt.glob("tree-*/bin/python*")] == ["python3.13"]
    assert len(machine.asked("pip")) == 2


def test_a_developers_own_environment_is_not_replaced(machine: Machine) -> None:
    """It is refused before anything is done."""
    (machine.tree / ".venv" / "bin").mkdir(parents=True)
    status, told = machine.run()
    assert status == 1
    assert f"{machine.tree}/.venv is not a link that this script made: move it away" in told
    assert (machine.tree / ".venv" / "bin").is_dir()
    assert machine.log() == []


def test_an_unknown_option_is_refused(machine: Machine) -> None:
    """With the right ones."""
    status, told = machine.run("--develop")
    assert (status, machine.log()) == (2, [])
    assert "Usage: script/bootstrap [--dev] " in told
