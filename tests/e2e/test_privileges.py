"""What hostile code could do inside a worker, or inside control: each attempt by itself, and that it works for others."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.e2e.support.solo import CONTROL_UID, Solo

NEEDED = ("tcp", "read_file", "memfd", "late_import")
"""What a worker must be able to do."""
BY_FILE_RIGHTS = {"read_token", "read_state", "read_memory", "read_environ", "read_memory_of_worker", "low_port"}
"""Reading is allowed to a worker by its filter (modules are imported late); whose file it is decides."""
BUT_FOR_ARGUMENTS = {"io_uring": "EFAULT", "bpf": "EINVAL", "process_vm_readv": "EFAULT"}
"""What these calls say to whoever may make them."""
DENIED_TO_A_WORKER = (
    "execve", "fork", "thread", "ptrace", "process_vm_readv", "read_memory", "read_environ", "read_memory_of_worker",
    "read_token", "read_state", "write_state", "change_rule", "change_sysctl", "mount", "unshare", "setuid", "chroot", "kill",
    "kill_worker", "signal_by_descriptor", "pidfd_open", "prctl", "io_uring", "bpf", "packet_socket", "raw_socket", "udp_socket", "unix_socket",
    "netlink_socket", "write_file", "append_file", "mkdir", "unlink", "set_mark", "low_port", "set_limit",
)  # fmt: skip
DENIED_TO_CONTROL = (
    "ptrace", "process_vm_readv", "read_memory", "read_environ", "read_memory_of_worker", "change_rule", "change_sysctl", "mount",
    "setuid", "chroot", "kill", "kill_worker", "packet_socket", "raw_socket", "unlink", "set_mark", "low_port",
)  # fmt: skip


class Outcomes(NamedTuple):
    """Attempt -> what came of it."""

    worker: dict[str, str]
    control: dict[str, str]
    free: dict[str, str]
    """Without any confinement."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """On a host with a running agent, whose worker is a target, and a process of root's with a secret."""
    directory = tmp_path_factory.mktemp("host")
    with Solo(directory) as host:
        host.start_ready()
        for path in (host.state_dir / "secret", directory / "run" / "node.token"):
            path.write_text("secret")
            path.chmod(0o400)
            os.chown(path, CONTROL_UID, CONTROL_UID)
        (directory / "run" / "victim").write_text("root's")
        with subprocess.Popen(["sleep", "infinity"], env={"SECRET": "x"}) as victim:
            targets = {"token": "/run/nodeagent/node.token", "state": "/var/lib/nodeagent", "victim": victim.pid, "worker": host.worker(0)}
            found = [_try(host, who, targets) for who in ("worker", "control", "free")]
            victim.kill()
        yield Outcomes(*found)


def _try(host: Solo, who: str, targets: dict[str, object]) -> dict[str, str]:
    outcome: dict[str, str] = host.run_python("tests.e2e.support.hostile", who, json.dumps(targets))
    return outcome


@pytest.mark.parametrize("attempt", DENIED_TO_A_WORKER)
def test_a_worker_that_is_taken_over_cannot(outcomes: Outcomes, attempt: str) -> None:
    """And without its confinement it could."""
    refusal = {"thread": ("can't start new thread",)}.get(attempt, ("EPERM", "EACCES") if attempt in BY_FILE_RIGHTS else ("EPERM",))
    assert outcomes.worker[attempt] in refusal
    assert outcomes.free[attempt] == BUT_FOR_ARGUMENTS.get(attempt, "worked")


@pytest.mark.parametrize("attempt", DENIED_TO_CONTROL)
def test_control_that_is_taken_over_cannot(outcomes: Outcomes, attempt: str) -> None:
    """It has no capability, and can neither change a rule nor look into a worker."""
    assert outcomes.control[attempt] in ("EPERM", "EACCES")
    assert outcomes.free[attempt] == BUT_FOR_ARGUMENTS.get(attempt, "worked")


def test_what_a_worker_needs_works(outcomes: Outcomes) -> None:
    """And nothing was tried that no test looks at."""
    assert {name: outcomes.worker[name] for name in NEEDED} == dict.fromkeys(NEEDED, "worked")
    assert outcomes.worker.keys() == {*DENIED_TO_A_WORKER, *NEEDED}


def test_control_reads_its_own_secrets(outcomes: Outcomes) -> None:
    """So that their refusal to workers is not one to everybody."""
    assert {outcomes.control[name] for name in ("read_token", "read_state", "write_state")} == {"worked"}
